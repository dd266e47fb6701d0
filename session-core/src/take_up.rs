//! Requests to the state that sessions share, at the primary of a session: it has them carried out by all servers of the
//! unit, and applies what came of them to the context, one by one
//! ([ADR 16](../../docs/adr/0016-shared-state-answers-to-its-voters.md)).
//!
//! Backups only keep them: what came of them, all servers of the unit have.

use alloc::vec::Vec;

use bytes::Bytes;
use model::Digest;
use model::trace::Event;

use crate::held::{Held, Scene};
use crate::service::{ContentService, Refusal};
use crate::unit_db::Carried;

impl<C> Held<C>
where
    C: Clone + serde::Serialize + serde::de::DeserializeOwned,
{
    /// Applies what came of the next request, if that is certain. If not, has it carried out, and those that have come
    /// behind it. Returns whether the context may have changed. To be called when there is nothing to send, or something
    /// was sent since the last time: what comes of requests does not pile up in the context.
    pub(crate) fn take_up<S: ContentService<Context = C>>(&mut self, scene: &mut Scene<'_, S>) -> bool {
        let Some((shared, _)) = scene.shared else { return false };
        let Some((number, request)) = self.replica.waiting().next() else { return false };
        let given = match shared.carried(scene.session, number, request) {
            Carried::Out { update, result } => Ok(noted(number, update, result, scene)),
            Carried::Forgotten => Err("this was carried out, and nobody remembers what came of it"),
            Carried::Otherwise => Err("another request of this session was carried out under this number"),
            Carried::NotYet => {
                self.have_carried_out(scene);
                return false;
            }
        };
        self.is_ahead = self.apply_next(Some(given.map_err(Refusal::precondition)), scene);
        self.is_ahead
    }

    /// Asks for all that waits, once in each view.
    fn have_carried_out<S>(&mut self, scene: &mut Scene<'_, S>) {
        let Some((_, view)) = scene.shared.filter(|(shared, _)| shared.is_open()) else { return };
        let asked = self.asked.filter(|(then, _)| *then == view).map_or(0, |(_, number)| number);
        let new: Vec<_> = self.replica.waiting().filter(|(number, _)| *number > asked).collect();
        if let Some((last, _)) = new.last() {
            self.asked = Some((view, *last));
        }
        scene.updates.extend(new.into_iter().map(|(number, operation)| (number, operation.clone())));
    }
}

/// Lets observers see that what came of a request is used.
fn noted<S>(request: u64, update: u64, result: Bytes, scene: &mut Scene<'_, S>) -> Bytes {
    let (server, unit, session) = (scene.me, scene.unit, scene.session);
    let Some(founding) = scene.shared.and_then(|(shared, _)| shared.founding()) else { return result };
    let digest = || Digest::of(&result);
    scene.observe(|| Event::Carried {
        server,
        unit: unit.clone(),
        session,
        request,
        founding: founding.number,
        founded: founding.view,
        update,
        digest: digest(),
    });
    result
}
