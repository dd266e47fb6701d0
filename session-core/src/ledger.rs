//! What a member of a session group has of the session's committed responses [VMFT:output-commit].
//!
//! Where output commit is on, the place of a response in the total order of the session group is what makes it response
//! number *n*: whatever a primary computed and could not commit, nobody has heard. Members keep the last responses, so
//! that a new primary can send those that a client lacks, and never has to compute one of them again.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

use model::{Fence, GroupViewId, ProcessId};

use crate::edition::{History, history_of};
use crate::message::{Committed, Cursor};

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
    /// The responses up to that one.
    kept: VecDeque<Committed>,
    bytes: usize,
    /// How many of them came since others were asked.
    fresh: usize,
    /// Responses up to this number were committed, and had to make room.
    forgotten: u64,
}

/// What there is after a client's position.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// These responses; perhaps none.
    Kept(Vec<Committed>),
    /// Something that was committed and is not kept any more.
    Forgotten,
    /// Nobody knows: the members that had it are gone, or there was nothing.
    Unknown,
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
            kept: VecDeque::new(),
            bytes: 0,
            fresh: 0,
            forgotten: 0,
        }
    }

    /// These members are asked what they have, in this view.
    pub(crate) fn ask(&mut self, members: &BTreeSet<ProcessId>, view: GroupViewId) {
        self.asked_in = view;
        self.unheard.extend(members);
        self.strangers.extend(members);
        self.fresh = 0;
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

    /// Whether what is kept is of no use to who goes on under this fence: there is nothing, or that reign began here, and
    /// what was committed here is of one before.
    pub(crate) fn is_past(&self, fence: Fence) -> bool {
        self.kept.is_empty() || (self.fence < fence && fence <= self.reign)
    }

    /// How much is kept.
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// The context went on, or back, to this response by other ways than a commit. What is kept is of use only if it
    /// leads there.
    pub(crate) fn align(&mut self, responses: u64) {
        if self.last != responses {
            self.restart(responses);
        }
    }

    /// Nothing is kept: the context is one after this response, and perhaps not after the one that was kept by that
    /// number.
    pub(crate) fn restart(&mut self, last: u64) {
        self.last = last;
        self.kept.clear();
        self.bytes = 0;
        self.fresh = 0;
        self.forgotten = self.forgotten.min(last);
    }

    /// The history that ends with this response, if it is kept.
    pub(crate) fn history_after(&self, number: u64) -> Option<History> {
        let from_the_end = usize::try_from(self.last.checked_sub(number)?).ok()?;
        self.kept.iter().nth_back(from_the_end).map(|response| history_of(&response.context))
    }

    /// Nothing is kept of what comes after this response.
    pub(crate) fn go_back(&mut self, last: u64) {
        while self.last > last
            && let Some(newest) = self.kept.pop_back()
        {
            self.last -= 1;
            self.bytes -= newest.size();
            self.fresh = self.fresh.saturating_sub(1);
        }
    }

    /// Responses from number `first` on are committed.
    pub(crate) fn append(&mut self, first: u64, responses: Vec<Committed>) {
        if first != self.last.saturating_add(1) {
            self.restart(first.saturating_sub(1));
        }
        for response in responses {
            self.last = self.last.saturating_add(1);
            self.bytes += response.size();
            self.kept.push_back(response);
            self.fresh += 1;
        }
        let too_much = |ledger: &Ledger| {
            ledger.kept.len() > KEPT_MAX || (ledger.bytes > BYTES_MAX && ledger.kept.len() > KEPT_MIN)
        };
        while too_much(self) {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= oldest.size();
            self.forgotten = self.last - self.kept.len() as u64;
        }
    }

    /// Takes what another member keeps up to response `last`. Returns what was committed here after that, as far as it
    /// came since the others were asked, and is not what that member takes no more under the reign that it knows.
    pub(crate) fn adopt(
        &mut self,
        reign: Fence,
        last: u64,
        kept: Vec<Committed>,
        forgotten: u64,
    ) -> Vec<Committed> {
        let fresh_after = self.last - (self.fresh as u64).min(self.last);
        let since = match self.after(last) {
            _ if self.fence < reign || last < fresh_after => Vec::new(),
            After::Kept(since) => since,
            After::Forgotten | After::Unknown => Vec::new(),
        };
        self.restart(last.saturating_sub(kept.len() as u64));
        self.forgotten = forgotten.min(self.last);
        self.append(self.last.saturating_add(1), kept);
        since
    }

    /// The committed responses after number `number`.
    pub(crate) fn after(&self, number: u64) -> After {
        let before = self.last - (self.kept.len() as u64).min(self.last);
        if number < self.forgotten {
            After::Forgotten
        } else if number < before || number > self.last {
            After::Unknown
        } else {
            let skip = usize::try_from(number - before).unwrap_or(usize::MAX);
            After::Kept(self.kept.iter().skip(skip).cloned().collect())
        }
    }

    /// Whether a client's position is right after the last response, as it is here.
    pub(crate) fn ends_at(&self, position: &Cursor) -> bool {
        let is_there = |it: &Committed| history_of(&it.context) == history_of(&position.context);
        self.last == position.responses && self.kept.back().is_some_and(is_there)
    }

    /// The newest responses that fit into so many bytes, and up to which number there are more that do not.
    pub(crate) fn newest(&self, bytes_max: usize) -> (Vec<Committed>, u64) {
        let mut bytes = 0;
        let fits = |response: &&Committed| {
            bytes += response.size();
            bytes <= bytes_max
        };
        let count = self.kept.iter().rev().take_while(fits).count();
        let skip = self.kept.len() - count;
        let forgotten = if skip > 0 { self.last - count as u64 } else { self.forgotten };
        (self.kept.iter().skip(skip).cloned().collect(), forgotten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn response(number: u64, bytes: usize) -> Committed {
        let payload = Bytes::from(alloc::vec![number as u8; bytes]);
        Committed { requests: number, context: Bytes::new(), payload, last: false }
    }

    fn ledger(numbers: core::ops::RangeInclusive<u64>, bytes: usize) -> Ledger {
        let mut ledger = Ledger::new();
        for number in numbers {
            ledger.append(number, Vec::from([response(number, bytes)]));
        }
        ledger
    }

    fn numbers(after: After) -> Option<Vec<u64>> {
        match after {
            After::Kept(responses) => Some(responses.iter().map(|response| response.requests).collect()),
            After::Forgotten | After::Unknown => None,
        }
    }

    #[test]
    fn what_follows_a_position_is_kept() {
        let ledger = ledger(3..=6, 1);
        assert_eq!(numbers(ledger.after(2)), Some(Vec::from([3, 4, 5, 6])));
        assert_eq!(numbers(ledger.after(5)), Some(Vec::from([6])));
        assert_eq!(numbers(ledger.after(6)), Some(Vec::new()));
        assert_eq!((ledger.after(1), ledger.after(7)), (After::Unknown, After::Unknown));
    }

    #[test]
    fn a_response_that_does_not_follow_begins_anew() {
        let mut ledger = ledger(1..=6, 1);
        ledger.append(4, Vec::from([response(40, 1)]));
        assert_eq!(numbers(ledger.after(3)), Some(Vec::from([40])));
        ledger.append(9, Vec::from([response(9, 1)]));
        assert_eq!((ledger.after(4), numbers(ledger.after(8))), (After::Unknown, Some(Vec::from([9]))));
        ledger.align(9);
        assert_eq!(numbers(ledger.after(8)), Some(Vec::from([9])));
        ledger.align(8);
        assert_eq!(numbers(ledger.after(8)), Some(Vec::new()));
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_had_to_go_is_known() {
        let small = ledger(1..=2000, 1);
        assert_eq!(numbers(small.after(2000 - KEPT_MAX as u64)).map(|kept| kept.len()), Some(KEPT_MAX));
        assert_eq!(small.after(2000 - KEPT_MAX as u64 - 1), After::Forgotten);
        let large = ledger(1..=100, BYTES_MAX);
        assert_eq!(numbers(large.after(100 - KEPT_MIN as u64)).map(|kept| kept.len()), Some(KEPT_MIN));
        assert_eq!(large.after(1), After::Forgotten);
        let (newest, forgotten) = large.newest(3 * (BYTES_MAX + 1024));
        assert_eq!((newest.len(), forgotten), (3, 97));
    }

    #[test]
    fn what_another_member_keeps_goes_before_what_came_since() {
        let mut mine = ledger(5..=6, 1);
        let (kept, forgotten) = ledger(1..=5, 1).newest(usize::MAX);
        let since = mine.adopt(Fence::NONE, 5, kept, forgotten);
        assert_eq!(since, [response(6, 1)]);
        mine.append(6, since);
        assert_eq!(numbers(mine.after(0)), Some(Vec::from([1, 2, 3, 4, 5, 6])));
        let mut behind = ledger(1..=2, 1);
        assert_eq!(behind.adopt(Fence::NONE, 9, Vec::from([response(9, 1)]), 8), []);
        assert_eq!((numbers(behind.after(8)), behind.after(2)), (Some(Vec::from([9])), After::Forgotten));
    }
}
