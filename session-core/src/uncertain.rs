//! A primary that takes over without asking the gateway how far the client got: what the paper's framework does, which
//! knows no cursor. Responses that were due since its context was propagated may have been sent, or not [FK:uncertain].

use model::Time;

use crate::credit::{Credit, Room, response_bytes};
use crate::held::{Grant, Held, Scene, Serving};
use crate::message::{Cursor, ToGateway};
use crate::replica::Replica;
use crate::service::{ContentService, Next};
use crate::unit_db::Uncertain;

/// No more responses than this are left out at once.
const UNCERTAIN_MAX: u64 = 10_000;

/// What the gateway knows of where the stream is.
struct Told {
    stream: u64,
    /// The number of the last response before the next one, once the stream has started.
    responses: Option<u64>,
    /// To be told with the start.
    requests_lost: u64,
    merged: bool,
}

impl Told {
    /// Tells where the stream goes on, if that is not where the gateway has it.
    fn of<S>(&mut self, cursor: Cursor, scene: &mut Scene<'_, S>) {
        if self.responses == Some(cursor.responses) {
            return;
        }
        self.responses = Some(cursor.responses);
        let (session, stream) = (scene.session, self.stream);
        let (requests_lost, merged) =
            (core::mem::take(&mut self.requests_lost), core::mem::take(&mut self.merged));
        // Who was rebuilt takes over from nobody.
        let (uncertain, rebuilt) = (true, false);
        let start = ToGateway::Started { session, stream, requests_lost, cursor, uncertain, merged, rebuilt };
        scene.send.push(start);
    }
}

impl<C> Held<C>
where
    C: Clone + serde::Serialize + serde::de::DeserializeOwned,
{
    /// Begins from this server's own context, and does with the responses that are due by now as the policy says.
    pub(crate) fn serve_uncertain<S: ContentService<Context = C>>(
        &mut self,
        now: Time,
        grant: Grant,
        merged: bool,
        scene: &mut Scene<'_, S>,
    ) {
        let Grant { stream, credit, repeats_from, .. } = grant;
        let requests_lost = self.replica.forgo(repeats_from);
        let mut room = Room::after(self.replica.responses, credit.unwrap_or(Credit::NONE));
        self.serving = Serving::Streaming { stream, room, due: None };
        let mut told = Told { stream, responses: None, requests_lost, merged };
        let mut uncertain = Room::after(self.replica.responses, self.uncertain_max(credit, scene));
        while uncertain.is_left(self.replica.responses) {
            let before = self.cursor();
            let unsent = self.replica.context.clone();
            let next = scene.next(&self.replica.content, &mut self.replica.context, now);
            let Next::Respond { payload, last } = next else { break };
            let is_essential = scene.uncertain == Uncertain::Essential
                && scene.service.is_essential(&self.replica.content, &payload);
            if is_essential && !room.is_left(self.replica.responses) {
                // It waits until the client has taken some of what it has.
                self.replica.context = unsent;
                break;
            }
            self.replica.responses += 1;
            uncertain.use_up(response_bytes(&payload, &before.context));
            if is_essential {
                told.of(before, scene);
                room.use_up(self.send_response(stream, payload, last, scene));
                told.responses = Some(self.replica.responses);
            } else {
                room.leave_out();
            }
        }
        told.of(self.cursor(), scene);
        self.serving = Serving::Streaming { stream, room, due: None };
        self.catch_up(scene);
    }

    /// How much may be uncertain. If there is no client, none was sent. Of a service that does not go by the
    /// clock nobody knows how far it got: it counts as what the client has room for.
    fn uncertain_max<S: ContentService<Context = C>>(
        &self,
        credit: Option<Credit>,
        scene: &Scene<'_, S>,
    ) -> Credit {
        let Some(credit) = credit else { return Credit::NONE };
        let Replica { content, context, .. } = &self.replica;
        let first = || scene.service.next(content, &mut context.clone(), Time::ZERO);
        match scene.uncertain {
            // What is sent again is sent as if it were new.
            Uncertain::Ask | Uncertain::Resend => Credit::NONE,
            Uncertain::Skip | Uncertain::Essential => match first() {
                Next::Respond { .. } => credit,
                Next::At(_) | Next::Idle | Next::Fail { .. } => Credit::responses(UNCERTAIN_MAX),
            },
        }
    }
}
