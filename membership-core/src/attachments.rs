//! The daemons attached to this server, one under each name, and the start ids that they are given.
//!
//! Invariant: the start ids of a daemon increase, also across servers, since a daemon that attaches says which one it
//! was told last [Moshe:fail-over].

use alloc::collections::{BTreeMap, BTreeSet};

use model::{Address, DaemonId, Name, StartId};

use crate::message::{Attachment, Row};

#[derive(Clone, Default, Hash)]
pub(crate) struct Attachments {
    version: u64,
    local: BTreeMap<Name, Local>,
}

#[derive(Clone, Hash)]
struct Local {
    daemon: DaemonId,
    attachment: Attachment,
    last_start: StartId,
}

impl Attachments {
    /// Attaches `daemon` in place of whoever had its name, and returns who that was.
    pub(crate) fn attach(&mut self, daemon: DaemonId, address: Address, after: StartId) -> Option<DaemonId> {
        self.version += 1;
        let attachment = Attachment { address, after, since: self.version };
        let replaced = self.local.remove(&daemon.name());
        let unheard = replaced.as_ref().filter(|old| old.daemon == daemon).map(|old| old.last_start);
        let last_start = unheard.map_or(after, |start| start.max(after));
        self.local.insert(daemon.name(), Local { daemon, attachment, last_start });
        replaced.map(|old| old.daemon)
    }

    /// Whether `daemon` was attached until this call.
    pub(crate) fn detach(&mut self, daemon: DaemonId) -> bool {
        let attached = self.local.get(&daemon.name()).is_some_and(|local| local.daemon == daemon);
        if attached {
            self.local.remove(&daemon.name());
            self.version += 1;
        }
        attached
    }

    /// What the other servers are to know.
    pub(crate) fn row(&self) -> Row {
        let daemons = self.local.values().map(|local| (local.daemon, local.attachment.clone())).collect();
        Row { version: self.version, daemons }
    }

    /// The next start id of each daemon of `those` that is attached.
    pub(crate) fn start(&mut self, those: &BTreeSet<DaemonId>) -> BTreeMap<DaemonId, StartId> {
        let started = self.local.values_mut().filter(|local| those.contains(&local.daemon));
        started
            .map(|local| {
                local.last_start = local.last_start.next();
                (local.daemon, local.last_start)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Boot;

    fn daemon(name: &str, boot: u64) -> DaemonId {
        DaemonId::new(name.parse().unwrap(), Boot::new(boot))
    }

    fn start(boot: u64, number: u64) -> StartId {
        StartId::new(Boot::new(boot), number)
    }

    #[test]
    fn numbering_goes_on_where_the_daemon_says() {
        let mut attachments = Attachments::default();
        let (a, b) = (daemon("a", 1), daemon("b", 2));
        attachments.attach(a, Address::new("a:1"), start(1, 0));
        attachments.attach(b, Address::new("b:1"), start(2, 7));
        let both = BTreeSet::from([a, b]);
        assert_eq!(attachments.start(&both), BTreeMap::from([(a, start(1, 1)), (b, start(2, 8))]));
        assert_eq!(attachments.start(&BTreeSet::from([b])), BTreeMap::from([(b, start(2, 9))]));
        assert_eq!(attachments.start(&both), BTreeMap::from([(a, start(1, 2)), (b, start(2, 10))]));
    }

    #[test]
    fn a_start_id_that_was_lost_on_the_way_is_not_given_again() {
        let mut attachments = Attachments::default();
        let a = daemon("a", 1);
        attachments.attach(a, Address::new("a:1"), start(1, 0));
        attachments.start(&BTreeSet::from([a]));
        attachments.attach(a, Address::new("a:1"), start(1, 0));
        assert_eq!(attachments.start(&BTreeSet::from([a])), BTreeMap::from([(a, start(1, 2))]));
    }

    #[test]
    fn a_name_is_attached_once() {
        let mut attachments = Attachments::default();
        let (old, new) = (daemon("a", 1), daemon("a", 2));
        assert_eq!(attachments.attach(old, Address::new("a:1"), start(1, 0)), None);
        assert_eq!(attachments.attach(new, Address::new("a:2"), start(2, 0)), Some(old));
        assert!(!attachments.detach(old), "the stream of the old life closes late");
        assert_eq!(attachments.row().daemons.into_keys().collect::<BTreeSet<_>>(), BTreeSet::from([new]));
        assert!(attachments.detach(new));
        assert!(attachments.row().daemons.is_empty());
    }

    #[test]
    fn every_change_shows_in_the_row() {
        let mut attachments = Attachments::default();
        let a = daemon("a", 1);
        let mut rows = alloc::vec![attachments.row()];
        for _ in 0..2 {
            attachments.attach(a, Address::new("a:1"), start(1, 0));
            rows.push(attachments.row());
        }
        attachments.detach(a);
        rows.push(attachments.row());
        assert!(rows.is_sorted_by(|x, y| x.version < y.version));
        assert_ne!(rows[1].daemons[&a], rows[2].daemons[&a], "attaching again is a new attachment");
    }
}
