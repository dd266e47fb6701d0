//! How available the sessions of a unit are, and at what price. An operator changes it while the unit is served: the
//! change is a message of the content group, so that all replicas follow the new policy from the same place on.

use alloc::vec::Vec;
use core::time::Duration;

use model::{Level, ProcessId};
use serde::{Deserialize, Serialize};

use super::{Database, Effect, Ordered};

/// How available the sessions of a unit are, and at what price [FK:parameters]. Part of the database, so that all
/// replicas choose alike whatever their own settings say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Policy {
    /// Servers beside the primary that apply every request.
    pub backups: u8,
    /// How often a primary propagates the contexts that changed.
    pub period: Duration,
    /// Where sessions are served while the cluster is partitioned.
    pub components: Components,
    /// What a new primary does about responses that the one before it may have sent.
    pub uncertain: Uncertain,
    /// How surely the session group has each response before its client is sent it, at least: services may demand more.
    /// Nothing: responses are sent at once [VMFT:output-commit].
    pub commit: Option<Level>,
    /// What becomes of a session that all servers have forgotten, and whose client comes back.
    pub rebuild: Rebuild,
}

/// What becomes of a session that nobody knows any more, when its client or its gateway brings a cursor that this cluster
/// sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Rebuild {
    /// It is lost.
    #[default]
    Never,
    /// It is made anew, from the context in the cursor.
    Allowed,
}

/// What a primary that takes over does about *uncertain* responses: those that are not in the context it goes on from,
/// and that the primary before it may have sent nevertheless [FK:uncertain].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Uncertain {
    /// Asks the gateway which of them the client has, and goes on after the last one: none is lost or repeated.
    #[default]
    Ask,
    /// Sends them again: none is lost, and up to a period of them comes twice.
    Resend,
    /// Leaves out what was due by now: none comes twice, and up to a period of them is lost.
    Skip,
    /// Sends those again that are [essential](crate::ContentService::is_essential), and leaves out the others.
    Essential,
}

/// Which components of a partitioned cluster serve a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Components {
    /// Each serves whom it reaches. Two of them may serve one session, and are made one when they meet.
    #[default]
    Any,
    /// Only the primary one does. Servers that are in no primary component serve nobody.
    Primary,
}

impl Policy {
    /// The shortest period: a primary that propagates more often does nothing else.
    pub const PERIOD_MIN: Duration = Duration::from_millis(1);
    /// The longest period.
    pub const PERIOD_MAX: Duration = Duration::from_secs(3600);
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            backups: 1,
            period: Duration::from_millis(500),
            components: Components::default(),
            uncertain: Uncertain::default(),
            commit: None,
            rebuild: Rebuild::default(),
        }
    }
}

/// What is to be different in a policy; what is not named stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyChange {
    /// Servers beside the primary that apply every request.
    pub backups: Option<u8>,
    /// How often a primary propagates the contexts that changed.
    pub period: Option<Duration>,
    /// Where sessions are served while the cluster is partitioned.
    pub components: Option<Components>,
    /// What a new primary does about responses that the one before it may have sent.
    pub uncertain: Option<Uncertain>,
    /// How surely the session group has each response before its client is sent it, at least; perhaps not at all.
    pub commit: Option<Option<Level>>,
    /// What becomes of a session that all servers have forgotten, and whose client comes back.
    pub rebuild: Option<Rebuild>,
}

impl PolicyChange {
    /// The policy with the change, within its bounds.
    fn applied_to(self, policy: Policy) -> Policy {
        Policy {
            backups: self.backups.unwrap_or(policy.backups),
            components: self.components.unwrap_or(policy.components),
            uncertain: self.uncertain.unwrap_or(policy.uncertain),
            commit: self.commit.unwrap_or(policy.commit),
            rebuild: self.rebuild.unwrap_or(policy.rebuild),
            period: self.period.unwrap_or(policy.period).clamp(Policy::PERIOD_MIN, Policy::PERIOD_MAX),
        }
    }
}

impl Database {
    /// Changes the policy, and gives every session the backups that it asks for now. Nobody who serves is replaced.
    pub(super) fn adjust(&mut self, by: ProcessId, change: PolicyChange, ticket: u64) -> Vec<Effect> {
        self.policy = change.applied_to(self.policy);
        self.changes += 1;
        let outcome = Ok(Ordered::Adjusted(self.policy));
        let answers = [Effect::PolicyChanged, Effect::Ordered { by, ticket, outcome }];
        self.reassign().into_iter().chain(answers).collect()
    }
}
