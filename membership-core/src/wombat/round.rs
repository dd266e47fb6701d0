//! One change after another: the leader has all servers tell their daemons a start change, collects the start ids, and
//! says what follows. So the ids that a configuration names are those that its members were told [KK:start-id].
//!
//! Invariant: a server takes part in one change at a time, that of the leader that it follows. When it follows
//! another, or the same one again, what it said before is void: its leader finds that out from the row with which
//! following begins, and begins again.

use alloc::collections::BTreeMap;

use model::{DaemonId, ServerId};

use crate::message::{Started, Target};
use crate::protocol::Conclusion;
use crate::wombat::word::Ready;

#[derive(Clone, Debug, Hash)]
pub(crate) struct Round {
    me: ServerId,
    /// Of the newest change that I began.
    number: u64,
    /// What it is about.
    target: Target,
    /// Whether daemons wait for its end.
    is_open: bool,
    /// Who is ready.
    ready: BTreeMap<ServerId, Ready>,
    /// The change of another leader that my daemons wait for.
    takes_part: Option<(ServerId, u64)>,
    /// The greatest configuration counter known.
    counter: u64,
}

impl Round {
    pub(crate) fn new(me: ServerId) -> Round {
        Round {
            me,
            number: 0,
            target: Target::default(),
            is_open: false,
            ready: BTreeMap::new(),
            takes_part: None,
            counter: 0,
        }
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn counter(&self) -> u64 {
        self.counter
    }

    pub(crate) fn raise_counter(&mut self, counter: u64) {
        self.counter = self.counter.max(counter);
    }

    /// Takes the change to `target`, in which everybody has been told all there is to tell.
    pub(crate) fn adopt(&mut self, target: Target) {
        self.target = target;
    }

    /// Begins a change, for which my own daemons have been given `starts`.
    pub(crate) fn begin(&mut self, target: Target, starts: BTreeMap<DaemonId, Started>) {
        self.number += 1;
        self.target = target;
        self.is_open = true;
        let mine = Ready { number: self.number, counter: self.counter, starts };
        self.ready = BTreeMap::from([(self.me, mine)]);
    }

    /// `server` follows me from now on: what it said before is void, and what it was asked before may be lost.
    pub(crate) fn followed_by(&mut self, server: ServerId) {
        if self.target.servers.contains(&server) {
            self.look_afresh();
        }
    }

    /// I do not command any more.
    pub(crate) fn resign(&mut self) {
        self.is_open = false;
        self.look_afresh();
    }

    fn look_afresh(&mut self) {
        self.target = Target::default();
        self.ready.clear();
    }

    /// `server` has told its daemons. False if that is of no use any more.
    pub(crate) fn ready(&mut self, server: ServerId, ready: Ready) -> bool {
        let counts = self.is_open && ready.number == self.number && self.target.servers.contains(&server);
        if counts {
            self.raise_counter(ready.counter);
            self.ready.insert(server, ready);
        }
        counts
    }

    /// What follows, when everybody is ready.
    pub(crate) fn conclude(&mut self) -> Option<Conclusion> {
        let all_ready = self.target.servers.iter().all(|server| self.ready.contains_key(server));
        if !self.is_open || self.ready.is_empty() || !all_ready {
            return None;
        }
        self.is_open = false;
        self.counter += 1;
        let ready = core::mem::take(&mut self.ready);
        let starts = ready.into_iter().map(|(server, ready)| (server, ready.starts)).collect();
        Some(Conclusion { counter: self.counter, starts })
    }

    /// My daemons wait for the end of this change.
    pub(crate) fn take_part(&mut self, leader: ServerId, number: u64) {
        self.takes_part = Some((leader, number));
    }

    /// I follow another leader, or the same one anew, or command myself.
    pub(crate) fn take_no_part(&mut self) {
        self.takes_part = None;
    }

    /// The change that my daemons wait for has come to its end. False if it is another.
    pub(crate) fn decided(&mut self, leader: ServerId, number: u64, counter: u64) -> bool {
        let is_mine = self.takes_part == Some((leader, number));
        if is_mine {
            self.takes_part = None;
            self.raise_counter(counter);
        }
        is_mine
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use model::Boot;

    use super::*;

    fn server(name: &str) -> ServerId {
        ServerId::new(name.parse().unwrap(), Boot::new(1))
    }

    fn of(servers: &[&str]) -> Target {
        Target { servers: servers.iter().map(|name| server(name)).collect::<BTreeSet<_>>(), digest: 0 }
    }

    fn ready(number: u64, counter: u64) -> Ready {
        Ready { number, counter, starts: BTreeMap::new() }
    }

    /// p leads, and has begun a change with q and r.
    fn begun() -> Round {
        let mut round = Round::new(server("p"));
        round.begin(of(&["p", "q", "r"]), BTreeMap::new());
        assert_eq!(round.conclude(), None);
        round
    }

    #[test]
    fn a_change_ends_when_all_are_ready_and_counts_on_from_the_greatest() {
        let mut round = begun();
        assert!(round.ready(server("q"), ready(1, 7)) && round.conclude().is_none());
        assert!(round.ready(server("r"), ready(1, 3)));
        assert_eq!(round.conclude().map(|agreed| agreed.counter), Some(8));
        assert_eq!(round.conclude(), None, "once");
        assert!(!round.is_open());
    }

    #[test]
    fn who_is_ready_for_another_change_is_not_ready() {
        let mut round = begun();
        round.begin(of(&["p", "q"]), BTreeMap::new());
        assert!(!round.ready(server("q"), ready(1, 0)) && !round.ready(server("r"), ready(2, 0)));
        assert!(round.ready(server("q"), ready(2, 0)) && round.conclude().is_some());
    }

    /// What it told its daemons since is not what it said before.
    #[test]
    fn who_follows_anew_was_never_ready() {
        let mut round = begun();
        round.ready(server("q"), ready(1, 0));
        round.followed_by(server("q"));
        round.ready(server("r"), ready(1, 0));
        assert_eq!(round.conclude(), None);
        assert!(round.is_open(), "daemons wait for the end of some change");
        assert_ne!(*round.target(), of(&["p", "q", "r"]), "so it has to begin again");
    }

    #[test]
    fn the_decision_of_one_leader_is_void_for_who_takes_part_in_the_change_of_another() {
        let mut round = Round::new(server("q"));
        round.take_part(server("p"), 4);
        assert!(!round.decided(server("p"), 3, 9) && !round.decided(server("o"), 4, 9));
        round.take_no_part();
        assert!(!round.decided(server("p"), 4, 9), "it followed somebody else since");
        round.take_part(server("o"), 1);
        assert!(round.decided(server("o"), 1, 9) && !round.decided(server("o"), 1, 9), "once");
        assert_eq!(round.counter(), 9);
    }
}
