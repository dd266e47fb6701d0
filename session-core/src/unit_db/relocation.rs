//! An operator's move of one session: decided by every replica at its place in the order of the content group, so that
//! no two can differ on it, and refused there too.

use model::{Fence, ProcessId, SessionId};

use super::{Database, OrderRefusal};

/// A move that was decided. Until the new primary has the context, the old one goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// Who served.
    pub from: Option<ProcessId>,
    /// Who serves from here on.
    pub to: ProcessId,
    /// The right to serve.
    pub fence: Fence,
}

impl Database {
    /// Makes `to` the session's primary, or, if that is nobody, another member than now: whoever has least to do. A
    /// session that was put somewhere stays there when others are moved for balance.
    pub(super) fn relocate(
        &mut self,
        id: SessionId,
        to: Option<ProcessId>,
    ) -> Result<Relocation, OrderRefusal> {
        let (mut assignment, sessions) = self.assignment();
        let session = sessions.get_mut(&id).ok_or(OrderRefusal::UnknownSession)?;
        let from = session.primary;
        let heir = match to {
            Some(to) if !assignment.can_serve(to, session) => return Err(OrderRefusal::NotAReplica),
            Some(to) if from == Some(to) => return Err(OrderRefusal::AlreadyPrimary),
            Some(to) => to,
            None => assignment.elsewhere(id, session).ok_or(OrderRefusal::NobodyElse)?,
        };
        assignment.hand_over(session, heir);
        session.placed = to.is_some();
        session.stalls.forgive();
        Ok(Relocation { from, to: heir, fence: session.fence })
    }
}
