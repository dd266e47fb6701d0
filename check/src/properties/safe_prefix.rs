//! What is said to be safe is: once a member is told that a message is safe, everybody in its view of the group is given
//! the message who does not leave or die before its daemon is through with the configuration, and every daemon that is
//! through with it has delivered there as many messages as came before the word. [VKCD:safe]
//!
//! That it is the same messages is for `reliable_total_order`: daemons deliver prefixes of one sequence.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::trace::Event;
use model::{ConfigurationId, DaemonId, GroupName, GroupViewId, Level, MessageId, ProcessId};

use crate::property::{Breach, Position, Property, breach};

/// A daemon in its present configuration.
#[derive(Default)]
struct Stay {
    configuration: Option<ConfigurationId>,
    delivered: u64,
}

/// A member's present view.
struct Told {
    view: GroupViewId,
    members: Arc<[ProcessId]>,
}

/// What follows from the first word that a message is safe.
struct Promise {
    configuration: ConfigurationId,
    group: GroupName,
    view: GroupViewId,
    members: Arc<[ProcessId]>,
    by: ProcessId,
    at: Position,
}

/// Who is through with a configuration, and how many messages it delivered there.
type Through = BTreeMap<ConfigurationId, BTreeMap<DaemonId, (u64, Position)>>;

/// The checker.
#[derive(Default)]
pub(crate) struct SafePrefix {
    stays: BTreeMap<DaemonId, Stay>,
    told: BTreeMap<ProcessId, BTreeMap<GroupName, Told>>,
    /// How many messages are safe in a configuration.
    safe: BTreeMap<ConfigurationId, (u64, Position)>,
    through: Through,
    promises: BTreeMap<MessageId, Promise>,
    /// In which view of a group a process was when it left or was gone.
    parted: BTreeMap<(ProcessId, GroupName), BTreeSet<GroupViewId>>,
    gone: BTreeSet<ProcessId>,
    /// The last message of each sender that is known to be sent.
    known: BTreeMap<ProcessId, u64>,
    /// Who was given a message of the safe level, or one whose level is not known yet.
    given: BTreeMap<MessageId, BTreeSet<ProcessId>>,
    demanded: BTreeSet<MessageId>,
}

impl Property for SafePrefix {
    fn name(&self) -> &'static str {
        "safe_prefix"
    }

    fn claim(&self) -> &'static str {
        "VKCD:safe"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::Install { daemon, configuration, previous, .. } => {
                let stay = Stay { configuration: Some(configuration.id), delivered: 0 };
                let old = self.stays.insert(*daemon, stay).unwrap_or_default();
                self.through.entry(*previous).or_default().insert(*daemon, (old.delivered, at));
            }
            Event::Deliver { daemon, .. } => self.stays.entry(*daemon).or_default().delivered += 1,
            Event::GroupInstall { process, view } => {
                let members = view.members.iter().map(|member| member.process).collect();
                let told = Told { view: view.id, members };
                self.told.entry(*process).or_default().insert(view.group.clone(), told);
            }
            Event::GroupLeave { process, group } => {
                let told = self.told.get_mut(process).and_then(|groups| groups.remove(group));
                if let Some(told) = told {
                    self.parted.entry((*process, group.clone())).or_default().insert(told.view);
                }
            }
            Event::Detach { process } => {
                self.gone.insert(*process);
                for (group, told) in self.told.remove(process).unwrap_or_default() {
                    self.parted.entry((*process, group)).or_default().insert(told.view);
                }
            }
            Event::GroupSend { process, message, level, .. } => {
                self.known.insert(*process, message.number());
                match level {
                    Level::Agreed => drop(self.given.remove(message)),
                    Level::Safe => drop(self.demanded.insert(*message)),
                }
            }
            Event::GroupSafe { process, group, message, view } => {
                self.promise(at, *process, group, *message, *view)
            }
            Event::GroupDeliver { process, message, .. } => {
                let known = self.known.get(&message.sender()).is_some_and(|last| *last >= message.number());
                if !known || self.demanded.contains(message) {
                    self.given.entry(*message).or_default().insert(*process);
                }
            }
            // What was promised until now is kept. What the end of the processes brings is another matter.
            Event::Quiescent { daemons, .. } => {
                let mut through = self.through.clone();
                for daemon in daemons {
                    if let Some(Stay { configuration: Some(configuration), delivered }) =
                        self.stays.get(daemon)
                    {
                        through.entry(*configuration).or_default().insert(*daemon, (*delivered, at));
                    }
                }
                return self.all_kept(&through);
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Breach> {
        self.all_kept(&self.through)
    }
}

impl SafePrefix {
    fn all_kept(&self, through: &Through) -> Result<(), Breach> {
        for (configuration, (safe, since)) in &self.safe {
            for (daemon, (delivered, at)) in through.get(configuration).into_iter().flatten() {
                if delivered < safe {
                    return breach(
                        &[*since, *at],
                        format!(
                            "{safe} messages are safe in {configuration}, but {daemon} delivered {delivered} there"
                        ),
                    );
                }
            }
        }
        self.promises.iter().try_for_each(|(message, promise)| self.is_kept(*message, promise, through))
    }

    fn promise(
        &mut self,
        at: Position,
        process: ProcessId,
        group: &GroupName,
        message: MessageId,
        view: GroupViewId,
    ) {
        let Some(Stay { configuration: Some(configuration), delivered }) = self.stays.get(&process.daemon())
        else {
            return;
        };
        let safe = self.safe.entry(*configuration).or_insert((0, at));
        if *delivered > safe.0 {
            *safe = (*delivered, at);
        }
        let told = self.told.get(&process).and_then(|groups| groups.get(group));
        let members = told.map_or_else(|| [process].into(), |told| Arc::clone(&told.members));
        let (configuration, group) = (*configuration, group.clone());
        let promise = Promise { configuration, group, view, members, by: process, at };
        self.promises.entry(message).or_insert(promise);
    }

    fn is_kept(&self, message: MessageId, promise: &Promise, through: &Through) -> Result<(), Breach> {
        let through = through.get(&promise.configuration);
        for member in promise.members.iter() {
            let Some((_, at)) = through.and_then(|through| through.get(&member.daemon())) else { continue };
            // Who is gone before it is told any view may be a member to others for a while.
            let left_before = match self.parted.get(&(*member, promise.group.clone())) {
                Some(views) => views.first().is_some_and(|view| *view <= promise.view),
                None => self.gone.contains(member),
            };
            let given = self.given.get(&message).is_some_and(|given| given.contains(member));
            if !left_before && !given {
                return breach(
                    &[promise.at, *at],
                    format!("{message} is safe as {} was told, but {member} was not given it", promise.by),
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["safe_prefix"];
    let two = Script::new().forms(1, "a b").attaches("a/1 b/1").views("g", 1, "a/1 b/1");
    let sent = two.clone().sends_safely("a/1", "g", 1).casts("a", 1);
    let told = sent.clone().delivers("a", "a", 1).safe("a/1", "g", "a/1", 1).receives("a/1", "g", "a/1", 1);
    let newcomer_is_gone = Script::new().forms(1, "a b").attaches("a/1 b/1").detaches("b/1");
    let newcomer_is_gone =
        newcomer_is_gone.told("a/1", "g", 1, "a/1 b/1").sends_safely("a/1", "g", 1).casts("a", 1);
    vec![
        rejected(
            "b moves on, apart from a, without a message that is safe",
            only,
            told.clone().forms(2, "a").forms(3, "b"),
        ),
        rejected(
            "b delivers what is safe, and does not give it to its process",
            only,
            told.clone().delivers("b", "a", 1).forms(2, "a").forms(3, "b"),
        ),
        rejected("a message before the safe one is missing", only, {
            let two_sent =
                two.clone().casts("b", 1).delivers("a", "b", 1).sends_safely("a/1", "g", 1).casts("a", 1);
            let safe = two_sent.delivers("a", "a", 1).safe("a/1 b/1", "g", "a/1", 1);
            safe.receives("a/1 b/1", "g", "a/1", 1).delivers("b", "b", 1).forms(2, "a").forms(3, "b")
        }),
        rejected(
            "all is at rest, and b has not delivered what is safe",
            &["virtual_synchrony", "group_view_agreement", "safe_prefix", "final_delivery"],
            told.clone().quiescent("a b"),
        ),
        accepted("b ends after all was at rest, and had delivered what is safe by then", {
            let sent = two.clone().quiescent("a b").sends_safely("a/1", "g", 1).casts("a", 1);
            let safe = sent.delivers("b a", "a", 1).safe("a/1", "g", "a/1", 1).receives("a/1", "g", "a/1", 1);
            safe.crashes("b").forms(2, "a")
        }),
        accepted("b dies", told.clone().crashes("b").forms(2, "a")),
        accepted("b's process leaves", told.clone().delivers("b", "a", 1).detaches("b/1").forms(2, "a b")),
        accepted(
            "a process of b is gone before it is told that it is a member",
            newcomer_is_gone
                .delivers("a b", "a", 1)
                .safe("a/1", "g", "a/1", 1)
                .receives("a/1", "g", "a/1", 1)
                .forms(2, "a b"),
        ),
        accepted(
            "b is given it on its way out",
            told.agrees(2, "a b")
                .delivers("b", "a", 1)
                .receives("b/1", "g", "a/1", 1)
                .installs("a b", 2, "a b"),
        ),
        accepted(
            "it is safe everywhere",
            sent.delivers("a b", "a", 1).safe("a/1 b/1", "g", "a/1", 1).receives("a/1 b/1", "g", "a/1", 1),
        ),
    ]
}
