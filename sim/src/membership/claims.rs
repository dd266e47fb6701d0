//! What must be true of a run beyond what its trace can show: it takes a clock that all share, or an eye on all servers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{Configuration, ConfigurationId, DaemonId, Name, ServerId, Time};

/// What an observer of the whole world sees.
#[derive(Clone, Debug)]
pub enum Seen {
    /// A server hears whom one of its daemons cannot talk to.
    Reported { daemon: DaemonId, cut: BTreeSet<DaemonId> },
    /// A server lost one of its daemons, and does not count its report any more.
    Detached { daemon: DaemonId },
    /// A server agreed with others on a configuration.
    Agreed { server: ServerId, configuration: Configuration },
    /// A daemon was told something.
    Told { daemon: DaemonId },
    /// Messages may have been held up until now.
    Released,
    /// From here on nothing happens that anybody should hear of, until the end.
    StillnessBegins { why: &'static str },
}

/// Judges what is seen, in the order in which it happens.
pub struct Claims {
    /// How long it may take from a report until no server agrees without it.
    patience: Duration,
    meanings: BTreeMap<ConfigurationId, (Configuration, ServerId)>,
    /// Primary components, and who is in them.
    primary: BTreeMap<ConfigurationId, BTreeSet<Name>>,
    /// Since when a daemon says that it cannot talk to another.
    cuts: BTreeMap<DaemonId, BTreeMap<DaemonId, Time>>,
    released: Time,
    stillness: Option<(&'static str, Time)>,
    /// Configurations that could have had two members which were cut.
    pub kept_apart: u64,
}

impl Claims {
    pub fn new(patience: Duration) -> Claims {
        Claims {
            patience,
            meanings: BTreeMap::new(),
            primary: BTreeMap::new(),
            cuts: BTreeMap::new(),
            released: Time::ZERO,
            stillness: None,
            kept_apart: 0,
        }
    }

    pub fn observe(&mut self, now: Time, seen: &Seen) -> Result<(), String> {
        match seen {
            Seen::Reported { daemon, cut } => {
                let since = self.cuts.entry(*daemon).or_default();
                since.retain(|other, _| cut.contains(other));
                for other in cut {
                    since.entry(*other).or_insert(now);
                }
                Ok(())
            }
            Seen::Detached { daemon } => {
                self.cuts.remove(daemon);
                Ok(())
            }
            Seen::Agreed { server, configuration } => {
                self.means_one_thing(*server, configuration)?;
                self.is_next_primary(configuration)?;
                self.has_no_cut(now, *server, configuration)
            }
            Seen::Told { daemon } => match self.stillness {
                None => Ok(()),
                Some((why, since)) => {
                    Err(format!("{daemon} was told something at {now}, though {why} since {since}"))
                }
            },
            Seen::Released => {
                self.released = now;
                Ok(())
            }
            Seen::StillnessBegins { why } => {
                self.stillness = Some((why, now));
                Ok(())
            }
        }
    }

    /// An id means one configuration to all servers, whether or not they tell anybody.
    fn means_one_thing(&mut self, server: ServerId, configuration: &Configuration) -> Result<(), String> {
        let first = || (configuration.clone(), server);
        let (known, by) = self.meanings.entry(configuration.id).or_insert_with(first);
        if known == configuration {
            return Ok(());
        }
        Err(format!("{} means one thing to {by} and another to {server}", configuration.id))
    }

    /// Whatever is a primary component has a member in common with the one before it and with the one after it.
    fn is_next_primary(&mut self, configuration: &Configuration) -> Result<(), String> {
        if !configuration.primary {
            return Ok(());
        }
        let (id, names) = (configuration.id, configuration.members.keys().map(|it| it.name()).collect());
        let before = self.primary.range(..id).next_back();
        let after = self.primary.range(id..).find(|(other, _)| **other != id);
        for (other, theirs) in before.into_iter().chain(after) {
            if theirs.is_disjoint(&names) {
                return Err(format!("{other} and {id} are both primary, and exclude each other"));
            }
        }
        self.primary.insert(id, names);
        Ok(())
    }

    /// How many primary components there were.
    pub fn primary_components(&self) -> u64 {
        self.primary.len() as u64
    }

    /// No two members have long said of each other that they cannot talk.
    fn has_no_cut(
        &mut self,
        now: Time,
        server: ServerId,
        configuration: &Configuration,
    ) -> Result<(), String> {
        let is_old = |since: &Time| now > (*since).max(self.released) + self.patience;
        let says =
            |a: &DaemonId, b: &DaemonId| self.cuts.get(a).and_then(|of_a| of_a.get(b)).is_some_and(is_old);
        let mut are_cut = false;
        for (a, of_a) in &self.cuts {
            for (b, since) in of_a.iter().filter(|(b, since)| a < *b && is_old(since) && says(b, a)) {
                are_cut = true;
                if configuration.members.contains_key(a) && configuration.members.contains_key(b) {
                    let id = configuration.id;
                    return Err(format!(
                        "{server} agreed on {id} with {a} and {b}, who have said since {since} that they are cut"
                    ));
                }
            }
        }
        self.kept_apart += u64::from(are_cut);
        Ok(())
    }
}

/// Where a daemon ended.
#[derive(Clone, Debug)]
pub struct End {
    /// Whether it waits for a configuration after a start change.
    pub is_changing: bool,
    /// What it was told last.
    pub view: Option<Configuration>,
}

/// Judges the end of a run: each of `groups` is in one configuration of exactly its members, and nobody waits.
pub fn has_settled(groups: &[BTreeSet<DaemonId>], ends: &BTreeMap<DaemonId, End>) -> Result<(), String> {
    let mut ids = BTreeSet::new();
    for group in groups {
        let mut common = None;
        for daemon in group {
            let Some(end) = ends.get(daemon) else { return Err(format!("{daemon} is not alive")) };
            let Some(view) = &end.view else { return Err(format!("{daemon} was never told a view")) };
            if end.is_changing {
                return Err(format!("{daemon} was told of a change that has no end"));
            }
            if view.set() != *group {
                let (is, not) = (view.set(), group);
                return Err(format!("{daemon} is in {} of {is:?}, not of {not:?}", view.id));
            }
            if *common.get_or_insert(view) != view {
                return Err(format!("{daemon} is in {}, others in another one", view.id));
            }
        }
        if common.is_some_and(|view| !ids.insert(view.id)) {
            return Err("two groups are in one configuration".into());
        }
    }
    Ok(())
}

/// Who is to be together, of those who are here: whoever is cut off from the fewest comes first, then the lesser, and
/// takes all who are left that fit in. Said again here, so that it is not asked of those who are to be judged.
pub fn groups<K: Ord + Copy>(all: &BTreeSet<K>, is_cut: impl Fn(K, K) -> bool) -> Vec<BTreeSet<K>> {
    let cuts = |a: &K| all.iter().filter(|b| **b != *a && is_cut(*a, **b)).count();
    let mut left: Vec<K> = all.iter().copied().collect();
    left.sort_by_key(|it| (cuts(it), *it));
    let mut groups = Vec::new();
    while let Some(first) = left.first().copied() {
        let mut group = BTreeSet::from([first]);
        for it in &left[1..] {
            if !group.iter().any(|member| is_cut(*member, *it)) {
                group.insert(*it);
            }
        }
        left.retain(|it| !group.contains(it));
        groups.push(group);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Boot, StartId};

    fn daemon(name: &str) -> DaemonId {
        DaemonId::new(name.parse().unwrap(), Boot::new(1))
    }

    fn daemons(names: &str) -> BTreeSet<DaemonId> {
        names.split(' ').map(daemon).collect()
    }

    fn configuration(counter: u64, names: &str) -> Configuration {
        let start = StartId::new(Boot::new(1), counter);
        Configuration::new(counter, daemons(names).into_iter().map(|it| (it, start)).collect())
    }

    fn agreed(configuration: Configuration) -> Seen {
        Seen::Agreed { server: ServerId::new("server".parse().unwrap(), Boot::new(1)), configuration }
    }

    fn reported(who: &str, cut: &[&str]) -> Seen {
        Seen::Reported { daemon: daemon(who), cut: cut.iter().map(|it| daemon(it)).collect() }
    }

    /// The verdict on things that are seen at these times, in seconds, where reports take a second.
    fn verdict(story: &[(u64, Seen)]) -> Result<(), String> {
        let mut claims = Claims::new(Duration::from_secs(1));
        let mut told = story.iter().map(|(at, seen)| claims.observe(Time::from_micros(at * 1_000_000), seen));
        told.try_for_each(|verdict| verdict)
    }

    #[test]
    fn an_id_that_means_two_things_is_rejected() {
        let one = configuration(1, "a b");
        let other = Configuration { id: one.id, ..configuration(1, "a") };
        assert!(verdict(&[(0, agreed(one.clone())), (0, agreed(one.clone()))]).is_ok());
        assert!(verdict(&[(0, agreed(one)), (0, agreed(other))]).is_err());
    }

    #[test]
    fn two_who_are_known_to_be_cut_are_rejected_together() {
        let cut = [(0, reported("a", &["b"])), (0, reported("b", &["a"]))];
        let then = |more: &[(u64, Seen)]| verdict(&[&cut[..], more].concat());
        let together = agreed(configuration(1, "a b c"));
        assert!(then(&[(2, together.clone())]).is_err());
        assert!(then(&[(1, together.clone())]).is_ok(), "servers were told just now");
        assert!(then(&[(2, agreed(configuration(1, "a c")))]).is_ok());
        assert!(then(&[(2, reported("a", &[])), (2, together.clone())]).is_ok(), "only one says so");
        assert!(then(&[(2, Seen::Detached { daemon: daemon("a") }), (2, together.clone())]).is_ok());
        assert!(then(&[(2, Seen::Released), (3, together.clone())]).is_ok(), "messages were held up");
        assert!(then(&[(2, Seen::Released), (4, together)]).is_err());
    }

    #[test]
    fn primary_components_that_exclude_each_other_are_rejected() {
        let primary = |counter: u64, names: &str| {
            let configuration = configuration(counter, names).with_primary(true);
            (counter, Seen::Agreed { server: "p#1".parse().unwrap(), configuration })
        };
        assert!(
            verdict(&[primary(1, "a b c"), primary(2, "b c"), primary(3, "c d"), primary(4, "d e")]).is_ok()
        );
        assert!(verdict(&[primary(1, "a b c"), primary(3, "c d"), primary(2, "a b")]).is_err());
        assert!(verdict(&[primary(1, "a b"), (2, agreed(configuration(2, "c d")))]).is_ok());
        assert!(verdict(&[primary(1, "a b"), primary(2, "c d")]).is_err());
    }

    #[test]
    fn a_notice_while_nothing_happens_is_rejected() {
        let still = Seen::StillnessBegins { why: "nothing happened" };
        let told = Seen::Told { daemon: daemon("a") };
        assert!(verdict(&[(0, told.clone()), (1, still.clone())]).is_ok());
        assert!(verdict(&[(0, still), (1, told)]).is_err());
    }

    fn settled(groups: &[&str], ends: &[(&str, bool, Option<Configuration>)]) -> bool {
        let end = |(name, is_changing, view): &(&str, bool, Option<Configuration>)| {
            (daemon(name), End { is_changing: *is_changing, view: view.clone() })
        };
        let groups: Vec<_> = groups.iter().map(|names| daemons(names)).collect();
        has_settled(&groups, &ends.iter().map(end).collect()).is_ok()
    }

    #[test]
    fn an_end_that_is_none_is_rejected() {
        let (both, a, b) = (configuration(1, "a b"), configuration(1, "a"), configuration(1, "b"));
        let later = configuration(2, "a b");
        assert!(settled(&["a b"], &[("a", false, Some(both.clone())), ("b", false, Some(both.clone()))]));
        assert!(settled(&["a", "b"], &[("a", false, Some(a.clone())), ("b", false, Some(b))]));
        assert!(!settled(&["a b"], &[("a", true, Some(both.clone())), ("b", false, Some(both.clone()))]));
        assert!(!settled(&["a b"], &[("a", false, Some(both.clone())), ("b", false, None)]));
        assert!(!settled(&["a b"], &[("a", false, Some(both.clone())), ("b", false, Some(later))]));
        assert!(!settled(&["a b"], &[("a", false, Some(a.clone())), ("b", false, Some(both.clone()))]));
        assert!(!settled(&["a", "b"], &[("a", false, Some(a)), ("b", false, Some(both.clone()))]));
        assert!(!settled(&["a b"], &[("a", false, Some(both))]), "b is dead");
    }

    #[test]
    fn groups_have_no_cuts() {
        let all = BTreeSet::from([1, 2, 3, 4, 5]);
        let chain = |a: i32, b: i32| (a - b).abs() > 1;
        assert_eq!(groups(&all, chain), [vec![2, 3], vec![4, 5], vec![1]].map(BTreeSet::from_iter));
        assert_eq!(groups(&all, |_, _| false), vec![all]);
    }
}
