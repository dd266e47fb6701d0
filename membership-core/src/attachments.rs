//! The daemons attached to this server, one under each name, and the start ids that they are given.
//!
//! Invariants: the start ids of a daemon increase, also across servers, since a daemon that attaches says which one it
//! was told last [Moshe:fail-over]. Every change shows in the row, except that of a standing, which other servers
//! conclude themselves if they have agreed to it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use core::time::Duration;

use detector::Report;
use model::{Address, Ballot, Ballots, Configuration, DaemonId, Name, StartId, Time};

use crate::message::{Attachment, Change, Leave, Place, Row, Standing, Started};

/// How often a daemon that answers late is given twice the time. Others wait for it that much longer if it stops. Whoever
/// is late even then does not vote any more before it attaches again.
const LATENESS_MAX: u32 = 3;

#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Attachments {
    version: u64,
    local: BTreeMap<Name, Local>,
    /// What changed since the other servers were told.
    news: BTreeMap<DaemonId, Place>,
}

#[derive(Clone, Debug, Hash)]
struct Local {
    daemon: DaemonId,
    attachment: Attachment,
    last_start: StartId,
    /// Whether it was told `last_start` on its present stream.
    is_told: bool,
    /// What it remembers of primary components, if it votes for the next.
    ballots: Option<Ballots>,
    /// Whether it does not vote before it is told another configuration, or at all.
    abstains: bool,
    /// Whether it was given up as a voter, and has not answered since.
    is_late: bool,
    /// How often it has answered late. Each time doubles the time that it is given from then on.
    lateness: u32,
    /// Whether it was told last that it is in a primary component.
    is_primary: bool,
    /// When its stream broke.
    lost: Option<Time>,
}

/// A daemon that attaches, as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Who.
    pub daemon: DaemonId,
    /// Where it takes connections from other daemons.
    pub address: Address,
    /// How often it had attached before in this life of it, to whichever server.
    pub attempt: u64,
    /// The last start change that it was told, by whichever server, in this life of it.
    pub last_start: Option<StartId>,
    /// The configuration that it was told last, by whichever server.
    pub standing: Option<Standing>,
    /// Whether it has been told a start change since.
    pub is_changing: bool,
    /// What it remembers of primary components, if it votes for the next: if it can write down what it agrees to.
    pub ballots: Option<Ballots>,
}

impl Arrival {
    /// The number from which its start ids go on.
    pub(crate) fn after(&self) -> StartId {
        self.last_start.unwrap_or(StartId::new(self.daemon.boot(), 0))
    }

    /// The greatest counter of a configuration that it claims to know of.
    pub(crate) fn counter(&self) -> u64 {
        let told = self.standing.map_or(0, |standing| standing.id.counter());
        told.max(self.ballots.as_ref().map_or(0, Ballots::counter))
    }
}

impl Local {
    /// Whether it was told, on the stream that it has now, the start change that `configuration` names.
    fn is_told_of(&self, configuration: &Configuration) -> bool {
        let is_open = self.is_told && self.attachment.is_changing;
        is_open && configuration.members.get(&self.daemon) == Some(&self.last_start)
    }
}

impl Attachments {
    /// Attaches a daemon in place of whoever had its name, and returns who that was.
    pub(crate) fn attach(&mut self, arrival: Arrival, held: bool) -> Option<DaemonId> {
        let (daemon, after) = (arrival.daemon, arrival.after());
        let replaced = self.local.remove(&daemon.name());
        if let Some(old) = replaced.as_ref().filter(|old| old.daemon != daemon) {
            self.note(old.daemon, Place::Left(Leave::Superseded));
        }
        let unheard = replaced.as_ref().filter(|old| old.daemon == daemon).map(|old| old.last_start);
        let attachment = Attachment {
            address: arrival.address,
            attempt: arrival.attempt,
            since: self.version + 1,
            standing: arrival.standing,
            is_changing: arrival.is_changing,
            lost: None,
            held,
            report: Arc::default(),
        };
        let last_start = unheard.map_or(after, |start| start.max(after));
        let ballots = arrival.ballots;
        let local = Local {
            daemon,
            attachment,
            last_start,
            is_told: false,
            ballots,
            abstains: false,
            is_late: false,
            lateness: 0,
            is_primary: false,
            lost: None,
        };
        self.local.insert(daemon.name(), local);
        self.changed(daemon);
        replaced.map(|old| old.daemon)
    }

    /// Whether `daemon` was attached until this call.
    pub(crate) fn detach(&mut self, daemon: DaemonId, leave: Leave) -> bool {
        let attached = self.get(daemon).is_some();
        if attached {
            self.local.remove(&daemon.name());
            self.note(daemon, Place::Left(leave));
        }
        attached
    }

    /// The stream of `daemon` broke, and it has time to come back. Whether it was there until this call.
    pub(crate) fn lose(&mut self, now: Time, daemon: DaemonId, leave: Leave) -> bool {
        self.update(daemon, |local| {
            local.lost.get_or_insert(now);
            local.attachment.lost.replace(leave).is_none()
        })
    }

    /// `daemon` says whom it cannot talk to. False if that is no news.
    pub(crate) fn report(&mut self, daemon: DaemonId, report: Report<DaemonId>) -> bool {
        self.update(daemon, |local| {
            let is_news = *local.attachment.report != report;
            local.attachment.report = Arc::new(report);
            is_news
        })
    }

    /// `daemon` need not wait any longer.
    pub(crate) fn release(&mut self, daemon: DaemonId) -> bool {
        self.update(daemon, |local| core::mem::take(&mut local.attachment.held))
    }

    /// Changes the attachment of `daemon`, if it is there, by something that says whether anything changed.
    fn update(&mut self, daemon: DaemonId, change: impl FnOnce(&mut Local) -> bool) -> bool {
        let local = self.local.get_mut(&daemon.name()).filter(|local| local.daemon == daemon);
        let is_changed = local.is_some_and(change);
        if is_changed {
            self.changed(daemon);
        }
        is_changed
    }

    fn get(&self, daemon: DaemonId) -> Option<&Local> {
        self.local.get(&daemon.name()).filter(|local| local.daemon == daemon)
    }

    fn changed(&mut self, daemon: DaemonId) {
        if let Some(local) = self.get(daemon) {
            let place = Place::Taken(local.attachment.clone());
            self.note(daemon, place);
        }
    }

    fn note(&mut self, daemon: DaemonId, place: Place) {
        self.version += 1;
        self.news.insert(daemon, place);
    }

    /// Who is attached under `name`.
    pub(crate) fn named(&self, name: Name) -> Option<DaemonId> {
        self.local.get(&name).map(|local| local.daemon)
    }

    /// The daemons of this server, and how they are attached.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (DaemonId, &Attachment)> {
        self.local.values().map(|local| (local.daemon, &local.attachment))
    }

    /// What the other servers are to know.
    pub(crate) fn row(&self) -> Row {
        let daemons = self.iter().map(|(daemon, attachment)| (daemon, attachment.clone())).collect();
        Row { version: self.version, daemons }
    }

    /// What the other servers are to know that they do not know yet.
    pub(crate) fn take_news(&mut self) -> Option<Change> {
        let daemons = core::mem::take(&mut self.news);
        (!daemons.is_empty()).then_some(Change { version: self.version, daemons })
    }

    /// Those whose streams broke, and since when.
    pub(crate) fn lost(&self) -> impl Iterator<Item = (DaemonId, Leave, Time)> {
        self.local.values().filter_map(|local| Some((local.daemon, local.attachment.lost?, local.lost?)))
    }

    /// Those who wait because they left too often.
    pub(crate) fn held(&self) -> impl Iterator<Item = DaemonId> {
        self.iter().filter(|(_, attachment)| attachment.held).map(|(daemon, _)| daemon)
    }

    /// The next start id of each daemon of `those` that can be told.
    pub(crate) fn start(&mut self, those: &BTreeSet<DaemonId>) -> BTreeMap<DaemonId, Started> {
        let started = self.local.values_mut().filter(|it| those.contains(&it.daemon) && it.lost.is_none());
        started
            .map(|local| {
                local.last_start = local.last_start.next();
                local.is_told = true;
                local.attachment.is_changing = true;
                (
                    local.daemon,
                    Started {
                        start: local.last_start,
                        ballots: local.ballots.clone().filter(|_| !local.abstains),
                    },
                )
            })
            .collect()
    }

    /// The daemons of `configuration` that can be told it: they were told the start change that it names, on the
    /// stream that they have now. It is what they are told last.
    pub(crate) fn settle(&mut self, configuration: &Configuration) -> BTreeSet<DaemonId> {
        let standing = Standing { id: configuration.id, size: configuration.members.len() };
        let settle = |local: &mut Local| {
            local.attachment.is_changing = false;
            local.attachment.standing = Some(standing);
            local.abstains = local.is_late && local.lateness == LATENESS_MAX;
            local.is_primary = configuration.primary;
            if let Some(ballots) = &mut local.ballots {
                ballots.form(configuration.id);
            }
            local.daemon
        };
        self.told(configuration).map(settle).collect()
    }

    /// Other servers are to know what `daemons` stand in.
    pub(crate) fn tell_standings(&mut self, daemons: &[DaemonId]) {
        daemons.iter().for_each(|daemon| self.changed(*daemon));
    }

    /// The daemons of the configuration of `ballot` that can be asked to agree to it, and count as if they did.
    pub(crate) fn attempt(&mut self, configuration: &Configuration, ballot: &Ballot) -> BTreeSet<DaemonId> {
        let agree = |local: &mut Local| {
            local.ballots.as_mut().filter(|_| !local.abstains)?.attempt(ballot.clone());
            Some(local.daemon)
        };
        self.told(configuration).filter_map(agree).collect()
    }

    /// Whether `daemon` votes in the change of which it was told last, on the stream that it has now.
    pub(crate) fn votes(&self, daemon: DaemonId) -> bool {
        self.get(daemon).is_some_and(|local| local.is_told && local.ballots.is_some() && !local.abstains)
    }

    /// `daemon` does not vote before it is told another configuration: whoever counts on it has to begin anew.
    pub(crate) fn abstain(&mut self, daemon: DaemonId) {
        let since = self.version + 1;
        self.update(daemon, |local| {
            let voted = local.ballots.is_some() && !local.abstains;
            if voted {
                local.abstains = true;
                local.attachment.since = since;
            }
            voted
        });
    }

    /// `daemon` has not written down in time what it was asked to.
    pub(crate) fn give_up_vote(&mut self, daemon: DaemonId) {
        self.abstain(daemon);
        self.update(daemon, |local| {
            local.is_late = true;
            false
        });
    }

    /// How long `daemon` is given to write down a vote, if whoever has never been late is given `vote`.
    pub(crate) fn patience(&self, daemon: DaemonId, vote: Duration) -> Duration {
        vote * (1 << self.get(daemon).map_or(0, |local| local.lateness))
    }

    /// `daemon` has written down what it was asked to. If others went on without it and are no primary component, there
    /// is to be another change, in which it votes: nothing else might come of which one could be made. That ends, since
    /// it is given more time, and asked again so often only.
    pub(crate) fn wrote(&mut self, daemon: DaemonId) {
        let since = self.version + 1;
        self.update(daemon, |local| {
            if !local.is_late || local.lateness == LATENESS_MAX {
                return false;
            }
            local.is_late = false;
            local.lateness += 1;
            let asks_again = !local.is_primary;
            if asks_again {
                local.abstains = false;
                local.attachment.since = since;
                local.attachment.is_changing = true;
            }
            asks_again
        });
    }

    fn told(&mut self, configuration: &Configuration) -> impl Iterator<Item = &mut Local> {
        self.local.values_mut().filter(|local| local.is_told_of(configuration))
    }

    /// When the first of those whose streams broke has had its time.
    pub(crate) fn first_grace(&self, grace: Duration) -> Option<Time> {
        self.lost().map(|(_, _, since)| since + grace).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use detector::{Doubt, Doubted};
    use model::Boot;

    fn daemon(name: &str, boot: u64) -> DaemonId {
        DaemonId::new(name.parse().unwrap(), Boot::new(boot))
    }

    fn start(boot: u64, number: u64) -> StartId {
        StartId::new(Boot::new(boot), number)
    }

    fn arrival(daemon: DaemonId, last: u64) -> Arrival {
        Arrival {
            daemon,
            address: Address::new("a:1"),
            attempt: 0,
            last_start: Some(start(daemon.boot().number(), last)),
            standing: None,
            is_changing: false,
            ballots: None,
        }
    }

    fn starts(attachments: &mut Attachments, those: &BTreeSet<DaemonId>) -> BTreeMap<DaemonId, StartId> {
        attachments.start(those).into_iter().map(|(daemon, started)| (daemon, started.start)).collect()
    }

    #[test]
    fn numbering_goes_on_where_the_daemon_says() {
        let mut attachments = Attachments::default();
        let (a, b) = (daemon("a", 1), daemon("b", 2));
        attachments.attach(arrival(a, 0), false);
        attachments.attach(arrival(b, 7), false);
        let both = BTreeSet::from([a, b]);
        assert_eq!(starts(&mut attachments, &both), BTreeMap::from([(a, start(1, 1)), (b, start(2, 8))]));
        assert_eq!(starts(&mut attachments, &BTreeSet::from([b])), BTreeMap::from([(b, start(2, 9))]));
        assert_eq!(starts(&mut attachments, &both), BTreeMap::from([(a, start(1, 2)), (b, start(2, 10))]));
    }

    #[test]
    fn a_start_id_that_was_lost_on_the_way_is_not_given_again() {
        let mut attachments = Attachments::default();
        let a = daemon("a", 1);
        attachments.attach(arrival(a, 0), false);
        attachments.start(&BTreeSet::from([a]));
        attachments.attach(arrival(a, 0), false);
        assert_eq!(starts(&mut attachments, &BTreeSet::from([a])), BTreeMap::from([(a, start(1, 2))]));
    }

    #[test]
    fn a_name_is_attached_once() {
        let mut attachments = Attachments::default();
        let (old, new) = (daemon("a", 1), daemon("a", 2));
        assert_eq!(attachments.attach(arrival(old, 0), false), None);
        assert_eq!(attachments.attach(arrival(new, 0), false), Some(old));
        assert!(!attachments.detach(old, Leave::Closed), "the stream of the old life closes late");
        assert_eq!(attachments.row().daemons.into_keys().collect::<BTreeSet<_>>(), BTreeSet::from([new]));
        assert!(attachments.detach(new, Leave::Goodbye));
        assert!(attachments.row().daemons.is_empty());
        let news = attachments.take_news().unwrap();
        assert_eq!(news.daemons[&old], Place::Left(Leave::Superseded));
        assert_eq!(news.daemons[&new], Place::Left(Leave::Goodbye));
        assert_eq!(attachments.take_news(), None);
    }

    #[test]
    fn every_change_makes_a_version() {
        let mut attachments = Attachments::default();
        let a = daemon("a", 1);
        let mut rows = alloc::vec![attachments.row()];
        for _ in 0..2 {
            attachments.attach(arrival(a, 0), true);
            rows.push(attachments.row());
        }
        assert_ne!(rows[1].daemons[&a], rows[2].daemons[&a], "attaching again is a new attachment");
        let report =
            BTreeMap::from([(daemon("b", 1), Doubted { doubt: Doubt::Cut, silent: Duration::ZERO })]);
        assert!(attachments.report(a, report.clone()) && !attachments.report(a, report));
        rows.push(attachments.row());
        assert!(attachments.release(a) && !attachments.release(a));
        rows.push(attachments.row());
        assert!(attachments.lose(Time::ZERO, a, Leave::Closed));
        rows.push(attachments.row());
        attachments.detach(a, Leave::Closed);
        rows.push(attachments.row());
        assert!(rows.is_sorted_by(|x, y| x.version < y.version));
    }

    /// Its stream may have broken between the start change and the configuration, and another one have come.
    #[test]
    fn a_configuration_is_told_on_the_stream_of_its_start_change() {
        let mut attachments = Attachments::default();
        let a = daemon("a", 1);
        attachments.attach(arrival(a, 0), false);
        let configuration = Configuration::new(1, starts(&mut attachments, &BTreeSet::from([a])));
        let mut again = attachments.clone();
        again.attach(arrival(a, 1), false);
        assert_eq!(again.settle(&configuration), BTreeSet::new());
        assert_eq!(attachments.settle(&configuration), BTreeSet::from([a]));
        assert_eq!(attachments.settle(&configuration), BTreeSet::new(), "once");
    }
}
