//! `handover config` and `handover log-level`: what any process of a cluster runs with, and what it logs.

use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Subcommand;
use model::{Address, Name};
use proto::process::v1 as pb;
use proto::process::v1::process_service_client::ProcessServiceClient;
use serde::Serialize;
use svc_kit::tls::Role;
use svc_kit::{LEVEL_TIME_MAX, settings};
use tonic::transport::Channel;

use super::ClusterChoice;
use super::order::OrderError;
use super::status::Format;
use crate::operator;
use crate::snapshot::limited;
use crate::table::Table;

/// Show the settings that a process runs with, and what set them.
///
/// That is a flag, a variable of the environment, or the configuration file; what nobody set has its default. Secrets are not
/// shown.
#[derive(Clone, Debug, clap::Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum ConfigCommand {
    /// Show all of them
    Show(ShowArgs),
}

#[derive(Clone, Debug, clap::Args)]
struct ShowArgs {
    #[command(flatten)]
    whom: Whom,
    /// How to show it
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

/// Show what a process logs, or change it while it runs.
///
/// Without --for, it stays so until it is changed again, or the process ends.
#[derive(Clone, Debug, clap::Args)]
pub struct LogLevelArgs {
    /// What to log from here on: a level, or directives such as warn,gcs_svc=debug; `reset` for what was set when the process
    /// started
    level: Option<String>,
    /// For how long, such as 10m, at most a day
    #[arg(long = "for", value_name = "DURATION", value_parser = time, requires = "level")]
    time: Option<Duration>,
    #[command(flatten)]
    whom: Whom,
}

fn time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time > LEVEL_TIME_MAX { Err("must be at most a day".to_owned()) } else { Ok(time) }
}

/// Which process is asked.
#[derive(Clone, Debug, clap::Args)]
struct Whom {
    /// The process: its name in the cluster on this computer, such as gateway-1, or its address
    #[arg(long, value_name = "PROCESS")]
    of: Process,
    #[command(flatten)]
    cluster: ClusterChoice,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Process {
    Called(Name),
    At(Address),
}

impl FromStr for Process {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Process, &'static str> {
        let at = settings::address::parse(text).map(Process::At);
        let called = || text.parse().ok().map(Process::Called);
        at.or_else(called).ok_or("must be a name, such as gateway-1, or HOST:PORT")
    }
}

impl Whom {
    async fn connect(&self) -> anyhow::Result<ProcessServiceClient<Channel>> {
        let (address, roles) = match &self.of {
            // It may be anything, and has to show what it is.
            Process::At(address) => {
                self.cluster.is_elsewhere();
                (address.clone(), Role::ALL.to_vec())
            }
            Process::Called(name) => {
                let state = self.cluster.find()?;
                let process = state.process(*name);
                let process = process.with_context(|| format!("no process {name} is in the cluster"))?;
                let address = process.address.clone().with_context(|| format!("{name} does not run"))?;
                (address, vec![process.service.role()])
            }
        };
        let wire = operator::wire()?;
        let mut failure = None;
        for role in roles {
            match wire.connect(&address, role).await {
                Ok(channel) => return Ok(ProcessServiceClient::new(channel)),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) => bail!(error),
            None => bail!(OrderError::Silent),
        }
    }
}

#[derive(Debug, Serialize)]
struct Setting {
    key: String,
    value: serde_json::Value,
    origin: String,
}

pub async fn config(args: ConfigArgs) -> anyhow::Result<ExitCode> {
    let ConfigCommand::Show(ShowArgs { whom, output }) = args.command;
    let answer = whom.connect().await?.get_config(limited(pb::GetConfigRequest {})).await;
    let settings = answer.map_err(OrderError::Refused)?.into_inner().settings.into_iter();
    let settings: Vec<_> = settings
        .map(|pb::Setting { key, value, origin }| {
            let value = serde_json::from_str(&value).unwrap_or(serde_json::Value::String(value));
            Setting { key, value, origin }
        })
        .collect();
    match output {
        Format::Table => {
            let mut table = Table::new(["KEY", "VALUE", "ORIGIN"]);
            for Setting { key, value, origin } in settings {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                table.row([key, value, origin]);
            }
            print!("{table}");
        }
        Format::Json => {
            println!("{}", serde_json::to_string_pretty(&serde_json::json!({ "settings": settings }))?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn log_level(args: LogLevelArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.whom.connect().await?;
    let level = match args.level {
        None => {
            let answer = client.get_log_level(limited(pb::GetLogLevelRequest {})).await;
            answer.map_err(OrderError::Refused)?.into_inner().level
        }
        Some(level) => {
            let level = if level == "reset" { String::new() } else { level };
            let duration = args.time.map(prost_types::Duration::try_from).transpose()?;
            let answer = client.set_log_level(limited(pb::SetLogLevelRequest { level, duration })).await;
            answer.map_err(OrderError::Refused)?.into_inner().level
        }
    };
    println!("{level}");
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_named_or_found_at_its_address() {
        assert_eq!("gateway-1".parse(), Ok(Process::Called(Name::literal("gateway-1"))));
        assert_eq!("10.0.0.7:7400".parse(), Ok(Process::At(Address::new("10.0.0.7:7400"))));
        assert!("A B".parse::<Process>().is_err());
    }
}
