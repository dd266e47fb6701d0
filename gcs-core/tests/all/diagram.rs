//! What happens between daemons, a line each: the language of the scripts and of the diagrams made from them.
//!
//! `a → b` is a message that arrives, `b ⇐` what a process of b is told, `b ⊢` a configuration that b installs.

use std::collections::BTreeSet;

use gcs_core::{Entry, Message, Notice, Payload, ProcessEvent, Sync};
use model::{Configuration, DaemonId, Level, Name, Outcome, ProcessId};

fn names(daemons: impl Iterator<Item = Name>) -> String {
    let names: Vec<String> = daemons.map(|name| name.to_string()).collect();
    format!("{{{}}}", names.join(" "))
}

/// A view in the manner of the papers: `<4, {p,q,r}, [8,9,3]>`.
fn triple(view: &Configuration) -> String {
    let members: Vec<String> = view.members.keys().map(|id| id.name().to_string()).collect();
    let starts: Vec<String> = view.members.values().map(|start| start.number().to_string()).collect();
    format!("<{}, {{{}}}, [{}]>", view.id.counter(), members.join(","), starts.join(","))
}

fn short(process: &ProcessId) -> String {
    format!("{}{}", process.daemon().name(), process.connection())
}

pub fn notice(to: DaemonId, notice: &Notice) -> String {
    let to = to.name();
    match notice {
        Notice::StartChange { start, proposed } => {
            format!("{to} ← start change {} {}", start.number(), names(proposed.keys().map(|id| id.name())))
        }
        Notice::Secondary => format!("{to} ← not the primary component"),
        Notice::View(view) => format!("{to} ← view {}", triple(view)),
    }
}

/// A message that arrives; nothing for those that only free memory.
pub fn message(from: DaemonId, to: DaemonId, message: &Message) -> Option<String> {
    let text = match message {
        Message::Entries { configuration, first, entries, .. } => {
            format!("v{} entries {}", configuration.counter(), numbered(*first, entries))
        }
        Message::Sync { start, sync: Sync::Full { configuration, cut } } => {
            format!("sync {} from v{} cut {cut:?}", start.number(), configuration.counter())
        }
        Message::Sync { start, sync: Sync::Compact { configuration } } => {
            format!("sync {} from v{}", start.number(), configuration.counter())
        }
        Message::Forward { origin, first, entries, .. } => {
            format!("forward of member {} {}", origin.place(), numbered(*first, entries))
        }
        Message::Progress { .. } => return None,
    };
    Some(format!("{} → {}  {text}", from.name(), to.name()))
}

fn numbered(first: u64, entries: &[Entry]) -> String {
    let entries: Vec<String> =
        (first..).zip(entries).map(|(index, e)| format!("#{index} {}", entry(e))).collect();
    entries.join(", ")
}

fn entry(entry: &Entry) -> String {
    match entry {
        Entry::Order(runs) => {
            let runs: Vec<String> =
                runs.iter().map(|run| format!("member {} up to #{}", run.origin.place(), run.upto)).collect();
            format!("order({})", runs.join(", "))
        }
        Entry::Payload(Payload::Multicast { bytes, .. }) => {
            format!("{:?}", String::from_utf8_lossy(bytes))
        }
        Entry::Payload(Payload::Join { .. }) => "join".into(),
        Entry::Payload(Payload::Leave { .. }) => "leave".into(),
        Entry::Payload(Payload::Stopped { .. }) => "stopped".into(),
        Entry::Payload(Payload::State { .. }) => "state".into(),
        Entry::Payload(Payload::Uninformed { .. }) => "no state".into(),
        Entry::Payload(Payload::Gone { .. }) => "gone".into(),
        Entry::Payload(Payload::Table(_)) => "table".into(),
    }
}

pub fn install(at: DaemonId, view: &Configuration, transitional: &BTreeSet<DaemonId>) -> String {
    let along = names(transitional.iter().map(|id| id.name()));
    format!("{} ⊢ {} together with {along}", at.name(), triple(view))
}

pub fn delivery(at: DaemonId, connections: &[u32], told: &ProcessEvent) -> Vec<String> {
    let to: Vec<String> = connections.iter().map(|number| format!("{}{number}", at.name())).collect();
    event(told).into_iter().map(|line| format!("{} ⇐ {line}", to.join(" "))).collect()
}

fn outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Delivered { level: Level::Agreed, .. } => "delivered",
        Outcome::Delivered { level: Level::Safe, .. } => "delivered, and safe",
        Outcome::NoMembers => "for nobody: no members",
        Outcome::OtherView { view: Some(_) } => "for nobody: another view",
        Outcome::OtherView { view: None } => "for nobody: no members any more",
        Outcome::Blocked => "for nobody: blocked",
    }
}

/// What a process is told: `g {a1 b1} +b1 -c1`, and `g a1: text`.
pub fn event(event: &ProcessEvent) -> Vec<String> {
    match event {
        ProcessEvent::Views(views) => views
            .iter()
            .map(|view| {
                let members: Vec<String> = view.members.iter().map(|m| short(&m.process)).collect();
                let joined = view.joined.iter().map(|p| format!(" +{}", short(p)));
                let left = view.left.iter().map(|p| format!(" -{}", short(p)));
                let changes: String = joined.chain(left).collect();
                format!("{} {{{}}}{changes}", view.group, members.join(" "))
            })
            .collect(),
        ProcessEvent::Message { group, id, level, payload, .. } => {
            let text = String::from_utf8_lossy(payload);
            let safe = if *level == Level::Safe { " (safe)" } else { "" };
            vec![format!("{group} {}: {text}{safe}", short(&id.sender()))]
        }
        ProcessEvent::StateWanted { group, .. } => vec![format!("{group}: tell your state")],
        ProcessEvent::State { group, from, part, last, .. } => {
            let (text, last) = (String::from_utf8_lossy(part), if *last { ", the end" } else { "" });
            vec![format!("{group} state of {}: {text}{last}", short(from))]
        }
        ProcessEvent::UpToDate { group, .. } => vec![format!("{group}: up to date")],
        ProcessEvent::Configuration(configuration) => vec![triple(configuration)],
        ProcessEvent::Primary(primary) => vec![format!("primary: {primary}")],
        ProcessEvent::Block(groups) => groups.iter().map(|group| format!("block {group}")).collect(),
        ProcessEvent::Unblock(groups) => groups.iter().map(|group| format!("unblock {group}")).collect(),
        ProcessEvent::Outcome { number, outcome } => vec![format!("#{number} {}", self::outcome(outcome))],
    }
}
