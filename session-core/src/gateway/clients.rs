//! What clients ask of a gateway.

use alloc::vec::Vec;

use bytes::Bytes;
use model::trace::Event;
use model::{Digest, SessionId, Time, UnitId};

use super::Gateway;
use super::entry::{Admission, Entry, Pending, Phase};
use super::interface::{Attachment, ClientEvent, Failure, Output, Position, Reply, Ticket};
use super::questions::{Asker, Opening};
use crate::message::{Secret, ServiceMessage, SessionMessage};
use crate::names::Purpose;
use crate::service::UnitInfo;

/// A client's call about a session that it names.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) ticket: Ticket,
    pub(super) unit: UnitId,
    pub(super) session: SessionId,
    pub(super) secret: Secret,
}

/// A client's request to the service.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) ticket: Ticket,
    pub(super) session: SessionId,
    pub(super) secret: Secret,
    pub(super) number: Option<u64>,
    pub(super) operation: Bytes,
}

impl Gateway {
    pub(super) fn list(&mut self, now: Time, ticket: Ticket, open: Option<Opening>, out: &mut Vec<Output>) {
        let limit = self.params.sessions_max;
        if self.questions.waiting() >= limit {
            out.push(refused(ticket, Failure::TooManySessions { limit }));
            return;
        }
        let until = now + self.params.no_replica_timeout;
        self.questions.wait(Asker { ticket, until, open });
        if !self.questions.is_open() {
            self.ask(now, out);
        }
    }

    pub(super) fn ask(&mut self, now: Time, out: &mut Vec<Output>) {
        let query = self.questions.ask(now + self.params.retry);
        let question = ServiceMessage::List { gateway: self.id.clone(), query };
        self.multicast(&Purpose::Service, &question, out);
    }

    pub(super) fn on_units(&mut self, now: Time, query: u64, units: Vec<UnitInfo>, out: &mut Vec<Output>) {
        for Asker { ticket, open, .. } in self.questions.answer(query, units) {
            match open {
                None => {
                    let units = self.questions.units.values().cloned().collect();
                    out.push(Output::Reply { ticket, reply: Ok(Reply::Units(units)) });
                }
                Some(Opening { unit, session, secret }) => {
                    let call = Call { ticket, unit, session, secret };
                    if self.questions.units.contains_key(&call.unit) {
                        self.start(now, call, out);
                    } else {
                        out.push(refused(ticket, Failure::UnknownUnit));
                    }
                }
            }
        }
    }

    pub(super) fn open(&mut self, now: Time, call: Call, out: &mut Vec<Output>) {
        if self.questions.units.contains_key(&call.unit) {
            self.start(now, call, out);
        } else {
            let Call { ticket, unit, session, secret } = call;
            self.list(now, ticket, Some(Opening { unit, session, secret }), out);
        }
    }

    fn start(&mut self, now: Time, call: Call, out: &mut Vec<Output>) {
        let Call { ticket, unit, session, secret } = call;
        if let Some(failure) = self.lack_of_room() {
            out.push(refused(ticket, failure));
            return;
        }
        self.observe(|gateway| Event::Open { gateway, unit: unit.clone(), session }, out);
        let phase = Phase::Opening { ticket, until: now + self.params.no_replica_timeout };
        self.insert(now, session, Entry::new(unit, secret, phase), out);
    }

    fn lack_of_room(&self) -> Option<Failure> {
        let limit = self.params.sessions_max;
        (self.sessions.len() >= limit).then_some(Failure::TooManySessions { limit })
    }

    pub(super) fn attach(&mut self, now: Time, call: Call, from: Position, out: &mut Vec<Output>) {
        let Call { ticket, unit, session, secret } = call;
        let Some(entry) = self.sessions.get(&session) else {
            if let Some(failure) = self.lack_of_room() {
                out.push(refused(ticket, failure));
                return;
            }
            let phase = Phase::Attaching { ticket, until: now + self.params.no_replica_timeout };
            let mut entry = Entry::new(unit, secret, phase);
            entry.take_position(from);
            self.insert(now, session, entry, out);
            return;
        };
        if entry.secret != secret {
            out.push(refused(ticket, Failure::WrongSecret));
            return;
        }
        match entry.phase {
            Phase::Open => {
                let is_claimed = entry.server.is_some();
                self.seat(now, ticket, session, Some(from), out);
                if !is_claimed {
                    self.call_servers(session, out);
                }
            }
            Phase::Opening { .. } => out.push(refused(ticket, Failure::UnknownSession)),
            Phase::Attaching { .. } => self.displace_asker(now, session, ticket, from, out),
            Phase::Closing { .. } => out.push(refused(ticket, Failure::Ended)),
            Phase::Expiring { .. } => self.come_back(now, ticket, session, from, out),
        }
    }

    /// A client comes for a session that is about to be given up: perhaps in time.
    fn come_back(
        &mut self,
        now: Time,
        ticket: Ticket,
        session: SessionId,
        from: Position,
        out: &mut Vec<Output>,
    ) {
        let until = now + self.params.no_replica_timeout;
        self.with(now, session, |entry| {
            entry.take_position(from);
            entry.begin_to_repeat_anew();
            entry.phase = Phase::Attaching { ticket, until };
        });
        self.repeat(session, out);
    }

    /// A client that asked to attach asks again before it was answered: the later call counts.
    fn displace_asker(
        &mut self,
        now: Time,
        session: SessionId,
        by: Ticket,
        from: Position,
        out: &mut Vec<Output>,
    ) {
        self.with(now, session, |entry| {
            entry.take_position(from);
            if let Phase::Attaching { ticket, .. } = &mut entry.phase {
                out.push(refused(core::mem::replace(ticket, by), Failure::Displaced));
            }
        });
    }

    /// Gives the session's stream to the client that asks for it, and takes it from the one that had it.
    pub(super) fn seat(
        &mut self,
        now: Time,
        ticket: Ticket,
        session: SessionId,
        from: Option<Position>,
        out: &mut Vec<Output>,
    ) {
        self.attachments += 1;
        let attachment = Attachment(self.attachments);
        let displaced = self.with(now, session, |entry| {
            if let Some(from) = from {
                entry.take_position(from);
            }
            entry.watch.hear(now);
            entry.seat(attachment)
        });
        if let Some(attachment) = displaced.flatten() {
            let event = ClientEvent::Over(Failure::Displaced);
            out.push(Output::ToClient { session, attachment, event });
        }
        if let Some((responses, requests)) = self.sessions.get(&session).and_then(|entry| entry.has()) {
            self.observe(|gateway| Event::Seat { gateway, session, responses, requests }, out);
        }
        out.push(Output::Reply { ticket, reply: Ok(Reply::Attached(attachment)) });
        self.instruct(session, out);
    }

    pub(super) fn detach(
        &mut self,
        now: Time,
        session: SessionId,
        attachment: Attachment,
        out: &mut Vec<Output>,
    ) {
        let detached = self.with(now, session, |entry| {
            let ours = entry.client.is_some_and(|reader| reader.attachment == attachment);
            if ours {
                entry.client = None;
                entry.cut_stream();
            }
            ours
        });
        if detached == Some(true) {
            self.instruct(session, out);
        }
    }

    pub(super) fn consumed(
        &mut self,
        now: Time,
        session: SessionId,
        attachment: Attachment,
        responses: u64,
        bytes: u64,
        out: &mut Vec<Output>,
    ) {
        if let Some(entry) = self.sessions.get_mut(&session) {
            entry.consume(attachment, responses, bytes);
        }
        self.top_up(now, session, out);
    }

    pub(super) fn request(&mut self, now: Time, submission: Submission, out: &mut Vec<Output>) {
        let Submission { ticket, session, secret, number, operation } = submission;
        let admission = match self.sessions.get(&session) {
            None => Err(Failure::UnknownSession),
            Some(entry) if entry.secret != secret => Err(Failure::WrongSecret),
            Some(entry) => entry.admit(number, operation.len(), &self.params),
        };
        let (number, again) = match admission {
            Err(failure) => {
                out.push(refused(ticket, failure));
                return;
            }
            Ok(Admission::Pending { number }) => {
                self.with(now, session, |entry| {
                    entry.requests.entry(number).and_modify(|pending| pending.tickets.push(ticket));
                });
                return;
            }
            Ok(Admission::Again { number }) => (number, true),
            Ok(Admission::New { number }) => (number, false),
        };
        if !again {
            let digest = || Digest::of(&operation);
            self.observe(
                |gateway| Event::Submit { gateway, session, request: number, digest: digest() },
                out,
            );
        }
        let params = self.params.clone();
        let entered = self.with(now, session, |entry| {
            let tickets = Vec::from([ticket]);
            if entry.requests.is_empty() {
                entry.watch.ask(now);
            }
            entry.requests.insert(number, Pending { operation: operation.clone(), tickets, again });
            entry.last_request = entry.last_request.max(number);
            (Purpose::Session(entry.unit.clone(), session), entry.make_room(&params))
        });
        let Some((group, gave_way)) = entered else { return };
        let failure = Failure::TooManyRequests { limit: params.requests_max };
        out.extend(gave_way.into_iter().map(|ticket| refused(ticket, failure.clone())));
        self.multicast(&group, &SessionMessage::Request { number, operation }, out);
    }

    pub(super) fn close(&mut self, now: Time, call: Call, out: &mut Vec<Output>) {
        let Call { ticket, unit, session, secret } = call;
        let closing =
            Phase::Closing { tickets: Vec::from([ticket]), until: now + self.params.no_replica_timeout };
        match self.sessions.get(&session) {
            None => match self.lack_of_room() {
                Some(failure) => out.push(refused(ticket, failure)),
                None => self.insert(now, session, Entry::new(unit, secret, closing), out),
            },
            Some(entry) if entry.secret != secret => out.push(refused(ticket, Failure::WrongSecret)),
            Some(_) => self.end(now, session, closing, out),
        }
    }

    /// Brings a session to its end, by the client's wish or for want of a client.
    pub(super) fn end(&mut self, now: Time, session: SessionId, end: Phase, out: &mut Vec<Output>) {
        let limit = self.params.requests_max;
        self.with(now, session, Entry::begin_to_repeat_anew);
        self.with(now, session, |entry| match (&mut entry.phase, end) {
            (Phase::Closing { tickets, .. }, Phase::Closing { tickets: more, .. }) => {
                let room = limit.saturating_sub(tickets.len());
                for (place, ticket) in more.into_iter().enumerate() {
                    if place < room {
                        tickets.push(ticket);
                    } else {
                        out.push(refused(ticket, Failure::TooManyRequests { limit }));
                    }
                }
            }
            (phase, end) => {
                let before = core::mem::replace(phase, end);
                if let Phase::Opening { ticket, .. } | Phase::Attaching { ticket, .. } = before {
                    out.push(refused(ticket, Failure::Ended));
                }
            }
        });
        self.repeat(session, out);
    }
}

pub(super) fn refused(ticket: Ticket, failure: Failure) -> Output {
    Output::Reply { ticket, reply: Err(failure) }
}
