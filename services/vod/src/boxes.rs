//! Walks over the boxes of an MP4 file without decoding what nobody asks for, so that a codec or an extension that the
//! library does not know is no obstacle.

use mp4_atom::{Atom, DecodeMaybe, FourCC, Header};

use crate::film::FilmError;

/// A box, where it lies in the file, and what is inside.
#[derive(Clone, Copy)]
pub(crate) struct BoxAt<'a> {
    pub(crate) kind: FourCC,
    /// The first byte of its header, counted from the start of the file.
    pub(crate) start: usize,
    /// One past its last byte.
    pub(crate) end: usize,
    pub(crate) body: &'a [u8],
}

impl<'a> BoxAt<'a> {
    /// The boxes inside this one.
    pub(crate) fn children(&self) -> Boxes<'a> {
        Boxes { data: self.body, base: self.end - self.body.len(), at: 0 }
    }

    /// The first box of this kind inside this one.
    pub(crate) fn child(&self, kind: FourCC) -> Result<Option<BoxAt<'a>>, FilmError> {
        self.children().find(|it| it.as_ref().map_or(true, |it| it.kind == kind)).transpose()
    }

    /// The first box of type `A` inside this one, decoded.
    pub(crate) fn find<A: Atom>(&self) -> Result<Option<A>, FilmError> {
        self.child(A::KIND)?.map(|it| it.decode()).transpose()
    }

    /// As [`BoxAt::find`], for a box that has to be there.
    pub(crate) fn need<A: Atom>(&self) -> Result<A, FilmError> {
        self.find()?.ok_or_else(|| self.malformed(mp4_atom::Error::MissingBox(A::KIND)))
    }

    /// This box as an `A`.
    pub(crate) fn decode<A: Atom>(&self) -> Result<A, FilmError> {
        A::decode_body(&mut { self.body }).map_err(|reason| self.malformed(reason))
    }

    pub(crate) fn malformed(&self, reason: mp4_atom::Error) -> FilmError {
        FilmError::Malformed { kind: self.kind.to_string(), offset: self.start, reason: reason.to_string() }
    }
}

/// The boxes of a stretch of bytes, in order. Fewer bytes than a header takes are padding, and end it.
pub(crate) struct Boxes<'a> {
    data: &'a [u8],
    /// Where `data` starts in the file.
    base: usize,
    at: usize,
}

impl<'a> Boxes<'a> {
    /// The boxes of a whole file.
    pub(crate) fn of(data: &'a [u8]) -> Boxes<'a> {
        Boxes { data, base: 0, at: 0 }
    }

    fn read(&mut self) -> Result<Option<BoxAt<'a>>, FilmError> {
        let start = self.base + self.at;
        let rest = self.data.get(self.at..).unwrap_or_default();
        let mut body = rest;
        let header = match Header::decode_maybe(&mut body) {
            Ok(Some(header)) => header,
            Ok(None) => return Ok(None),
            Err(reason) => {
                let reason = reason.to_string();
                return Err(FilmError::Malformed { kind: "header".into(), offset: start, reason });
            }
        };
        let size = header.size.unwrap_or(body.len());
        let Some(inside) = body.get(..size) else {
            let missing = size - body.len();
            return Err(FilmError::Truncated { kind: header.kind.to_string(), offset: start, missing });
        };
        let end = start + (rest.len() - body.len()) + size;
        self.at = end - self.base;
        Ok(Some(BoxAt { kind: header.kind, start, end, body: inside }))
    }
}

impl<'a> Iterator for Boxes<'a> {
    type Item = Result<BoxAt<'a>, FilmError>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.read().transpose();
        if matches!(found, Some(Err(_))) {
            self.at = self.data.len();
        }
        found
    }
}
