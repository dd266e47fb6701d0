//! A cause is delivered, and before its effect: what a daemon delivered in a configuration before it cast a message there
//! is delivered before that message wherever that message is delivered. No hole costs this promise: whoever skips a
//! message skips everything that may depend on it, see `reliable_total_order`. [VKCD:reliable-causal]
//!
//! For members of groups it follows: their daemons deliver everything, in this order, and members of a view are given
//! the same messages of it in the same order, see `group_view_agreement`.
//!
//! The cast may be read after its deliveries; these are then judged when it comes. If it never comes, its sender's
//! record is cut off and its causes are unknown.

use std::collections::BTreeMap;

use model::trace::Event;
use model::{ConfigurationId, DaemonId};

use crate::numbers::Numbers;
use crate::property::{Breach, Position, Property, breach};

/// How far each stream of a configuration has been delivered: pairs of daemon number and index, by daemon number.
type Reached = Vec<(u32, u64)>;

/// A message: numbers of configuration and daemon, and its index there.
type Message = (u32, u32, u64);

/// A delivery before which `reached` had been delivered.
struct Delivery {
    daemon: DaemonId,
    reached: Reached,
    at: Position,
}

/// The checker.
#[derive(Default)]
pub(crate) struct ReliableCausal {
    daemons: Numbers<DaemonId>,
    configurations: Numbers<ConfigurationId>,
    /// Per daemon and configuration, what it has delivered there.
    reached: BTreeMap<DaemonId, (u32, Reached)>,
    /// What each message may depend on, and where it was cast.
    causes: BTreeMap<Message, (Reached, Position)>,
    waiting: BTreeMap<Message, Vec<Delivery>>,
}

impl Property for ReliableCausal {
    fn name(&self) -> &'static str {
        "reliable_causal"
    }

    fn claim(&self) -> &'static str {
        "VKCD:reliable-causal"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::Cast { daemon, configuration, index, .. } => {
                let message = (self.configurations.of(configuration), self.daemons.of(daemon), *index);
                let causes = self.reached(*daemon, message.0).clone();
                for Delivery { daemon, reached, at: delivered } in
                    self.waiting.remove(&message).unwrap_or_default()
                {
                    self.follows_its_causes(message, (&causes, at), (daemon, &reached, delivered))?;
                }
                self.causes.insert(message, (causes, at));
            }
            Event::Deliver { daemon, configuration, origin, index, .. } => {
                let message = (self.configurations.of(configuration), self.daemons.of(origin), *index);
                let mut reached = std::mem::take(self.reached(*daemon, message.0));
                match self.causes.get(&message) {
                    Some((causes, cast)) => {
                        self.follows_its_causes(message, (causes, *cast), (*daemon, &reached, at))?;
                    }
                    None => {
                        let delivery = Delivery { daemon: *daemon, reached: reached.clone(), at };
                        self.waiting.entry(message).or_default().push(delivery);
                    }
                }
                match reached.binary_search_by_key(&message.1, |(daemon, _)| *daemon) {
                    Ok(place) => reached[place].1 = reached[place].1.max(*index),
                    Err(place) => reached.insert(place, (message.1, *index)),
                }
                *self.reached(*daemon, message.0) = reached;
            }
            _ => {}
        }
        Ok(())
    }
}

impl ReliableCausal {
    fn reached(&mut self, daemon: DaemonId, configuration: u32) -> &mut Reached {
        let (current, reached) = self.reached.entry(daemon).or_insert((configuration, Reached::new()));
        if *current != configuration {
            *current = configuration;
            reached.clear();
        }
        reached
    }

    fn follows_its_causes(
        &self,
        message: Message,
        (causes, cast): (&Reached, Position),
        (daemon, reached, delivered): (DaemonId, &Reached, Position),
    ) -> Result<(), Breach> {
        let had = |daemon: u32| {
            let place = reached.binary_search_by_key(&daemon, |(daemon, _)| *daemon);
            place.map_or(0, |place| reached[place].1)
        };
        let Some((cause, index)) = causes.iter().find(|(daemon, index)| had(*daemon) < *index) else {
            return Ok(());
        };
        let (configuration, origin, number) = message;
        breach(
            &[cast, delivered],
            format!(
                "in {}, {daemon} delivered message {number} of {} before message {index} of {}, which that may depend on",
                self.configurations.value(configuration),
                self.daemons.value(origin),
                self.daemons.value(*cause),
            ),
        )
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["reliable_causal"];
    let answer = Script::new().forms(1, "a b c").casts("a", 1).delivers("b", "a", 1).casts("b", 1);
    vec![
        rejected(
            "c delivers b's answer before a's question",
            only,
            answer.clone().agrees(2, "c").delivers("c", "b", 1),
        ),
        rejected(
            "the same in the next configuration",
            only,
            Script::new()
                .forms(1, "a b")
                .forms(2, "a b d")
                .casts("a", 1)
                .delivers("b", "a", 1)
                .casts("b", 1)
                .agrees(3, "d")
                .delivers("d", "b", 1),
        ),
        rejected(
            "the same, and clocks put the answer after its delivery",
            only,
            Script::new()
                .forms(1, "a b c")
                .casts("a", 1)
                .agrees(2, "c")
                .delivers("c", "b", 1)
                .delivers("b", "a", 1)
                .casts("b", 1),
        ),
        accepted("c delivers question and answer", answer.delivers("c", "a", 1).delivers("c", "b", 1)),
        accepted(
            "messages that know nothing of each other come as they like",
            Script::new()
                .forms(1, "a b c")
                .casts("a", 1)
                .casts("b", 1)
                .delivers("c", "b", 1)
                .delivers("c", "a", 1),
        ),
    ]
}
