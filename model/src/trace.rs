//! What a run lets an observer see: one vocabulary for simulated and for real runs, so that one set of checkers
//! judges both. A trace is a sequence of [`Record`]s, written as one JSON object a line.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::{
    Configuration, ConfigurationId, DaemonId, Digest, Fence, GroupName, GroupView, GroupViewId, Level,
    MessageId, Name, ProcessId, SessionId, StartId, Time, UnitId,
};

/// An event, and when its process saw it. Records of one process are in the order in which it saw them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// By the clock of the process that wrote it.
    pub at: Time,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// The part that a server plays in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Responds to the client.
    Primary,
    /// Mirrors the context: applies every request, sends nothing.
    Backup,
    /// Neither.
    None,
}

/// Everything that can be observed.
#[allow(missing_docs, reason = "the fields are named for what they are")]
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    // Membership interface, seen by a daemon.
    /// The membership service began a change.
    StartChange { daemon: DaemonId, start: StartId, proposed: BTreeSet<DaemonId> },
    /// The membership service agreed on a configuration.
    MembershipView { daemon: DaemonId, configuration: Configuration },

    // Configuration scope, seen by a daemon.
    /// The daemon left `previous` and moved into `configuration`, together with `transitional`.
    Install {
        daemon: DaemonId,
        configuration: Configuration,
        previous: ConfigurationId,
        transitional: BTreeSet<DaemonId>,
    },
    /// The daemon appended message `index` (from 1) to its own stream in `configuration`.
    Cast { daemon: DaemonId, configuration: ConfigurationId, index: u64, digest: Digest },
    /// The daemon delivered message `index` of `origin`'s stream in `configuration`, next in the total order.
    /// What a daemon delivered before it cast is what that cast may depend on.
    Deliver { daemon: DaemonId, configuration: ConfigurationId, origin: DaemonId, index: u64, digest: Digest },

    // Group scope, seen by the daemon of the process.
    /// A process attached.
    Attach { process: ProcessId, name: Name },
    /// A process is gone: its connection closed, or it was evicted.
    Detach { process: ProcessId },
    /// A process multicast `message` to `group`; it need not be a member. `view` is the last view of the group that
    /// it was told, if it is one and has not asked to leave a strict group. A message with `only_in` is for that view of the group, or for nobody.
    GroupSend {
        process: ProcessId,
        group: GroupName,
        message: MessageId,
        digest: Digest,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        view: Option<GroupViewId>,
        #[serde(default)]
        level: Level,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        only_in: Option<GroupViewId>,
    },
    /// The sender of `message` was told that nobody is given it: nobody, that is, whose daemon goes the same way from
    /// this configuration.
    GroupRefuse { process: ProcessId, message: MessageId },
    /// Every daemon of the configuration is known to hold `message`, sent at [`Level::Safe`], and all that comes
    /// before it. The member is given the message next, in `view` of `group`. Without this record, the message came
    /// at a change of configuration, and only those who came along are known to be given it.
    GroupSafe { process: ProcessId, group: GroupName, message: MessageId, view: GroupViewId },
    /// A member of a strict group was asked to send no more until it is told to go on.
    GroupBlock { process: ProcessId, group: GroupName },
    /// A member of a strict group was told to go on.
    GroupUnblock { process: ProcessId, group: GroupName },
    /// A member was told a view.
    GroupInstall { process: ProcessId, view: GroupView },
    /// A process stopped being a member by its own wish: its leave took its place in the order.
    GroupLeave { process: ProcessId, group: GroupName },
    /// A member was given `message`, while `view` was its view of `group`.
    GroupDeliver {
        process: ProcessId,
        group: GroupName,
        message: MessageId,
        view: GroupViewId,
        digest: Digest,
    },

    // Sessions, seen by a content server.
    /// A replica's part in a session changed.
    Role { server: ProcessId, unit: UnitId, session: SessionId, fence: Fence, role: Role },
    /// A replica applied request `request` (from 1) to the context that it holds under `fence`. `digest` is of the
    /// request. `lineage` names the context: it changes whenever the replica replaces its context by another one.
    Apply { server: ProcessId, session: SessionId, fence: Fence, lineage: u64, request: u64, digest: Digest },
    /// A replica is about to apply what came of request `request` on the state that all sessions on `unit` share: `digest`
    /// is of that. It was the `update`-th request, of all sessions, since the beginning, and comes after the `founding`-th
    /// founding of the state, which was in view `founded`.
    Carried {
        server: ProcessId,
        unit: UnitId,
        session: SessionId,
        request: u64,
        founding: u64,
        founded: GroupViewId,
        update: u64,
        digest: Digest,
    },
    /// The primary sent response `response` (from 1), having applied `requests` requests.
    Respond {
        server: ProcessId,
        session: SessionId,
        fence: Fence,
        response: u64,
        requests: u64,
        digest: Digest,
    },
    /// A member of the session group was given response `response`, as committed under `fence`. `level`: what the unit
    /// demands before a client is sent it.
    Commit {
        server: ProcessId,
        session: SessionId,
        fence: Fence,
        response: u64,
        digest: Digest,
        level: Level,
    },
    /// The unit database of a replica after it applied the event at `position` of the content group's history:
    /// `view` and the count of events since that view.
    /// `primaries` serve its sessions. Nobody serves `forsaken` more, though some member could.
    Database {
        server: ProcessId,
        unit: UnitId,
        view: GroupViewId,
        position: u64,
        digest: Digest,
        #[serde(default)]
        primaries: BTreeSet<ProcessId>,
        #[serde(default)]
        forsaken: usize,
    },
    /// A backup's unit database has heard of a context, and the backup has taken in what was news to it. Each is at a
    /// position: after so many responses, and so many requests. If the backup `waits`, it is new in the session group, and
    /// has yet to be told what was committed there before.
    Follow { server: ProcessId, session: SessionId, known: (u64, u64), position: (u64, u64), waits: bool },
    /// A replica gave `moves` sessions of the unit another primary, though theirs had come along to `view` of the content
    /// group, to spread them evenly. It may be no more than `at_most`.
    Balance { server: ProcessId, unit: UnitId, view: GroupViewId, moves: usize, at_most: usize },

    // Sessions, seen by a gateway.
    /// A client opened a session.
    Open { gateway: Name, unit: UnitId, session: SessionId },
    /// A client attached that has everything up to response `responses`, which reflects `requests` requests. What was
    /// acknowledged beyond that counts no more: the client sends it again if it wants it.
    Seat { gateway: Name, session: SessionId, responses: u64, requests: u64 },
    /// A client's request was accepted under number `request`.
    Submit { gateway: Name, session: SessionId, request: u64, digest: Digest },
    /// A client's request was acknowledged to it.
    Acknowledge { gateway: Name, session: SessionId, request: u64 },
    /// A response was accepted from the primary that holds `fence`, and goes to the client.
    Accept { gateway: Name, session: SessionId, fence: Fence, response: u64, digest: Digest },
    /// A server's claim was granted: from here on, the session's responses are taken from whoever holds `fence`.
    Grant { gateway: Name, session: SessionId, fence: Fence },
    /// A server that holds `fence` was refused, since `newer` was seen.
    Fenced { gateway: Name, session: SessionId, fence: Fence, newer: Fence },
    /// The session is over: closed by its client, ended by its service, or given up.
    Close { gateway: Name, session: SessionId },
    /// The gateway forgot the session, which is not over: its client went to another gateway, or nobody serves it.
    /// Requests that wait here are not acknowledged any more.
    Release { gateway: Name, session: SessionId },
    /// The gateway was told that no server knows the session, and asks them to make it anew. The fences that it has seen
    /// count no more.
    Rebuild { gateway: Name, session: SessionId },
    /// No server has served the session's client for so long that the fences that the gateway has seen count no more.
    Unfence { gateway: Name, session: SessionId },

    // Sessions, seen by a client.
    /// A client attached to a session, having everything up to response `after`.
    ClientAttach { session: SessionId, after: u64 },
    /// A client received a response.
    ClientReceive { session: SessionId, response: u64, digest: Digest },

    // The run itself, seen by whoever drives it.
    /// A daemon started.
    DaemonStart { daemon: DaemonId },
    /// A daemon was killed or stopped for good; its processes go with it.
    DaemonCrash { daemon: DaemonId },
    /// A gateway was killed or stopped, and forgot everything; it may come back under its name.
    GatewayCrash { gateway: Name },
    /// Faults have stopped and nothing is left to do. `daemons` are alive; `sessions` are open, with an attached
    /// client each.
    Quiescent { daemons: Vec<DaemonId>, sessions: Vec<SessionId> },
}
