//! Traces for tests, written as the story of a run. A script keeps track of who is where, so that each step makes
//! well-formed records; a bad trace is a story in which a step is missing, doubled or out of place.
//!
//! Daemons are called by letters, `"a b c"`; processes by daemon and connection, `"a/1 b/1"`; there is one content
//! unit and one session.

use std::collections::{BTreeMap, BTreeSet};

use model::trace::{Event, Role};
use model::{
    Boot, Configuration, ConfigurationId, DaemonId, Digest, Fence, GroupName, GroupView, GroupViewId, Level,
    Member, MessageId, ProcessId, SessionId, StartId, UnitId,
};

use crate::judge::{Judge, Report};
use crate::property::Position;

/// A trace, and which properties reject it: none if it is good.
pub(crate) struct Case {
    pub what: &'static str,
    pub script: Script,
    pub rejected_by: &'static [&'static str],
}

/// A good trace that looks like a bad one.
pub(crate) fn accepted(what: &'static str, script: Script) -> Case {
    Case { what, script, rejected_by: &[] }
}

/// A bad trace, with exactly those properties that are broken in it.
pub(crate) fn rejected(what: &'static str, rejected_by: &'static [&'static str], script: Script) -> Case {
    Case { what, script, rejected_by }
}

pub(crate) fn daemon(name: &str) -> DaemonId {
    DaemonId::new(name.parse().unwrap(), Boot::new(1))
}

pub(crate) fn process(name: &str) -> ProcessId {
    let (host, connection) = name.split_once('/').unwrap();
    ProcessId::new(daemon(host), connection.parse().unwrap())
}

pub(crate) fn daemons(names: &str) -> BTreeSet<DaemonId> {
    names.split_whitespace().map(daemon).collect()
}

fn processes(names: &str) -> Vec<ProcessId> {
    names.split_whitespace().map(process).collect()
}

pub(crate) fn start(number: u64) -> StartId {
    StartId::new(Boot::new(1), number)
}

/// The configuration with this counter, of these daemons, after each was told start change number `counter`.
pub(crate) fn configuration(counter: u64, names: &str) -> Configuration {
    Configuration::new(counter, daemons(names).into_iter().map(|d| (d, start(counter))).collect())
}

pub(crate) fn group(name: &str) -> GroupName {
    GroupName::new(name).unwrap()
}

pub(crate) fn unit() -> UnitId {
    UnitId::new("film").unwrap()
}

pub(crate) fn session() -> SessionId {
    SessionId::new(7)
}

pub(crate) fn fence(counter: u64) -> Fence {
    Fence::new(GroupViewId { configuration: ConfigurationId::new(1, 0), position: 0 }, counter)
}

pub(crate) fn digest(what: &str, number: u64) -> Digest {
    Digest::of(what.as_bytes()).and(&number.to_le_bytes())
}

#[derive(Clone, Default)]
pub(crate) struct Script {
    events: Vec<Event>,
    configurations: BTreeMap<DaemonId, Configuration>,
    views: BTreeMap<(ProcessId, GroupName), GroupView>,
    /// Where each daemon came from into a configuration, and each process into a view.
    origins: BTreeMap<(DaemonId, ConfigurationId), ConfigurationId>,
    view_origins: BTreeMap<(ProcessId, GroupName, GroupViewId), GroupViewId>,
}

impl Script {
    pub(crate) fn new() -> Script {
        Script::default()
    }

    /// A record that no other step makes.
    pub(crate) fn raw(mut self, event: Event) -> Script {
        self.events.push(event);
        self
    }

    /// Spoils the last record.
    pub(crate) fn but(mut self, spoil: impl FnOnce(&mut Event)) -> Script {
        spoil(self.events.last_mut().unwrap());
        self
    }

    /// What the verdict on it is.
    pub(crate) fn judged(&self) -> Report {
        let mut judge = Judge::default();
        for (event, line) in self.events.iter().zip(1..) {
            judge.observe(Position { source: 0, line }, event);
        }
        judge.finish()
    }

    pub(crate) fn events(&self) -> &[Event] {
        &self.events
    }

    fn current(&self, daemon: DaemonId) -> Configuration {
        self.configurations.get(&daemon).cloned().unwrap_or_else(|| Configuration::initial(daemon))
    }
}

/// Configurations of daemons.
impl Script {
    /// All of `names` are told of the change, and move into the configuration.
    pub(crate) fn forms(self, counter: u64, names: &str) -> Script {
        self.agrees(counter, names).installs(names, counter, names)
    }

    /// All of `names` are told of the configuration.
    pub(crate) fn agrees(mut self, counter: u64, names: &str) -> Script {
        let configuration = configuration(counter, names);
        for daemon in daemons(names) {
            let proposed = configuration.set();
            self.events.push(Event::StartChange { daemon, start: start(counter), proposed });
        }
        for daemon in daemons(names) {
            self.events.push(Event::MembershipView { daemon, configuration: configuration.clone() });
        }
        self
    }

    /// The daemons `who` move into the configuration of `members`, together with those members who are where they are.
    pub(crate) fn installs(mut self, who: &str, counter: u64, members: &str) -> Script {
        let configuration = configuration(counter, members);
        for daemon in daemons(who) {
            let previous = self.current(daemon).id;
            let came_along = |other: &DaemonId| {
                let there = self.configurations.get(other).map(|configuration| configuration.id);
                let origin = self.origins.get(&(*other, configuration.id)).copied();
                *other == daemon || origin.or(there) == Some(previous)
            };
            let transitional = configuration.set().into_iter().filter(came_along).collect();
            let configuration = configuration.clone();
            self.origins.insert((daemon, configuration.id), previous);
            self.configurations.insert(daemon, configuration.clone());
            self.events.push(Event::Install { daemon, configuration, previous, transitional });
        }
        self
    }

    pub(crate) fn casts(self, name: &str, index: u64) -> Script {
        let daemon = daemon(name);
        let configuration = self.current(daemon).id;
        self.raw(Event::Cast { daemon, configuration, index, digest: digest(name, index) })
    }

    /// Each of `names` delivers message `index` of `origin`.
    pub(crate) fn delivers(mut self, names: &str, origin: &str, index: u64) -> Script {
        for to in daemons(names) {
            let configuration = self.current(to).id;
            let (origin, digest) = (daemon(origin), digest(origin, index));
            self.events.push(Event::Deliver { daemon: to, configuration, origin, index, digest });
        }
        self
    }

    pub(crate) fn crashes(self, name: &str) -> Script {
        self.raw(Event::DaemonCrash { daemon: daemon(name) })
    }

    /// Nothing is left to do; `names` are alive and no session is open.
    pub(crate) fn quiescent(self, names: &str) -> Script {
        let daemons = daemons(names).into_iter().collect();
        self.raw(Event::Quiescent { daemons, sessions: Vec::new() })
    }

    /// Nothing is left to do; `names` are alive and the session is open.
    pub(crate) fn quiescent_open(self, names: &str) -> Script {
        let daemons = daemons(names).into_iter().collect();
        self.raw(Event::Quiescent { daemons, sessions: vec![session()] })
    }
}

/// Groups of processes.
impl Script {
    pub(crate) fn attaches(mut self, names: &str) -> Script {
        for process in processes(names) {
            let name = process.daemon().name();
            self.events.push(Event::Attach { process, name });
        }
        self
    }

    pub(crate) fn detaches(mut self, name: &str) -> Script {
        let process = process(name);
        self.views.retain(|(member, _), _| *member != process);
        self.raw(Event::Detach { process })
    }

    /// Every one of `members` is told the view of `name` that they make at `position`.
    pub(crate) fn views(self, name: &str, position: u64, members: &str) -> Script {
        self.told(members, name, position, members)
    }

    /// The processes `who` are told the view that `members` make.
    pub(crate) fn told(mut self, who: &str, name: &str, position: u64, members: &str) -> Script {
        let (members, group) = (processes(members), group(name));
        for process in processes(who) {
            let id = GroupViewId { configuration: self.current(process.daemon()).id, position };
            let previous = self.views.get(&(process, group.clone()));
            let old: Vec<ProcessId> =
                previous.map_or(Vec::new(), |view| view.members.iter().map(|m| m.process).collect());
            let previous = previous.map(|view| view.id);
            let came_along = |other: &ProcessId| {
                let there = self.views.get(&(*other, group.clone())).map(|view| view.id);
                let origin = self.view_origins.get(&(*other, group.clone(), id)).copied();
                *other == process || (previous.is_some() && origin.or(there) == previous)
            };
            let view = GroupView {
                group: group.clone(),
                id,
                members: members.iter().map(|m| Member { process: *m, name: m.daemon().name() }).collect(),
                joined: members.iter().filter(|m| !old.contains(m)).copied().collect(),
                left: old.iter().filter(|m| !members.contains(m)).copied().collect(),
                transitional: members.iter().filter(|m| came_along(m)).copied().collect(),
                primary: false,
            };
            if let Some(previous) = previous {
                self.view_origins.insert((process, group.clone(), id), previous);
            }
            self.views.insert((process, group.clone()), view.clone());
            self.events.push(Event::GroupInstall { process, view });
        }
        self
    }

    pub(crate) fn leaves(mut self, name: &str, from: &str) -> Script {
        let (process, group) = (process(name), group(from));
        self.views.remove(&(process, group.clone()));
        self.raw(Event::GroupLeave { process, group })
    }

    pub(crate) fn sends(self, name: &str, to: &str, number: u64) -> Script {
        let process = process(name);
        let (group, message) = (group(to), MessageId::new(process, number));
        let view = self.views.get(&(process, group.clone())).map(|view| view.id);
        let (digest, level, only_in) = (digest(name, number), Level::Agreed, None);
        self.raw(Event::GroupSend { process, group, message, digest, view, level, only_in })
    }

    /// A message of the safe level.
    pub(crate) fn sends_safely(self, name: &str, to: &str, number: u64) -> Script {
        self.sends(name, to, number).but(|event| {
            if let Event::GroupSend { level, .. } = event {
                *level = Level::Safe;
            }
        })
    }

    /// A message for one view of the group, that of the sender's configuration with this position.
    pub(crate) fn sends_only_in(self, name: &str, to: &str, number: u64, position: u64) -> Script {
        let configuration = self.current(process(name).daemon()).id;
        self.sends(name, to, number).but(|event| {
            if let Event::GroupSend { only_in, .. } = event {
                *only_in = Some(GroupViewId { configuration, position });
            }
        })
    }

    pub(crate) fn refuses(self, name: &str, number: u64) -> Script {
        let process = process(name);
        self.raw(Event::GroupRefuse { process, message: MessageId::new(process, number) })
    }

    /// Each of `names` is told that message `number` of `sender` is safe.
    pub(crate) fn safe(mut self, names: &str, of: &str, sender: &str, number: u64) -> Script {
        let (group, message) = (group(of), MessageId::new(process(sender), number));
        for process in processes(names) {
            let view = self.views[&(process, group.clone())].id;
            self.events.push(Event::GroupSafe { process, group: group.clone(), message, view });
        }
        self
    }

    /// Each of `names` is asked to send no more to the group.
    pub(crate) fn blocks(mut self, names: &str, of: &str) -> Script {
        let block = |process| Event::GroupBlock { process, group: group(of) };
        self.events.extend(processes(names).into_iter().map(block));
        self
    }

    /// Each of `names` is told to go on.
    pub(crate) fn unblocks(mut self, names: &str, of: &str) -> Script {
        let unblock = |process| Event::GroupUnblock { process, group: group(of) };
        self.events.extend(processes(names).into_iter().map(unblock));
        self
    }

    /// Each of `names` is given message `number` of `sender`, in its view of the group `of`.
    pub(crate) fn receives(mut self, names: &str, of: &str, sender: &str, number: u64) -> Script {
        for process_ in processes(names) {
            let group = group(of);
            let view = self.views[&(process_, group.clone())].id;
            let message = MessageId::new(process(sender), number);
            let digest = digest(sender, number);
            self.events.push(Event::GroupDeliver { process: process_, group, message, view, digest });
        }
        self
    }
}

/// The session: its servers, its gateways, its client.
impl Script {
    pub(crate) fn role(self, server: &str, counter: u64, role: Role) -> Script {
        let (server, fence) = (process(server), fence(counter));
        self.raw(Event::Role { server, unit: unit(), session: session(), fence, role })
    }

    pub(crate) fn primary(self, server: &str, counter: u64) -> Script {
        self.role(server, counter, Role::Primary)
    }

    /// The server applies requests of a lineage of its context.
    pub(crate) fn applies(self, server: &str, lineage: u64, request: u64) -> Script {
        let (server, session, fence) = (process(server), session(), fence(1));
        let digest = digest("request", request);
        self.raw(Event::Apply { server, session, fence, lineage, request, digest })
    }

    /// The server uses what came of a request to the shared state, which was the `update`-th.
    pub(crate) fn carries(self, server: &str, request: u64, update: u64, result: &str) -> Script {
        let (server, unit, session, digest) =
            (process(server), unit(), session(), Digest::of(result.as_bytes()));
        self.raw(Event::Carried {
            server,
            unit,
            session,
            request,
            founding: 1,
            founded: GroupViewId::NONE,
            update,
            digest,
        })
    }

    pub(crate) fn responds(self, server: &str, counter: u64, response: u64, requests: u64) -> Script {
        let (server, session, fence) = (process(server), session(), fence(counter));
        let digest = digest("response", response);
        self.raw(Event::Respond { server, session, fence, response, requests, digest })
    }

    /// A member of the session group is given responses that it is to have before the client.
    pub(crate) fn commits(mut self, server: &str, responses: core::ops::RangeInclusive<u64>) -> Script {
        for response in responses {
            let (server, session, fence) = (process(server), session(), fence(1));
            let (digest, level) = (digest("response", response), Level::Safe);
            self = self.raw(Event::Commit { server, session, fence, response, digest, level });
        }
        self
    }

    /// The database of a replica in the view that it was told last, or else the one that came with the configuration it is
    /// in.
    pub(crate) fn database(self, server: &str, position: u64, content: u64) -> Script {
        let server = process(server);
        let told = self.views.get(&(server, group("content/film")));
        let first = || GroupViewId { configuration: self.current(server.daemon()).id, position: 0 };
        let view = told.map_or_else(first, |view| view.id);
        self.raw(Event::Database {
            server,
            unit: unit(),
            view,
            position,
            digest: digest("database", content),
            primaries: BTreeSet::new(),
            forsaken: 0,
        })
    }

    /// In the last database these were primaries.
    pub(crate) fn appointing(self, names: &str) -> Script {
        self.but(|event| {
            if let Event::Database { primaries, .. } = event {
                *primaries = processes(names).into_iter().collect();
            }
        })
    }

    /// The database of a backup hears of a context after so many responses and requests, and the backup's own one is after
    /// these.
    pub(crate) fn follows(self, server: &str, known: (u64, u64), position: (u64, u64)) -> Script {
        let (server, session) = (process(server), session());
        self.raw(Event::Follow { server, session, known, position, waits: false })
    }

    /// A replica moves sessions in the view that came with the configuration it is in; three are the most.
    pub(crate) fn balances(self, server: &str, moves: usize) -> Script {
        let server = process(server);
        let view = GroupViewId { configuration: self.current(server.daemon()).id, position: 0 };
        self.raw(Event::Balance { server, unit: unit(), view, moves, at_most: 3 })
    }

    pub(crate) fn opens(self, gateway: &str) -> Script {
        self.raw(Event::Open { gateway: gateway.parse().unwrap(), unit: unit(), session: session() })
    }

    pub(crate) fn seats(self, gateway: &str, responses: u64, requests: u64) -> Script {
        let (gateway, session) = (gateway.parse().unwrap(), session());
        self.raw(Event::Seat { gateway, session, responses, requests })
    }

    pub(crate) fn submits(self, gateway: &str, request: u64) -> Script {
        let digest = digest("request", request);
        self.raw(Event::Submit { gateway: gateway.parse().unwrap(), session: session(), request, digest })
    }

    pub(crate) fn acknowledges(self, gateway: &str, request: u64) -> Script {
        self.raw(Event::Acknowledge { gateway: gateway.parse().unwrap(), session: session(), request })
    }

    pub(crate) fn grants(self, gateway: &str, counter: u64) -> Script {
        let (gateway, session, fence) = (gateway.parse().unwrap(), session(), fence(counter));
        self.raw(Event::Grant { gateway, session, fence })
    }

    pub(crate) fn accepts(self, gateway: &str, counter: u64, response: u64) -> Script {
        let (gateway, session, fence) = (gateway.parse().unwrap(), session(), fence(counter));
        let digest = digest("response", response);
        self.raw(Event::Accept { gateway, session, fence, response, digest })
    }

    pub(crate) fn closes(self, gateway: &str) -> Script {
        self.raw(Event::Close { gateway: gateway.parse().unwrap(), session: session() })
    }

    pub(crate) fn releases(self, gateway: &str) -> Script {
        self.raw(Event::Release { gateway: gateway.parse().unwrap(), session: session() })
    }

    pub(crate) fn rebuilds(self, gateway: &str) -> Script {
        self.raw(Event::Rebuild { gateway: gateway.parse().unwrap(), session: session() })
    }

    pub(crate) fn unfences(self, gateway: &str) -> Script {
        self.raw(Event::Unfence { gateway: gateway.parse().unwrap(), session: session() })
    }

    pub(crate) fn gateway_crashes(self, gateway: &str) -> Script {
        self.raw(Event::GatewayCrash { gateway: gateway.parse().unwrap() })
    }

    pub(crate) fn client_attaches(self, after: u64) -> Script {
        self.raw(Event::ClientAttach { session: session(), after })
    }

    pub(crate) fn client_receives(self, response: u64) -> Script {
        let digest = digest("response", response);
        self.raw(Event::ClientReceive { session: session(), response, digest })
    }

    /// The primary `server` sends responses, which reach the client through `gateway`.
    pub(crate) fn streams(
        mut self,
        server: &str,
        counter: u64,
        gateway: &str,
        responses: std::ops::RangeInclusive<u64>,
        requests: u64,
    ) -> Script {
        for n in responses {
            self =
                self.responds(server, counter, n, requests).accepts(gateway, counter, n).client_receives(n);
        }
        self
    }
}
