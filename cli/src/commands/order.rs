//! What may become of an operator's order to the content servers.

use tonic::Status;

/// Why an order is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The servers refuse it.
    #[error("{}{}", .0.message(), svc_kit::status::reason(.0).map(|it| format!(" ({it})")).unwrap_or_default())]
    Refused(Status),
    /// No server answers.
    #[error("no content server answers")]
    Silent,
}
