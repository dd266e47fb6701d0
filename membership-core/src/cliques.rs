//! Who can talk to whom, made into sets in which everybody can talk to everybody [Moshe:ne]: a configuration must not
//! have two members that cannot reach each other, and a target no two servers.
//!
//! The partition depends on the cuts alone, so whoever knows the same cuts finds the same: those with the fewest cuts
//! come first, then the lesser; each takes all who are left and fit in with those taken so far.
//!
//! Of a thousand who are in halves, each is cut off from half of them: that is why cuts are a square of bits here.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

/// Which of some cannot talk to each other, whichever of the two says so.
#[derive(Clone, Debug)]
pub(crate) struct Cuts<K> {
    /// Ascending.
    all: Vec<K>,
    /// For each of them, the places of those that it is cut off from.
    cut: Vec<Places>,
}

/// A set of places in a list.
#[derive(Clone, Debug)]
struct Places(Vec<u64>);

impl Places {
    /// None of so many.
    fn none(of: usize) -> Places {
        Places(vec![0; of.div_ceil(64)])
    }

    fn insert(&mut self, place: usize) {
        self.0[place / 64] |= 1 << (place % 64);
    }

    fn contains(&self, place: usize) -> bool {
        self.0[place / 64] >> (place % 64) & 1 == 1
    }

    fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    fn is_disjoint(&self, other: &Places) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a & b == 0)
    }
}

impl<K: Ord + Copy> Cuts<K> {
    /// All of these, given in their order, can talk to each other.
    pub(crate) fn none(among: impl Iterator<Item = K>) -> Cuts<K> {
        let all: Vec<K> = among.collect();
        let cut = vec![Places::none(all.len()); all.len()];
        Cuts { all, cut }
    }

    /// `a` and each of `others`, given in their order, cannot talk to each other. Those who are not among them do not
    /// count, and nobody is cut off from himself.
    pub(crate) fn insert(&mut self, a: K, others: impl Iterator<Item = K>) {
        let mut others = others.peekable();
        if others.peek().is_none() {
            return;
        }
        let Ok(at) = self.all.binary_search(&a) else { return };
        for place in (0..self.all.len()).filter(|place| *place != at) {
            let it = self.all[place];
            while others.next_if(|other| *other < it).is_some() {}
            if others.next_if(|other| *other == it).is_some() {
                self.cut[at].insert(place);
                self.cut[place].insert(at);
            }
        }
    }

    /// Each pair once.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (K, K)> + '_ {
        let after = move |a: usize| (a + 1..self.all.len()).filter(move |b| self.cut[a].contains(*b));
        (0..self.all.len()).flat_map(move |a| after(a).map(move |b| (self.all[a], self.all[b])))
    }

    /// All of them, as cliques.
    pub(crate) fn partition(&self) -> Vec<BTreeSet<K>> {
        let mut left: Vec<usize> = (0..self.all.len()).collect();
        left.sort_by_cached_key(|it| (self.cut[*it].len(), *it));
        let mut cliques = Vec::new();
        while !left.is_empty() {
            let mut clique = Places::none(self.all.len());
            left.retain(|it| {
                let fits = self.cut[*it].is_disjoint(&clique);
                if fits {
                    clique.insert(*it);
                }
                !fits
            });
            let members = (0..self.all.len()).filter(|place| clique.contains(*place));
            cliques.push(members.map(|place| self.all[place]).collect());
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
            cuts.insert(*b, [*a].into_iter());
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

    #[test]
    fn a_cut_is_a_pair_of_two_who_are_there() {
        let mut cuts = Cuts::none([1, 3, 5, 7].into_iter());
        cuts.insert(5, [1, 2, 5, 6, 7, 8].into_iter());
        cuts.insert(1, [5].into_iter());
        cuts.insert(4, [1, 3].into_iter());
        assert_eq!(cuts.pairs().collect::<Vec<_>>(), [(1, 5), (5, 7)]);
    }

    #[test]
    fn halves_of_many_are_found() {
        let half = |it: u32| it % 2;
        let mut cuts = Cuts::none(0..200);
        for a in 0..200 {
            cuts.insert(a, (0..200).filter(|b| half(*b) != half(a)));
        }
        let halves: Vec<BTreeSet<u32>> =
            [0, 1].map(|of| (0..200).filter(|it| half(*it) == of).collect()).into();
        assert_eq!(cuts.partition(), halves);
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
