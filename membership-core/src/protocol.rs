//! What a membership server needs of the protocol by which it agrees with others: with whom, about what, and what
//! came of it. Who is attached, what follows from that, and what daemons are told, is the same with all protocols.

use alloc::collections::{BTreeMap, BTreeSet};

use model::{DaemonId, ServerId, Time};

use crate::message::{Fault, Started, Target};
use crate::moshe::Moshe;
use crate::params::{Params, Protocol};
use crate::wombat::Wombat;

/// One protocol, and what it has to remember.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Agreeing {
    Moshe(Moshe),
    Wombat(Wombat),
}

/// What servers agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conclusion {
    /// Of all configurations that come of it.
    pub(crate) counter: u64,
    /// What each server told its daemons for it.
    pub(crate) starts: BTreeMap<ServerId, BTreeMap<DaemonId, Started>>,
}

impl Agreeing {
    pub(crate) fn new(me: ServerId, params: &Params) -> Agreeing {
        match params.protocol {
            Protocol::Moshe => Agreeing::Moshe(Moshe::new(me, params.patience)),
            Protocol::Wombat => Agreeing::Wombat(Wombat::new(me, params.beacon)),
        }
    }

    pub(crate) fn moshe(&mut self) -> Result<&mut Moshe, Fault> {
        match self {
            Agreeing::Moshe(moshe) => Ok(moshe),
            Agreeing::Wombat(_) => Err(Fault::ForeignProtocol),
        }
    }

    pub(crate) fn wombat(&mut self) -> Result<&mut Wombat, Fault> {
        match self {
            Agreeing::Wombat(wombat) => Ok(wombat),
            Agreeing::Moshe(_) => Err(Fault::ForeignProtocol),
        }
    }

    /// The servers that this one agrees with, itself among them.
    pub(crate) fn servers(&self, now: Time) -> BTreeSet<ServerId> {
        match self {
            Agreeing::Moshe(moshe) => moshe.clique(now),
            Agreeing::Wombat(wombat) => wombat.command.view(),
        }
    }

    /// The servers that announce their rows to this one; none if it is told by others what follows.
    pub(crate) fn sources(&self, now: Time) -> Option<BTreeSet<ServerId>> {
        match self {
            Agreeing::Moshe(moshe) => Some(moshe.clique(now)),
            Agreeing::Wombat(wombat) => wombat.command.followers(),
        }
    }

    /// The servers whose daemons this one is to bring together, if it is the one to see to that.
    pub(crate) fn decides_for(&self, now: Time) -> Option<BTreeSet<ServerId>> {
        match self {
            Agreeing::Moshe(moshe) => Some(moshe.clique(now)),
            Agreeing::Wombat(wombat) => wombat.command.followers().filter(|_| wombat.command.decides()),
        }
    }

    /// Which servers are linked with which, if servers tell each other.
    pub(crate) fn links(&self) -> Option<BTreeMap<ServerId, BTreeSet<ServerId>>> {
        match self {
            Agreeing::Moshe(moshe) => {
                let known = moshe.links.known().iter();
                Some(known.map(|(server, neighbours)| (*server, neighbours.linked.clone())).collect())
            }
            Agreeing::Wombat(_) => None,
        }
    }

    /// What the newest change is about.
    pub(crate) fn target(&self) -> &Target {
        match self {
            Agreeing::Moshe(moshe) => moshe.agreement.target(),
            Agreeing::Wombat(wombat) => wombat.round.target(),
        }
    }

    /// Whether another server waits for this one to act on `target`.
    pub(crate) fn is_wanted(&self, target: &Target) -> bool {
        match self {
            Agreeing::Moshe(moshe) => moshe.agreement.is_wanted(target),
            Agreeing::Wombat(_) => false,
        }
    }

    /// Whether a change has begun, so that daemons wait for its end.
    pub(crate) fn is_open(&self) -> bool {
        match self {
            Agreeing::Moshe(moshe) => moshe.agreement.is_open(),
            Agreeing::Wombat(wombat) => wombat.round.is_open(),
        }
    }

    /// Takes the change to `target`, in which everybody has been told all there is to tell.
    pub(crate) fn adopt(&mut self, target: Target) {
        match self {
            Agreeing::Moshe(moshe) => moshe.agreement.adopt(target),
            Agreeing::Wombat(wombat) => wombat.round.adopt(target),
        }
    }

    /// Configurations from here on get greater counters than this.
    pub(crate) fn raise_counter(&mut self, counter: u64) {
        match self {
            Agreeing::Moshe(moshe) => moshe.agreement.raise_counter(counter),
            Agreeing::Wombat(wombat) => wombat.round.raise_counter(counter),
        }
    }

    /// When time alone makes a difference.
    pub(crate) fn next_wake(&self) -> Option<(Time, &'static str)> {
        match self {
            Agreeing::Moshe(moshe) => {
                moshe.next_expiry().map(|time| (time, "a link between servers is missing"))
            }
            Agreeing::Wombat(wombat) => wombat.command.next_wake(),
        }
    }
}
