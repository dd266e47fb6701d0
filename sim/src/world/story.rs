//! Stories: a world that a test directs, in the words of the domain.

use std::time::Duration;

use model::SessionId;

use crate::client::Client;
use crate::happens::{Happens, Moment};
use crate::packet::Node;
use crate::scene::Scene;
use crate::world::World;

/// A client that a story directs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Player(pub(super) usize);

/// A fault of a story.
pub(super) struct Planned {
    on: Happens,
    at: Option<Node>,
    victims: Vec<Node>,
}

/// Says what is to happen at a moment.
pub struct Ambusher<'a> {
    world: &'a mut World,
    on: Happens,
    at: Option<Node>,
}

impl Ambusher<'_> {
    /// Only when it happens there.
    #[must_use]
    pub fn at(mut self, node: Node) -> Self {
        self.at = Some(node);
        self
    }

    /// This process crashes, the next time.
    pub fn crash(self, node: Node) {
        self.crash_all(&[node]);
    }

    /// These processes crash, the next time.
    pub fn crash_all(self, nodes: &[Node]) {
        let planned = Planned { on: self.on, at: self.at, victims: nodes.to_vec() };
        self.world.planned.push(planned);
    }
}

impl World {
    /// Whatever is planned for this moment strikes.
    pub(super) fn spring_planned(&mut self, moment: Moment) {
        let is_now = |plan: &Planned| plan.on == moment.what && plan.at.is_none_or(|node| node == moment.at);
        while let Some(place) = self.planned.iter().position(is_now) {
            for node in self.planned.remove(place).victims {
                self.crash(node);
            }
        }
    }

    pub(super) fn scene(&mut self, node: Node) -> Scene<'_> {
        let (skew, life) = (self.skew(node), self.life(node));
        Scene {
            now: self.now,
            skew,
            node,
            life,
            net: &mut self.net,
            queue: &mut self.queue,
            dice: &mut self.dice,
            log: &mut self.log,
        }
    }

    pub(super) fn with_client<R>(
        &mut self,
        client: usize,
        act: impl FnOnce(&mut Client, &mut Scene<'_>) -> R,
    ) -> R {
        let mut host = self.clients[client].host.take().expect("clients do not die");
        let result = act(&mut host, &mut self.scene(Node::Client(client)));
        self.clients[client].host = Some(host);
        result
    }

    /// The primary and the backups of a session, as the server with the newest word has it.
    pub fn assigned(&self, session: SessionId) -> Option<(Node, Vec<Node>)> {
        let servers = self.servers.iter().filter_map(|slot| slot.host.as_ref());
        let known = servers.flat_map(|host| host.server().sessions()).filter(|known| known.id == session);
        let newest = known.max_by_key(|known| known.session.fence)?;
        let node = |process: &model::ProcessId| {
            let place = self.knobs.machines.iter().position(|name| *name == process.daemon().name());
            place.map(Node::Server)
        };
        let primary = newest.session.primary.as_ref().and_then(node)?;
        Some((primary, newest.session.backups.iter().filter_map(node).collect()))
    }

    /// When this happens the next time, something else does too.
    pub fn on(&mut self, moment: Happens) -> Ambusher<'_> {
        Ambusher { world: self, on: moment, at: None }
    }

    /// Lets time pass, but no more than is needed for the next thing.
    pub fn next(&mut self, limit: Duration) -> bool {
        let until = self.now + limit;
        self.step(until)
    }
}
