//! What there is to see in a run: its trace, the moments for which faults wait, what is counted, and what is wrong.

use std::time::Duration;

use membership_core::{Kind as Path, Message, Notice, Rejection, Word};
use model::trace::{Event as Trace, Record};
use model::{DaemonId, Time};

use crate::membership::claims::Claims;
pub use crate::membership::claims::Seen;
use crate::membership::coverage::Coverage;
use crate::membership::net::Node;
use crate::membership::size;

/// A named moment in the life of the protocol: faults wait for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// A daemon is told of a start change, and waits for the view.
    StartChange,
    /// A server has voted, and waits for other votes.
    Vote,
    /// A server votes in a round of the slow path.
    SlowVote,
    /// A server has all votes; others may not.
    Agreed,
    /// A daemon is told a view.
    View,
    /// A daemon attaches.
    Attach,
    /// A server hears that a daemon is cut off from another.
    Cut,
    /// A link between servers comes up.
    Link,
    /// A daemon has written down that it agrees to a primary component.
    Attempt,
}

impl Moment {
    pub const ALL: [Moment; 9] = [
        Moment::StartChange,
        Moment::Vote,
        Moment::SlowVote,
        Moment::Agreed,
        Moment::View,
        Moment::Attach,
        Moment::Cut,
        Moment::Link,
        Moment::Attempt,
    ];
}

pub struct Log {
    pub records: Vec<Record>,
    pub complaints: Vec<String>,
    pub coverage: Coverage,
    pub claims: Claims,
    /// Inputs of machines.
    pub steps: u64,
    /// Between servers, other than signs of life.
    pub messages: u64,
    pub message_bytes: u64,
    /// What daemons were told.
    pub notices: u64,
    pub notice_bytes: u64,
    /// What daemons reported.
    pub reports: u64,
    pub report_bytes: u64,
    /// When a daemon was told something last.
    pub last_notice: Time,
    /// Since when faults are over.
    pub calm_since: Time,
    moments: Vec<(Moment, Node)>,
    /// Whether to tell everything on the way.
    pub is_verbose: bool,
}

impl Log {
    pub fn new(patience: Duration) -> Log {
        Log {
            records: Vec::new(),
            complaints: Vec::new(),
            coverage: Coverage::default(),
            claims: Claims::new(patience),
            steps: 0,
            messages: 0,
            message_bytes: 0,
            notices: 0,
            notice_bytes: 0,
            reports: 0,
            report_bytes: 0,
            last_notice: Time::ZERO,
            calm_since: Time::ZERO,
            moments: Vec::new(),
            is_verbose: false,
        }
    }

    pub fn record(&mut self, at: Time, event: Trace) {
        let told = match &event {
            Trace::StartChange { daemon, .. } => Some(("start changes told", *daemon)),
            Trace::MembershipView { daemon, .. } => Some(("configurations told", *daemon)),
            _ => None,
        };
        if let Some((fact, daemon)) = told {
            self.coverage.count(fact, 1);
            self.last_notice = at;
            self.saw(at, &Seen::Told { daemon });
        }
        self.records.push(Record { at, event });
    }

    pub fn saw(&mut self, now: Time, seen: &Seen) {
        if let Err(wrong) = self.claims.observe(now, seen) {
            self.complain(wrong);
        }
    }

    pub fn complain(&mut self, wrong: String) {
        // The first are the causes of the others.
        if self.complaints.len() < 8 {
            self.complaints.push(wrong);
        }
    }

    pub fn moment(&mut self, moment: Moment, at: Node) {
        self.moments.push((moment, at));
    }

    pub fn take_moments(&mut self) -> Vec<(Moment, Node)> {
        std::mem::take(&mut self.moments)
    }

    pub fn vote(&mut self, at: Node, path: Path) {
        let (moment, fact) = match path {
            Path::Fast => (Moment::Vote, "votes of the fast path"),
            Path::Slow { .. } => (Moment::SlowVote, "votes of the slow path"),
        };
        self.coverage.count(fact, 1);
        self.moment(moment, at);
    }

    pub fn sent(&mut self, message: &Message) {
        if let Message::Wombat(Word::Beacon(_) | Word::Ping | Word::Pong) = message {
            return;
        }
        self.messages += 1;
        self.message_bytes += size::message(message) as u64;
        match message {
            Message::Row(_) => self.coverage.count("rows sent", 1),
            Message::Change(_) => self.coverage.count("changes of rows sent", 1),
            Message::Proposal(_)
            | Message::Links(_)
            | Message::Bars(_)
            | Message::Attempted(_)
            | Message::Beat
            | Message::Wombat(_) => {}
        }
    }

    pub fn notified(&mut self, notice: &Notice) {
        self.notices += 1;
        self.notice_bytes += size::notice(notice) as u64;
    }

    pub fn reported(&mut self, report: &detector::Report<DaemonId>) {
        self.reports += 1;
        self.report_bytes += size::report(report) as u64;
    }

    pub fn rejected(&mut self, reason: &Rejection) {
        match reason {
            Rejection::Superseded { .. } => self.coverage.count("rejections: attached elsewhere", 1),
            Rejection::Barred { .. } => self.coverage.count("rejections: barred", 1),
            other => self.complain(format!("a daemon was rejected: {other:?}")),
        }
    }
}
