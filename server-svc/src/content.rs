//! Content units as files: the kinds of them, and how each is read.

use std::path::Path;

use bytes::Bytes;
use courseware::{Course, CourseError};
use kv::{Store, StoreError};
use search::{Collection, CollectionError};
use thiserror::Error;
use tokens::{Text, TextError};
use vod::{Film, FilmError};

/// A title is at most so long. A server tells the titles of all its units in one message.
pub(crate) const TITLE_BYTES_MAX: usize = 256;

/// What a file is, by the end of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A fragmented MP4 file.
    Film,
    /// A course, in TOML.
    Course,
    /// A collection of documents, in Markdown.
    Collection,
    /// A text to go on from.
    Text,
    /// A key-value store, in TOML.
    Store,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 5] = [Kind::Film, Kind::Course, Kind::Collection, Kind::Text, Kind::Store];

    /// How names of such files end.
    pub fn suffix(self) -> &'static str {
        match self {
            Kind::Film => ".mp4",
            Kind::Course => ".course.toml",
            Kind::Collection => ".collection.md",
            Kind::Text => ".tokens.txt",
            Kind::Store => ".kv.toml",
        }
    }

    /// The kind of a file of this name.
    pub fn of(path: &Path) -> Option<Kind> {
        let name = path.file_name()?.to_string_lossy();
        Kind::ALL.into_iter().find(|kind| name.ends_with(kind.suffix()))
    }
}

/// The content of a unit, ready to be served.
#[derive(Debug)]
pub enum Content {
    /// A film.
    Film(Film),
    /// A course.
    Course(Course),
    /// A collection of documents.
    Collection(Box<Collection>),
    /// A text to go on from.
    Text(Text),
    /// A key-value store: its title, and what is in it when it is founded.
    Store(String, Store),
}

/// Why a file cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum ContentError {
    #[error(transparent)]
    Film(#[from] FilmError),
    #[error(transparent)]
    Course(#[from] CourseError),
    #[error(transparent)]
    Collection(#[from] CollectionError),
    #[error(transparent)]
    Text(#[from] TextError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("this is not text in UTF-8: {0}")]
    NotText(#[from] std::str::Utf8Error),
    #[error("the title has {0} bytes, and may have {TITLE_BYTES_MAX}")]
    Title(usize),
}

impl Content {
    /// Reads a whole file.
    ///
    /// # Errors
    /// A [`ContentError`] says what keeps it from being served.
    pub fn parse(kind: Kind, bytes: Bytes) -> Result<Content, ContentError> {
        let content = match kind {
            Kind::Film => Content::Film(Film::parse(bytes)?),
            Kind::Course => Content::Course(Course::parse(str::from_utf8(&bytes)?)?),
            Kind::Collection => Content::Collection(Box::new(Collection::parse(str::from_utf8(&bytes)?)?)),
            Kind::Text => Content::Text(Text::parse(str::from_utf8(&bytes)?)?),
            Kind::Store => {
                let (title, store) = Store::parse(str::from_utf8(&bytes)?)?;
                Content::Store(title, store)
            }
        };
        let title = content.title().map_or(0, str::len);
        if title > TITLE_BYTES_MAX { Err(ContentError::Title(title)) } else { Ok(content) }
    }

    fn title(&self) -> Option<&str> {
        match self {
            Content::Film(film) => film.title(),
            Content::Course(course) => Some(&course.title),
            Content::Collection(collection) => Some(&collection.title),
            Content::Text(text) => Some(&text.title),
            Content::Store(title, _) => Some(title),
        }
    }
}
