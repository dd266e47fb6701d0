//! `handover kill`: what the cluster is built to survive.

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::ClusterChoice;
use crate::cluster::Service;
use crate::cluster::state::Process;

/// Kill a process of the cluster on this computer with SIGKILL: it has no chance to say good-bye. `handover up` starts
/// it again after a while.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to kill
    target: Target,
    /// Its name, or its number: server-1, or 1
    name: String,
    #[command(flatten)]
    cluster: ClusterChoice,
}

/// What can be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Target {
    /// A content server, such as server-1
    Server,
    /// A machine, such as machine-1: its group communication daemon and its content server
    Machine,
    /// A gateway, such as gateway-1; its clients attach to another one
    Gateway,
    /// A membership server, such as membership-1; configurations go on without it
    Membership,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let state = args.cluster.find()?;
    let service = match args.target {
        Target::Server => Service::Server,
        Target::Machine => Service::Daemon,
        Target::Gateway => Service::Gateway,
        Target::Membership => Service::Membership,
    };
    let named = service.named(&args.name).and_then(|name| state.process(name));
    let Some(process) = named else {
        let names: Vec<_> = state.all(service).map(|process| process.name.to_string()).collect();
        bail!("there is no {service} {:?}; there are {}", args.name, names.join(", "));
    };
    let is_meant = |it: &&Process| match args.target {
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
