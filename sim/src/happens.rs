//! Named moments: what an observer of inputs and outputs can tell is happening, and at whom. Faults wait for them.

use crate::packet::Node;

/// A moment in the life of the protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Happens {
    /// A daemon is told of a start change.
    StartChange,
    /// A daemon sent its sync.
    SyncSent,
    /// A daemon has a peer's sync, and no view yet.
    BetweenSyncAndView,
    /// A daemon is told a view, and has not installed it.
    BetweenViewAndInstall,
    /// A daemon forwards what a departed one left.
    Forward,
    /// A daemon installed a configuration.
    Install,
    /// A daemon tells its class's group table.
    TableSent,
    /// A daemon stops while it holds payloads that have no place in the order.
    Residue,
    /// A daemon installed a configuration with daemons that have other group tables.
    Merge,
    /// A daemon stops while group tables are being exchanged.
    BrokenExchange,
    /// A daemon has the tables of all classes.
    TablesMerged,
    /// A link resumes where it broke.
    Resume,
    /// A daemon is sent entries of a configuration that it has not installed.
    Early,
    /// A server tells its class's unit database.
    StateSent,
    /// A gateway starts a session.
    SessionStarted,
    /// A gateway multicast a request.
    RequestSubmitted,
    /// A primary acknowledged a request.
    RequestApplied,
    /// A primary propagated contexts.
    Propagate,
    /// A server became primary of a session.
    Takeover,
    /// A new primary asks a gateway how far the client got.
    Claim,
    /// A gateway tells a primary to serve.
    Serve,
    /// A primary sent a response.
    Response,
    /// A gateway takes a session over from another one.
    ClientMoves,
    /// New sessions are opened on another edition.
    Publication,
    /// A gateway complains of a primary of which nothing comes.
    Stall,
}

impl Happens {
    /// Those that random faults wait for in a world with sessions.
    pub const STACK: [Happens; 19] = [
        Happens::StartChange,
        Happens::SyncSent,
        Happens::BetweenSyncAndView,
        Happens::BetweenViewAndInstall,
        Happens::Forward,
        Happens::Install,
        Happens::TableSent,
        Happens::StateSent,
        Happens::SessionStarted,
        Happens::RequestSubmitted,
        Happens::RequestApplied,
        Happens::Propagate,
        Happens::Takeover,
        Happens::Claim,
        Happens::Serve,
        Happens::Response,
        Happens::ClientMoves,
        Happens::Publication,
        Happens::Stall,
    ];

    /// Those of daemons.
    pub const DAEMONS: [Happens; 13] = [
        Happens::StartChange,
        Happens::SyncSent,
        Happens::BetweenSyncAndView,
        Happens::BetweenViewAndInstall,
        Happens::Forward,
        Happens::Install,
        Happens::TableSent,
        Happens::Residue,
        Happens::Merge,
        Happens::BrokenExchange,
        Happens::TablesMerged,
        Happens::Resume,
        Happens::Early,
    ];

    /// All of them.
    pub fn all() -> impl Iterator<Item = Happens> {
        let more = Happens::DAEMONS.into_iter().filter(|moment| !Happens::STACK.contains(moment));
        Happens::STACK.into_iter().chain(more)
    }
}

/// A moment that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// What happens.
    pub what: Happens,
    /// To whom.
    pub at: Node,
}
