//! Which units there are: every server keeps what every member of the service group says it holds [FK:service-group].

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use model::{GroupView, Name, ProcessId, UnitId};

use crate::service::UnitInfo;

/// The units of all servers, at one server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalogue {
    members: Vec<ProcessId>,
    names: BTreeMap<Name, ProcessId>,
    held: BTreeMap<ProcessId, Vec<UnitInfo>>,
}

impl Catalogue {
    /// A view of the service group. Returns whether somebody is new and has to be told what everybody holds.
    pub(crate) fn on_view(&mut self, view: &GroupView) -> bool {
        self.members = view.members.iter().map(|member| member.process).collect();
        self.names = view.members.iter().map(|member| (member.name, member.process)).collect();
        self.held.retain(|server, _| self.members.contains(server));
        !view.joined.is_empty()
    }

    /// The server of this name.
    pub(crate) fn named(&self, name: Name) -> Option<ProcessId> {
        self.names.get(&name).copied()
    }

    /// `server` says what it holds.
    pub(crate) fn on_holds(&mut self, server: ProcessId, units: Vec<UnitInfo>) {
        if self.members.contains(&server) {
            self.held.insert(server, units);
        }
    }

    /// Whether every member has said what it holds. A newcomer that answers before that would deny what there is.
    pub(crate) fn is_complete(&self) -> bool {
        self.members.iter().all(|member| self.held.contains_key(member))
    }

    /// Whose turn it is to answer question `query`: another member for each, so that a dead one is not asked twice.
    pub(crate) fn answerer(&self, query: u64) -> Option<ProcessId> {
        let count = self.members.len() as u64;
        let turn = query.checked_rem(count)?;
        self.members.get(usize::try_from(turn).ok()?).copied()
    }

    /// All units that some server holds, by id, each in the latest edition that anybody says.
    pub(crate) fn units(&self) -> Vec<UnitInfo> {
        let mut latest = BTreeMap::<&UnitId, &UnitInfo>::new();
        for info in self.held.values().flatten() {
            let known = latest.entry(&info.unit).or_insert(info);
            if known.edition < info.edition {
                *known = info;
            }
        }
        latest.into_values().cloned().collect()
    }
}
