//! The command line: what there is, and how it ends.

mod again;
mod certs;
mod check;
mod content;
mod cordon;
mod demo;
mod drain;
mod found;
mod group;
mod kill;
mod membership;
mod opening;
mod order;
mod policy;
mod process;
mod reader;
mod relocate;
mod session;
mod shape;
mod signals;
mod status;
mod talk;
mod token;
mod up;
mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use model::{Address, Name};
use svc_kit::shutdown::Exit;

use crate::cluster::Service;
use crate::cluster::state::{self, NoCluster, State};
use crate::commands::membership::AskError;
use crate::commands::order::OrderError;
use crate::operator;
use crate::silence;
use player::PlayError;
use svc_kit::dial::DialError;
use svc_kit::parent;

/// Exit codes from here on are those of gRPC, counted from `OK`.
const EXIT_GRPC: u8 = 64;

/// Streaming sessions that survive their servers, unnoticed by the client
#[derive(Debug, Parser)]
#[command(name = "handover", version, after_help = AFTER_HELP)]
struct CommandLine {
    /// End when standard input ends: for children, which must not outlive their parent
    #[arg(long, hide = true)]
    with_parent: bool,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
New here? `handover demo` shows what this is about in half a minute. `handover up` starts a cluster to play with; \
then, in another terminal, `handover watch mandelbrot`, `handover status` and `handover kill server server-1`.";

#[derive(Debug, Subcommand)]
enum Command {
    #[command(
        about = "Play films on a cluster of real processes while killing servers, and check what every client received"
    )]
    Demo(demo::Args),
    #[command(about = "Start a cluster on this computer, and keep it until Ctrl-C")]
    Up(up::Args),
    #[command(about = "Play a film on the terminal, as any client would")]
    Watch(watch::Args),
    #[command(about = "Have a session with any service: requests from the terminal, responses on it")]
    Talk(talk::Args),
    #[command(about = "Show configuration, groups, sessions and who serves them")]
    Status(status::Args),
    #[command(about = "Show which machines are in the cluster and why, and keep machines out")]
    Membership(membership::Args),
    #[command(about = "Show which groups there are, and the last views of one: who came, who left and why")]
    Group(group::Args),
    #[command(about = "Show the sessions of a cluster: which there are, and how each of them is")]
    Session(session::Args),
    #[command(about = "Move a session to another server while it goes on")]
    Move(relocate::Args),
    #[command(about = "Show the policy of a content unit, or change it while it is served")]
    Policy(policy::Args),
    #[command(about = "Found the state that the sessions on a unit share")]
    Found(found::Args),
    #[command(about = "Have a content server take no new sessions, and keep those that it has")]
    #[command(long_about = cordon::CORDON)]
    Cordon(cordon::Args),
    #[command(about = "Have a content server take its share of sessions again")]
    #[command(long_about = cordon::UNCORDON)]
    Uncordon(cordon::Args),
    #[command(about = "Have a content server hand its sessions over and end")]
    Drain(drain::Args),
    #[command(about = "Show the settings that a process runs with, and what set them")]
    Config(process::ConfigArgs),
    #[command(about = "Show what a process logs, or change it while it runs")]
    LogLevel(process::LogLevelArgs),
    #[command(about = "Kill a process of the cluster on this computer with SIGKILL")]
    Kill(kill::Args),
    #[command(about = "Add content units, and list them")]
    Content(content::Args),
    #[command(about = "Issue certificates for the processes of a cluster")]
    Certs(certs::Args),
    #[command(about = "Draw a token for a client or an operator, and add it to a list")]
    Token(token::Args),
    #[command(about = "Judge the traces of a run: does every property that Handover promises hold?")]
    Check(check::Args),
    #[command(about = "Run the protocols in a simulated world full of faults, and judge every run")]
    Sim(sim::cli::Args),
    #[command(
        about = "Start a cluster, play films on it, kill, stop, drain and cut off its processes by a seed, and judge what came of it"
    )]
    Chaos(chaos::Args),
    #[command(about = "Run a membership server")]
    #[command(name = "membership-svc")]
    MembershipServer(membership_svc::config::Args),
    #[command(about = "Run a group communication daemon")]
    #[command(name = "gcs-svc")]
    Daemon(gcs_svc::config::Args),
    #[command(about = "Run a content server")]
    #[command(name = "server-svc")]
    Server(server_svc::config::Args),
    #[command(about = "Run a gateway")]
    Gateway(gateway::config::Args),
}

impl Command {
    fn is_service(&self) -> bool {
        matches!(
            self,
            Command::MembershipServer(_) | Command::Daemon(_) | Command::Server(_) | Command::Gateway(_)
        )
    }
}

/// Runs the command that the arguments of this process name.
pub fn main() -> ExitCode {
    let line = CommandLine::parse();
    if line.with_parent {
        parent::end_with_parent();
    }
    if !line.command.is_service() {
        reader::may_leave();
    }
    match line.command {
        Command::MembershipServer(args) => membership_svc::main(&args),
        Command::Daemon(args) => gcs_svc::main(&args),
        Command::Server(args) => server_svc::main(&args),
        Command::Gateway(args) => gateway::main(&args),
        Command::Sim(args) => sim::cli::run(args),
        Command::Check(args) => exit(check::run(&args)),
        Command::Certs(args) => exit(certs::run(&args)),
        Command::Token(args) => exit(token::run(&args)),
        Command::Chaos(args) => exit(chaos::run(args)),
        Command::Kill(args) => exit(kill::run(&args).map(|()| Exit::Ok.into())),
        Command::Demo(args) => exit(on_runtime(demo::run(args))),
        Command::Up(args) => exit(on_runtime(up::run(args))),
        Command::Watch(args) => exit(on_runtime(watch::run(args))),
        Command::Talk(args) => exit(on_runtime(talk::run(args))),
        Command::Status(args) => exit(on_runtime(status::run(args))),
        Command::Membership(args) => exit(on_runtime(membership::run(args))),
        Command::Group(args) => exit(on_runtime(group::run(args))),
        Command::Session(args) => exit(on_runtime(session::run(args))),
        Command::Move(args) => exit(on_runtime(relocate::run(args))),
        Command::Policy(args) => exit(on_runtime(policy::run(args))),
        Command::Found(args) => exit(on_runtime(found::run(args))),
        Command::Cordon(args) => exit(on_runtime(cordon::cordon(args))),
        Command::Uncordon(args) => exit(on_runtime(cordon::uncordon(args))),
        Command::Drain(args) => exit(on_runtime(drain::run(args))),
        Command::Config(args) => exit(on_runtime(process::config(args))),
        Command::LogLevel(args) => exit(on_runtime(process::log_level(args))),
        Command::Content(args) => exit(on_runtime(content::run(args))),
    }
}

fn on_runtime(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(command)
}

fn exit(ended: anyhow::Result<ExitCode>) -> ExitCode {
    ended.unwrap_or_else(|error| {
        let advice = refused(&error).and_then(silence::advice).map(|it| format!("; {it}"));
        eprintln!("handover: {error:#}{}", advice.unwrap_or_default());
        code_of(&error)
    })
}

/// The refusal that a command failed with.
fn refused(error: &anyhow::Error) -> Option<&tonic::Status> {
    match (error.downcast_ref(), error.downcast_ref(), error.downcast_ref()) {
        (Some(AskError::Refused(status)), _, _)
        | (_, Some(OrderError::Refused(status)), _)
        | (_, _, Some(PlayError::Refused(status))) => Some(status),
        _ => None,
    }
}

fn code_of(error: &anyhow::Error) -> ExitCode {
    if let Some(status) = refused(error) {
        return code_of_refusal(status);
    }
    let no_server = matches!(error.downcast_ref(), Some(AskError::Silent));
    let nobody = matches!(
        error.downcast_ref(),
        Some(OrderError::Silent | OrderError::NoDaemon | OrderError::NoGateway)
    );
    let no_gateway = matches!(error.downcast_ref(), Some(PlayError::Unreachable { .. }));
    if no_server || nobody || no_gateway || error.is::<NoCluster>() || error.is::<DialError>() {
        return Exit::Unreachable.into();
    }
    Exit::Error.into()
}

fn code_of_refusal(status: &tonic::Status) -> ExitCode {
    // gRPC has 17 codes.
    ExitCode::from(EXIT_GRPC + status.code() as u8)
}

/// Which cluster is meant.
#[derive(Clone, Debug, clap::Args)]
struct ClusterChoice {
    /// The name of the cluster: of one on this computer if several are running, and in certificates
    #[arg(long, value_name = "NAME", env = "HANDOVER_CLUSTER")]
    cluster: Option<Name>,
}

impl ClusterChoice {
    /// The one on this computer.
    fn find(&self) -> anyhow::Result<State> {
        let state = state::find(&state::base(), self.cluster)?;
        operator::expect(state.cluster);
        Ok(state)
    }

    /// Where to ask processes of a kind: at these addresses if any are given, which may be those of any cluster.
    fn addresses(&self, service: Service, given: &[Address]) -> anyhow::Result<Vec<Address>> {
        if given.is_empty() {
            return Ok(self.find()?.addresses(service));
        }
        self.is_elsewhere();
        Ok(given.to_vec())
    }

    /// Takes note of its name alone, where addresses are given.
    fn is_elsewhere(&self) {
        self.cluster.into_iter().for_each(operator::expect);
    }
}

/// How this program is called, as short as possible: for hints of what to type next.
fn program() -> String {
    let exe = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("handover"));
    let on_path = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|dir| exe.parent().is_some_and(|parent| parent == dir))
    });
    let name = || exe.file_name().map(Path::new).unwrap_or(&exe).to_owned();
    let here = std::env::current_dir().unwrap_or_default();
    let shown =
        if on_path { name() } else { exe.strip_prefix(&here).map_or_else(|_| exe.clone(), Path::to_owned) };
    shown.display().to_string()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn each_kind_of_error_has_its_exit_code() {
        let code = |error: anyhow::Error| format!("{:?}", code_of(&error));
        let expected = |code: u8| format!("{:?}", ExitCode::from(code));
        assert_eq!(code(NoCluster::None.into()), expected(69));
        assert_eq!(code(PlayError::Unreachable { reason: String::new() }.into()), expected(69));
        assert_eq!(code(PlayError::Refused(tonic::Status::not_found("no such unit")).into()), expected(69));
        assert_eq!(code(AskError::Silent.into()), expected(69));
        assert_eq!(code(AskError::Refused(tonic::Status::invalid_argument("name")).into()), expected(67));
        assert_eq!(code(OrderError::Silent.into()), expected(69));
        assert_eq!(code(OrderError::NoGateway.into()), expected(69));
        let refused = tonic::Status::failed_precondition("not there");
        assert_eq!(code(OrderError::Refused(refused).into()), expected(73));
        assert_eq!(code(anyhow::anyhow!("anything else")), expected(1));
    }
}
