//! Sets of daemons.

use super::{COUNT, Place};

/// Some of the daemons, a bit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Set(pub(super) u8);

impl Set {
    pub(super) const ALL: Set = Set((1 << COUNT) - 1);

    pub(super) fn of(places: impl IntoIterator<Item = Place>) -> Set {
        Set(places.into_iter().fold(0, |bits, place| bits | 1 << place))
    }

    pub(super) fn has(self, place: Place) -> bool {
        self.0 & 1 << place != 0
    }

    pub(super) fn places(self) -> impl Iterator<Item = Place> {
        (0..COUNT).filter(move |place| self.has(*place))
    }

    pub(super) fn is_in(self, other: Set) -> bool {
        self.0 & !other.0 == 0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn without(self, other: Set) -> Set {
        Set(self.0 & !other.0)
    }

    pub(super) fn common(self, other: Set) -> Set {
        Set(self.0 & other.0)
    }

    /// The sets that are not empty and within this one.
    pub(super) fn subsets(self) -> impl Iterator<Item = Set> {
        (1..=Set::ALL.0).map(Set).filter(move |set| set.is_in(self))
    }
}
