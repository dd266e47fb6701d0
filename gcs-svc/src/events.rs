//! Events of processes, encoded: once, however many processes are told.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use gcs_core::ProcessEvent;
use model::{ConfigurationId, GroupName, GroupView, ProcessId};
use prost::Message as _;
use prost::encoding::{self, WireType};
use proto::gcs::v1 as pb;

use crate::wire;

/// The views of one step go out in events of about this many bytes.
const VIEWS_BYTES: usize = 256 * 1024;

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
                return write_views(views, written);
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
            ProcessEvent::Primary(primary) => Event::Primary(pb::Primary { primary }),
            ProcessEvent::Configuration(it) => Event::Configuration(wire::configuration(&it)),
        };
        written.push(encoded(event));
    }
}

/// Each view is forgotten as soon as it is written: there may be very many.
fn write_views(views: Vec<Arc<GroupView>>, written: &mut Vec<Bytes>) {
    const VIEWS: u32 = 1;
    const CONTINUED: u32 = 2;
    let mut body = BytesMut::new();
    let mut views = views.into_iter().peekable();
    while let Some(view) = views.next() {
        encoding::message::encode(VIEWS, &wire::group_view(&view), &mut body);
        if body.len() >= VIEWS_BYTES && views.peek().is_some() {
            encoding::bool::encode(CONTINUED, &true, &mut body);
            written.push(views_event(&body));
            body.clear();
        }
    }
    written.push(views_event(&body));
}

/// An event with these views.
fn views_event(body: &[u8]) -> Bytes {
    const VIEWS: u32 = 1;
    let mut event = BytesMut::with_capacity(body.len() + 2 * encoding::encoded_len_varint(u64::MAX));
    encoding::encode_key(VIEWS, WireType::LengthDelimited, &mut event);
    encoding::encode_varint(body.len() as u64, &mut event);
    event.put(body);
    event.freeze()
}

fn encoded(event: pb::event::Event) -> Bytes {
    pb::Event { event: Some(event) }.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use model::{GroupName, GroupViewId, Member};

    use super::*;

    fn view(group: &str) -> Arc<GroupView> {
        let process: ProcessId = "m-1#7/1".parse().unwrap();
        Arc::new(GroupView {
            group: GroupName::new(group).unwrap(),
            id: GroupViewId { configuration: ConfigurationId::new(4, 0xbeef), position: 2 },
            members: vec![Member { process, name: "s".parse().unwrap() }],
            joined: vec![process],
            left: vec!["m-3#9/1".parse().unwrap()],
            transitional: Vec::new(),
            primary: false,
        })
    }

    #[test]
    fn very_many_views_go_out_in_parts_that_fit_a_message_and_none_is_changed() {
        for count in [0, 1, 5000] {
            let all: Vec<_> =
                (0..count).map(|number| view(&format!("session/film-1/{number:032}"))).collect();
            let mut written = Vec::new();
            Writer::default().write(ProcessEvent::Views(all.clone()), &mut written);
            assert_eq!(written.len() > 1, count > 1);
            let mut read = Vec::new();
            for (place, event) in written.iter().enumerate() {
                assert!(event.len() < 2 * VIEWS_BYTES);
                let event = pb::Event::decode(event.clone()).unwrap().event;
                let Some(pb::event::Event::Views(part)) = event else { panic!("not views") };
                assert_eq!(part.continued, place + 1 < written.len());
                read.extend(part.views);
            }
            assert!(read.into_iter().eq(all.iter().map(|view| wire::group_view(view))));
        }
    }

    #[test]
    fn ids_are_spelt_as_ever_whichever_came_before() {
        let mut spelling = Spelling::default();
        for text in ["m-1#7/1", "m-1#7/1", "m-2#7/1", "m-1#7/1"] {
            let id: ProcessId = text.parse().unwrap();
            assert_eq!(spelling.of(id), text);
        }
    }
}
