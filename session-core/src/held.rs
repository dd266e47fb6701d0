//! A session at a server that is its primary or one of its backups: the context, and at the primary how far the
//! hand-over from the server before has come.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use model::trace::{Event, Role};
use model::{Digest, Fence, GroupViewId, Level, ProcessId, SessionId, Time, UnitId};

use crate::credit::{Credit, Room, response_bytes};
use crate::edition::{ContentId, Edition, Head, decode_context, encode_context, size_of, split};
use crate::fault::Fault;
use crate::ledger::Ledger;
use crate::message::{AttachRefusal, COUNT_MAX, Cursor, Response, Resume, SessionMessage, ToGateway};
use crate::pipeline::Pipeline;
use crate::replica::{Applied, Base, Limits, Outcome, Replica};
use crate::rest::Rest;
use crate::service::{ContentService, Next, Refusal};
use crate::unit_db::{Session, Shared, Uncertain, Update, Version};

/// The shortest wait between two calls of a service that had nothing to send.
pub(crate) const PAUSE_MIN: Duration = Duration::from_millis(1);

/// What a primary is doing for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Serving {
    /// A backup, or a primary that a gateway refused: nothing.
    Nothing,
    /// Waits for its own place in the session group, so that no request passes it by.
    Joining,
    /// Asks the gateway how far the client got, and again at `again`. Nobody answered since `since`.
    Claiming { since: Time, again: Time },
    /// Has the gateway's grant, and waits until the session group lets no primary before this one commit anything, and
    /// all is here that was committed.
    Reigning { grant: Grant },
    /// Sends acknowledgements, and responses as far as there is room; the next one is due at `due`, or after a request.
    Streaming { stream: u64, room: Room, due: Option<Time> },
}

/// What a gateway gives to the primary whose claim it accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) stream: u64,
    pub(crate) resume: Resume,
    /// `None` if no client is attached.
    pub(crate) credit: Option<Credit>,
    pub(crate) repeats_from: u64,
}

/// A session at its primary or at a backup.
#[derive(Debug)]
pub(crate) struct Held<C> {
    pub(crate) role: Role,
    pub(crate) fence: Fence,
    pub(crate) replica: Replica<C>,
    pub(crate) serving: Serving,
    /// Whether there is nothing to send.
    pub(crate) rest: Rest,
    /// Whether this server has seen itself in the session group.
    pub(crate) joined: bool,
    /// At the primary: whether its gateway has a client for the session, as far as it has said.
    pub(crate) attached: bool,
    /// What was committed.
    pub(crate) ledger: Ledger,
    /// At the primary: what is to be committed, or to be sent.
    pub(crate) pipeline: Pipeline<C>,
    /// Whether it took up a request to the shared state, and has sent nothing since.
    pub(crate) is_ahead: bool,
    /// In which view requests to the shared state were multicast, and up to which.
    pub(crate) asked: Option<(GroupViewId, u64)>,
    /// How many times this server propagated the session under its fence.
    propagations: u64,
    /// How it began to serve under its fence. If it has not yet, what a primary before it sent last is uncertain.
    begun: Option<Begun>,
}

/// What a primary has to tell when it begins. Its first word may not have reached the gateway, or may be of a stream that
/// was cut by then: a client that is still where it was is told again.
#[derive(Clone, Debug)]
struct Begun {
    /// Where the client was.
    from: Resume,
    /// What other sides of a partition made of the session, if nobody had served it since they met.
    merged: Option<Cursor>,
    /// Whether the session was made anew, and nobody had served it since.
    rebuilt: bool,
}

/// Where a held session is, and what it may use: everything that its steps need from the server around it.
pub(crate) struct Scene<'a, S> {
    pub(crate) service: &'a S,
    pub(crate) unit: &'a UnitId,
    /// The editions of the unit that the service holds.
    pub(crate) editions: &'a BTreeSet<Edition>,
    pub(crate) session: SessionId,
    pub(crate) me: ProcessId,
    pub(crate) limits: Limits,
    /// How surely the session group is to have a response before it is sent; nothing: it need not.
    pub(crate) commit: Option<Level>,
    /// From this size on a commit is multicast before more is computed.
    pub(crate) commit_bytes_max: usize,
    /// What becomes of uncertain responses.
    pub(crate) uncertain: Uncertain,
    /// The state that the sessions on the unit share, if they do, and the view in which it is.
    pub(crate) shared: Option<(&'a Shared, GroupViewId)>,
    /// What kept the service from going on with the session.
    pub(crate) fault: Option<Fault>,
    /// The last name given to a context at this server.
    pub(crate) lineages: &'a mut u64,
    /// Filled with what goes to the session's gateway.
    pub(crate) send: &'a mut Vec<ToGateway>,
    /// Filled with what is multicast in the session group, and how surely it is to be delivered.
    pub(crate) casts: &'a mut Vec<(SessionMessage, Level)>,
    /// Filled with requests that are to be carried out on the shared state.
    pub(crate) updates: &'a mut Vec<(u64, Bytes)>,
    /// Filled with what an observer may see, if anybody looks.
    pub(crate) trace: Option<&'a mut Vec<Event>>,
}

impl<S> Scene<'_, S> {
    /// A context that travelled, to go on from under a name of its own. Nothing if it is none, counts what nobody has
    /// counted, or is of an edition that is not held here.
    pub(crate) fn read(&mut self, bytes: &[u8], requests: u64, responses: u64) -> Option<Base<S::Context>>
    where
        S: ContentService,
    {
        let (Head { edition, history }, _) = split(bytes)?;
        if !self.editions.contains(&edition) || requests.max(responses) > COUNT_MAX {
            return None;
        }
        let content = ContentId { unit: self.unit.clone(), edition };
        let context = decode_context(bytes, || self.service.open(&content))?;
        *self.lineages += 1;
        Some(Base { content, history, context, requests, responses, lineage: *self.lineages })
    }

    /// Multicasts in the session group.
    pub(crate) fn cast(&mut self, message: SessionMessage) {
        let level = match message {
            SessionMessage::Commit { .. } => self.commit.unwrap_or_default(),
            SessionMessage::Request { .. } | SessionMessage::Ask { .. } | SessionMessage::Standing(_) => {
                Level::Agreed
            }
        };
        self.casts.push((message, level));
    }

    pub(crate) fn observe(&mut self, event: impl FnOnce() -> Event) {
        if let Some(trace) = &mut self.trace {
            trace.push(event());
        }
    }
}

impl<C> Held<C> {
    /// A replica without a role, that goes on from `base`.
    pub(crate) fn new(fence: Fence, base: Base<C>) -> Held<C> {
        Held {
            role: Role::None,
            fence,
            replica: Replica::new(base),
            serving: Serving::Nothing,
            rest: Rest::No,
            joined: false,
            attached: false,
            ledger: Ledger::new(),
            pipeline: Pipeline::new(),
            is_ahead: false,
            asked: None,
            propagations: 0,
            begun: None,
        }
    }

    /// Takes over a role under a fence. Returns whether anything is different.
    pub(crate) fn take_role(&mut self, role: Role, fence: Fence) -> bool {
        if (self.role, self.fence) == (role, fence) {
            return false;
        }
        self.role = role;
        self.fence = fence;
        self.propagations = 0;
        self.attached = false;
        self.pipeline.reset();
        self.begun = None;
        self.serving = match role {
            Role::Primary => Serving::Joining,
            Role::Backup | Role::None => Serving::Nothing,
        };
        true
    }

    /// Whether it is primary, and the gateway has opened its stream.
    pub(crate) fn streams(&self) -> bool {
        matches!(self.serving, Serving::Streaming { .. })
    }

    /// Whether the gateway has a client for the session; nothing at a server that does not serve it.
    pub(crate) fn client(&self) -> Option<bool> {
        matches!(self.serving, Serving::Streaming { .. } | Serving::Reigning { .. }).then_some(self.attached)
    }

    /// The next thing that time alone will bring about.
    pub(crate) fn deadline(&self) -> Option<Time> {
        match &self.serving {
            Serving::Claiming { again, .. } => Some(*again),
            Serving::Streaming { due, .. } => due.iter().copied().chain(self.rest.deadline()).min(),
            Serving::Nothing | Serving::Joining | Serving::Reigning { .. } => None,
        }
    }
}

impl<C> Held<C>
where
    C: Clone + serde::Serialize + serde::de::DeserializeOwned,
{
    /// The client's position, if it has all that was sent.
    pub(crate) fn cursor(&self) -> Cursor {
        let context = encode_context(self.replica.head(), &self.replica.context);
        Cursor { responses: self.replica.responses, requests: self.replica.requests, context }
    }

    /// What the unit database is to know.
    pub(crate) fn update(&mut self, session: SessionId) -> Update {
        self.update_of(session, self.cursor())
    }

    /// As [`Held::update`], of a client's position that is not this server's.
    pub(crate) fn update_of(&mut self, session: SessionId, position: Cursor) -> Update {
        self.propagations += 1;
        let Cursor { responses, requests, context } = position;
        let version = Version { fence: self.fence, number: self.propagations };
        Update { session, version, context, requests, responses }
    }

    /// The unit database has a newer context than the last one: a backup, and a primary that does not know yet how
    /// far the client got, start over from it. A primary does not go back to what it told the others itself.
    pub(crate) fn follow<S: ContentService<Context = C>>(
        &mut self,
        known: &Session,
        scene: &mut Scene<'_, S>,
    ) {
        let undecided = match self.serving {
            Serving::Nothing | Serving::Joining | Serving::Claiming { .. } | Serving::Reigning { .. } => true,
            Serving::Streaming { .. } => false,
        };
        let own = self.role == Role::Primary && known.version.fence == self.fence;
        // What is propagated was committed before: only who was not there has less.
        let is_to_follow = scene.commit.is_none() || self.is_behind(known);
        if undecided
            && !own
            && is_to_follow
            && let Some(base) = scene.read(&known.context, known.requests, known.responses)
        {
            self.ledger.go_to(base.responses);
            self.go_over_to(base, u64::MAX);
            self.catch_up(scene);
        }
    }

    /// Whether the unit database has a later context, and nothing was committed here that is later still.
    pub(crate) fn is_behind(&self, known: &Session) -> bool {
        let here = (self.replica.responses, self.replica.requests);
        here < (known.responses, known.requests) && self.ledger.fence <= known.version.fence
    }

    /// Another context takes the place of this one, of which nothing is computed any more. As [`Replica::rebase`].
    pub(crate) fn go_over_to(&mut self, base: Base<C>, repeats_from: u64) -> u64 {
        self.pipeline.discard();
        self.replica.rebase(base, repeats_from)
    }

    /// The gateway grants the claim: go on from where the client is, or, if the unit has it so and this server takes over,
    /// from where this server is. Returns whether that is possible; it is not if the client's cursor has a context that
    /// is none.
    pub(crate) fn serve<S: ContentService<Context = C>>(
        &mut self,
        now: Time,
        grant: Grant,
        known: &Session,
        scene: &mut Scene<'_, S>,
    ) -> bool {
        self.rest = Rest::No;
        let new = self.begun.is_none();
        let begun = self.begun.get_or_insert_with(|| Begun {
            from: grant.resume.clone(),
            merged: known.merged.then(|| known.position()),
            rebuilt: known.rebuilt,
        });
        let is_to_tell = begun.from == grant.resume;
        let merged_with = begun.merged.clone().filter(|_| is_to_tell);
        let (merged, rebuilt) = (merged_with.is_some(), begun.rebuilt && is_to_tell);
        // What was committed is not uncertain.
        let asks = scene.uncertain == Uncertain::Ask || self.commits(scene);
        if new && known.replaced.is_some() && !asks {
            self.serve_uncertain(now, grant, merged, scene);
            return true;
        }
        let Grant { stream, resume, credit, repeats_from } = grant;
        let session = scene.session;
        let begun = if self.commits(scene) {
            self.begin(resume, repeats_from, known, scene)
        } else {
            self.resume(resume, repeats_from, merged_with, scene)
        };
        let Some((cursor, requests_lost)) = begun else {
            self.begun = None;
            return false;
        };
        let room = Room::after(cursor.responses, credit.unwrap_or(Credit::NONE));
        self.serving = Serving::Streaming { stream, room, due: None };
        let uncertain = false;
        let start = ToGateway::Started { session, stream, requests_lost, cursor, uncertain, merged, rebuilt };
        scene.send.push(start);
        self.catch_up(scene);
        true
    }

    /// The client's position counts. Returns it, and how many requests are lost. What `merged` has of other sides is made
    /// one with the client's context.
    fn resume<S: ContentService<Context = C>>(
        &mut self,
        resume: Resume,
        repeats_from: u64,
        merged: Option<Cursor>,
        scene: &mut Scene<'_, S>,
    ) -> Option<(Cursor, u64)> {
        let cursor = match resume {
            Resume::Beginning => Cursor::beginning(self.replica.content.edition),
            Resume::After(cursor) => cursor,
            Resume::Anywhere => return Some((self.cursor(), 0)),
        };
        let Some(mut base) = scene.read(&cursor.context, cursor.requests, cursor.responses) else {
            let (session, reason) = (scene.session, AttachRefusal::BadCursor);
            scene.send.push(ToGateway::Refused { session, reason });
            return None;
        };
        if let Some(both) = merged.and_then(|other| merged_with(&base, &other, scene)) {
            base.context = both;
        }
        let requests_lost = self.replica.rebase(base, repeats_from);
        Some((self.cursor(), requests_lost))
    }

    /// A request was delivered in the session group. Returns whether the context may have changed.
    pub(crate) fn request<S: ContentService<Context = C>>(
        &mut self,
        number: u64,
        operation: Bytes,
        scene: &mut Scene<'_, S>,
    ) -> bool {
        match self.replica.accept(number, operation, scene.limits) {
            Applied::Ready => self.catch_up(scene),
            Applied::Before(outcome) => {
                let outcome = outcome.unwrap_or(Ok(()));
                if self.pipeline.flight.is_some_and(|flight| flight.responses > 0) {
                    self.pipeline.put_off(number, outcome, scene.limits.requests_kept);
                } else {
                    self.acknowledge(number, outcome, scene);
                }
                return false;
            }
            Applied::Early | Applied::TooEarly => return false,
        }
        true
    }

    /// Applies every request that can be applied. Those to a shared state are [taken up](Held::take_up) one by one.
    pub(crate) fn catch_up<S: ContentService<Context = C>>(&mut self, scene: &mut Scene<'_, S>) {
        while scene.shared.is_none() && self.apply_next(None, scene) {}
    }

    /// Applies the next request if it has come: that itself, or what was `given` for it. Returns whether it has.
    pub(crate) fn apply_next<S: ContentService<Context = C>>(
        &mut self,
        given: Option<Result<Bytes, Refusal>>,
        scene: &mut Scene<'_, S>,
    ) -> bool {
        let Some(Outcome { number, operation, result }) =
            self.replica.advance(scene.service, given, scene.limits)
        else {
            return false;
        };
        let (server, session, fence, lineage) = (scene.me, scene.session, self.fence, self.replica.lineage);
        let digest = || Digest::of(&operation);
        scene.observe(|| Event::Apply { server, session, fence, lineage, request: number, digest: digest() });
        self.pipeline.discard();
        self.acknowledge(number, result, scene);
        true
    }

    pub(crate) fn acknowledge<S>(
        &mut self,
        number: u64,
        outcome: Result<(), Refusal>,
        scene: &mut Scene<'_, S>,
    ) {
        let Serving::Streaming { stream, .. } = self.serving else { return };
        self.rest = Rest::No;
        if self.commits(scene) {
            self.acknowledge_in_turn(number, outcome, scene);
        } else {
            let (session, cursor) = (scene.session, self.cursor());
            scene.send.push(ToGateway::Applied { session, stream, number, outcome, cursor });
        }
    }

    /// Sends what is due, as far as the client's credit goes [FK:primary]. Returns whether anything was sent.
    pub(crate) fn respond<S: ContentService<Context = C>>(
        &mut self,
        now: Time,
        scene: &mut Scene<'_, S>,
    ) -> bool {
        if self.commits(scene) {
            self.respond_in_turn(now, scene);
            return false;
        }
        let before = self.replica.responses;
        let Serving::Streaming { stream, mut room, .. } = self.serving else { return false };
        let mut due = None;
        loop {
            if !self.is_ahead {
                self.take_up(scene);
            }
            if !room.is_left(self.replica.responses) {
                break;
            }
            match scene.next(&self.replica.content, &mut self.replica.context, now) {
                Next::Respond { payload, last } => {
                    self.replica.responses += 1;
                    self.is_ahead = false;
                    self.rest = Rest::No;
                    room.use_up(self.send_response(stream, payload, last, scene));
                }
                Next::At(_) | Next::Idle if self.take_up(scene) => {}
                Next::At(time) => {
                    due = Some(time.max(now + PAUSE_MIN));
                    break;
                }
                Next::Idle | Next::Fail { .. } => break,
            }
        }
        self.serving = Serving::Streaming { stream, room, due };
        self.replica.responses != before
    }

    /// Sends the response after which the context is. Returns how many bytes it takes.
    pub(crate) fn send_response<S>(
        &self,
        stream: u64,
        payload: Bytes,
        last: bool,
        scene: &mut Scene<'_, S>,
    ) -> usize {
        let (session, cursor) = (scene.session, self.cursor());
        let bytes = response_bytes(&payload, &cursor.context);
        let (server, fence) = (scene.me, self.fence);
        let (response, requests, digest) = (cursor.responses, cursor.requests, || Digest::of(&payload));
        scene.observe(|| Event::Respond { server, session, fence, response, requests, digest: digest() });
        ToGateway::respond(scene.send, session, stream, Response { cursor, payload, last });
        bytes
    }
}

/// The client's context and that of other sides in one, if the service makes one of them.
fn merged_with<S: ContentService>(
    client: &Base<S::Context>,
    other: &Cursor,
    scene: &mut Scene<'_, S>,
) -> Option<S::Context> {
    let Base { content, context, .. } = client;
    let other = scene.read(&other.context, other.requests, other.responses)?;
    let other = (other.content == *content).then_some(other.context)?;
    let both = scene.service.merge(content, context, &other)?;
    (size_of(&both) <= scene.limits.context_bytes_max).then_some(both)
}
