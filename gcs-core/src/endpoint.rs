//! The virtually synchronous end-point of Keidar and Khazan [KK:end-point]: the streams of a configuration's members,
//! the syncs, and what follows from them.
//!
//! On each start change a daemon stops and sends one sync: its configuration, and for each member's stream the longest
//! prefix that it holds. The view names, by its start ids, the sync of each member that counts, so no common round
//! number is needed and joiners may come at any time [KK:start-id]. Those whose syncs name our configuration are the
//! transitional set; all of them deliver each stream up to the greatest of their cuts, and then install.
//!
//! Invariants:
//! - an entry is the same at all daemons that hold it: a stream is appended to by its owner only, and copies are
//!   stored only where there was none [KK:same-messages];
//! - a sync is made once for a start change and never altered, so all that evaluate a view agree [KK:sync];
//! - a view is installed only from the configuration that our sync under its start id names.
//!
//! Deviation: nothing is delivered between the sync and the install, although the rule [KK:limit] admits what the
//! syncs known so far cover. At our own sync everything deliverable was delivered; the total order above delivers
//! the rest in one step with the install anyway.
//!
//! Bounds. Of each peer the newest [`crate::Params::syncs_per_peer_max`] syncs are kept. A view that names an older
//! one is obsolete: its member has been told of that many later start changes, which proposed us, so that our own
//! next start change is under way. Not to install a view is always safe. Of each peer entries are kept for one
//! configuration that is not installed here yet, the newest: a peer that casts in a later configuration of ours has
//! either seen our sync for it, so that we shall not install the earlier one, or has let us go in between, so that it
//! was free to lose what it had sent.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;

use model::{Configuration, ConfigurationId, DaemonId, StartId};

use crate::fault::PeerFault;
use crate::message::{Entry, Message, Rank, Sync};
use crate::order::SEQUENCER;
use crate::params::Params;
use crate::stream::Stream;

/// What a peer cast in a configuration that is not installed here yet.
#[derive(Clone, Debug, Hash)]
struct Early {
    configuration: ConfigurationId,
    stream: Stream,
    /// How far it has come in the total order.
    position: u64,
}

impl Early {
    fn new(configuration: ConfigurationId) -> Early {
        Early { configuration, stream: Stream::default(), position: 0 }
    }
}

/// A member that was in a configuration before us: its rank there and how far it has come in the total order, or how it
/// broke the protocol.
pub(crate) type Adopted = (DaemonId, Result<(Rank, u64), PeerFault>);

/// What the syncs named by a view say together. The same at all members of the transitional set.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Agreement {
    /// The cuts of the transitional set.
    cuts: BTreeMap<Rank, Vec<u64>>,
    /// By rank: where delivery of that member's stream ends.
    ends: Vec<u64>,
}

impl Agreement {
    /// Who moves on together with us [KK:transitional-set].
    pub(crate) fn transitional(&self) -> BTreeSet<Rank> {
        self.cuts.keys().copied().collect()
    }
}

/// The end-point's state inside its configuration, and the syncs.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Endpoint {
    me: DaemonId,
    configuration: Configuration,
    /// The members by rank.
    members: Vec<DaemonId>,
    rank: Rank,
    streams: Vec<Stream>,
    /// Our entries up to here have been handed to the links.
    sent: u64,
    syncs: BTreeMap<DaemonId, BTreeMap<StartId, Sync>>,
    early: BTreeMap<DaemonId, Early>,
    late: u64,
    held_max: usize,
    syncs_max: usize,
}

impl Endpoint {
    pub(crate) fn new(me: DaemonId, params: &Params) -> Endpoint {
        Endpoint {
            me,
            configuration: Configuration::initial(me),
            members: vec![me],
            rank: Rank::new(0),
            streams: vec![Stream::default()],
            sent: 0,
            syncs: BTreeMap::new(),
            early: BTreeMap::new(),
            late: 0,
            // A window of payloads and as many order records, and what a daemon casts beyond its window before it
            // stops, its queue and two words for each process; twice over for peers that are set up differently.
            held_max: (params.window.entries.saturating_mul(2))
                .saturating_add(params.queue.entries)
                .saturating_add(params.connections_max.saturating_mul(2))
                .saturating_mul(2),
            syncs_max: params.syncs_per_peer_max,
        }
    }

    pub(crate) fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// The members by rank.
    pub(crate) fn members(&self) -> &[DaemonId] {
        &self.members
    }

    pub(crate) fn rank(&self) -> Rank {
        self.rank
    }

    /// The members' streams by rank.
    pub(crate) fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// Our own stream.
    pub(crate) fn own(&self) -> &Stream {
        &self.streams[self.rank.index()]
    }

    /// The other members.
    pub(crate) fn others(&self) -> impl Iterator<Item = DaemonId> {
        self.members.iter().copied().filter(|member| *member != self.me)
    }

    /// Entries that came too late to matter: their configuration is over here.
    pub(crate) fn late(&self) -> u64 {
        self.late
    }

    pub(crate) fn rank_of(&self, daemon: DaemonId) -> Option<Rank> {
        self.members.binary_search(&daemon).ok().map(|place| Rank::new(place as u32))
    }

    /// Appends to our own stream.
    pub(crate) fn append(&mut self, entry: Entry) -> u64 {
        self.streams[self.rank.index()].push(entry)
    }

    /// Forgets the first entry of a stream if its index is not above `upto`, and returns it.
    pub(crate) fn forget_first(&mut self, rank: Rank, upto: u64) -> Option<Entry> {
        self.streams[rank.index()].forget_first(upto)
    }

    /// Our entries up to here have been handed to the links: nobody can have delivered more.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether own entries have not been handed to the links.
    pub(crate) fn unsent(&self) -> bool {
        self.sent < self.own().end()
    }

    /// The next message of own entries that have not been handed to the links, of about `bytes`.
    pub(crate) fn next_batch(&mut self, stable: u64, bytes: usize) -> Option<Message> {
        let entries = self.own().batch(self.sent, self.own().end(), bytes);
        if entries.is_empty() {
            return None;
        }
        let first = self.sent + 1;
        self.sent += entries.len() as u64;
        Some(Message::Entries { configuration: self.configuration.id, first, stable, entries })
    }

    /// Stores entries of the sender's own stream.
    pub(crate) fn entries(
        &mut self,
        from: DaemonId,
        configuration: ConfigurationId,
        first: u64,
        entries: Vec<Entry>,
    ) -> Result<(), PeerFault> {
        match configuration.cmp(&self.configuration.id) {
            Ordering::Equal => {
                let rank = self.rank_of(from).ok_or(PeerFault::NotAMember)?;
                self.store(rank, first, entries)
            }
            Ordering::Less => {
                self.late += entries.len() as u64;
                Ok(())
            }
            Ordering::Greater => self.entries_early(from, configuration, first, entries),
        }
    }

    /// Keeps entries of a configuration that the sender installed before us [KK:view-tag].
    fn entries_early(
        &mut self,
        from: DaemonId,
        configuration: ConfigurationId,
        first: u64,
        entries: Vec<Entry>,
    ) -> Result<(), PeerFault> {
        let held_max = self.held_max;
        let early = self.early(from, configuration)?;
        if early.stream.held() + entries.len() > held_max {
            return Err(PeerFault::WindowExceeded);
        }
        early.stream.store(first, entries)
    }

    /// Keeps what a peer says of its progress in a configuration that it installed before us. Of that only the
    /// position matters: nobody can have delivered anything of ours there.
    pub(crate) fn position_early(
        &mut self,
        from: DaemonId,
        configuration: ConfigurationId,
        position: u64,
    ) -> Result<(), PeerFault> {
        let early = self.early(from, configuration)?;
        early.position = early.position.max(position);
        Ok(())
    }

    /// What is kept of a peer for a configuration that is not installed here yet.
    fn early(&mut self, from: DaemonId, configuration: ConfigurationId) -> Result<&mut Early, PeerFault> {
        let early = self.early.entry(from).or_insert_with(|| Early::new(configuration));
        if configuration < early.configuration {
            return Err(PeerFault::ForeignConfiguration);
        }
        if configuration > early.configuration {
            *early = Early::new(configuration);
        }
        Ok(early)
    }

    /// Stores entries of a third member's stream, which the sender was to forward.
    pub(crate) fn forwarded(
        &mut self,
        from: DaemonId,
        configuration: ConfigurationId,
        origin: Rank,
        first: u64,
        entries: Vec<Entry>,
    ) -> Result<(), PeerFault> {
        match configuration.cmp(&self.configuration.id) {
            Ordering::Equal => {}
            Ordering::Less => {
                self.late += entries.len() as u64;
                return Ok(());
            }
            Ordering::Greater => return Err(PeerFault::ForeignConfiguration),
        }
        if self.rank_of(from).is_none() || origin.index() >= self.members.len() || origin == self.rank {
            return Err(PeerFault::NotAMember);
        }
        self.store(origin, first, entries)
    }

    fn store(&mut self, origin: Rank, first: u64, entries: Vec<Entry>) -> Result<(), PeerFault> {
        check_orders(origin, self.members.len(), entries.iter())?;
        let stream = &mut self.streams[origin.index()];
        if stream.held() + entries.len() > self.held_max {
            return Err(PeerFault::WindowExceeded);
        }
        stream.store(first, entries)
    }

    /// Stops for a start change: makes our sync, and says to whom of the proposed it goes in which form.
    pub(crate) fn stop(
        &mut self,
        start: StartId,
        proposed: &BTreeSet<DaemonId>,
    ) -> Vec<(DaemonId, Arc<Message>)> {
        debug_assert!(
            !self.unsent(),
            "the cut covers what has been cast, and the sync follows it on each link"
        );
        let configuration = self.configuration.id;
        let full = Sync::Full { configuration, cut: self.streams.iter().map(Stream::end).collect() };
        let unchanged = self.syncs.entry(self.me).or_default().insert(start, full.clone()).is_none();
        assert!(unchanged, "one sync for each start change [KK:sync]");
        self.bound_syncs(self.me);
        let full = Arc::new(Message::Sync { start, sync: full });
        let compact = Arc::new(Message::Sync { start, sync: Sync::Compact { configuration } });
        let form = |peer| if self.rank_of(peer).is_some() { &full } else { &compact };
        let others = proposed.iter().filter(|peer| **peer != self.me);
        others.map(|peer| (*peer, Arc::clone(form(*peer)))).collect()
    }

    /// Keeps a peer's sync, which may come before our own start change or view.
    pub(crate) fn sync(&mut self, from: DaemonId, start: StartId, sync: Sync) -> Result<(), PeerFault> {
        if start.boot() != from.boot() {
            return Err(PeerFault::WrongSync);
        }
        if sync.configuration() == self.configuration.id {
            let expected = self.members.len();
            let fits = match &sync {
                Sync::Full { cut, .. } => self.rank_of(from).is_some() && cut.len() == expected,
                Sync::Compact { .. } => false,
            };
            if !fits {
                return Err(PeerFault::WrongSync);
            }
        }
        let kept = self.syncs.entry(from).or_default().entry(start).or_insert_with(|| sync.clone());
        if *kept != sync {
            return Err(PeerFault::WrongSync);
        }
        self.bound_syncs(from);
        Ok(())
    }

    fn bound_syncs(&mut self, of: DaemonId) {
        if let Some(syncs) = self.syncs.get_mut(&of) {
            while syncs.len() > self.syncs_max {
                syncs.pop_first();
            }
        }
    }

    /// Forgets what a peer said that is proven dead: every view to come is without it.
    pub(crate) fn forget(&mut self, dead: DaemonId) {
        self.syncs.remove(&dead);
        self.early.remove(&dead);
    }

    /// What the way into `view` needs, once the syncs that `view` names are here [KK:install].
    pub(crate) fn agree(&self, view: &Configuration) -> Option<Agreement> {
        let mut cuts = BTreeMap::new();
        let mut ends = vec![0; self.members.len()];
        for (rank, member) in Rank::all(self.members.len()).zip(&self.members) {
            let Some(start) = view.members.get(member) else { continue };
            match self.syncs.get(member)?.get(start)? {
                Sync::Full { configuration, cut } if *configuration == self.configuration.id => {
                    for (end, have) in ends.iter_mut().zip(cut) {
                        *end = (*end).max(*have);
                    }
                    cuts.insert(rank, cut.clone());
                }
                Sync::Full { .. } | Sync::Compact { .. } => {}
            }
        }
        assert!(cuts.contains_key(&self.rank), "a view is installed from where our sync was made");
        Some(Agreement { cuts, ends })
    }

    /// The entries that we are to forward: for each departed member's stream, the lowest-ranked of those that hold
    /// it to the end gives it to those that do not [KK:forward]. A member of the transitional set needs no help, for
    /// its own links go on. Sent before the install, after which nobody needs these entries from us.
    pub(crate) fn forwards(&self, agreement: &Agreement, bytes: usize) -> Vec<(DaemonId, Message)> {
        let mut forwards = Vec::new();
        for (origin, end) in Rank::all(self.members.len()).zip(&agreement.ends) {
            let has = |cut: &Vec<u64>| cut.get(origin.index()).copied().unwrap_or(0);
            let forwarder = agreement.cuts.iter().find(|(_, cut)| has(cut) == *end);
            if agreement.cuts.contains_key(&origin) || forwarder.is_none_or(|(rank, _)| *rank != self.rank) {
                continue;
            }
            for (receiver, cut) in &agreement.cuts {
                let mut after = has(cut);
                while after < *end {
                    let entries = self.streams[origin.index()].batch(after, *end, bytes);
                    if entries.is_empty() {
                        break;
                    }
                    let first = after + 1;
                    after += entries.len() as u64;
                    let configuration = self.configuration.id;
                    let message = Message::Forward { configuration, origin, first, entries };
                    forwards.push((self.members[receiver.index()], message));
                }
            }
        }
        forwards
    }

    /// Whether everything is here that is to be delivered before the install.
    pub(crate) fn complete(&self, agreement: &Agreement) -> bool {
        self.streams.iter().zip(&agreement.ends).all(|(stream, end)| stream.end() >= *end)
    }

    /// Drops what is not to be delivered: entries that some of the transitional set may lack.
    pub(crate) fn cut(&mut self, agreement: &Agreement) {
        for (stream, end) in self.streams.iter_mut().zip(&agreement.ends) {
            stream.truncate(*end);
        }
    }

    /// Moves into `view`, and takes up what its members cast in it already. Returns who they are.
    pub(crate) fn give_up_primary(&mut self) -> bool {
        core::mem::take(&mut self.configuration.primary)
    }

    pub(crate) fn install(&mut self, view: Configuration) -> Vec<Adopted> {
        assert!(view.id > self.configuration.id, "views grow [VKCD:local-monotonicity]");
        self.members = view.members.keys().copied().collect();
        self.configuration = view;
        let rank = self.rank_of(self.me);
        assert!(rank.is_some(), "a daemon is in its own view [VKCD:self-inclusion]");
        self.rank = rank.unwrap_or(self.rank);
        self.streams = vec![Stream::default(); self.members.len()];
        self.sent = 0;
        // The syncs that led here stay: a membership server that does not know of an earlier one's start changes may
        // give out an id again that was not told, and a view may then name the same sync again.
        for (member, start) in &self.configuration.members {
            if let Some(syncs) = self.syncs.get_mut(member) {
                syncs.retain(|made_for, _| made_for >= start);
            }
        }
        self.syncs.retain(|_, syncs| !syncs.is_empty());
        self.adopt_early()
    }

    fn adopt_early(&mut self) -> Vec<Adopted> {
        let mut adopted = Vec::new();
        let (now, later) = core::mem::take(&mut self.early)
            .into_iter()
            .filter(|(_, early)| early.configuration >= self.configuration.id)
            .partition(|(_, early)| early.configuration == self.configuration.id);
        self.early = later;
        let now: BTreeMap<DaemonId, Early> = now;
        for (from, early) in now {
            let checked = self.rank_of(from).ok_or(PeerFault::NotAMember).and_then(|rank| {
                check_orders(rank, self.members.len(), early.stream.iter())?;
                Ok(rank)
            });
            if let Ok(rank) = checked {
                self.streams[rank.index()] = early.stream;
            }
            adopted.push((from, checked.map(|rank| (rank, early.position))));
        }
        adopted
    }
}

/// Order records come from the sequencer, and speak of members.
fn check_orders<'a>(
    origin: Rank,
    members: usize,
    mut entries: impl Iterator<Item = &'a Entry>,
) -> Result<(), PeerFault> {
    let fits = entries.all(|entry| match entry {
        Entry::Payload(_) => true,
        Entry::Order(runs) => origin == SEQUENCER && runs.iter().all(|run| run.origin.index() < members),
    });
    if fits { Ok(()) } else { Err(PeerFault::WrongOrder) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Payload, Run};
    use model::Boot;

    fn daemon(name: &str) -> DaemonId {
        DaemonId::new(name.parse().unwrap(), Boot::new(1))
    }

    fn set(names: &str) -> BTreeSet<DaemonId> {
        names.split_whitespace().map(daemon).collect()
    }

    fn start(number: u64) -> StartId {
        StartId::new(Boot::new(1), number)
    }

    /// `q:3 r:4`: members and the start changes that count.
    fn view(counter: u64, members: &str) -> Configuration {
        let member = |text: &str| {
            let (name, number) = text.split_once(':').unwrap();
            (daemon(name), start(number.parse().unwrap()))
        };
        Configuration::new(counter, members.split_whitespace().map(member).collect())
    }

    fn entries(count: u32) -> Vec<Entry> {
        (1..=count).map(|connection| Entry::Payload(Payload::Gone { connection })).collect()
    }

    /// `q` in a configuration with p, r and s, and what was received of each.
    fn endpoint(p: u32, r: u32, s: u32) -> Endpoint {
        let params = Params { syncs_per_peer_max: 2, ..Params::lan() };
        let mut endpoint = Endpoint::new(daemon("q"), &params);
        let first = view(1, "p:1 q:1 r:1 s:1");
        let id = first.id;
        assert_eq!(endpoint.install(first), []);
        for (name, count) in [("p", p), ("r", r), ("s", s)] {
            endpoint.entries(daemon(name), id, 1, entries(count)).unwrap();
        }
        endpoint
    }

    fn full(endpoint: &Endpoint, cut: [u64; 4]) -> Sync {
        Sync::Full { configuration: endpoint.configuration.id, cut: cut.into() }
    }

    #[test]
    fn a_sync_is_full_for_members_and_compact_for_others() {
        let mut e = endpoint(2, 0, 1);
        let configuration = e.configuration.id;
        let syncs = e.stop(start(2), &set("a q r"));
        let compact = Sync::Compact { configuration };
        let expected = [(daemon("a"), compact), (daemon("r"), full(&e, [2, 0, 0, 1]))];
        let made = |(peer, message): &(DaemonId, Arc<Message>)| {
            let Message::Sync { start, sync } = &**message else { panic!("{message:?}") };
            (*peer, *start, sync.clone())
        };
        let syncs: Vec<_> = syncs.iter().map(made).collect();
        assert_eq!(syncs, expected.map(|(peer, sync)| (peer, start(2), sync)));
    }

    #[test]
    fn the_view_says_which_syncs_count() {
        let mut e = endpoint(2, 0, 0);
        e.sync(daemon("r"), start(2), full(&e, [1, 0, 0, 0])).unwrap();
        e.stop(start(2), &set("q r"));
        let next = view(2, "q:2 r:3");
        assert!(e.agree(&next).is_none(), "its sync for another start change does not count");
        e.sync(daemon("r"), start(3), full(&e, [3, 0, 1, 0])).unwrap();
        let agreement = e.agree(&next).unwrap();
        assert_eq!(agreement.ends, [3, 0, 1, 0], "as far as any of them has it");
        assert_eq!(agreement.transitional(), [Rank::new(1), Rank::new(2)].into());
        assert!(!e.complete(&agreement));
        e.forwarded(daemon("r"), e.configuration.id, Rank::new(0), 2, entries(2)).unwrap();
        e.entries(daemon("r"), e.configuration.id, 1, entries(1)).unwrap();
        assert!(e.complete(&agreement));
    }

    #[test]
    fn who_comes_from_elsewhere_is_not_in_the_transitional_set() {
        let mut e = endpoint(0, 0, 0);
        let configuration = view(9, "r:1").id;
        e.sync(daemon("r"), start(2), Sync::Compact { configuration }).unwrap();
        e.stop(start(2), &set("q r z"));
        let agreement = e.agree(&view(10, "q:2 r:2 z:5")).unwrap();
        assert_eq!(agreement.transitional(), [Rank::new(1)].into(), "and a joiner's sync is not waited for");
    }

    #[test]
    fn one_member_forwards_what_a_departed_one_left_uneven() {
        // Of p's stream q and r have 3, s has 1. r is in the transitional set: its own stream needs no help.
        let mut e = endpoint(3, 2, 0);
        e.stop(start(2), &set("q r s"));
        e.sync(daemon("r"), start(2), full(&e, [3, 0, 2, 0])).unwrap();
        e.sync(daemon("s"), start(2), full(&e, [1, 0, 0, 0])).unwrap();
        let agreement = e.agree(&view(2, "q:2 r:2 s:2")).unwrap();
        let configuration = e.configuration.id;
        let entries = entries(3)[1..].to_vec();
        let forward = Message::Forward { configuration, origin: Rank::new(0), first: 2, entries };
        assert_eq!(e.forwards(&agreement, 1000), [(daemon("s"), forward)]);
        assert_eq!(e.forwards(&agreement, 1).len(), 2, "in messages of bounded size");
    }

    #[test]
    fn only_the_lowest_of_those_who_can_forwards() {
        let mut e = endpoint(3, 0, 0);
        e.stop(start(2), &set("q r s"));
        e.sync(daemon("r"), start(2), full(&e, [4, 0, 0, 0])).unwrap();
        e.sync(daemon("s"), start(2), full(&e, [4, 0, 0, 0])).unwrap();
        let agreement = e.agree(&view(2, "q:2 r:2 s:2")).unwrap();
        assert_eq!(e.forwards(&agreement, 1000), [], "r has more than we");
    }

    #[test]
    fn entries_of_the_next_configuration_are_there_when_it_is_installed() {
        let mut e = endpoint(0, 0, 0);
        let (never, next) = (view(2, "p:2 q:2"), view(3, "p:3 q:3"));
        e.entries(daemon("p"), never.id, 1, entries(4)).unwrap();
        e.entries(daemon("p"), next.id, 1, entries(2)).unwrap();
        let back = e.entries(daemon("p"), never.id, 5, entries(1));
        assert_eq!(back, Err(PeerFault::ForeignConfiguration), "a peer does not go back");
        e.entries(daemon("z"), next.id, 1, entries(1)).unwrap();
        e.position_early(daemon("p"), next.id, 7).unwrap();
        let adopted = [(daemon("p"), Ok((Rank::new(0), 7))), (daemon("z"), Err(PeerFault::NotAMember))];
        assert_eq!(e.install(next), adopted);
        assert_eq!(e.streams().iter().map(Stream::end).collect::<Vec<_>>(), [2, 0]);
        e.entries(daemon("p"), never.id, 5, entries(3)).unwrap();
        assert_eq!(e.late(), 3);
    }

    #[test]
    fn what_no_correct_peer_says_is_refused() {
        let mut e = endpoint(0, 0, 0);
        let here = e.configuration.id;
        let elsewhere = view(9, "p:9").id;
        let run = |origin| Entry::Order([Run { origin: Rank::new(origin), upto: 1 }].into());
        let (p, r, z) = (daemon("p"), daemon("r"), daemon("z"));
        assert_eq!(e.entries(z, here, 1, entries(1)), Err(PeerFault::NotAMember));
        assert_eq!(e.entries(r, here, 1, [run(0)].into()), Err(PeerFault::WrongOrder));
        assert_eq!(e.entries(p, here, 1, [run(4)].into()), Err(PeerFault::WrongOrder));
        let gap = PeerFault::IndexGap { expected: 1, found: 2 };
        assert_eq!(e.entries(p, here, 2, entries(1)), Err(gap));
        let flood = entries(e.held_max as u32 + 1);
        assert_eq!(e.entries(p, here, 1, flood.clone()), Err(PeerFault::WindowExceeded));
        assert_eq!(e.entries(p, elsewhere, 1, flood), Err(PeerFault::WindowExceeded));
        let forward = |e: &mut Endpoint, configuration, origin| {
            e.forwarded(r, configuration, Rank::new(origin), 1, entries(1))
        };
        assert_eq!(forward(&mut e, elsewhere, 0), Err(PeerFault::ForeignConfiguration));
        assert_eq!(forward(&mut e, here, 4), Err(PeerFault::NotAMember));
        assert_eq!(forward(&mut e, here, 1), Err(PeerFault::NotAMember), "our own stream");
        let sync = full(&e, [0; 4]);
        e.sync(p, start(2), sync.clone()).unwrap();
        e.sync(p, start(2), sync.clone()).unwrap();
        let wrong = Err(PeerFault::WrongSync);
        assert_eq!(e.sync(p, start(2), full(&e, [1; 4])), wrong, "altered");
        assert_eq!(e.sync(p, StartId::new(Boot::new(2), 3), sync.clone()), wrong, "of another life");
        assert_eq!(e.sync(z, start(3), sync), wrong, "of a stranger");
        assert_eq!(e.sync(p, start(3), Sync::Compact { configuration: here }), wrong);
        let short = Sync::Full { configuration: here, cut: [0].into() };
        assert_eq!(e.sync(p, start(3), short), wrong);
        assert_eq!(e.streams().iter().map(Stream::end).max(), Some(0));
    }

    #[test]
    fn the_newest_syncs_are_kept_and_those_before_the_used_ones_forgotten() {
        let mut e = endpoint(0, 0, 0);
        for number in 2..=5 {
            e.sync(daemon("p"), start(number), full(&e, [0; 4])).unwrap();
        }
        let kept = |e: &Endpoint| e.syncs[&daemon("p")].keys().copied().collect::<Vec<_>>();
        assert_eq!(kept(&e), [start(4), start(5)]);
        e.install(view(2, "p:5 q:2"));
        assert_eq!(kept(&e), [start(5)]);
        e.forget(daemon("p"));
        assert!(e.syncs.is_empty());
    }
}
