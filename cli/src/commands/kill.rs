//! `handover kill`: what the cluster is built to survive.

use std::str::FromStr;

use anyhow::{Context, bail};
use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::ClusterChoice;
use crate::cluster::Service;
use crate::cluster::state::Process;

/// Kill a process of the cluster on this computer with SIGKILL: it has no chance to say good-bye. `handover up` starts
/// it again after a while.
///
/// A machine is its group communication daemon and its content server. Clients of a gateway attach to another one.
/// Configurations go on without their membership servers.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to kill: server-1, machine-1, gateway-1 or membership-1; or one of these kinds
    what: What,
    /// Its name or its number, after a kind: server-1, or 1
    name: Option<String>,
    #[command(flatten)]
    cluster: ClusterChoice,
}

/// What can be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Target {
    Server,
    Machine,
    Gateway,
    Membership,
}

impl Target {
    fn service(self) -> Service {
        match self {
            Target::Server => Service::Server,
            Target::Machine => Service::Daemon,
            Target::Gateway => Service::Gateway,
            Target::Membership => Service::Membership,
        }
    }
}

/// A kind, or a name, of which the kind is a part.
#[derive(Clone, Debug, PartialEq, Eq)]
struct What {
    target: Target,
    name: Option<String>,
}

impl FromStr for What {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<What, &'static str> {
        let (kind, number) = text.split_once('-').map_or((text, None), |(kind, rest)| (kind, Some(rest)));
        let target = Target::from_str(kind, false).map_err(|_| "neither a kind nor a name of a process")?;
        Ok(What { target, name: number.map(|_| text.to_owned()) })
    }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let state = args.cluster.find()?;
    let What { target, name } = &args.what;
    let service = target.service();
    let names = || state.all(service).map(|process| process.name.to_string()).collect::<Vec<_>>().join(", ");
    let name = match (name, &args.name) {
        (Some(name), None) | (None, Some(name)) => name,
        (None, None) => bail!("which {service}? there are {}", names()),
        (Some(first), Some(second)) => bail!("kill one at a time, {first} or {second}"),
    };
    let Some(process) = service.named(name).and_then(|name| state.process(name)) else {
        bail!("there is no {service} {name:?}; there are {}", names());
    };
    let is_meant = |it: &&Process| match target {
        Target::Machine => it.machine == Some(process.name),
        Target::Server | Target::Gateway | Target::Membership => it.name == process.name,
    };
    let victims: Vec<(&Process, u32)> =
        state.processes.iter().filter(is_meant).filter_map(|it| Some((it, it.pid?))).collect();
    if victims.is_empty() {
        bail!("{} is not running", process.name);
    }
    for (victim, pid) in &victims {
        let killed = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        killed.with_context(|| format!("cannot kill {} (process {pid})", victim.name))?;
    }
    for (victim, pid) in victims {
        println!("killed {} (process {pid})", victim.name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_its_kind_and_a_kind_may_stand_alone() {
        for (text, target, name) in [
            ("membership-1", Target::Membership, Some("membership-1")),
            ("machine-2", Target::Machine, Some("machine-2")),
            ("gateway", Target::Gateway, None),
        ] {
            let name = name.map(str::to_owned);
            assert_eq!(text.parse(), Ok(What { target, name }));
        }
        for text in ["", "1", "viewer-1", "Server-1"] {
            assert!(text.parse::<What>().is_err(), "{text:?}");
        }
    }
}
