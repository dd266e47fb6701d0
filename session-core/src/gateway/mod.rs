//! The machine of a gateway: turns client sessions into multicasts to groups, and keeps for each session how far its
//! client got, so that whichever server is primary can go on from there [FK:exactly-once].
//!
//! Invariant: a client is passed responses 1, 2, 3, ... of its session without gap or repetition, each from a server
//! whose fence was the greatest seen when the gateway opened the stream that it came on [FK:one-primary], since it last
//! waited in vain.

mod clients;
mod entry;
mod interface;
mod questions;
mod reader;
mod servers;
#[cfg(test)]
mod tests;
mod watch;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use model::trace::Event;
use model::{Machine, Name, SessionId, Time};
use serde::Serialize;

use crate::credit::Credit;
use crate::message::{ContentMessage, GatewayId, SessionMessage, encode};
use crate::names::Purpose;
use crate::timers::Timers;
use clients::{Call, Submission, refused};
use entry::{Entry, Phase};
pub use interface::{
    Attachment, Change, ClientEvent, Failure, GatewayParams, GatewaySession, Input, LinkId, Output, Position,
    Reply, Ticket,
};
use questions::Questions;

/// The gateway.
pub struct Gateway {
    id: GatewayId,
    params: GatewayParams,
    groups_up: bool,
    links: BTreeMap<LinkId, Name>,
    /// Boxed: a map that grows at its end has room for almost twice as many.
    sessions: BTreeMap<SessionId, Box<Entry>>,
    questions: Questions,
    attachments: u64,
    timers: Timers<SessionId>,
}

impl Gateway {
    /// A gateway without sessions, not attached to a daemon yet.
    pub fn new(id: GatewayId, params: GatewayParams) -> Gateway {
        Gateway {
            id,
            params,
            groups_up: false,
            links: BTreeMap::new(),
            sessions: BTreeMap::new(),
            questions: Questions::default(),
            attachments: 0,
            timers: Timers::new(),
        }
    }

    /// Every session at this gateway.
    pub fn sessions(&self) -> impl Iterator<Item = GatewaySession<'_>> {
        self.sessions.iter().map(|(id, entry)| GatewaySession {
            id: *id,
            unit: &entry.unit,
            server: entry.server.and_then(|link| self.links.get(&link).copied()),
            fence: entry.fence,
            attached: entry.client.is_some(),
            responses: entry.position.responses().unwrap_or(0),
            requests_pending: entry.requests.len(),
            stalls: entry.stalls,
            buffered: entry.client.map_or(0, |reader| reader.buffered()),
        })
    }

    /// The content servers whose streams are open.
    pub fn servers(&self) -> impl Iterator<Item = Name> {
        self.links.values().copied()
    }

    fn multicast<M: Serialize>(&self, purpose: &Purpose, message: &M, out: &mut Vec<Output>) {
        if self.groups_up {
            out.push(Output::Multicast { group: purpose.group(), payload: encode(message) });
        }
    }

    fn observe(&self, event: impl FnOnce(Name) -> Event, out: &mut Vec<Output>) {
        if self.params.trace {
            out.push(Output::Trace(event(self.id.name)));
        }
    }

    /// Changes a session, and brings up to date what follows from it.
    fn with<R>(&mut self, now: Time, session: SessionId, step: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        let entry = self.sessions.get_mut(&session)?;
        let result = step(entry);
        entry.review(now, &self.params);
        self.timers.set(&session, entry.deadline(&self.params));
        Some(result)
    }

    /// Adds a session, and multicasts what it waits to have answered.
    fn insert(&mut self, now: Time, session: SessionId, entry: Entry, out: &mut Vec<Output>) {
        let before = self.sessions.insert(session, Box::new(entry));
        assert!(before.is_none(), "the ids of new sessions are new");
        self.with(now, session, |entry| entry.watch.hear(now));
        self.repeat(session, out);
    }

    /// Forgets a session: whoever waits for anything about it gets `failure`.
    fn remove(&mut self, session: SessionId, failure: &Failure, out: &mut Vec<Output>) {
        let Some(entry) = self.sessions.remove(&session).map(|entry| *entry) else { return };
        self.timers.set(&session, None);
        let asks = matches!(entry.phase, Phase::Opening { .. } | Phase::Attaching { .. });
        let is_over = matches!(failure, Failure::Ended | Failure::ServiceFailed);
        let closed = is_over || (!asks && *failure == Failure::UnknownSession);
        let mut fail = |ticket| out.push(refused(ticket, failure.clone()));
        entry.requests.into_values().flat_map(|pending| pending.tickets).for_each(&mut fail);
        match entry.phase {
            Phase::Opening { ticket, .. } | Phase::Attaching { ticket, .. } => fail(ticket),
            Phase::Open | Phase::Expiring { .. } => {}
            Phase::Closing { tickets, .. } if closed => {
                out.extend(
                    tickets.into_iter().map(|ticket| Output::Reply { ticket, reply: Ok(Reply::Closed) }),
                );
            }
            Phase::Closing { tickets, .. } => tickets.into_iter().for_each(fail),
        }
        if let Some(reader) = entry.client {
            let event = ClientEvent::Over(failure.clone());
            out.push(Output::ToClient { session, attachment: reader.attachment, event });
        }
        let parting = |gateway| match closed {
            true => Event::Close { gateway, session },
            false => Event::Release { gateway, session },
        };
        self.observe(parting, out);
    }

    /// Multicasts whatever the session waits to have answered.
    fn repeat(&self, session: SessionId, out: &mut Vec<Output>) {
        let Some(entry) = self.sessions.get(&session) else { return };
        let (secret, gateway) = (entry.secret, self.id.clone());
        let content = Purpose::Content(entry.unit.clone());
        match entry.phase {
            Phase::Opening { .. } => {
                self.multicast(&content, &ContentMessage::Start { session, secret, gateway }, out);
            }
            Phase::Attaching { .. } => self.call_servers(session, out),
            Phase::Closing { .. } => {
                let end = ContentMessage::End { session, secret, gateway: Some(gateway) };
                self.multicast(&content, &end, out);
            }
            Phase::Expiring { .. } => {
                self.multicast(&content, &ContentMessage::Expire { session, gateway }, out);
            }
            Phase::Open => {
                let group = Purpose::Session(entry.unit.clone(), session);
                for (number, pending) in &entry.requests {
                    let operation = pending.operation.clone();
                    self.multicast(&group, &SessionMessage::Request { number: *number, operation }, out);
                }
            }
        }
    }

    /// Tells the servers that the session's client is here. It may have been elsewhere without a word of it having come
    /// here, and nobody knows that it came back.
    fn call_servers(&self, session: SessionId, out: &mut Vec<Output>) {
        let Some(entry) = self.sessions.get(&session) else { return };
        let (secret, gateway) = (entry.secret, self.id.clone());
        let content = Purpose::Content(entry.unit.clone());
        self.multicast(&content, &ContentMessage::Attach { session, secret, gateway }, out);
    }

    /// How far servers may be ahead of each client now.
    fn window(&self) -> Credit {
        let Credit { responses, bytes } = self.params.window;
        let share = self.params.buffer_bytes / (self.sessions.len() as u64).max(1);
        Credit { responses, bytes: bytes.min(share).max(1) }
    }

    /// Tells the session's server what to do.
    fn instruct(&mut self, session: SessionId, out: &mut Vec<Output>) {
        let window = self.window();
        let Some(entry) = self.sessions.get_mut(&session) else { return };
        if let Some(link) = entry.server {
            out.push(Output::ToServer { link, message: entry.grant(session, window) });
        }
    }

    /// Lets the session's server send more, if the client has taken enough.
    fn top_up(&mut self, now: Time, session: SessionId, out: &mut Vec<Output>) {
        let window = self.window();
        let Some(entry) = self.sessions.get_mut(&session) else { return };
        if let Some(link) = entry.server
            && let Some(message) = entry.top_up(session, window)
        {
            entry.watch.ask(now);
            out.push(Output::ToServer { link, message });
        }
    }

    fn groups_up(&mut self, now: Time, out: &mut Vec<Output>) {
        self.groups_up = true;
        for session in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.with(now, session, Entry::begin_to_repeat_anew);
            self.repeat(session, out);
        }
        if self.questions.is_open() {
            self.ask(now, out);
        }
    }

    /// Repeats what was not answered, complains of servers, and gives up on what nobody came forward for.
    fn on_deadline(&mut self, now: Time, session: SessionId, out: &mut Vec<Output>) {
        let Some(entry) = self.sessions.get(&session) else { return };
        let given_up = entry.gives_up_at(&self.params).is_some_and(|time| time <= now);
        match entry.phase {
            Phase::Open if given_up => self.lose_patience(now, session, out),
            Phase::Opening { .. }
            | Phase::Attaching { .. }
            | Phase::Closing { .. }
            | Phase::Expiring { .. }
                if given_up =>
            {
                // What servers made of one that was not opened in time stays until its client counts as gone. It weighs on a
                // server that hangs, so that the next one is opened elsewhere.
                self.remove(session, &Failure::NoReplica, out);
            }
            Phase::Opening { .. }
            | Phase::Attaching { .. }
            | Phase::Closing { .. }
            | Phase::Expiring { .. }
            | Phase::Open => {
                if entry.is_silent_at(&self.params).is_some_and(|time| time <= now) {
                    self.complain(now, session, out);
                }
                self.repeat_in_time(now, session, out);
            }
        }
    }

    fn repeat_in_time(&mut self, now: Time, session: SessionId, out: &mut Vec<Output>) {
        let Some(entry) = self.sessions.get(&session) else { return };
        if entry.is_to_be_repeated(now) {
            self.repeat(session, out);
            if entry.lacks_server() {
                self.inquire(session, out);
            }
            self.with(now, session, Entry::repeated);
        } else {
            self.with(now, session, |_| ());
        }
    }

    /// A server has said nothing for too long, unless it is the client that takes nothing: another one is to serve.
    fn complain(&mut self, now: Time, session: SessionId, out: &mut Vec<Output>) {
        let Some(entry) = self.sessions.get_mut(&session) else { return };
        if entry.is_held_back() {
            entry.watch.ask(now);
            return;
        }
        entry.watch.complain(now);
        entry.stalls = entry.stalls.saturating_add(1);
        let (secret, gateway, fence) = (entry.secret, self.id.clone(), entry.fence);
        let content = Purpose::Content(entry.unit.clone());
        let server = entry.server.and_then(|link| self.links.get(&link).copied());
        self.multicast(&content, &ContentMessage::Stalled { session, secret, gateway, fence }, out);
        out.push(Output::Stalled { session, server, fence });
    }

    /// Asks after a session whose server does not come back: it may have moved, or nobody may know it any more.
    fn inquire(&self, session: SessionId, out: &mut Vec<Output>) {
        let Some(entry) = self.sessions.get(&session) else { return };
        let (secret, gateway, fence) = (entry.secret, self.id.clone(), entry.fence);
        let content = Purpose::Content(entry.unit.clone());
        self.multicast(&content, &ContentMessage::Inquire { session, secret, gateway, fence }, out);
    }

    /// No server came for the client: it is told so, and whoever comes next may serve it. Daemons and membership servers may
    /// all have started again, and then no fence is above those of before. No client came for the session: it is ended.
    fn lose_patience(&mut self, now: Time, session: SessionId, out: &mut Vec<Output>) {
        let Some(entry) = self.sessions.get(&session) else { return };
        if let Some(reader) = entry.client {
            let event = ClientEvent::Over(Failure::NoReplica);
            out.push(Output::ToClient { session, attachment: reader.attachment, event });
            self.detach(now, session, reader.attachment, out);
            self.with(now, session, Entry::forget_servers);
            self.observe(|gateway| Event::Unfence { gateway, session }, out);
            return;
        }
        let until = now + self.params.no_replica_timeout;
        self.end(now, session, Phase::Expiring { until }, out);
    }

    fn on_unanswered_question(&mut self, now: Time, out: &mut Vec<Output>) {
        let expired = self.questions.give_up(now);
        out.extend(expired.into_iter().map(|asker| refused(asker.ticket, Failure::NoReplica)));
        if self.questions.waiting() > 0 {
            self.ask(now, out);
        }
    }
}

impl Machine for Gateway {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::GroupsUp => self.groups_up(now, out),
            Input::GroupsDown => self.groups_up = false,
            Input::List(ticket) => self.list(now, ticket, None, out),
            Input::Open { ticket, unit, session, secret } => {
                self.open(now, Call { ticket, unit, session, secret }, out);
            }
            Input::Attach { ticket, unit, session, secret, from } => {
                self.attach(now, Call { ticket, unit, session, secret }, from, out);
            }
            Input::Detach { session, attachment } => self.detach(now, session, attachment, out),
            Input::Consumed { session, attachment, responses, bytes } => {
                self.consumed(now, session, attachment, responses, bytes, out);
            }
            Input::Request { ticket, session, secret, number, operation } => {
                self.request(now, Submission { ticket, session, secret, number, operation }, out);
            }
            Input::Close { ticket, unit, session, secret } => {
                self.close(now, Call { ticket, unit, session, secret }, out);
            }
            Input::LinkUp { link, server } => drop(self.links.insert(link, server)),
            Input::LinkDown(link) => self.link_down(now, link),
            Input::Server { link, message } => self.on_server(now, link, message, out),
        }
    }

    fn wake(&mut self, now: Time, out: &mut Vec<Output>) {
        while let Some(session) = self.timers.pop(now) {
            self.on_deadline(now, session, out);
        }
        if self.questions.deadline().is_some_and(|time| time <= now) {
            self.on_unanswered_question(now, out);
        }
    }

    fn next_wake(&self) -> Option<(Time, &'static str)> {
        let session = self.timers.first().map(|time| (time, "a session"));
        let question = self.questions.deadline().map(|time| (time, "the catalogue"));
        session.into_iter().chain(question).min()
    }
}
