//! The verdict on a state, which is what the checkers say of the traces that lead to it; and a step in words, for the
//! story of one that is not sound.

use check::{Judge, Position};
use gcs_core::{Message, Notice};
use model::trace::Event;

use super::network::Frame;
use super::{Action, Daemons, Place, Set};
use crate::search::World;

impl Daemons {
    /// Judges the traces. At rest each part of the network must have come to one configuration and one history.
    pub(super) fn verdict(&self) -> Result<(), String> {
        if let Some(fault) = self.nodes.iter().find_map(|node| node.fault.clone()) {
            return Err(fault);
        }
        let ends = if self.at_rest() { self.components() } else { [Set::default()].into() };
        ends.into_iter().try_for_each(|end| self.verdict_at(end))
    }

    /// Judges the traces, with `quiet` at rest unless it is nobody.
    fn verdict_at(&self, quiet: Set) -> Result<(), String> {
        let mut judge = Judge::default();
        for (source, node) in (0..).zip(&self.nodes) {
            for (line, event) in (1..).zip(&node.trace) {
                judge.observe(Position { source, line }, event);
            }
        }
        if !quiet.is_empty() {
            let daemons = quiet.places().map(|place| self.ids[place]).collect();
            let event = Event::Quiescent { daemons, sessions: Vec::new() };
            judge.observe(Position { source: super::COUNT as u16, line: 1 }, &event);
        }
        let report = judge.finish();
        if report.violations.is_empty() {
            return Ok(());
        }
        let told: Vec<String> = report.violations.iter().map(ToString::to_string).collect();
        Err(told.join("\n"))
    }

    /// What `action` is, here.
    pub(super) fn in_words(&self, action: &Action) -> String {
        let name = |place: Place| self.ids[place].name();
        let names = |set: Set| {
            let names: Vec<String> = set.places().map(|place| name(place).to_string()).collect();
            names.join(" ")
        };
        match *action {
            Action::Send(place) => format!("{} multicasts", name(place)),
            Action::Notice(place) => match self.nodes[place].notices.front() {
                Some(Notice::StartChange { start, proposed }) => {
                    let proposed: Vec<String> = proposed.keys().map(|id| id.name().to_string()).collect();
                    format!("{} is told of start change {start}: {{{}}}", name(place), proposed.join(" "))
                }
                Some(Notice::View(view)) => format!("{} is told of view {}", name(place), view.id),
                Some(Notice::Secondary) => format!("{} may be left behind", name(place)),
                None => format!("{} is told nothing", name(place)),
            },
            Action::Skip(place) => format!("{} is never told of its view", name(place)),
            Action::Wake(place) => format!("{} is woken", name(place)),
            Action::Tick(place) => format!("a timer of {} fires", name(place)),
            Action::Open(from, to) => format!("{} → {}: connection", name(from), name(to)),
            Action::Frame(from, to) => {
                format!("{} → {}: {}", name(from), name(to), content(self.links[from][to].frames.front()))
            }
            Action::Late(from, to) => {
                let content = content(self.links[from][to].late.front());
                format!("{} → {}: {content}, late", name(from), name(to))
            }
            Action::Ack(from, to) => format!("{} → {}: acknowledgement", name(to), name(from)),
            Action::Crash(place) => format!("{} crashes", name(place)),
            Action::Cut(place) => format!("{} is cut off", name(place)),
            Action::Heal => "the partition heals".into(),
            Action::Start { told, proposed } => {
                format!(
                    "the service begins a change to {{{}}}, and tells {{{}}}",
                    names(proposed),
                    names(told)
                )
            }
            Action::View(members) => format!("the service decides for {{{}}}", names(members)),
        }
    }
}

/// A message in short.
fn content(frame: Option<&Frame>) -> String {
    match frame.map(|frame| &*frame.message) {
        Some(Message::Entries { first, entries, configuration, .. }) => {
            format!("{} entries from {first} in {configuration}", entries.len())
        }
        Some(Message::Forward { origin, first, entries, .. }) => {
            format!("{} entries of member {} from {first}, forwarded", entries.len(), origin.place())
        }
        Some(Message::Sync { start, sync }) => format!("sync for {start}: {sync:?}"),
        Some(Message::Progress { delivered, .. }) => format!("progress {delivered:?}"),
        None => "nothing".into(),
    }
}
