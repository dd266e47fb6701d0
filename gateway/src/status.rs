//! Everything that a client can be told to be wrong, as gRPC statuses with `google.rpc` details. The reasons are those
//! that `session.proto` names.

use std::collections::HashMap;
use std::time::Duration;

use session_core::RefusalKind;
use session_core::gateway::Failure;
use svc_kit::status::{DOMAIN, because, exhausted, unavailable};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::cursor::CursorError;

/// When to try again what failed for want of a server, or at a limit.
const RETRY: Duration = Duration::from_millis(500);
/// When to try again at another gateway.
const RETRY_ELSEWHERE: Duration = Duration::from_millis(10);

/// The status for a failure of the machine.
pub(crate) fn of(failure: Failure) -> Status {
    let reason = reason_of(&failure);
    match failure {
        Failure::UnknownUnit => because(Code::NotFound, reason, "no server holds this content unit"),
        Failure::UnknownSession => {
            because(Code::NotFound, reason, "the session is not known here; attach to it first")
        }
        Failure::Ended => because(Code::NotFound, reason, "the session has ended"),
        Failure::ServiceFailed => {
            because(Code::Aborted, reason, "the service failed in this session, which has ended")
        }
        Failure::WrongSecret => because(Code::PermissionDenied, reason, "the secret is not this session's"),
        Failure::BadCursor => {
            let description = "has a context that is not one of the service's".to_owned();
            bad_field(reason, "cursor", description)
        }
        Failure::NoReplica => unavailable(reason, "no server came forward in time", RETRY),
        Failure::Displaced => because(Code::Aborted, reason, "the session has another client now"),
        Failure::TooManySessions { limit } => {
            let message = format!("this gateway has {limit} sessions, or calls that wait, and takes no more");
            exhausted(reason, message, RETRY)
        }
        Failure::TooManyRequests { limit } => {
            let message = format!("{limit} requests of this session wait to be applied");
            exhausted(reason, message, RETRY)
        }
        Failure::RequestTooLarge { size, limit } => {
            let description = format!("takes {size} bytes as JSON, and may take {limit}");
            bad_field(reason, "operation", description)
        }
        Failure::RequestGap { number, expected } => {
            let message = format!("request {number} leaves a gap: {expected} is next");
            because(Code::FailedPrecondition, reason, message)
        }
        Failure::Refused(refusal) => match refusal.kind {
            RefusalKind::Malformed => bad_field(reason, "operation", refusal.message),
            RefusalKind::OutOfRange => because(Code::OutOfRange, reason, refusal.message),
            RefusalKind::Precondition => because(Code::FailedPrecondition, reason, refusal.message),
            RefusalKind::Failed => because(Code::Aborted, reason, refusal.message),
        },
    }
}

/// Why a client is refused that calls more often than it may.
pub(crate) const TOO_MANY_CALLS: &str = "TOO_MANY_CALLS";
/// Why a connection is closed at once. Nobody is told, but whoever counts.
pub(crate) const TOO_MANY_CONNECTIONS: &str = "TOO_MANY_CONNECTIONS";

/// The status for such a client.
pub(crate) fn too_many_calls(wait: Duration) -> Status {
    exhausted(TOO_MANY_CALLS, "more calls in a short time than this client may make", wait)
}

/// Why a call failed or a stream ended, in the contract's word for it.
pub(crate) fn reason_of(failure: &Failure) -> &'static str {
    match failure {
        Failure::UnknownUnit => "UNKNOWN_UNIT",
        Failure::UnknownSession => "UNKNOWN_SESSION",
        Failure::Ended => "SESSION_ENDED",
        Failure::ServiceFailed => "SERVICE_FAILED",
        Failure::WrongSecret => "WRONG_SECRET",
        Failure::BadCursor => "MALFORMED_CURSOR",
        Failure::NoReplica => "NO_REPLICA",
        Failure::Displaced => "DISPLACED",
        Failure::TooManySessions { .. } => "TOO_MANY_SESSIONS",
        Failure::TooManyRequests { .. } => "TOO_MANY_REQUESTS",
        Failure::RequestTooLarge { .. } => "REQUEST_TOO_LARGE",
        Failure::RequestGap { .. } => "REQUEST_GAP",
        Failure::Refused(refusal) => match refusal.kind {
            RefusalKind::Malformed => "MALFORMED_REQUEST",
            RefusalKind::OutOfRange => "REQUEST_OUT_OF_RANGE",
            RefusalKind::Precondition => "REQUEST_REFUSED",
            RefusalKind::Failed => "REQUEST_FAILED",
        },
    }
}

/// The gateway shuts down.
pub(crate) fn draining() -> Status {
    unavailable("DRAINING", "this gateway shuts down; go on at another", RETRY_ELSEWHERE)
}

/// A client did not read its stream for so long that its queue is full.
pub(crate) fn client_too_slow() -> Status {
    exhausted("CLIENT_TOO_SLOW", "the client did not read; attach again with the last cursor", RETRY)
}

/// A content server does not read what it is told.
pub(crate) fn server_too_slow() -> Status {
    exhausted("SERVER_TOO_SLOW", "the server did not read", RETRY)
}

/// The client's cursor is of no use.
pub(crate) fn bad_cursor(error: CursorError) -> Status {
    let reason = match error {
        CursorError::Malformed | CursorError::Version { .. } | CursorError::AnotherSession => {
            "MALFORMED_CURSOR"
        }
        CursorError::Unsealed | CursorError::Forged => "FORGED_CURSOR",
        CursorError::UnknownKey => "UNKNOWN_CURSOR_KEY",
    };
    bad_field(reason, "cursor", error.to_string())
}

/// The client's request has no JSON.
pub(crate) fn malformed_operation(error: crate::operation::OperationError) -> Status {
    svc_kit::status::bad_field("operation", error.to_string())
}

/// `INVALID_ARGUMENT` for a reason of its own.
fn bad_field(reason: &'static str, field: &'static str, description: String) -> Status {
    let message = format!("{field}: {description}");
    let mut details = ErrorDetails::with_bad_request_violation(field, description);
    details.set_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(Code::InvalidArgument, message, details)
}

#[cfg(test)]
mod tests {
    use session_core::Refusal;

    use super::*;

    const CONTRACT: &str = include_str!("../../proto/handover/session/v1/session.proto");

    #[test]
    fn what_a_full_gateway_says_is_so_of_calls_as_of_sessions_and_in_the_contract() {
        let full = of(Failure::TooManySessions { limit: 2 });
        assert_eq!(full.message(), "this gateway has 2 sessions, or calls that wait, and takes no more");
        for method in ["ListContentUnits", "CreateSession", "Attach", "CloseSession"] {
            let (before, _) = CONTRACT.split_once(&format!("rpc {method}(")).unwrap();
            let comment = before.rsplit("\n\n").next().unwrap();
            assert!(comment.contains("TOO_MANY_SESSIONS"), "{method}: {comment}");
        }
    }

    #[test]
    fn every_reason_is_in_the_contract_and_carries_its_details() {
        let refused = |kind| Failure::Refused(Refusal { kind, message: "no".into() });
        let failures = [
            Failure::UnknownUnit,
            Failure::UnknownSession,
            Failure::Ended,
            Failure::ServiceFailed,
            Failure::WrongSecret,
            Failure::BadCursor,
            Failure::NoReplica,
            Failure::Displaced,
            Failure::TooManySessions { limit: 1 },
            Failure::TooManyRequests { limit: 1 },
            Failure::RequestTooLarge { size: 2, limit: 1 },
            Failure::RequestGap { number: 3, expected: 1 },
            refused(RefusalKind::Malformed),
            refused(RefusalKind::OutOfRange),
            refused(RefusalKind::Precondition),
            refused(RefusalKind::Failed),
        ];
        let others = [
            draining(),
            client_too_slow(),
            bad_cursor(CursorError::AnotherSession),
            bad_cursor(CursorError::Forged),
            bad_cursor(CursorError::UnknownKey),
            malformed_operation(crate::operation::OperationError::TooDeep),
            svc_kit::status::bad_field("name", "is empty"),
        ];
        for status in failures.map(of).into_iter().chain(others) {
            let reason = svc_kit::status::reason(&status).unwrap();
            assert!(CONTRACT.contains(&reason), "{reason} is not in the contract");
            let details = status.get_error_details();
            let retryable = matches!(status.code(), Code::Unavailable | Code::ResourceExhausted);
            assert_eq!(details.retry_info().is_some(), retryable, "{reason}");
            assert_eq!(details.bad_request().is_some(), status.code() == Code::InvalidArgument, "{reason}");
        }
    }
}
