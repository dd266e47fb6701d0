//! The host of a gateway: some daemon, the content servers that dial it, and its clients.

use std::collections::BTreeMap;

use gcs_core::ProcessEvent;
use model::{Machine, SessionId, Terms, Time};
use session_core::GatewayParams;
use session_core::gateway::{Attachment, Gateway, Input, LinkId, Output, Reply, Ticket};
use session_core::message::{ContentMessage, GatewayId, Secret, ToServer, decode};
use session_core::names::Purpose;

use crate::happens::Happens;
use crate::hosts::Manners;
use crate::net::{Conn, Timer};
use crate::packet::{Answer, Call, Node, Packet};
use crate::scene::{Host, Scene};

/// A client's call that is not answered yet.
struct Waiting {
    conn: Conn,
    call: u64,
    what: What,
}

/// What an answer will be about.
#[derive(Clone, Copy)]
enum What {
    Open { session: SessionId, secret: Secret },
    Attach { session: SessionId },
    Other,
}

/// A gateway and its connections.
pub struct GatewayHost {
    id: GatewayId,
    machine: Gateway,
    manners: Manners,
    /// Which machine's daemon comes next.
    turn: usize,
    daemon: Option<Conn>,
    links: BTreeMap<Conn, LinkId>,
    links_used: u64,
    tickets: BTreeMap<Ticket, Waiting>,
    tickets_used: u64,
    attachments: BTreeMap<Attachment, (Conn, SessionId)>,
}

impl GatewayHost {
    /// A gateway without sessions.
    pub fn new(id: GatewayId, place: usize, params: GatewayParams, manners: Manners) -> GatewayHost {
        GatewayHost {
            machine: Gateway::new(id.clone(), params),
            id,
            manners,
            turn: place,
            daemon: None,
            links: BTreeMap::new(),
            links_used: 0,
            tickets: BTreeMap::new(),
            tickets_used: 0,
            attachments: BTreeMap::new(),
        }
    }

    /// Who this is.
    pub fn id(&self) -> &GatewayId {
        &self.id
    }

    /// The machine.
    pub fn gateway(&self) -> &Gateway {
        &self.machine
    }

    fn tell(&mut self, input: Input, scene: &mut Scene<'_>) {
        let mut out = Vec::new();
        self.machine.handle(scene.clock(), input, &mut out);
        self.perform(out, scene);
    }

    fn perform(&mut self, orders: Vec<Output>, scene: &mut Scene<'_>) {
        let mut deserted = Vec::new();
        for order in orders {
            match order {
                Output::Multicast { group, payload } => {
                    match Purpose::of(&group) {
                        Some(Purpose::Session(..)) => scene.happens(Happens::RequestSubmitted),
                        Some(Purpose::Content(_)) => note_content(&payload, scene),
                        Some(Purpose::Service) | None => {}
                    }
                    if let Some(conn) = self.daemon {
                        scene.send(conn, Packet::Multicast { group, payload, terms: Terms::default() });
                    }
                }
                Output::ToServer { link, message } => {
                    if matches!(message, ToServer::Serve { .. }) {
                        scene.happens(Happens::Serve);
                    }
                    if let Some((conn, _)) = self.links.iter().find(|(_, known)| **known == link) {
                        scene.send(*conn, Packet::ToServer(message));
                    }
                }
                Output::Reply { ticket, reply } => deserted.extend(self.reply(ticket, reply, scene)),
                Output::ToClient { session, attachment, event } => {
                    if let Some((conn, of)) = self.attachments.get(&attachment) {
                        assert_eq!(*of, session, "an attachment is of one session");
                        scene.send(*conn, Packet::ToClient { attachment, event });
                    }
                }
                Output::Stalled { .. } => scene.happens(Happens::Stall),
                Output::Stale { .. } | Output::TakenOver { .. } | Output::Displaced { .. } => {}
                Output::Trace(event) => scene.trace(event),
            }
        }
        for (session, attachment) in deserted {
            self.tell(Input::Detach { session, attachment }, scene);
        }
    }

    /// Answers a call. Returns the attachment if nobody is there to have it.
    fn reply(
        &mut self,
        ticket: Ticket,
        reply: Result<Reply, session_core::gateway::Failure>,
        scene: &mut Scene<'_>,
    ) -> Option<(SessionId, Attachment)> {
        let Some(Waiting { conn, call, what }) = self.tickets.remove(&ticket) else {
            scene.complain(|| format!("{ticket:?} is answered twice"));
            return None;
        };
        let is_there = scene.net.is_open(conn, scene.node);
        let answer = match (reply, what) {
            (Ok(Reply::Opened), What::Open { session, secret }) => Ok(Answer::Opened { session, secret }),
            (Ok(Reply::Attached(attachment)), What::Attach { session }) => {
                if !is_there {
                    return Some((session, attachment));
                }
                self.attachments.insert(attachment, (conn, session));
                Ok(Answer::Attached(attachment))
            }
            (Ok(Reply::Applied { number }), What::Other) => Ok(Answer::Applied { number }),
            (Ok(Reply::Closed), What::Other) => Ok(Answer::Closed),
            (Ok(reply), _) => unreachable!("{reply:?} is no answer to that"),
            (Err(failure), _) => Err(failure),
        };
        scene.send(conn, Packet::Answer { call, answer });
        None
    }

    fn ticket(&mut self, conn: Conn, call: u64, what: What) -> Ticket {
        self.tickets_used += 1;
        let ticket = Ticket(self.tickets_used);
        self.tickets.insert(ticket, Waiting { conn, call, what });
        ticket
    }

    fn call(&mut self, conn: Conn, call: u64, what: Call, scene: &mut Scene<'_>) {
        let input = match what {
            Call::Open { unit } => {
                let mut bits = || u128::from(scene.dice.bits()) << 64 | u128::from(scene.dice.bits());
                let (session, secret) = (SessionId::new(bits()), Secret::new(bits()));
                let ticket = self.ticket(conn, call, What::Open { session, secret });
                Input::Open { ticket, unit, session, secret }
            }
            Call::Attach { unit, session, secret, from } => {
                let ticket = self.ticket(conn, call, What::Attach { session });
                Input::Attach { ticket, unit, session, secret, from }
            }
            Call::Request { session, secret, number, operation } => {
                let ticket = self.ticket(conn, call, What::Other);
                Input::Request { ticket, session, secret, number, operation }
            }
            Call::Close { unit, session, secret } => {
                let ticket = self.ticket(conn, call, What::Other);
                Input::Close { ticket, unit, session, secret }
            }
        };
        self.tell(input, scene);
    }

    fn dial_daemon(&mut self, scene: &mut Scene<'_>) {
        let daemon = Node::Daemon(self.turn % self.manners.machines);
        self.daemon = Some(scene.dial(daemon, Packet::Attach { name: self.id.name }));
    }

    fn greeted_by_server(
        &mut self,
        conn: Conn,
        server: model::Name,
        gateway: &GatewayId,
        scene: &mut Scene<'_>,
    ) {
        if *gateway != self.id {
            scene.close(conn);
            return;
        }
        self.links_used += 1;
        let link = LinkId(self.links_used);
        self.links.insert(conn, link);
        scene.send(conn, Packet::DoorOpen);
        self.tell(Input::LinkUp { link, server }, scene);
    }
}

/// Which moment a multicast to a content group is.
fn note_content(payload: &[u8], scene: &mut Scene<'_>) {
    match decode(payload) {
        Ok(ContentMessage::Start { .. }) => scene.happens(Happens::SessionStarted),
        Ok(ContentMessage::Attach { .. }) => scene.happens(Happens::ClientMoves),
        Ok(_) => {}
        Err(error) => scene.complain(|| format!("multicasts nonsense: {error}")),
    }
}

impl Host for GatewayHost {
    fn start(&mut self, scene: &mut Scene<'_>) {
        self.dial_daemon(scene);
    }

    fn hear(&mut self, conn: Conn, packet: Packet, scene: &mut Scene<'_>) {
        match packet {
            Packet::Attached(_) => self.tell(Input::GroupsUp, scene),
            // It serves whatever its component does.
            Packet::Event(ProcessEvent::Primary(_)) => {}
            Packet::Event(
                ProcessEvent::Views(_)
                | ProcessEvent::Message { .. }
                | ProcessEvent::Outcome { .. }
                | ProcessEvent::Block(_)
                | ProcessEvent::Unblock(_)
                | ProcessEvent::StateWanted { .. }
                | ProcessEvent::State { .. }
                | ProcessEvent::UpToDate { .. }
                | ProcessEvent::Configuration(_),
            ) => {
                unreachable!("a gateway is in no group");
            }
            Packet::Door { server, gateway } => self.greeted_by_server(conn, server, &gateway, scene),
            Packet::ToGateway(message) => {
                if let Some(link) = self.links.get(&conn).copied() {
                    self.tell(Input::Server { link, message }, scene);
                }
            }
            Packet::Call { call, what } => self.call(conn, call, what, scene),
            Packet::Consumed { attachment, session, responses, bytes } => {
                self.tell(Input::Consumed { session, attachment, responses, bytes }, scene);
            }
            Packet::Detach { attachment, session } => {
                self.attachments.remove(&attachment);
                self.tell(Input::Detach { session, attachment }, scene);
            }
            other => unreachable!("{other:?} at a gateway"),
        }
    }

    fn lose(&mut self, conn: Conn, scene: &mut Scene<'_>) {
        if self.daemon == Some(conn) {
            self.daemon = None;
            self.turn += 1;
            let after = scene.dice.time(self.manners.redial.clone());
            scene.remind(after, Timer::Attach);
            self.tell(Input::GroupsDown, scene);
            return;
        }
        if let Some(link) = self.links.remove(&conn) {
            self.tell(Input::LinkDown(link), scene);
            return;
        }
        let gone = self.attachments.iter().filter(|(_, (of, _))| *of == conn);
        let gone: Vec<_> = gone.map(|(attachment, (_, session))| (*attachment, *session)).collect();
        for (attachment, session) in gone {
            self.attachments.remove(&attachment);
            self.tell(Input::Detach { session, attachment }, scene);
        }
    }

    fn remember(&mut self, timer: Timer, scene: &mut Scene<'_>) {
        match timer {
            Timer::Attach => self.dial_daemon(scene),
            other => unreachable!("{other:?} at a gateway"),
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
