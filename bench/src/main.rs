//! The benchmark: the workloads of record, on daemons that are processes and members that are processes, and beside
//! them the same on Corosync.
//!
//! | part | topic |
//! | --- | --- |
//! | `plan` | what to run: the command line |
//! | `bed` | what a workload needs of a system |
//! | `handover`, `member` | Handover's daemons, and a member of its groups |
//! | `corosync` | Corosync's daemons in network namespaces; its member is `peers/cpg.c` |
//! | `namespaces` | network namespaces, and cuts between them |
//! | `throughput`, `latency`, `groups`, `failure`, `growth` | the workloads W1 to W5 |
//! | `detection` | silence: how soon it is noticed, and how often it is none |
//! | `membership` | what a change costs membership servers |
//! | `sessions` | the workloads S1 to S7 of sessions, beside a bare tonic server |
//! | `compare` | both systems in turns, and the ratios of their medians |
//! | `child`, `usage`, `samples`, `outcome` | processes, what they use, quantiles, and how results are shown |
//!
//! Members are processes of their own on either system, and both kinds take the same orders and say the same lines,
//! so each workload is written once.

mod bed;
mod child;
mod compare;
mod corosync;
mod detection;
mod failure;
mod groups;
mod growth;
mod handover;
mod latency;
mod member;
mod membership;
mod namespaces;
mod outcome;
mod plan;
mod samples;
mod sessions;
mod throughput;
mod usage;

use std::process::ExitCode;

use anyhow::bail;
use clap::{Parser, Subcommand};

use crate::bed::System;
use crate::outcome::Outcomes;
use crate::plan::Plan;

/// Measures Handover's group communication, alone or beside Corosync
///
/// Every result is a line of JSON on standard output; a table of all follows on standard error.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct CommandLine {
    /// End when standard input ends: for children, which must not outlive their parent
    #[arg(long, hide = true)]
    with_parent: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// W1: all members send as fast as flow control lets them
    Throughput(Choice),
    /// W2: one message outstanding, from a member beside the sequencer and from one that is not
    Latency(Choice),
    /// W3: joins of fresh groups, one after the other and all at once
    Groups(Choice),
    /// W4: a daemon is killed, a member is killed
    Failure(Choice),
    /// W5: more daemons, and many groups
    Growth(Plan),
    /// How long a silent daemon is not noticed, and how often somebody is taken for silent who is only slow
    Detection(detection::Args),
    /// What a change of membership costs: messages between servers, and the time until the last daemon knows
    Membership(membership::Args),
    /// W1 to W5
    All(Plan),
    /// W1 to W4 on Corosync, Handover, Corosync, Handover..., and the ratios of the medians
    Compare(compare::Args),
    /// S1 to S7: sessions on a cluster, and beside it on a bare tonic server
    Sessions(sessions::Args),
    /// A bare tonic server with the contract of a gateway
    #[command(hide = true)]
    Bare(sessions::BareArgs),
    /// A member of groups
    #[command(hide = true)]
    Member(member::Args),
    /// A membership server
    #[command(name = "membership-svc", hide = true)]
    MembershipServer(membership_svc::config::Args),
    /// A daemon
    #[command(name = "gcs-svc", hide = true)]
    Daemon(gcs_svc::config::Args),
    /// A content server
    #[command(name = "server-svc", hide = true)]
    Server(server_svc::config::Args),
    /// A gateway
    #[command(hide = true)]
    Gateway(gateway::config::Args),
}

/// A workload that either system can run.
#[derive(Debug, clap::Args)]
struct Choice {
    /// On which system
    #[arg(long, value_enum, default_value_t = System::Handover)]
    on: System,
    #[command(flatten)]
    plan: Plan,
}

fn main() -> ExitCode {
    let line = CommandLine::parse();
    if line.with_parent {
        child::end_with_parent();
    }
    let ended = match line.command {
        Command::MembershipServer(args) => return membership_svc::main(&args),
        Command::Daemon(args) => return gcs_svc::main(&args),
        Command::Server(args) => return server_svc::main(&args),
        Command::Gateway(args) => return gateway::main(&args),
        Command::Bare(args) => on_runtime(sessions::bare(&args)),
        Command::Sessions(args) => on_runtime(sessions::run(&args)),
        Command::Member(args) => on_runtime(member::run(args)),
        Command::Detection(args) => on_runtime(detection::run(&args)),
        Command::Membership(args) => on_runtime(membership::run(&args)),
        Command::Compare(args) => on_runtime(compare::run(&args)),
        Command::Throughput(choice) => on_runtime(one(choice, throughput::NAME)),
        Command::Latency(choice) => on_runtime(one(choice, latency::NAME)),
        Command::Groups(choice) => on_runtime(one(choice, groups::NAME)),
        Command::Failure(choice) => on_runtime(one(choice, failure::NAME)),
        Command::Growth(plan) => on_runtime(all(plan, &[growth::NAME])),
        Command::All(plan) => on_runtime(all(plan, &ALL)),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// W1 to W5.
const ALL: [&str; 5] = [throughput::NAME, latency::NAME, groups::NAME, failure::NAME, growth::NAME];

/// One thread is enough for whoever measures, and leaves the others to the daemons.
fn on_runtime(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

async fn one(choice: Choice, workload: &str) -> anyhow::Result<()> {
    let mut outcomes = Outcomes::new();
    run(choice.on, workload, &choice.plan, &mut outcomes).await?;
    eprintln!("\n{outcomes}");
    Ok(())
}

async fn all(plan: Plan, workloads: &[&str]) -> anyhow::Result<()> {
    let mut outcomes = Outcomes::new();
    for workload in workloads {
        run(System::Handover, workload, &plan, &mut outcomes).await?;
    }
    eprintln!("\n{outcomes}");
    Ok(())
}

/// Runs a workload on a system that is started for it.
async fn run(system: System, workload: &str, plan: &Plan, outcomes: &mut Outcomes) -> anyhow::Result<()> {
    match (system, workload) {
        (System::Handover, throughput::NAME) => throughput::run::<handover::Cluster>(plan, outcomes).await,
        (System::Handover, latency::NAME) => latency::run::<handover::Cluster>(plan, outcomes).await,
        (System::Handover, groups::NAME) => groups::run::<handover::Cluster>(plan, outcomes).await,
        (System::Handover, failure::NAME) => failure::run::<handover::Cluster>(plan, outcomes).await,
        (System::Handover, growth::NAME) => growth::run(plan, outcomes).await,
        (System::Corosync, throughput::NAME) => throughput::run::<corosync::Cluster>(plan, outcomes).await,
        (System::Corosync, latency::NAME) => latency::run::<corosync::Cluster>(plan, outcomes).await,
        (System::Corosync, groups::NAME) => groups::run::<corosync::Cluster>(plan, outcomes).await,
        (System::Corosync, failure::NAME) => failure::run::<corosync::Cluster>(plan, outcomes).await,
        (system, workload) => bail!("there is no workload {workload} for {system}"),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }
}
