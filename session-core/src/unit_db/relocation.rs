//! An operator's move of one session: decided by every replica at its place in the order of the content group, so that
//! no two can differ on it, and refused there too.

use core::fmt;

use model::{Fence, ProcessId, SessionId};

use super::Database;

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

/// Why a session is not moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveRefusal {
    /// The server that was asked does not hold the unit.
    UnknownUnit,
    /// There is no such session, or it has ended.
    UnknownSession,
    /// No content server has that name, or it is leaving.
    UnknownServer,
    /// The server does not hold the unit.
    NotAReplica,
    /// The session is there already.
    AlreadyPrimary,
    /// Nobody else holds the unit.
    NobodyElse,
    /// The servers of the unit are about to change, or the one that was asked is leaving.
    Unsettled,
}

impl fmt::Display for MoveRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MoveRefusal::UnknownUnit => "this server does not hold the session's unit: ask one that does",
            MoveRefusal::UnknownSession => "there is no such session, or it has ended",
            MoveRefusal::UnknownServer => "no content server of that name is here, or it is leaving",
            MoveRefusal::NotAReplica => "that server does not hold the session's unit",
            MoveRefusal::AlreadyPrimary => "that server is the session's primary already",
            MoveRefusal::NobodyElse => "no other server holds the session's unit",
            MoveRefusal::Unsettled => "the servers of the unit are changing: ask again in a moment",
        })
    }
}

impl Database {
    /// Makes `to` the session's primary, or, if that is nobody, another member than now: whoever has least to do. A
    /// session that was put somewhere stays there when others are moved for balance.
    pub(super) fn relocate(
        &mut self,
        id: SessionId,
        to: Option<ProcessId>,
    ) -> Result<Relocation, MoveRefusal> {
        let (mut assignment, sessions) = self.assignment();
        let session = sessions.get_mut(&id).ok_or(MoveRefusal::UnknownSession)?;
        let from = session.primary;
        let heir = match to {
            Some(to) if !assignment.members.contains(&to) => return Err(MoveRefusal::NotAReplica),
            Some(to) if from == Some(to) => return Err(MoveRefusal::AlreadyPrimary),
            Some(to) => to,
            None => assignment.elsewhere(id, session).ok_or(MoveRefusal::NobodyElse)?,
        };
        assignment.hand_over(session, heir);
        session.placed = to.is_some();
        Ok(Relocation { from, to: heir, fence: session.fence })
    }
}
