//! As whom commands call the processes of a cluster: as the operator whose certificate or token the environment names, in
//! the variables that services read too. With TLS, authorities and a token will do.

use std::sync::OnceLock;

use anyhow::Context;
use model::Name;
use svc_kit::auth::Bearer;
use svc_kit::dial::{Keepalive, Wire};
use svc_kit::process::TOKEN_VARIABLE;
use svc_kit::settings;
use svc_kit::tls::TlsFiles;
use tonic::Request;

/// The cluster that this command is about, once that is known.
static CLUSTER: OnceLock<Name> = OnceLock::new();

/// From here on, processes have to show certificates of this cluster, unless another one was named before.
pub fn expect(cluster: Name) {
    // A command is about one cluster.
    CLUSTER.get_or_init(|| cluster);
}

/// How commands connect, once it is known to which cluster.
///
/// # Errors
/// If the environment names files that are of no use, or a token that cannot be one.
pub fn wire() -> anyhow::Result<Wire> {
    let file = |name: &str| std::env::var_os(format!("HANDOVER_TLS__{name}")).map(Into::into);
    let files = TlsFiles { ca: file("CA"), cert: file("CERT"), key: file("KEY") };
    let cluster = CLUSTER.get().copied().unwrap_or_else(settings::default_cluster);
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
