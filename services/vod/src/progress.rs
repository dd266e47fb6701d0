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
