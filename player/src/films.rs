//! The films that come with the program, so that a demo needs nothing else. `content/make.sh` makes them.

use bytes::Bytes;
use vod::{Film, FilmError};

/// A film as a file.
#[derive(Clone, Copy, Debug)]
pub struct FilmFile {
    /// The content unit that it becomes.
    pub unit: &'static str,
    /// The file.
    pub bytes: &'static [u8],
}

impl FilmFile {
    /// The film in it.
    ///
    /// # Errors
    /// None, unless the binary was built with another file in its place.
    pub fn parse(&self) -> Result<Film, FilmError> {
        Film::parse(Bytes::from_static(self.bytes))
    }
}

/// All of them. Not a constant, of which every use would have the bytes once more.
pub static ALL: [FilmFile; 3] = [
    FilmFile { unit: "mandelbrot", bytes: include_bytes!("../../content/mandelbrot.mp4") },
    FilmFile { unit: "life", bytes: include_bytes!("../../content/life.mp4") },
    FilmFile { unit: "gradients", bytes: include_bytes!("../../content/gradients.mp4") },
];
