//! What a member of a session group has of the session's committed responses [VMFT:output-commit].
//!
//! Where output commit is on, the place of a response in the total order of the session group is what makes it response
//! number *n*: whatever a primary computed and could not commit, nobody has heard. Members keep the last responses, so
//! that a new primary can send those that a client lacks, and never has to compute one of them again.
//!
//! There may be holes: where all who had a response are gone, the session goes on from its client's position, which knows
//! more. And what is beside each other need not follow on each other: each side of a separation may have committed its
//! own. Both is seen from the history that each response makes of the one before.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use model::{Fence, GroupViewId, ProcessId};

use crate::edition::{History, history_of};
use crate::message::Committed;

/// So many of the last responses are kept whatever their size.
const KEPT_MIN: usize = 64;
/// So many are kept at most.
const KEPT_MAX: usize = 1024;
/// About as many bytes as are kept beyond the last [`KEPT_MIN`] responses: more than a gateway lets wait for a client.
const BYTES_MAX: usize = 512 * 1024;

/// The committed responses of a session, as one member of its group has them.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    /// The greatest fence under which anything was committed. What is committed under a lesser one counts no more.
    pub(crate) reign: Fence,
    /// The fence under which the last committed response was.
    pub(crate) fence: Fence,
    /// The view in which this member asked last.
    pub(crate) asked_in: GroupViewId,
    /// The members that may have committed responses that did not come here, and have not told them.
    pub(crate) unheard: BTreeSet<ProcessId>,
    /// The members that came another way than this one, and have not said what they have. What they commit may follow on
    /// responses that never were here.
    strangers: BTreeSet<ProcessId>,
    /// Whether this member has all that was committed where it comes from.
    pub(crate) knows: bool,
    /// The number of the last committed response.
    last: u64,
    /// Responses up to that one, by number.
    kept: BTreeMap<u64, Committed>,
    bytes: usize,
    /// Responses up to this number were committed, and had to make room.
    pub(crate) forgotten: u64,
}

impl Ledger {
    /// Nothing is committed.
    pub(crate) fn new() -> Ledger {
        Ledger {
            reign: Fence::NONE,
            fence: Fence::NONE,
            asked_in: GroupViewId::NONE,
            unheard: BTreeSet::new(),
            strangers: BTreeSet::new(),
            knows: true,
            last: 0,
            kept: BTreeMap::new(),
            bytes: 0,
            forgotten: 0,
        }
    }

    /// These members are asked what they have, in this view.
    pub(crate) fn ask(&mut self, members: &BTreeSet<ProcessId>, view: GroupViewId) {
        self.asked_in = view;
        self.unheard.extend(members);
        self.strangers.extend(members);
    }

    /// Nobody else is there: who is gone says nothing any more.
    pub(crate) fn retain(&mut self, members: &BTreeSet<ProcessId>) {
        self.unheard.retain(|member| members.contains(member));
        self.strangers.retain(|member| members.contains(member));
    }

    /// This member has said what it has.
    pub(crate) fn heard(&mut self, from: ProcessId) {
        self.unheard.remove(&from);
        self.strangers.remove(&from);
    }

    /// What this member commits does not follow on what was here: if it has not said what it follows on, it has to.
    pub(crate) fn doubt(&mut self, from: ProcessId) {
        if self.strangers.contains(&from) {
            self.knows = false;
            self.unheard.insert(from);
        }
    }

    /// How much is kept.
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// The session goes on from this response, which need not be kept, nor follow on what is. Nothing is kept of what comes
    /// after it.
    pub(crate) fn go_to(&mut self, last: u64) {
        let after = self.kept.split_off(&last.saturating_add(1));
        self.bytes -= after.values().map(Committed::size).sum::<usize>();
        self.forgotten = self.forgotten.min(last);
        self.last = last;
    }

    /// The history that ends with this response, if it is kept.
    pub(crate) fn history_after(&self, number: u64) -> Option<History> {
        self.kept.get(&number).map(|response| history_of(&response.context))
    }

    /// Responses from number `first` on are committed.
    pub(crate) fn append(&mut self, first: u64, responses: Vec<Committed>) {
        self.go_to(first.saturating_sub(1));
        for response in responses {
            self.last = self.last.saturating_add(1);
            self.keep(self.last, response);
        }
        self.make_room();
    }

    fn keep(&mut self, number: u64, response: Committed) {
        self.bytes += response.size();
        let replaced = self.kept.insert(number, response);
        self.bytes -= replaced.as_ref().map_or(0, Committed::size);
    }

    fn make_room(&mut self) {
        let too_much = |ledger: &Ledger| {
            ledger.kept.len() > KEPT_MAX || (ledger.bytes > BYTES_MAX && ledger.kept.len() > KEPT_MIN)
        };
        while too_much(self) {
            let Some((number, oldest)) = self.kept.pop_first() else { break };
            self.bytes -= oldest.size();
            self.forgotten = self.forgotten.max(number);
        }
    }

    /// Takes what another member keeps up to response `last`, in place of what is kept here by the same numbers. Returns
    /// what follows on that member's history and was committed here alone.
    pub(crate) fn adopt(
        &mut self,
        (last, history): (u64, History),
        kept: Vec<(u64, Committed)>,
        forgotten: u64,
    ) -> Vec<Committed> {
        let since = self.after(last, history).into_iter().map(|(_, response)| response).collect();
        self.go_to(last);
        self.forgotten = self.forgotten.max(forgotten.min(last));
        for (number, response) in kept.into_iter().filter(|(number, _)| *number <= last) {
            self.keep(number, response);
        }
        self.make_room();
        since
    }

    /// What follows on this history after response `number`, each on the one before: all that is kept of it.
    pub(crate) fn after(&self, number: u64, history: History) -> Vec<(u64, Committed)> {
        let mut run = Vec::new();
        let (mut number, mut history) = (number, history);
        while let Some(next) = number.checked_add(1).and_then(|next| self.kept.get(&next))
            && next.follows_on(history)
        {
            (number, history) = (number + 1, history_of(&next.context));
            run.push((number, next.clone()));
        }
        run
    }

    /// The newest responses that fit into so many bytes, and up to which number there are more that do not.
    pub(crate) fn newest(&self, bytes_max: usize) -> (Vec<(u64, Committed)>, u64) {
        let mut bytes = 0;
        let fits = |(_, response): &(&u64, &Committed)| {
            bytes += response.size();
            bytes <= bytes_max
        };
        let count = self.kept.iter().rev().take_while(fits).count();
        let skip = self.kept.len() - count;
        let skipped = skip.checked_sub(1).and_then(|last| self.kept.keys().nth(last));
        let kept =
            self.kept.iter().skip(skip).map(|(number, response)| (*number, response.clone())).collect();
        (kept, self.forgotten.max(skipped.copied().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    use crate::edition::{Edition, Head, encode_committed};

    /// A response that follows on this history.
    fn after(history: History, number: u64, bytes: usize) -> Committed {
        let payload = Bytes::from(alloc::vec![number as u8; bytes]);
        let before = Head { edition: Edition::ONLY, history };
        let context = encode_committed(before, &number, number, &payload);
        Committed { requests: number, context, payload, last: false }
    }

    /// Responses that follow on each other, and on nothing.
    fn chain(numbers: core::ops::RangeInclusive<u64>, bytes: usize) -> Vec<Committed> {
        let mut history = History::NONE;
        let next = |number| {
            let response = after(history, number, bytes);
            history = history_of(&response.context);
            response
        };
        numbers.map(next).collect()
    }

    fn ledger(numbers: core::ops::RangeInclusive<u64>, bytes: usize) -> Ledger {
        let mut ledger = Ledger::new();
        for (number, response) in numbers.clone().zip(chain(numbers, bytes)) {
            ledger.append(number, Vec::from([response]));
        }
        ledger
    }

    /// The numbers of what is kept after a response that is kept.
    fn follow(ledger: &Ledger, number: u64) -> Vec<u64> {
        let history = ledger.history_after(number).unwrap_or(History::NONE);
        ledger.after(number, history).into_iter().map(|(number, _)| number).collect()
    }

    #[test]
    fn what_follows_a_position_is_kept() {
        let mut ledger = ledger(3..=6, 1);
        assert_eq!((follow(&ledger, 2), follow(&ledger, 5)), (Vec::from([3, 4, 5, 6]), Vec::from([6])));
        assert_eq!([follow(&ledger, 6), follow(&ledger, 1), follow(&ledger, 7)], [[]; 3]);
        assert_eq!(follow(&ledger, u64::MAX), []);
        ledger.go_to(4);
        assert_eq!((follow(&ledger, 2), ledger.len()), (Vec::from([3, 4]), 2));
    }

    #[test]
    fn what_comes_before_a_hole_is_kept_and_leads_to_it() {
        let mut ledger = ledger(1..=3, 1);
        ledger.append(5, Vec::from([after(History::NONE, 5, 1)]));
        assert_eq!((follow(&ledger, 0), follow(&ledger, 4)), (Vec::from([1, 2, 3]), Vec::from([5])));
        // Beside each other, and not of one history.
        ledger.append(3, Vec::from([after(History::NONE, 3, 2)]));
        assert_eq!((follow(&ledger, 0), ledger.after(2, History::NONE).len()), (Vec::from([1, 2]), 1));
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_had_to_go_is_known() {
        let small = ledger(1..=2000, 1);
        assert_eq!((small.len(), small.forgotten), (KEPT_MAX, 2000 - KEPT_MAX as u64));
        let large = ledger(1..=100, BYTES_MAX);
        assert_eq!((large.len(), large.forgotten), (KEPT_MIN, 100 - KEPT_MIN as u64));
        let (newest, forgotten) = large.newest(3 * (BYTES_MAX + 1024));
        assert_eq!((newest.len(), forgotten), (3, 97));
    }

    #[test]
    fn what_another_member_keeps_goes_before_what_came_since() {
        let all = chain(1..=6, 1);
        let mut mine = Ledger::new();
        mine.append(5, all[4..].to_vec());
        let (kept, forgotten) = ledger(1..=5, 1).newest(usize::MAX);
        let there = (5, history_of(&all[4].context));
        let since = mine.adopt(there, kept, forgotten);
        assert_eq!(since, [all[5].clone()]);
        mine.append(6, since);
        assert_eq!(follow(&mine, 0), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn what_is_told_with_a_hole_fills_none_and_makes_none() {
        let mut mine = ledger(1..=4, 1);
        let told = ledger(1..=3, 1).newest(usize::MAX).0;
        let told =
            told.into_iter().chain([(9, after(History::NONE, 9, 1)), (11, after(History::NONE, 11, 1))]);
        assert_eq!(mine.adopt((9, History::NONE), told.collect(), 0), []);
        assert_eq!((follow(&mine, 0), follow(&mine, 8)), (Vec::from([1, 2, 3, 4]), Vec::from([9])));
        assert!(follow(&mine, 10).is_empty(), "it is after what its teller has");
        let (kept, _) = ledger(40..=50, 1).newest(usize::MAX);
        mine.adopt((50, History::NONE), kept, 39);
        assert_eq!((mine.forgotten, follow(&mine, 39).len()), (39, 11));
    }
}
