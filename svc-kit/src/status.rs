//! gRPC statuses that a program can act on: the canonical code, and `google.rpc` details that say why in a stable
//! word (`ErrorInfo`), when to try again (`RetryInfo`), or which field is wrong (`BadRequest`).

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of every reason in an `ErrorInfo`.
pub const DOMAIN: &str = "handover";

/// A status with a reason, such as `STALE_FENCE`, and nothing more to act on.
pub fn because(code: Code, reason: &'static str, message: impl Into<String>) -> Status {
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new()))
}

/// A status with a reason, and a fact that a program can act on.
pub fn because_of(code: Code, reason: &'static str, (key, fact): (&str, String), message: String) -> Status {
    let facts = HashMap::from([(key.to_owned(), fact)]);
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, DOMAIN, facts))
}

/// `UNAVAILABLE`: the same call may succeed after `retry`, here or at another process.
pub fn unavailable(reason: &'static str, message: impl Into<String>, retry: Duration) -> Status {
    retryable(Code::Unavailable, reason, message, retry)
}

/// `RESOURCE_EXHAUSTED`: a limit is reached, and may not be after `retry`.
pub fn exhausted(reason: &'static str, message: impl Into<String>, retry: Duration) -> Status {
    retryable(Code::ResourceExhausted, reason, message, retry)
}

fn retryable(code: Code, reason: &'static str, message: impl Into<String>, retry: Duration) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    details.set_retry_info(Some(retry));
    Status::with_error_details(code, message, details)
}

/// `INVALID_ARGUMENT`: `field` of the request, as a path such as `hello.name`, is wrong as `description` says.
pub fn bad_field(field: impl Into<String>, description: impl Into<String>) -> Status {
    let (field, description) = (field.into(), description.into());
    let message = format!("{field}: {description}");
    let mut details = ErrorDetails::with_bad_request_violation(field, description);
    details.set_error_info("BAD_FIELD", DOMAIN, HashMap::new());
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// `NOT_FOUND`: there is no `kind` called `name`.
pub fn not_found(kind: &'static str, name: impl Into<String>) -> Status {
    let name = name.into();
    let message = format!("no {kind} {name:?}");
    let mut details = ErrorDetails::with_resource_info(kind, name, "", &message);
    details.set_error_info("NOT_FOUND", DOMAIN, HashMap::new());
    Status::with_error_details(Code::NotFound, message, details)
}

/// The stable word of a status, if it has one of this project.
pub fn reason(status: &Status) -> Option<String> {
    let info = status.get_details_error_info()?;
    (info.domain == DOMAIN).then_some(info.reason)
}

/// What a status says to people: the sentence, what lies behind it if nobody answered, and the stable word if there is one.
pub fn sentence(status: &Status) -> String {
    let said = match status.message() {
        "" if status.code() == Code::Unimplemented => {
            "it is a process of another kind, or of another release"
        }
        "" => status.code().description(),
        message => message,
    };
    match (reason(status), status.source()) {
        (Some(reason), _) => format!("{said} ({reason})"),
        (None, Some(source)) => match innermost(source).to_string() {
            cause if said.contains(&cause) => said.to_owned(),
            cause => format!("{said}: {cause}"),
        },
        (None, None) => said.to_owned(),
    }
}

/// What an error comes from in the end, which says more than what it is wrapped in.
pub fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost
}

/// A fact that comes with the reason of a status.
pub fn fact(status: &Status, key: &str) -> Option<String> {
    let info = status.get_details_error_info()?;
    (info.domain == DOMAIN).then_some(info.metadata)?.remove(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retryable_status_says_when() {
        let status = unavailable("DRAINING", "the daemon is draining", Duration::from_millis(50));
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(reason(&status).as_deref(), Some("DRAINING"));
        let retry = status.get_details_retry_info().unwrap();
        assert_eq!(retry.retry_delay, Some(Duration::from_millis(50)));
    }

    #[test]
    fn a_bad_field_is_named() {
        let status = bad_field("hello.name", "is empty");
        assert_eq!(status.message(), "hello.name: is empty");
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!((violations.len(), violations[0].field.as_str()), (1, "hello.name"));
    }

    #[test]
    fn a_fact_comes_with_the_reason() {
        let status = because_of(Code::Aborted, "SUPERSEDED", ("by", "a#2".to_owned()), "by a#2".to_owned());
        assert_eq!(reason(&status).as_deref(), Some("SUPERSEDED"));
        assert_eq!(fact(&status, "by").as_deref(), Some("a#2"));
        assert_eq!(fact(&status, "at"), None);
    }

    #[test]
    fn people_are_told_what_is_wrong_even_where_nobody_said_it() {
        assert_eq!(sentence(&not_found("group", "g")), "no group \"g\" (NOT_FOUND)");
        assert_eq!(sentence(&Status::internal("boom")), "boom");
        let other_kind = "it is a process of another kind, or of another release";
        assert_eq!(sentence(&Status::unimplemented("")), other_kind);
        assert_eq!(sentence(&Status::cancelled("")), Code::Cancelled.description());
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "nobody listens");
        let refused = Status::from_error(Box::new(refused));
        assert!(sentence(&refused).ends_with("nobody listens"), "{}", sentence(&refused));
    }

    #[test]
    fn reasons_of_others_are_not_ours() {
        assert_eq!(reason(&Status::internal("boom")), None);
        assert_eq!(reason(&not_found("group", "g")).as_deref(), Some("NOT_FOUND"));
    }
}
