//! Which configuration is the primary component: of all that exist side by side, at most one.
//!
//! *Majority*: the one that has more than half of the voters, or half of them and among them the first. Two such sets
//! have a voter in common, and a daemon is in one configuration at a time.
//!
//! *Dynamic voting*: the one that has such a majority of the last primary component, and of each one that may have been
//! formed since. So that nobody forgets what may have been formed, all its voters write down that they agree before
//! any of them is told. If A was formed after B, and some voter of A had not agreed to B, then a majority of what both
//! of them follow had: so somebody in A knew of B, and A had a majority of it. Whatever is primary has therefore a
//! voter in common with the one before it.

use alloc::collections::{BTreeMap, BTreeSet};

use core::fmt;

use model::{Ballot, Ballots, DaemonId, Name, StartId};

/// How many primary components may be in doubt. With more, none is formed.
pub(crate) const ATTEMPTS_MAX: usize = 64;

/// How it is decided which configuration is the primary component.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rule {
    /// None ever is.
    #[default]
    None,
    /// The one with a majority of these daemons.
    Majority(BTreeSet<Name>),
    /// The one with a majority of the last one, of which the first has a majority of these daemons.
    Dynamic(BTreeSet<Name>),
}

/// What a rule says of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is not the primary component.
    Secondary,
    /// It is.
    Primary,
    /// It is as soon as all these have written it down.
    Attempt(BTreeSet<Name>),
}

impl Rule {
    /// Whether these members are the primary component, if these are the ballots of those of them who vote.
    pub(crate) fn judge(
        &self,
        members: &BTreeMap<DaemonId, StartId>,
        ballots: &BTreeMap<DaemonId, Ballots>,
    ) -> Verdict {
        match self {
            Rule::None => Verdict::Secondary,
            Rule::Majority(voters) => {
                let names = members.keys().map(|daemon| daemon.name()).collect();
                if is_majority(&names, voters) { Verdict::Primary } else { Verdict::Secondary }
            }
            Rule::Dynamic(first) => {
                let is_member = |daemon: &&DaemonId| members.contains_key(*daemon);
                let voters: BTreeSet<Name> = ballots.keys().filter(is_member).map(|it| it.name()).collect();
                let is_next = follows(&voters, ballots.values(), first);
                if is_next { Verdict::Attempt(voters) } else { Verdict::Secondary }
            }
        }
    }
}

/// The same text for the same rule, and another one for any other.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::None => f.write_str("none"),
            Rule::Majority(voters) | Rule::Dynamic(voters) => {
                f.write_str(if matches!(self, Rule::Majority(_)) { "majority of" } else { "dynamic, from" })?;
                voters.iter().try_for_each(|voter| write!(f, " {voter}"))
            }
        }
    }
}

/// Whether `members`, who remember `ballots`, are a majority of the last primary component and of all that may have been
/// formed since.
fn follows<'a>(
    members: &BTreeSet<Name>,
    ballots: impl Iterator<Item = &'a Ballots> + Clone,
    first: &BTreeSet<Name>,
) -> bool {
    let formed = ballots.clone().filter_map(|it| it.formed.as_ref()).max_by_key(|ballot| ballot.id);
    let last = formed.map_or(first, |ballot| &ballot.members);
    let since = |attempt: &&Ballot| formed.is_none_or(|ballot| attempt.id > ballot.id);
    let mut in_doubt = ballots.clone().flat_map(|it| &it.attempts).filter(since);
    let knows_too_much = ballots.map(|it| it.attempts.len()).max() >= Some(ATTEMPTS_MAX);
    !knows_too_much
        && is_majority(members, last)
        && in_doubt.all(|attempt| is_majority(members, &attempt.members))
}

/// Whether `part` has more than half of `whole`, or half of it and its first.
fn is_majority(part: &BTreeSet<Name>, whole: &BTreeSet<Name>) -> bool {
    let present = part.intersection(whole).count();
    let has_first = whole.first().is_some_and(|first| part.contains(first));
    2 * present > whole.len() || (2 * present == whole.len() && has_first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use model::{Boot, ConfigurationId};

    fn names(all: &str) -> BTreeSet<Name> {
        all.split_whitespace().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn an_even_split_has_one_majority() {
        let whole = names("a b c d");
        assert!(is_majority(&names("a b"), &whole) && !is_majority(&names("c d"), &whole));
        assert!(is_majority(&names("b c d"), &whole) && !is_majority(&names("a"), &whole));
        assert!(is_majority(&names("a d x y z"), &whole), "others do not count");
        assert!(!is_majority(&names("x y z"), &whole) && !is_majority(&names(""), &names("")));
    }

    #[test]
    fn of_two_that_exclude_each_other_one_is_a_majority_at_most() {
        let whole = names("a b c d e");
        let all: Vec<Name> = whole.iter().copied().collect();
        for subset in 0..1_u32 << all.len() {
            let pick = |bit: u32| (0..all.len()).filter(|n| subset >> n & 1 == bit).map(|n| all[n]).collect();
            let (part, rest) = (pick(1), pick(0));
            assert!(is_majority(&part, &whole) != is_majority(&rest, &whole), "{part:?}");
        }
    }

    fn ballot(counter: u64, members: &str) -> Ballot {
        Ballot { id: ConfigurationId::new(counter, 0), members: names(members) }
    }

    fn attempted(formed: Option<Ballot>, attempts: &[Ballot]) -> Ballots {
        Ballots { formed, attempts: attempts.to_vec() }
    }

    /// What dynamic voting that begins with a, b, c and d says of those who remember `memories` and of others.
    fn judge(memories: &[(&str, &Ballots)], others: &str) -> Verdict {
        let daemon = |name: Name| DaemonId::new(name, Boot::new(1));
        let memories =
            memories.iter().map(|(name, memory)| (daemon(name.parse().unwrap()), (*memory).clone()));
        let ballots: BTreeMap<DaemonId, Ballots> = memories.collect();
        let all = ballots.keys().copied().chain(names(others).into_iter().map(daemon));
        let members = all.map(|daemon| (daemon, StartId::new(Boot::new(1), 1))).collect();
        Rule::Dynamic(names("a b c d")).judge(&members, &ballots)
    }

    #[test]
    fn the_first_one_has_a_majority_of_the_voters() {
        let new = Ballots::default();
        assert_eq!(judge(&[("a", &new), ("c", &new)], ""), Verdict::Attempt(names("a c")));
        assert_eq!(judge(&[("b", &new), ("c", &new)], ""), Verdict::Secondary);
        assert_eq!(judge(&[("b", &new), ("c", &new)], "d"), Verdict::Secondary, "d does not vote");
    }

    #[test]
    fn the_next_one_has_a_majority_of_the_last() {
        let two = attempted(Some(ballot(3, "c d")), &[]);
        assert_eq!(judge(&[("c", &two)], ""), Verdict::Attempt(names("c")));
        assert_eq!(judge(&[("d", &two)], ""), Verdict::Secondary);
        let stale = attempted(Some(ballot(2, "a b c d")), &[]);
        assert_eq!(judge(&[("a", &stale), ("b", &stale), ("d", &two)], ""), Verdict::Secondary);
    }

    #[test]
    fn what_may_have_been_formed_counts_as_if_it_was() {
        let last = Some(ballot(2, "a b c d"));
        let (knows, new) = (attempted(last.clone(), &[ballot(3, "c d")]), attempted(last, &[]));
        assert_eq!(judge(&[("a", &new), ("b", &new), ("d", &knows)], ""), Verdict::Secondary);
        let Verdict::Attempt(_) = judge(&[("a", &new), ("b", &new), ("c", &knows)], "") else {
            panic!("c is half of it, and the first");
        };
        let over = attempted(Some(ballot(3, "b d")), &[]);
        let Verdict::Attempt(_) = judge(&[("a", &new), ("b", &over), ("d", &knows)], "") else {
            panic!("what was formed then was something else");
        };
    }

    #[test]
    fn who_has_too_much_in_doubt_forms_nothing() {
        let many: Vec<Ballot> = (0..ATTEMPTS_MAX as u64).map(|n| ballot(n + 2, "a")).collect();
        assert_eq!(
            judge(&[("a", &attempted(None, &many)), ("b", &Ballots::default())], ""),
            Verdict::Secondary
        );
    }
}
