//! Sessions that all servers of their unit have forgotten, made anew from their clients' cursors, where the policy of the
//! unit allows it ([ADR 15](../../../docs/adr/0015-a-sealed-cursor-brings-a-forgotten-session-back.md)).

use alloc::vec::Vec;

use model::SessionId;

use super::{Database, Effect, Happening, Rebuild};
use crate::message::{AttachRefusal, Cursor, GatewayId, Secret};

/// Who comes with a cursor has come later than to wherever else the session may still be known: counted as more hops than
/// any client makes.
const HOPS_OF_REBUILT: u64 = 1 << 32;

impl Database {
    /// A gateway brings the cursor of a session, of which it was told that nobody knows it; without a cursor the client has
    /// nothing yet. If somebody does know it by now, there is nothing to do: the gateway asks after it again.
    pub(super) fn rebuild(
        &mut self,
        id: SessionId,
        secret: Secret,
        gateway: GatewayId,
        cursor: Option<Cursor>,
    ) -> Vec<Effect> {
        let reason = match self.sessions.get(&id) {
            Some(_) => return Vec::new(),
            None if self.tombs.contains_key(&id) => self.why_not(id),
            // What its requests did to a shared state would be forgotten with it.
            None if self.policy.rebuild == Rebuild::Never || self.shared.is_some() => {
                AttachRefusal::Forgotten
            }
            None => {
                self.tell_of(id, Happening::Rebuilt { gateway: gateway.name });
                self.insert(id, secret, gateway);
                self.begin_at(id, cursor);
                return self.assign(id);
            }
        };
        Vec::from([Effect::Refused { session: id, gateway, reason }])
    }

    fn begin_at(&mut self, id: SessionId, cursor: Option<Cursor>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.rebuilt = true;
        session.hops = HOPS_OF_REBUILT;
        if let Some(Cursor { responses, requests, context }) = cursor {
            session.responses = responses;
            session.requests = requests;
            session.context = context;
        }
    }
}
