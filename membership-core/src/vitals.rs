//! Signs of life, of daemons and of servers. Everything that is said counts as one; whoever has nothing to say beats.
//!
//! A server is expected to be heard from when its link is up. A daemon is, from its first beat on: before that it may
//! be waiting for its configuration, and who never beats is left to the connection to judge.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;

use detector::{Monitor, Profile, Pulse};
use model::{DaemonId, ServerId, Time};

use crate::port::Output;

/// Who is at the other end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Party {
    Daemon(DaemonId),
    Server(ServerId),
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct Vitals {
    monitor: Monitor<Party>,
    pulse: Pulse<Party>,
    /// Daemons that beat.
    beating: BTreeSet<DaemonId>,
    /// Whether silence is judged here at all.
    is_on: bool,
}

impl Vitals {
    pub(crate) fn new(params: Option<&detector::Params>) -> Vitals {
        let with = params.copied().unwrap_or(Profile::Lan.params());
        let (monitor, pulse) = (Monitor::new(&with), Pulse::new(&with));
        Vitals { monitor, pulse, beating: BTreeSet::new(), is_on: params.is_some() }
    }

    /// There is a new stream to a daemon.
    pub(crate) fn attach(&mut self, now: Time, daemon: DaemonId) {
        self.end(Party::Daemon(daemon));
        if self.is_on {
            self.pulse.begin(Party::Daemon(daemon), now);
        }
    }

    /// There is a new link to a server.
    pub(crate) fn link(&mut self, now: Time, server: ServerId) {
        let party = Party::Server(server);
        self.end(party);
        if self.is_on {
            self.pulse.begin(party, now);
            self.monitor.watch(party, now);
        }
    }

    /// A stream is gone.
    pub(crate) fn end(&mut self, party: Party) {
        self.pulse.end(party);
        self.monitor.forget(party);
        if let Party::Daemon(daemon) = party {
            self.beating.remove(&daemon);
        }
    }

    /// A daemon beats.
    pub(crate) fn beat(&mut self, now: Time, daemon: DaemonId) {
        if self.is_on && self.beating.insert(daemon) {
            self.monitor.watch(Party::Daemon(daemon), now);
        }
        self.heard(now, Party::Daemon(daemon));
    }

    pub(crate) fn heard(&mut self, now: Time, party: Party) {
        self.monitor.heard(party, now);
    }

    /// Takes note of what has just been ordered to be sent.
    pub(crate) fn sent(&mut self, now: Time, orders: &[Output]) {
        for order in orders {
            match order {
                Output::Notify { daemon, .. } => self.pulse.sent(Party::Daemon(*daemon), now),
                Output::Send { to, .. } => self.pulse.sent(Party::Server(*to), now),
                Output::Beat { .. }
                | Output::HangUp { .. }
                | Output::HangUpOn { .. }
                | Output::Rejected { .. }
                | Output::Refuse { .. }
                | Output::Agreed(_) => {}
            }
        }
    }

    /// Who has been silent for too long, and for how long.
    pub(crate) fn silent(&mut self, now: Time) -> Vec<(Party, Duration)> {
        self.monitor.wake(now)
    }

    /// To whom a beat is due.
    pub(crate) fn due(&mut self, now: Time) -> Vec<Party> {
        self.pulse.wake(now)
    }

    pub(crate) fn next_wake(&self) -> Option<Time> {
        [self.monitor.next_wake(), self.pulse.next_wake()].into_iter().flatten().min()
    }
}
