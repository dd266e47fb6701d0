//! The machine of a gateway: turns client sessions into multicasts to groups, and keeps for each session how far its
//! client got, so that whichever server is primary can go on from there [FK:exactly-once].
//!
//! Invariant: a client is passed responses 1, 2, 3, ... of its session without gap or repetition, each from a server
//! whose fence was the greatest seen when the gateway opened the stream that it came on [FK:one-primary].

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use model::trace::Event;
use model::{Digest, Fence, GroupName, Machine, Name, SessionId, Time, UnitId};
use serde::Serialize;

use crate::message::{
    AttachRefusal, ContentMessage, Cursor, GatewayId, Secret, ServiceMessage, SessionMessage, ToGateway,
    ToServer, encode,
};
use crate::names::Purpose;
use crate::service::{Refusal, UnitInfo};

/// Limits and periods of a gateway.
#[derive(Clone, Debug)]
pub struct GatewayParams {
    /// How many sessions may be here at once.
    pub sessions_max: usize,
    /// How many requests of one session may wait for their acknowledgement.
    pub requests_max: usize,
    /// The largest request, in bytes.
    pub request_bytes_max: usize,
    /// How many responses a server may be ahead of the client.
    pub window: u64,
    /// How often a multicast that nobody answered is repeated.
    pub retry: Duration,
    /// How long clients wait while no server serves them.
    pub no_replica_timeout: Duration,
    /// How long a session waits for its client.
    pub detach_ttl: Duration,
    /// Whether trace events are among the outputs.
    pub trace: bool,
}

impl Default for GatewayParams {
    fn default() -> GatewayParams {
        GatewayParams {
            sessions_max: 20_000,
            requests_max: 64,
            request_bytes_max: 64 * 1024,
            window: 16,
            retry: Duration::from_millis(250),
            no_replica_timeout: Duration::from_secs(10),
            detach_ttl: Duration::from_secs(60),
            trace: false,
        }
    }
}

/// Names a call of a client, so that the host finds who waits for the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Names the stream of a content server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// Names one attachment of a client to its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attachment(pub u64);

/// A fact.
#[allow(missing_docs, reason = "the fields are named for what they are")]
#[derive(Clone, Debug)]
pub enum Input {
    /// The gateway is attached to a daemon.
    GroupsUp,
    /// It is not.
    GroupsDown,
    /// A client asks which units there are.
    List(Ticket),
    /// A client opens a session; the host drew `session` and `secret`.
    Open { ticket: Ticket, unit: UnitId, session: SessionId, secret: Secret },
    /// A client wants the responses of its session, after `cursor` if it has one.
    Attach { ticket: Ticket, unit: UnitId, session: SessionId, secret: Secret, cursor: Option<Cursor> },
    /// A client's stream is closed.
    Detach { session: SessionId, attachment: Attachment },
    /// A client's stream has taken all responses up to this number.
    Consumed { session: SessionId, attachment: Attachment, responses: u64 },
    /// A client's request. Without a number it is the next one.
    Request { ticket: Ticket, session: SessionId, secret: Secret, number: Option<u64>, operation: Bytes },
    /// A client is done with its session.
    Close { ticket: Ticket, unit: UnitId, session: SessionId, secret: Secret },
    /// A content server opened its stream.
    LinkUp { link: LinkId, server: Name },
    /// A content server's stream is closed.
    LinkDown(LinkId),
    /// A content server speaks.
    Server { link: LinkId, message: ToGateway },
}

/// An order.
#[allow(missing_docs, reason = "the fields are named for what they are")]
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Multicast to a group.
    Multicast { group: GroupName, payload: Bytes },
    /// Tell a content server.
    ToServer { link: LinkId, message: ToServer },
    /// Answer a call.
    Reply { ticket: Ticket, reply: Result<Reply, Failure> },
    /// Pass to the attached client.
    ToClient { session: SessionId, attachment: Attachment, event: ClientEvent },
    /// A server spoke out of turn, on a stream that is not its own any more; it was ignored.
    Stale { link: LinkId, session: SessionId },
    /// For observers.
    Trace(Event),
}

/// A good answer to a call.
#[allow(missing_docs, reason = "the fields are named for what they are")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The units there are.
    Units(Vec<UnitInfo>),
    /// The session is open.
    Opened,
    /// The client is attached: events follow.
    Attached(Attachment),
    /// The request has this number, and was applied.
    Applied { number: u64 },
    /// The session is over.
    Closed,
}

/// What an attached client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// This server serves from here on.
    Serving {
        /// Its name.
        server: Name,
        /// Its fence.
        fence: Fence,
        /// Whether another server did before.
        takeover: bool,
        /// Acknowledged requests that the new server knows nothing of.
        requests_lost: u64,
    },
    /// A response.
    Response {
        /// The client's position after it: its number, and what to bring when attaching elsewhere.
        cursor: Cursor,
        /// What the service sent.
        payload: Bytes,
        /// Nothing follows unless a request changes that.
        last: bool,
    },
    /// The stream is over, for this reason.
    Over(Failure),
}

/// Why a call failed or a stream ended.
#[allow(missing_docs, reason = "the fields are named for what they are")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No server holds such a unit.
    UnknownUnit,
    /// The session is not known, here or anywhere.
    UnknownSession,
    /// The session is over.
    Ended,
    /// The secret is not the session's.
    WrongSecret,
    /// No server came forward in time.
    NoReplica,
    /// The session has another client now, here or at another gateway.
    Displaced,
    /// The gateway has as many sessions as it may.
    TooManySessions { limit: usize },
    /// The session has as many unacknowledged requests as it may.
    TooManyRequests { limit: usize },
    /// The request is too large.
    RequestTooLarge { size: usize, limit: usize },
    /// The request's number leaves a gap.
    RequestGap { number: u64, expected: u64 },
    /// The service refused the request.
    Refused(Refusal),
}

impl From<AttachRefusal> for Failure {
    fn from(reason: AttachRefusal) -> Failure {
        match reason {
            AttachRefusal::Unknown => Failure::UnknownSession,
            AttachRefusal::Ended => Failure::Ended,
            AttachRefusal::WrongSecret => Failure::WrongSecret,
            AttachRefusal::Elsewhere => Failure::Displaced,
        }
    }
}

/// Where a session is in its life, as far as this gateway is concerned.
#[derive(Debug)]
enum Phase {
    /// Started, and no primary has claimed it yet. Given up at `until`.
    Opening { ticket: Ticket, until: Time },
    /// Opened through another gateway: asked for, and not claimed yet. Given up at `until`.
    Attaching { ticket: Ticket, until: Time },
    /// In use.
    Open,
    /// Its client closed it. Given up at `until`.
    Closing { tickets: Vec<Ticket>, until: Time },
    /// Its client did not come back. Given up at `until`.
    Expiring { until: Time },
}

/// A session at this gateway.
#[derive(Debug)]
struct Entry {
    unit: UnitId,
    secret: Secret,
    phase: Phase,
    /// The greatest fence seen.
    fence: Fence,
    /// Where that fence's server is, while its stream is open.
    server: Option<LinkId>,
    /// The fence of the server that the client was last told of.
    told: Option<Fence>,
    /// The number of the stream last opened to a server. Anything of another stream is out of date.
    stream: u64,
    /// The response that is accepted next, once the stream has started.
    expected: Option<u64>,
    /// How far the client got.
    cursor: Option<Cursor>,
    client: Option<Attachment>,
    /// Since when there is no client, or no server.
    alone_since: Option<Time>,
    requests: BTreeMap<u64, Pending>,
    last_request: u64,
    retry_at: Option<Time>,
}

/// A request that is not acknowledged yet.
#[derive(Debug)]
struct Pending {
    operation: Bytes,
    tickets: Vec<Ticket>,
}

/// Questions about the catalogue, and what is known of it.
#[derive(Debug, Default)]
struct Catalogue {
    units: BTreeMap<UnitId, UnitInfo>,
    query: u64,
    askers: Vec<Asker>,
    retry_at: Option<Time>,
}

/// Who waits for the catalogue, and for how long.
#[derive(Debug)]
struct Asker {
    ticket: Ticket,
    until: Time,
    /// What to open, if that is what the question is for.
    open: Option<(UnitId, SessionId, Secret)>,
}

/// A session as this gateway knows it, for operators.
#[derive(Clone, Debug)]
pub struct GatewaySession<'a> {
    /// The session.
    pub id: SessionId,
    /// The unit.
    pub unit: &'a UnitId,
    /// Who serves it, if anybody does.
    pub server: Option<Name>,
    /// Under which fence.
    pub fence: Fence,
    /// Whether its client is attached.
    pub attached: bool,
    /// How many responses were passed to the client.
    pub responses: u64,
    /// Requests that are not acknowledged yet.
    pub requests_pending: usize,
}

/// The gateway.
pub struct Gateway {
    id: GatewayId,
    params: GatewayParams,
    groups_up: bool,
    links: BTreeMap<LinkId, Name>,
    sessions: BTreeMap<SessionId, Entry>,
    catalogue: Catalogue,
    attachments: u64,
    timers: BTreeSet<(Time, SessionId)>,
}

impl Entry {
    fn new(unit: UnitId, secret: Secret, phase: Phase, retry_at: Time) -> Entry {
        Entry {
            unit,
            secret,
            phase,
            fence: Fence::NONE,
            server: None,
            told: None,
            stream: 0,
            expected: None,
            cursor: None,
            client: None,
            alone_since: None,
            requests: BTreeMap::new(),
            last_request: 0,
            retry_at: Some(retry_at),
        }
    }

    /// Whether `stream` on `link` is the one that the client is served by.
    fn is_served_by(&self, link: LinkId, stream: u64) -> bool {
        self.server == Some(link) && self.stream == stream
    }

    /// Nothing that any server sends on an earlier stream counts from here on.
    fn cut_stream(&mut self) {
        self.stream += 1;
        self.expected = None;
    }

    /// What a server is told that claims the session, or whose client has come or gone.
    fn orders(&self, session: SessionId, window: u64) -> ToServer {
        ToServer::Serve {
            session,
            fence: self.fence,
            stream: self.stream,
            cursor: self.cursor.clone(),
            credit: if self.client.is_some() { window } else { 0 },
            repeats_from: self.requests.keys().next().copied().unwrap_or(self.last_request + 1),
        }
    }

    fn deadline(&self, params: &GatewayParams) -> Option<Time> {
        let give_up = match self.phase {
            Phase::Opening { until, .. }
            | Phase::Attaching { until, .. }
            | Phase::Closing { until, .. }
            | Phase::Expiring { until } => Some(until),
            Phase::Open => self.alone_since.map(|since| since + self.patience(params)),
        };
        self.retry_at.into_iter().chain(give_up).min()
    }

    /// How long the session stays as it is without a client, or without a server.
    fn patience(&self, params: &GatewayParams) -> Duration {
        if self.client.is_some() { params.no_replica_timeout } else { params.detach_ttl }
    }

    /// Notes since when somebody is missing.
    fn note_company(&mut self, now: Time) {
        let complete = self.client.is_some() && self.server.is_some();
        self.alone_since = if complete { None } else { self.alone_since.or(Some(now)) };
    }
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
            catalogue: Catalogue::default(),
            attachments: 0,
            timers: BTreeSet::new(),
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
            responses: entry.cursor.as_ref().map_or(0, |cursor| cursor.responses),
            requests_pending: entry.requests.len(),
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

    /// Changes a session and keeps its timer right.
    fn with<R>(&mut self, session: SessionId, step: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        let entry = self.sessions.get_mut(&session)?;
        let before = entry.deadline(&self.params);
        let result = step(entry);
        let after = entry.deadline(&self.params);
        if before != after {
            self.timers.extend(after.map(|time| (time, session)));
            if let Some(time) = before {
                self.timers.remove(&(time, session));
            }
        }
        Some(result)
    }

    fn insert(&mut self, session: SessionId, entry: Entry) {
        self.timers.extend(entry.deadline(&self.params).map(|time| (time, session)));
        self.sessions.insert(session, entry);
    }

    /// Forgets a session: whoever waits for anything about it gets `failure`.
    fn remove(&mut self, session: SessionId, failure: &Failure, out: &mut Vec<Output>) {
        let Some(entry) = self.sessions.remove(&session) else { return };
        if let Some(time) = entry.deadline(&self.params) {
            self.timers.remove(&(time, session));
        }
        let closing = matches!(entry.phase, Phase::Closing { .. } | Phase::Expiring { .. });
        let closed = *failure == Failure::Ended || (closing && *failure == Failure::UnknownSession);
        let mut fail = |ticket| out.push(Output::Reply { ticket, reply: Err(failure.clone()) });
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
        if let Some(attachment) = entry.client {
            out.push(Output::ToClient { session, attachment, event: ClientEvent::Over(failure.clone()) });
        }
        if closed {
            self.observe(|gateway| Event::Close { gateway, session }, out);
        }
    }

    fn list(
        &mut self,
        now: Time,
        ticket: Ticket,
        open: Option<(UnitId, SessionId, Secret)>,
        out: &mut Vec<Output>,
    ) {
        let until = now + self.params.no_replica_timeout;
        self.catalogue.askers.push(Asker { ticket, until, open });
        if self.catalogue.retry_at.is_none() {
            self.ask(now, out);
        }
    }

    fn ask(&mut self, now: Time, out: &mut Vec<Output>) {
        self.catalogue.query += 1;
        self.catalogue.retry_at = Some(now + self.params.retry);
        let question = ServiceMessage::List { gateway: self.id.clone(), query: self.catalogue.query };
        self.multicast(&Purpose::Service, &question, out);
    }

    fn on_units(&mut self, now: Time, query: u64, units: Vec<UnitInfo>, out: &mut Vec<Output>) {
        if query != self.catalogue.query {
            return;
        }
        self.catalogue.units = units.into_iter().map(|info| (info.unit.clone(), info)).collect();
        self.catalogue.retry_at = None;
        for Asker { ticket, open, .. } in core::mem::take(&mut self.catalogue.askers) {
            match open {
                None => {
                    let units = self.catalogue.units.values().cloned().collect();
                    out.push(Output::Reply { ticket, reply: Ok(Reply::Units(units)) });
                }
                Some((unit, ..)) if !self.catalogue.units.contains_key(&unit) => {
                    out.push(Output::Reply { ticket, reply: Err(Failure::UnknownUnit) });
                }
                Some((unit, session, secret)) => self.start(now, ticket, unit, session, secret, out),
            }
        }
    }

    fn open(
        &mut self,
        now: Time,
        ticket: Ticket,
        unit: UnitId,
        session: SessionId,
        secret: Secret,
        out: &mut Vec<Output>,
    ) {
        if self.sessions.len() >= self.params.sessions_max {
            let failure = Failure::TooManySessions { limit: self.params.sessions_max };
            out.push(Output::Reply { ticket, reply: Err(failure) });
        } else if self.catalogue.units.contains_key(&unit) {
            self.start(now, ticket, unit, session, secret, out);
        } else {
            self.list(now, ticket, Some((unit, session, secret)), out);
        }
    }

    fn start(
        &mut self,
        now: Time,
        ticket: Ticket,
        unit: UnitId,
        session: SessionId,
        secret: Secret,
        out: &mut Vec<Output>,
    ) {
        let phase = Phase::Opening { ticket, until: now + self.params.no_replica_timeout };
        self.observe(|gateway| Event::Open { gateway, unit: unit.clone(), session }, out);
        self.insert(session, Entry::new(unit, secret, phase, now + self.params.retry));
        self.repeat(session, out);
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
            Phase::Attaching { .. } => {
                self.multicast(&content, &ContentMessage::Attach { session, secret, gateway }, out);
            }
            Phase::Closing { .. } => {
                let end = ContentMessage::End { session, secret, gateway: Some(gateway) };
                self.multicast(&content, &end, out);
            }
            Phase::Expiring { .. } => {
                self.multicast(&content, &ContentMessage::Expire { session, gateway }, out)
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

    #[allow(clippy::too_many_arguments, reason = "the fields of one input")]
    fn attach(
        &mut self,
        now: Time,
        ticket: Ticket,
        unit: UnitId,
        session: SessionId,
        secret: Secret,
        cursor: Option<Cursor>,
        out: &mut Vec<Output>,
    ) {
        match self.sessions.get(&session) {
            None => {
                let until = now + self.params.no_replica_timeout;
                let mut entry =
                    Entry::new(unit, secret, Phase::Attaching { ticket, until }, now + self.params.retry);
                entry.cursor = cursor;
                self.insert(session, entry);
                self.repeat(session, out);
            }
            Some(entry) if entry.secret != secret => {
                out.push(Output::Reply { ticket, reply: Err(Failure::WrongSecret) });
            }
            Some(entry) => match entry.phase {
                Phase::Open => self.admit(now, ticket, session, cursor, out),
                Phase::Opening { .. } => {
                    out.push(Output::Reply { ticket, reply: Err(Failure::UnknownSession) })
                }
                Phase::Attaching { .. } => self.displace_asker(session, ticket, cursor, out),
                Phase::Closing { .. } | Phase::Expiring { .. } => {
                    out.push(Output::Reply { ticket, reply: Err(Failure::Ended) });
                }
            },
        }
    }

    /// A client that asked to attach asks again before it was answered: the later call counts.
    fn displace_asker(
        &mut self,
        session: SessionId,
        by: Ticket,
        cursor: Option<Cursor>,
        out: &mut Vec<Output>,
    ) {
        self.with(session, |entry| {
            entry.cursor = cursor.or(entry.cursor.take());
            if let Phase::Attaching { ticket, .. } = &mut entry.phase {
                let displaced = core::mem::replace(ticket, by);
                out.push(Output::Reply { ticket: displaced, reply: Err(Failure::Displaced) });
            }
        });
    }

    /// Gives the session's stream to the client that asks for it, and takes it from the one that had it.
    fn admit(
        &mut self,
        now: Time,
        ticket: Ticket,
        session: SessionId,
        cursor: Option<Cursor>,
        out: &mut Vec<Output>,
    ) {
        self.attachments += 1;
        let attachment = Attachment(self.attachments);
        let displaced = self.with(session, |entry| {
            entry.cursor = cursor.or(entry.cursor.take());
            entry.cut_stream();
            let displaced = entry.client.replace(attachment);
            entry.alone_since = None;
            entry.note_company(now);
            displaced
        });
        if let Some(attachment) = displaced.flatten() {
            let event = ClientEvent::Over(Failure::Displaced);
            out.push(Output::ToClient { session, attachment, event });
        }
        out.push(Output::Reply { ticket, reply: Ok(Reply::Attached(attachment)) });
        self.instruct(session, out);
    }

    /// Tells the session's server what to do.
    fn instruct(&self, session: SessionId, out: &mut Vec<Output>) {
        let Some(entry) = self.sessions.get(&session) else { return };
        if let Some(link) = entry.server {
            out.push(Output::ToServer { link, message: entry.orders(session, self.params.window) });
        }
    }

    fn detach(&mut self, now: Time, session: SessionId, attachment: Attachment, out: &mut Vec<Output>) {
        let detached = self.with(session, |entry| {
            if entry.client != Some(attachment) {
                return false;
            }
            entry.client = None;
            entry.cut_stream();
            entry.alone_since = Some(now);
            true
        });
        if detached == Some(true) {
            self.instruct(session, out);
        }
    }

    fn consumed(&self, session: SessionId, attachment: Attachment, responses: u64, out: &mut Vec<Output>) {
        let Some(entry) = self.sessions.get(&session) else { return };
        if let (Some(link), Some(_), true) = (entry.server, entry.expected, entry.client == Some(attachment))
        {
            let up_to = responses.saturating_add(self.params.window);
            let message = ToServer::Credit { session, stream: entry.stream, up_to };
            out.push(Output::ToServer { link, message });
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one input")]
    fn request(
        &mut self,
        now: Time,
        ticket: Ticket,
        session: SessionId,
        secret: Secret,
        number: Option<u64>,
        operation: Bytes,
        out: &mut Vec<Output>,
    ) {
        let checked = self.check_request(session, secret, number, &operation);
        match checked {
            Err(failure) => out.push(Output::Reply { ticket, reply: Err(failure) }),
            Ok(Admission::Known { number }) => {
                out.push(Output::Reply { ticket, reply: Ok(Reply::Applied { number }) });
            }
            Ok(Admission::Pending { number }) => {
                self.with(session, |entry| {
                    entry.requests.entry(number).and_modify(|pending| pending.tickets.push(ticket));
                });
            }
            Ok(Admission::New { number }) => {
                let retry_at = now + self.params.retry;
                let digest = || Digest::of(&operation);
                self.observe(
                    |gateway| Event::Submit { gateway, session, request: number, digest: digest() },
                    out,
                );
                let group = self.with(session, |entry| {
                    let pending = Pending { operation: operation.clone(), tickets: Vec::from([ticket]) };
                    entry.requests.insert(number, pending);
                    entry.last_request = number;
                    entry.retry_at = entry.retry_at.or(Some(retry_at));
                    Purpose::Session(entry.unit.clone(), session)
                });
                if let Some(group) = group {
                    self.multicast(&group, &SessionMessage::Request { number, operation }, out);
                }
            }
        }
    }

    fn check_request(
        &self,
        session: SessionId,
        secret: Secret,
        number: Option<u64>,
        operation: &Bytes,
    ) -> Result<Admission, Failure> {
        let entry = self.sessions.get(&session).ok_or(Failure::UnknownSession)?;
        if entry.secret != secret {
            return Err(Failure::WrongSecret);
        }
        match entry.phase {
            Phase::Closing { .. } | Phase::Expiring { .. } => return Err(Failure::Ended),
            Phase::Opening { .. } | Phase::Attaching { .. } => return Err(Failure::UnknownSession),
            Phase::Open => {}
        }
        let (size, limit) = (operation.len(), self.params.request_bytes_max);
        if size > limit {
            return Err(Failure::RequestTooLarge { size, limit });
        }
        let expected = entry.last_request + 1;
        let number = number.unwrap_or(expected);
        if number > expected {
            return Err(Failure::RequestGap { number, expected });
        }
        if entry.requests.contains_key(&number) {
            return Ok(Admission::Pending { number });
        }
        if number < expected {
            return Ok(Admission::Known { number });
        }
        let limit = self.params.requests_max;
        if entry.requests.len() >= limit {
            return Err(Failure::TooManyRequests { limit });
        }
        Ok(Admission::New { number })
    }

    fn close(
        &mut self,
        now: Time,
        ticket: Ticket,
        unit: UnitId,
        session: SessionId,
        secret: Secret,
        out: &mut Vec<Output>,
    ) {
        let (until, retry_at) = (now + self.params.no_replica_timeout, now + self.params.retry);
        let phase = Phase::Closing { tickets: Vec::from([ticket]), until };
        match self.sessions.get(&session) {
            None => self.insert(session, Entry::new(unit, secret, phase, retry_at)),
            Some(entry) if entry.secret != secret => {
                out.push(Output::Reply { ticket, reply: Err(Failure::WrongSecret) });
                return;
            }
            Some(_) => self.begin_closing(session, phase, retry_at, out),
        }
        self.repeat(session, out);
    }

    fn begin_closing(&mut self, session: SessionId, closing: Phase, retry_at: Time, out: &mut Vec<Output>) {
        let before = self.with(session, |entry| {
            entry.retry_at = Some(retry_at);
            match (&mut entry.phase, closing) {
                (Phase::Closing { tickets, .. }, Phase::Closing { tickets: more, .. }) => {
                    tickets.extend(more);
                    None
                }
                (phase, closing) => Some(core::mem::replace(phase, closing)),
            }
        });
        if let Some(Phase::Opening { ticket, .. } | Phase::Attaching { ticket, .. }) = before.flatten() {
            out.push(Output::Reply { ticket, reply: Err(Failure::Ended) });
        }
    }

    fn on_server(&mut self, now: Time, link: LinkId, message: ToGateway, out: &mut Vec<Output>) {
        match message {
            ToGateway::Claim { unit, session, fence, requests } => {
                self.on_claim(now, link, &unit, session, fence, requests, out);
            }
            ToGateway::Started { session, stream, requests_lost, responses } => {
                self.on_started(link, session, stream, requests_lost, responses, out);
            }
            ToGateway::Response { session, stream, cursor, payload, last } => {
                self.on_response(link, session, stream, cursor, payload, last, out);
            }
            ToGateway::Applied { session, stream, number, outcome, cursor } => {
                self.on_applied(link, session, stream, number, outcome, cursor, out);
            }
            ToGateway::Ended { session } => self.remove(session, &Failure::Ended, out),
            ToGateway::Refused { session, reason } => {
                let waits =
                    self.sessions.get(&session).is_some_and(|entry| !matches!(entry.phase, Phase::Open));
                if waits {
                    self.remove(session, &reason.into(), out);
                }
            }
            ToGateway::Moved { session } => {
                if self.sessions.get(&session).is_some_and(|entry| entry.server == Some(link)) {
                    self.remove(session, &Failure::Displaced, out);
                }
            }
            ToGateway::Units { query, units } => self.on_units(now, query, units, out),
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one message")]
    fn on_claim(
        &mut self,
        now: Time,
        link: LinkId,
        unit: &UnitId,
        session: SessionId,
        fence: Fence,
        requests: u64,
        out: &mut Vec<Output>,
    ) {
        let Some(entry) = self.sessions.get(&session).filter(|entry| entry.unit == *unit) else {
            out.push(Output::ToServer { link, message: ToServer::Unknown { session } });
            return;
        };
        let (newest, before) = (entry.fence, entry.server);
        if fence < newest {
            out.push(Output::ToServer { link, message: ToServer::Fenced { session, fence } });
            self.observe(|gateway| Event::Fenced { gateway, session, fence, newer: newest }, out);
            return;
        }
        if let Some(before) = before.filter(|before| *before != link) {
            out.push(Output::ToServer { link: before, message: ToServer::Fenced { session, fence: newest } });
        }
        let ticket = self.with(session, |entry| {
            entry.fence = fence;
            entry.server = Some(link);
            entry.cut_stream();
            entry.last_request = entry.last_request.max(requests);
            let ticket = match entry.phase {
                Phase::Opening { ticket, .. } | Phase::Attaching { ticket, .. } => Some(ticket),
                Phase::Open | Phase::Closing { .. } | Phase::Expiring { .. } => None,
            };
            let attaching = matches!(entry.phase, Phase::Attaching { .. });
            if ticket.is_some() {
                entry.phase = Phase::Open;
                entry.retry_at = None;
            }
            if entry.client.is_some() {
                entry.alone_since = None;
            }
            entry.note_company(now);
            ticket.map(|ticket| (ticket, attaching))
        });
        match ticket.flatten() {
            Some((ticket, true)) => self.admit(now, ticket, session, None, out),
            Some((ticket, false)) => {
                out.push(Output::Reply { ticket, reply: Ok(Reply::Opened) });
                self.instruct(session, out);
            }
            None => self.instruct(session, out),
        }
    }

    fn on_started(
        &mut self,
        link: LinkId,
        session: SessionId,
        stream: u64,
        requests_lost: u64,
        responses: u64,
        out: &mut Vec<Output>,
    ) {
        let Some(entry) = self.sessions.get_mut(&session).filter(|entry| entry.is_served_by(link, stream))
        else {
            out.push(Output::Stale { link, session });
            return;
        };
        entry.expected = Some(responses + 1);
        if let (Some(attachment), Some(server)) = (entry.client, self.links.get(&link)) {
            let takeover = entry.told.replace(entry.fence).is_some_and(|told| told != entry.fence);
            let (server, fence) = (*server, entry.fence);
            let event = ClientEvent::Serving { server, fence, takeover, requests_lost };
            out.push(Output::ToClient { session, attachment, event });
        }
        self.repeat(session, out);
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one message")]
    fn on_response(
        &mut self,
        link: LinkId,
        session: SessionId,
        stream: u64,
        cursor: Cursor,
        payload: Bytes,
        last: bool,
        out: &mut Vec<Output>,
    ) {
        let response = cursor.responses;
        let accepts =
            |entry: &&mut Entry| entry.is_served_by(link, stream) && entry.expected == Some(response);
        let Some(entry) = self.sessions.get_mut(&session).filter(accepts) else {
            out.push(Output::Stale { link, session });
            return;
        };
        entry.expected = Some(response + 1);
        entry.cursor = Some(cursor.clone());
        let (fence, client) = (entry.fence, entry.client);
        self.observe(
            |gateway| Event::Accept { gateway, session, fence, response, digest: Digest::of(&payload) },
            out,
        );
        if let Some(attachment) = client {
            let event = ClientEvent::Response { cursor, payload, last };
            out.push(Output::ToClient { session, attachment, event });
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one message")]
    fn on_applied(
        &mut self,
        link: LinkId,
        session: SessionId,
        stream: u64,
        number: u64,
        outcome: Result<(), Refusal>,
        cursor: Cursor,
        out: &mut Vec<Output>,
    ) {
        let served = self.sessions.get(&session).is_some_and(|entry| entry.is_served_by(link, stream));
        if !served {
            out.push(Output::Stale { link, session });
            return;
        }
        let acknowledged = self.with(session, |entry| {
            entry.cursor = Some(cursor);
            let pending = entry.requests.remove(&number);
            if entry.requests.is_empty() && matches!(entry.phase, Phase::Open) {
                entry.retry_at = None;
            }
            pending
        });
        if let Some(Pending { tickets, .. }) = acknowledged.flatten() {
            self.observe(|gateway| Event::Acknowledge { gateway, session, request: number }, out);
            let reply = outcome.map(|()| Reply::Applied { number }).map_err(Failure::Refused);
            out.extend(tickets.into_iter().map(|ticket| Output::Reply { ticket, reply: reply.clone() }));
        }
    }

    fn link_down(&mut self, now: Time, link: LinkId) {
        self.links.remove(&link);
        let served = |(_, entry): &(&SessionId, &Entry)| entry.server == Some(link);
        let sessions: Vec<_> = self.sessions.iter().filter(served).map(|(id, _)| *id).collect();
        for session in sessions {
            self.with(session, |entry| {
                entry.server = None;
                entry.cut_stream();
                entry.note_company(now);
            });
        }
    }

    fn groups_up(&mut self, now: Time, out: &mut Vec<Output>) {
        self.groups_up = true;
        for session in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.repeat(session, out);
        }
        if self.catalogue.retry_at.is_some() {
            self.ask(now, out);
        }
    }

    /// Repeats what was not answered, and gives up on what nobody came forward for.
    fn on_deadline(&mut self, now: Time, session: SessionId, out: &mut Vec<Output>) {
        let Some(entry) = self.sessions.get(&session) else { return };
        let lonely = entry.alone_since.is_some_and(|since| since + entry.patience(&self.params) <= now);
        match entry.phase {
            Phase::Opening { until, .. }
            | Phase::Attaching { until, .. }
            | Phase::Closing { until, .. }
            | Phase::Expiring { until }
                if until <= now =>
            {
                self.remove(session, &Failure::NoReplica, out);
            }
            Phase::Open if lonely => self.give_up(now, session, out),
            Phase::Opening { .. }
            | Phase::Attaching { .. }
            | Phase::Closing { .. }
            | Phase::Expiring { .. }
            | Phase::Open => {
                self.repeat(session, out);
                let retry = self.params.retry;
                self.with(session, |entry| entry.retry_at = entry.retry_at.map(|_| now + retry));
            }
        }
    }

    /// No server came for the client: it is told so. No client came for the session: it is ended.
    fn give_up(&mut self, now: Time, session: SessionId, out: &mut Vec<Output>) {
        let Some(entry) = self.sessions.get(&session) else { return };
        if let Some(attachment) = entry.client {
            let event = ClientEvent::Over(Failure::NoReplica);
            out.push(Output::ToClient { session, attachment, event });
            self.detach(now, session, attachment, out);
            return;
        }
        let (until, retry_at) = (now + self.params.no_replica_timeout, now + self.params.retry);
        self.begin_closing(session, Phase::Expiring { until }, retry_at, out);
        self.repeat(session, out);
    }
}

/// What to do with a request.
enum Admission {
    /// It was acknowledged before.
    Known { number: u64 },
    /// It is under way.
    Pending { number: u64 },
    /// It is the next one.
    New { number: u64 },
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
                self.open(now, ticket, unit, session, secret, out)
            }
            Input::Attach { ticket, unit, session, secret, cursor } => {
                self.attach(now, ticket, unit, session, secret, cursor, out);
            }
            Input::Detach { session, attachment } => self.detach(now, session, attachment, out),
            Input::Consumed { session, attachment, responses } => {
                self.consumed(session, attachment, responses, out);
            }
            Input::Request { ticket, session, secret, number, operation } => {
                self.request(now, ticket, session, secret, number, operation, out);
            }
            Input::Close { ticket, unit, session, secret } => {
                self.close(now, ticket, unit, session, secret, out)
            }
            Input::LinkUp { link, server } => {
                self.links.insert(link, server);
            }
            Input::LinkDown(link) => self.link_down(now, link),
            Input::Server { link, message } => self.on_server(now, link, message, out),
        }
    }

    fn wake(&mut self, now: Time, out: &mut Vec<Output>) {
        while let Some((time, session)) = self.timers.first().copied() {
            if time > now {
                break;
            }
            self.timers.remove(&(time, session));
            self.on_deadline(now, session, out);
        }
        if self.catalogue.retry_at.is_some_and(|time| time <= now) {
            let (expired, waiting) =
                core::mem::take(&mut self.catalogue.askers).into_iter().partition(|asker| asker.until <= now);
            self.catalogue.askers = waiting;
            let expired: Vec<Asker> = expired;
            out.extend(
                expired
                    .into_iter()
                    .map(|asker| Output::Reply { ticket: asker.ticket, reply: Err(Failure::NoReplica) }),
            );
            self.catalogue.retry_at = None;
            if !self.catalogue.askers.is_empty() {
                self.ask(now, out);
            }
        }
    }

    fn next_wake(&self) -> Option<(Time, &'static str)> {
        let session = self.timers.first().map(|(time, _)| (*time, "a session"));
        let catalogue = self.catalogue.retry_at.map(|time| (time, "the catalogue"));
        session.into_iter().chain(catalogue).min()
    }
}
