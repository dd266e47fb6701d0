//! Rehearses hand-overs of a content service: whether its sessions would survive them is found out in a unit test, in
//! milliseconds, and not on a cluster.
//!
//! ```
//! # use model::{Time, UnitId};
//! # use session_core::{ContentId, ContentService, Next, Refusal, UnitInfo};
//! # struct Tally;
//! # impl ContentService for Tally {
//! #     type Context = u32;
//! #     fn units(&self) -> Vec<UnitInfo> {
//! #         vec![UnitInfo::new(UnitId::new("tally").unwrap(), "A tally", "text/plain")]
//! #     }
//! #     fn open(&self, _: &ContentId) -> u32 {
//! #         0
//! #     }
//! #     fn apply(&self, _: &ContentId, context: &mut u32, request: &[u8]) -> Result<(), Refusal> {
//! #         *context = context.wrapping_add(request.len() as u32);
//! #         Ok(())
//! #     }
//! #     fn next(&self, _: &ContentId, context: &mut u32, _: Time) -> Next {
//! #         *context = context.wrapping_add(1);
//! #         Next::Respond { payload: context.to_string().into(), last: false }
//! #     }
//! # }
//! // In a test:
//! rehearsal::rehearse(|| Tally, &["one request", "another one"]);
//! ```
//!
//! A session with requests chosen at random is run twice: at one server, without disturbance, and at servers that take
//! it over from one another, each with an instance of the service and a clock of its own. The context travels between
//! them as it does in a cluster, and is often a few steps old; what came since is done again. All servers must come to
//! the same responses, byte for byte, and to the same verdict on each request. So must a backup, which applies requests
//! and never responds. What a service remembers outside of its context, what it draws at random or reads off a clock,
//! and what gets lost on the way of the context to bytes and back, shows up as a [`Fault`]. If the service makes one context
//! of two ([`ContentService::merge`]), it has to come to the same one in whatever order it does so. If its sessions share a
//! state ([`ContentService::shared`]), two servers carry the requests out on theirs, and have to agree too.
//!
//! What is rehearsed is what [`ContentService`] demands; see there for the reasons.
#![deny(missing_docs)]

mod fault;
mod merge;
mod run;
mod script;
mod shared;
#[cfg(test)]
mod tests;

use session_core::ContentService;

pub use fault::{Fault, What};

/// How much is rehearsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rehearsal {
    /// How many sessions on each unit.
    pub sessions: u64,
    /// How many steps each of them has: a request, or a response.
    pub steps: usize,
    /// How large the encoding of a context may be.
    pub context_bytes_max: usize,
}

impl Default for Rehearsal {
    /// A hundred sessions on each unit, with the largest contexts that servers allow.
    fn default() -> Rehearsal {
        let context_bytes_max = session_core::Params::default().context_bytes_max;
        Rehearsal { sessions: 100, steps: 60, context_bytes_max }
    }
}

impl Rehearsal {
    /// Looks for a fault in the service that `make` makes, with the same content each time. `requests` are examples of
    /// what clients send: the more they can do in a session, the better.
    ///
    /// # Errors
    /// The first [`Fault`] that was found.
    pub fn run<S: ContentService>(&self, make: impl Fn() -> S, requests: &[Vec<u8>]) -> Result<(), Fault> {
        for info in make().units() {
            for seed in 0..self.sessions {
                run::session(self, &make, &info.content(), requests, seed)?;
            }
        }
        Ok(())
    }
}

/// Rehearses the service that `make` makes, at the default length. `requests` are examples of what clients send.
///
/// # Panics
/// With the [`Fault`], if there is one.
pub fn rehearse<S: ContentService>(make: impl Fn() -> S, requests: &[impl AsRef<[u8]>]) {
    let requests: Vec<Vec<u8>> = requests.iter().map(|it| it.as_ref().to_vec()).collect();
    if let Err(fault) = Rehearsal::default().run(make, &requests) {
        panic!("{fault}");
    }
}
