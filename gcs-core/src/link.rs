//! Links: a one-way stream of numbered frames to each peer of the reliable set, and what was received on the streams
//! that peers opened to us [KK:reliable-fifo].
//!
//! A broken connection is not a loss: frames stay until the peer acknowledges them, and are sent again from where
//! the peer says it is. Only when a peer leaves the reliable set are its frames forgotten; if it comes back, numbers
//! start again in a new epoch. So each stream is first in, first out, without loss or repetition within an epoch,
//! and between epochs a suffix is lost: exactly what the end-point asks of the network.
//!
//! Bounds: the frames kept for a peer that does not answer are those of one window of entries, of progress that was
//! made on them, and of the syncs and forwards of the start changes since it fell silent. What is remembered of
//! inbound streams is a few words for each name, up to [`crate::Params::peers_max`] names: a name has one living
//! incarnation, since boot numbers grow.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use model::{Address, Boot, DaemonId, Name};

use crate::fault::PeerFault;
use crate::message::Message;
use crate::port::Output;

/// A run of frame numbers on the streams from one daemon to another. A daemon uses each number for one peer only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch as the wire carries it.
    pub const fn new(number: u64) -> Epoch {
        Epoch(number)
    }

    /// The number that the wire carries.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{}", self.0)
    }
}

/// Whether the host has a stream that takes frames.
#[derive(Clone, Debug, Hash)]
enum Stream {
    Down,
    Up,
}

/// Our stream to a peer.
#[derive(Clone, Debug, Hash)]
struct Outbound {
    epoch: Epoch,
    stream: Stream,
    /// The peer has acknowledged this many frames.
    acknowledged: u64,
    /// The frames after them.
    kept: VecDeque<Arc<Message>>,
}

/// A peer's stream to us.
#[derive(Clone, Debug, Hash)]
struct Inbound {
    boot: Boot,
    epoch: Epoch,
    received: u64,
    /// What the peer was last told of `received`.
    acknowledged: u64,
}

/// What became of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// It is the next one.
    Next,
    /// It was received before and sent again while our acknowledgement was under way, or the peer has begun another
    /// epoch or another life since it sent this.
    Stale,
}

/// All links of a daemon.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Links {
    outbound: BTreeMap<DaemonId, Outbound>,
    inbound: BTreeMap<Name, Inbound>,
    last_epoch: Epoch,
    me: Name,
    peers_max: usize,
}

impl Links {
    pub(crate) fn new(me: Name, peers_max: usize) -> Links {
        Links { outbound: BTreeMap::new(), inbound: BTreeMap::new(), last_epoch: Epoch(0), me, peers_max }
    }

    /// Makes `reliable` the reliable set. `addresses` has every daemon that is new to it.
    pub(crate) fn follow(
        &mut self,
        reliable: &BTreeSet<DaemonId>,
        addresses: &BTreeMap<DaemonId, Address>,
        out: &mut Vec<Output>,
    ) {
        self.outbound.retain(|peer, _| {
            let stays = reliable.contains(peer);
            if !stays {
                out.push(Output::Disconnect { peer: *peer });
            }
            stays
        });
        for (peer, address) in addresses {
            if !reliable.contains(peer) || self.outbound.contains_key(peer) {
                continue;
            }
            self.last_epoch = Epoch(self.last_epoch.0 + 1);
            let epoch = self.last_epoch;
            self.outbound.insert(
                *peer,
                Outbound { epoch, stream: Stream::Down, acknowledged: 0, kept: VecDeque::new() },
            );
            out.push(Output::Connect { peer: *peer, address: address.clone(), epoch });
        }
    }

    /// Sends `message` to `peer`, which is in the reliable set: now or when its link is up.
    pub(crate) fn send(&mut self, peer: DaemonId, message: Arc<Message>, out: &mut Vec<Output>) {
        let Some(link) = self.outbound.get_mut(&peer) else {
            debug_assert!(false, "{peer} is not in the reliable set");
            return;
        };
        link.kept.push_back(Arc::clone(&message));
        let number = link.acknowledged + link.kept.len() as u64;
        match link.stream {
            Stream::Up => out.push(Output::Send { peer, epoch: link.epoch, number, message }),
            Stream::Down => {}
        }
    }

    /// The stream to `peer` is open: sends again what `peer` has not received.
    pub(crate) fn up(
        &mut self,
        peer: DaemonId,
        epoch: Epoch,
        received: u64,
        out: &mut Vec<Output>,
    ) -> Result<(), PeerFault> {
        self.acknowledged(peer, epoch, received)?;
        let Some(link) = self.outbound.get_mut(&peer).filter(|link| link.epoch == epoch) else {
            return Ok(());
        };
        if received < link.acknowledged {
            return Err(PeerFault::WrongAcknowledgement { received });
        }
        link.stream = Stream::Up;
        let numbered = (link.acknowledged + 1..).zip(&link.kept);
        out.extend(numbered.map(|(number, message)| Output::Send {
            peer,
            epoch,
            number,
            message: Arc::clone(message),
        }));
        Ok(())
    }

    /// The stream to `peer` broke.
    pub(crate) fn down(&mut self, peer: DaemonId, epoch: Epoch) {
        if let Some(link) = self.outbound.get_mut(&peer).filter(|link| link.epoch == epoch) {
            link.stream = Stream::Down;
        }
    }

    /// `peer` has received our frames up to `received`. News of an earlier epoch or of less than is known is late,
    /// not wrong.
    pub(crate) fn acknowledged(
        &mut self,
        peer: DaemonId,
        epoch: Epoch,
        received: u64,
    ) -> Result<(), PeerFault> {
        let Some(link) = self.outbound.get_mut(&peer).filter(|link| link.epoch == epoch) else {
            return Ok(());
        };
        if received > link.acknowledged + link.kept.len() as u64 {
            return Err(PeerFault::WrongAcknowledgement { received });
        }
        while link.acknowledged < received {
            link.kept.pop_front();
            link.acknowledged += 1;
        }
        Ok(())
    }

    /// A peer opened its stream to us: tells it where to go on. Returns the earlier incarnation of the same name
    /// that this one proves dead, if one was known.
    pub(crate) fn opened(
        &mut self,
        from: DaemonId,
        epoch: Epoch,
        out: &mut Vec<Output>,
    ) -> Result<Option<DaemonId>, PeerFault> {
        if from.name() == self.me {
            return Err(PeerFault::OurName);
        }
        let fresh = Inbound { boot: from.boot(), epoch, received: 0, acknowledged: 0 };
        let full = self.inbound.len() >= self.peers_max;
        let mut superseded = None;
        match self.inbound.get_mut(&from.name()) {
            Some(known) if from.boot() < known.boot => return Err(PeerFault::OutOfDateIncarnation),
            Some(known) if from.boot() > known.boot => {
                superseded = Some(DaemonId::new(from.name(), known.boot));
                *known = fresh;
            }
            Some(known) if epoch < known.epoch => return Err(PeerFault::WrongEpoch),
            Some(known) if epoch > known.epoch => *known = fresh,
            Some(known) => {
                known.acknowledged = known.received;
                out.push(Output::Resume { to: from, epoch, received: known.received });
                return Ok(None);
            }
            None if full => return Err(PeerFault::TooManyPeers),
            None => {
                self.inbound.insert(from.name(), fresh);
            }
        }
        out.push(Output::Resume { to: from, epoch, received: 0 });
        Ok(superseded)
    }

    /// Takes note of frame `number` on a peer's stream.
    pub(crate) fn accept(&mut self, from: DaemonId, epoch: Epoch, number: u64) -> Result<Frame, PeerFault> {
        let Some(link) = self.inbound.get_mut(&from.name()) else {
            return Err(PeerFault::WrongEpoch);
        };
        let expected = link.received + 1;
        if (from.boot(), epoch) > (link.boot, link.epoch) {
            return Err(PeerFault::WrongEpoch);
        }
        if (from.boot(), epoch) < (link.boot, link.epoch) || number < expected {
            return Ok(Frame::Stale);
        }
        if number > expected {
            return Err(PeerFault::FrameGap { expected, found: number });
        }
        link.received = number;
        Ok(Frame::Next)
    }

    /// Acknowledges the streams on which at least `frames` frames wait for it.
    pub(crate) fn acknowledge(&mut self, frames: u64, out: &mut Vec<Output>) {
        for (name, link) in &mut self.inbound {
            if link.received - link.acknowledged >= frames {
                link.acknowledged = link.received;
                let peer = DaemonId::new(*name, link.boot);
                out.push(Output::Ack { peer, epoch: link.epoch, received: link.received });
            }
        }
    }

    /// Acknowledges the stream of `peer` whether there is news or not.
    pub(crate) fn beat(&mut self, peer: DaemonId, out: &mut Vec<Output>) {
        if let Some(link) = self.inbound.get_mut(&peer.name()).filter(|link| link.boot == peer.boot()) {
            link.acknowledged = link.received;
            out.push(Output::Ack { peer, epoch: link.epoch, received: link.received });
        }
    }

    /// Whether `epoch` is the last that `from` opened to us.
    pub(crate) fn is_open(&self, from: DaemonId, epoch: Epoch) -> bool {
        self.inbound.get(&from.name()).is_some_and(|link| (link.boot, link.epoch) == (from.boot(), epoch))
    }

    /// The epoch of our stream to `peer`, if it is in the reliable set.
    pub(crate) fn epoch(&self, peer: DaemonId) -> Option<Epoch> {
        self.outbound.get(&peer).map(|link| link.epoch)
    }

    /// Whether `epoch` is that of our stream to `peer`.
    pub(crate) fn leads(&self, peer: DaemonId, epoch: Epoch) -> bool {
        self.epoch(peer) == Some(epoch)
    }

    /// The most frames of one stream that wait for an acknowledgement.
    pub(crate) fn unacknowledged(&self) -> u64 {
        self.inbound.values().map(|link| link.received - link.acknowledged).max().unwrap_or(0)
    }

    /// Frames sent or to be sent that some peer has not acknowledged.
    pub(crate) fn kept(&self) -> usize {
        self.outbound.values().map(|link| link.kept.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{ConfigurationId, StartId};

    fn name(name: &str) -> Name {
        name.parse().unwrap()
    }

    fn daemon(text: &str, boot: u64) -> DaemonId {
        DaemonId::new(name(text), Boot::new(boot))
    }

    fn message(n: u64) -> Arc<Message> {
        let configuration = ConfigurationId::new(1, 0);
        let sync = crate::message::Sync::Compact { configuration };
        Arc::new(Message::Sync { start: StartId::new(Boot::new(1), n), sync })
    }

    fn follow(links: &mut Links, peers: &[DaemonId]) -> Vec<Output> {
        let mut out = Vec::new();
        let addresses = peers.iter().map(|p| (*p, Address::new("here"))).collect();
        links.follow(&peers.iter().copied().collect(), &addresses, &mut out);
        out
    }

    fn sent(out: &[Output]) -> Vec<u64> {
        let number = |o: &Output| if let Output::Send { number, .. } = o { Some(*number) } else { None };
        out.iter().filter_map(number).collect()
    }

    #[test]
    fn a_broken_connection_loses_nothing() {
        let (q, mut links, mut out) = (daemon("q", 1), Links::new(name("me"), 8), Vec::new());
        follow(&mut links, &[q]);
        let epoch = Epoch(1);
        links.send(q, message(1), &mut out);
        assert!(out.is_empty(), "nothing is sent before the link is up");
        links.up(q, epoch, 0, &mut out).unwrap();
        links.send(q, message(2), &mut out);
        links.send(q, message(3), &mut out);
        assert_eq!(sent(&out), [1, 2, 3]);
        links.acknowledged(q, epoch, 1).unwrap();
        links.down(q, epoch);
        out.clear();
        links.send(q, message(4), &mut out);
        assert_eq!(sent(&out), []);
        links.up(q, epoch, 2, &mut out).unwrap();
        assert_eq!(sent(&out), [3, 4]);
    }

    #[test]
    fn a_peer_that_left_and_came_back_starts_a_new_epoch() {
        let (q, mut links, mut out) = (daemon("q", 1), Links::new(name("me"), 8), Vec::new());
        follow(&mut links, &[q]);
        links.up(q, Epoch(1), 0, &mut out).unwrap();
        links.send(q, message(1), &mut out);
        assert_eq!(follow(&mut links, &[]), [Output::Disconnect { peer: q }]);
        let connect = follow(&mut links, &[q]);
        assert!(matches!(connect[..], [Output::Connect { epoch: Epoch(2), .. }]));
        out.clear();
        links.acknowledged(q, Epoch(1), 7).unwrap();
        links.up(q, Epoch(1), 7, &mut out).unwrap();
        links.up(q, Epoch(2), 0, &mut out).unwrap();
        assert_eq!(sent(&out), [], "the old epoch's frames are gone, and news of it is ignored");
    }

    #[test]
    fn a_peer_cannot_have_what_was_not_sent_nor_lose_what_it_acknowledged() {
        let (q, mut links, mut out) = (daemon("q", 1), Links::new(name("me"), 8), Vec::new());
        follow(&mut links, &[q]);
        links.up(q, Epoch(1), 0, &mut out).unwrap();
        links.send(q, message(1), &mut out);
        let wrong = |received| Err(PeerFault::WrongAcknowledgement { received });
        assert_eq!(links.acknowledged(q, Epoch(1), 2), wrong(2));
        links.acknowledged(q, Epoch(1), 1).unwrap();
        assert_eq!(links.up(q, Epoch(1), 0, &mut out), wrong(0));
    }

    #[test]
    fn frames_are_accepted_once_and_in_order() {
        let (p, mut links, mut out) = (daemon("p", 5), Links::new(name("me"), 1), Vec::new());
        let e = Epoch;
        assert_eq!(links.accept(p, e(3), 1), Err(PeerFault::WrongEpoch), "never opened");
        assert_eq!(links.opened(p, e(3), &mut out), Ok(None));
        assert_eq!(links.accept(p, e(3), 1), Ok(Frame::Next));
        assert_eq!(links.accept(p, e(3), 2), Ok(Frame::Next));
        assert_eq!(links.accept(p, e(3), 2), Ok(Frame::Stale));
        assert_eq!(links.accept(p, e(3), 4), Err(PeerFault::FrameGap { expected: 3, found: 4 }));
        assert_eq!(links.accept(p, e(4), 3), Err(PeerFault::WrongEpoch));
        assert_eq!(links.accept(p, e(2), 3), Ok(Frame::Stale));
        out.clear();
        assert_eq!(links.opened(p, e(3), &mut out), Ok(None));
        assert_eq!(out, [Output::Resume { to: p, epoch: e(3), received: 2 }]);
        assert_eq!(links.opened(p, e(2), &mut out), Err(PeerFault::WrongEpoch));
        assert_eq!(links.opened(daemon("p", 4), e(9), &mut out), Err(PeerFault::OutOfDateIncarnation));
        assert_eq!(links.opened(daemon("p", 6), e(1), &mut out), Ok(Some(p)));
        assert_eq!(links.accept(p, e(3), 3), Ok(Frame::Stale), "from its former life");
        assert_eq!(links.opened(daemon("q", 1), e(1), &mut out), Err(PeerFault::TooManyPeers));
        assert_eq!(links.opened(daemon("me", 1), e(1), &mut out), Err(PeerFault::OurName));
    }

    #[test]
    fn acknowledgements_are_gathered() {
        let (p, mut links, mut out) = (daemon("p", 5), Links::new(name("me"), 1), Vec::new());
        links.opened(p, Epoch(1), &mut out).unwrap();
        for number in 1..=3 {
            links.accept(p, Epoch(1), number).unwrap();
        }
        out.clear();
        links.acknowledge(4, &mut out);
        assert_eq!(out, []);
        links.acknowledge(3, &mut out);
        links.acknowledge(1, &mut out);
        assert_eq!(out, [Output::Ack { peer: p, epoch: Epoch(1), received: 3 }]);
    }
}
