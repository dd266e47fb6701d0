//! `handover session`: the sessions of a cluster, one by one.

mod ask;
mod events;
mod shown;

use std::process::ExitCode;

use clap::Subcommand;
use proto::server::v1::CloseSessionRequest;
use proto::server::v1::server_service_client::ServerServiceClient;
use serde_json::json;
use svc_kit::tls::Role;

use super::again::Again;
use super::order::{Asked, OrderError};
use super::status::Format;
use crate::operator;
use crate::snapshot::limited;
use ask::{Sessions, Wanted};
use shown::Roll;

/// Show the sessions of a cluster: which there are, and how each of them is; and close them.
///
/// Asks all content servers, and shows each session as its primary knows it; as another server does if the primary does
/// not answer. Exits with 69 if no server answers.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    #[command(about = "List sessions, all of them or those that a filter admits")]
    Ls(LsArgs),
    /// Show one session
    Get(GetArgs),
    /// Show what happened to a session, and why
    Events(GetArgs),
    /// Close a session, for good: its client is told that it has ended
    Close(GetArgs),
}

/// List sessions, by unit and id unless another order is given.
///
/// A filter is a comparison, or several with AND between: `unit = life AND primary = server-2 AND responses >= 100`.
/// Texts are compared with = or !=: session, unit, primary, backup, gateway, state (ACTIVE, CLAIMED, UNSERVED), client
/// (ATTACHED, DETACHED) and role; numbers also with <, <=, > and >=: requests, responses, edition, stalls.
/// Exits with 67 (64 + INVALID_ARGUMENT) if the filter or the order makes no sense, and says where.
#[derive(Clone, Debug, clap::Args)]
struct LsArgs {
    /// Only those that this filter admits
    #[arg(long, value_name = "FILTER", default_value = "", hide_default_value = true)]
    filter: String,
    /// In which order: fields, with commas between, and `desc` after those whose greatest values come first:
    /// session, unit, primary, gateway, requests, responses, edition, stalls, context_age
    #[arg(long, value_name = "FIELDS", default_value = "", hide_default_value = true)]
    order_by: String,
    #[command(flatten)]
    again: Again,
    #[command(flatten)]
    asked: Asked,
    /// How to show it
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

/// One session. Exits with 69 (64 + NOT_FOUND) if there is none.
#[derive(Clone, Debug, clap::Args)]
struct GetArgs {
    /// The session: its id, as many of the first digits as tell it from others, or
    /// contentUnits/UNIT/sessions/SESSION
    session: String,
    #[command(flatten)]
    asked: Asked,
    /// How to show it
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Ls(args) => return ls(args).await,
        Command::Get(args) => get(args).await?,
        Command::Events(args) => events(args).await?,
        Command::Close(args) => close(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn ls(args: LsArgs) -> anyhow::Result<ExitCode> {
    let wanted = Wanted { filter: args.filter, order_by: args.order_by };
    let show = async || {
        let sessions = Sessions::ask(&args.asked.addresses()?, &wanted).await?;
        let roll = Roll::of(&sessions.ordered(&wanted.order_by)?);
        match args.output {
            Format::Table => print!("{roll}"),
            Format::Json => println!("{}", serde_json::to_string_pretty(&roll)?),
        }
        Ok(ExitCode::SUCCESS)
    };
    args.again.show(show).await
}

async fn get(args: GetArgs) -> anyhow::Result<()> {
    let sessions = Sessions::ask(&args.asked.addresses()?, &Wanted::default()).await?;
    let session = shown::Row::of(sessions.find(&args.session)?);
    match args.output {
        Format::Table => print!("{}", session.in_full()),
        Format::Json => println!("{}", serde_json::to_string_pretty(&session)?),
    }
    Ok(())
}

async fn events(args: GetArgs) -> anyhow::Result<()> {
    let history = events::History::ask(&args.asked.addresses()?, &args.session).await?;
    match args.output {
        Format::Table => print!("{history}"),
        Format::Json => println!("{}", serde_json::to_string_pretty(&history)?),
    }
    Ok(())
}

async fn close(args: GetArgs) -> anyhow::Result<()> {
    let sessions = Sessions::ask(&args.asked.addresses()?, &Wanted::default()).await?;
    let (at, session) = sessions.find_with_server(&args.session)?;
    let name = session.name.clone();
    let channel = operator::wire()?.connect(at, Role::Server).await?;
    let request = CloseSessionRequest { name: name.clone() };
    let closed = ServerServiceClient::new(channel).close_session(limited(request)).await;
    closed.map_err(OrderError::Refused)?;
    let (session, unit) = (ask::id_of(&name), ask::unit_of(&name));
    match args.output {
        Format::Table => println!("session {session} of {unit} is closed"),
        Format::Json => println!("{}", json!({ "session": session, "unit": unit })),
    }
    Ok(())
}
