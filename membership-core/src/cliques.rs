//! Who can talk to whom, made into sets in which everybody can talk to everybody [Moshe:ne]: a configuration must not
//! have two members that cannot reach each other, and a target no two servers.
//!
//! The partition depends on the cuts alone, so whoever knows the same cuts finds the same: those with the fewest cuts
//! come first, then the lesser; each takes all who are left and fit in with those taken so far.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// Pairs that cannot talk to each other, whichever of them says so.
#[derive(Clone, Debug)]
pub(crate) struct Cuts<K>(BTreeMap<K, BTreeSet<K>>);

impl<K> Default for Cuts<K> {
    fn default() -> Cuts<K> {
        Cuts(BTreeMap::new())
    }
}

impl<K: Ord + Copy> Cuts<K> {
    pub(crate) fn insert(&mut self, a: K, b: K) {
        self.0.entry(a).or_default().insert(b);
        self.0.entry(b).or_default().insert(a);
    }

    /// Each pair once.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (K, K)> + '_ {
        self.0.iter().flat_map(|(a, others)| others.range(*a..).map(|b| (*a, *b)))
    }

    fn of(&self, it: K) -> usize {
        self.0.get(&it).map_or(0, BTreeSet::len)
    }

    fn fits(&self, it: K, clique: &BTreeSet<K>) -> bool {
        self.0.get(&it).is_none_or(|cut| cut.is_disjoint(clique))
    }

    /// `all`, as cliques. Cuts have to be among `all`.
    pub(crate) fn partition(&self, all: &BTreeSet<K>) -> Vec<BTreeSet<K>> {
        let mut left: Vec<K> = all.iter().copied().collect();
        left.sort_by_key(|it| (self.of(*it), *it));
        let mut cliques = Vec::new();
        while !left.is_empty() {
            let mut clique = BTreeSet::new();
            left.retain(|it| {
                let fits = self.fits(*it, &clique);
                if fits {
                    clique.insert(*it);
                }
                !fits
            });
            cliques.push(clique);
        }
        cliques
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn cliques(all: u32, cut: &[(u32, u32)]) -> Vec<Vec<u32>> {
        let mut cuts = Cuts::default();
        for (a, b) in cut {
            cuts.insert(*b, *a);
        }
        let partition = cuts.partition(&(1..=all).collect());
        partition.into_iter().map(|clique| clique.into_iter().collect()).collect()
    }

    #[test]
    fn without_cuts_all_are_together() {
        assert_eq!(cliques(4, &[]), [[1, 2, 3, 4]]);
        assert_eq!(cliques(0, &[]), Vec::<Vec<u32>>::new());
    }

    #[test]
    fn the_one_in_the_middle_of_a_chain_is_with_one_end() {
        assert_eq!(cliques(3, &[(1, 3)]), [vec![1, 2], vec![3]]);
    }

    #[test]
    fn a_partition_is_its_parts() {
        assert_eq!(cliques(4, &[(1, 3), (1, 4), (2, 3), (2, 4)]), [[1, 2], [3, 4]]);
    }

    #[test]
    fn whoever_many_cannot_reach_does_not_break_up_the_others() {
        assert_eq!(cliques(5, &[(1, 3), (1, 4), (1, 5)]), [vec![2, 3, 4, 5], vec![1]]);
    }

    #[test]
    fn no_clique_has_a_cut_and_everybody_is_in_one() {
        // Every graph of four.
        let pairs = [(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)];
        for graph in 0..1 << pairs.len() {
            let cut: Vec<_> = (0..pairs.len()).filter(|n| graph >> n & 1 == 1).map(|n| pairs[n]).collect();
            let found = cliques(4, &cut);
            let mut all: Vec<u32> = found.concat();
            all.sort_unstable();
            assert_eq!(all, [1, 2, 3, 4]);
            let is_together = |(a, b): &(u32, u32)| found.iter().any(|c| c.contains(a) && c.contains(b));
            assert!(!cut.iter().any(is_together), "{cut:?}: {found:?}");
        }
    }
}
