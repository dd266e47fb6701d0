//! Output commit of a held session: a response is sent once the session group has it [VMFT:output-commit].
//!
//! The primary multicasts what it computed in the session group, as a [`SessionMessage::Commit`] with the context after
//! each response. The place of a commit in the group's total order decides: members take it as it is, put the requests
//! that came before it and that it does not reflect on top, and so does the primary itself. Only then it sends. A new
//! primary's first commit ends the reign of the one before; what that one multicasts later, nobody takes. What was
//! committed and the client does not have, the new primary sends from its [`Ledger`](crate::ledger::Ledger).

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use bytes::Bytes;
use model::trace::{Event, Role};
use model::{Digest, Fence, GroupViewId, Level, ProcessId, Time};

use crate::credit::Room;
use crate::edition::{Head, decode_context, encode_committed, encode_context, history_of};
use crate::held::{Grant, Held, PAUSE_MIN, Scene, Serving};
use crate::message::{
    AttachRefusal, COUNT_MAX, Committed, Cursor, Response, Resume, SessionMessage, Standing, ToGateway,
};
use crate::pipeline::Item;
use crate::replica::Replica;
use crate::rest::Rest;
use crate::service::{ContentService, Next, Refusal};
use crate::unit_db::Session;

/// About how many bytes of responses, and of requests, a standing carries at most.
const STANDING_BYTES_MAX: usize = 256 * 1024;

/// Responses that the group has, from number `first` on, under a fence.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) fence: Fence,
    pub(crate) first: u64,
    pub(crate) responses: Vec<Committed>,
}

impl<C> Held<C>
where
    C: Clone + serde::Serialize + serde::de::DeserializeOwned,
{
    /// Whether responses go the way of commits: the unit demands it, or some are still on that way.
    pub(crate) fn commits<S>(&self, scene: &Scene<'_, S>) -> bool {
        scene.commit.is_some() || !self.pipeline.is_idle()
    }

    /// Whether no primary before this one can commit anything any more, all that was committed is here, and nothing of its
    /// own is under way: that would come back after a client that is elsewhere.
    pub(crate) fn reigns(&self) -> bool {
        let is_busy = self.pipeline.flight.is_some_and(|flight| flight.responses > 0);
        self.ledger.reign == self.fence && self.ledger.unheard.is_empty() && !is_busy
    }

    /// These members are in the session group, and come another way than this one: it asks them what it has missed.
    pub(crate) fn ask<S>(
        &mut self,
        others: BTreeSet<ProcessId>,
        view: GroupViewId,
        scene: &mut Scene<'_, S>,
    ) {
        if scene.commit.is_some() && !others.is_empty() {
            self.ledger.knows &= self.joined;
            self.ledger.ask(&others, view);
            scene.cast(SessionMessage::Ask { view });
        }
    }

    /// What this member has of the session, for who asked in that view.
    pub(crate) fn standing(&mut self, answers: Option<(ProcessId, GroupViewId)>) -> Standing {
        self.ledger.go_to(self.replica.responses);
        let (kept, forgotten) = self.ledger.newest(STANDING_BYTES_MAX);
        Standing {
            answers,
            knows: self.ledger.knows,
            reign: self.ledger.reign,
            fence: self.ledger.fence,
            cursor: self.cursor(),
            kept,
            forgotten,
            requests: self.replica.remembered(STANDING_BYTES_MAX),
        }
    }

    /// Another member says what it has: whoever has not all of it takes it over.
    pub(crate) fn hear<S: ContentService<Context = C>>(
        &mut self,
        from: ProcessId,
        standing: Standing,
        scene: &mut Scene<'_, S>,
    ) {
        let Standing { answers, knows, reign, fence, cursor, kept, forgotten, requests } = standing;
        let is_answer = answers == Some((scene.me, self.ledger.asked_in));
        let knows = knows && is_answer;
        // It was said before what came here from a later primary, and may be of another history: it is said anew.
        if knows && !self.ledger.knows && reign < self.ledger.fence {
            scene.cast(SessionMessage::Ask { view: self.ledger.asked_in });
            return;
        }
        self.ledger.go_to(self.replica.responses);
        let mine = (self.ledger.fence, self.replica.responses, self.replica.requests, self.ledger.len());
        let has_more = (fence, cursor.responses, cursor.requests, kept.len()) > mine;
        // Who streams goes on with what it has, unless a primary after it has committed something else.
        let gives_way = !self.streams() || self.fence < fence;
        if gives_way
            && (has_more || (knows && !self.ledger.knows))
            && let Some(base) = scene.read(&cursor.context, cursor.requests, cursor.responses)
        {
            if self.fence < fence {
                self.pipeline.reset();
            }
            let since = self.ledger.adopt((cursor.responses, base.history), kept, forgotten);
            let since_under = if since.is_empty() { fence } else { self.ledger.fence };
            self.replica.remember(requests, cursor.requests, scene.limits);
            self.go_over_to(base, cursor.requests.saturating_add(1));
            self.take(since_under, cursor.responses.saturating_add(1), since, scene);
            self.ledger.fence = since_under;
            self.catch_up(scene);
        }
        self.ledger.reign = self.ledger.reign.max(reign);
        if knows && !self.ledger.knows {
            self.ledger.unheard.clear();
        }
        if is_answer {
            self.ledger.heard(from);
            self.ledger.knows |= self.ledger.unheard.is_empty();
        }
    }

    /// Responses are committed: the context is the one after them, and after the requests that came before them
    /// without having a part in them. Returns whether they follow on what was here, or on a part of it.
    fn take<S: ContentService<Context = C>>(
        &mut self,
        fence: Fence,
        first: u64,
        responses: Vec<Committed>,
        scene: &mut Scene<'_, S>,
    ) -> bool {
        let (Some(oldest), Some(newest)) = (responses.first(), responses.last()) else { return true };
        let last = first.saturating_add(responses.len() as u64 - 1);
        let requests = newest.requests;
        let Some(base) = scene.read(&newest.context, requests, last) else { return true };
        self.ledger.go_to(self.replica.responses);
        let before = first.saturating_sub(1);
        let follow = if before == self.replica.responses {
            oldest.follows_on(self.replica.history)
        } else {
            self.ledger.history_after(before).is_some_and(|history| oldest.follows_on(history))
        };
        self.ledger.append(first, responses);
        self.ledger.fence = fence;
        self.replica.rebase(base, requests.saturating_add(1));
        follow
    }

    /// A commit was delivered in the session group. Returns whether the context may have changed.
    pub(crate) fn commit<S: ContentService<Context = C>>(
        &mut self,
        from: ProcessId,
        commit: Commit,
        level: Level,
        scene: &mut Scene<'_, S>,
    ) -> bool {
        let Commit { fence, first, responses } = commit;
        if fence < self.ledger.reign || first > COUNT_MAX {
            return false;
        }
        self.ledger.reign = fence;
        if self.fence < fence {
            self.pipeline.reset();
        }
        let mine = from == scene.me && fence == self.fence && self.role == Role::Primary;
        for (number, response) in (first..).zip(&responses) {
            let (server, session, digest) = (scene.me, scene.session, || Digest::of(&response.payload));
            let level = scene.commit.unwrap_or_default();
            scene.observe(|| Event::Commit {
                server,
                session,
                fence,
                response: number,
                digest: digest(),
                level,
            });
        }
        let changed = !responses.is_empty();
        if !self.take(fence, first, responses.clone(), scene) {
            self.ledger.doubt(from);
        }
        if mine {
            self.returned(first, responses, scene);
        } else if changed {
            self.pipeline.discard();
        }
        self.catch_up(scene);
        if mine {
            for (number, outcome) in core::mem::take(&mut self.pipeline.again) {
                self.acknowledge(number, outcome, scene);
            }
            if scene.commit.is_none_or(|demanded| demanded == Level::Agreed || level == demanded) {
                self.pipeline.release();
                self.pipeline.sure = self.replica.responses;
            }
        }
        changed
    }

    /// This primary's own commit came back.
    fn returned<S>(&mut self, first: u64, responses: Vec<Committed>, scene: &Scene<'_, S>) {
        self.pipeline.flight = None;
        if self.pipeline.is_overtaken {
            self.pipeline.discard();
        }
        if self.streams() {
            for (number, response) in (first..).zip(responses) {
                self.pipeline.push(Item::Response { number, response }, scene.limits.requests_kept);
            }
        }
    }

    /// The gateway grants the claim. Responses that wait for the reign of a primary before are settled first.
    pub(crate) fn reign<S>(&mut self, grant: Grant, scene: &mut Scene<'_, S>) {
        if self.ledger.reign != self.fence && self.pipeline.flight.is_none() {
            self.cast(scene);
        }
        self.serving = Serving::Reigning { grant };
    }

    /// The grant that can be made use of now.
    pub(crate) fn ripe_grant(&self) -> Option<Grant> {
        match &self.serving {
            Serving::Reigning { grant } if self.reigns() => Some(grant.clone()),
            Serving::Reigning { .. }
            | Serving::Nothing
            | Serving::Joining
            | Serving::Claiming { .. }
            | Serving::Streaming { .. } => None,
        }
    }

    /// Begins a stream from where the client is: what it lacks of the committed responses first. Returns where that
    /// is, and how many requests are lost; nothing if there is no going on from there.
    pub(crate) fn begin<S: ContentService<Context = C>>(
        &mut self,
        resume: Resume,
        repeats_from: u64,
        known: &Session,
        scene: &mut Scene<'_, S>,
    ) -> Option<(Cursor, u64)> {
        let cursor = match resume {
            Resume::Anywhere if self.is_behind(known) => known.position(),
            Resume::Anywhere => self.cursor(),
            Resume::Beginning => Cursor::beginning(self.replica.content.edition),
            Resume::After(cursor) => cursor,
        };
        self.ledger.go_to(self.replica.responses);
        let lacking = self.lacking(&cursor);
        let end = lacking.last().map_or_else(|| cursor.clone(), |(number, last)| last.cursor(*number));
        let Some(base) = scene.read(&end.context, end.requests, end.responses) else {
            return self.refuse(scene);
        };
        let is_behind = !lacking.is_empty();
        let leads_here = self.leads_here(&end, is_behind, repeats_from, scene);
        if !leads_here && end.responses < self.ledger.forgotten {
            return self.refuse(scene);
        }
        self.pipeline.begin(lacking.into_iter());
        if leads_here {
            return Some((cursor, 0));
        }
        // Nobody has what comes next, nor what follows on that: the session goes on from where this ends.
        self.ledger.go_to(end.responses);
        let lost = self.go_over_to(base, repeats_from);
        Some((if is_behind { cursor } else { self.cursor() }, lost))
    }

    /// The committed responses that follow on a client's position. Numbers alone do not say which: the client may come
    /// from the other side of a separation.
    fn lacking(&self, position: &Cursor) -> Vec<(u64, Committed)> {
        let lacking = self.ledger.after(position.responses, history_of(&position.context));
        let reflects =
            |(_, next): &(u64, Committed)| next.requests.min(self.replica.requests) >= position.requests;
        if lacking.first().is_some_and(reflects) { lacking } else { Vec::new() }
    }

    /// Whether what is here goes on from this position: that of a client, or, if the client is behind, of the last response
    /// that it lacks.
    fn leads_here<S: ContentService<Context = C>>(
        &self,
        position: &Cursor,
        is_behind: bool,
        repeats_from: u64,
        scene: &Scene<'_, S>,
    ) -> bool {
        let (here, history) = (self.replica.requests, history_of(&position.context));
        let is_here = (position.responses, history) == (self.replica.responses, self.replica.history);
        if !is_here || here < position.requests {
            return false;
        }
        if is_behind {
            return true;
        }
        let after = self.replayed(&position.context, position.requests, here, scene);
        // Where nobody remembers, the client is right: it loses nothing if it sends again what it has not seen the effect of.
        let is_repeated = repeats_from <= position.requests.saturating_add(1);
        after.map_or(!is_repeated, |context| context == self.cursor().context)
    }

    /// What a context is after the requests that follow on the first `requests`, up to number `up_to`, if they are
    /// remembered.
    fn replayed<S: ContentService<Context = C>>(
        &self,
        context: &[u8],
        requests: u64,
        up_to: u64,
        scene: &Scene<'_, S>,
    ) -> Option<Bytes> {
        let content = &self.replica.content;
        let before = decode_context(context, || scene.service.open(content))?;
        let after = self.replica.replay(before, requests, up_to, scene.service, scene.limits)?;
        Some(encode_context(Head { edition: content.edition, history: history_of(context) }, &after))
    }

    fn refuse<S>(&self, scene: &mut Scene<'_, S>) -> Option<(Cursor, u64)> {
        let (session, reason) = (scene.session, AttachRefusal::BadCursor);
        scene.send.push(ToGateway::Refused { session, reason });
        None
    }

    /// Acknowledges a request once the group has what came before it. One that is delivered while responses are under
    /// way is applied again after them, and acknowledged then. Who has been replaced acknowledges nothing: his context may
    /// be of another history than his client's.
    pub(crate) fn acknowledge_in_turn<S>(
        &mut self,
        number: u64,
        outcome: Result<(), Refusal>,
        scene: &Scene<'_, S>,
    ) {
        let is_replaced = self.fence < self.ledger.reign;
        if !is_replaced && self.pipeline.flight.is_none_or(|flight| flight.responses == 0) {
            let item = Item::Applied { number, outcome, cursor: self.cursor() };
            self.pipeline.push(item, scene.limits.requests_kept);
        }
    }

    /// Sends what may be sent, computes what is due as far as the client's credit goes, and multicasts it if nothing is
    /// under way.
    pub(crate) fn respond_in_turn<S: ContentService<Context = C>>(
        &mut self,
        now: Time,
        scene: &mut Scene<'_, S>,
    ) {
        let Serving::Streaming { stream, mut room, .. } = self.serving else { return };
        if scene.commit != Some(Level::Safe) {
            // A request's own delivery is agreed, and so is all that comes before it.
            self.pipeline.release();
        }
        while let Some(item) = self.pipeline.pop(&mut room) {
            self.rest = Rest::No;
            self.send(stream, item, scene);
        }
        let due = if self.ledger.reign == self.fence && scene.commit.is_some() {
            self.compute(now, room, scene)
        } else {
            None
        };
        self.serving = Serving::Streaming { stream, room, due };
        let settled = self.ledger.reign >= self.fence || scene.commit.is_none();
        let wanted = !self.pipeline.waiting.is_empty() || self.pipeline.is_held_back() || !settled;
        if wanted && self.pipeline.flight.is_none() {
            self.cast(scene);
        }
    }

    /// Computes responses. Returns when the next one is due.
    fn compute<S: ContentService<Context = C>>(
        &mut self,
        now: Time,
        room: Room,
        scene: &mut Scene<'_, S>,
    ) -> Option<Time> {
        loop {
            let in_flight = self.pipeline.flight.map_or(0, |flight| flight.responses);
            let under_way = in_flight + self.pipeline.waiting.len() as u64;
            if self.pipeline.is_overtaken
                || !room.is_left_beyond(self.replica.responses + under_way, self.pipeline.unsent_bytes())
                || self.pipeline.is_full(scene.commit_bytes_max)
            {
                return None;
            }
            let Replica { content, context, requests, history, .. } = &self.replica;
            let (ahead, history) = self.pipeline.ahead.get_or_insert_with(|| (context.clone(), *history));
            match scene.next(content, ahead, now) {
                Next::Respond { payload, last } => {
                    let (requests, before) =
                        (*requests, Head { edition: content.edition, history: *history });
                    let context = encode_committed(before, ahead, requests, &payload);
                    *history = history_of(&context);
                    self.pipeline.wait(Committed { requests, context, payload, last });
                }
                Next::At(time) => return Some(time.max(now + PAUSE_MIN)),
                Next::Idle | Next::Fail { .. } => return None,
            }
        }
    }

    /// Multicasts what waits; nothing, if nothing does.
    fn cast<S>(&mut self, scene: &mut Scene<'_, S>) {
        let first = self.replica.responses + 1;
        let responses = self.pipeline.commit_waiting();
        scene.cast(SessionMessage::Commit { fence: self.fence, first, responses });
    }

    fn send<S>(&self, stream: u64, item: Item, scene: &mut Scene<'_, S>) {
        let session = scene.session;
        match item {
            Item::Applied { number, outcome, cursor } => {
                scene.send.push(ToGateway::Applied { session, stream, number, outcome, cursor });
            }
            Item::Response { number, response } => {
                let Committed { requests, context, payload, last } = response;
                let (server, fence, digest) = (scene.me, self.fence, || Digest::of(&payload));
                scene.observe(|| Event::Respond {
                    server,
                    session,
                    fence,
                    response: number,
                    requests,
                    digest: digest(),
                });
                let cursor = Cursor { responses: number, requests, context };
                ToGateway::respond(scene.send, session, stream, Response { cursor, payload, last });
            }
        }
    }
}
