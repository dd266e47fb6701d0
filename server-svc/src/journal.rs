//! What happened to the sessions on the units held here, the last of it, for operators who ask why. The lock is held to
//! write a line and to read a page, never while anybody waits.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::{GroupViewId, Name, SessionId, Time, UnitId};
use proto::server::v1 as pb;
use session_core::{Happening, Why};
use svc_kit::status::bad_field;
use tonic::Status;

use crate::sessions::page_size;
use crate::wire;

/// So many events are remembered.
const EVENTS_MAX: usize = 16384;

/// A session on a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) unit: UnitId,
    pub(crate) session: SessionId,
}

/// The last events, the oldest first.
pub(crate) struct Journal {
    /// Who writes it.
    server: Name,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    /// How many came before the oldest one here.
    forgotten: u64,
    events: VecDeque<Entry>,
}

/// An event as it came: it is put into words when somebody asks, which hardly anybody does.
struct Entry {
    of: Subject,
    time: Time,
    /// Where it was in the order of the content group.
    place: (GroupViewId, u64),
    happening: Happening,
}

impl Journal {
    pub(crate) fn new(server: Name) -> Journal {
        Journal { server, entries: Mutex::default() }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened to a session.
    pub(crate) fn write(&self, time: Time, of: Subject, place: (GroupViewId, u64), happening: Happening) {
        let mut entries = self.entries();
        if entries.events.len() == EVENTS_MAX {
            entries.events.pop_front();
            entries.forgotten += 1;
        }
        entries.events.push_back(Entry { of, time, place, happening });
    }

    /// A page of what is remembered of a session; nothing if that is nothing. Page tokens are numbers of events.
    pub(crate) fn page(
        &self,
        request: &pb::ListSessionEventsRequest,
    ) -> Result<Option<pb::ListSessionEventsResponse>, Status> {
        let (unit, session) = wire::session_of_any("parent", &request.parent)?;
        let size = page_size(request.page_size)?;
        let from = match request.page_token.as_str() {
            "" => 0,
            token => token.parse().map_err(|_| bad_field("page_token", "is malformed"))?,
        };
        let is_meant =
            |of: &Subject| of.session == session && unit.as_ref().is_none_or(|unit| *unit == of.unit);
        let entries = self.entries();
        let numbered = (entries.forgotten..).zip(&entries.events);
        let mut found = numbered.filter(|(number, it)| *number >= from && is_meant(&it.of)).peekable();
        if from == 0 && found.peek().is_none() {
            return Ok(None);
        }
        let events = found.by_ref().take(size).map(|(_, entry)| told(self.server, entry)).collect();
        let next_page_token = found.next().map(|(number, _)| number.to_string()).unwrap_or_default();
        Ok(Some(pb::ListSessionEventsResponse { events, next_page_token }))
    }
}

/// An event in words.
fn told(server: Name, Entry { time, place: (view, position), happening, .. }: &Entry) -> pb::SessionEvent {
    pb::SessionEvent {
        time: Some(wire::timestamp(*time)),
        place: format!("{view}/{position}"),
        ..event(server, happening)
    }
}

/// The event, without its time and place.
fn event(server: Name, happening: &Happening) -> pb::SessionEvent {
    use pb::SessionEventKind as Kind;
    let text = |name: Option<Name>| name.map(|name| name.to_string()).unwrap_or_default();
    let plain = |kind: Kind| pb::SessionEvent { kind: kind.into(), ..pb::SessionEvent::default() };
    match happening {
        Happening::Opened { gateway } => pb::SessionEvent { to: gateway.to_string(), ..plain(Kind::Opened) },
        Happening::Rebuilt { gateway } => {
            pb::SessionEvent { to: gateway.to_string(), ..plain(Kind::Rebuilt) }
        }
        Happening::Learned => plain(Kind::Learned),
        Happening::Appointed { from, to, fence, why } => pb::SessionEvent {
            reason: reason(*why).into(),
            from: text(*from),
            to: text(*to),
            fence: fence.to_string(),
            ..plain(Kind::Primary)
        },
        Happening::Backed { backups } => pb::SessionEvent {
            backups: backups.iter().map(Name::to_string).collect(),
            ..plain(Kind::Backups)
        },
        Happening::Attached { from, to } => {
            pb::SessionEvent { from: from.to_string(), to: to.to_string(), ..plain(Kind::Gateway) }
        }
        Happening::Served { responses, attached } => {
            let client = if *attached { pb::ClientState::Attached } else { pb::ClientState::Detached };
            pb::SessionEvent {
                to: server.to_string(),
                responses: *responses,
                client: client.into(),
                ..plain(Kind::Serving)
            }
        }
        Happening::ClientCame => plain(Kind::Attached),
        Happening::ClientLeft => plain(Kind::Detached),
        Happening::Closed => plain(Kind::Closed),
        Happening::Expired => plain(Kind::Expired),
        Happening::Dismissed => plain(Kind::Dismissed),
        Happening::Failed => plain(Kind::Failed),
    }
}

fn reason(why: Why) -> pb::HandoverReason {
    match why {
        Why::Vacant => pb::HandoverReason::Vacant,
        Why::Lost => pb::HandoverReason::Lost,
        Why::Drained => pb::HandoverReason::Drained,
        Why::Unable => pb::HandoverReason::Unable,
        Why::Ordered => pb::HandoverReason::Ordered,
        Why::Balance => pb::HandoverReason::Balance,
        Why::Stalled => pb::HandoverReason::Stalled,
        Why::Merged => pb::HandoverReason::Merged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(session: u128, page_size: i32, page_token: &str) -> pb::ListSessionEventsRequest {
        let parent = format!("contentUnits/life/sessions/{}", SessionId::new(session));
        pb::ListSessionEventsRequest { parent, page_size, page_token: page_token.into() }
    }

    fn write(journal: &Journal, session: u128, happening: Happening) {
        let of = Subject { unit: UnitId::new("life").unwrap(), session: SessionId::new(session) };
        journal.write(Time::ZERO, of, (GroupViewId::NONE, 7), happening);
    }

    #[test]
    fn the_events_of_a_session_are_told_in_pages() {
        let journal = Journal::new("server-1".parse().unwrap());
        for happening in [Happening::Learned, Happening::ClientCame, Happening::Closed] {
            write(&journal, 1, happening);
            write(&journal, 2, Happening::Expired);
        }
        let first = journal.page(&ask(1, 2, "")).unwrap().unwrap();
        assert_eq!(first.events.len(), 2);
        let second = journal.page(&ask(1, 2, &first.next_page_token)).unwrap().unwrap();
        let kinds: Vec<_> = second.events.iter().map(pb::SessionEvent::kind).collect();
        assert_eq!((kinds, second.next_page_token.as_str()), (vec![pb::SessionEventKind::Closed], ""));
        let anywhere = pb::ListSessionEventsRequest {
            parent: ask(1, 0, "").parent.replace("life", "-"),
            ..ask(1, 0, "")
        };
        assert_eq!(journal.page(&anywhere).unwrap().unwrap().events.len(), 3);
        assert_eq!(journal.page(&ask(3, 0, "")).unwrap(), None);
        assert!(journal.page(&ask(1, 0, "next")).is_err());
        assert!(journal.page(&ask(1, 1001, "")).is_err());
    }

    #[test]
    fn the_oldest_events_are_forgotten() {
        let journal = Journal::new("server-1".parse().unwrap());
        write(&journal, 1, Happening::Learned);
        (0..EVENTS_MAX - 1).for_each(|_| write(&journal, 2, Happening::ClientCame));
        assert!(journal.page(&ask(1, 0, "")).unwrap().is_some());
        let token = journal.page(&ask(2, 1000, "")).unwrap().unwrap().next_page_token;
        write(&journal, 2, Happening::ClientLeft);
        assert_eq!(journal.page(&ask(1, 0, "")).unwrap(), None);
        assert_eq!(journal.page(&ask(2, 1, &token)).unwrap().unwrap().next_page_token, "1002");
    }
}
