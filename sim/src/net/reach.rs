//! Which machine can reach which: partitions, cuts between two machines in one direction or both, and stalls.
//!
//! A cut breaks connections, after a time that differs from end to end. A stall only delays what is under way, so that
//! messages on one link are overtaken by those on others.

use std::collections::BTreeMap;

use crate::packet::Node;

/// From one machine to another.
type Way = (usize, usize);

/// What stands between two machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// Nothing passes in this direction, and connections break.
    Cut(usize, usize),
    /// What is sent in this direction waits.
    Stall(usize, usize),
}

/// All that stands between machines.
pub struct Reach {
    machines: usize,
    /// The part that each machine is in.
    parts: Vec<usize>,
    /// How many faults cut each way.
    cuts: BTreeMap<Way, u32>,
    /// How many faults stall each way.
    stalls: BTreeMap<Way, u32>,
}

impl Reach {
    /// Everybody reaches everybody.
    pub fn new(machines: usize) -> Reach {
        Reach { machines, parts: vec![0; machines], cuts: BTreeMap::new(), stalls: BTreeMap::new() }
    }

    /// Takes everything away.
    pub fn heal(&mut self) {
        *self = Reach::new(self.machines);
    }

    /// The part of each machine.
    pub fn parts(&self) -> &[usize] {
        &self.parts
    }

    /// Divides the machines into these parts.
    pub fn divide(&mut self, parts: Vec<usize>) {
        self.parts = parts;
    }

    /// Puts a barrier up.
    pub fn raise(&mut self, barrier: Barrier) {
        let (way, barriers) = self.find(barrier);
        *barriers.entry(way).or_default() += 1;
    }

    /// Takes a barrier down, if it is still up.
    pub fn lower(&mut self, barrier: Barrier) {
        let (way, barriers) = self.find(barrier);
        if let Some(count) = barriers.get_mut(&way) {
            *count -= 1;
            if *count == 0 {
                barriers.remove(&way);
            }
        }
    }

    fn find(&mut self, barrier: Barrier) -> (Way, &mut BTreeMap<Way, u32>) {
        match barrier {
            Barrier::Cut(from, to) => ((from, to), &mut self.cuts),
            Barrier::Stall(from, to) => ((from, to), &mut self.stalls),
        }
    }

    /// Whether what `from` sends reaches `to` without having to wait.
    pub fn passes(&self, from: Node, to: Node) -> bool {
        self.way(from, to).is_none_or(|way| !self.is_cut(way) && !self.stalls.contains_key(&way))
    }

    /// Whether connections between the two break: they live only while both directions do.
    pub fn breaks(&self, one: Node, other: Node) -> bool {
        self.way(one, other).is_some_and(|(a, b)| self.is_cut((a, b)) || self.is_cut((b, a)))
    }

    fn is_cut(&self, way: Way) -> bool {
        self.parts.get(way.0) != self.parts.get(way.1) || self.cuts.contains_key(&way)
    }

    /// Between two machines, of which neither is outside all of them.
    fn way(&self, from: Node, to: Node) -> Option<Way> {
        let way = (self.place(from)?, self.place(to)?);
        (way.0 != way.1).then_some(way)
    }

    /// The machine of a process. Gateways and clients are elsewhere.
    pub fn place(&self, node: Node) -> Option<usize> {
        match node {
            Node::Daemon(n) | Node::Server(n) => Some(n),
            Node::Membership(n) | Node::Process(n) => n.checked_rem(self.machines),
            Node::Gateway(_) | Node::Client(_) => None,
        }
    }
}
