//! What is said of a process that gave no answer.

use std::fmt::Display;

use svc_kit::status;
use tonic::{Code, Status};

/// Names it on standard error, and says why.
pub fn tell(at: &impl Display, status: &Status) {
    let verb = if is_refusal(status) { "refuses" } else { "does not answer" };
    let advice = advice(status).map(|it| format!("; {it}")).unwrap_or_default();
    eprintln!("handover: {at} {verb}: {}{advice}", status::sentence(status));
}

/// Whether there was an answer, which is that this caller gets none.
pub fn is_refusal(status: &Status) -> bool {
    matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented)
}

/// What to do about it, where what is said does not tell.
pub fn advice(status: &Status) -> Option<&'static str> {
    match status::reason(status).as_deref() {
        Some("NO_TOKEN") => Some("give one in HANDOVER_TOKEN"),
        Some("BAD_TOKEN") => Some("it is the one in HANDOVER_TOKEN"),
        Some("NO_CERTIFICATE") => Some("give an operator's in HANDOVER_TLS__CERT and HANDOVER_TLS__KEY"),
        Some(_) => None,
        None => (is_garbled(status) && std::env::var_os("HANDOVER_TLS__CA").is_none())
            .then_some("if it talks TLS, give its authority in HANDOVER_TLS__CA"),
    }
}

/// Whether somebody takes connections there, and does not speak as was expected.
fn is_garbled(status: &Status) -> bool {
    let said = status::sentence(status);
    let sign = |it: &&str| said.contains(*it);
    ["h2 protocol error", "operation was canceled", "http2 error", "broken pipe"].iter().any(sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_is_told_what_to_bring() {
        let refused = |reason| status::because(Code::Unauthenticated, reason, "no");
        assert!(is_refusal(&refused("NO_TOKEN")));
        assert_eq!(advice(&refused("NO_TOKEN")), Some("give one in HANDOVER_TOKEN"));
        assert_eq!(advice(&refused("BAD_TOKEN")), Some("it is the one in HANDOVER_TOKEN"));
        assert_eq!(advice(&status::not_found("session", "s")), None);
        assert!(!is_refusal(&Status::unavailable("tcp connect error")));
        assert_eq!(advice(&Status::unavailable("tcp connect error")), None);
    }
}
