//! The one shape of every protocol core.

use alloc::vec::Vec;

use crate::Time;

/// A deterministic state machine: facts in, orders out. It has no clock, no randomness, no threads and no sockets;
/// a simulator and a production host drive it in the same way.
pub trait Machine {
    /// A fact that the host tells the machine.
    type Input;
    /// An order to the host: plain data.
    type Output;

    /// Applies one fact. Every consequence is in `out` when this returns.
    fn handle(&mut self, now: Time, input: Self::Input, out: &mut Vec<Self::Output>);

    /// Does what is due at `now`. Waking early or twice is harmless.
    fn wake(&mut self, now: Time, out: &mut Vec<Self::Output>);

    /// The next deadline, and what it is for: the reason is for humans and logs only. A deadline in the past means
    /// "as soon as the inbox is empty", which is how machines gather work into batches.
    fn next_wake(&self) -> Option<(Time, &'static str)>;
}
