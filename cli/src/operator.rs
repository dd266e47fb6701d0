//! As whom commands call the processes of a cluster: as the operator whose certificate or token the environment names, in
//! the variables that services read too. With TLS, authorities and a token will do.

use anyhow::Context;
use svc_kit::auth::Bearer;
use svc_kit::dial::{Keepalive, Wire};
use svc_kit::process::TOKEN_VARIABLE;
use svc_kit::settings;
use svc_kit::tls::TlsFiles;
use tonic::Request;

/// How commands connect.
///
/// # Errors
/// If the environment names files that are of no use, or a token that cannot be one.
pub fn wire() -> anyhow::Result<Wire> {
    let file = |name: &str| std::env::var_os(format!("HANDOVER_TLS__{name}")).map(Into::into);
    let files = TlsFiles { ca: file("CA"), cert: file("CERT"), key: file("KEY") };
    let cluster = match std::env::var("HANDOVER_CLUSTER") {
        Ok(name) => name.parse().with_context(|| format!("HANDOVER_CLUSTER: {name:?} is not a name"))?,
        Err(_) => settings::default_cluster(),
    };
    Ok(Wire { keepalive: Keepalive::default(), tls: files.open_as_named(cluster)?, token: token()? })
}

/// A call that may take as long as it takes; most are [`limited`](crate::snapshot::limited).
pub fn unlimited<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    // Whoever connects has looked whether it is one.
    if let Ok(Some(token)) = token() {
        token.show(&mut request);
    }
    request
}

/// What commands show with each call.
///
/// # Errors
/// If it cannot be a token.
pub fn token() -> anyhow::Result<Option<Bearer>> {
    let Ok(token) = std::env::var(TOKEN_VARIABLE) else { return Ok(None) };
    Bearer::new(&token).map(Some).with_context(|| format!("{TOKEN_VARIABLE} is not a token"))
}
