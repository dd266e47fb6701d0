//! Limits and periods. Every queue of the daemon has its bound here.

use core::fmt;
use core::time::Duration;

/// A bound by number and by bytes: what reaches either has reached the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    /// How many.
    pub entries: usize,
    /// How many bytes in all.
    pub bytes: usize,
}

impl Limit {
    /// Whether `entries` of `bytes` in all have reached it.
    pub(crate) const fn reached(self, entries: usize, bytes: usize) -> bool {
        entries >= self.entries || bytes >= self.bytes
    }

    /// The `parts`-th part of it.
    pub(crate) const fn over(self, parts: usize) -> Limit {
        Limit { entries: self.entries / parts, bytes: self.bytes / parts }
    }
}

/// The settings of a daemon. Members of one cluster are meant to have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Params {
    /// A daemon's own payloads that some member has not delivered yet. More wait in the queue.
    pub window: Limit,
    /// What local processes have handed in and the window does not admit yet. Half full, the host is told to stop
    /// reading; full, requests are rejected.
    pub queue: Limit,
    /// The longest payload of a process.
    pub payload_bytes_max: usize,
    /// The most groups in one request to join or leave.
    pub groups_per_request_max: usize,
    /// The most groups that one process may be in. What is on its way is not counted.
    pub groups_per_process_max: usize,
    /// The most local processes.
    pub connections_max: usize,
    /// The most daemons, by name, whose streams are taken.
    pub peers_max: usize,
    /// The most syncs kept of one peer. See `endpoint.rs` on why any number is safe.
    pub syncs_per_peer_max: usize,
    /// Entries are sent in messages that are closed once they have this many bytes.
    pub batch_bytes: usize,
    /// Frames of a peer that may go unacknowledged until the next period.
    pub frames_per_ack: u64,
    /// How often members tell each other what they have delivered and received, while there is news.
    pub progress_period: Duration,
    /// How long a member of a strict group may take to stop before it is evicted.
    pub block_timeout: Duration,
    /// When a silent peer is suspicious, and how links are judged. Without it, the host's connections have to tell of
    /// every loss themselves, and nothing is reported.
    pub detection: Option<detector::Params>,
    /// Whether to emit [`crate::Output::Trace`].
    pub trace: bool,
}

/// Which setting makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParamsError {
    /// Its name.
    pub field: &'static str,
    /// What it must be.
    pub rule: &'static str,
}

impl fmt::Display for ParamsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} must be {}", self.field, self.rule)
    }
}

impl core::error::Error for ParamsError {}

impl Params {
    /// For a handful of daemons on a local network.
    pub const fn lan() -> Params {
        Params {
            window: Limit { entries: 4096, bytes: 8 << 20 },
            queue: Limit { entries: 8192, bytes: 16 << 20 },
            payload_bytes_max: 1 << 20,
            groups_per_request_max: 4096,
            groups_per_process_max: 1 << 16,
            connections_max: 4096,
            peers_max: 256,
            syncs_per_peer_max: 16,
            batch_bytes: 256 << 10,
            frames_per_ack: 64,
            progress_period: Duration::from_millis(50),
            block_timeout: Duration::from_secs(1),
            detection: None,
            trace: false,
        }
    }

    /// Checks that the settings make sense together.
    pub fn check(&self) -> Result<(), ParamsError> {
        let rules = [
            (self.window.entries >= 4 && self.window.bytes >= 4, "window", "at least 4 entries and 4 bytes"),
            (self.queue.entries >= 4 && self.queue.bytes >= 4, "queue", "at least 4 entries and 4 bytes"),
            (self.groups_per_request_max >= 1, "groups_per_request_max", "at least 1"),
            (self.peers_max >= 1, "peers_max", "at least 1"),
            (self.syncs_per_peer_max >= 1, "syncs_per_peer_max", "at least 1"),
            (self.batch_bytes >= 1, "batch_bytes", "at least 1"),
            (self.frames_per_ack >= 1, "frames_per_ack", "at least 1"),
            (!self.progress_period.is_zero(), "progress_period", "longer than nothing"),
            (!self.block_timeout.is_zero(), "block_timeout", "longer than nothing"),
            (self.detection.is_none_or(|it| !it.period.is_zero()), "detection.period", "longer than nothing"),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            Some((_, field, rule)) => Err(ParamsError { field, rule }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_sensible_and_nonsense_names_its_field() {
        assert_eq!(Params::lan().check(), Ok(()));
        let bad = Params { frames_per_ack: 0, ..Params::lan() };
        assert_eq!(bad.check().map_err(|e| e.field), Err("frames_per_ack"));
        let bad = Params { window: Limit { entries: 3, bytes: 100 }, ..Params::lan() };
        assert_eq!(bad.check().map_err(|e| e.field), Err("window"));
    }
}
