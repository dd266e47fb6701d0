//! A film: a fragmented MP4 file in memory, and where its fragments lie and when they are shown.
//!
//! Invariant: the opening of the first fragment, and every fragment after it, are the file byte for byte when put
//! together. All of them are slices of one buffer; nothing is copied.

use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use model::Level;
use mp4_atom::FourCC;
use session_core::response_bytes_max;
use thiserror::Error;

use crate::boxes::{BoxAt, Boxes};
use crate::timeline::{MOOF, MOOV, Timeline, Timing, title};

/// The largest response that a film may need: the init segment and a fragment. An operator may have responses of any unit
/// committed, so it is what fits then.
pub const FRAGMENT_BYTES_MAX: usize = response_bytes_max(Some(Level::Safe));

/// The longest fragment. Positions, pacing and what a takeover has to make good are all counted in fragments, so half
/// a second is a good length.
pub const FRAGMENT_DURATION_MAX: Duration = Duration::from_secs(10);

/// What the header of a box begins with whose size, of 64 bits, follows it.
const LARGE: [u8; 4] = 1_u32.to_be_bytes();

/// What to do about a file that cannot be used.
const ADVICE: &str = "make it with `ffmpeg -i IN -force_key_frames 'expr:gte(t,n_forced*0.5)' \
    -movflags +frag_keyframe+empty_moov+default_base_moof OUT.mp4`";

/// Why a file is not a film.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum FilmError {
    #[error("the file is empty")]
    Empty,
    #[error("this is not an MP4 file, which would begin with an `ftyp` box; {}", ADVICE)]
    NotMp4,
    #[error("`{kind}` at byte {offset} is cut off, {missing} bytes are missing; copy the file again")]
    Truncated { kind: String, offset: usize, missing: usize },
    #[error("`{kind}` at byte {offset} cannot be read: {reason}; is the file damaged?")]
    Malformed { kind: String, offset: usize, reason: String },
    #[error("the file is not fragmented; {}", ADVICE)]
    NotFragmented,
    #[error("the file has no video track; a film needs one, sound is optional")]
    NoVideoTrack,
    #[error("fragment {fragment} starts before the one that it follows; remux the file with ffmpeg")]
    OutOfOrder { fragment: usize },
    #[error("fragment {fragment} lasts {duration:?}, more than {max:?}; {}", ADVICE)]
    FragmentTooLong { fragment: usize, duration: Duration, max: Duration },
    #[error(
        "fragment {fragment} takes {bytes} bytes with the init segment, more than {max}; shorter fragments or a \
         lower bit rate help: {}",
        ADVICE
    )]
    FragmentTooLarge { fragment: usize, bytes: usize, max: usize },
}

/// A film, ready to be sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Film {
    file: Bytes,
    title: Option<String>,
    init: Range<usize>,
    fragments: Vec<Fragment>,
}

/// A fragment: the pictures of a short while, and what belongs to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    range: Range<usize>,
    key: bool,
    /// When it is shown, counted from the start of the film.
    pub start: Duration,
    /// How long it is shown.
    pub duration: Duration,
}

impl Fragment {
    /// When the next one is due to be shown.
    pub fn end(&self) -> Duration {
        self.start.saturating_add(self.duration)
    }
}

impl Film {
    /// Reads a whole file.
    ///
    /// # Errors
    /// A [`FilmError`] says what keeps the file from being sent, and what to do about it.
    pub fn parse(file: Bytes) -> Result<Film, FilmError> {
        if file.is_empty() {
            return Err(FilmError::Empty);
        }
        let mut boxes = Boxes::of(&file);
        if !matches!(boxes.next(), Some(Ok(first)) if first.kind == FourCC::new(b"ftyp")) {
            return Err(FilmError::NotMp4);
        }
        let moov = loop {
            match boxes.next().transpose()? {
                Some(it) if it.kind == MOOV => break it,
                Some(_) => {}
                None => return Err(FilmError::NotFragmented),
            }
        };
        let mut cutter = Cutter::new(Timeline::read(&moov)?, moov.end);
        let mut end = moov.end;
        for it in boxes {
            let it = it?;
            end = it.end;
            cutter.add(&it)?;
        }
        let rest = file.slice(end..);
        if !rest.is_empty() {
            let needed = if rest.starts_with(&LARGE) { 16 } else { 8 };
            let missing = needed - rest.len();
            return Err(FilmError::Truncated { kind: "header".into(), offset: end, missing });
        }
        let fragments = cutter.finish(end)?;
        let film = Film { title: title(&moov), init: 0..moov.end, fragments, file: file.clone() };
        film.check_limits()?;
        Ok(film)
    }

    fn check_limits(&self) -> Result<(), FilmError> {
        for (fragment, it) in self.fragments.iter().enumerate() {
            let (bytes, max) = (self.init.len() + it.range.len(), FRAGMENT_BYTES_MAX);
            if bytes > max {
                return Err(FilmError::FragmentTooLarge { fragment, bytes, max });
            }
            let (duration, max) = (it.duration, FRAGMENT_DURATION_MAX);
            if duration > max {
                return Err(FilmError::FragmentTooLong { fragment, duration, max });
            }
        }
        Ok(())
    }

    /// The title that its maker gave it.
    pub fn title(&self) -> Option<&str> {
        self.title.as_deref()
    }

    /// How long it plays at rate 1.
    pub fn duration(&self) -> Duration {
        self.fragments.last().map_or(Duration::ZERO, Fragment::end)
    }

    /// Its size, in bytes.
    pub fn size(&self) -> u64 {
        self.file.len() as u64
    }

    /// The fragments, in order. Never empty.
    pub fn fragments(&self) -> &[Fragment] {
        &self.fragments
    }

    /// The fragment with this index.
    pub fn fragment(&self, index: u32) -> Option<&Fragment> {
        self.fragments.get(usize::try_from(index).ok()?)
    }

    /// The bytes of a fragment, for a player that has had an opening before.
    pub fn payload(&self, fragment: &Fragment) -> Bytes {
        self.file.slice(fragment.range.clone())
    }

    /// The bytes of a fragment behind the init segment: what a player can start with.
    pub fn opening(&self, fragment: &Fragment) -> Bytes {
        if fragment.range.start == self.init.end {
            return self.file.slice(self.init.start..fragment.range.end);
        }
        // Only a session that seeks before its first response comes here, and once.
        let mut opening = BytesMut::with_capacity(self.init.len() + fragment.range.len());
        opening.extend_from_slice(&self.file.slice(self.init.clone()));
        opening.extend_from_slice(&self.payload(fragment));
        opening.freeze()
    }

    /// Whether a player cannot go on without this response: an opening, or a fragment on whose pictures those of the next one
    /// build. All others cost their own half second.
    pub(crate) fn is_essential(&self, response: &[u8]) -> bool {
        let is_it = |fragment: &Fragment| self.file.get(fragment.range.clone()) == Some(response);
        match self.fragments.iter().position(is_it) {
            None => true,
            Some(place) => self.fragments.get(place + 1).is_some_and(|next| !next.key),
        }
    }

    /// Where to start so that `position` is shown: the fragment that contains it, or the last one before it that a
    /// decoder can start at. Nothing from the end of the film on.
    pub fn seek(&self, position: Duration) -> Option<u32> {
        if position >= self.duration() {
            return None;
        }
        let begun = self.fragments.partition_point(|it| it.start <= position);
        let start = self.fragments.get(..begun)?.iter().rposition(|it| it.key).unwrap_or(0);
        u32::try_from(start).ok()
    }
}

impl std::fmt::Debug for Film {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Film")
            .field("title", &self.title)
            .field("size", &self.file.len())
            .field("fragments", &self.fragments.len())
            .field("duration", &self.duration())
            .finish()
    }
}

/// Cuts the boxes behind the init segment into fragments: each ends with an `mdat` that holds pictures, so what comes
/// before a `moof` stays with it, and so does a `moof` that has sound alone.
struct Cutter {
    timeline: Timeline,
    fragments: Vec<Fragment>,
    /// Where the next fragment begins.
    begin: usize,
    /// The pictures announced for it by a `moof`, and where that is.
    announced: Option<(Timing, usize)>,
    /// The tick at which the first fragment starts; the film counts its time from there.
    origin: Option<u64>,
    /// The ticks at which the last fragment starts and ends.
    last: Range<u64>,
}

impl Cutter {
    fn new(timeline: Timeline, begin: usize) -> Cutter {
        Cutter { timeline, fragments: Vec::new(), begin, announced: None, origin: None, last: 0..0 }
    }

    fn add(&mut self, it: &BoxAt<'_>) -> Result<(), FilmError> {
        const MDAT: FourCC = FourCC::new(b"mdat");
        if it.kind == MOOF {
            if let Some(timing) = self.timeline.timing(it)? {
                if let Some((_, offset)) = self.announced {
                    return Err(without_pictures(offset));
                }
                self.announced = Some((timing, it.start));
            }
        } else if it.kind == MDAT
            && let Some((timing, _)) = self.announced.take()
        {
            self.cut(timing, it.end)?;
        }
        Ok(())
    }

    fn cut(&mut self, timing: Timing, end: usize) -> Result<(), FilmError> {
        let start = timing.start.unwrap_or(self.last.end);
        if start < self.last.start {
            return Err(FilmError::OutOfOrder { fragment: self.fragments.len() });
        }
        let origin = *self.origin.get_or_insert(start);
        self.fragments.push(Fragment {
            range: self.begin..end,
            key: timing.key,
            start: self.timeline.duration(start - origin),
            duration: self.timeline.duration(timing.ticks),
        });
        self.last = start..start.saturating_add(timing.ticks);
        self.begin = end;
        Ok(())
    }

    /// The fragments of a file that ends at `end`.
    fn finish(mut self, end: usize) -> Result<Vec<Fragment>, FilmError> {
        if let Some((_, offset)) = self.announced {
            return Err(without_pictures(offset));
        }
        let last = self.fragments.last_mut().ok_or(FilmError::NotFragmented)?;
        last.range.end = end;
        Ok(self.fragments)
    }
}

fn without_pictures(offset: usize) -> FilmError {
    FilmError::Malformed { kind: MOOF.to_string(), offset, reason: "no `mdat` follows it".into() }
}

#[cfg(test)]
mod tests;
