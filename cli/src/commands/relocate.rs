//! `handover move`: has a session served by another server, while it goes on.

use std::process::ExitCode;

use anyhow::bail;
use model::{Address, Name};
use proto::server::v1::server_service_client::ServerServiceClient;
use proto::server::v1::{GetStatusResponse, MoveSessionRequest};
use serde::Serialize;
use svc_kit::status;
use svc_kit::tls::Role;

use super::order::{Asked, OrderError};
use super::status::Format;
use crate::operator;
use crate::snapshot::{Snapshot, limited};

/// Move a session to another server that holds its unit. Its client notices nothing: the server before goes on until the
/// next one does, and is a backup from then on.
///
/// A session that was moved with `--to` stays there when sessions are moved for balance, for as long as that server is
/// there. Exits with 64 + N if the servers refuse with gRPC code N, such as 73 (FAILED_PRECONDITION) if the server does
/// not hold the unit.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The session: its id, as many of the first digits as tell it from others, or
    /// contentUnits/UNIT/sessions/SESSION
    session: String,
    /// The server that is to serve it, such as server-2; whoever has least to do if nobody is named
    #[arg(long, value_name = "SERVER")]
    to: Option<Name>,
    #[command(flatten)]
    asked: Asked,
    /// How to show it
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

/// What became of it.
#[derive(Debug, Serialize)]
struct Moved {
    session: String,
    unit: String,
    from: String,
    to: String,
    fence: String,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let snapshot = args.asked.snapshot().await?;
    let (asked, session) = find(&snapshot, &args.session)?;
    let moved = order(&snapshot, asked, session, args.to).await?;
    match args.output {
        Format::Table => {
            let Moved { session, unit, from, to, .. } = moved;
            println!("session {session} of {unit} moves from {from} to {to}");
        }
        Format::Json => println!("{}", serde_json::to_string_pretty(&moved)?),
    }
    Ok(ExitCode::SUCCESS)
}

/// A server that knows the session, and the session's full name.
fn find<'a>(snapshot: &'a Snapshot, given: &str) -> anyhow::Result<(&'a Address, &'a str)> {
    let answers: Vec<(&Address, &GetStatusResponse)> =
        snapshot.servers.iter().filter_map(|(at, answer)| Some((at, answer.as_ref().ok()?))).collect();
    if answers.is_empty() {
        bail!(OrderError::Silent);
    }
    let is_meant = |name: &str| name == given || id_of(name).starts_with(given);
    let mut found: Vec<(&str, &Address)> = Vec::new();
    for (at, status) in answers {
        let sessions = status.units.iter().flat_map(|unit| &unit.sessions);
        for session in sessions.filter(|session| is_meant(&session.name)) {
            if !found.iter().any(|(name, _)| *name == session.name) {
                found.push((&session.name, at));
            }
        }
    }
    match found[..] {
        [(session, at)] => Ok((at, session)),
        [] => bail!(OrderError::Refused(status::not_found("session", given))),
        _ => bail!("{} sessions begin with {given:?}: give more digits", found.len()),
    }
}

async fn order(snapshot: &Snapshot, asked: &Address, name: &str, to: Option<Name>) -> anyhow::Result<Moved> {
    let server = to.map(|to| format!("servers/{to}")).unwrap_or_default();
    let request = MoveSessionRequest { name: name.to_owned(), server };
    let channel = operator::wire()?.connect(asked, Role::Server).await?;
    let moved = ServerServiceClient::new(channel).move_session(limited(request)).await;
    let moved = moved.map_err(OrderError::Refused)?.into_inner();
    let names = snapshot.servers_by_process();
    // A server that does not answer is known by its process id alone.
    let shown = |process: &str| names.get(process).copied().unwrap_or(process).to_owned();
    let unit = name.split('/').nth(1).unwrap_or_default().to_owned();
    let (from, to) = (shown(&moved.from), shown(&moved.to));
    Ok(Moved { session: id_of(name).to_owned(), unit, from, to, fence: moved.fence })
}

fn id_of(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use proto::server::v1::{SessionStatus, UnitStatus};

    use super::*;

    fn snapshot(servers: &[(&str, &[&str])]) -> Snapshot {
        let status = |sessions: &[&str]| {
            let session = |id: &&str| SessionStatus {
                name: format!("contentUnits/life/sessions/{id}"),
                ..SessionStatus::default()
            };
            let sessions = sessions.iter().map(session).collect();
            let units = vec![UnitStatus { sessions, ..UnitStatus::default() }];
            GetStatusResponse { units, ..GetStatusResponse::default() }
        };
        let servers = servers.iter().map(|(at, sessions)| (Address::new(at), Ok(status(sessions)))).collect();
        Snapshot {
            daemons: Vec::new(),
            servers,
            gateways: Vec::new(),
            content_groups: Vec::new(),
            session_groups: 0,
        }
    }

    #[test]
    fn a_session_is_found_by_enough_of_its_digits_or_by_its_name() {
        let snapshot = snapshot(&[("a:1", &["0123"]), ("b:1", &["0123", "0145"])]);
        let first = "contentUnits/life/sessions/0123";
        for given in ["0123", "012", first] {
            let (at, name) = find(&snapshot, given).unwrap();
            assert_eq!((at.to_string().as_str(), name), ("a:1", first), "{given}");
        }
        assert_eq!(find(&snapshot, "014").unwrap().0.to_string(), "b:1");
        let error = |given| find(&snapshot, given).unwrap_err().to_string();
        assert_eq!(error("01"), "2 sessions begin with \"01\": give more digits");
        assert_eq!(error("9"), "no session \"9\" (NOT_FOUND)");
    }

    #[test]
    fn nobody_to_ask_is_told_from_no_session() {
        assert!(find(&snapshot(&[]), "0").unwrap_err().is::<OrderError>());
    }
}
