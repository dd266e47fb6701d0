//! Events of processes, encoded: once, however many processes are told.

use bytes::Bytes;
use gcs_core::ProcessEvent;
use model::{ConfigurationId, GroupName, ProcessId};
use prost::Message as _;
use proto::gcs::v1 as pb;

use crate::wire;

/// Writes events. It remembers how the ids are spelt that came last, since many messages in a row share them.
#[derive(Debug, Default)]
pub struct Writer {
    sender: Spelling<ProcessId>,
    configuration: Spelling<ConfigurationId>,
}

#[derive(Debug)]
struct Spelling<T>(Option<(T, String)>);

impl<T> Default for Spelling<T> {
    fn default() -> Spelling<T> {
        Spelling(None)
    }
}

impl<T: Copy + PartialEq + ToString> Spelling<T> {
    fn of(&mut self, id: T) -> String {
        match &self.0 {
            Some((known, text)) if *known == id => text.clone(),
            Some(_) | None => {
                let text = id.to_string();
                self.0 = Some((id, text.clone()));
                text
            }
        }
    }
}

impl Writer {
    /// Adds an event to `written`: several in place of one that has very many views.
    pub fn write(&mut self, event: ProcessEvent, written: &mut Vec<Bytes>) {
        use pb::event::Event;
        let named = |group: GroupName, view| (group.to_string(), Some(wire::group_view_id(view)));
        let event = match event {
            ProcessEvent::Views(views) => {
                return written.extend(wire::views(views).into_iter().map(Event::Views).map(encoded));
            }
            ProcessEvent::Message { group, id, view, level, payload } => {
                let view = pb::GroupViewId {
                    configuration: self.configuration.of(view.configuration),
                    position: view.position,
                };
                let (group, sender, view) = (group.to_string(), self.sender.of(id.sender()), Some(view));
                let (number, level) = (id.number(), wire::write_level(level).into());
                Event::Message(pb::Message { group, sender, number, view, payload, level })
            }
            ProcessEvent::Outcome { number, outcome } => Event::Outcome(wire::write_outcome(number, outcome)),
            ProcessEvent::Block(groups) => Event::Block(pb::Block { groups: wire::texts(&groups) }),
            ProcessEvent::Unblock(groups) => Event::Unblock(pb::Unblock { groups: wire::texts(&groups) }),
            ProcessEvent::StateWanted { group, view } => {
                let (group, view) = named(group, view);
                Event::StateWanted(pb::StateWanted { group, view })
            }
            ProcessEvent::State { group, view, from, part, last } => {
                let ((group, view), from) = (named(group, view), from.to_string());
                Event::State(pb::State { group, view, from, part, last })
            }
            ProcessEvent::UpToDate { group, view } => {
                let (group, view) = named(group, view);
                Event::UpToDate(pb::UpToDate { group, view })
            }
            ProcessEvent::Configuration(it) => Event::Configuration(wire::configuration(&it)),
        };
        written.push(encoded(event));
    }
}

fn encoded(event: pb::event::Event) -> Bytes {
    pb::Event { event: Some(event) }.encode_to_vec().into()
}
