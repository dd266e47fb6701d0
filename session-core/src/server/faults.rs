//! Sessions that their service cannot go on with.

use alloc::vec::Vec;

use model::{SessionId, UnitId};

use super::groups::tell;
use super::{Output, Server};
use crate::fault::Fault;
use crate::held::Serving;
use crate::message::ContentMessage;
use crate::service::ContentService;

impl<S: ContentService> Server<S> {
    /// The service cannot go on with a session that is served here. No other server could: it would come to the same. So the
    /// session is over, as soon as its unit's servers have heard it; until then nothing is done in it, and nothing of it told.
    pub(super) fn fail(&mut self, unit: &UnitId, session: SessionId, fault: Fault, out: &mut Vec<Output>) {
        let Some(state) = self.units.get_mut(unit) else { return };
        let Some(held) = state.held.get_mut(&session) else { return };
        held.serving = Serving::Nothing;
        let fence = held.fence;
        state.dirty.remove(&session);
        out.push(Output::Failed { unit: unit.clone(), session, fault });
        out.push(tell(unit, &ContentMessage::Fail { session, fence }));
    }
}
