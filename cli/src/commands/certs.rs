//! `handover certs`: who is who, for a cluster without an authority of its own.

use std::path::PathBuf;
use std::process::ExitCode;

use model::Name;

use crate::certs::{Authority, Terms, role_of};

/// Issue certificates for the processes of a cluster, by an authority in a directory, which is made if it is not there.
///
/// Each process gets NAME.pem and NAME.key; its role is how its name begins: membership-1, machine-1, server-1, gateway-1,
/// operator. Start it with --tls-ca DIR/ca.pem --tls-cert DIR/NAME.pem --tls-key DIR/NAME.key. A certificate that is issued
/// again is used for the connections that come after, without a restart.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where the authority is
    dir: PathBuf,
    /// The processes
    #[arg(required = true)]
    names: Vec<Name>,
    /// The cluster
    #[arg(long, value_name = "NAME", default_value = "handover")]
    cluster: Name,
    /// A host name or address at which clients find these processes; can be repeated
    #[arg(long = "host", value_name = "HOST", default_values = ["localhost", "127.0.0.1", "::1"])]
    hosts: Vec<String>,
    /// How long the certificates are good
    #[arg(long, value_name = "N", default_value_t = 365)]
    days: i64,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let terms = Terms { hosts: args.hosts.clone(), days: args.days };
    let authority = Authority::open(&args.dir, args.cluster)?;
    for name in &args.names {
        authority.issue(role_of(*name)?, *name, &terms)?;
        println!("{}", args.dir.join(format!("{name}.pem")).display());
    }
    Ok(ExitCode::SUCCESS)
}
