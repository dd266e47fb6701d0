//! `handover policy`: how available the sessions of a unit are, shown and changed.

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use model::{Address, UnitId};
use proto::server::v1::server_service_client::ServerServiceClient;
use proto::server::v1::{
    ChangePolicyRequest, ChangePolicyResponse, CommitLevel, Components, Rebuild, Uncertain, UnitStatus,
};
use serde::Serialize;
use server_svc::config::{Anew, Commit, Doubt, Where};
use svc_kit::tls::Role;
use tonic::Status;

use super::order::{Asked, OrderError};
use super::status::{Format, milliseconds};
use crate::operator;
use crate::snapshot::{Snapshot, limited};
use crate::words::counted;

/// Show the policy of a content unit, or change it while it is served. What is not named stays as it is.
///
/// All servers that hold the unit follow the new policy from the same place in its events on, and those that come later
/// do too, whatever their own settings say. Exits with 64 + N if the servers refuse with gRPC code N, such as 69
/// (NOT_FOUND) if no server holds the unit.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The content unit
    unit: UnitId,
    /// Servers beside the primary that apply every request
    #[arg(long, value_name = "NUMBER")]
    backups: Option<u8>,
    /// Propagate contexts that changed this often, such as 250ms
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    period: Option<Duration>,
    /// Where sessions are served while the cluster is partitioned
    #[arg(long, value_enum, value_name = "WHERE")]
    components: Option<Where>,
    /// What a new primary does about responses that the one before it may have sent
    #[arg(long, value_enum, value_name = "WHAT")]
    uncertain: Option<Doubt>,
    /// Send a response only when the session group has it
    #[arg(long, value_enum, value_name = "LEVEL")]
    commit: Option<Commit>,
    /// What becomes of a session that all servers have forgotten, and whose client comes back
    #[arg(long, value_enum, value_name = "WHETHER")]
    rebuild: Option<Anew>,
    #[command(flatten)]
    asked: Asked,
    /// How to show it
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

/// A policy, as it is shown.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Policy {
    unit: String,
    backups: u32,
    period_ms: u64,
    components: Where,
    uncertain: Doubt,
    commit: Commit,
    rebuild: Anew,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Policy { unit, backups, period_ms, components, uncertain, commit, rebuild } = self;
        let backups = counted(*backups as usize, "backup");
        let components = match components {
            Where::Any => "every component",
            Where::Primary => "only the primary component",
        };
        let uncertain = match uncertain {
            Doubt::Ask => "asked for at the gateway",
            Doubt::Resend => "sent again",
            Doubt::Skip => "left out",
            Doubt::Essential => "sent again if they are essential",
        };
        write!(f, "{unit}: {backups}, contexts propagated every {period_ms} ms, served by {components}, ")?;
        write!(f, "uncertain responses {uncertain}")?;
        match commit {
            Commit::None => {}
            Commit::Agreed => f.write_str(", responses committed as agreed")?,
            Commit::Safe => f.write_str(", responses committed as safe")?,
        }
        match rebuild {
            Anew::Never => Ok(()),
            Anew::Allowed => f.write_str(", forgotten sessions made anew from their cursors"),
        }
    }
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let snapshot = args.asked.snapshot().await?;
    let unit = args.unit.to_string();
    let (asked, known) = find(&snapshot, &unit)?;
    let request = ChangePolicyRequest {
        name: known.name.clone(),
        backups: args.backups.map(u32::from),
        period: args.period.map(prost_types::Duration::try_from).transpose()?,
        components: args.components.map(components).unwrap_or_default().into(),
        uncertain: args.uncertain.map(uncertain).unwrap_or_default().into(),
        commit: args.commit.map(commit).unwrap_or_default().into(),
        rebuild: args.rebuild.map(rebuild).unwrap_or_default().into(),
    };
    let changes = request != ChangePolicyRequest { name: known.name.clone(), ..Default::default() };
    let now = if changes {
        let channel = operator::wire()?.connect(asked, Role::Server).await?;
        let changed = ServerServiceClient::new(channel).change_policy(limited(request)).await;
        changed.map_err(OrderError::Refused)?.into_inner()
    } else {
        let UnitStatus { backups, period, components, uncertain, commit, rebuild, .. } = *known;
        ChangePolicyResponse { backups, period, components, uncertain, commit, rebuild }
    };
    let served = match now.components() {
        Components::Primary => Where::Primary,
        Components::Any | Components::Unspecified => Where::Any,
    };
    let doubt = match now.uncertain() {
        Uncertain::Ask | Uncertain::Unspecified => Doubt::Ask,
        Uncertain::Resend => Doubt::Resend,
        Uncertain::Skip => Doubt::Skip,
        Uncertain::Essential => Doubt::Essential,
    };
    let commit = match now.commit() {
        CommitLevel::None | CommitLevel::Unspecified => Commit::None,
        CommitLevel::Agreed => Commit::Agreed,
        CommitLevel::Safe => Commit::Safe,
    };
    let rebuild = match now.rebuild() {
        Rebuild::Never | Rebuild::Unspecified => Anew::Never,
        Rebuild::Allowed => Anew::Allowed,
    };
    let (backups, period_ms) = (now.backups, milliseconds(now.period.as_ref()));
    let policy = Policy { unit, backups, period_ms, components: served, uncertain: doubt, commit, rebuild };
    match args.output {
        Format::Table => println!("{policy}"),
        Format::Json => println!("{}", serde_json::to_string_pretty(&policy)?),
    }
    Ok(ExitCode::SUCCESS)
}

fn components(given: Where) -> Components {
    match given {
        Where::Any => Components::Any,
        Where::Primary => Components::Primary,
    }
}

fn uncertain(given: Doubt) -> Uncertain {
    match given {
        Doubt::Ask => Uncertain::Ask,
        Doubt::Resend => Uncertain::Resend,
        Doubt::Skip => Uncertain::Skip,
        Doubt::Essential => Uncertain::Essential,
    }
}

fn commit(given: Commit) -> CommitLevel {
    match given {
        Commit::None => CommitLevel::None,
        Commit::Agreed => CommitLevel::Agreed,
        Commit::Safe => CommitLevel::Safe,
    }
}

fn rebuild(given: Anew) -> Rebuild {
    match given {
        Anew::Never => Rebuild::Never,
        Anew::Allowed => Rebuild::Allowed,
    }
}

/// A server that holds the unit, and what it says of it.
pub(super) fn find<'a>(snapshot: &'a Snapshot, unit: &str) -> anyhow::Result<(&'a Address, &'a UnitStatus)> {
    let answers = || snapshot.servers.iter().filter_map(|(at, answer)| Some((at, answer.as_ref().ok()?)));
    if answers().next().is_none() {
        bail!(OrderError::Silent);
    }
    let name = format!("contentUnits/{unit}");
    let held = answers().flat_map(|(at, status)| status.units.iter().map(move |it| (at, it)));
    let holder = held.into_iter().find(|(_, it)| it.name == name);
    Ok(holder.ok_or_else(|| OrderError::Refused(not_held(unit)))?)
}

fn not_held(unit: &str) -> Status {
    svc_kit::status::not_found("unit", unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_shown_in_words() {
        let (components, uncertain, commit) = (Where::Primary, Doubt::Skip, Commit::Safe);
        let (unit, rebuild) = ("life".into(), Anew::Allowed);
        let policy = Policy { unit, backups: 1, period_ms: 250, components, uncertain, commit, rebuild };
        assert_eq!(
            policy.to_string(),
            "life: 1 backup, contexts propagated every 250 ms, served by only the primary component, uncertain \
             responses left out, responses committed as safe, forgotten sessions made anew from their cursors"
        );
    }
}
