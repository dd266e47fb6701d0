//! A backup is never behind the unit database: whatever that hears of a session's context, the backup's own context is not
//! after fewer responses, nor after as many and fewer requests. So whoever takes over from a primary that is lost goes back
//! behind nothing that was propagated. [FK:levels]
//!
//! Of responses a backup hears by propagation alone: its requests are as many, or more. Where responses are committed, it has
//! them from there, and they decide: one that was committed to a client that is back where it was reflects fewer
//! requests than what was propagated before. What is propagated of a primary before the one that committed last counts no
//! more. And a backup that is new waits there until it is told what it missed, and serves nobody before. Until then it may
//! be behind: what is propagated may be of another history. Nor does a backup follow, or serve, an edition that it does not
//! hold.

use model::trace::Event;

use crate::property::{Breach, Position, Property, breach};

/// The checker.
#[derive(Default)]
pub(crate) struct BackupsKeepUp;

impl Property for BackupsKeepUp {
    fn name(&self) -> &'static str {
        "backups_keep_up"
    }

    fn claim(&self) -> &'static str {
        "FK:levels"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::Follow { server, session, known, position, waits: false } if position < known => {
                let told = format!(
                    "{server}, a backup, has {session} after (responses, requests) {position:?}, and {known:?} is propagated"
                );
                breach(&[at], told)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let served = Script::new().forms(1, "a b").primary("a/1", 1).role("b/1", 1, model::trace::Role::Backup);
    let waits = |event: &mut Event| {
        if let Event::Follow { waits, .. } = event {
            *waits = true;
        }
    };
    let only = &["backups_keep_up"];
    vec![
        accepted("a backup is as far as the database", served.clone().follows("b/1", (7, 3), (7, 3))),
        accepted("a backup has more requests", served.clone().follows("b/1", (7, 3), (7, 5))),
        accepted("a backup has what was committed since", served.clone().follows("b/1", (7, 3), (8, 2))),
        accepted("a new backup is not told yet", served.clone().follows("b/1", (7, 3), (7, 2)).but(waits)),
        rejected("a backup lacks a request", only, served.clone().follows("b/1", (7, 3), (7, 2))),
        rejected("a backup has not heard of a response", only, served.follows("b/1", (7, 3), (6, 4))),
    ]
}
