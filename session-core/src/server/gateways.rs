//! What passes between a primary and the gateway of its session's client: the claim, the grant, the stream.

use alloc::vec::Vec;

use model::trace::Role;
use model::{SessionId, Time, UnitId};

use super::Server;
use super::interface::Output;
use super::unit::Unit;
use crate::edition::edition_of;
use crate::held::{Grant, Serving};
use crate::message::{ContentMessage, Cursor, GatewayId, Resume, ToGateway, ToServer, encode};
use crate::names::Purpose;
use crate::service::ContentService;
use crate::unit_db::Happening;

impl<S: ContentService> Server<S> {
    /// Asks the gateway of a session how far its client got.
    pub(super) fn claim(
        &mut self,
        now: Time,
        since: Time,
        unit: &UnitId,
        session: SessionId,
        out: &mut Vec<Output>,
    ) {
        if self.is_apart(unit) {
            self.set_serving(unit, session, Serving::Nothing);
            return;
        }
        let again = now + self.params.claim_retry;
        self.set_serving(unit, session, Serving::Claiming { since, again });
        let Some(state) = self.units.get(unit) else { return };
        let (Some(held), Some(known)) = (state.held.get(&session), state.database.sessions().get(&session))
        else {
            return;
        };
        let (fence, requests) = (held.fence, held.replica.requests);
        let claim = ToGateway::Claim { unit: unit.clone(), session, fence, requests };
        self.doors.send_if_open(&known.gateway, claim, out);
    }

    pub(super) fn on_gateway(
        &mut self,
        now: Time,
        gateway: &GatewayId,
        message: ToServer,
        out: &mut Vec<Output>,
    ) {
        let (ToServer::Serve { session, .. }
        | ToServer::Credit { session, .. }
        | ToServer::Fenced { session, .. }
        | ToServer::Unknown { session }) = message;
        let at_gateway = |state: &Unit<S::Context>| {
            state.held.get(&session).is_some_and(|held| held.role == Role::Primary)
                && state.database.sessions().get(&session).is_some_and(|known| known.gateway == *gateway)
        };
        let Some(unit) = self.units.iter().find(|(_, state)| at_gateway(state)).map(|(unit, _)| unit.clone())
        else {
            return;
        };
        let apart = self.is_apart(&unit);
        let Some(held) = self.held(&unit, session) else { return };
        match message {
            ToServer::Serve { fence, stream, resume, credit, repeats_from, .. } => {
                if held.fence != fence || apart {
                    return;
                }
                let is_attached = credit.is_some();
                let was_attached = core::mem::replace(&mut held.attached, is_attached);
                if was_attached != is_attached && held.streams() {
                    let news = if is_attached { Happening::ClientCame } else { Happening::ClientLeft };
                    self.report(&unit, session, news, out);
                }
                if let Some(cursor) = self.of_edition_elsewhere(&unit, session, &resume) {
                    self.leave_to_holders(&unit, session, cursor, out);
                } else {
                    self.serve(now, &unit, session, Grant { stream, resume, credit, repeats_from }, out);
                }
            }
            ToServer::Credit { stream, up_to, .. } => {
                if let Serving::Streaming { stream: current, room, .. } = &mut held.serving
                    && *current == stream
                {
                    held.attached = true;
                    room.grow(up_to);
                }
            }
            ToServer::Fenced { fence, .. } => {
                if held.fence == fence {
                    self.tell_standing(&unit, session, out);
                    self.set_serving(&unit, session, Serving::Nothing);
                    self.retire_alone(now, &unit, session, out);
                }
            }
            ToServer::Unknown { .. } => {}
        }
        self.respond(now, &unit, session, out);
    }

    pub(super) fn serve(
        &mut self,
        now: Time,
        unit: &UnitId,
        session: SessionId,
        grant: Grant,
        out: &mut Vec<Output>,
    ) {
        if self.waits_to_reign(unit, session, &grant, out) {
            return;
        }
        let goes_on =
            matches!(self.held(unit, session).map(|held| &held.serving), Some(Serving::Streaming { .. }));
        let serves =
            self.with_held(unit, session, out, |held, known, scene| held.serve(now, grant, known, scene));
        if serves == Some(true) {
            if let Some(state) = self.units.get_mut(unit) {
                state.propagate_soon(now, session);
            }
            if let Some(held) = self.held(unit, session).filter(|_| !goes_on) {
                let served = Happening::Served { responses: held.replica.responses, attached: held.attached };
                self.report(unit, session, served, out);
            }
        } else {
            let again = now + self.params.claim_retry;
            self.set_serving(unit, session, Serving::Claiming { since: now, again });
        }
    }

    /// Something happened to a session that only this server, its primary, knows.
    fn report(&self, unit: &UnitId, session: SessionId, happening: Happening, out: &mut Vec<Output>) {
        out.extend(self.units.get(unit).map(|state| state.report(unit, session, happening)));
    }

    /// The client's position, if that is of an edition that is not held here. Servers that could not talk to each other may
    /// have opened a session on different ones. What is served of an edition that is gone goes on.
    fn of_edition_elsewhere(&self, unit: &UnitId, session: SessionId, resume: &Resume) -> Option<Cursor> {
        let Resume::After(cursor) = resume else { return None };
        let edition = edition_of(&cursor.context)?;
        let state = self.units.get(unit)?;
        let served = state.held.get(&session).map(|held| held.replica.content.edition);
        let goes_on = served == Some(edition) && state.vanishing.contains(&edition);
        (!goes_on && !state.editions.contains(&edition)).then(|| cursor.clone())
    }

    /// A session is on the edition that its client has seen: whoever holds that is to serve it.
    fn leave_to_holders(&mut self, unit: &UnitId, session: SessionId, cursor: Cursor, out: &mut Vec<Output>) {
        self.set_serving(unit, session, Serving::Nothing);
        if let Some(state) = self.units.get_mut(unit) {
            state.propagate_position(unit, session, cursor, out);
        }
    }

    pub(super) fn gateway_up(&mut self, now: Time, gateway: &GatewayId, out: &mut Vec<Output>) {
        if !self.doors.open(gateway, out) {
            return;
        }
        for (unit, session, since) in self.served_at(gateway) {
            self.claim(now, since.unwrap_or(now), &unit, session, out);
        }
    }

    pub(super) fn gateway_down(&mut self, now: Time, gateway: &GatewayId, out: &mut Vec<Output>) {
        self.doors.shut(now, gateway);
        for (unit, session, since) in self.served_at(gateway) {
            if self.retire_alone(now, &unit, session, out) {
                continue;
            }
            let (since, again) = (since.unwrap_or(now), now + self.params.claim_retry);
            self.set_serving(&unit, session, Serving::Claiming { since, again });
        }
    }

    /// The sessions that this server serves to clients of a gateway, or tries to, and since when it tries.
    fn served_at(&self, gateway: &GatewayId) -> Vec<(UnitId, SessionId, Option<Time>)> {
        let mut served = Vec::new();
        for (unit, state) in &self.units {
            let sessions = state.database.sessions();
            for (session, held) in &state.held {
                if sessions.get(session).is_none_or(|known| known.gateway != *gateway) {
                    continue;
                }
                match held.serving {
                    Serving::Claiming { since, .. } => served.push((unit.clone(), *session, Some(since))),
                    Serving::Streaming { .. } | Serving::Reigning { .. } => {
                        served.push((unit.clone(), *session, None));
                    }
                    Serving::Nothing | Serving::Joining => {}
                }
            }
        }
        served
    }

    /// A claim that nobody answered: ask again, or end the session if its client has been away for too long. Who comes to
    /// ask again much too late has not been there himself: the answer may have come, and he begins anew.
    pub(super) fn press_claim(
        &mut self,
        now: Time,
        unit: &UnitId,
        session: SessionId,
        (since, again): (Time, Time),
        out: &mut Vec<Output>,
    ) {
        let since = if now.since(again) > self.params.claim_retry { now } else { since };
        if now.since(since) < self.params.detach_ttl {
            self.claim(now, since, unit, session, out);
            return;
        }
        self.set_serving(unit, session, Serving::Nothing);
        let Some(state) = self.units.get(unit) else { return };
        let Some(known) = state.database.sessions().get(&session) else { return };
        let expire = ContentMessage::Expire { session, gateway: known.gateway.clone() };
        let group = Purpose::Content(unit.clone()).group();
        out.push(Output::multicast(group, encode(&expire)));
    }
}
