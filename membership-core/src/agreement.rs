//! Agreement on one configuration after another, by votes [Moshe].
//!
//! Each server proposes once for each change that it sees. *Fast*: if all servers of the target saw the same change,
//! their proposals cross, and one round is enough; the numbers of the proposals need not match, so merging two
//! components with different histories takes one round as well. *Slow*: servers that saw changes in different orders
//! might wait for each other forever; whoever detects that opens a round, to which all others answer, and only
//! proposals of the same round combine.
//!
//! Invariant: a configuration is made of the newest proposals of all servers of the target, all for that target, and
//! no proposal of the fast path is used twice. So whoever makes one from the same proposals makes the same
//! [Moshe:agreement].
//!
//! Two rules find out that the fast path cannot end, and open a round:
//! - D1: the peer's proposal says that it has used my newest one. 1. We both propose for {p, q}. 2. q has both, and is
//!   done. 3. q loses me and sees me again, and proposes for {p, q}. 4. This reaches me in the place of q's first, and
//!   I would wait for a q that has nothing left to say.
//! - D2: I am done with this target and the peer proposes for it. 1. We both propose for {p, q}, and I am done. 2. q
//!   lost me before it had my vote, and sees me again: it proposes for {p, q}. 3. I saw no change, so I would be
//!   silent, and q would wait.

use alloc::collections::BTreeMap;

use model::{DaemonId, ServerId};

use crate::message::{Kind, Proposal, Started, Target};
use crate::protocol::Conclusion;

#[derive(Clone, Debug, Hash)]
pub(crate) struct Agreement {
    me: ServerId,
    /// The newest change seen.
    target: Target,
    phase: Phase,
    /// Of my newest proposal.
    number: u64,
    /// The last round in which I proposed.
    round: u64,
    /// The greatest round in which anybody is known to have proposed.
    round_max: u64,
    /// The greatest configuration counter known.
    counter: u64,
    /// The newest proposal of each server, my own among them.
    last: BTreeMap<ServerId, Proposal>,
    /// The number of the newest proposal of each server that a configuration was made of.
    used: BTreeMap<ServerId, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// No change was ever seen.
    New,
    /// Waiting for the proposals of a change.
    Fast,
    /// Waiting for the proposals of a round.
    Slow,
    /// The target is a configuration.
    Agreed,
}

impl Agreement {
    pub(crate) fn new(me: ServerId) -> Agreement {
        Agreement {
            me,
            target: Target::default(),
            phase: Phase::New,
            number: 0,
            round: 0,
            round_max: 0,
            counter: 0,
            last: BTreeMap::new(),
            used: BTreeMap::new(),
        }
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Whether another server votes for `target` and waits for mine.
    pub(crate) fn is_wanted(&self, target: &Target) -> bool {
        let waits = |(server, vote): (&ServerId, &Proposal)| {
            *server != self.me && vote.target == *target && !self.has_used(*server, vote)
        };
        self.last.iter().any(waits)
    }

    /// Whether I wait for votes: my daemons have been told a start change, and no configuration after it.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Fast | Phase::Slow)
    }

    /// My newest proposal, if `server` is to vote on it.
    pub(crate) fn proposal_for(&self, server: ServerId) -> Option<&Proposal> {
        self.last.get(&self.me).filter(|proposal| proposal.target.servers.contains(&server))
    }

    /// Configurations from here on get greater counters than this.
    pub(crate) fn raise_counter(&mut self, counter: u64) {
        self.counter = self.counter.max(counter);
    }

    /// Forgets the earlier lives of `server`.
    pub(crate) fn forget_before(&mut self, server: ServerId) {
        let is_earlier = |other: &ServerId| other.name() == server.name() && other.boot() < server.boot();
        self.last.retain(|other, _| !is_earlier(other));
        self.used.retain(|other, _| !is_earlier(other));
    }

    /// Takes the change to `target`, in which everybody has been told all there is to tell. Whoever thinks otherwise
    /// votes, and is answered by rule D2.
    pub(crate) fn adopt(&mut self, target: Target) {
        self.target = target;
        self.phase = Phase::Agreed;
    }

    /// Takes the change to `target`, and says which proposal is to follow.
    pub(crate) fn aim(&mut self, target: Target) -> Kind {
        self.target = target;
        let round_is_open = self.peers().any(|peer| {
            let is_slow = |proposal: &Proposal| matches!(proposal.kind, Kind::Slow { .. });
            self.last.get(&peer).is_some_and(|proposal| is_slow(proposal) && !self.has_used(peer, proposal))
        });
        if self.phase == Phase::Slow || round_is_open { self.next_round() } else { Kind::Fast }
    }

    /// Makes my proposal, with the start ids that my daemons have just been given.
    pub(crate) fn propose(&mut self, kind: Kind, starts: BTreeMap<DaemonId, Started>) -> &Proposal {
        self.number += 1;
        match kind {
            Kind::Fast => self.phase = Phase::Fast,
            Kind::Slow { round } => {
                self.phase = Phase::Slow;
                self.round = round;
                self.round_max = self.round_max.max(round);
            }
        }
        let proposal = Proposal {
            number: self.number,
            kind,
            target: self.target.clone(),
            starts,
            counter: self.counter,
            used: self.target.servers.iter().map(|server| (*server, self.used_of(*server))).collect(),
        };
        self.last.entry(self.me).insert_entry(proposal).into_mut()
    }

    /// Stores the proposal of `from`. False if it is no news.
    pub(crate) fn store(&mut self, from: ServerId, proposal: Proposal) -> bool {
        if self.last.get(&from).is_some_and(|known| proposal.number <= known.number) {
            return false;
        }
        self.raise_counter(proposal.counter);
        if let Kind::Slow { round } = proposal.kind {
            self.round_max = self.round_max.max(round);
        }
        self.last.insert(from, proposal);
        true
    }

    /// Which proposal, if any, has to answer the newest one of `from`.
    pub(crate) fn answer(&self, from: ServerId) -> Option<Kind> {
        let proposal = self.last.get(&from).filter(|_| self.target.servers.contains(&from))?;
        // It may have been used in the step in which I voted.
        if self.has_used(from, proposal) {
            return None;
        }
        match proposal.kind {
            Kind::Slow { round } if round > self.round => Some(Kind::Slow { round }),
            Kind::Slow { .. } if self.phase == Phase::Slow => None,
            // I am done with this very round: what I said in it serves the sender as well.
            Kind::Slow { .. } if self.has_said(proposal.kind) => None,
            Kind::Slow { .. } => Some(self.next_round()),
            Kind::Fast => self.is_beyond_the_fast_path(proposal).then(|| self.next_round()),
        }
    }

    /// Rules D1 and D2, for a proposal of the fast path.
    fn is_beyond_the_fast_path(&self, proposal: &Proposal) -> bool {
        let my_vote_is_used = proposal.used.get(&self.me).is_some_and(|used| *used >= self.number);
        let i_am_done = self.phase == Phase::Agreed;
        proposal.target == self.target && (my_vote_is_used || i_am_done)
    }

    /// What all agree on, in the moment in which all votes for it are there.
    pub(crate) fn conclude(&mut self) -> Option<Conclusion> {
        let round = match self.phase {
            Phase::New | Phase::Agreed => return None,
            Phase::Fast => None,
            Phase::Slow => Some(self.round),
        };
        let mut agreed = Conclusion { counter: 0, starts: BTreeMap::new() };
        for server in &self.target.servers {
            let vote = self.last.get(server).filter(|vote| self.counts(*server, vote, round))?;
            agreed.counter = agreed.counter.max(vote.counter + 1);
            agreed.starts.insert(*server, vote.starts.clone());
        }
        self.raise_counter(agreed.counter);
        let numbers = |server: &ServerId| Some((*server, self.last.get(server)?.number));
        self.used.extend(self.target.servers.iter().filter_map(numbers));
        self.phase = Phase::Agreed;
        Some(agreed)
    }

    /// Whether `vote` is one for the target, in this round or on the fast path.
    fn counts(&self, server: ServerId, vote: &Proposal, round: Option<u64>) -> bool {
        let same_path = match (vote.kind, round) {
            (Kind::Slow { round: theirs }, Some(mine)) => theirs == mine,
            // That the vote has not used my newest one, rule D1 has seen to.
            (Kind::Fast, None) => !self.has_used(server, vote),
            (Kind::Fast, Some(_)) | (Kind::Slow { .. }, None) => false,
        };
        same_path && vote.target == self.target
    }

    /// A round that is open already, or a new one.
    fn next_round(&self) -> Kind {
        Kind::Slow { round: self.round_max.max(self.round + 1) }
    }

    fn has_used(&self, server: ServerId, proposal: &Proposal) -> bool {
        proposal.number <= self.used_of(server)
    }

    fn used_of(&self, server: ServerId) -> u64 {
        self.used.get(&server).copied().unwrap_or(0)
    }

    /// Whether my newest proposal is for this target, and of this kind.
    fn has_said(&self, kind: Kind) -> bool {
        self.last.get(&self.me).is_some_and(|mine| mine.kind == kind && mine.target == self.target)
    }

    fn peers(&self) -> impl Iterator<Item = ServerId> + '_ {
        self.target.servers.iter().copied().filter(|server| *server != self.me)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Boot;

    /// Two servers that have no daemons, and what they sent each other.
    struct Pair {
        p: Agreement,
        q: Agreement,
    }

    fn server(name: &str) -> ServerId {
        ServerId::new(name.parse().unwrap(), Boot::new(1))
    }

    fn of(servers: &[&str]) -> Target {
        Target { servers: servers.iter().map(|name| server(name)).collect(), digest: 0 }
    }

    fn see(who: &mut Agreement, servers: &[&str]) -> Proposal {
        let kind = who.aim(of(servers));
        who.propose(kind, BTreeMap::new()).clone()
    }

    impl Pair {
        fn new() -> Pair {
            Pair { p: Agreement::new(server("p")), q: Agreement::new(server("q")) }
        }

        /// q loses p and sees it again, and proposes as if p knew nothing.
        fn flap_at_q(&mut self) -> Proposal {
            see(&mut self.q, &["q"]);
            assert!(self.q.conclude().is_some(), "q is alone");
            let proposal = see(&mut self.q, &["p", "q"]);
            assert_eq!(proposal.kind, Kind::Fast);
            proposal
        }
    }

    #[test]
    fn crossing_proposals_are_one_round() {
        let mut pair = Pair::new();
        let (from_p, from_q) = (see(&mut pair.p, &["p", "q"]), see(&mut pair.q, &["p", "q"]));
        assert_eq!(pair.p.conclude(), None);
        assert!(pair.p.store(server("q"), from_q) && pair.q.store(server("p"), from_p));
        assert_eq!((pair.p.answer(server("q")), pair.q.answer(server("p"))), (None, None));
        let configuration = pair.p.conclude();
        assert!(configuration.is_some());
        assert_eq!(configuration, pair.q.conclude());
        assert_eq!(pair.p.conclude(), None, "once");
    }

    #[test]
    fn d1_my_vote_was_used_and_i_still_wait() {
        let mut pair = Pair::new();
        let from_p = see(&mut pair.p, &["p", "q"]);
        see(&mut pair.q, &["p", "q"]);
        pair.q.store(server("p"), from_p);
        assert!(pair.q.conclude().is_some());
        let late = pair.flap_at_q();
        assert!(pair.p.store(server("q"), late));
        assert_eq!(pair.p.answer(server("q")), Some(Kind::Slow { round: 1 }));
    }

    #[test]
    fn d2_i_am_done_and_the_peer_begins_again() {
        let mut pair = Pair::new();
        see(&mut pair.p, &["p", "q"]);
        let from_q = see(&mut pair.q, &["p", "q"]);
        pair.p.store(server("q"), from_q);
        assert!(pair.p.conclude().is_some());
        let late = pair.flap_at_q();
        assert!(pair.p.store(server("q"), late));
        assert_eq!(pair.p.answer(server("q")), Some(Kind::Slow { round: 1 }));
    }

    #[test]
    fn a_round_is_answered_once_and_ends() {
        let mut pair = Pair::new();
        pair.p.aim(of(&["p", "q"]));
        pair.q.aim(of(&["p", "q"]));
        let from_p = pair.p.propose(Kind::Slow { round: 3 }, BTreeMap::new()).clone();
        pair.q.store(server("p"), from_p);
        assert_eq!(pair.q.answer(server("p")), Some(Kind::Slow { round: 3 }));
        let from_q = pair.q.propose(Kind::Slow { round: 3 }, BTreeMap::new()).clone();
        let configuration = pair.q.conclude();
        pair.p.store(server("q"), from_q);
        assert_eq!(pair.p.answer(server("q")), None);
        assert!(configuration.is_some());
        assert_eq!(pair.p.conclude(), configuration);
    }

    #[test]
    fn a_vote_of_the_fast_path_is_used_once() {
        let mut pair = Pair::new();
        see(&mut pair.p, &["p", "q"]);
        let from_q = see(&mut pair.q, &["p", "q"]);
        pair.p.store(server("q"), from_q);
        assert!(pair.p.conclude().is_some());
        see(&mut pair.p, &["p"]);
        assert!(pair.p.conclude().is_some());
        see(&mut pair.p, &["p", "q"]);
        assert_eq!(pair.p.conclude(), None, "q has not seen the flap");
    }

    #[test]
    fn the_counter_follows_from_the_votes_alone() {
        let mut pair = Pair::new();
        let (from_p, from_q) = (see(&mut pair.p, &["p", "q"]), see(&mut pair.q, &["p", "q"]));
        pair.p.raise_counter(9);
        pair.p.store(server("q"), from_q);
        pair.q.store(server("p"), from_p);
        assert_eq!(pair.p.conclude(), pair.q.conclude());
        let after = see(&mut pair.p, &["p"]);
        assert_eq!(after.counter, 9, "what else was heard counts for the next one");
    }

    #[test]
    fn an_old_proposal_is_no_news() {
        let mut pair = Pair::new();
        let first = see(&mut pair.q, &["p", "q"]);
        let second = pair.flap_at_q();
        assert!(pair.p.store(server("q"), second.clone()));
        assert!(!pair.p.store(server("q"), first));
        assert!(!pair.p.store(server("q"), second));
    }
}
