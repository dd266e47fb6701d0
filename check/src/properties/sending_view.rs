//! What is sent in a view is delivered in that view. A daemon delivers a message in the configuration in which it was
//! cast: it casts and delivers nothing in a configuration that it is still to install. A member of a strict group that
//! sends in a view of it is heard in that view; in other groups only `same_view` is promised, for a message may wait
//! for its place while the view changes. [KK:sending-view]
//!
//! Sends and deliveries of strict groups may be read in any order; they are compared when both are there.

use std::collections::BTreeMap;

use model::trace::Event;
use model::{ConfigurationId, DaemonId, GroupViewId, MessageId, ProcessId};

use crate::property::{Breach, Position, Property, breach};

/// A view as somebody noted it with a message.
#[derive(Clone, Copy)]
struct Noted {
    view: GroupViewId,
    at: Position,
}

/// A message of a strict group.
enum Message {
    /// The sender was no member, or was in this view.
    Sent(Option<Noted>),
    /// Given in these views; its sending is not known yet.
    Given(Vec<(ProcessId, Noted)>),
}

/// The checker.
#[derive(Default)]
pub(crate) struct SendingView {
    installed: BTreeMap<DaemonId, (ConfigurationId, Position)>,
    messages: BTreeMap<MessageId, Message>,
}

impl Property for SendingView {
    fn name(&self) -> &'static str {
        "sending_view"
    }

    fn claim(&self) -> &'static str {
        "KK:sending-view"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::Install { daemon, configuration, .. } => {
                self.installed.insert(*daemon, (configuration.id, at));
                Ok(())
            }
            Event::Cast { daemon, configuration, .. } | Event::Deliver { daemon, configuration, .. } => {
                match self.installed.get(daemon) {
                    Some((current, since)) if configuration > current => breach(
                        &[*since, at],
                        format!("{daemon} cast or delivered in {configuration}, but is still in {current}"),
                    ),
                    _ => Ok(()),
                }
            }
            Event::GroupSend { group, message, view, .. } if group.is_strict() => {
                let sent = view.map(|view| Noted { view, at });
                match self.messages.insert(*message, Message::Sent(sent)) {
                    Some(Message::Given(given)) => given
                        .into_iter()
                        .try_for_each(|(process, given)| agrees(*message, sent, process, given)),
                    _ => Ok(()),
                }
            }
            Event::GroupDeliver { process, group, message, view, .. } if group.is_strict() => {
                let given = Noted { view: *view, at };
                match self.messages.entry(*message).or_insert_with(|| Message::Given(Vec::new())) {
                    Message::Sent(sent) => agrees(*message, *sent, *process, given),
                    Message::Given(all) => {
                        all.push((*process, given));
                        Ok(())
                    }
                }
            }
            _ => Ok(()),
        }
    }
}

fn agrees(message: MessageId, sent: Option<Noted>, process: ProcessId, given: Noted) -> Result<(), Breach> {
    match sent {
        Some(sent) if sent.view != given.view => breach(
            &[sent.at, given.at],
            format!(
                "{message} was sent in view {} of a strict group, and given to {process} in {}",
                sent.view, given.view
            ),
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["sending_view"];
    let member = |name: &str| {
        let two = Script::new().forms(1, "a b").attaches("a/1 b/1 b/2");
        let sent = two.views(name, 1, "a/1 b/1").sends("a/1", name, 1).blocks("a/1 b/1", name);
        sent.views(name, 2, "a/1 b/1 b/2").unblocks("a/1 b/1", name).receives("a/1 b/1 b/2", name, "a/1", 1)
    };
    let outside = Script::new().forms(1, "a b").attaches("a/1 b/1").sends("a/1", "strict:g", 1);
    vec![
        rejected(
            "b delivers in the configuration to come",
            only,
            Script::new().forms(1, "a b").agrees(2, "a b").installs("a", 2, "a b").casts("a", 1).raw(
                Event::Deliver {
                    daemon: daemon("b"),
                    configuration: configuration(2, "a b").id,
                    origin: daemon("a"),
                    index: 1,
                    digest: digest("a", 1),
                },
            ),
        ),
        rejected("a message to a strict group comes in the next view", only, member("strict:g")),
        accepted("a message to another group comes in the next view", member("g")),
        accepted(
            "who is no member sends in no view",
            outside.views("strict:g", 1, "b/1").receives("b/1", "strict:g", "a/1", 1),
        ),
    ]
}
