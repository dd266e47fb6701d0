//! As whom commands call the processes of a cluster: as the operator whose certificate the environment names, in the
//! variables that services read too.

use svc_kit::dial::{Keepalive, Wire};
use svc_kit::tls::TlsFiles;

/// How commands connect.
///
/// # Errors
/// If the environment names files that are of no use.
pub fn wire() -> anyhow::Result<Wire> {
    let file = |name: &str| std::env::var_os(format!("HANDOVER_TLS__{name}")).map(Into::into);
    let files = TlsFiles { ca: file("CA"), cert: file("CERT"), key: file("KEY") };
    Ok(Wire { keepalive: Keepalive::default(), tls: files.open_as_named()? })
}
