//! What the init segment of a file says about time: which track the pictures are in, and the unit of its clock. With
//! it, the time of a fragment can be read from the fragment alone.

use core::num::NonZeroU32;
use std::time::Duration;

use mp4_atom::{Atom, FourCC, Hdlr, Mdhd, Mfhd, Tfdt, Tfhd, Tkhd, Trex, Trun, TrunSamples};

use crate::boxes::BoxAt;
use crate::film::FilmError;

pub(crate) const MOOV: FourCC = FourCC::new(b"moov");
pub(crate) const MOOF: FourCC = FourCC::new(b"moof");
const MVEX: FourCC = FourCC::new(b"mvex");
const TRAK: FourCC = FourCC::new(b"trak");
const MDIA: FourCC = FourCC::new(b"mdia");
const TRAF: FourCC = FourCC::new(b"traf");
const VIDEO: FourCC = FourCC::new(b"vide");

/// Set in the flags of a sample that a decoder cannot start at.
const NOT_A_START: u32 = 1 << 16;

/// A longer title is taken for a mistake: the file name says more.
const TITLE_BYTES_MAX: usize = 256;

/// The clock of the video track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeline {
    track: u32,
    ticks_per_second: NonZeroU32,
    sample_ticks: u32,
    sample_flags: u32,
}

/// The time of a fragment's pictures, in ticks of its [`Timeline`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    pub(crate) sequence: u32,
    /// When its first picture is decoded; without it, the fragment follows the one before.
    pub(crate) start: Option<u64>,
    pub(crate) ticks: u64,
    /// Whether a decoder can start here.
    pub(crate) key: bool,
}

impl Timeline {
    /// The timeline of the first video track that `moov` declares.
    pub(crate) fn read(moov: &BoxAt<'_>) -> Result<Timeline, FilmError> {
        let Some(mvex) = moov.child(MVEX)? else { return Err(FilmError::NotFragmented) };
        for child in moov.children() {
            let child = child?;
            if child.kind != TRAK {
                continue;
            }
            let Some(media) = child.child(MDIA)? else { continue };
            if media.need::<Hdlr>()?.handler != VIDEO {
                continue;
            }
            let track = child.need::<Tkhd>()?.track_id;
            let Some(ticks_per_second) = NonZeroU32::new(media.need::<Mdhd>()?.timescale) else {
                return Err(media.malformed(mp4_atom::Error::MissingContent("timescale")));
            };
            let defaults = track_defaults(&mvex, track)?;
            return Ok(Timeline {
                track,
                ticks_per_second,
                sample_ticks: defaults.default_sample_duration,
                sample_flags: defaults.default_sample_flags,
            });
        }
        Err(FilmError::NoVideoTrack)
    }

    /// When the pictures of `moof` are shown, or nothing if it has none.
    pub(crate) fn timing(&self, moof: &BoxAt<'_>) -> Result<Option<Timing>, FilmError> {
        let sequence = moof.need::<Mfhd>()?.sequence_number;
        let mut timing: Option<Timing> = None;
        for child in moof.children() {
            let child = child?;
            if child.kind != TRAF {
                continue;
            }
            let header = child.need::<Tfhd>()?;
            if header.track_id != self.track {
                continue;
            }
            let start = child.find::<Tfdt>()?.map(|it| it.base_media_decode_time);
            for run in child.children() {
                let run = run?;
                if run.kind != Trun::KIND {
                    continue;
                }
                let samples = run.decode::<Trun>()?.samples;
                if samples.is_empty() {
                    continue;
                }
                let ticks = self.ticks(&header, &samples);
                match &mut timing {
                    Some(timing) => timing.ticks = timing.ticks.saturating_add(ticks),
                    None => {
                        let key = self.first_flags(&header, &samples) & NOT_A_START == 0;
                        timing = Some(Timing { sequence, start, ticks, key });
                    }
                }
            }
        }
        Ok(timing)
    }

    /// `ticks` as a duration, exact to the nanosecond below it.
    pub(crate) fn duration(&self, ticks: u64) -> Duration {
        let per_second = u64::from(self.ticks_per_second.get());
        let nanos = (ticks % per_second) * 1_000_000_000 / per_second;
        Duration::from_secs(ticks / per_second) + Duration::from_nanos(nanos)
    }

    fn ticks(&self, header: &Tfhd, samples: &TrunSamples) -> u64 {
        let default = u64::from(header.default_sample_duration.unwrap_or(self.sample_ticks));
        match samples {
            TrunSamples::Inherited { count, .. } => default * u64::from(*count),
            TrunSamples::Explicit(entries) => {
                entries.iter().map(|it| it.duration.map_or(default, u64::from)).fold(0, u64::saturating_add)
            }
        }
    }

    fn first_flags(&self, header: &Tfhd, samples: &TrunSamples) -> u32 {
        let own = samples.get(0).and_then(|it| it.flags);
        own.or(header.default_sample_flags).unwrap_or(self.sample_flags)
    }
}

fn track_defaults(mvex: &BoxAt<'_>, track: u32) -> Result<Trex, FilmError> {
    for child in mvex.children() {
        let child = child?;
        if child.kind == Trex::KIND {
            let defaults = child.decode::<Trex>()?;
            if defaults.track_id == track {
                return Ok(defaults);
            }
        }
    }
    Err(mvex.malformed(mp4_atom::Error::MissingBox(Trex::KIND)))
}

/// The title that the maker of the file gave it, if there is one fit to be shown. The library passes over this item, so
/// it is looked up by hand: `udta/meta/ilst/©nam/data`. A film whose title cannot be read is still a film.
pub(crate) fn title(moov: &BoxAt<'_>) -> Option<String> {
    /// Version and flags, which open the body of `meta`.
    const FULL_BOX: usize = 4;
    /// Type and locale, which open the body of `data`.
    const DATA_HEADER: usize = 8;
    fn child<'a>(of: BoxAt<'a>, kind: &[u8; 4]) -> Option<BoxAt<'a>> {
        of.child(FourCC::new(kind)).ok().flatten()
    }
    let mut meta = child(child(*moov, b"udta")?, b"meta")?;
    meta.body = meta.body.get(FULL_BOX..)?;
    let data = child(child(child(meta, b"ilst")?, b"\xa9nam")?, b"data")?;
    let text = std::str::from_utf8(data.body.get(DATA_HEADER..)?).ok()?.trim();
    let fit = !text.is_empty() && text.len() <= TITLE_BYTES_MAX && !text.chars().any(char::is_control);
    fit.then(|| text.to_owned())
}
