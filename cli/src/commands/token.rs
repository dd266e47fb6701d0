//! `handover token`: lets somebody in.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use model::Name;
use svc_kit::auth::Rank;
use svc_kit::auth::tokens::{Token, Tokens};

/// Draw a token for somebody, and add its digest to a list, which is made if it is not there.
///
/// The token is printed, and kept nowhere. Services that are started with --auth-tokens FILE let in whoever shows it as
/// `authorization: Bearer TOKEN`; commands show what is in HANDOVER_TOKEN. To take a token back, take its entry out of the
/// list. Services look for changes once a second.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The list
    file: PathBuf,
    /// Whose token it is
    name: Name,
    /// What may be done with it: viewers have sessions, operators move, drain and look at everything, admins change what is
    /// served and by what rules
    #[arg(long, value_enum, default_value_t = Rank::Viewer)]
    rank: Rank,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Args { file, name, rank } = args;
    if file.exists() && Tokens::read(file)?.has(*name) {
        bail!("{name} has a token in {} already: take it out first", file.display());
    }
    let token = Token::draw();
    let list = std::fs::File::options().create(true).append(true).mode(0o600).open(file);
    let mut list = list.with_context(|| format!("cannot write {}", file.display()))?;
    list.write_all(token.entry(*name, *rank).as_bytes())?;
    println!("{token}");
    Ok(ExitCode::SUCCESS)
}
