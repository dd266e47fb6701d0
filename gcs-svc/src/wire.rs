//! What processes say and are told, between the generated types and those of the machine. Everything is checked here
//! once; behind this file there are no generated types.

use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use gcs_core::{Input, Params};
use model::{Configuration, GroupName, GroupView, GroupViewId, Level, Member, Name, Outcome, Terms, Time};
use proto::gcs::v1 as pb;
use svc_kit::status;
use tonic::Status;

/// A field of a request that is missing or wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Its path in the request.
    pub field: String,
    /// What it must be.
    pub rule: String,
}

impl Malformed {
    /// `field` breaks `rule`.
    pub fn new(field: impl Into<String>, rule: impl Into<String>) -> Malformed {
        Malformed { field: field.into(), rule: rule.into() }
    }

    /// The same inside of `parent`.
    #[must_use]
    pub fn inside(self, parent: &str) -> Malformed {
        Malformed { field: format!("{parent}.{}", self.field), rule: self.rule }
    }
}

impl From<Malformed> for Status {
    fn from(malformed: Malformed) -> Status {
        status::bad_field(malformed.field, malformed.rule)
    }
}

/// Reads an identifier.
pub fn parse<T: FromStr>(text: &str, field: &str) -> Result<T, Malformed>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| Malformed::new(field, error.to_string()))
}

/// Reads the name of a group.
pub fn group_name(text: &str, field: &str) -> Result<GroupName, Malformed> {
    let rule = || format!("a group's name has 1 to {} bytes", GroupName::LEN_MAX);
    GroupName::new(text).ok_or_else(|| Malformed::new(field, rule()))
}

/// Reads the payload of a multicast, or a part of a state.
pub fn payload(payload: Bytes, field: &str, params: &Params) -> Result<Bytes, Malformed> {
    let max = params.payload_bytes_max;
    if payload.len() > max {
        let rule = format!("{} bytes are more than the limit of {max}", payload.len());
        return Err(Malformed::new(field, rule));
    }
    Ok(payload)
}

/// Reads a command of the process on `connection`.
pub fn command(connection: u32, command: pb::Command, params: &Params) -> Result<Input, Malformed> {
    let command = command.command.ok_or_else(|| Malformed::new("command", "is missing"))?;
    match command {
        pb::command::Command::Join(join) => {
            let groups = group_names(&join.groups, params).map_err(|malformed| malformed.inside("join"))?;
            Ok(Input::Join { connection, groups })
        }
        pb::command::Command::Leave(leave) => {
            let groups = group_names(&leave.groups, params).map_err(|malformed| malformed.inside("leave"))?;
            Ok(Input::Leave { connection, groups })
        }
        pb::command::Command::Blocked(blocked) => {
            let groups =
                group_names(&blocked.groups, params).map_err(|malformed| malformed.inside("blocked"))?;
            Ok(Input::Blocked { connection, groups })
        }
        pb::command::Command::State(state) => {
            let inside = |malformed: Malformed| malformed.inside("state");
            let group = group_name(&state.group, "group").map_err(inside)?;
            let view = state.view.ok_or_else(|| Malformed::new("view", "is missing"));
            let view = view.and_then(|view| read_group_view_id(&view, "view")).map_err(inside)?;
            let part = payload(state.part, "part", params).map_err(inside)?;
            Ok(Input::State { connection, group, view, part, last: state.last })
        }
        pb::command::Command::Multicast(multicast) => {
            let inside = |malformed: Malformed| malformed.inside("multicast");
            let group = group_name(&multicast.group, "group").map_err(inside)?;
            let payload = payload(multicast.payload, "payload", params).map_err(inside)?;
            let terms = terms(multicast.level, multicast.only_in, multicast.report).map_err(inside)?;
            Ok(Input::Multicast { connection, group, payload, terms })
        }
    }
}

/// Reads the terms of a multicast.
pub fn terms(level: i32, only_in: Option<pb::GroupViewId>, report: bool) -> Result<Terms, Malformed> {
    let level = match pb::Level::try_from(level) {
        Ok(pb::Level::Unspecified | pb::Level::Agreed) => Level::Agreed,
        Ok(pb::Level::Safe) => Level::Safe,
        Err(_) => return Err(Malformed::new("level", "must be LEVEL_AGREED or LEVEL_SAFE")),
    };
    let only_in = only_in.map(|id| read_group_view_id(&id, "only_in")).transpose()?;
    Ok(Terms { level, only_in, report })
}

fn read_group_view_id(id: &pb::GroupViewId, field: &str) -> Result<GroupViewId, Malformed> {
    let configuration = parse(&id.configuration, &format!("{field}.configuration"))?;
    Ok(GroupViewId { configuration, position: id.position })
}

/// Roughly the bytes of a command in memory.
pub fn command_cost(command: &Input) -> usize {
    let names = |groups: &[GroupName]| groups.iter().map(|group| group.as_str().len() + 4).sum();
    match command {
        Input::Join { groups, .. } | Input::Leave { groups, .. } | Input::Blocked { groups, .. } => {
            names(groups)
        }
        Input::Multicast { payload, .. } => payload.len(),
        Input::State { part, .. } => part.len(),
        Input::Attach { .. }
        | Input::Detach { .. }
        | Input::Watch { .. }
        | Input::Membership(_)
        | Input::LinkUp { .. }
        | Input::LinkDown { .. }
        | Input::Acked { .. }
        | Input::Opened { .. }
        | Input::Closed { .. }
        | Input::CaughtUp
        | Input::Probed { .. }
        | Input::Frame { .. } => 0,
    }
}

fn group_names(texts: &[String], params: &Params) -> Result<Vec<GroupName>, Malformed> {
    let max = params.groups_per_request_max;
    if !(1..=max).contains(&texts.len()) {
        return Err(Malformed::new("groups", format!("must have 1 to {max} elements")));
    }
    let numbered = texts.iter().enumerate();
    numbered.map(|(place, text)| group_name(text, &format!("groups[{place}]"))).collect()
}

/// Who attaches, if it means the cluster of this daemon.
pub fn hello(hello: Option<pb::AttachHello>) -> Result<(Name, Name), Malformed> {
    let hello = hello.ok_or_else(|| Malformed::new("hello", "must be in the first request"))?;
    Ok((parse(&hello.cluster, "hello.cluster")?, parse(&hello.name, "hello.name")?))
}

/// Writes a configuration.
pub fn configuration(configuration: &Configuration) -> pb::Configuration {
    let members = configuration.members.keys().map(ToString::to_string).collect();
    pb::Configuration { id: configuration.id.to_string(), members, primary: configuration.primary }
}

/// Writes names of groups.
pub fn texts(groups: &[GroupName]) -> Vec<String> {
    groups.iter().map(GroupName::to_string).collect()
}

/// Writes a level.
pub fn write_level(level: Level) -> pb::Level {
    match level {
        Level::Agreed => pb::Level::Agreed,
        Level::Safe => pb::Level::Safe,
    }
}

/// Writes what became of a multicast.
pub fn write_outcome(number: u64, outcome: Outcome) -> pb::Outcome {
    use pb::outcome::{Blocked, Delivered, NoMembers, OtherView, Outcome as Written};
    let outcome = match outcome {
        Outcome::Delivered { view, level } => {
            let view = Some(group_view_id(view));
            Written::Delivered(Delivered { view, level: write_level(level).into() })
        }
        Outcome::NoMembers => Written::NoMembers(NoMembers {}),
        Outcome::OtherView { view } => Written::OtherView(OtherView { view: view.map(group_view_id) }),
        Outcome::Blocked => Written::Blocked(Blocked {}),
    };
    pb::Outcome { number, outcome: Some(outcome) }
}

/// Writes a view.
pub fn group_view(view: &GroupView) -> pb::GroupView {
    let member = |member: &Member| pb::Member {
        process: member.process.to_string(),
        name: member.name.to_string(),
        joined: view.joined.contains(&member.process),
        transitional: view.transitional.contains(&member.process),
    };
    pb::GroupView {
        group: view.group.to_string(),
        id: Some(group_view_id(view.id)),
        members: view.members.iter().map(member).collect(),
        left: view.left.iter().map(ToString::to_string).collect(),
        primary: view.primary,
    }
}

/// Writes the id of a view.
pub fn group_view_id(id: GroupViewId) -> pb::GroupViewId {
    pb::GroupViewId { configuration: id.configuration.to_string(), position: id.position }
}

/// Writes a view that was told at this time.
pub fn past_view(time: Time, view: &GroupView) -> pb::PastView {
    let since = std::time::Duration::from_micros(time.as_micros());
    // Who comes or goes alone has a place in the order of the configuration.
    let is_first = view.id.position == 0;
    let cause = if is_first { pb::ViewCause::Configuration } else { pb::ViewCause::Processes };
    pb::PastView {
        time: Some(prost_types::Timestamp::from(std::time::UNIX_EPOCH + since)),
        cause: cause.into(),
        view: Some(group_view(view)),
    }
}

/// The id of a view, as a page token has it.
pub fn view_token(text: &str, field: &str) -> Result<GroupViewId, Malformed> {
    let read = || {
        let (configuration, position) = text.split_once('+')?;
        Some(GroupViewId { configuration: configuration.parse().ok()?, position: position.parse().ok()? })
    };
    read().ok_or_else(|| Malformed::new(field, "must be of a page before"))
}

/// Writes a group as every daemon knows it.
pub fn group(name: &GroupName, view: Option<GroupViewId>, members: &[Arc<Member>]) -> pb::Group {
    let member = |member: &Arc<Member>| pb::Member {
        process: member.process.to_string(),
        name: member.name.to_string(),
        ..pb::Member::default()
    };
    let members = members.iter().map(member).collect();
    pb::Group { name: name.to_string(), view: view.map(group_view_id), members }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{ConfigurationId, ProcessId};

    fn view(group: &str) -> Arc<GroupView> {
        let process = |text: &str| text.parse::<ProcessId>().unwrap();
        let (old, new) = (process("m-1#7/1"), process("m-2#8/1"));
        let member = |process| Member { process, name: "s".parse().unwrap() };
        Arc::new(GroupView {
            group: GroupName::new(group).unwrap(),
            id: GroupViewId { configuration: ConfigurationId::new(4, 0xbeef), position: 2 },
            members: vec![member(old), member(new)],
            joined: vec![new],
            left: vec![process("m-3#9/1")],
            transitional: vec![old],
            primary: true,
        })
    }

    #[test]
    fn a_view_says_of_each_member_where_it_comes_from() {
        let written = group_view(&view("g"));
        let origin: Vec<_> = written.members.iter().map(|it| (it.joined, it.transitional)).collect();
        assert_eq!(origin, [(false, true), (true, false)]);
        assert_eq!(written.left, ["m-3#9/1"]);
        assert_eq!(written.id.unwrap().configuration, "v4.beef");
    }

    #[test]
    fn corrupted_commands_are_refused_or_read() {
        let groups = || vec!["g".to_owned(), "session/film-1".to_owned()];
        let multicast = pb::Multicast {
            group: "g".into(),
            payload: Bytes::from_static(b"payload"),
            level: pb::Level::Safe.into(),
            only_in: Some(group_view_id(view("g").id)),
            report: true,
        };
        let samples = [
            pb::command::Command::Join(pb::Join { groups: groups() }),
            pb::command::Command::Leave(pb::Leave { groups: groups() }),
            pb::command::Command::Multicast(multicast),
            pb::command::Command::Blocked(pb::Blocked { groups: groups() }),
            pb::command::Command::State(pb::TellState {
                group: "g".into(),
                view: Some(group_view_id(view("g").id)),
                part: Bytes::from_static(b"part"),
                last: true,
            }),
        ]
        .map(|command| pb::Command { command: Some(command) });
        let params = Params { payload_bytes_max: 10, groups_per_request_max: 3, ..Params::lan() };
        fuzz::messages(fuzz::target!(), &samples, |sample| match command(1, sample, &params) {
            Ok(Input::Join { groups, .. } | Input::Leave { groups, .. } | Input::Blocked { groups, .. }) => {
                assert!((1..=3).contains(&groups.len()));
                true
            }
            Ok(Input::Multicast { payload, .. } | Input::State { part: payload, .. }) => {
                assert!(payload.len() <= 10);
                true
            }
            Ok(other) => panic!("no command: {other:?}"),
            Err(_) => false,
        });
    }
}
