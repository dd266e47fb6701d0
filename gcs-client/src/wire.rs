//! Between the generated types of the group communication service and those of a process.

use std::str::FromStr;

use model::{
    ConfigurationId, GroupName, GroupView, GroupViewId, Level, Member, MessageId, Outcome, ProcessId,
};
use proto::gcs::v1 as pb;

use crate::{Command, Event};

/// The daemon said something that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is missing or malformed")]
pub(crate) struct Malformed {
    field: &'static str,
}

pub(crate) fn command(command: Command) -> pb::Command {
    let texts = |groups: Vec<GroupName>| groups.iter().map(GroupName::to_string).collect();
    let command = match command {
        Command::Join(groups) => pb::command::Command::Join(pb::Join { groups: texts(groups) }),
        Command::Leave(groups) => pb::command::Command::Leave(pb::Leave { groups: texts(groups) }),
        Command::Blocked(groups) => pb::command::Command::Blocked(pb::Blocked { groups: texts(groups) }),
        Command::State { group, view, part, last } => {
            let (group, view) = (group.to_string(), Some(write_group_view_id(view)));
            pb::command::Command::State(pb::TellState { group, view, part, last })
        }
        Command::Multicast { group, payload, terms } => {
            let level = match terms.level {
                Level::Agreed => pb::Level::Agreed,
                Level::Safe => pb::Level::Safe,
            };
            pb::command::Command::Multicast(pb::Multicast {
                group: group.to_string(),
                payload,
                level: level.into(),
                only_in: terms.only_in.map(write_group_view_id),
                report: terms.report,
            })
        }
    };
    pb::Command { command: Some(command) }
}

/// Reads events. A step's views may come in several parts: those of an unfinished one wait here.
///
/// It remembers what was read last, since many messages in a row share their group, sender and configuration.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    unfinished: Vec<GroupView>,
    group: Last<GroupName>,
    sender: Last<ProcessId>,
    configuration: Last<ConfigurationId>,
}

/// What was read last, and how it was spelt.
#[derive(Debug)]
struct Last<T>(Option<(String, T)>);

impl<T> Default for Last<T> {
    fn default() -> Last<T> {
        Last(None)
    }
}

impl<T: Clone> Last<T> {
    fn read<E>(&mut self, text: String, read: impl FnOnce(&str) -> Result<T, E>) -> Result<T, E> {
        match &self.0 {
            Some((last, value)) if *last == text => Ok(value.clone()),
            Some(_) | None => {
                let value = read(&text)?;
                self.0 = Some((text, value.clone()));
                Ok(value)
            }
        }
    }
}

impl Reader {
    /// The event that is complete with `event`, if one is.
    pub(crate) fn read(&mut self, event: pb::Event) -> Result<Option<Event>, Malformed> {
        match event.event.ok_or(Malformed { field: "event" })? {
            pb::event::Event::Views(views) => {
                for view in views.views {
                    self.unfinished.push(group_view(view)?);
                }
                let finished = (!views.continued).then(|| std::mem::take(&mut self.unfinished));
                Ok(finished.map(Event::Views))
            }
            pb::event::Event::Message(message) => {
                let view = message.view.ok_or(Malformed { field: "view.id" })?;
                let sender = self.sender.read(message.sender, |text| parse(text, "message.sender"))?;
                let configuration = self.configuration.read(view.configuration, configuration)?;
                Ok(Some(Event::Message {
                    group: self.group.read(message.group, group_name)?,
                    id: MessageId::new(sender, message.number),
                    view: GroupViewId { configuration, position: view.position },
                    level: level(message.level)?,
                    payload: message.payload,
                }))
            }
            pb::event::Event::Primary(it) => Ok(Some(Event::Primary(it.primary))),
            pb::event::Event::Block(block) => Ok(Some(Event::Block(group_names(&block.groups)?))),
            pb::event::Event::Unblock(unblock) => Ok(Some(Event::Unblock(group_names(&unblock.groups)?))),
            pb::event::Event::StateWanted(wanted) => Ok(Some(Event::StateWanted {
                group: group_name(&wanted.group)?,
                view: group_view_id(wanted.view)?,
            })),
            pb::event::Event::State(state) => Ok(Some(Event::State {
                group: group_name(&state.group)?,
                view: group_view_id(state.view)?,
                from: parse(&state.from, "state.from")?,
                part: state.part,
                last: state.last,
            })),
            pb::event::Event::UpToDate(it) => {
                Ok(Some(Event::UpToDate { group: group_name(&it.group)?, view: group_view_id(it.view)? }))
            }
            // Told to those who watch.
            pb::event::Event::Configuration(_) => Err(Malformed { field: "event" }),
            pb::event::Event::Outcome(read) => {
                Ok(Some(Event::Outcome { number: read.number, outcome: outcome(read)? }))
            }
        }
    }
}

fn write_group_view_id(id: GroupViewId) -> pb::GroupViewId {
    pb::GroupViewId { configuration: id.configuration.to_string(), position: id.position }
}

fn level(level: i32) -> Result<Level, Malformed> {
    match pb::Level::try_from(level) {
        Ok(pb::Level::Agreed | pb::Level::Unspecified) => Ok(Level::Agreed),
        Ok(pb::Level::Safe) => Ok(Level::Safe),
        Err(_) => Err(Malformed { field: "level" }),
    }
}

fn outcome(read: pb::Outcome) -> Result<Outcome, Malformed> {
    use pb::outcome::Outcome as Read;
    Ok(match read.outcome.ok_or(Malformed { field: "outcome" })? {
        Read::Delivered(delivered) => {
            Outcome::Delivered { view: group_view_id(delivered.view)?, level: level(delivered.level)? }
        }
        Read::NoMembers(_) => Outcome::NoMembers,
        Read::OtherView(other) => {
            Outcome::OtherView { view: other.view.map(|view| group_view_id(Some(view))).transpose()? }
        }
        Read::Blocked(_) => Outcome::Blocked,
    })
}

fn group_view(view: pb::GroupView) -> Result<GroupView, Malformed> {
    let mut read = GroupView {
        group: group_name(&view.group)?,
        id: group_view_id(view.id)?,
        members: Vec::with_capacity(view.members.len()),
        joined: Vec::new(),
        left: view.left.iter().map(|process| parse(process, "view.left")).collect::<Result<_, _>>()?,
        transitional: Vec::new(),
        primary: view.primary,
    };
    for member in view.members {
        let process = parse(&member.process, "view.members.process")?;
        read.members.push(Member { process, name: parse(&member.name, "view.members.name")? });
        if member.joined {
            read.joined.push(process);
        }
        if member.transitional {
            read.transitional.push(process);
        }
    }
    Ok(read)
}

fn group_view_id(id: Option<pb::GroupViewId>) -> Result<GroupViewId, Malformed> {
    let id = id.ok_or(Malformed { field: "view.id" })?;
    Ok(GroupViewId { configuration: configuration(&id.configuration)?, position: id.position })
}

fn configuration(text: &str) -> Result<ConfigurationId, Malformed> {
    parse(text, "view.id.configuration")
}

fn group_names(texts: &[String]) -> Result<Vec<GroupName>, Malformed> {
    texts.iter().map(|text| group_name(text)).collect()
}

fn group_name(text: &str) -> Result<GroupName, Malformed> {
    GroupName::new(text).ok_or(Malformed { field: "group" })
}

pub(crate) fn parse<T: FromStr>(text: &str, field: &'static str) -> Result<T, Malformed> {
    text.parse().map_err(|_| Malformed { field })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(process: &str, joined: bool, transitional: bool) -> pb::Member {
        pb::Member { process: process.into(), name: "s".into(), joined, transitional }
    }

    fn view(group: &str) -> pb::GroupView {
        let id = pb::GroupViewId { configuration: "v4.beef".into(), position: 2 };
        let members = vec![member("m-1#7/1", false, true), member("m-2#8/1", true, false)];
        pb::GroupView {
            group: group.into(),
            id: Some(id),
            members,
            left: vec!["m-3#9/1".into()],
            primary: true,
        }
    }

    fn views(views: Vec<pb::GroupView>, continued: bool) -> pb::Event {
        pb::Event { event: Some(pb::event::Event::Views(pb::Views { views, continued })) }
    }

    #[test]
    fn the_parts_of_a_step_are_one_event() {
        let mut reader = Reader::default();
        assert_eq!(reader.read(views(vec![view("a")], true)), Ok(None));
        let Ok(Some(Event::Views(read))) = reader.read(views(vec![view("b")], false)) else {
            panic!("the step is complete")
        };
        assert_eq!(read.iter().map(|view| view.group.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let first = &read[0];
        assert_eq!(first.members.len(), 2);
        assert_eq!(first.transitional, ["m-1#7/1".parse().unwrap()]);
        assert_eq!(first.joined, ["m-2#8/1".parse().unwrap()]);
        assert_eq!(first.left, ["m-3#9/1".parse().unwrap()]);
        assert_eq!(first.id.to_string(), "v4.beef+2");
    }

    #[test]
    fn what_is_missing_or_malformed_is_named() {
        let field = |event| Reader::default().read(event).err().map(|malformed| malformed.field);
        assert_eq!(field(pb::Event { event: None }), Some("event"));
        assert_eq!(field(views(vec![view("")], false)), Some("group"));
        assert_eq!(field(views(vec![pb::GroupView { id: None, ..view("a") }], false)), Some("view.id"));
        let stranger = pb::GroupView { members: vec![member("nobody", false, false)], ..view("a") };
        assert_eq!(field(views(vec![stranger], false)), Some("view.members.process"));
    }

    #[test]
    fn corrupted_events_are_refused_or_read() {
        let message = pb::Message {
            group: "g".into(),
            sender: "m-1#7/1".into(),
            number: 3,
            view: view("g").id,
            payload: b"payload".as_slice().into(),
            level: pb::Level::Safe.into(),
        };
        let delivered = pb::outcome::Delivered { view: view("g").id, level: pb::Level::Agreed.into() };
        let outcome = pb::Outcome { number: 3, outcome: Some(pb::outcome::Outcome::Delivered(delivered)) };
        let samples = [
            views(vec![view("a"), view("b")], false),
            views(vec![view("a")], true),
            pb::Event { event: Some(pb::event::Event::Message(message)) },
            pb::Event { event: Some(pb::event::Event::Outcome(outcome)) },
        ];
        fuzz::messages(fuzz::target!(), &samples, |event| Reader::default().read(event).is_ok());
    }
}
