//! A run as text that reads like a protocol diagram, in the language of the scripts of the cores:
//!
//! ```text
//! gateway-1 → server-1  serve s1 from 3/0           a message on a connection
//! gateway-1 ⇒ content/film-1  start s1              a multicast
//! server-1 ⇐ content/film-1 {server-1} -server-2    what a process is told
//! server-1 ⊢ s1 primary under f2                    what follows from it
//! ```

use std::collections::BTreeMap;

use model::trace::{Event, Role};
use model::{Configuration, Fence, GroupName, GroupView, Name, ProcessId, SessionId, Time};
use session_core::Intent;
use session_core::gateway::ClientEvent;
use session_core::message::{
    ContentMessage, Cursor, Response, Resume, ServiceMessage, SessionMessage, ToGateway, ToServer, decode,
};
use session_core::names::Purpose;

use crate::packet::{Answer, Call, Node, Packet};

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Sessions, and the changes that move them: short, and without times.
    Sessions,
    /// Every packet and every observation, as it is.
    Everything,
}

/// Lines so far, and short names for what occurs in them.
pub struct Diagram {
    detail: Detail,
    lines: Vec<String>,
    sessions: BTreeMap<SessionId, usize>,
    processes: BTreeMap<ProcessId, Name>,
}

impl Diagram {
    /// A diagram of nothing.
    pub fn new(detail: Detail) -> Diagram {
        Diagram { detail, lines: Vec::new(), sessions: BTreeMap::new(), processes: BTreeMap::new() }
    }

    /// The lines since the last call.
    pub fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    /// A remark.
    pub fn note(&mut self, at: Time, text: &str) {
        match self.detail {
            Detail::Everything => self.lines.push(format!("{at} {text}")),
            Detail::Sessions => self.lines.push(text.to_owned()),
        }
    }

    /// A packet was sent.
    pub fn sent(&mut self, at: Time, from: Node, to: Node, packet: &Packet) {
        match self.detail {
            Detail::Everything => self.lines.push(format!("{at} {from} → {to}  {packet:?}")),
            Detail::Sessions => {
                let line = match packet {
                    Packet::Multicast { group, payload, .. } => {
                        self.multicast(group, payload).map(|text| format!("{from} ⇒ {text}"))
                    }
                    packet => self.packet(packet).map(|text| format!("{from} → {to}  {text}")),
                };
                self.lines.extend(line);
            }
        }
    }

    /// A host saw something.
    pub fn seen(&mut self, at: Time, node: Node, event: &Event) {
        if let Event::Attach { process, name } = event {
            self.processes.insert(*process, *name);
        }
        match self.detail {
            Detail::Everything => self.lines.push(format!("{at} {node} {event:?}")),
            Detail::Sessions => {
                let line = self.event(node, event);
                self.lines.extend(line);
            }
        }
    }

    /// Sessions are numbered as they appear.
    fn session(&mut self, session: SessionId) -> String {
        let next = self.sessions.len() + 1;
        format!("s{}", self.sessions.entry(session).or_insert(next))
    }

    fn process(&self, process: ProcessId) -> String {
        self.processes.get(&process).map_or_else(|| process.to_string(), Name::to_string)
    }

    fn processes<'a>(&self, processes: impl IntoIterator<Item = &'a ProcessId>) -> String {
        let names: Vec<String> = processes.into_iter().map(|process| self.process(*process)).collect();
        names.join(" ")
    }

    fn event(&mut self, node: Node, event: &Event) -> Option<String> {
        Some(match event {
            Event::StartChange { daemon, start, proposed } => {
                let proposed: Vec<String> = proposed.iter().map(|daemon| daemon.name().to_string()).collect();
                let (daemon, proposed) = (daemon.name(), proposed.join(" "));
                format!("{daemon} ← start change {} {{{proposed}}}", start.number())
            }
            Event::Install { daemon, configuration, transitional, .. } => {
                let along: Vec<String> =
                    transitional.iter().map(|daemon| daemon.name().to_string()).collect();
                let (daemon, along) = (daemon.name(), along.join(" "));
                format!("{daemon} ⊢ {} together with {{{along}}}", triple(configuration))
            }
            Event::GroupInstall { process, view } => {
                Purpose::of(&view.group).filter(|purpose| matches!(purpose, Purpose::Content(_)))?;
                format!("{} ⇐ {}", self.process(*process), self.view(view))
            }
            Event::Role { session, fence, role, .. } => {
                let session = self.session(*session);
                match role {
                    Role::Primary => format!("{node} ⊢ {session} primary under {}", short(*fence)),
                    Role::Backup => format!("{node} ⊢ {session} backup under {}", short(*fence)),
                    Role::None => format!("{node} ⊢ {session} let go"),
                }
            }
            Event::Apply { session, request, .. } => {
                format!("{node} ⊢ {} request {request} applied", self.session(*session))
            }
            _ => return None,
        })
    }

    fn view(&self, view: &GroupView) -> String {
        let members = self.processes(view.members.iter().map(|member| &member.process));
        let joined = view.joined.iter().map(|process| format!(" +{}", self.process(*process)));
        let left = view.left.iter().map(|process| format!(" -{}", self.process(*process)));
        let changes: String = joined.chain(left).collect();
        format!("{} {{{members}}}{changes}", view.group)
    }

    fn multicast(&mut self, group: &GroupName, payload: &[u8]) -> Option<String> {
        let text = match Purpose::of(group)? {
            Purpose::Service => match decode(payload).ok()? {
                ServiceMessage::Holds { .. } => return None,
                ServiceMessage::List { .. } => "which units are there?".into(),
            },
            Purpose::Content(_) => self.content(&decode(payload).ok()?),
            Purpose::Session(_, session) => {
                let text = match decode(payload).ok()? {
                    SessionMessage::Request { number, .. } => format!("request {number}"),
                    SessionMessage::Commit { responses, .. } if responses.is_empty() => "reign".into(),
                    SessionMessage::Commit { first, responses, .. } => {
                        format!("commit {first} to {}", first + responses.len() as u64 - 1)
                    }
                    SessionMessage::Ask { .. } => "who knows more?".into(),
                    SessionMessage::Standing(standing) => {
                        let Cursor { responses, requests, .. } = standing.cursor;
                        format!("committed up to {responses}/{requests}")
                    }
                };
                return Some(format!("session/{}  {text}", self.session(session)));
            }
        };
        Some(format!("{group}  {text}"))
    }

    fn content(&mut self, message: &ContentMessage) -> String {
        match message {
            ContentMessage::Start { session, .. } => format!("start {}", self.session(*session)),
            ContentMessage::Attach { session, gateway, .. } => {
                format!("{} is at {} now", self.session(*session), gateway.name)
            }
            ContentMessage::Inquire { session, .. } => format!("who serves {}?", self.session(*session)),
            ContentMessage::Propagate { updates } => {
                let each: Vec<String> = updates
                    .iter()
                    .map(|it| format!("{} after {}/{}", self.session(it.session), it.responses, it.requests))
                    .collect();
                format!("propagate {}", each.join(", "))
            }
            ContentMessage::Rebuild { session, .. } => format!("{} from its cursor", self.session(*session)),
            ContentMessage::Stalled { session, .. } => {
                format!("{} stalls under its primary", self.session(*session))
            }
            ContentMessage::End { session, .. } => format!("end {}", self.session(*session)),
            ContentMessage::Expire { session, .. } => format!("expire {}", self.session(*session)),
            ContentMessage::Move { session, to, .. } => {
                let to = to.map_or("somewhere else".to_owned(), |to| format!("to {}", self.processes(&[to])));
                format!("move {} {to}", self.session(*session))
            }
            ContentMessage::Adjust { change, .. } => format!("policy {change:?}"),
            ContentMessage::Found { .. } => "found the shared state".into(),
            ContentMessage::Settle { .. } => "all have come".into(),
            ContentMessage::Adopt { .. } => "all go on from here".into(),
            ContentMessage::Update { session, number, .. } => {
                format!("carry out request {number} of {}", self.session(*session))
            }
            ContentMessage::Publish { edition, .. } => format!("publish edition {edition}"),
            ContentMessage::Holds { editions, .. } => {
                let numbers: Vec<String> = editions.iter().map(ToString::to_string).collect();
                format!("holds editions {}", numbers.join(", "))
            }
            ContentMessage::Intend { intent, .. } => match intent {
                Intent::Open => "takes its share".into(),
                Intent::Cordoned => "takes nothing new".into(),
                Intent::Leaving => "leaves".into(),
            },
            ContentMessage::Dismiss { session, .. } => format!("dismiss {}", self.session(*session)),
            ContentMessage::Fail { session, .. } => format!("fail {}", self.session(*session)),
            ContentMessage::State { class, .. } => format!("the database of {{{}}}", self.processes(class)),
        }
    }

    fn packet(&mut self, packet: &Packet) -> Option<String> {
        Some(match packet {
            Packet::ToGateway(message) => self.said_to_gateway(message)?,
            Packet::ToServer(message) => self.said_to_server(message)?,
            Packet::Call { what, .. } => self.call(what),
            Packet::Answer { answer: Ok(answer), .. } => match answer {
                Answer::Opened { session, .. } => format!("opened {}", self.session(*session)),
                Answer::Attached(_) => "attached".into(),
                Answer::Applied { number } => format!("request {number} applied"),
                Answer::Closed => "closed".into(),
            },
            Packet::Answer { answer: Err(failure), .. } => format!("failed: {failure:?}"),
            Packet::ToClient { event, .. } => match event {
                ClientEvent::Serving { server, takeover: false, .. } => format!("served by {server}"),
                ClientEvent::Serving { server, takeover: true, .. } => format!("taken over by {server}"),
                ClientEvent::Responses(responses) => {
                    let shown = |Response { cursor, last, .. }: &Response| {
                        format!("response {}{}", cursor.responses, if *last { ", the last" } else { "" })
                    };
                    responses.iter().map(shown).collect::<Vec<_>>().join(", ")
                }
                ClientEvent::Merged => "merged".into(),
                ClientEvent::Rebuilt => "made anew".into(),
                ClientEvent::Over(failure) => format!("over: {failure:?}"),
            },
            _ => return None,
        })
    }

    fn call(&mut self, call: &Call) -> String {
        match call {
            Call::Open { unit } => format!("open {unit}"),
            Call::Attach { session, from, .. } => {
                format!("attach {} from {}", self.session(*session), resume(&from.resume))
            }
            Call::Request { session, number, .. } => {
                let number = number.map_or_else(String::new, |number| format!(" {number}"));
                format!("request{number} of {}", self.session(*session))
            }
            Call::Close { session, .. } => format!("close {}", self.session(*session)),
        }
    }

    fn said_to_gateway(&mut self, message: &ToGateway) -> Option<String> {
        Some(match message {
            ToGateway::Claim { session, fence, requests, .. } => {
                format!(
                    "claim {} under {}, {requests} requests applied",
                    self.session(*session),
                    short(*fence)
                )
            }
            ToGateway::Started { session, cursor, .. } => {
                format!("started {} at {}/{}", self.session(*session), cursor.responses, cursor.requests)
            }
            ToGateway::Responses { session, responses, .. } => {
                let numbers = responses.iter().map(|response| response.cursor.responses.to_string());
                let numbers = numbers.collect::<Vec<_>>().join(", ");
                format!("response {numbers} of {}", self.session(*session))
            }
            ToGateway::Applied { session, number, .. } => {
                format!("request {number} of {} applied", self.session(*session))
            }
            ToGateway::Rests { session, .. } => format!("{} rests", self.session(*session)),
            ToGateway::Suspended { session } => format!("suspended {}", self.session(*session)),
            ToGateway::Ended { session } => format!("ended {}", self.session(*session)),
            ToGateway::Refused { session, reason } => {
                format!("refused {}: {reason:?}", self.session(*session))
            }
            ToGateway::Moved { session } => format!("moved {}", self.session(*session)),
            ToGateway::Units { .. } => "these units".into(),
        })
    }

    fn said_to_server(&mut self, message: &ToServer) -> Option<String> {
        Some(match message {
            ToServer::Serve { session, resume: from, .. } => {
                format!("serve {} from {}", self.session(*session), resume(from))
            }
            ToServer::Credit { .. } => return None,
            ToServer::Fenced { session, fence } => {
                format!("fenced: {} under {}", self.session(*session), short(*fence))
            }
            ToServer::Unknown { session } => format!("unknown: {}", self.session(*session)),
        })
    }
}

/// A view in the manner of the papers: `<4, {p,q,r}, [8,9,3]>`.
fn triple(view: &Configuration) -> String {
    let members: Vec<String> = view.members.keys().map(|id| id.name().to_string()).collect();
    let starts: Vec<String> = view.members.values().map(|start| start.number().to_string()).collect();
    format!("<{}, {{{}}}, [{}]>", view.id.counter(), members.join(","), starts.join(","))
}

fn short(fence: Fence) -> String {
    format!("f{}", fence.counter())
}

/// Responses and requests: where somebody goes on.
fn resume(from: &Resume) -> String {
    match from {
        Resume::Beginning => "the beginning".into(),
        Resume::After(cursor) => format!("{}/{}", cursor.responses, cursor.requests),
        Resume::Anywhere => "anywhere".into(),
    }
}
