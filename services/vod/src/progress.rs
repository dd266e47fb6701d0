//! What a player needs to say where it is: the time of each fragment as it comes in.

use std::time::Duration;

use crate::boxes::Boxes;
use crate::timeline::{MOOF, MOOV, Timeline};

/// Reads the time of the fragments of one session, from the responses alone. The first response brings the init
/// segment, which says in what unit the later ones count.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    timeline: Option<Timeline>,
}

/// The pictures that a response brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentInfo {
    /// The number that the file gives the fragment.
    pub sequence: u32,
    /// When it is shown, on the clock of the file; most files start at zero.
    pub decode_time: Duration,
    /// How long it is shown.
    pub duration: Duration,
}

impl Progress {
    /// A player that has seen nothing.
    pub fn new() -> Progress {
        Progress::default()
    }

    /// What `payload`, the next response, brings. Nothing, if it is not a fragment that says its time, or if no
    /// response had an init segment so far.
    pub fn read(&mut self, payload: &[u8]) -> Option<FragmentInfo> {
        for it in Boxes::of(payload) {
            let it = it.ok()?;
            if it.kind == MOOV {
                self.timeline = Timeline::read(&it).ok();
            } else if it.kind == MOOF {
                let timeline = self.timeline?;
                let Some(timing) = timeline.timing(&it).ok()? else { continue };
                return Some(FragmentInfo {
                    sequence: timing.sequence,
                    decode_time: timeline.duration(timing.start?),
                    duration: timeline.duration(timing.ticks),
                });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::film::Film;
    use crate::forge::{SOUND, VIDEO, clip, film, fragment, ftyp, moov, sound, video};

    #[test]
    fn every_response_says_its_time() {
        let film = Film::parse(clip("mandelbrot")).unwrap();
        let mut progress = Progress::new();
        for (index, it) in film.fragments().iter().enumerate() {
            let payload = if index == 0 { film.opening(it) } else { film.payload(it) };
            let FragmentInfo { sequence, decode_time, duration } = progress.read(&payload).unwrap();
            assert_eq!((sequence as usize, decode_time, duration), (index + 1, it.start, it.duration));
        }
    }

    #[test]
    fn nothing_is_known_before_the_init_segment_or_from_other_bytes() {
        let film = Film::parse(clip("life")).unwrap();
        let fragments = film.fragments();
        let mut progress = Progress::new();
        assert_eq!(progress.read(&film.payload(&fragments[7])), None);
        assert!(progress.read(&film.opening(&fragments[60])).is_some());
        assert!(progress.read(&film.payload(&fragments[7])).is_some());
        for noise in [&b""[..], b"{}", &[0xff; 100], &film.payload(&fragments[7])[..60]] {
            assert_eq!(progress.read(noise), None);
        }
    }

    #[test]
    fn the_time_is_that_of_the_pictures() {
        let both = [fragment(1, SOUND, Some(90), &[500]), fragment(2, VIDEO, Some(250), &[500])].concat();
        let film = film(&[ftyp(), moov(&[sound(), video()]), both]);
        let info = Progress::new().read(&film.opening(&film.fragments()[0])).unwrap();
        assert_eq!((info.sequence, info.decode_time), (2, Duration::from_millis(250)));
    }
}
