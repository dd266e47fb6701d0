//! Events of processes, encoded: once, however many processes are told.

use bytes::Bytes;
use gcs_core::ProcessEvent;
use model::{ConfigurationId, ProcessId};
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
        match event {
            ProcessEvent::Message { group, id, view, level, payload } => {
                let message = pb::Message {
                    group: group.to_string(),
                    sender: self.sender.of(id.sender()),
                    number: id.number(),
                    view: Some(pb::GroupViewId {
                        configuration: self.configuration.of(view.configuration),
                        position: view.position,
                    }),
                    payload,
                    level: wire::write_level(level).into(),
                };
                written.push(encoded(pb::event::Event::Message(message)));
            }
            ProcessEvent::Views(views) => {
                written.extend(wire::views(views).into_iter().map(pb::event::Event::Views).map(encoded));
            }
            ProcessEvent::Outcome { number, outcome } => {
                written.push(encoded(pb::event::Event::Outcome(wire::write_outcome(number, outcome))));
            }
        }
    }
}

fn encoded(event: pb::event::Event) -> Bytes {
    pb::Event { event: Some(event) }.encode_to_vec().into()
}
