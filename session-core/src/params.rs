//! Limits and periods of the framework.

use core::time::Duration;

use crate::unit_db::Policy;

/// What a content server's machine is run with.
#[derive(Clone, Debug)]
pub struct Params {
    /// What a new unit database starts with; where replicas of a unit exist already, theirs holds.
    pub policy: Policy,
    /// How long a session waits for its client before it is ended.
    pub detach_ttl: Duration,
    /// How many sessions of one unit are moved for balance in one view, at most.
    pub moves_max: usize,
    /// How many requests a replica remembers after it applied them, so that it can apply them to an older context.
    pub requests_kept: usize,
    /// The largest encoded context, in bytes. A request that would make it larger is refused.
    pub context_bytes_max: usize,
    /// About how large one message may be that tells of state, propagates contexts or commits responses, in bytes.
    pub message_bytes_max: usize,
    /// How often an unanswered claim is repeated.
    pub claim_retry: Duration,
    /// Whether trace events are among the outputs.
    pub trace: bool,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            policy: Policy::default(),
            detach_ttl: Duration::from_secs(60),
            moves_max: 64,
            requests_kept: 64,
            context_bytes_max: 4096,
            message_bytes_max: 128 * 1024,
            claim_retry: Duration::from_millis(500),
            trace: false,
        }
    }
}
