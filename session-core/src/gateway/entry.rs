//! One session at a gateway: how far its client got, who serves it, and what waits for an answer.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use model::{Fence, SessionId, Time, UnitId};

use super::interface::{Attachment, Change, Failure, GatewayParams, LinkId, Position, Ticket};
use super::reader::Reader;
use super::watch::{Waits, Watch};
use crate::credit::{Credit, response_bytes};
use crate::message::{Cursor, Response, Resume, Secret, ToServer};

/// The time between two repetitions doubles so often.
const REPEATS_MAX: u32 = 4;

/// Where a session is in its life, as far as this gateway is concerned.
#[derive(Debug)]
pub(super) enum Phase {
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

/// Who is missing in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Client,
    /// A server that serves, while there is a client.
    Server,
}

/// A request that is not acknowledged yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) operation: Bytes,
    pub(super) tickets: Vec<Ticket>,
    /// It had been acknowledged before, and its client asks again.
    pub(super) again: bool,
}

/// What to do with a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It was acknowledged before; the server may remember what it said.
    Again { number: u64 },
    /// It is under way.
    Pending { number: u64 },
    /// It is the next one.
    New { number: u64 },
}

/// A session at this gateway.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) unit: UnitId,
    pub(super) secret: Secret,
    pub(super) phase: Phase,
    /// The greatest fence seen.
    pub(super) fence: Fence,
    /// Where that fence's server is, while its stream is open.
    pub(super) server: Option<LinkId>,
    /// The fence of the server that the client was last told of.
    pub(super) told: Option<Fence>,
    /// Acknowledged requests that were lost, and of which no client was told.
    pub(super) requests_lost: u64,
    /// Whether contexts of two sides of a partition were made one, and no client was told.
    pub(super) merged: bool,
    /// Whether the session was made anew, and no client was told.
    pub(super) rebuilt: bool,
    /// The number of the stream last opened to a server. Anything of another stream is out of date.
    pub(super) stream: u64,
    /// The response that is accepted next, once the stream has started.
    pub(super) expected: Option<u64>,
    /// How far the client got.
    pub(super) position: Resume,
    /// Whether that is from a server, or from a client with a seal on it.
    sealed: bool,
    /// Whether the client sends again what that does not reflect.
    pub(super) resends: bool,
    pub(super) client: Option<Reader>,
    pub(super) requests: BTreeMap<u64, Pending>,
    pub(super) last_request: u64,
    /// How long its server has been silent.
    pub(super) watch: Watch,
    /// How often that was too long.
    pub(super) stalls: u32,
    /// Whether the present server was appointed in place of one that was silent, and no client was told.
    pub(super) stalled: bool,
    /// Since when the client waits for a server in place of the one that it was told of last, and why it does.
    pub(super) change: Option<(Time, Change)>,
    /// Who is missing, and since when.
    missing: Option<(Missing, Time)>,
    retry_at: Option<Time>,
    /// How often in a row something was repeated.
    repeats: u32,
}

impl Entry {
    pub(super) fn new(unit: UnitId, secret: Secret, phase: Phase) -> Entry {
        let position = match phase {
            Phase::Opening { .. } => Resume::Beginning,
            Phase::Attaching { .. } | Phase::Open | Phase::Closing { .. } | Phase::Expiring { .. } => {
                Resume::Anywhere
            }
        };
        Entry {
            unit,
            secret,
            phase,
            fence: Fence::NONE,
            server: None,
            told: None,
            requests_lost: 0,
            merged: false,
            rebuilt: false,
            stream: 0,
            expected: None,
            position,
            sealed: true,
            resends: false,
            client: None,
            requests: BTreeMap::new(),
            last_request: 0,
            watch: Watch::new(),
            stalls: 0,
            stalled: false,
            change: None,
            missing: None,
            retry_at: None,
            repeats: 0,
        }
    }

    /// Brings up to date what follows from the rest: who is missing since when, and whether something is repeated.
    pub(super) fn review(&mut self, now: Time, params: &GatewayParams) {
        let missing = match (&self.phase, &self.client) {
            (Phase::Open, None) => Some(Missing::Client),
            (Phase::Open, Some(_)) if !self.is_served() => Some(Missing::Server),
            (Phase::Open, Some(_)) => None,
            (
                Phase::Opening { .. }
                | Phase::Attaching { .. }
                | Phase::Closing { .. }
                | Phase::Expiring { .. },
                _,
            ) => None,
        };
        self.missing = missing.map(|who| match self.missing {
            Some((before, since)) if before == who => (who, since),
            Some(_) | None => (who, now),
        });
        let waits = match self.phase {
            Phase::Opening { .. }
            | Phase::Attaching { .. }
            | Phase::Closing { .. }
            | Phase::Expiring { .. } => true,
            Phase::Open => !self.requests.is_empty() || self.lacks_server(),
        };
        let pause = params.retry * 2_u32.pow(self.repeats.min(REPEATS_MAX));
        self.retry_at = waits.then(|| self.retry_at.unwrap_or(now + pause));
    }

    /// What was to be repeated has been: again later, and later each time. Where answers are late since there is too much to
    /// do, whoever goes on repeating makes them later.
    pub(super) fn repeated(&mut self) {
        self.retry_at = None;
        self.repeats = self.repeats.saturating_add(1);
    }

    /// Some of what was waited for has come, or others may listen from here on.
    pub(super) fn begin_to_repeat_anew(&mut self) {
        self.retry_at = None;
        self.repeats = 0;
    }

    /// Whether a server has begun to serve the client, and its stream is open.
    pub(super) fn is_served(&self) -> bool {
        self.server.is_some() && self.expected.is_some()
    }

    /// Whether a client waits for a server.
    pub(super) fn lacks_server(&self) -> bool {
        matches!(self.missing, Some((Missing::Server, _)))
    }

    /// When something is repeated or given up, or a server is silent for too long.
    pub(super) fn deadline(&self, params: &GatewayParams) -> Option<Time> {
        self.retry_at.into_iter().chain(self.gives_up_at(params)).chain(self.is_silent_at(params)).min()
    }

    /// Whether what waits for an answer is to be repeated.
    pub(super) fn is_to_be_repeated(&self, now: Time) -> bool {
        self.retry_at.is_some_and(|time| time <= now)
    }

    /// When the server has been silent for too long, if it owes anything.
    pub(super) fn is_silent_at(&self, params: &GatewayParams) -> Option<Time> {
        let waits = match self.phase {
            Phase::Opening { .. } | Phase::Attaching { .. } => Waits::Answer,
            Phase::Open if self.client.is_none() => Waits::No,
            Phase::Open if self.lacks_server() || !self.requests.is_empty() => Waits::Answer,
            Phase::Open => Waits::Response,
            Phase::Closing { .. } | Phase::Expiring { .. } => Waits::No,
        };
        self.watch.deadline(waits, params.stall_timeout)
    }

    /// Whether the server may send nothing more before the client has taken some. It owes nothing then.
    pub(super) fn is_held_back(&self) -> bool {
        let has_room = |next| self.client.is_some_and(|reader| reader.has_room_for(next));
        self.is_served() && self.requests.is_empty() && self.expected.is_some_and(|next| !has_room(next))
    }

    /// When this gateway loses its patience.
    pub(super) fn gives_up_at(&self, params: &GatewayParams) -> Option<Time> {
        match self.phase {
            Phase::Opening { until, .. }
            | Phase::Attaching { until, .. }
            | Phase::Closing { until, .. }
            | Phase::Expiring { until } => Some(until),
            Phase::Open => self.missing.map(|(who, since)| since + patience(who, params)),
        }
    }

    /// Whether `stream` on `link` is the one that the client is served by.
    pub(super) fn is_served_by(&self, link: LinkId, stream: u64) -> bool {
        self.server == Some(link) && self.stream == stream
    }

    /// Nothing that any server sends on an earlier stream counts from here on.
    pub(super) fn cut_stream(&mut self) {
        self.stream += 1;
        self.expected = None;
    }

    /// The server that the client was told of serves it no more.
    pub(super) fn begin_change(&mut self, now: Time, why: Change) {
        if self.client.is_some() && self.told.is_some() {
            self.change.get_or_insert((self.watch.quiet_since(now), why));
        }
    }

    /// Nobody serves the session until a server claims it.
    pub(super) fn lose_server(&mut self) {
        self.server = None;
        self.cut_stream();
    }

    /// A client that is missing is missed from now on: it may have been elsewhere until now, on another side of a separation
    /// whose servers have come to those of this gateway.
    pub(super) fn miss_client_anew(&mut self) {
        self.missing = self.missing.filter(|(who, _)| *who != Missing::Client);
    }

    /// No server that this gateway has seen has any right to the session.
    pub(super) fn forget_servers(&mut self) {
        self.fence = Fence::NONE;
        self.lose_server();
    }

    /// Where the client says that it is counts, if it says anything.
    pub(super) fn take_position(&mut self, from: Position) {
        let Position { resume, resends, sealed } = from;
        self.resends = resends;
        match resume {
            Resume::Anywhere => return,
            Resume::Beginning => {}
            Resume::After(Cursor { requests, .. }) => self.last_request = self.last_request.max(requests),
        }
        self.position = resume;
        self.sealed = sealed;
    }

    /// From where the session can be made anew, if all servers have forgotten it: after the cursor, or from the beginning.
    pub(super) fn rebuilds_from(&self) -> Option<Option<Cursor>> {
        let waits = matches!(self.phase, Phase::Open | Phase::Attaching { .. });
        match &self.position {
            Resume::Anywhere => None,
            Resume::Beginning => Some(None),
            Resume::After(cursor) => Some(Some(cursor.clone())),
        }
        .filter(|_| waits && self.sealed)
    }

    /// How many responses the client has, and how many requests they reflect, if that is known.
    pub(super) fn has(&self) -> Option<(u64, u64)> {
        match &self.position {
            Resume::Beginning => Some((0, 0)),
            Resume::After(cursor) => Some((cursor.responses, cursor.requests)),
            Resume::Anywhere => None,
        }
    }

    /// Seats a client, which has everything up to the cursor. Returns the one that had the seat.
    pub(super) fn seat(&mut self, attachment: Attachment) -> Option<Attachment> {
        let consumed = self.position.responses().unwrap_or(0);
        let reader = Reader::new(attachment, consumed);
        self.change = None;
        self.cut_stream();
        self.begin_to_repeat_anew();
        self.client.replace(reader).map(|before| before.attachment)
    }

    /// Opens the present stream to the server: what it is told when it claims the session, or when the client has
    /// come or gone.
    pub(super) fn grant(&mut self, session: SessionId, window: Credit) -> ToServer {
        let from = self.position.responses();
        let credit = self.client.as_mut().map(|reader| reader.open_stream(from, window));
        ToServer::Serve {
            session,
            fence: self.fence,
            stream: self.stream,
            resume: self.position.clone(),
            credit,
            repeats_from: self.repeats_from(),
        }
    }

    /// The first request that servers will be given again: by the client if it does that, else by this gateway.
    fn repeats_from(&self) -> u64 {
        let first_new = self.requests.iter().find(|(_, pending)| !pending.again).map(|(number, _)| *number);
        match &self.position {
            Resume::Beginning if self.resends => 1,
            Resume::After(cursor) if self.resends => cursor.requests + 1,
            Resume::Beginning | Resume::After(_) | Resume::Anywhere => {
                first_new.unwrap_or(self.last_request + 1)
            }
        }
    }

    /// The stream has started at `cursor`. If that is not where the client was, its window moves along.
    pub(super) fn start_stream(&mut self, cursor: Cursor) {
        let responses = cursor.responses;
        self.expected = Some(responses + 1);
        if let Some(reader) = &mut self.client {
            reader.shift(self.position.responses(), responses);
        }
        self.position = Resume::After(cursor);
        self.sealed = true;
    }

    /// Accepts a response for the client, if it is the one that comes next.
    pub(super) fn accept(&mut self, response: &Response) -> bool {
        let Response { cursor, payload, .. } = response;
        if self.expected != Some(cursor.responses) {
            return false;
        }
        self.expected = Some(cursor.responses + 1);
        if let Some(reader) = &mut self.client {
            reader.pass(response_bytes(payload, &cursor.context));
        }
        true
    }

    /// The client's stream has taken the responses up to this one, and so many bytes in all.
    pub(super) fn consume(&mut self, attachment: Attachment, responses: u64, bytes: u64) {
        // The number of what the client has taken from before the stream went back is no news.
        let is_news = self.expected.is_none_or(|expected| responses < expected);
        if let Some(reader) = self.client.as_mut().filter(|reader| reader.attachment == attachment) {
            reader.consume(is_news.then_some(responses), bytes);
        }
    }

    /// A credit for the server, if the stream has started and the credit is worth a message.
    pub(super) fn top_up(&mut self, session: SessionId, window: Credit) -> Option<ToServer> {
        let up_to = self.client.as_mut().filter(|_| self.expected.is_some())?.top_up(window)?;
        Some(ToServer::Credit { session, stream: self.stream, up_to })
    }

    /// Judges a request of this session's client.
    pub(super) fn admit(
        &self,
        number: Option<u64>,
        size: usize,
        params: &GatewayParams,
    ) -> Result<Admission, Failure> {
        match self.phase {
            Phase::Closing { .. } | Phase::Expiring { .. } => return Err(Failure::Ended),
            Phase::Opening { .. } | Phase::Attaching { .. } => return Err(Failure::UnknownSession),
            Phase::Open => {}
        }
        let limit = params.request_bytes_max;
        if size > limit {
            return Err(Failure::RequestTooLarge { size, limit });
        }
        let expected = self.last_request + 1;
        let number = number.unwrap_or(expected);
        if number > expected {
            return Err(Failure::RequestGap { number, expected });
        }
        // What is asked again has room of its own, and the first of it comes first: what is behind may wait for it.
        let again = number < expected;
        let before = self.requests.range(..number);
        let beside = || before.filter(|(_, pending)| pending.again == again).count();
        let waiting = self.requests.get(&number).map(|pending| pending.tickets.len());
        let limit = params.requests_max;
        if waiting.unwrap_or_else(beside) >= limit {
            return Err(Failure::TooManyRequests { limit });
        }
        Ok(match waiting {
            Some(_) => Admission::Pending { number },
            None if again => Admission::Again { number },
            None => Admission::New { number },
        })
    }

    /// Makes room among what was asked again, from the end. Returns whose calls gave way.
    pub(super) fn make_room(&mut self, params: &GatewayParams) -> Vec<Ticket> {
        let again = || self.requests.iter().filter(|(_, pending)| pending.again);
        let last = again().nth(params.requests_max).and_then(|_| again().next_back());
        let last = last.map(|(number, _)| *number);
        last.and_then(|number| self.requests.remove(&number)).map_or_else(Vec::new, |pending| pending.tickets)
    }
}

fn patience(missing: Missing, params: &GatewayParams) -> Duration {
    match missing {
        Missing::Client => params.detach_ttl,
        Missing::Server => params.no_replica_timeout,
    }
}
