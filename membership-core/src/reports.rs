//! What daemons say of each other, as bits. A thousand in halves say half a million things, and nearly all of them have
//! said the same when this was asked last: so what is new is found by looking whose report is another one.

use alloc::sync::Arc;
use alloc::vec::Vec;

use detector::{Doubt, Report};
use model::DaemonId;

use crate::census::Seats;
use crate::cliques::Cuts;
use crate::places::Places;

/// The reports of all who are seated.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Reports {
    /// In their order.
    all: Vec<DaemonId>,
    said: Vec<Said>,
    /// Whom those doubt whose streams are whole.
    doubted: Places,
}

/// A report, and the places of those whom it names.
#[derive(Clone, Debug, Hash)]
struct Said {
    report: Arc<Report<DaemonId>>,
    doubted: Places,
    cut: Places,
}

impl Said {
    fn new(report: &Arc<Report<DaemonId>>, by: usize, all: &[DaemonId]) -> Said {
        let (mut doubted, mut cut) = (Places::default(), Places::default());
        let mut left = report.iter().peekable();
        for (place, daemon) in all.iter().enumerate() {
            while left.next_if(|(named, _)| *named < daemon).is_some() {}
            let Some((named, what)) = left.peek() else { break };
            if *named == daemon && place != by {
                doubted.insert(place);
                if what.doubt == Doubt::Cut {
                    cut.insert(place);
                }
            }
        }
        Said { report: Arc::clone(report), doubted, cut }
    }
}

impl Reports {
    /// Takes note of what those say who are seated now.
    pub(crate) fn hear(&mut self, seats: &Seats) {
        let Reports { all, said, doubted } = self;
        if !seats.iter().map(|(daemon, _)| daemon).eq(all.iter().copied()) {
            *all = seats.iter().map(|(daemon, _)| daemon).collect();
            said.clear();
        }
        *doubted = Places::default();
        for (place, (_, seat)) in seats.iter().enumerate() {
            let report = &seat.attachment.report;
            match said.get_mut(place) {
                None => said.push(Said::new(report, place, all)),
                Some(known) if !Arc::ptr_eq(&known.report, report) => *known = Said::new(report, place, all),
                Some(_) => {}
            }
            if seat.attachment.lost.is_none() {
                doubted.extend(&said[place].doubted);
            }
        }
    }

    /// Whether anybody doubts that `daemon`, who is seated, is there.
    pub(crate) fn doubt(&self, daemon: DaemonId) -> bool {
        self.all.binary_search(&daemon).is_ok_and(|place| self.doubted.contains(place))
    }

    /// Who of those for whom `is_there` cannot talk to each other.
    pub(crate) fn cuts(&self, is_there: impl Fn(DaemonId) -> bool) -> Cuts<DaemonId> {
        let there: Places = (0..self.all.len()).filter(|place| is_there(self.all[*place])).collect();
        Cuts::new(self.all.clone(), there, self.said.iter().map(|said| said.cut.clone()).collect())
    }
}
