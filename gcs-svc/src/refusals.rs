//! What was refused, by whom it was said and why: counted for operators, and told to whoever said it in a stable word.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use gcs_core::{NoticeFault, PeerFault, Rejection};
use model::{GroupName, GroupViewId};
use svc_kit::dial::MESSAGE_BYTES_MAX;
use svc_kit::status;
use tonic::{Code, Status};

/// When to try again what a busy or draining daemon refused.
const RETRY: Duration = Duration::from_millis(50);

/// Counts of refused messages by reason, since the start.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<BTreeMap<&'static str, u64>>);

impl Refusals {
    /// Counts one.
    pub fn count(&self, reason: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
    }

    /// What ends a call whose next message could not be read. A message that is too large is counted.
    pub fn unreadable(&self, status: Status) -> Status {
        if status.code() != Code::OutOfRange {
            return status;
        }
        self.count("MESSAGE_TOO_LARGE");
        let message = format!("a message has at most {MESSAGE_BYTES_MAX} bytes");
        status::because(Code::OutOfRange, "MESSAGE_TOO_LARGE", message)
    }

    /// All counts.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Why a process's request had no effect, in a word and as what its call ends with.
pub fn of_process(rejection: Rejection) -> (&'static str, Status) {
    let exhausted = |reason, message: String| (reason, status::exhausted(reason, message, RETRY));
    let bad = |reason, field: &str, rule: String| (reason, status::bad_field(field, rule));
    match rejection {
        Rejection::NotAttached => internal("NOT_ATTACHED"),
        Rejection::AlreadyAttached => internal("ALREADY_ATTACHED"),
        Rejection::TooManyConnections { max } => {
            exhausted("TOO_MANY_PROCESSES", format!("this daemon has as many processes as it takes: {max}"))
        }
        Rejection::NoGroups => bad("NO_GROUPS", "groups", "must not be empty".into()),
        Rejection::TooManyGroupsInRequest { max } => {
            bad("TOO_MANY_GROUPS_IN_REQUEST", "groups", format!("must have at most {max} elements"))
        }
        Rejection::TooManyGroups { max } => {
            exhausted("TOO_MANY_GROUPS", format!("a process may be in at most {max} groups"))
        }
        Rejection::PayloadTooLong { bytes, max } => {
            bad("PAYLOAD_TOO_LONG", "payload", format!("{bytes} bytes are more than the limit of {max}"))
        }
        Rejection::BlockTimeout { after } => {
            let message = format!("the process did not stop within {after:?} when a strict group changed");
            let word = "BLOCK_TIMEOUT";
            (word, status::because(Code::FailedPrecondition, word, message))
        }
        Rejection::Overloaded => exhausted("OVERLOADED", "too many requests are waiting".into()),
    }
}

fn internal(reason: &'static str) -> (&'static str, Status) {
    (reason, status::because(Code::Internal, reason, "the daemon lost track of this process"))
}

/// The process did not read its events.
pub fn process_too_slow() -> Status {
    status::exhausted("PROCESS_TOO_SLOW", "too many events were waiting for this process", RETRY)
}

/// The daemon shuts down.
pub fn draining() -> Status {
    status::unavailable("DRAINING", "this daemon is shutting down", RETRY)
}

/// The daemon is kept out of the cluster: another one will do.
pub fn barred() -> Status {
    status::unavailable("BARRED", "an operator keeps this daemon out of the cluster", RETRY)
}

/// The daemon has not heard from the membership service.
pub fn no_configuration() -> Status {
    status::unavailable("NO_CONFIGURATION", "the membership service has not told a configuration yet", RETRY)
}

/// The daemon does not read from processes until it has caught up.
pub fn holding() -> Status {
    status::exhausted("OVERLOADED", "too many requests are waiting", RETRY)
}

/// Nobody is in the group.
pub fn no_members(group: &GroupName) -> Status {
    status::because(Code::NotFound, "NO_MEMBERS", format!("nobody is in group {group}"))
}

/// The group is in another view than the caller meant.
pub fn other_view(group: &GroupName, view: Option<GroupViewId>) -> Status {
    let now = match view {
        Some(view) => format!("group {group} is in view {view}"),
        None => format!("group {group} is in no view: nobody is in it"),
    };
    status::because(Code::FailedPrecondition, "OTHER_VIEW", now)
}

/// The caller belongs to another cluster.
pub fn foreign_cluster(ours: impl std::fmt::Display) -> Status {
    status::because(
        Code::FailedPrecondition,
        "FOREIGN_CLUSTER",
        format!("this daemon belongs to cluster {ours}"),
    )
}

/// The caller means another daemon, or another life of this one.
pub fn wrong_daemon(ours: impl std::fmt::Display) -> Status {
    status::because(Code::FailedPrecondition, "WRONG_DAEMON", format!("this daemon is {ours}"))
}

/// The peer has opened another stream in place of this one.
pub fn replaced() -> Status {
    status::because(Code::Aborted, "REPLACED", "this stream was replaced by a newer one")
}

/// The peer's stream has lost its footing.
pub fn broken(fault: PeerFault) -> Status {
    status::because(Code::Aborted, "REFUSED", format!("refused: {}", of_peer(fault)))
}

/// How a peer broke the protocol, in a word.
pub fn of_peer(fault: PeerFault) -> &'static str {
    match fault {
        PeerFault::OutOfDateIncarnation => "OUT_OF_DATE_INCARNATION",
        PeerFault::WrongEpoch => "WRONG_EPOCH",
        PeerFault::FrameGap { .. } => "FRAME_GAP",
        PeerFault::WrongAcknowledgement { .. } => "WRONG_ACKNOWLEDGEMENT",
        PeerFault::TooManyPeers => "TOO_MANY_PEERS",
        PeerFault::OurName => "OUR_NAME",
        PeerFault::NotAMember => "NOT_A_MEMBER",
        PeerFault::ForeignConfiguration => "FOREIGN_CONFIGURATION",
        PeerFault::IndexGap { .. } => "INDEX_GAP",
        PeerFault::WindowExceeded => "WINDOW_EXCEEDED",
        PeerFault::WrongOrder => "WRONG_ORDER",
        PeerFault::WrongSync => "WRONG_SYNC",
        PeerFault::WrongProgress => "WRONG_PROGRESS",
        PeerFault::WrongTable => "WRONG_TABLE",
    }
}

/// What was wrong with a notice of the membership service, in a word.
pub fn of_notice(fault: NoticeFault) -> &'static str {
    match fault {
        NoticeFault::OutOfDateStart { .. } => "NOTICE_OUT_OF_DATE_START",
        NoticeFault::Excluded => "NOTICE_EXCLUDED",
        NoticeFault::OutOfDateView => "NOTICE_OUT_OF_DATE_VIEW",
        NoticeFault::UnproposedMember => "NOTICE_UNPROPOSED_MEMBER",
    }
}
