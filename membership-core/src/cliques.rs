//! Who can talk to whom, made into sets in which everybody can talk to everybody [Moshe:ne]: a configuration must not
//! have two members that cannot reach each other, and a target no two servers.
//!
//! The partition depends on the cuts alone, so whoever knows the same cuts finds the same: those with the fewest cuts
//! come first, then the lesser; each takes all who are left and fit in with those taken so far.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use crate::places::Places;

/// Which of some cannot talk to each other, whichever of the two says so.
#[derive(Clone, Debug)]
pub(crate) struct Cuts<K> {
    /// Ascending.
    all: Vec<K>,
    /// Who of them is there. Others do not count.
    there: Places,
    /// For each of them, whom it is cut off from.
    cut: Vec<Places>,
}

impl<K: Ord + Copy> Cuts<K> {
    /// Of `all`, in their order, those at the places `there` count; for each of them, `says` has whom it cannot talk to.
    pub(crate) fn new(all: Vec<K>, there: Places, says: Vec<Places>) -> Cuts<K> {
        let mut cut = says.clone();
        for (a, others) in says.iter().enumerate().filter(|(a, _)| there.contains(*a)) {
            others.iter().for_each(|b| cut[b].insert(a));
        }
        Cuts { all, there, cut }
    }

    /// All of these, given in their order, can talk to each other.
    pub(crate) fn none(among: impl Iterator<Item = K>) -> Cuts<K> {
        let all: Vec<K> = among.collect();
        let (there, cut) = ((0..all.len()).collect(), vec![Places::default(); all.len()]);
        Cuts { all, there, cut }
    }

    /// `a` and `b`, who are among them, cannot talk to each other.
    pub(crate) fn insert(&mut self, a: K, b: K) {
        if let (Ok(a), Ok(b)) = (self.all.binary_search(&a), self.all.binary_search(&b)) {
            self.cut[a].insert(b);
            self.cut[b].insert(a);
        }
    }

    /// Each pair once.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (K, K)> + '_ {
        let after = move |a: usize| self.cut[a].iter().filter(move |b| a < *b && self.there.contains(*b));
        self.there.iter().flat_map(move |a| after(a).map(move |b| (self.all[a], self.all[b])))
    }

    /// Whether all of `those` are there and can talk to each other.
    pub(crate) fn allow(&self, those: &BTreeSet<K>) -> bool {
        let places = those.iter().map(|it| self.all.binary_search(it)).collect::<Result<Places, _>>();
        places.is_ok_and(|places| {
            places.iter().all(|it| self.there.contains(it) && self.cut[it].is_disjoint(&places))
        })
    }

    /// All who are there, as cliques.
    pub(crate) fn partition(&self) -> Vec<BTreeSet<K>> {
        let mut left: Vec<usize> = self.there.iter().collect();
        left.sort_by_cached_key(|it| (self.cut[*it].count(&self.there), *it));
        let mut cliques = Vec::new();
        while !left.is_empty() {
            let mut clique = Places::default();
            left.retain(|it| {
                let fits = self.cut[*it].is_disjoint(&clique);
                if fits {
                    clique.insert(*it);
                }
                !fits
            });
            cliques.push(clique.iter().map(|place| self.all[place]).collect());
        }
        cliques
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cliques(all: u32, cut: &[(u32, u32)]) -> Vec<Vec<u32>> {
        let mut cuts = Cuts::none(1..=all);
        for (a, b) in cut {
            cuts.insert(*b, *a);
        }
        let partition = cuts.partition();
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

    /// Of 1, 3, 5 and 7, where 3 is not there.
    fn three() -> Cuts<u32> {
        let says = [&[2][..], &[0, 3], &[3], &[]].map(|says| says.iter().copied().collect());
        Cuts::new(Vec::from([1, 3, 5, 7]), [0, 2, 3].into_iter().collect(), says.into())
    }

    #[test]
    fn a_cut_is_a_pair_of_two_who_are_there_whichever_says_so() {
        assert_eq!(three().pairs().collect::<Vec<_>>(), [(1, 5), (5, 7)]);
        assert_eq!(three().partition(), [BTreeSet::from([1, 7]), BTreeSet::from([5])]);
    }

    #[test]
    fn those_may_be_together_who_are_there_and_not_cut() {
        let may = |those: &[u32]| three().allow(&those.iter().copied().collect());
        assert!(may(&[]) && may(&[5]) && may(&[1, 7]));
        assert!(!may(&[1, 5]) && !may(&[3]) && !may(&[4]));
    }

    #[test]
    fn halves_of_many_are_found() {
        let half = |of: usize| (0..200).filter(move |it| it % 2 == of);
        let says = (0..200).map(|it| half(1 - it % 2).collect()).collect();
        let cuts = Cuts::new((0..200).collect(), (0..200).collect(), says);
        assert_eq!(cuts.partition(), [half(0).collect(), half(1).collect::<BTreeSet<_>>()]);
        assert_eq!(cuts.pairs().count(), 100 * 100);
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
