//! Which configuration is the primary component: of all that exist side by side, at most one.
//!
//! *Majority*: the one that has more than half of the voters, or half of them and among them the first. Two such sets
//! have a voter in common, and a daemon is in one configuration at a time.

use alloc::collections::BTreeSet;

use core::fmt;

use model::{Configuration, Name};

/// How it is decided which configuration is the primary component.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rule {
    /// None ever is.
    #[default]
    None,
    /// The one with a majority of these daemons.
    Majority(BTreeSet<Name>),
}

impl Rule {
    /// Whether `configuration` is the primary component.
    pub(crate) fn holds_for(&self, configuration: &Configuration) -> bool {
        let names = configuration.members.keys().map(|daemon| daemon.name()).collect();
        match self {
            Rule::None => false,
            Rule::Majority(voters) => is_majority(&names, voters),
        }
    }
}

/// The same text for the same rule, and another one for any other.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::None => f.write_str("none"),
            Rule::Majority(voters) => {
                f.write_str("majority of")?;
                voters.iter().try_for_each(|voter| write!(f, " {voter}"))
            }
        }
    }
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
        let all: alloc::vec::Vec<Name> = whole.iter().copied().collect();
        for subset in 0..1_u32 << all.len() {
            let pick = |bit: u32| (0..all.len()).filter(|n| subset >> n & 1 == bit).map(|n| all[n]).collect();
            let (part, rest) = (pick(1), pick(0));
            assert!(is_majority(&part, &whole) != is_majority(&rest, &whole), "{part:?}");
        }
    }
}
