//! A client: opens a session, reads responses, sends requests, goes away and comes back, and checks all that it is
//! given against what it asked for.
//!
//! Its requests carry their numbers, so that it can send them again, through whichever gateway, until they are
//! acknowledged. What it is told is judged by its [`Oracle`].

mod oracle;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use model::{Digest, SessionId, Time, UnitId, trace};
use session_core::gateway::{Attachment, ClientEvent, Failure, Position};
use session_core::message::{Cursor, Response, Resume, Secret};
use session_core::response_bytes;

use crate::knobs::Habits;
use crate::net::{Conn, Timer};
use crate::packet::{Answer, Call, Node, Packet};
use crate::scene::{Host, Scene};
use crate::toy::{Request, Wish};

use oracle::Checkpoint;
pub use oracle::Oracle;

/// So many of its last positions a client may go back to.
const REMEMBERED_MAX: usize = 12;

/// Until a client tries again what failed.
const RETRY: Duration = Duration::from_millis(60);

/// Who was told nothing for so long was not told that nobody knows the session: somebody may, and hang.
const SILENCE: Duration = Duration::from_secs(1);

/// How much sooner than a client a server may see that the client is away.
const SLACK: Duration = Duration::from_millis(500);

/// What a client may do, and knows.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What it plays: one of these.
    pub units: Vec<UnitId>,
    /// The units whose responses can be had again, as they were.
    pub committing: Vec<UnitId>,
    /// How many gateways there are.
    pub gateways: usize,
    /// How it behaves, if nobody directs it.
    pub habits: Option<Habits>,
    /// How long it looks for a session that nobody knows.
    pub patience: Duration,
    /// How long a session waits for its client.
    pub detach_ttl: Duration,
}

/// Where the client is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Has no session.
    Idle,
    /// Asked for a session on this unit.
    Opening(UnitId),
    /// Has a session, and is away from it.
    Away,
    /// Asked to be attached.
    Attaching,
    /// Is told events.
    Attached(Attachment),
    /// Asked for the session's end.
    Closing,
    /// Wants nothing any more.
    Done,
}

/// What it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wants {
    /// No session.
    Nothing,
    /// To be attached to one.
    Play,
    /// To come back to it later.
    Pause,
}

/// The session.
#[derive(Clone, Debug)]
struct Session {
    id: SessionId,
    unit: UnitId,
    secret: Secret,
}

/// A request and its fate.
#[derive(Clone, Debug)]
struct Sent {
    operation: Bytes,
    /// A call for it is not answered yet.
    under_way: bool,
    acknowledged: bool,
}

/// What became of a client's sessions, for the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Opened.
    pub opened: u64,
    /// Closed by the client.
    pub closed: u64,
    /// Ended since the client was away for too long.
    pub expired: u64,
    /// Forgotten by all servers.
    pub lost: u64,
    /// Requests that servers reported as lost.
    pub requests_lost: u64,
    /// Responses received.
    pub responses: u64,
    /// Times that another server went on.
    pub takeovers: u64,
    /// Responses received whose numbers it had. None, unless the unit's policy is not to ask.
    pub repeated: u64,
    /// Numbers left out between responses. None, unless the unit's policy is not to ask.
    pub skipped: u64,
    /// Contexts of two sides that were made one.
    pub merged: u64,
    /// Times that another server went on since the one before said nothing.
    pub stalled: u64,
    /// Times that its session was made anew, since all servers had forgotten it.
    pub rebuilt: u64,
}

/// A client.
pub struct Client {
    settings: Settings,
    gateway: usize,
    conn: Option<Conn>,
    calls: u64,
    /// The calls for requests that are not answered yet.
    submissions: BTreeMap<u64, u32>,
    /// The call that the phase waits for.
    awaited: u64,
    phase: Phase,
    wants: Wants,
    session: Option<Session>,
    position: Resume,
    oracle: Oracle,
    /// Where it was lately.
    remembered: VecDeque<(Resume, Checkpoint)>,
    /// Since when the client is told again and again that nobody knows the session, and when it was told last.
    unknown: Option<(Time, Time)>,
    last_attached: Time,
    /// The requests by number, from 1.
    requests: Vec<Sent>,
    /// Some request has to be sent again.
    resend: bool,
    winding_down: bool,
    /// The last request of all.
    finish: Option<u32>,
    /// When the last response came, and the longest time that one took to come.
    last_response: Option<Time>,
    longest_gap: Duration,
    tally: Tally,
    /// The bytes of all responses of this attachment.
    bytes: u64,
}

impl Client {
    /// A client that has done nothing yet.
    pub fn new(settings: Settings, gateway: usize) -> Client {
        Client {
            settings,
            gateway,
            conn: None,
            calls: 0,
            submissions: BTreeMap::new(),
            awaited: 0,
            phase: Phase::Idle,
            wants: Wants::Nothing,
            session: None,
            position: Resume::Beginning,
            oracle: Oracle::default(),
            remembered: VecDeque::new(),
            unknown: None,
            last_attached: Time::ZERO,
            requests: Vec::new(),
            resend: false,
            winding_down: false,
            finish: None,
            last_response: None,
            longest_gap: Duration::ZERO,
            tally: Tally::default(),
            bytes: 0,
        }
    }

    /// The session that the client has.
    pub fn session(&self) -> Option<SessionId> {
        self.session.as_ref().map(|session| session.id)
    }

    /// The unit that it plays.
    pub fn unit(&self) -> Option<&UnitId> {
        self.session.as_ref().map(|session| &session.unit)
    }

    /// Whether it is attached.
    pub fn is_attached(&self) -> bool {
        matches!(self.phase, Phase::Attached(_))
    }

    /// Whether all its requests are acknowledged.
    pub fn is_acknowledged(&self) -> bool {
        self.requests.iter().all(|sent| sent.acknowledged)
    }

    /// How many responses of its session it has.
    pub fn responses(&self) -> u64 {
        self.position.responses().unwrap_or(0)
    }

    /// The position that its last response was.
    pub fn position(&self) -> Option<u32> {
        self.oracle.position()
    }

    /// The gateway that it uses.
    pub fn gateway(&self) -> usize {
        self.gateway
    }

    /// The longest time between two responses of one attachment.
    pub fn longest_gap(&self) -> Duration {
        self.longest_gap
    }

    /// What became of its sessions.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// What it is doing, for people.
    pub fn describe(&self) -> String {
        let session = self.session.as_ref().map_or("-".into(), |session| session.id.to_string());
        let open = self.requests.iter().filter(|sent| !sent.acknowledged).count();
        let (phase, gateway) = (&self.phase, self.gateway + 1);
        let (requests, responses) = (self.requests.len(), self.responses());
        format!(
            "{phase:?} {session} via gateway-{gateway}: {responses} responses, {requests} requests, {open} open"
        )
    }

    /// Whether it is to finish, and open nothing more.
    pub fn is_winding_down(&self) -> bool {
        self.winding_down
    }

    /// Whether it has all that it wants, after [`Client::wind_down`].
    pub fn is_at_rest(&self) -> bool {
        match self.phase {
            Phase::Done => true,
            Phase::Attached(_) => {
                self.finish.is_some_and(|serial| self.oracle.has(serial)) && self.is_acknowledged()
            }
            Phase::Idle | Phase::Opening(_) | Phase::Away | Phase::Attaching | Phase::Closing => false,
        }
    }

    /// Finishes: if it has a session, plays that to its end; opens no other one.
    pub fn wind_down(&mut self, scene: &mut Scene<'_>) {
        self.winding_down = true;
        match self.phase {
            Phase::Idle if self.wants == Wants::Nothing => self.phase = Phase::Done,
            Phase::Away | Phase::Idle => self.attach(scene),
            Phase::Attached(_) => self.finish(scene),
            Phase::Opening(_) | Phase::Attaching | Phase::Closing | Phase::Done => {}
        }
    }

    /// Opens a session, and attaches to it.
    pub fn open(&mut self, scene: &mut Scene<'_>) {
        let unit = scene.dice.pick(&self.settings.units);
        self.wants = Wants::Play;
        self.phase = Phase::Opening(unit.clone());
        self.awaited = self.call(Call::Open { unit }, scene);
    }

    /// Sends a request: now, or when the client is attached.
    pub fn request(&mut self, wish: Wish, scene: &mut Scene<'_>) -> u32 {
        let serial = self.requests.len() as u32 + 1;
        let request = Request { serial, wish };
        self.requests.push(Sent { operation: request.encode(), under_way: false, acknowledged: false });
        self.oracle.asks(request);
        self.submit(serial, scene);
        serial
    }

    /// Goes away without a word: the connection ends.
    pub fn vanish(&mut self, scene: &mut Scene<'_>) {
        if let Some(conn) = self.conn {
            self.hung_up();
            scene.close(conn);
        }
        self.leave(scene);
    }

    /// The connection is over: what was called on it will not be answered.
    fn hung_up(&mut self) {
        self.conn = None;
        for serial in std::mem::take(&mut self.submissions).into_values() {
            self.sent(serial).under_way = false;
        }
    }

    /// Lets go of its attachment, and keeps the connection.
    pub fn detach(&mut self, scene: &mut Scene<'_>) {
        let (Phase::Attached(attachment), Some(session), Some(conn)) =
            (self.phase.clone(), self.session(), self.conn)
        else {
            return;
        };
        scene.send(conn, Packet::Detach { attachment, session });
        self.leave(scene);
    }

    fn leave(&mut self, scene: &mut Scene<'_>) {
        if self.session.is_some() {
            self.wants = Wants::Pause;
            self.go_away(scene);
        }
    }

    /// Uses this gateway from now on.
    pub fn use_gateway(&mut self, gateway: usize, scene: &mut Scene<'_>) {
        if gateway != self.gateway {
            self.vanish(scene);
            self.gateway = gateway;
        }
    }

    /// Attaches to its session, where it left off. Without a session it opens one.
    pub fn attach(&mut self, scene: &mut Scene<'_>) {
        self.wants = Wants::Play;
        let Some(Session { id: session, unit, secret }) = self.session.clone() else {
            self.open(scene);
            return;
        };
        if self.phase == Phase::Away {
            self.phase = Phase::Attaching;
            scene.trace(trace::Event::ClientAttach { session, after: self.responses() });
            let from = Position { resume: self.position.clone(), resends: true, sealed: true };
            self.awaited = self.call(Call::Attach { unit, session, secret, from }, scene);
        }
    }

    /// Ends its session.
    pub fn close(&mut self, scene: &mut Scene<'_>) {
        let Some(Session { id: session, unit, secret }) = self.session.clone() else { return };
        self.wants = Wants::Nothing;
        self.phase = Phase::Closing;
        self.awaited = self.call(Call::Close { unit, session, secret }, scene);
    }

    fn call(&mut self, what: Call, scene: &mut Scene<'_>) -> u64 {
        self.calls += 1;
        let packet = Packet::Call { call: self.calls, what };
        match self.conn {
            Some(conn) => scene.send(conn, packet),
            None => self.conn = Some(scene.dial(Node::Gateway(self.gateway), packet)),
        }
        self.calls
    }

    fn submit(&mut self, serial: u32, scene: &mut Scene<'_>) {
        let (Some(session), true) = (self.session.clone(), self.is_attached()) else { return };
        let (number, operation) = (Some(u64::from(serial)), self.sent(serial).operation.clone());
        let (session, secret) = (session.id, session.secret);
        let call = self.call(Call::Request { session, secret, number, operation }, scene);
        self.submissions.insert(call, serial);
        self.sent(serial).under_way = true;
    }

    fn sent(&mut self, serial: u32) -> &mut Sent {
        &mut self.requests[serial as usize - 1]
    }

    /// Sends what is not acknowledged, in the order of the numbers.
    fn submit_open(&mut self, scene: &mut Scene<'_>) {
        self.resend = false;
        for serial in 1..=self.requests.len() as u32 {
            if !self.sent(serial).acknowledged && !self.sent(serial).under_way {
                self.submit(serial, scene);
            }
        }
    }

    /// Asks for the last response, once.
    fn finish(&mut self, scene: &mut Scene<'_>) {
        if self.finish.is_none() {
            self.finish = Some(self.request(Wish::Finish, scene));
        }
    }

    /// The session is over.
    fn forget(&mut self) {
        self.session = None;
        self.position = Resume::Beginning;
        self.oracle = Oracle::default();
        self.remembered.clear();
        self.requests.clear();
        self.submissions.clear();
        self.unknown = None;
        self.finish = None;
        self.wants = Wants::Nothing;
        self.phase = if self.winding_down { Phase::Done } else { Phase::Idle };
    }

    fn answered(&mut self, call: u64, answer: Result<Answer, Failure>, scene: &mut Scene<'_>) {
        if let Some(serial) = self.submissions.remove(&call) {
            self.sent(serial).under_way = false;
            self.request_answered(serial, answer, scene);
            return;
        }
        if call != self.awaited {
            return;
        }
        match (self.phase.clone(), answer) {
            (Phase::Opening(unit), Ok(Answer::Opened { session: id, secret })) => {
                self.tally.opened += 1;
                self.session = Some(Session { id, unit, secret });
                self.phase = Phase::Away;
                self.last_attached = scene.now;
                self.attach(scene);
            }
            (Phase::Opening(_), Err(_)) => {
                self.phase = Phase::Idle;
                scene.remind(RETRY, Timer::Retry);
            }
            (Phase::Attaching, Ok(Answer::Attached(attachment))) => self.attached(attachment, scene),
            (Phase::Attaching, Err(failure)) => self.over(&failure, scene),
            (Phase::Closing, Ok(Answer::Closed) | Err(Failure::Ended | Failure::UnknownSession)) => {
                self.tally.closed += 1;
                self.forget();
            }
            (Phase::Closing, Err(_)) => scene.remind(RETRY, Timer::Retry),
            // The answer to a call that the client has given up since.
            (Phase::Idle | Phase::Away | Phase::Attached(_) | Phase::Done, _) => {}
            (phase, answer) => unreachable!("{answer:?} while {phase:?}"),
        }
    }

    fn attached(&mut self, attachment: Attachment, scene: &mut Scene<'_>) {
        self.phase = Phase::Attached(attachment);
        self.bytes = 0;
        self.unknown = None;
        self.last_response = None;
        self.reopen_unreflected();
        self.submit_open(scene);
        if self.winding_down {
            self.finish(scene);
        }
    }

    /// What the last response does not reflect is as good as never sent, acknowledged or not.
    fn reopen_unreflected(&mut self) {
        let reflected = match &self.position {
            Resume::After(cursor) => cursor.requests,
            Resume::Beginning | Resume::Anywhere => 0,
        };
        for sent in self.requests.iter_mut().skip(reflected as usize) {
            sent.acknowledged = false;
        }
        self.oracle.reopens(reflected as u32);
    }

    fn request_answered(&mut self, serial: u32, answer: Result<Answer, Failure>, scene: &mut Scene<'_>) {
        match answer {
            Ok(Answer::Applied { number }) => {
                if number != u64::from(serial) {
                    scene.complain(|| format!("request {serial} was acknowledged as {number}"));
                }
                self.sent(serial).acknowledged = true;
                self.oracle.is_told_applied(serial);
            }
            Err(Failure::Refused(_)) => {
                self.sent(serial).acknowledged = true;
                if !self.oracle.is_refusable(serial) {
                    scene.complain(|| format!("request {serial} was refused, and makes sense"));
                }
            }
            Err(Failure::RequestGap { expected, .. }) => {
                // Whatever was acknowledged beyond that is gone: it is sent again.
                for sent in self.requests.iter_mut().skip(expected as usize - 1) {
                    sent.acknowledged = false;
                }
                self.send_again(scene);
            }
            Err(Failure::TooManyRequests { .. } | Failure::NoReplica | Failure::UnknownSession) => {
                self.send_again(scene);
            }
            // The session is over, or elsewhere; there will be word of that.
            Err(Failure::Ended | Failure::Displaced) => {}
            answer => scene.complain(|| format!("request {serial} was answered with {answer:?}")),
        }
    }

    fn send_again(&mut self, scene: &mut Scene<'_>) {
        if !self.resend {
            self.resend = true;
            scene.remind(RETRY, Timer::Retry);
        }
    }

    /// The client is not attached, for this reason; it may try again.
    fn over(&mut self, failure: &Failure, scene: &mut Scene<'_>) {
        let away_for = if self.is_attached() { Duration::ZERO } else { scene.now.since(self.last_attached) };
        match failure {
            Failure::Ended if away_for + SLACK >= self.settings.detach_ttl => {
                self.tally.expired += 1;
                self.forget();
                return;
            }
            // Those who served it have forgotten it, and for those who have not heard of its client since, it was over.
            Failure::Ended if self.unknown.is_some() => {
                self.give_up_the_lost(scene);
                return;
            }
            Failure::UnknownSession => {
                let heard = |(_, told): &(Time, Time)| scene.now.since(*told) < SILENCE;
                let since = self.unknown.filter(heard).map_or(scene.now, |(since, _)| since);
                self.unknown = Some((since, scene.now));
                if scene.now.since(since) >= self.settings.patience {
                    self.give_up_the_lost(scene);
                    return;
                }
            }
            Failure::NoReplica | Failure::Displaced | Failure::TooManySessions { .. } => {}
            failure => {
                scene.complain(|| format!("is told {failure:?} after {away_for:?} away"));
                self.forget();
                return;
            }
        }
        self.go_away(scene);
        scene.remind(RETRY, Timer::Retry);
    }

    /// All servers that served the session are gone, and have forgotten it.
    fn give_up_the_lost(&mut self, scene: &mut Scene<'_>) {
        self.tally.lost += 1;
        scene.log.lost.extend(self.session());
        self.forget();
    }

    fn go_away(&mut self, scene: &mut Scene<'_>) {
        if self.is_attached() {
            self.last_attached = scene.now;
        }
        self.phase = Phase::Away;
    }

    fn told(&mut self, attachment: Attachment, event: ClientEvent, scene: &mut Scene<'_>) {
        if self.phase != Phase::Attached(attachment) {
            return;
        }
        match event {
            ClientEvent::Serving { takeover, requests_lost, stalled, .. } => {
                self.tally.takeovers += u64::from(takeover);
                self.tally.stalled += u64::from(stalled);
                self.tally.requests_lost += requests_lost;
                self.oracle.is_told_lost(requests_lost);
            }
            ClientEvent::Responses(responses) => {
                for Response { cursor, payload, .. } in responses {
                    self.receives(attachment, cursor, &payload, scene);
                }
            }
            ClientEvent::Merged => self.tally.merged += 1,
            ClientEvent::Rebuilt => self.tally.rebuilt += 1,
            ClientEvent::Over(failure) => self.over(&failure, scene),
        }
    }

    fn receives(&mut self, attachment: Attachment, cursor: Cursor, payload: &Bytes, scene: &mut Scene<'_>) {
        let Some(session) = self.session() else { return };
        let (response, digest) = (cursor.responses, Digest::of(payload));
        self.bytes += response_bytes(payload, &cursor.context) as u64;
        scene.trace(trace::Event::ClientReceive { session, response, digest });
        if self.remembered.len() == REMEMBERED_MAX {
            self.remembered.pop_front();
        }
        self.remembered.push_back((self.position.clone(), self.oracle.checkpoint()));
        let next = self.oracle.highest() + 1;
        self.tally.repeated += u64::from(response < next);
        self.tally.skipped += response.saturating_sub(next);
        if let Err(wrong) = self.oracle.receives(response, payload) {
            scene.complain(|| format!("response {response} of {session}: {wrong}"));
        }
        self.tally.responses += 1;
        if let Some(last) = self.last_response.replace(scene.now) {
            self.longest_gap = self.longest_gap.max(scene.now.since(last));
        }
        self.position = Resume::After(cursor);
        match &self.settings.habits {
            Some(habits) => {
                let takes = scene.dice.time(habits.takes.clone());
                scene.remind(takes, Timer::Taken(attachment, response, self.bytes));
            }
            None => self.taken(attachment, response, self.bytes, scene),
        }
    }

    fn taken(&mut self, attachment: Attachment, responses: u64, bytes: u64, scene: &mut Scene<'_>) {
        if let (true, Some(session), Some(conn)) =
            (self.phase == Phase::Attached(attachment), self.session(), self.conn)
        {
            scene.send(conn, Packet::Consumed { attachment, session, responses, bytes });
        }
    }

    /// Does something, out of habit.
    fn act(&mut self, scene: &mut Scene<'_>) {
        let Some(habits) = self.settings.habits.clone() else { return };
        if self.winding_down {
            return;
        }
        let mut pause = scene.dice.time(habits.acts.clone());
        match self.phase {
            Phase::Idle => self.open(scene),
            Phase::Away if self.wants == Wants::Pause => self.come_back(&habits, scene),
            Phase::Attached(_) => {
                let throw = scene.dice.between(0..=99);
                if throw < habits.leaves {
                    if scene.dice.percent(50) {
                        self.vanish(scene)
                    } else {
                        self.detach(scene)
                    }
                    pause = scene.dice.time(habits.away.clone());
                } else if throw < habits.leaves + habits.closes {
                    self.close(scene);
                } else {
                    let wish = self.wish(scene);
                    self.request(wish, scene);
                }
            }
            Phase::Away | Phase::Opening(_) | Phase::Attaching | Phase::Closing | Phase::Done => {}
        }
        scene.remind(pause, Timer::Act);
    }

    fn come_back(&mut self, habits: &Habits, scene: &mut Scene<'_>) {
        if scene.dice.percent(habits.moves) {
            let gateway = scene.dice.below(self.settings.gateways);
            self.use_gateway(gateway, scene);
        }
        if scene.dice.percent(habits.forgets)
            && self.unit().is_some_and(|unit| self.settings.committing.contains(unit))
        {
            self.forget_some(scene);
        }
        self.attach(scene);
    }

    /// Goes back to where it was a few responses ago: it must be given the same ones again.
    fn forget_some(&mut self, scene: &mut Scene<'_>) {
        if self.remembered.is_empty() {
            return;
        }
        let keep = scene.dice.below(self.remembered.len());
        if let Some((position, checkpoint)) = self.remembered.drain(keep..).next() {
            self.position = position;
            self.oracle.go_back(checkpoint);
        }
    }

    fn wish(&self, scene: &mut Scene<'_>) -> Wish {
        let length = self.oracle.length().unwrap_or(1);
        match scene.dice.below(4) {
            // Now and then beyond the end: that is to be refused.
            0 => Wish::Seek(scene.dice.below(length as usize + 2) as u32),
            1 => Wish::Pace(scene.dice.between(20..=300) as u16),
            _ => Wish::Note(scene.dice.bits()),
        }
    }

    /// Tries again what failed.
    fn retry(&mut self, scene: &mut Scene<'_>) {
        match (&self.phase, self.wants) {
            (Phase::Idle, Wants::Play) => self.open(scene),
            (Phase::Away, Wants::Play) => self.attach(scene),
            (Phase::Closing, _) => self.close(scene),
            (Phase::Attached(_), _) if self.resend => self.submit_open(scene),
            _ => self.resend = false,
        }
    }
}

impl Host for Client {
    fn start(&mut self, scene: &mut Scene<'_>) {
        if let Some(habits) = &self.settings.habits {
            let after = scene.dice.time(habits.acts.clone());
            scene.remind(after, Timer::Act);
        }
    }

    fn hear(&mut self, conn: Conn, packet: Packet, scene: &mut Scene<'_>) {
        if self.conn != Some(conn) {
            return;
        }
        match packet {
            Packet::Answer { call, answer } => self.answered(call, answer, scene),
            Packet::ToClient { attachment, event } => self.told(attachment, event, scene),
            other => unreachable!("{other:?} at a client"),
        }
    }

    fn lose(&mut self, conn: Conn, scene: &mut Scene<'_>) {
        if self.conn != Some(conn) {
            return;
        }
        self.hung_up();
        match self.phase {
            Phase::Opening(_) => self.phase = Phase::Idle,
            Phase::Attaching | Phase::Attached(_) => self.go_away(scene),
            Phase::Idle | Phase::Away | Phase::Closing | Phase::Done => {}
        }
        // Whichever gateway is alive will do.
        self.gateway = scene.dice.below(self.settings.gateways);
        scene.remind(RETRY, Timer::Retry);
    }

    fn remember(&mut self, timer: Timer, scene: &mut Scene<'_>) {
        match timer {
            Timer::Act => self.act(scene),
            Timer::Retry => self.retry(scene),
            Timer::Taken(attachment, responses, bytes) => self.taken(attachment, responses, bytes, scene),
            other => unreachable!("{other:?} at a client"),
        }
    }

    fn wake(&mut self, _: &mut Scene<'_>) {}

    fn next_wake(&self) -> Option<Time> {
        None
    }
}
