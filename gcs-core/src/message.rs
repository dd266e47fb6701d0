//! What daemons say to each other. Inside a configuration a member is named by its [`Rank`], since both ends hold the
//! same list of members.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use model::{ConfigurationId, Digest, GroupName, GroupViewId, Level, Name, ProcessId, StartId, Terms};

/// The place of a daemon among the members of a configuration, in the order of their ids, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank(u32);

impl Rank {
    /// The member at `place`.
    pub const fn new(place: u32) -> Rank {
        Rank(place)
    }

    /// The place, as the wire carries it.
    pub const fn place(self) -> u32 {
        self.0
    }

    /// The place, as an index into what is kept by rank.
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    /// Every rank of a configuration with `count` members.
    pub(crate) fn all(count: usize) -> impl Iterator<Item = Rank> + Clone {
        (0..count as u32).map(Rank)
    }
}

/// One message on a link.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// The next entries of the sender's own stream in `configuration`.
    Entries {
        /// Where they belong; the receiver may not have installed it yet.
        configuration: ConfigurationId,
        /// The index of the first of them, from 1.
        first: u64,
        /// The sender's stream has been delivered by every member up to here.
        stable: u64,
        /// The entries, in the order of the stream.
        entries: Vec<Entry>,
    },
    /// The sender stopped, and this is what it had [KK:sync].
    Sync {
        /// The start change that it answers.
        start: StartId,
        /// What the sender had.
        sync: Sync,
    },
    /// Entries of a departed member's stream that the receiver's sync said it lacks [KK:forward].
    Forward {
        /// The configuration that sender and receiver are leaving together.
        configuration: ConfigurationId,
        /// Whose stream.
        origin: Rank,
        /// The index of the first of them.
        first: u64,
        /// The entries, in the order of the stream.
        entries: Vec<Entry>,
    },
    /// How far the sender has come, told from time to time.
    Progress {
        /// The configuration.
        configuration: ConfigurationId,
        /// By rank: the sender has delivered that member's stream up to here.
        delivered: Vec<u64>,
        /// The sender has come to this position in the total order.
        position: u64,
        /// The sender's own stream has been delivered by every member up to here.
        stable: u64,
    },
}

/// What a daemon had when it stopped for a start change. Never changed once sent [KK:sync].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Sync {
    /// To members of the sender's configuration.
    Full {
        /// The sender's configuration.
        configuration: ConfigurationId,
        /// By rank: the sender has every entry of that member's stream up to here [KK:cut].
        cut: Vec<u64>,
    },
    /// To daemons outside the sender's configuration, for whom the cut means nothing [KK:slim-sync].
    Compact {
        /// The sender's configuration.
        configuration: ConfigurationId,
    },
}

impl Sync {
    /// The configuration that the sender was in.
    pub const fn configuration(&self) -> ConfigurationId {
        match self {
            Sync::Full { configuration, .. } | Sync::Compact { configuration } => *configuration,
        }
    }
}

/// One element of a daemon's stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// Something to deliver, at the place that the sequencer gives it.
    Payload(Payload),
    /// Places in the total order, given by the sequencer: run after run.
    Order(Arc<[Run]>),
}

/// "Then the payloads of `origin` that have no place yet, up to index `upto` of its stream."
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    /// Whose stream.
    pub origin: Rank,
    /// The index of the last of them.
    pub upto: u64,
}

/// What a daemon multicasts for its processes, or for itself. A process is named by its connection: the daemon is
/// the owner of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Payload {
    /// A process's message to a group.
    Multicast {
        /// The sending process.
        connection: u32,
        /// Which of its multicasts, from 1.
        number: u64,
        /// To whom.
        group: GroupName,
        /// What.
        bytes: Bytes,
        /// On what terms.
        terms: Terms,
    },
    /// A process joins groups.
    Join {
        /// The process.
        connection: u32,
        /// What it calls itself.
        name: Name,
        /// The groups.
        groups: Arc<[GroupName]>,
    },
    /// A process leaves groups.
    Leave {
        /// The process.
        connection: u32,
        /// The groups.
        groups: Arc<[GroupName]>,
    },
    /// A member of strict groups has stopped: nothing that it sends comes after this before they have changed.
    Stopped {
        /// The process.
        connection: u32,
        /// The groups.
        groups: Arc<[GroupName]>,
    },
    /// A member tells the members of other classes something of its state.
    State {
        /// The process.
        connection: u32,
        /// The group.
        group: GroupName,
        /// The view that brought the classes together.
        view: GroupViewId,
        /// The next part of the state.
        part: Bytes,
        /// With the last part: the class for which the process speaks.
        class: Option<Arc<[ProcessId]>>,
    },
    /// A member has no state to tell yet, in these views of groups.
    Uninformed {
        /// The process.
        connection: u32,
        /// The groups and the views that brought the classes together.
        groups: Arc<[(GroupName, GroupViewId)]>,
    },
    /// A process is gone, and so leaves all its groups.
    Gone {
        /// The process.
        connection: u32,
    },
    /// A part of the group table of the sender's class.
    Table(Table),
}

/// A part of the group table that the daemons of one class hold alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// Some of its rows.
    Rows(Arc<[Row]>),
    /// All rows are sent: they speak for the processes on these daemons.
    End {
        /// The class.
        class: Arc<[Rank]>,
    },
}

/// A process and some of its groups. A process with many groups has several rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    /// The daemon that the process is attached to.
    pub daemon: Rank,
    /// Its connection there.
    pub connection: u32,
    /// What it calls itself.
    pub name: Name,
    /// Groups that it is in.
    pub groups: Arc<[GroupName]>,
    /// The views of those groups of which it is the first member: the place in `groups`, and the view.
    pub views: Arc<[(u32, GroupViewId)]>,
}

/// What an entry or a row costs beside its text and bytes, roughly.
const OVERHEAD: usize = 48;

impl Entry {
    /// Roughly the bytes that it takes on the wire and in memory: for windows and batches.
    pub(crate) fn cost(&self) -> usize {
        match self {
            Entry::Payload(payload) => payload.cost(),
            Entry::Order(runs) => OVERHEAD + runs.len() * size_of::<Run>(),
        }
    }
}

impl Payload {
    /// Roughly the bytes that it takes on the wire and in memory: for windows and batches.
    pub(crate) fn cost(&self) -> usize {
        match self {
            Payload::Multicast { group, bytes, .. } => OVERHEAD + group.as_str().len() + bytes.len(),
            Payload::Join { groups, .. }
            | Payload::Leave { groups, .. }
            | Payload::Stopped { groups, .. } => OVERHEAD + names_cost(groups),
            Payload::Uninformed { groups, .. } => {
                let each =
                    |(group, _): &(GroupName, GroupViewId)| group.as_str().len() + size_of::<GroupViewId>();
                OVERHEAD + groups.iter().map(each).sum::<usize>()
            }
            Payload::State { group, part, class, .. } => {
                let class = class.as_ref().map_or(0, |class| class.len() * size_of::<ProcessId>());
                OVERHEAD + group.as_str().len() + part.len() + class
            }
            Payload::Gone { .. } => OVERHEAD,
            Payload::Table(Table::Rows(rows)) => {
                let views = |row: &Row| row.views.len() * size_of::<GroupViewId>();
                rows.iter().map(|row| OVERHEAD + names_cost(&row.groups) + views(row)).sum()
            }
            Payload::Table(Table::End { class }) => OVERHEAD + class.len() * size_of::<Rank>(),
        }
    }

    /// How surely it must have reached the others when it is delivered.
    pub(crate) fn level(&self) -> Level {
        match self {
            Payload::Multicast { terms, .. } => terms.level,
            Payload::Join { .. }
            | Payload::Leave { .. }
            | Payload::Stopped { .. }
            | Payload::State { .. }
            | Payload::Uninformed { .. }
            | Payload::Gone { .. }
            | Payload::Table(_) => Level::Agreed,
        }
    }

    /// A fingerprint for traces.
    pub(crate) fn digest(&self) -> Digest {
        let tagged = |tag: u8, number: u64| Digest::of(&[tag]).and(&number.to_le_bytes());
        let names = |digest: Digest, names: &[GroupName]| {
            names.iter().fold(digest, |digest, name| digest.and(name.as_str().as_bytes()).and(&[0]))
        };
        match self {
            Payload::Multicast { connection, number, group, bytes, terms: _ } => {
                tagged(1, u64::from(*connection))
                    .and(&number.to_le_bytes())
                    .and(group.as_str().as_bytes())
                    .and(&[0])
                    .and(bytes)
            }
            Payload::Join { connection, groups, .. } => names(tagged(2, u64::from(*connection)), groups),
            Payload::Leave { connection, groups } => names(tagged(3, u64::from(*connection)), groups),
            Payload::Stopped { connection, groups } => names(tagged(7, u64::from(*connection)), groups),
            Payload::State { connection, group, part, .. } => {
                tagged(8, u64::from(*connection)).and(group.as_str().as_bytes()).and(&[0]).and(part)
            }
            Payload::Uninformed { connection, groups } => {
                groups.iter().fold(tagged(9, u64::from(*connection)), |digest, (group, _)| {
                    digest.and(group.as_str().as_bytes()).and(&[0])
                })
            }
            Payload::Gone { connection } => tagged(4, u64::from(*connection)),
            Payload::Table(Table::Rows(rows)) => rows.iter().fold(tagged(5, 0), |digest, row| {
                let digest = digest.and(&row.daemon.0.to_le_bytes()).and(&row.connection.to_le_bytes());
                names(digest, &row.groups)
            }),
            Payload::Table(Table::End { class }) => {
                class.iter().fold(tagged(6, 0), |digest, rank| digest.and(&rank.0.to_le_bytes()))
            }
        }
    }
}

/// Roughly the bytes of a list of group names.
pub(crate) fn names_cost(groups: &[GroupName]) -> usize {
    groups.iter().map(|group| group.as_str().len() + 4).sum()
}
