//! Which peers are silent, and which cannot be reached.
//!
//! A stream has a way back, on which the one that it was opened to acknowledges frames; it repeats its acknowledgement
//! as a *beat* when it has said nothing for a period. So whoever opened the stream hears something as long as the peer
//! lives, the way there and the way back are free, and the peer's machine gets round to its work. If it hears nothing
//! for too long, or cannot open the stream, it breaks the stream, has it opened again, and says so: the report of a
//! daemon is about the streams that it opens itself. Each pair has two of them, so between the two reports there is no
//! way on which a cut remains unseen, and none is heard twice.
//!
//! A daemon under load is behind: what a peer said may wait in a socket, or in the inbox behind thousands of messages. So
//! it breaks no stream before it has been told all that had come when it grew suspicious.
//!
//! Peers that are reported are probed after their streams are gone, or healing would never be noticed.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use detector::{Monitor, Params, Pulse, Reach};
use model::{Address, DaemonId, Time};

use crate::link::Links;
use crate::port::{Answer, Output};

/// The daemon's view of its peers' health. Without parameters it has none: the host's connections tell of every loss.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Detection(Option<Detecting>);

#[derive(Clone, Debug, Hash)]
struct Detecting {
    params: Params,
    /// Those to whom we want a stream.
    monitor: Monitor<DaemonId>,
    /// Those who have one to us.
    pulse: Pulse<DaemonId>,
    reach: Reach<DaemonId>,
    /// Of those to whom we want a stream or who are doubted.
    addresses: BTreeMap<DaemonId, Address>,
    /// When to probe whoever is doubted and has no stream.
    probe: Option<Time>,
}

impl Detection {
    pub(crate) fn new(params: Option<&Params>) -> Detection {
        Detection(params.map(|params| Detecting {
            params: *params,
            monitor: Monitor::new(params),
            pulse: Pulse::new(params),
            reach: Reach::new(params),
            addresses: BTreeMap::new(),
            probe: None,
        }))
    }

    /// Our stream to `peer` is open.
    pub(crate) fn up(&mut self, peer: DaemonId, now: Time) {
        if let Some(it) = &mut self.0 {
            it.monitor.watch(peer, now);
            it.reach.up(peer, now);
        }
    }

    /// Our stream to `peer` broke or could not be opened. It is being opened again.
    pub(crate) fn down(&mut self, peer: DaemonId, now: Time) {
        if let Some(it) = &mut self.0 {
            it.monitor.watch(peer, now);
            it.reach.down(peer, now, Duration::ZERO);
        }
    }

    /// `peer` said something on the way back.
    pub(crate) fn heard(&mut self, peer: DaemonId, now: Time) {
        if let Some(it) = &mut self.0 {
            it.monitor.heard(peer, now);
        }
    }

    /// The stream of a peer to us is over.
    pub(crate) fn closed(&mut self, from: DaemonId) {
        if let Some(it) = &mut self.0 {
            it.pulse.end(from);
        }
    }

    /// What came of a probe. Where there is a stream, the stream is what counts.
    pub(crate) fn probed(&mut self, peer: DaemonId, answer: Answer, links: &Links, now: Time) {
        let Some(it) = self.0.as_mut().filter(|_| links.epoch(peer).is_none()) else { return };
        // Who is whole has nothing to prove.
        if it.reach.doubted().any(|doubted| doubted == peer) {
            match answer {
                Answer::Present => it.reach.up(peer, now),
                Answer::None => it.reach.down(peer, now, Duration::ZERO),
                Answer::Other => it.reach.forget(peer),
            }
        }
    }

    /// `peer` has ended: a later life of it is here.
    pub(crate) fn bury(&mut self, peer: DaemonId) {
        if let Some(it) = &mut self.0 {
            it.reach.forget(peer);
        }
    }

    /// What follows from the orders of a step, which are those from `first` on.
    pub(crate) fn follow(&mut self, first: usize, links: &Links, now: Time, out: &mut Vec<Output>) {
        let Some(it) = &mut self.0 else { return };
        let mut gone = false;
        for order in out.iter().skip(first) {
            if let Output::Connect { peer, address, .. } = order {
                it.connect(*peer, address, now);
            } else if let Output::Disconnect { peer } = order {
                it.monitor.forget(*peer);
                gone = true;
            } else if let Output::Resume { to, .. } = order {
                it.pulse.begin(*to, now);
            } else if let Output::Ack { peer, .. } = order {
                it.pulse.sent(*peer, now);
            }
        }
        let news = it.reach.news(now);
        if gone || news.is_some() {
            it.prune(links, now);
        }
        out.extend(news.map(Output::Reach));
    }

    /// Does what is due.
    pub(crate) fn wake(&mut self, links: &mut Links, now: Time, out: &mut Vec<Output>) {
        let Some(it) = &mut self.0 else { return };
        for peer in it.pulse.wake(now) {
            links.beat(peer, out);
        }
        if it.monitor.suspects(now) {
            out.push(Output::CatchUp);
        }
        it.reach.wake(now);
        if it.probe.is_some_and(|due| due <= now) {
            it.probe = Some(now + it.params.probe);

            let doubted = it.reach.doubted().filter(|peer| links.epoch(*peer).is_none());
            let addressed = doubted.filter_map(|peer| it.addresses.get(&peer).map(|at| (peer, at.clone())));
            out.extend(addressed.map(|(peer, address)| Output::Probe { peer, address }));
        }
    }

    /// All has been told that had come when somebody was suspected.
    pub(crate) fn caught_up(&mut self, links: &Links, now: Time, out: &mut Vec<Output>) {
        let Some(it) = &mut self.0 else { return };
        for (peer, silent) in it.monitor.judge(now) {
            if let Some(epoch) = links.epoch(peer) {
                it.reach.down(peer, now, silent);
                it.monitor.watch(peer, now);
                out.push(Output::Reset { peer, epoch, silent });
            }
        }
    }

    /// When something is due.
    pub(crate) fn next_wake(&self) -> Option<(Time, &'static str)> {
        let it = self.0.as_ref()?;
        let due = [
            (it.pulse.next_wake(), "beat"),
            (it.monitor.next_wake(), "listen"),
            (it.reach.next_wake(), "judge links"),
            (it.probe, "probe"),
        ];
        due.into_iter().filter_map(|(due, what)| Some((due?, what))).min()
    }
}

impl Detecting {
    /// We want a stream to `peer` from now on: its earlier lives have ended.
    fn connect(&mut self, peer: DaemonId, address: &Address, now: Time) {
        self.monitor.watch(peer, now);
        self.addresses.insert(peer, address.clone());
        let earlier = |other: &DaemonId| other.name() == peer.name() && other.boot() < peer.boot();
        let buried: Vec<DaemonId> = self.reach.doubted().filter(earlier).collect();
        for dead in buried {
            self.reach.forget(dead);
        }
    }

    /// Keeps the addresses that may be needed, and probes as long as there is somebody to probe.
    fn prune(&mut self, links: &Links, now: Time) {
        let doubted: Vec<DaemonId> = self.reach.doubted().collect();
        self.addresses.retain(|peer, _| links.epoch(*peer).is_some() || doubted.contains(peer));
        let lost = doubted.iter().any(|peer| links.epoch(*peer).is_none());
        self.probe = lost.then(|| self.probe.unwrap_or(now + self.params.probe));
    }
}
