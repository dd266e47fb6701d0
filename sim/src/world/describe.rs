//! The state of every process, in a line each, for people.

use std::fmt::Write;

use model::trace::Role;

use crate::packet::Node;
use crate::world::World;

impl World {
    /// Every process and its state.
    pub fn table(&self) -> String {
        let mut table = String::new();
        for node in self.processes() {
            let _ = writeln!(table, "  {node}#{}: {}", self.life(node), self.describe(node));
        }
        for (n, slot) in self.clients.iter().enumerate() {
            if let Some(client) = &slot.host {
                let _ = writeln!(table, "  {}: {}", Node::Client(n), client.describe());
            }
        }
        table
    }

    fn describe(&self, node: Node) -> String {
        if !self.is_alive(node) {
            return "dead".into();
        }
        match node {
            Node::Membership(n) => {
                let attached: Vec<_> =
                    self.memberships[n].host.iter().flat_map(|host| host.attached()).collect();
                format!("attached {attached:?}")
            }
            Node::Daemon(n) => {
                let Some(host) = &self.daemons[n].host else { return String::new() };
                let daemon = host.daemon();
                let configuration = daemon.configuration();
                let (members, windows) = (configuration.set(), daemon.windows());
                format!("{} in {} of {members:?}, {windows:?}", daemon.phase(), configuration.id)
            }
            Node::Server(n) => self.describe_server(n),
            Node::Gateway(n) => {
                let Some(host) = &self.gateways[n].host else { return String::new() };
                let sessions: Vec<_> =
                    host.gateway().sessions().map(|session| format!("{session:?}")).collect();
                format!("sessions {sessions:#?}")
            }
            Node::Process(n) => {
                let Some(host) = &self.locals[n].host else { return String::new() };
                format!("attached as {:?}, in {} groups", host.me(), host.wanted().len())
            }
            Node::Client(_) => String::new(),
        }
    }

    fn describe_server(&self, n: usize) -> String {
        let Some(host) = &self.servers[n].host else { return String::new() };
        let server = host.server();
        let mut text = format!("attached as {:?}", server.me());
        for (unit, database) in server.databases() {
            let (view, members) = (database.view(), database.members());
            let agreed = if database.is_agreed() { "agreed" } else { "exchanging" };
            let _ = write!(text, "\n    {unit}: {agreed} in {view} of {members:?}");
        }
        for session in server.sessions().filter(|session| session.role != Role::None) {
            let (role, responses, requests) = (session.role, session.responses, session.requests);
            let (unit, fence) = (session.unit, session.session.fence);
            let _ = write!(
                text,
                "\n    {} of {unit}: {role:?} under {fence}, {responses} responses, {requests} requests",
                session.id
            );
        }
        text
    }
}
