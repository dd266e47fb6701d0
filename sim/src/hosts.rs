//! Hosts: what a process does around its machine. They are to the cores what the services are in production: facts
//! in, orders out, and connections that break.

mod daemon;
mod gateway;
mod membership;
mod process;
mod server;

pub use daemon::DaemonHost;
pub use gateway::GatewayHost;
pub use membership::MembershipHost;
pub use process::{Leanings, ProcessHost};
pub use server::ServerHost;

use std::ops::RangeInclusive;
use std::time::Duration;

/// How hosts go about connections.
#[derive(Clone, Debug)]
pub struct Manners {
    /// Until a host dials again.
    pub redial: RangeInclusive<Duration>,
    /// How many membership servers there are.
    pub membership_servers: usize,
    /// How many machines there are.
    pub machines: usize,
}
