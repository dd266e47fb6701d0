//! At a gateway the fences of a session rise: whom it lets serve, and whose responses it passes on, is never older than who
//! was before, and it refuses nobody but for a newer one. So of two servers that both believe that they are primary, a
//! client is shown one after the other. A gateway forgets the fences with the session, and when the session is made anew, or
//! nobody came to serve it for too long. [FK:one-primary]

use std::collections::BTreeMap;

use model::trace::Event;
use model::{Fence, Name, SessionId};

use crate::property::{Breach, Position, Property, breach};

/// The checker.
#[derive(Default)]
pub(crate) struct FencesRise {
    newest: BTreeMap<(Name, SessionId), (Fence, Position)>,
}

impl Property for FencesRise {
    fn name(&self) -> &'static str {
        "fences_rise"
    }

    fn claim(&self) -> &'static str {
        "FK:one-primary"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::Grant { gateway, session, fence } | Event::Accept { gateway, session, fence, .. } => {
                match self.newest.insert((*gateway, *session), (*fence, at)) {
                    Some((newest, before)) if *fence < newest => breach(
                        &[before, at],
                        format!("at {gateway} {session} goes back to {fence} after {newest}"),
                    ),
                    Some(_) | None => Ok(()),
                }
            }
            Event::Fenced { gateway, session, fence, newer } if newer <= fence => breach(
                &[at],
                format!("{gateway} refused {fence} of {session} for {newer}, which is no newer"),
            ),
            Event::GatewayCrash { gateway } => {
                self.newest.retain(|(at, _), _| at != gateway);
                Ok(())
            }
            Event::Close { gateway, session }
            | Event::Release { gateway, session }
            | Event::Rebuild { gateway, session }
            | Event::Unfence { gateway, session } => {
                self.newest.remove(&(*gateway, *session));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["fences_rise"];
    let fenced = |refused: u64, newer: u64| Event::Fenced {
        gateway: "gw".parse().unwrap(),
        session: session(),
        fence: fence(refused),
        newer: fence(newer),
    };
    let served = Script::new().forms(1, "a b").attaches("a/1 b/1").opens("gw").primary("a/1", 1);
    let granted = served.clone().grants("gw", 1).primary("b/1", 2).grants("gw", 2);
    vec![
        rejected("the gateway grants an older fence", only, granted.clone().grants("gw", 1)),
        rejected(
            "the gateway takes a response under an older fence than it granted",
            only,
            granted.clone().responds("a/1", 1, 1, 0).accepts("gw", 1, 1),
        ),
        rejected(
            "the gateway takes a response under an older fence than the one before",
            only,
            served
                .clone()
                .responds("a/1", 1, 1, 0)
                .accepts("gw", 1, 1)
                .primary("b/1", 2)
                .responds("b/1", 2, 2, 0)
                .accepts("gw", 2, 2)
                .responds("a/1", 1, 3, 0)
                .accepts("gw", 1, 3),
        ),
        rejected("the gateway refuses the newer fence", only, served.clone().raw(fenced(2, 1))),
        rejected("the gateway refuses a fence for itself", only, served.clone().raw(fenced(2, 2))),
        accepted("a claim is repeated, and granted again", granted.clone().grants("gw", 2)),
        accepted("the newer one is at another gateway", granted.grants("gw2", 1)),
        accepted("a gateway that forgot the session, or its servers, knows no newer fence", {
            let newer = served.clone().primary("b/1", 2).responds("b/1", 2, 1, 0).accepts("gw", 2, 1);
            let crashed = newer.gateway_crashes("gw").responds("a/1", 1, 2, 0).accepts("gw", 1, 2);
            let newer = crashed.responds("b/1", 2, 3, 0).accepts("gw", 2, 3).releases("gw");
            let older = newer.responds("a/1", 1, 4, 0).accepts("gw", 1, 4);
            let newer = older.responds("b/1", 2, 5, 0).accepts("gw", 2, 5).closes("gw");
            let older = newer.responds("a/1", 1, 6, 0).accepts("gw", 1, 6);
            let newer = older.responds("b/1", 2, 7, 0).accepts("gw", 2, 7).rebuilds("gw");
            let older = newer.responds("a/1", 1, 8, 0).accepts("gw", 1, 8);
            let newer = older.responds("b/1", 2, 9, 0).accepts("gw", 2, 9).unfences("gw");
            newer.responds("a/1", 1, 10, 0).accepts("gw", 1, 10)
        }),
    ]
}
