//! Who takes spans, and how it is known that this is who it says: OpenTelemetry's own variables name the files.

use std::ffi::OsString;
use std::path::PathBuf;

use tonic::transport::ClientTlsConfig;

use crate::tls::{self, TlsError};

/// What the variables begin with; those of the first kind are for spans alone, and go before the others.
const KINDS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"];

/// Whether there is a collector to export to.
pub(super) fn is_wanted() -> bool {
    variable("ENDPOINT").is_some()
}

/// How to connect with the collector where that is by TLS.
///
/// # Errors
/// If a file that a variable names is of no use.
pub(crate) fn tls() -> Result<Option<ClientTlsConfig>, TlsError> {
    let is_secure = |endpoint: OsString| endpoint.as_encoded_bytes().starts_with(b"https:");
    if !variable("ENDPOINT").is_some_and(is_secure) {
        return Ok(None);
    }
    let file = |name: &str| variable(name).map(PathBuf::from);
    let (ca, certificate, key) = (file("CERTIFICATE"), file("CLIENT_CERTIFICATE"), file("CLIENT_KEY"));
    let own = match (&certificate, &key) {
        (Some(certificate), Some(key)) => Some((certificate.as_path(), key.as_path())),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => return Err(TlsError::Half),
    };
    tls::outward(ca.as_deref(), own).map(Some)
}

/// A variable that is not empty.
fn variable(name: &str) -> Option<OsString> {
    KINDS.iter().filter_map(|kind| std::env::var_os(format!("{kind}{name}"))).find(|it| !it.is_empty())
}
