//! Which daemons hold the same group table as we do, and how tables that differ are merged.
//!
//! A daemon's *class* is the set of daemons that are known to hold the same table, because they have applied the same
//! events to the same table. On an install the class shrinks to those that came along: the rest of the table's
//! daemons are taken out at once, and the views that follow are told, without a message. If the class is the whole
//! configuration then, all is well. Otherwise the lowest-ranked daemon of each class multicasts the class's table,
//! and once every class has spoken each daemon takes in the tables of the others; now the configuration is one class.
//! These are payloads of the total order, so all that leave the configuration together agree on whether the exchange
//! was finished in it. If it was not, nothing has happened to the tables: the class is still known, and the next
//! install starts from there.
//!
//! Until the exchange is finished a daemon casts nothing but its table. Whatever else is cast in the configuration
//! has then been cast by a daemon that had delivered all tables, and comes after them in the order: there is never
//! anything to set aside. Processes' requests wait in their daemon for these few message delays, which happen when
//! daemons join, never when they fail.
//!
//! Classes are relative to one's own history. A daemon that was away and comes back within one configuration is taken
//! out and then taken in again, as it must be: it has missed messages.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

use model::DaemonId;

use crate::fault::PeerFault;
use crate::message::{Rank, Row, Table};

/// Whether the tables of the configuration are the same.
#[derive(Clone, Debug, Hash)]
enum Tables {
    Alike,
    Differ(Exchange),
}

/// What has been said so far.
#[derive(Clone, Debug, Hash)]
struct Exchange {
    /// For these daemons nobody has spoken yet.
    missing: BTreeSet<Rank>,
    /// Rows by their sender, whose class is not known yet.
    open: BTreeMap<Rank, Vec<Arc<[Row]>>>,
    /// Rows of other classes that have spoken.
    foreign: Vec<Arc<[Row]>>,
    /// What we are still to say, if we speak for our class.
    unsaid: VecDeque<Table>,
}

/// Our class, and the exchange if one is going on.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Classes {
    class: BTreeSet<DaemonId>,
    tables: Tables,
}

/// What a part of a table led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Others are still to speak.
    Wait,
    /// Every class has spoken. Here is what the others know.
    Merge(Vec<Arc<[Row]>>),
}

impl Classes {
    pub(crate) fn new(me: DaemonId) -> Classes {
        Classes { class: [me].into(), tables: Tables::Alike }
    }

    /// The daemons that hold the same table as we do.
    pub(crate) fn class(&self) -> &BTreeSet<DaemonId> {
        &self.class
    }

    /// Whether tables are being exchanged, so that nothing else may be cast.
    pub(crate) fn exchanging(&self) -> bool {
        matches!(self.tables, Tables::Differ(_))
    }

    /// The configuration of `members` is installed, and `transitional` came along. Returns the ranks of our class,
    /// in order: the first of them speaks for it.
    pub(crate) fn install(&mut self, members: &[DaemonId], transitional: &BTreeSet<DaemonId>) -> Arc<[Rank]> {
        self.class.retain(|daemon| transitional.contains(daemon));
        let ranks = Rank::all(members.len());
        let class: Arc<[Rank]> =
            ranks.clone().zip(members).filter(|(_, m)| self.class.contains(m)).map(|(r, _)| r).collect();
        self.tables = if class.len() == members.len() {
            Tables::Alike
        } else {
            Tables::Differ(Exchange {
                missing: ranks.collect(),
                open: BTreeMap::new(),
                foreign: Vec::new(),
                unsaid: VecDeque::new(),
            })
        };
        class
    }

    /// We speak for our class, and this is what we have to say.
    pub(crate) fn say(&mut self, parts: Vec<Table>) {
        if let Tables::Differ(exchange) = &mut self.tables {
            exchange.unsaid = parts.into();
        }
    }

    /// The next part of our table to cast.
    pub(crate) fn next_part(&mut self) -> Option<Table> {
        match &mut self.tables {
            Tables::Alike => None,
            Tables::Differ(exchange) => exchange.unsaid.pop_front(),
        }
    }

    /// A part of `sender`'s table was delivered, in the configuration of `members`.
    pub(crate) fn told(
        &mut self,
        sender: Rank,
        table: Table,
        members: &[DaemonId],
    ) -> Result<Told, PeerFault> {
        let Tables::Differ(exchange) = &mut self.tables else {
            return Err(PeerFault::WrongTable);
        };
        let class = match table {
            Table::Rows(rows) => {
                exchange.open.entry(sender).or_default().push(rows);
                return Ok(Told::Wait);
            }
            Table::End { class } => class,
        };
        let rows = exchange.open.remove(&sender).unwrap_or_default();
        let spoken_for: BTreeSet<Rank> = class.iter().copied().collect();
        let within = rows.iter().flat_map(|part| part.iter()).all(|row| spoken_for.contains(&row.daemon));
        if !within || !spoken_for.contains(&sender) || !spoken_for.is_subset(&exchange.missing) {
            return Err(PeerFault::WrongTable);
        }
        exchange.missing.retain(|rank| !spoken_for.contains(rank));
        let ours = members.get(sender.index()).is_some_and(|daemon| self.class.contains(daemon));
        if !ours {
            exchange.foreign.extend(rows);
        }
        if !exchange.missing.is_empty() {
            return Ok(Told::Wait);
        }
        let foreign = core::mem::take(&mut exchange.foreign);
        self.class = members.iter().copied().collect();
        self.tables = Tables::Alike;
        Ok(Told::Merge(foreign))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Boot, GroupName};

    fn daemons(names: &str) -> Vec<DaemonId> {
        names.split_whitespace().map(|name| DaemonId::new(name.parse().unwrap(), Boot::new(1))).collect()
    }

    fn set(names: &str) -> BTreeSet<DaemonId> {
        daemons(names).into_iter().collect()
    }

    fn ranks(ranks: &[u32]) -> Arc<[Rank]> {
        ranks.iter().copied().map(Rank::new).collect()
    }

    fn rows(daemon: u32) -> Arc<[Row]> {
        let groups = [GroupName::new("g").unwrap()].into();
        [Row {
            daemon: Rank::new(daemon),
            connection: 1,
            name: "x".parse().unwrap(),
            groups,
            views: [].into(),
        }]
        .into()
    }

    /// Daemon `a` in one class with `b` and `c`.
    fn abc() -> Classes {
        Classes { class: set("a b c"), tables: Tables::Alike }
    }

    #[test]
    fn a_failure_needs_no_exchange() {
        let mut classes = abc();
        assert_eq!(classes.install(&daemons("a c"), &set("a c")), ranks(&[0, 1]));
        assert!(!classes.exchanging());
        assert_eq!(classes.class(), &set("a c"));
    }

    #[test]
    fn a_merge_is_done_once_every_class_has_spoken() {
        let mut classes = abc();
        let members = daemons("a b d e");
        assert_eq!(classes.install(&members, &set("a b")), ranks(&[0, 1]));
        assert!(classes.exchanging());
        let mut told = |sender, table| classes.told(Rank::new(sender), table, &members);
        assert_eq!(told(0, Table::Rows(rows(0))), Ok(Told::Wait));
        assert_eq!(told(2, Table::Rows(rows(3))), Ok(Told::Wait));
        assert_eq!(told(2, Table::End { class: ranks(&[2, 3]) }), Ok(Told::Wait));
        let merged = told(0, Table::End { class: ranks(&[0, 1]) });
        assert_eq!(merged, Ok(Told::Merge([rows(3)].into())), "our own rows are known");
        assert_eq!(classes.class(), &set("a b d e"));
        assert_eq!(classes.told(Rank::new(0), Table::Rows(rows(0)), &members), Err(PeerFault::WrongTable));
    }

    #[test]
    fn an_unfinished_exchange_leaves_the_class_as_it_was() {
        let mut classes = abc();
        let members = daemons("a b d");
        classes.install(&members, &set("a b"));
        classes.told(Rank::new(2), Table::End { class: ranks(&[2]) }, &members).unwrap();
        // The view shrinks to a and d: they came along, yet their tables differ.
        assert_eq!(classes.install(&daemons("a d"), &set("a d")), ranks(&[0]));
        assert!(classes.exchanging());
    }

    #[test]
    fn nobody_speaks_for_another_class_or_twice() {
        let mut classes = abc();
        let members = daemons("a b d");
        classes.install(&members, &set("a b"));
        let mut told = |sender, table| classes.told(Rank::new(sender), table, &members);
        let wrong = Err(PeerFault::WrongTable);
        assert_eq!(told(2, Table::End { class: ranks(&[0]) }), wrong);
        assert_eq!(told(2, Table::End { class: ranks(&[2, 9]) }), wrong);
        told(2, Table::Rows(rows(1))).unwrap();
        assert_eq!(told(2, Table::End { class: ranks(&[2]) }), wrong, "rows about another class");
        assert_eq!(told(2, Table::End { class: ranks(&[2]) }), Ok(Told::Wait));
        assert_eq!(told(2, Table::End { class: ranks(&[2]) }), wrong);
    }
}
