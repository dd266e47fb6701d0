//! What was refused and why: counted for operators, and told to whoever said it in a stable word.

use std::fmt::Display;
use std::time::Duration;

use membership_core::{Fault, Rejection};
use svc_kit::status;
use tonic::{Code, Status};

/// When to try again what a full or draining server refused.
const RETRY: Duration = Duration::from_millis(100);

/// Why a daemon is not attached, in a word and as what its call ends with.
pub fn of_daemon(rejection: Rejection) -> (&'static str, Status) {
    match rejection {
        Rejection::Superseded { by, at } => {
            let message = format!("{by} is attached to {at}");
            let by = ("by", by.to_string());
            ("SUPERSEDED", status::because_of(Code::Aborted, "SUPERSEDED", by, message))
        }
        Rejection::Barred { until: Some(_) } => {
            ("BARRED", status::unavailable("BARRED", "an operator sent this daemon away for a time", RETRY))
        }
        Rejection::Barred { until: None } => {
            ("BARRED", status::unavailable("BARRED", "this daemon is in maintenance", RETRY))
        }
        Rejection::TooManyDaemons { max } => {
            let message = format!("there are as many daemons as there may be: {max}");
            ("TOO_MANY_DAEMONS", status::exhausted("TOO_MANY_DAEMONS", message, RETRY))
        }
        Rejection::ForeignStart => {
            ("FOREIGN_START", status::bad_field("hello.last_start", "is not of this life of the daemon"))
        }
        Rejection::OutOfRange => ("OUT_OF_RANGE", status::bad_field("hello", "a number in it is too great")),
    }
}

/// How a server broke the protocol, in a word.
pub fn of_peer(fault: Fault) -> &'static str {
    match fault {
        Fault::NotUp => "NOT_UP",
        Fault::TooManyDaemons => "TOO_MANY_DAEMONS",
        Fault::TooManyNames => "TOO_MANY_NAMES",
        Fault::NotAddressed => "NOT_ADDRESSED",
        Fault::OldVersion => "OLD_VERSION",
        Fault::ForeignStart => "FOREIGN_START",
        Fault::OutOfRange => "OUT_OF_RANGE",
        Fault::SeatedTwice => "SEATED_TWICE",
        Fault::ForeignProtocol => "FOREIGN_PROTOCOL",
    }
}

/// Another stream has taken the place of this one.
pub fn replaced() -> Status {
    status::because(Code::Aborted, "SUPERSEDED", "this stream was replaced by a newer one")
}

/// The other end does not read.
pub fn too_slow() -> Status {
    status::exhausted("TOO_SLOW", "too much was waiting to be read", RETRY)
}

/// Nothing was heard of the other end for too long.
pub fn silent() -> Status {
    status::unavailable("SILENT", "nothing was heard of you for too long", RETRY)
}

/// The server shuts down.
pub fn draining() -> Status {
    status::unavailable("DRAINING", "this membership server is shutting down", RETRY)
}

/// The caller belongs to another cluster.
pub fn foreign_cluster(theirs: impl Display, ours: impl Display) -> Status {
    let message = format!("this is a server of cluster {ours}, not {theirs}");
    status::because(Code::FailedPrecondition, "FOREIGN_CLUSTER", message)
}

/// The caller agrees with others in another way.
pub fn foreign_protocol(theirs: impl Display, ours: impl Display) -> Status {
    let message =
        format!("the servers of this cluster agree by {ours}, not by {theirs}: set `protocol` alike");
    status::because(Code::FailedPrecondition, "FOREIGN_PROTOCOL", message)
}

/// The caller takes other configurations for the primary component.
pub fn foreign_rule(theirs: &str, ours: &str) -> Status {
    let message =
        format!("the rule of the primary component is {ours} here, and {theirs} there: set `voters` alike");
    status::because(Code::FailedPrecondition, "FOREIGN_RULE", message)
}

/// The caller is not a server that is to open a link to this one.
pub fn unknown_server(theirs: impl Display) -> Status {
    let message = format!("{theirs} is not among the servers that open links to this one");
    status::because(Code::FailedPrecondition, "UNKNOWN_SERVER", message)
}

/// The caller means the server called `theirs`.
pub fn wrong_server(theirs: impl Display, ours: impl Display) -> Status {
    let message = format!("this is {ours}, not {theirs}");
    status::because(Code::FailedPrecondition, "WRONG_SERVER", message)
}

/// The caller has to speak our version.
pub fn check_version(theirs: u32) -> Result<(), Status> {
    let ours = proto::MEMBERSHIP_VERSION;
    if theirs == ours {
        return Ok(());
    }
    let message = format!("this server speaks version {ours} of the contract, not {theirs}");
    Err(status::because(Code::FailedPrecondition, "WRONG_VERSION", message))
}

/// A later life of the caller's name, or of ours, is known.
pub fn superseded(by: impl Display) -> Status {
    let message = format!("{by} takes the place of this server");
    status::because(Code::Aborted, "SUPERSEDED", message)
}
