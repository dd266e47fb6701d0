//! What is multicast in session groups: requests, and where output commit is on, the primary's responses and what
//! members that are new have missed.

use alloc::vec::Vec;

use model::{GroupView, Level, ProcessId, SessionId, Time, UnitId};

use super::Server;
use super::interface::Output;
use crate::commit::Commit;
use crate::held::Grant;
use crate::message::{SessionMessage, encode};
use crate::names::Purpose;
use crate::service::ContentService;

/// Where a message of a session group comes from.
pub(super) struct Place<'a> {
    pub(super) unit: &'a UnitId,
    pub(super) session: SessionId,
    pub(super) sender: ProcessId,
    pub(super) level: Level,
}

/// Multicasts in a session group. What is sent on the strength of a commit is asked of it at the level of the unit; the
/// rest needs no more than its place.
pub(super) fn cast(
    unit: &UnitId,
    session: SessionId,
    messages: Vec<(SessionMessage, Level)>,
    out: &mut Vec<Output>,
) {
    let group = Purpose::Session(unit.clone(), session).group();
    out.extend(messages.into_iter().map(|(message, level)| Output::Multicast {
        group: group.clone(),
        payload: encode(&message),
        level,
    }));
}

impl<S: ContentService> Server<S> {
    pub(super) fn on_session(
        &mut self,
        now: Time,
        place: Place<'_>,
        message: SessionMessage,
        out: &mut Vec<Output>,
    ) {
        let Place { unit, session, sender, level } = place;
        if self.held(unit, session).is_none_or(|held| !held.joined) {
            return;
        }
        let is_mine = Some(sender) == self.me;
        let changed = match message {
            SessionMessage::Request { number, operation } => {
                self.with_held(unit, session, out, |held, _, scene| held.request(number, operation, scene))
            }
            SessionMessage::Commit { fence, first, responses } => {
                let commit = Commit { fence, first, responses };
                self.with_held(unit, session, out, |held, _, scene| held.commit(sender, commit, level, scene))
            }
            SessionMessage::Ask { view } if !is_mine => {
                self.with_held(unit, session, out, |held, _, scene| {
                    scene.cast(SessionMessage::Standing(held.standing(Some((sender, view)))));
                });
                None
            }
            SessionMessage::Standing(standing) if !is_mine => {
                self.with_held(unit, session, out, |held, _, scene| held.hear(sender, standing, scene));
                None
            }
            SessionMessage::Ask { .. } | SessionMessage::Standing(_) => None,
        };
        if changed == Some(true) {
            self.soil(now, unit, session);
        }
        self.use_ripe_grant(now, unit, session, out);
        self.respond(now, unit, session, out);
    }

    /// A view of a session group: members that come from elsewhere ask each other, and wait for nobody who is gone.
    pub(super) fn meet(
        &mut self,
        now: Time,
        unit: &UnitId,
        session: SessionId,
        view: &GroupView,
        out: &mut Vec<Output>,
    ) {
        let Some(me) = self.me else { return };
        let members = || view.members.iter().map(|member| member.process).filter(|member| *member != me);
        self.with_held(unit, session, out, |held, _, scene| {
            let is_new = |member: &ProcessId| !held.joined || !view.transitional.contains(member);
            let strangers = members().filter(is_new).collect();
            held.ledger.retain(&members().collect());
            held.ask(strangers, view.id, scene);
            held.ledger.knows |= held.ledger.unheard.is_empty();
        });
        self.use_ripe_grant(now, unit, session, out);
    }

    /// A primary that may have been replaced tells the group what it has, where that is of use.
    pub(super) fn tell_standing(&mut self, unit: &UnitId, session: SessionId, out: &mut Vec<Output>) {
        self.with_held(unit, session, out, |held, _, scene| {
            if scene.commit.is_some() {
                scene.cast(SessionMessage::Standing(held.standing(None)));
            }
        });
    }

    /// Whether a grant has to wait until the session group lets no other primary commit, and what was committed is here.
    pub(super) fn waits_to_reign(
        &mut self,
        unit: &UnitId,
        session: SessionId,
        grant: &Grant,
        out: &mut Vec<Output>,
    ) -> bool {
        let waits = self.with_held(unit, session, out, |held, _, scene| {
            let waits = held.commits(scene) && !held.reigns();
            if waits {
                held.reign(grant.clone(), scene);
            }
            waits
        });
        waits == Some(true)
    }

    fn use_ripe_grant(&mut self, now: Time, unit: &UnitId, session: SessionId, out: &mut Vec<Output>) {
        if let Some(grant) = self.held(unit, session).and_then(|held| held.ripe_grant()) {
            self.serve(now, unit, session, grant, out);
            self.respond(now, unit, session, out);
        }
    }
}
