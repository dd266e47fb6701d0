//! Sets of places in a list, as bits.

use alloc::vec::Vec;

/// Places in a list.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Places(Vec<u64>);

impl Places {
    pub(crate) fn insert(&mut self, place: usize) {
        let word = place / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (place % 64);
    }

    pub(crate) fn extend(&mut self, others: &Places) {
        if self.0.len() < others.0.len() {
            self.0.resize(others.0.len(), 0);
        }
        self.0.iter_mut().zip(&others.0).for_each(|(word, other)| *word |= other);
    }

    pub(crate) fn contains(&self, place: usize) -> bool {
        self.0.get(place / 64).is_some_and(|word| word >> (place % 64) & 1 == 1)
    }

    pub(crate) fn is_disjoint(&self, others: &Places) -> bool {
        self.0.iter().zip(&others.0).all(|(word, other)| word & other == 0)
    }

    /// How many of these are among `others`.
    pub(crate) fn count(&self, others: &Places) -> u32 {
        self.0.iter().zip(&others.0).map(|(word, other)| (word & other).count_ones()).sum()
    }

    /// In their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> {
        (0..).step_by(64).zip(&self.0).flat_map(|(first, word)| {
            let mut left = *word;
            core::iter::from_fn(move || {
                let bit = left.trailing_zeros() as usize;
                left &= left.wrapping_sub(1);
                (bit < 64).then_some(first + bit)
            })
        })
    }
}

impl FromIterator<usize> for Places {
    fn from_iter<I: IntoIterator<Item = usize>>(places: I) -> Places {
        let mut all = Places::default();
        places.into_iter().for_each(|place| all.insert(place));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(places: &[usize]) -> Places {
        places.iter().copied().collect()
    }

    #[test]
    fn places_are_a_set() {
        let mut places = of(&[200, 3, 63, 64, 3]);
        assert_eq!(places.iter().collect::<Vec<_>>(), [3, 63, 64, 200]);
        assert!(places.contains(64) && !places.contains(65) && !places.contains(1_000));
        assert_eq!((places.count(&of(&[3, 4, 200, 300])), places.count(&of(&[]))), (2, 0));
        assert!(places.is_disjoint(&of(&[4, 65])) && !of(&[4, 63]).is_disjoint(&places));
        places.extend(&of(&[4, 400]));
        assert_eq!(places.iter().collect::<Vec<_>>(), [3, 4, 63, 64, 200, 400]);
    }
}
