//! The last step into a primary component, with dynamic voting: it is told to nobody before all who vote have written
//! down that it may be one. Servers tell each other who has.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use model::{Configuration, ConfigurationId, DaemonId, Time};

#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Attempts {
    pending: Option<Pending>,
    /// What each daemon has written down last.
    written: BTreeMap<DaemonId, ConfigurationId>,
}

/// What servers agreed on, and daemons were not told yet.
#[derive(Clone, Debug, Hash)]
struct Pending {
    since: Time,
    configurations: Vec<Configuration>,
    /// Who has to write down what.
    awaited: BTreeMap<DaemonId, ConfigurationId>,
}

impl Attempts {
    /// Servers agreed on `configurations`.
    pub(crate) fn begin(
        &mut self,
        now: Time,
        configurations: Vec<Configuration>,
        awaited: BTreeMap<DaemonId, ConfigurationId>,
    ) {
        self.pending = Some(Pending { since: now, configurations, awaited });
    }

    /// Another change began: daemons are told none of what servers agreed on before.
    pub(crate) fn give_up(&mut self) {
        self.pending = None;
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// What of this is news: the greater of two is the newer.
    pub(crate) fn note(
        &mut self,
        written: impl Iterator<Item = (DaemonId, ConfigurationId)>,
    ) -> BTreeMap<DaemonId, ConfigurationId> {
        let news = written.filter(|(daemon, id)| self.written.get(daemon).is_none_or(|known| known < id));
        let news: BTreeMap<_, _> = news.collect();
        self.written.extend(&news);
        news
    }

    /// What is known, for a server that may have missed some of it.
    pub(crate) fn known(&self) -> &BTreeMap<DaemonId, ConfigurationId> {
        &self.written
    }

    /// Forgets all others.
    pub(crate) fn retain(&mut self, those: impl Fn(DaemonId) -> bool) {
        self.written.retain(|daemon, _| those(*daemon));
    }

    /// Who has still to write, and since when that is waited for.
    pub(crate) fn missing(&self) -> impl Iterator<Item = (DaemonId, Time)> {
        self.pending.iter().flat_map(|pending| {
            let is_missing =
                |(daemon, id): &(&DaemonId, &ConfigurationId)| self.written.get(*daemon) != Some(*id);
            pending.awaited.iter().filter(is_missing).map(|(daemon, _)| (*daemon, pending.since))
        })
    }

    /// The configurations to tell, in the moment in which all have written.
    pub(crate) fn complete(&mut self) -> Option<Vec<Configuration>> {
        if self.missing().next().is_some() {
            return None;
        }
        self.pending.take().map(|pending| pending.configurations)
    }
}
