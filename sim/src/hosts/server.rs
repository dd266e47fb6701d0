//! The host of a content server: its daemon, and the gateways that it dials.

use std::collections::{BTreeMap, BTreeSet};

use model::trace::Role;
use model::{GroupName, Machine, Name, SessionId, Terms, Time, UnitId};
use session_core::message::{ContentMessage, GatewayId, ToGateway, decode};
use session_core::names::Purpose;
use session_core::server::{Input, Output};
use session_core::{Database, Intent, OrderRefusal, Ordered, Params, PolicyChange, Server};

use crate::happens::Happens;
use crate::hosts::Manners;
use crate::net::{Conn, Timer};
use crate::packet::{Node, Packet};
use crate::scene::{Host, Scene};
use crate::toy::Toy;

/// A connection to a gateway.
struct Door {
    conn: Option<Conn>,
    up: bool,
}

/// A content server and its connections.
pub struct ServerHost {
    name: Name,
    machine: Server<Toy>,
    manners: Manners,
    daemon: Node,
    attachment: Option<Conn>,
    doors: BTreeMap<GatewayId, Door>,
    draining: bool,
    /// The last number given to an order.
    tickets: u64,
    cordon: Cordon,
}

/// Whether it is to take nothing new.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cordon {
    No,
    /// The other servers of its units are being told, by this order.
    Asked(u64),
    /// They know, and newcomers are told.
    Known,
}

impl ServerHost {
    /// A server that is attached to nobody.
    pub fn new(name: Name, machine: usize, toy: Toy, params: Params, manners: Manners) -> ServerHost {
        ServerHost {
            name,
            machine: Server::new(toy, params),
            manners,
            daemon: Node::Daemon(machine),
            attachment: None,
            doors: BTreeMap::new(),
            draining: false,
            tickets: 0,
            cordon: Cordon::No,
        }
    }

    /// Whether it is to hand everything over.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// The machine.
    pub fn server(&self) -> &Server<Toy> {
        &self.machine
    }

    /// Orders it to hand everything over, and to end then.
    pub fn drain(&mut self, scene: &mut Scene<'_>) {
        self.draining = true;
        self.tell(Input::Drain, scene);
    }

    /// An operator orders it to have a session moved to this server, or to any other one.
    pub fn order_move(&mut self, unit: UnitId, session: SessionId, to: Option<Name>, scene: &mut Scene<'_>) {
        let ticket = self.ticket();
        self.tell(Input::Move { ticket, unit, session, to }, scene);
    }

    /// An operator orders it to have the policy of a unit changed.
    pub fn order_adjustment(&mut self, unit: UnitId, change: PolicyChange, scene: &mut Scene<'_>) {
        let ticket = self.ticket();
        self.tell(Input::Adjust { ticket, unit, change }, scene);
    }

    /// The content on its machine is this now.
    pub fn load(&mut self, toy: Toy, scene: &mut Scene<'_>) {
        let ticket = self.ticket();
        self.tell(Input::Content { ticket, service: toy }, scene);
    }

    /// An operator orders it to have new sessions on a unit opened on another edition.
    pub fn order_publication(&mut self, unit: UnitId, edition: u32, scene: &mut Scene<'_>) {
        let ticket = self.ticket();
        self.tell(Input::Publish { ticket, unit, edition }, scene);
    }

    /// An operator orders it to have the shared state of a unit founded.
    pub fn order_foundation(&mut self, unit: UnitId, scene: &mut Scene<'_>) {
        let ticket = self.ticket();
        self.tell(Input::Found { ticket, unit, anew: true }, scene);
    }

    /// An operator orders it to take nothing new, or its share again.
    pub fn order_cordon(&mut self, on: bool, scene: &mut Scene<'_>) {
        let ticket = self.ticket();
        self.cordon = if on { Cordon::Asked(ticket) } else { Cordon::No };
        self.tell(Input::Cordon { ticket, on }, scene);
    }

    fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    fn tell(&mut self, input: Input<Toy>, scene: &mut Scene<'_>) {
        if let (Input::Attached(_), Cordon::Asked(_)) = (&input, self.cordon) {
            self.cordon = Cordon::Known;
        }
        let known = self.sessions_before();
        let mut out = Vec::new();
        self.machine.handle(scene.clock(), input, &mut out);
        for order in &out {
            if let Output::RoleChanged { unit, session, role: Role::Primary, .. } = order
                && known.get(unit).is_some_and(|known| !known.contains(session))
                && self.is_passed_over(unit, *session)
            {
                scene.complain(|| format!("is cordoned, and was given {session}, which others can serve"));
            }
        }
        self.perform(out, scene);
    }

    /// While it is cordoned, and others know: the sessions of its units. Those of a unit whose database is not agreed may have
    /// been assigned by servers that did not know.
    fn sessions_before(&self) -> BTreeMap<UnitId, BTreeSet<SessionId>> {
        if self.cordon != Cordon::Known {
            return BTreeMap::new();
        }
        let agreed = self.machine.databases().filter(|(_, database)| database.is_agreed());
        let sessions = |database: &Database| database.sessions().keys().copied().collect();
        agreed.map(|(unit, database)| (unit.clone(), sessions(database))).collect()
    }

    /// Whether some other server takes its share of a unit, and could serve a session on it. In a unit that this one has left
    /// nobody is told that it is cordoned, and what was said before may still come.
    fn is_passed_over(&self, unit: &UnitId, session: SessionId) -> bool {
        let database = self.machine.databases().find(|(held, _)| *held == unit).map(|(_, database)| database);
        database.is_some_and(|database| {
            let edition = database.sessions().get(&session).and_then(|known| known.edition());
            let mut others = database.members().iter().filter(|it| Some(**it) != self.machine.me());
            let takes =
                |it| database.intent(it) == Intent::Open && edition.is_some_and(|on| database.has(it, on));
            let is_known = self.machine.me().is_some_and(|me| database.intent(me) != Intent::Open);
            is_known && others.any(|it| takes(*it))
        })
    }

    fn perform(&mut self, orders: Vec<Output>, scene: &mut Scene<'_>) {
        for order in orders {
            match order {
                Output::Join(groups) => self.to_daemon(Packet::Join(groups), scene),
                Output::Leave(groups) => self.to_daemon(Packet::Leave(groups), scene),
                Output::Multicast { group, payload, level } => {
                    note_multicast(&group, &payload, scene);
                    let terms = Terms { level, ..Terms::default() };
                    self.to_daemon(Packet::Multicast { group, payload, terms }, scene);
                }
                Output::Dial(gateway) => {
                    self.doors.insert(gateway.clone(), Door { conn: None, up: false });
                    self.dial(gateway, scene);
                }
                Output::Hangup(gateway) => {
                    if let Some(conn) = self.doors.remove(&gateway).and_then(|door| door.conn) {
                        scene.close(conn);
                    }
                }
                Output::Send(gateway, message) => self.to_gateway(&gateway, message, scene),
                Output::RoleChanged { role, .. } => {
                    if role == Role::Primary {
                        scene.happens(Happens::Takeover);
                    }
                }
                Output::Failed { session, fault, .. } => {
                    scene.complain(|| format!("its service fails in {session}: {fault}"));
                }
                Output::Stalled { .. } | Output::Happened { .. } => {}
                Output::Refused { group, sender, error } => {
                    scene.complain(|| format!("refused what {sender} said in {group}: {error}"));
                }
                Output::Ordered { ticket, outcome } => {
                    if self.cordon == Cordon::Asked(ticket) && outcome == Ok(Ordered::Intended) {
                        self.cordon = Cordon::Known;
                    }
                    match outcome {
                        Ok(Ordered::Published(_)) => scene.happens(Happens::Publication),
                        Ok(
                            Ordered::Moved(_)
                            | Ordered::Adjusted(_)
                            | Ordered::Held
                            | Ordered::Founded
                            | Ordered::Intended
                            | Ordered::Dismissed,
                        ) => {}
                        // Of servers that are changing, an operator would ask again; some may not have the edition yet, and
                        // this one may not hold the unit any more.
                        Err(
                            OrderRefusal::Unsettled
                            | OrderRefusal::NotHeldByAll
                            | OrderRefusal::NotNewer
                            | OrderRefusal::UnknownUnit,
                        ) => {}
                        Err(refusal) => {
                            scene.complain(|| format!("does not carry out an order: {refusal}"));
                        }
                    }
                }
                Output::Drained => scene.log.ended.push(scene.node),
                Output::Trace(event) => scene.trace(event),
            }
        }
    }

    fn to_daemon(&self, packet: Packet, scene: &mut Scene<'_>) {
        if let Some(conn) = self.attachment {
            scene.send(conn, packet);
        }
    }

    /// Responses go one by one, as they do between processes: the stream may break between any two.
    fn to_gateway(&self, gateway: &GatewayId, message: ToGateway, scene: &mut Scene<'_>) {
        match message {
            ToGateway::Responses { session, stream, responses } if responses.len() > 1 => {
                for response in responses {
                    let responses = vec![response];
                    self.to_gateway(gateway, ToGateway::Responses { session, stream, responses }, scene);
                }
                return;
            }
            ToGateway::Claim { .. } => scene.happens(Happens::Claim),
            ToGateway::Responses { .. } => scene.happens(Happens::Response),
            ToGateway::Applied { .. } => scene.happens(Happens::RequestApplied),
            _ => {}
        }
        let door = self.doors.get(gateway).filter(|door| door.up);
        match door.and_then(|door| door.conn) {
            Some(conn) => scene.send(conn, Packet::ToGateway(message)),
            None => scene.complain(|| format!("sends to {gateway:?}, which is not up")),
        }
    }

    fn dial(&mut self, gateway: GatewayId, scene: &mut Scene<'_>) {
        let Some(node) = Node::at(&gateway.address) else { return };
        let conn = scene.dial(node, Packet::Door { server: self.name, gateway: gateway.clone() });
        self.doors.insert(gateway, Door { conn: Some(conn), up: false });
    }

    fn door_on(&self, conn: Conn) -> Option<GatewayId> {
        self.doors.iter().find(|(_, door)| door.conn == Some(conn)).map(|(gateway, _)| gateway.clone())
    }

    fn dial_daemon(&mut self, scene: &mut Scene<'_>) {
        self.attachment = Some(scene.dial(self.daemon, Packet::Attach { name: self.name }));
    }
}

/// Which moment a multicast is.
fn note_multicast(group: &GroupName, payload: &[u8], scene: &mut Scene<'_>) {
    if !matches!(Purpose::of(group), Some(Purpose::Content(_))) {
        return;
    }
    match decode(payload) {
        Ok(ContentMessage::Propagate { .. }) => scene.happens(Happens::Propagate),
        Ok(ContentMessage::State { .. }) => scene.happens(Happens::StateSent),
        Ok(_) => {}
        Err(error) => scene.complain(|| format!("multicasts nonsense: {error}")),
    }
}

impl Host for ServerHost {
    fn start(&mut self, scene: &mut Scene<'_>) {
        self.dial_daemon(scene);
    }

    fn hear(&mut self, conn: Conn, packet: Packet, scene: &mut Scene<'_>) {
        match packet {
            Packet::Attached(me) => self.tell(Input::Attached(me), scene),
            Packet::Event(gcs_core::ProcessEvent::Views(views)) => {
                let views = views.iter().map(|view| (**view).clone()).collect();
                self.tell(Input::Views(views), scene);
            }
            Packet::Event(gcs_core::ProcessEvent::Message { group, id, payload, level, .. }) => {
                self.tell(Input::Message { group, sender: id.sender(), payload, level }, scene);
            }
            Packet::Event(gcs_core::ProcessEvent::Primary(primary)) => {
                self.tell(Input::Primary(primary), scene);
            }
            // A server asks for no outcomes, and its groups are of the plain kind.
            Packet::Event(_) => {}
            Packet::DoorOpen => {
                let Some(gateway) = self.door_on(conn) else { return };
                if let Some(door) = self.doors.get_mut(&gateway) {
                    door.up = true;
                }
                self.tell(Input::GatewayUp(gateway), scene);
            }
            Packet::ToServer(message) => {
                if let Some(gateway) = self.door_on(conn) {
                    self.tell(Input::Gateway(gateway, message), scene);
                }
            }
            other => unreachable!("{other:?} at a content server"),
        }
    }

    fn lose(&mut self, conn: Conn, scene: &mut Scene<'_>) {
        let again = scene.dice.time(self.manners.redial.clone());
        if self.attachment == Some(conn) {
            self.attachment = None;
            scene.remind(again, Timer::Attach);
            self.tell(Input::Detached, scene);
            return;
        }
        let Some(gateway) = self.door_on(conn) else { return };
        let was_up = self.doors.insert(gateway.clone(), Door { conn: None, up: false });
        scene.remind(again, Timer::Door(gateway.clone()));
        if was_up.is_some_and(|door| door.up) {
            self.tell(Input::GatewayDown(gateway), scene);
        }
    }

    fn remember(&mut self, timer: Timer, scene: &mut Scene<'_>) {
        match timer {
            Timer::Attach => self.dial_daemon(scene),
            Timer::Door(gateway) => {
                if self.doors.get(&gateway).is_some_and(|door| door.conn.is_none()) {
                    self.dial(gateway, scene);
                }
            }
            other => unreachable!("{other:?} at a content server"),
        }
    }

    fn wake(&mut self, scene: &mut Scene<'_>) {
        let mut out = Vec::new();
        self.machine.wake(scene.clock(), &mut out);
        self.perform(out, scene);
    }

    fn next_wake(&self) -> Option<Time> {
        self.machine.next_wake().map(|(time, _)| time)
    }
}
