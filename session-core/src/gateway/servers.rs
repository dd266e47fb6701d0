//! What content servers tell a gateway.

use alloc::boxed::Box;
use alloc::vec::Vec;

use model::trace::Event;
use model::{Digest, Fence, SessionId, Time, UnitId};

use super::Gateway;
use super::entry::{Entry, Pending, Phase};
use super::interface::{Change, ClientEvent, Failure, LinkId, Output, Reply};
use crate::message::{AttachRefusal, ContentMessage, Cursor, Response, Resume, ToGateway, ToServer};
use crate::names::Purpose;
use crate::service::Refusal;

/// Where a server speaks: its link, and the session and stream that it speaks of.
#[derive(Clone, Copy, Debug)]
struct Place {
    link: LinkId,
    session: SessionId,
    stream: u64,
}

/// A server's claim to be primary.
#[derive(Debug)]
struct Claim {
    link: LinkId,
    unit: UnitId,
    session: SessionId,
    fence: Fence,
    requests: u64,
}

/// How a stream starts.
#[derive(Debug)]
struct Start {
    requests_lost: u64,
    cursor: Cursor,
    uncertain: bool,
    merged: bool,
    rebuilt: bool,
}

/// What became of a request, and the client's position after it.
#[derive(Debug)]
struct Acknowledgement {
    number: u64,
    outcome: Result<(), Refusal>,
    cursor: Cursor,
}

/// Whose call a claim answers.
enum Answered {
    Opening,
    Attaching,
}

impl Gateway {
    pub(super) fn on_server(&mut self, now: Time, link: LinkId, message: ToGateway, out: &mut Vec<Output>) {
        match message {
            ToGateway::Claim { unit, session, fence, requests } => {
                self.on_claim(now, Claim { link, unit, session, fence, requests }, out);
            }
            ToGateway::Started { session, stream, requests_lost, cursor, uncertain, merged, rebuilt } => {
                let start = Start { requests_lost, cursor, uncertain, merged, rebuilt };
                self.on_started(now, Place { link, session, stream }, start, out);
            }
            ToGateway::Responses { session, stream, responses } => {
                self.on_responses(now, Place { link, session, stream }, responses, out);
            }
            ToGateway::Applied { session, stream, number, outcome, cursor } => {
                let acknowledgement = Acknowledgement { number, outcome, cursor };
                self.on_applied(now, Place { link, session, stream }, acknowledgement, out);
            }
            ToGateway::Rests { session, stream, time } => {
                if self.served(Place { link, session, stream }, out).is_some() {
                    self.with(now, session, |entry| entry.watch.rest(now, time));
                }
            }
            ToGateway::Suspended { session } => self.on_suspended(now, link, session),
            ToGateway::Ended { session } => self.remove(session, &Failure::Ended, out),
            ToGateway::Refused { session, reason } => self.on_refused(now, link, session, reason, out),
            ToGateway::Moved { session } => {
                if self.sessions.get(&session).is_some_and(|entry| entry.server == Some(link)) {
                    self.remove(session, &Failure::Displaced, out);
                }
            }
            ToGateway::Units { query, units } => self.on_units(now, query, units, out),
        }
    }

    fn on_claim(&mut self, now: Time, claim: Claim, out: &mut Vec<Output>) {
        let Claim { link, unit, session, fence, requests } = claim;
        let Some(entry) = self.sessions.get(&session).filter(|entry| entry.unit == unit) else {
            out.push(Output::ToServer { link, message: ToServer::Unknown { session } });
            return;
        };
        let (newest, before) = (entry.fence, entry.server);
        if fence < newest {
            out.push(Output::ToServer { link, message: ToServer::Fenced { session, fence } });
            self.observe(|gateway| Event::Fenced { gateway, session, fence, newer: newest }, out);
            return;
        }
        self.observe(|gateway| Event::Grant { gateway, session, fence }, out);
        if let Some(before) = before.filter(|_| newest < fence) {
            out.push(Output::ToServer { link: before, message: ToServer::Fenced { session, fence: newest } });
        }
        let answered = self.with(now, session, |entry| {
            entry.stalled |= newest < fence && entry.watch.has_complained();
            if newest < fence {
                let why = match before {
                    _ if entry.stalled => Change::Stalled,
                    Some(_) => Change::Moved,
                    None => Change::Lost,
                };
                entry.begin_change(now, why);
                entry.miss_client_anew();
            }
            entry.watch.hear(now);
            entry.fence = fence;
            entry.server = Some(link);
            entry.begin_to_repeat_anew();
            entry.cut_stream();
            entry.last_request = entry.last_request.max(requests);
            let answered = match entry.phase {
                Phase::Opening { ticket, .. } => Some((ticket, Answered::Opening)),
                Phase::Attaching { ticket, .. } => Some((ticket, Answered::Attaching)),
                Phase::Open | Phase::Closing { .. } | Phase::Expiring { .. } => return None,
            };
            entry.phase = Phase::Open;
            answered
        });
        match answered.flatten() {
            Some((ticket, Answered::Attaching)) => self.seat(now, ticket, session, None, out),
            Some((ticket, Answered::Opening)) => {
                out.push(Output::Reply { ticket, reply: Ok(Reply::Opened) });
                self.instruct(session, out);
            }
            None => self.instruct(session, out),
        }
    }

    /// The session, if this is the stream that serves it.
    fn served(&mut self, place: Place, out: &mut Vec<Output>) -> Option<&mut Entry> {
        let Place { link, session, stream } = place;
        let entry = self.sessions.get_mut(&session).filter(|entry| entry.is_served_by(link, stream));
        if entry.is_none() {
            out.push(Output::Stale { link, session });
        }
        entry.map(Box::as_mut)
    }

    /// A stream starts where the client is, or, if that is not known or not asked for, where the server is. One for which
    /// nobody asked may leave something out on its way.
    fn on_started(&mut self, now: Time, place: Place, start: Start, out: &mut Vec<Output>) {
        let Place { link, session, .. } = place;
        let Start { requests_lost, cursor, uncertain, merged, rebuilt } = start;
        let server = self.links.get(&link).copied();
        let Some(entry) = self.served(place, out) else { return };
        let after = cursor.responses;
        let elsewhere = entry.position.responses().filter(|before| *before != after);
        if elsewhere.is_some() && !uncertain {
            out.push(Output::Stale { link, session });
            return;
        }
        out.extend(elsewhere.map(|before| Output::Displaced { session, before, after }));
        let begins = entry.expected.is_none();
        entry.watch.hear(now);
        entry.start_stream(cursor);
        entry.requests_lost = entry.requests_lost.saturating_add(requests_lost);
        // A server says so until it sees that the client has gone on.
        let is_news = entry.told != Some(entry.fence);
        entry.merged |= merged && is_news;
        entry.rebuilt |= rebuilt && is_news;
        if let (true, Some(reader), Some(server)) = (begins, entry.client, server) {
            let fence = entry.fence;
            let takeover = entry.told.replace(fence).is_some_and(|told| told != fence);
            let requests_lost = core::mem::take(&mut entry.requests_lost);
            let merged = core::mem::take(&mut entry.merged).then_some(ClientEvent::Merged);
            let rebuilt = core::mem::take(&mut entry.rebuilt).then_some(ClientEvent::Rebuilt);
            let stalled = core::mem::take(&mut entry.stalled);
            if let Some((since, why)) = entry.change.take().filter(|_| takeover) {
                out.push(Output::TakenOver {
                    session,
                    server,
                    fence,
                    why,
                    gap: now.since(since),
                    requests_lost,
                });
            }
            let attachment = reader.attachment;
            let event = ClientEvent::Serving { server, fence, takeover, requests_lost, stalled };
            let events = [event].into_iter().chain(merged).chain(rebuilt);
            out.extend(events.map(|event| Output::ToClient { session, attachment, event }));
        }
        self.with(now, session, Entry::begin_to_repeat_anew);
        self.top_up(now, session, out);
        self.repeat(session, out);
    }

    fn on_responses(&mut self, now: Time, place: Place, mut responses: Vec<Response>, out: &mut Vec<Output>) {
        let Place { link, session, .. } = place;
        let Some(entry) = self.served(place, out) else { return };
        let said = responses.len();
        responses.retain(|response| entry.accept(response));
        out.extend((responses.len()..said).map(|_| Output::Stale { link, session }));
        let Some(newest) = responses.last() else { return };
        entry.position = Resume::After(newest.cursor.clone());
        let (fence, client, rested) = (entry.fence, entry.client, entry.watch.is_resting());
        entry.watch.hear(now);
        if rested {
            self.with(now, session, |_| ());
        }
        for Response { cursor, payload, .. } in &responses {
            let (response, digest) = (cursor.responses, || Digest::of(payload));
            self.observe(
                |gateway| Event::Accept { gateway, session, fence, response, digest: digest() },
                out,
            );
        }
        if let Some(reader) = client {
            let event = ClientEvent::Responses(responses);
            out.push(Output::ToClient { session, attachment: reader.attachment, event });
        }
    }

    fn on_applied(
        &mut self,
        now: Time,
        place: Place,
        acknowledgement: Acknowledgement,
        out: &mut Vec<Output>,
    ) {
        let Acknowledgement { number, outcome, cursor } = acknowledgement;
        let Place { link, session, .. } = place;
        let Some(entry) = self.served(place, out) else { return };
        if entry.expected != Some(cursor.responses + 1) {
            out.push(Output::Stale { link, session });
            return;
        }
        entry.position = Resume::After(cursor);
        let pending = self.with(now, session, |entry| {
            entry.watch.hear(now);
            entry.begin_to_repeat_anew();
            entry.requests.remove(&number)
        });
        let pending = pending.flatten();
        let Some(Pending { tickets, again, .. }) = pending else { return };
        if !again {
            self.observe(|gateway| Event::Acknowledge { gateway, session, request: number }, out);
        }
        let reply = outcome.map(|()| Reply::Applied { number }).map_err(Failure::Refused);
        out.extend(tickets.into_iter().map(|ticket| Output::Reply { ticket, reply: reply.clone() }));
    }

    /// Counts if this gateway waits for an answer, or if the server that serves the session says it. A session that nobody
    /// knows may be made anew from where its client is.
    fn on_refused(
        &mut self,
        now: Time,
        link: LinkId,
        session: SessionId,
        reason: AttachRefusal,
        out: &mut Vec<Output>,
    ) {
        let Some(entry) = self.sessions.get(&session) else { return };
        let in_use = matches!(entry.phase, Phase::Open) && entry.is_served();
        if in_use && entry.server != Some(link) {
            return;
        }
        match entry.rebuilds_from() {
            Some(cursor) if reason == AttachRefusal::Unknown => self.rebuild(now, session, cursor, out),
            Some(_) | None => self.remove(session, &reason.into(), out),
        }
    }

    /// The session is to be made anew, by servers that may count from the beginning: daemons and membership servers may
    /// all have started again too, and then no fence of theirs is above those that this gateway has seen.
    fn rebuild(&mut self, now: Time, session: SessionId, cursor: Option<Cursor>, out: &mut Vec<Output>) {
        self.with(now, session, Entry::forget_servers);
        let Some(entry) = self.sessions.get(&session) else { return };
        let (secret, gateway) = (entry.secret, self.id.clone());
        let content = Purpose::Content(entry.unit.clone());
        let has_client = entry.client.is_some() || matches!(entry.phase, Phase::Attaching { .. });
        self.observe(|gateway| Event::Rebuild { gateway, session }, out);
        self.multicast(&content, &ContentMessage::Rebuild { session, secret, gateway, cursor }, out);
        // Somebody may know the session by then, and think that its client is elsewhere, or gone.
        if has_client {
            self.call_servers(session, out);
        }
    }

    /// The client of this session waits for another server, and is told if none comes.
    fn on_suspended(&mut self, now: Time, link: LinkId, session: SessionId) {
        if self.sessions.get(&session).is_some_and(|entry| entry.server == Some(link)) {
            self.lose_server(now, session, Change::Suspended);
        }
    }

    fn lose_server(&mut self, now: Time, session: SessionId, why: Change) {
        self.with(now, session, |entry| {
            entry.begin_change(now, why);
            entry.lose_server();
        });
    }

    pub(super) fn link_down(&mut self, now: Time, link: LinkId) {
        self.links.remove(&link);
        let served = self.sessions.iter().filter(|(_, entry)| entry.server == Some(link));
        let sessions: Vec<_> = served.map(|(id, _)| *id).collect();
        for session in sessions {
            self.lose_server(now, session, Change::Lost);
        }
    }
}
