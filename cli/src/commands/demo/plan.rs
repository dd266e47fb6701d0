//! When what is killed and started again.

use std::time::Duration;

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prey {
    /// A content server.
    Server,
    /// A daemon and its content server.
    Machine,
}

/// What happens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Something is killed.
    Kill(Prey),
    /// Everything that was killed is started again.
    Restart,
}

/// How long something stays dead where many things are killed, at most.
const DEAD_MAX: Duration = Duration::from_secs(1);

/// The acts of a demo, in order, counted from when the films play. Servers and machines are killed in turn, a server
/// first.
///
/// One or two kills are a story: they happen in the first half, both victims stay dead for a while, and come back
/// together. More kills are a trial: they are spread evenly, and each victim is back before the next one.
pub fn acts(kills: u32, length: Duration) -> Vec<(Duration, Act)> {
    let prey = |n: u32| if n.is_multiple_of(2) { Prey::Server } else { Prey::Machine };
    if kills <= 2 {
        let mut acts: Vec<_> = (0..kills).map(|n| (length * (4 + 5 * n) / 20, Act::Kill(prey(n)))).collect();
        acts.extend((kills > 0).then_some((length * 13 / 20, Act::Restart)));
        return acts;
    }
    let period = length / (kills + 1);
    let dead = DEAD_MAX.min(period / 2);
    let pair = |n: u32| {
        let at = period / 2 + period * n;
        [(at, Act::Kill(prey(n))), (at + dead, Act::Restart)]
    };
    (0..kills).flat_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kills: u32, seconds: u64) -> Vec<(u64, Act)> {
        let acts = acts(kills, Duration::from_secs(seconds));
        acts.into_iter().map(|(at, act)| (at.as_millis() as u64, act)).collect()
    }

    #[test]
    fn two_kills_are_a_story() {
        let (server, machine) = (Act::Kill(Prey::Server), Act::Kill(Prey::Machine));
        assert_eq!(told(0, 20), []);
        assert_eq!(told(1, 20), [(4000, server), (13000, Act::Restart)]);
        assert_eq!(told(2, 20), [(4000, server), (9000, machine), (13000, Act::Restart)]);
    }

    #[test]
    fn of_many_kills_each_is_over_before_the_next_and_all_fit() {
        for (kills, seconds) in [(3, 8), (20, 120), (100, 300)] {
            let acts = told(kills, seconds);
            assert_eq!(acts.len(), 2 * kills as usize);
            assert!(acts.is_sorted_by(|a, b| a.0 < b.0), "{acts:?}");
            assert!(acts.last().unwrap().0 < seconds * 1000);
            let killed = acts.iter().filter(|(_, act)| *act == Act::Kill(Prey::Machine)).count();
            assert_eq!(killed as u32, kills / 2);
        }
    }
}
