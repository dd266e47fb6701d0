//! Stories: a world that somebody directs, in the words of the domain. It is quiet: nothing happens by itself.

use std::time::Duration;

use membership_core::Rule;
use model::{SessionId, UnitId};
use session_core::{Components, PolicyChange, Rebuild, Uncertain};

use crate::client::Client;
use crate::happens::{Happens, Moment};
use crate::knobs::{Knobs, Unit, name, us};
use crate::net::Net;
use crate::packet::Node;
use crate::scene::Scene;
use crate::toy::Wish;
use crate::world::{Dice, World};

/// How long a story waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client that a story directs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Player(usize);

/// A fault of a story.
pub(super) struct Planned {
    on: Happens,
    at: Option<Node>,
    deed: Deed,
}

/// What is done then.
enum Deed {
    Crash(Vec<Node>),
    Divide(Vec<usize>),
    Pause(Node),
}

/// Says what is to happen at a moment.
pub struct Ambusher<'a> {
    world: &'a mut World,
    on: Happens,
    at: Option<Node>,
}

impl Ambusher<'_> {
    /// Only when it happens there.
    #[must_use]
    pub fn at(mut self, node: Node) -> Self {
        self.at = Some(node);
        self
    }

    /// This process crashes, the next time.
    pub fn crash(self, node: Node) {
        self.crash_all(&[node]);
    }

    /// These processes crash, the next time.
    pub fn crash_all(self, nodes: &[Node]) {
        self.plan(Deed::Crash(nodes.to_vec()));
    }

    /// The machines are in these parts, the next time.
    pub fn divide(self, parts: &[usize]) {
        self.plan(Deed::Divide(parts.to_vec()));
    }

    /// This process stands still, the next time, until it is let go on.
    pub fn pause(self, node: Node) {
        self.plan(Deed::Pause(node));
    }

    fn plan(self, deed: Deed) {
        self.world.planned.push(Planned { on: self.on, at: self.at, deed });
    }
}

/// The setting. To be told before anything happens.
impl World {
    /// A quiet world: three machines, one gateway, one film that all machines hold, one backup.
    pub fn seeded(seed: u64) -> World {
        World::new(Knobs::quiet(seed))
    }

    /// So many machines, all with the film.
    #[must_use]
    pub fn machines(mut self, count: usize) -> World {
        self.knobs.machines = (1..=count).map(|n| name(&format!("machine-{n}"))).collect();
        let everywhere = (0..count).collect();
        self.knobs.units[0].editions.insert(1, everywhere);
        self.with_fresh_net()
    }

    /// So many membership servers.
    #[must_use]
    pub fn membership_servers(mut self, count: usize) -> World {
        self.knobs.membership_servers = count;
        self
    }

    /// So many gateways.
    #[must_use]
    pub fn gateways(mut self, count: usize) -> World {
        self.knobs.gateways = count;
        self
    }

    /// So many backups for each session.
    #[must_use]
    pub fn backups(mut self, backups: u8) -> World {
        self.knobs.sessions.policy.backups = backups;
        self
    }

    /// The units are served in these components.
    #[must_use]
    pub fn served_in(mut self, components: Components) -> World {
        self.knobs.sessions.policy.components = components;
        self
    }

    /// The sessions on the film share a state.
    #[must_use]
    pub fn shared(mut self) -> World {
        self.knobs.units[0].shared = true;
        self
    }

    /// A new primary does this about responses that the one before it may have sent.
    #[must_use]
    pub fn uncertain(mut self, uncertain: Uncertain) -> World {
        self.knobs.sessions.policy.uncertain = uncertain;
        self
    }

    /// A session that all servers have forgotten is made anew from its cursor.
    #[must_use]
    pub fn made_anew(mut self) -> World {
        self.knobs.sessions.policy.rebuild = Rebuild::Allowed;
        self
    }

    /// The configuration with most of the machines is the primary component.
    #[must_use]
    pub fn all_vote(mut self) -> World {
        self.knobs.membership.primary = Rule::Majority(self.knobs.machines.iter().copied().collect());
        self
    }

    /// Contexts are propagated so often.
    #[must_use]
    pub fn period(mut self, period: Duration) -> World {
        self.knobs.sessions.policy.period = period;
        self
    }

    /// Another film, on these machines.
    #[must_use]
    pub fn film(mut self, id: &str, holders: &[usize], length: u32) -> World {
        let (id, holders) = (crate::knobs::unit(id), holders.iter().copied().collect());
        self.knobs.units.retain(|unit| unit.id != id);
        self.knobs.units.push(Unit::new(id, holders, length));
        self
    }

    /// Every packet takes a millisecond, and nothing else takes time.
    #[must_use]
    pub fn measured(mut self) -> World {
        let tick = Duration::from_millis(1);
        self.knobs.pace.latency = tick..=tick;
        self.knobs.pace.jitter = Duration::ZERO..=Duration::ZERO;
        self.knobs.pace.detection = tick * 2..=tick * 2;
        self.knobs.redial = tick * 5..=tick * 5;
        self.knobs.idle = us(100)..=us(100);
        self.with_fresh_net()
    }

    fn with_fresh_net(mut self) -> World {
        self.net =
            Net::new(self.knobs.machines.len(), self.knobs.pace.clone(), Dice::new(self.knobs.seed, 2));
        self
    }
}

/// What happens.
impl World {
    /// Lets all daemons, servers and gateways find each other.
    pub fn assemble(&mut self) {
        self.start();
        let daemons = self.daemons.len();
        let together = self.await_that(PATIENCE, |world| {
            let mut hosts = world.daemons.iter().filter_map(|slot| slot.host.as_ref());
            hosts.all(|host| {
                host.daemon().configuration().members.len() == daemons && host.daemon().phase() == "steady"
            })
        });
        assert!(together, "daemons do not come together:\n{}", self.table());
        self.pass(Duration::from_millis(200));
    }

    /// A client opens a session and attaches to it.
    pub fn open_session(&mut self, unit: &str) -> Player {
        let gateway = self.clients.len() % self.knobs.gateways;
        self.open_session_at(unit, gateway)
    }

    /// A client opens a session at a gateway and attaches to it.
    pub fn open_session_at(&mut self, unit: &str, gateway: usize) -> Player {
        if !self.started {
            self.assemble();
        }
        let index = self.add_client(None, UnitId::new(unit));
        self.with_client(index, |client, scene| {
            client.use_gateway(gateway, scene);
            client.open(scene);
        });
        let player = Player(index);
        self.expect(|world| world.client(player).is_attached());
        player
    }

    /// The client receives so many further responses.
    pub fn play(&mut self, player: Player, responses: u64) {
        let wanted = self.client(player).responses() + responses;
        self.expect(|world| world.client(player).responses() >= wanted);
    }

    /// The client sends a request. Nobody waits for it.
    pub fn request(&mut self, player: Player, wish: Wish) {
        self.with_client(player.0, |client, scene| client.request(wish, scene));
    }

    /// All requests of the client are acknowledged.
    pub fn await_acknowledgements(&mut self, player: Player) {
        self.expect(|world| world.client(player).is_acknowledged());
    }

    /// The client's connection ends, and it does not come back by itself.
    pub fn vanish(&mut self, player: Player) {
        self.with_client(player.0, |client, scene| client.vanish(scene));
    }

    /// The client attaches through this gateway.
    pub fn come_back(&mut self, player: Player, gateway: usize) {
        self.with_client(player.0, |client, scene| {
            client.use_gateway(gateway, scene);
            client.attach(scene);
        });
        self.expect(|world| world.client(player).is_attached());
    }

    /// The client ends its session.
    pub fn close(&mut self, player: Player) {
        self.with_client(player.0, |client, scene| client.close(scene));
        self.expect(|world| world.client(player).session().is_none());
    }

    /// A machine dies: its daemon and its content server.
    pub fn crash_machine(&mut self, machine: usize) {
        self.crash(Node::Daemon(machine));
        self.crash(Node::Server(machine));
    }

    /// A machine starts again.
    pub fn restart_machine(&mut self, machine: usize) {
        self.restart(Node::Daemon(machine));
        self.restart(Node::Server(machine));
    }

    /// A content server hands over what it does, and ends.
    pub fn drain_server(&mut self, machine: usize) {
        self.drain(machine);
        self.expect(|world| !world.is_alive(Node::Server(machine)));
    }

    /// An operator has a client's session moved to the server of a machine; the one that serves it is asked.
    pub fn move_session(&mut self, player: Player, machine: usize) {
        let (client, to) = (self.client(player), Node::Server(machine));
        let (session, unit) = (client.session(), client.unit().cloned());
        let (Some(session), Some(unit), Node::Server(asked)) = (session, unit, self.primary_of(player))
        else {
            panic!("an open session has a primary");
        };
        self.remark(|| format!("an operator moves the session to {to}"));
        let named = name(&to.to_string());
        self.with_server(asked, |host, scene| host.order_move(unit, session, Some(named), scene));
        self.expect(|world| world.primary_of(player) == to);
    }

    /// An operator changes the policy of a client's unit; the server of a machine is asked.
    pub fn change_policy(&mut self, player: Player, machine: usize, change: PolicyChange) {
        let unit = self.client(player).unit().cloned().expect("an open session is on a unit");
        self.order_adjustment(machine, unit, change);
    }

    /// An operator has the state founded that a unit's sessions share, by those that the server of a machine is with.
    pub fn found_state(&mut self, machine: usize, unit: &str) {
        let unit = crate::knobs::unit(unit);
        self.found(machine, unit.clone());
        self.expect(|world| world.is_served_by(&unit, machine));
    }

    /// When this happens the next time, something else does too.
    pub fn on(&mut self, moment: Happens) -> Ambusher<'_> {
        Ambusher { world: self, on: moment, at: None }
    }

    /// Waits for what must come.
    pub fn expect(&mut self, what: impl FnMut(&World) -> bool) {
        let came = self.await_that(PATIENCE, what);
        assert!(came, "it does not come:\n{}", self.table());
    }

    /// Judges everything that happened.
    ///
    /// # Panics
    /// If anything is wrong.
    pub fn check(&mut self) {
        let outcome = self.outcome();
        assert!(outcome.is_good(), "{outcome}");
    }
}

/// What can be seen.
impl World {
    /// Who serves the client's session, as the server with the newest word has it.
    pub fn primary_of(&self, player: Player) -> Node {
        self.assigned_to(player).0
    }

    /// Who mirrors the client's session.
    pub fn backups_of(&self, player: Player) -> Vec<Node> {
        self.assigned_to(player).1
    }

    fn assigned_to(&self, player: Player) -> (Node, Vec<Node>) {
        let session = self.client(player).session();
        let assigned = session.and_then(|session| self.assigned(session));
        assigned.expect("an open session has a primary")
    }

    /// Whether any server knows a session.
    pub fn is_known(&self, session: SessionId) -> bool {
        let servers = self.servers.iter().filter_map(|slot| slot.host.as_ref());
        servers.flat_map(|host| host.server().sessions()).any(|known| known.id == session)
    }

    /// Whether the server of a machine may serve the client's session, were it the primary.
    pub fn may_serve(&self, player: Player, machine: usize) -> bool {
        let unit = self.client(player).unit();
        let host = self.servers[machine].host.as_ref();
        unit.zip(host).is_some_and(|(unit, host)| host.server().may_serve(unit))
    }

    /// The gateway that the client uses.
    pub fn gateway_of(&self, player: Player) -> Node {
        Node::Gateway(self.client(player).gateway())
    }

    /// The longest time that the client, while attached, waited for a response.
    pub fn gap_seen_by(&self, player: Player) -> Duration {
        self.client(player).longest_gap()
    }

    /// The client itself.
    pub fn client(&self, player: Player) -> &Client {
        self.clients[player.0].host.as_ref().expect("clients do not die")
    }

    /// The primary and the backups of a session, as the server with the newest word has it.
    pub(super) fn assigned(&self, session: SessionId) -> Option<(Node, Vec<Node>)> {
        let servers = self.servers.iter().filter_map(|slot| slot.host.as_ref());
        let known = servers.flat_map(|host| host.server().sessions()).filter(|known| known.id == session);
        let newest = known.max_by_key(|known| known.session.fence)?;
        let node = |process: &model::ProcessId| {
            let place = self.knobs.machines.iter().position(|name| *name == process.daemon().name());
            place.map(Node::Server)
        };
        let primary = newest.session.primary.as_ref().and_then(node)?;
        Some((primary, newest.session.backups.iter().filter_map(node).collect()))
    }
}

impl World {
    /// Whatever is planned for this moment strikes.
    pub(super) fn spring_planned(&mut self, moment: Moment) {
        let is_now = |plan: &Planned| plan.on == moment.what && plan.at.is_none_or(|node| node == moment.at);
        while let Some(place) = self.planned.iter().position(is_now) {
            match self.planned.remove(place).deed {
                Deed::Crash(nodes) => nodes.into_iter().for_each(|node| self.crash(node)),
                Deed::Divide(parts) => self.divide(parts),
                Deed::Pause(node) => drop(self.pause(node)),
            }
        }
    }

    pub(super) fn with_client<R>(
        &mut self,
        client: usize,
        act: impl FnOnce(&mut Client, &mut Scene<'_>) -> R,
    ) -> R {
        let mut host = self.clients[client].host.take().expect("clients do not die");
        let result = act(&mut host, &mut self.scene(Node::Client(client)));
        self.clients[client].host = Some(host);
        result
    }
}
