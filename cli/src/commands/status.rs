//! `handover status`: what all processes of a cluster say about themselves, in one picture.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use model::{Address, Name};
use prost_types::Duration as PbDuration;
use proto::server::v1::{Role, SessionStatus, UnitStatus};
use serde::Serialize;
use svc_kit::settings;
use svc_kit::shutdown::Exit;

use super::ClusterChoice;
use super::again::Again;
use crate::cluster::Service;
use crate::cluster::state::{Process, State};
use crate::operator;
use crate::silence;
use crate::snapshot::{Addresses, Probe, Snapshot};
use crate::table::Table;
use crate::words::{counted, digits_of};

/// Show the configuration of the cluster, its groups, and for each session who serves it and how fresh its context is.
///
/// Asks the cluster that `handover up` or `handover demo` runs on this computer, or the processes whose addresses are
/// given. Exits with 69 if none of them answers.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    cluster: ClusterChoice,
    /// Ask this daemon; can be repeated
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', env = "HANDOVER_DAEMONS", value_parser = address)]
    daemon: Vec<Address>,
    /// Ask this content server; can be repeated
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', env = "HANDOVER_SERVERS", value_parser = address)]
    server: Vec<Address>,
    /// Ask this gateway; can be repeated
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', env = "HANDOVER_GATEWAYS", value_parser = address)]
    gateway: Vec<Address>,
    #[command(flatten)]
    again: Again,
    /// How to show it
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

/// How to show the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One JSON object.
    Json,
}

/// An address of a process.
pub fn address(text: &str) -> Result<Address, String> {
    settings::address::parse(text).ok_or_else(|| "must be HOST:PORT, such as 127.0.0.1:7400".to_owned())
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    args.again.show(async || show(&args).await).await
}

async fn show(args: &Args) -> anyhow::Result<ExitCode> {
    let given = Addresses {
        daemons: args.daemon.clone(),
        servers: args.server.clone(),
        gateways: args.gateway.clone(),
    };
    let state = if given == Addresses::default() {
        Some(args.cluster.find()?)
    } else {
        args.cluster.is_elsewhere();
        None
    };
    let addresses = state.as_ref().map_or(given, Addresses::from);
    let snapshot = Probe::new(operator::wire()?).snapshot(&addresses).await?;
    let status = Status::of(&snapshot, state.as_ref());
    match args.output {
        Format::Table => print!("{status}"),
        Format::Json => println!("{}", serde_json::to_string_pretty(&status)?),
    }
    let silent = snapshot.silent();
    for (at, why) in &silent {
        match state.as_ref().and_then(|state| name_at(state, at)) {
            Some(name) => silence::tell(&format_args!("{name} ({at})"), why),
            None => silence::tell(at, why),
        }
    }
    let is_silent = status.daemons.is_empty() && status.units.is_empty() && status.gateways.is_empty();
    Ok(match silent.iter().find(|(_, why)| silence::is_refusal(why)) {
        Some((_, refused)) if is_silent => super::code_of_refusal(refused),
        _ if is_silent => Exit::Unreachable.into(),
        _ => ExitCode::SUCCESS,
    })
}

/// The processes of a local cluster.
pub fn processes(state: &State) -> Table {
    let mut table = Table::new(["PROCESS", "ADDRESS", "METRICS", "PID", "CONTENT"]);
    for it in &state.processes {
        let pid = it.pid.map_or("-".to_owned(), |pid| pid.to_string());
        let held = it.content.as_deref().map(held).unwrap_or_default();
        table.row([
            it.name.to_string(),
            it.address.as_ref().map(Address::to_string).unwrap_or_default(),
            it.ops.as_ref().map(|it| format!("http://{it}/metrics")).unwrap_or_default(),
            pid,
            held,
        ]);
    }
    table
}

fn held(dir: &Path) -> String {
    let listed = server_svc::store::list(dir).unwrap_or_default();
    listed.into_keys().map(|unit| unit.to_string()).collect::<Vec<_>>().join(" ")
}

/// Who listens there.
fn name_at(state: &State, at: &Address) -> Option<Name> {
    state.processes.iter().find(|it| it.address.as_ref() == Some(at)).map(|it| it.name)
}

/// The content server that this process of a machine is or was: there is one on each.
fn server_of(state: &State, process: &str) -> Option<Name> {
    let is_its = |it: &&Process| it.machine.is_some_and(|machine| machine.as_str() == without_boot(process));
    state.all(Service::Server).find(is_its).map(|it| it.name)
}

/// The picture.
#[derive(Debug, Serialize)]
struct Status {
    daemons: Vec<DaemonRow>,
    servers: Vec<ServerRow>,
    units: Vec<UnitRow>,
    groups: GroupCounts,
    sessions: Vec<SessionRow>,
    gateways: Vec<GatewayRow>,
    unreachable: Vec<Unreachable>,
}

#[derive(Debug, Serialize)]
struct DaemonRow {
    daemon: String,
    configuration: String,
    members: Vec<String>,
    phase: String,
    processes: u32,
    groups: u64,
}

#[derive(Debug, Serialize)]
struct ServerRow {
    server: String,
    /// It takes no new sessions.
    cordoned: bool,
    /// It hands its sessions over, and ends.
    draining: bool,
}

impl ServerRow {
    /// What is said beside its name.
    fn mark(&self) -> &'static str {
        match (self.draining, self.cordoned) {
            (true, _) => " (draining)",
            (false, true) => " (cordoned)",
            (false, false) => "",
        }
    }
}

#[derive(Debug, Serialize)]
struct UnitRow {
    unit: String,
    view: String,
    servers: Vec<String>,
    backups: u32,
    period_ms: u64,
    edition: u32,
    /// Whether all servers that answer know the same sessions of the same servers. Otherwise this is what one of them says.
    agreed: bool,
    /// Of the state that its sessions share, if they do.
    shared_state: Option<SharedStateRow>,
    sessions: usize,
}

#[derive(Debug, Serialize)]
struct SharedStateRow {
    live: bool,
    voters: Vec<String>,
    updates: u64,
}

impl std::fmt::Display for SharedStateRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.live, self.voters.is_empty()) {
            (true, _) => {
                write!(f, "live, {}", counted(usize::try_from(self.updates).unwrap_or(usize::MAX), "update"))
            }
            (false, true) => f.write_str("not founded"),
            (false, false) => f.write_str("waits for voters"),
        }
    }
}

#[derive(Debug, Serialize)]
struct GroupCounts {
    content: usize,
    session: usize,
}

#[derive(Debug, Serialize)]
struct SessionRow {
    session: String,
    unit: String,
    primary: String,
    backups: Vec<String>,
    fence: String,
    gateway: String,
    responses: u64,
    requests: u64,
    context_age_ms: u64,
}

#[derive(Debug, Serialize)]
struct GatewayRow {
    gateway: String,
    sessions: usize,
    attached: usize,
    /// How often its sessions had to be moved since their servers said nothing.
    stalls: u32,
    requests_pending: u32,
    servers: Vec<String>,
    stale_messages: u64,
}

#[derive(Debug, Serialize)]
struct Unreachable {
    /// Its name, if the cluster is on this computer.
    process: Option<String>,
    address: String,
    reason: String,
}

impl Status {
    fn of(snapshot: &Snapshot, state: Option<&State>) -> Status {
        let servers = snapshot.servers_by_process();
        let members = snapshot.content_groups.iter().flat_map(|group| &group.members);
        let members: BTreeMap<_, _> = members.map(|it| (it.process.as_str(), it.name.as_str())).collect();
        let name = |process: &String| {
            let known = servers.get(process.as_str()).or_else(|| members.get(process.as_str()));
            let known = known.map(|name| (*name).to_owned());
            // One that does not answer any more, and has left its groups.
            let former = || state.and_then(|state| server_of(state, process)).map(|name| name.to_string());
            known.or_else(former).unwrap_or_else(|| process.clone())
        };
        let daemons = snapshot.up_daemons().map(|it| DaemonRow {
            daemon: it.daemon.clone(),
            configuration: it.configuration.clone(),
            members: it.members.clone(),
            phase: it.phase.clone(),
            processes: it.processes,
            groups: it.groups,
        });
        let servers = snapshot.up_servers().map(|it| ServerRow {
            server: it.name.clone(),
            cordoned: it.cordoned,
            draining: it.draining,
        });
        let servers = servers.collect();
        let mut units = BTreeMap::<&str, (&UnitStatus, bool)>::new();
        for unit in snapshot.up_servers().flat_map(|server| &server.units) {
            let (it, agreed) = units.entry(&unit.name).or_insert((unit, true));
            *agreed &= unit.agreed && unit.view == it.view;
        }
        let units = units.into_iter().map(|(unit, (it, agreed))| UnitRow {
            unit: last_part(unit),
            view: it.view.clone(),
            servers: it.members.iter().map(name).collect(),
            backups: it.backups,
            period_ms: milliseconds(it.period.as_ref()),
            edition: it.edition,
            agreed,
            shared_state: it.shared_state.as_ref().map(|state| SharedStateRow {
                live: state.live,
                voters: state.voters.clone(),
                updates: state.updates,
            }),
            sessions: it.sessions.len(),
        });
        let sessions = best_known_sessions(snapshot).into_iter().map(|(unit, it)| SessionRow {
            session: last_part(&it.name),
            unit: last_part(unit),
            primary: if it.primary.is_empty() { "-".to_owned() } else { name(&it.primary) },
            backups: it.backups.iter().map(name).collect(),
            fence: it.fence.clone(),
            gateway: it.gateway.clone(),
            responses: it.responses,
            requests: it.requests,
            context_age_ms: milliseconds(it.context_age.as_ref()),
        });
        let gateways = snapshot.up_gateways().map(|it| GatewayRow {
            gateway: it.name.clone(),
            sessions: it.sessions.len(),
            attached: it.sessions.iter().filter(|session| session.attached).count(),
            stalls: it.sessions.iter().map(|session| session.stalls).sum(),
            requests_pending: it.sessions.iter().map(|session| session.requests_pending).sum(),
            servers: it.servers.clone(),
            stale_messages: it.stale_messages,
        });
        let unreachable = snapshot.silent().into_iter().map(|(address, status)| Unreachable {
            process: state.and_then(|state| name_at(state, address)).map(|name| name.to_string()),
            address: address.to_string(),
            reason: svc_kit::status::sentence(status),
        });
        Status {
            daemons: daemons.collect(),
            servers,
            units: units.collect(),
            groups: GroupCounts { content: snapshot.content_groups.len(), session: snapshot.session_groups },
            sessions: sessions.collect(),
            gateways: gateways.collect(),
            unreachable: unreachable.collect(),
        }
    }
}

/// Every session, with its unit, as its primary knows it; or as another replica does if the primary does not answer.
fn best_known_sessions(snapshot: &Snapshot) -> Vec<(&str, &SessionStatus)> {
    let mut sessions = BTreeMap::<&str, (&str, &SessionStatus)>::new();
    for unit in snapshot.up_servers().flat_map(|server| &server.units) {
        for session in &unit.sessions {
            let known = sessions.entry(&session.name).or_insert((&unit.name, session));
            let is_better = session.role() == Role::Primary
                || (session.role() == Role::Backup && known.1.role() == Role::None);
            if is_better {
                *known = (&unit.name, session);
            }
        }
    }
    sessions.into_values().collect()
}

fn last_part(name: &str) -> String {
    name.rsplit('/').next().unwrap_or(name).to_owned()
}

/// A duration, in whole milliseconds.
pub fn milliseconds(duration: Option<&PbDuration>) -> u64 {
    let duration = duration.cloned().unwrap_or_default();
    let millis = duration.seconds.saturating_mul(1000).saturating_add(i64::from(duration.nanos / 1_000_000));
    u64::try_from(millis).unwrap_or_default()
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut daemons = Table::new(["DAEMON", "CONFIGURATION", "PHASE", "MEMBERS", "PROCESSES", "GROUPS"]);
        for it in &self.daemons {
            let members: Vec<&str> = it.members.iter().map(|daemon| without_boot(daemon)).collect();
            daemons.row([
                without_boot(&it.daemon).to_owned(),
                it.configuration.clone(),
                it.phase.clone(),
                members.join(" "),
                it.processes.to_string(),
                it.groups.to_string(),
            ]);
        }
        let mut units = Table::new([
            "UNIT",
            "SERVERS",
            "VIEW",
            "BACKUPS",
            "PERIOD",
            "EDITION",
            "SHARED STATE",
            "SESSIONS",
        ]);
        let marked = |name: &String| {
            let mark = self.servers.iter().find(|it| it.server == *name).map_or("", ServerRow::mark);
            format!("{name}{mark}")
        };
        for it in &self.units {
            units.row([
                it.unit.clone(),
                it.servers.iter().map(marked).collect::<Vec<_>>().join(" "),
                it.view.clone(),
                it.backups.to_string(),
                format!("{} ms", it.period_ms),
                it.edition.to_string(),
                it.shared_state.as_ref().map_or("-".to_owned(), SharedStateRow::to_string),
                it.sessions.to_string(),
            ]);
        }
        let mut sessions = Table::new([
            "SESSION",
            "UNIT",
            "PRIMARY",
            "BACKUPS",
            "FENCE",
            "GATEWAY",
            "RESPONSES",
            "REQUESTS",
            "CONTEXT AGE",
        ]);
        let digits = digits_of(self.sessions.iter().map(|it| it.session.as_str()));
        for it in &self.sessions {
            sessions.row([
                it.session.chars().take(digits).collect(),
                it.unit.clone(),
                it.primary.clone(),
                it.backups.join(" "),
                it.fence.clone(),
                it.gateway.clone(),
                it.responses.to_string(),
                it.requests.to_string(),
                format!("{} ms", it.context_age_ms),
            ]);
        }
        let mut gateways =
            Table::new(["GATEWAY", "SESSIONS", "ATTACHED", "STALLS", "REQUESTS PENDING", "STALE", "SERVERS"]);
        for it in &self.gateways {
            gateways.row([
                it.gateway.clone(),
                it.sessions.to_string(),
                it.attached.to_string(),
                it.stalls.to_string(),
                it.requests_pending.to_string(),
                it.stale_messages.to_string(),
                it.servers.join(" "),
            ]);
        }
        let tables = [daemons, units, sessions, gateways];
        for (n, table) in tables.iter().filter(|table| !table.is_empty()).enumerate() {
            write!(f, "{}{table}", if n == 0 { "" } else { "\n" })?;
        }
        if self.daemons.is_empty() {
            return Ok(());
        }
        let GroupCounts { content, session } = self.groups;
        writeln!(f, "\n{}, {}", counted(content, "content group"), counted(session, "session group"))
    }
}

/// The name of a daemon, without the number of its life.
fn without_boot(daemon: &str) -> &str {
    daemon.split_once('#').map_or(daemon, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proto::server::v1::GetStatusResponse;

    use super::*;

    const UP: &str = "machine-1#7/1";
    const DEAD: &str = "machine-2#7/1";

    fn snapshot() -> Snapshot {
        let members = vec![UP.to_owned(), DEAD.to_owned()];
        let unit = UnitStatus { name: "contentUnits/a".to_owned(), members, ..UnitStatus::default() };
        let server = GetStatusResponse {
            name: "server-1".to_owned(),
            process: UP.to_owned(),
            units: vec![unit],
            cordoned: true,
            ..GetStatusResponse::default()
        };
        let dead = (Address::new("127.0.0.1:2"), Err(tonic::Status::unavailable("nobody listens")));
        Snapshot {
            daemons: Vec::new(),
            servers: vec![(Address::new("127.0.0.1:1"), Ok(server)), dead],
            gateways: Vec::new(),
            content_groups: Vec::new(),
            session_groups: 0,
        }
    }

    fn state() -> State {
        let server = |number: usize| Process {
            name: Service::Server.name(number),
            service: Service::Server,
            machine: Some(Service::Daemon.name(number)),
            pid: Some(7),
            address: Some(Address::new(&format!("127.0.0.1:{number}"))),
            ops: None,
            log: PathBuf::new(),
            content: None,
        };
        State { cluster: Name::literal("local"), pid: 1, replicas: 2, processes: vec![server(1), server(2)] }
    }

    #[test]
    fn who_takes_no_new_sessions_is_marked() {
        let mut status = Status::of(&snapshot(), Some(&state()));
        assert!(status.to_string().contains("server-1 (cordoned) server-2 "), "{status}");
        status.servers[0].draining = true;
        assert!(status.to_string().contains("server-1 (draining) server-2 "), "{status}");
    }

    #[test]
    fn who_is_dead_has_its_name_where_it_is_known() {
        let known = Status::of(&snapshot(), Some(&state()));
        assert_eq!(known.units[0].servers, ["server-1", "server-2"]);
        assert_eq!(known.unreachable[0].process.as_deref(), Some("server-2"));
        let unknown = Status::of(&snapshot(), None);
        assert_eq!(unknown.units[0].servers, ["server-1", DEAD]);
        assert_eq!(unknown.unreachable[0].process, None);
    }
}
