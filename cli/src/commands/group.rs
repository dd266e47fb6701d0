//! `handover group`: which groups there are, and what happened to them.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;
use model::Address;
use proto::gcs::v1 as pb;
use proto::gcs::v1::group_service_client::GroupServiceClient;
use serde::Serialize;
use serde_json::json;
use svc_kit::dial::Wire;
use svc_kit::status;
use svc_kit::tls::Role;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::ClusterChoice;
use super::order::OrderError;
use super::status::Format;
use crate::cluster::Service;
use crate::operator;
use crate::silence;
use crate::snapshot::limited;
use crate::table::Table;
use crate::words::time;

/// Groups and views are asked for in pages of this size.
const PAGE: i32 = 1000;

/// Show which groups there are, and what happened to them.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    #[command(about = "List the groups that have members, and who they are")]
    Ls(LsArgs),
    #[command(about = "Show the last views of a group, the newest last: who came, who left and why")]
    Views(ViewsArgs),
}

/// Show the last views of a group, the newest last: who came, who left and why.
///
/// These are the views that processes of the daemons were told. Exits with 69 if no daemon remembers one.
#[derive(Clone, Debug, clap::Args)]
struct ViewsArgs {
    /// The group, such as content/mandelbrot
    group: String,
    #[command(flatten)]
    asked: Asked,
}

/// List the groups that have members, and who they are.
///
/// Shows them as the daemons know them: one that has members on both sides of a separation has a view on each. Exits with 69 if
/// no daemon answers.
#[derive(Clone, Debug, clap::Args)]
struct LsArgs {
    /// Only groups whose names begin with this, such as content/
    #[arg(default_value = "", hide_default_value = true)]
    prefix: String,
    #[command(flatten)]
    asked: Asked,
}

#[derive(Clone, Debug, clap::Args)]
struct Asked {
    #[command(flatten)]
    cluster: ClusterChoice,
    /// Ask this daemon; can be repeated
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', env = "HANDOVER_DAEMONS", value_parser = super::status::address)]
    daemon: Vec<Address>,
    /// How to show it
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

impl Asked {
    fn addresses(&self) -> anyhow::Result<Vec<Address>> {
        self.cluster.addresses(Service::Daemon, &self.daemon)
    }
}

#[derive(Debug, Serialize)]
struct Group {
    group: String,
    view: String,
    members: Vec<String>,
}

#[derive(Debug, Serialize)]
struct View {
    time: String,
    view: String,
    cause: &'static str,
    members: Vec<String>,
    joined: Vec<String>,
    left: Vec<String>,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Ls(args) => ls(&args).await?,
        Command::Views(args) => views(&args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn ls(LsArgs { prefix, asked }: &LsArgs) -> anyhow::Result<()> {
    let daemons = asked.addresses()?;
    let wire = operator::wire()?;
    let (mut groups, mut is_answered, mut refusal) = (BTreeMap::new(), false, None);
    for at in &daemons {
        match groups_of(&wire, at, prefix).await {
            Ok(known) => {
                is_answered = true;
                let known = known.into_iter().map(named);
                groups.extend(known.map(|it| ((it.group.clone(), it.view.clone()), it)));
            }
            Err(error) => {
                silence::tell(at, &error);
                refusal = refusal.or(Some(error).filter(silence::is_refusal));
            }
        }
    }
    if !is_answered {
        bail!(refusal.map_or(OrderError::NoDaemon, OrderError::Refused));
    }
    let groups: Vec<Group> = groups.into_values().collect();
    match asked.output {
        Format::Table => {
            let mut table = Table::new(["GROUP", "VIEW", "MEMBERS"]);
            for it in groups {
                table.row([it.group, it.view, it.members.join(" ")]);
            }
            print!("{table}");
        }
        Format::Json => println!("{}", serde_json::to_string_pretty(&json!({ "groups": groups }))?),
    }
    Ok(())
}

fn named(it: pb::Group) -> Group {
    let members = it.members.into_iter().map(|member| member.name).collect();
    Group { group: it.name, view: view_id(it.view), members }
}

fn view_id(id: Option<pb::GroupViewId>) -> String {
    let id = id.unwrap_or_default();
    format!("{}+{}", id.configuration, id.position)
}

async fn views(ViewsArgs { group, asked }: &ViewsArgs) -> anyhow::Result<()> {
    let daemons = asked.addresses()?;
    let wire = operator::wire()?;
    let (mut told, mut is_answered, mut refusal) = (Vec::new(), false, None);
    for at in &daemons {
        match pages(&wire, at, group).await {
            Ok(views) => {
                is_answered = true;
                told.extend(views);
            }
            Err(error) if error.code() == Code::NotFound => is_answered = true,
            Err(error) if error.code() == Code::InvalidArgument => bail!(OrderError::Refused(error)),
            Err(error) => {
                silence::tell(at, &error);
                refusal = refusal.or(Some(error).filter(silence::is_refusal));
            }
        }
    }
    if !is_answered {
        bail!(refusal.map_or(OrderError::NoDaemon, OrderError::Refused));
    }
    if told.is_empty() {
        bail!(OrderError::Refused(status::not_found("group", group.as_str())));
    }
    let views = once(told);
    match asked.output {
        Format::Table => {
            let mut table = Table::new(["TIME", "VIEW", "CAUSE", "MEMBERS", "JOINED", "LEFT"]);
            for it in views {
                let [members, joined, left] = [it.members, it.joined, it.left].map(|names| names.join(" "));
                table.row([it.time, it.view, it.cause.to_owned(), members, joined, left]);
            }
            print!("{table}");
        }
        Format::Json => println!("{}", serde_json::to_string_pretty(&json!({ "views": views }))?),
    }
    Ok(())
}

/// Each view once, as the daemon tells it that saw most processes come along into it, in the order of time.
fn once(mut told: Vec<pb::PastView>) -> Vec<View> {
    told.sort_by_key(|it| it.time.map(|time| (time.seconds, time.nanos)));
    let names: BTreeMap<String, String> = told
        .iter()
        .flat_map(|it| it.view.iter().flat_map(|view| &view.members))
        .map(|member| (member.process.clone(), member.name.clone()))
        .collect();
    let newcomers =
        |it: &pb::PastView| it.view.iter().flat_map(|it| &it.members).filter(|it| it.joined).count();
    let mut best = Vec::<pb::PastView>::new();
    for view in told {
        let id = |it: &pb::PastView| it.view.as_ref().and_then(|view| view.id.clone());
        match best.iter_mut().find(|known| id(known) == id(&view)) {
            None => best.push(view),
            Some(known) if newcomers(&view) < newcomers(known) => *known = view,
            Some(_) => {}
        }
    }
    best.into_iter().map(|it| shown(it, &names)).collect()
}

fn shown(it: pb::PastView, names: &BTreeMap<String, String>) -> View {
    let cause = match it.cause() {
        pb::ViewCause::Configuration => "configuration",
        pb::ViewCause::Processes => "processes",
        pb::ViewCause::Unspecified => "unknown",
    };
    let view = it.view.unwrap_or_default();
    let joined = view.members.iter().filter(|member| member.joined);
    View {
        time: time(&it.time.unwrap_or_default()),
        view: view_id(view.id),
        cause,
        joined: joined.map(|member| member.name.clone()).collect(),
        members: view.members.iter().map(|member| member.name.clone()).collect(),
        left: view.left.iter().map(|process| names.get(process).unwrap_or(process).clone()).collect(),
    }
}

async fn groups_of(wire: &Wire, at: &Address, prefix: &str) -> Result<Vec<pb::Group>, Status> {
    let mut client = client(wire, at)?;
    let (mut groups, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListGroupsRequest { page_size: PAGE, page_token, prefix: prefix.to_owned() };
        let page = client.list_groups(limited(request)).await?.into_inner();
        groups.extend(page.groups);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(groups);
        }
    }
}

fn client(wire: &Wire, at: &Address) -> Result<GroupServiceClient<Channel>, Status> {
    let endpoint = wire.endpoint(at, Role::Machine).map_err(|it| Status::unavailable(it.to_string()))?;
    Ok(GroupServiceClient::new(endpoint.connect_lazy()))
}

async fn pages(wire: &Wire, at: &Address, group: &str) -> Result<Vec<pb::PastView>, Status> {
    let mut client = client(wire, at)?;
    let (mut views, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListViewsRequest { group: group.to_owned(), page_size: PAGE, page_token };
        let page = client.list_views(limited(request)).await?.into_inner();
        views.extend(page.views);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(views);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(seconds: i64, position: u64, members: &[(&str, bool)], left: &[&str]) -> pb::PastView {
        let member = |(name, joined): &(&str, bool)| pb::Member {
            process: format!("p/{name}"),
            name: (*name).to_owned(),
            joined: *joined,
            ..pb::Member::default()
        };
        pb::PastView {
            time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            cause: pb::ViewCause::Processes.into(),
            view: Some(pb::GroupView {
                id: Some(pb::GroupViewId { configuration: "v1.0".into(), position }),
                members: members.iter().map(member).collect(),
                left: left.iter().map(|name| format!("p/{name}")).collect(),
                ..pb::GroupView::default()
            }),
        }
    }

    #[test]
    fn views_that_several_daemons_tell_are_shown_once_as_those_who_were_there_before_saw_them() {
        let told = vec![
            view(2, 2, &[("a", false), ("b", true)], &[]),
            view(3, 3, &[("a", false)], &["b"]),
            view(1, 1, &[("a", true)], &[]),
            view(2, 2, &[("a", true), ("b", true)], &[]),
        ];
        let shown: Vec<_> = once(told).into_iter().map(|it| (it.view, it.joined, it.left)).collect();
        let names = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            shown,
            [
                ("v1.0+1".to_owned(), names(&["a"]), names(&[])),
                ("v1.0+2".to_owned(), names(&["b"]), names(&[])),
                ("v1.0+3".to_owned(), names(&[]), names(&["b"])),
            ]
        );
    }
}
