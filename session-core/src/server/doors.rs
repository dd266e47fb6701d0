//! The gateways that a server talks to. A gateway is dialled from the moment that there is something to say to it, or
//! that a session's client is there; it is given up when it has been silent for long and no session's client is there
//! any more.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use model::Time;

use super::interface::Output;
use crate::message::{GatewayId, ToGateway};

/// Messages that wait for a gateway to be reached, at most; the oldest go first. They are answers that the gateway
/// asks for again if it still wants them.
const OUTBOX_MAX: usize = 256;

/// The gateways.
#[derive(Debug)]
pub(super) struct Doors {
    doors: BTreeMap<GatewayId, Door>,
    /// How long a gateway that nobody needs is dialled.
    patience: Duration,
}

#[derive(Debug)]
enum Door {
    Open,
    /// Not reached since, or not looked after since.
    Shut {
        since: Time,
        outbox: VecDeque<ToGateway>,
    },
}

impl Doors {
    pub(super) fn new(patience: Duration) -> Doors {
        Doors { doors: BTreeMap::new(), patience }
    }

    /// Makes sure that there is a stream to a gateway, or that somebody is trying.
    pub(super) fn dial(&mut self, now: Time, gateway: &GatewayId, out: &mut Vec<Output>) {
        if !self.doors.contains_key(gateway) {
            out.push(Output::Dial(gateway.clone()));
            self.doors.insert(gateway.clone(), Door::Shut { since: now, outbox: VecDeque::new() });
        }
    }

    /// Tells a gateway, as soon as it is reached.
    pub(super) fn send(&mut self, now: Time, gateway: &GatewayId, message: ToGateway, out: &mut Vec<Output>) {
        self.dial(now, gateway, out);
        match self.doors.get_mut(gateway) {
            Some(Door::Open) => out.push(Output::Send(gateway.clone(), message)),
            Some(Door::Shut { outbox, .. }) => {
                if outbox.len() == OUTBOX_MAX {
                    outbox.pop_front();
                }
                outbox.push_back(message);
            }
            None => {}
        }
    }

    /// Tells a gateway, if it is reached.
    pub(super) fn send_if_open(&self, gateway: &GatewayId, message: ToGateway, out: &mut Vec<Output>) {
        if let Some(Door::Open) = self.doors.get(gateway) {
            out.push(Output::Send(gateway.clone(), message));
        }
    }

    /// The stream is open: what waited for it goes first. Returns whether anybody wanted it.
    pub(super) fn open(&mut self, gateway: &GatewayId, out: &mut Vec<Output>) -> bool {
        let Some(door) = self.doors.get_mut(gateway) else { return false };
        if let Door::Shut { outbox, .. } = core::mem::replace(door, Door::Open) {
            out.extend(outbox.into_iter().map(|message| Output::Send(gateway.clone(), message)));
        }
        true
    }

    /// The stream is closed.
    pub(super) fn shut(&mut self, now: Time, gateway: &GatewayId) {
        if let Some(door @ Door::Open) = self.doors.get_mut(gateway) {
            *door = Door::Shut { since: now, outbox: VecDeque::new() };
        }
    }

    /// Hangs up on all of them.
    pub(super) fn clear(&mut self, out: &mut Vec<Output>) {
        out.extend(core::mem::take(&mut self.doors).into_keys().map(Output::Hangup));
    }

    /// Gives up on gateways that have not been reached for too long, unless a session's client is there.
    pub(super) fn sweep(&mut self, now: Time, needed: impl Fn(&GatewayId) -> bool, out: &mut Vec<Output>) {
        if self.deadline().is_none_or(|time| time > now) {
            return;
        }
        let patience = self.patience;
        self.doors.retain(|gateway, door| match door {
            Door::Shut { since, .. } if *since + patience <= now => {
                *since = now;
                let keep = needed(gateway);
                out.extend((!keep).then(|| Output::Hangup(gateway.clone())));
                keep
            }
            Door::Shut { .. } | Door::Open => true,
        });
    }

    /// When the next gateway may be given up.
    pub(super) fn deadline(&self) -> Option<Time> {
        let shut = self.doors.values().filter_map(|door| match door {
            Door::Shut { since, .. } => Some(*since + self.patience),
            Door::Open => None,
        });
        shut.min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Address, Boot, SessionId};

    const PATIENCE: Duration = Duration::from_secs(60);

    fn gateway() -> GatewayId {
        GatewayId { name: "g".parse().unwrap(), boot: Boot::new(1), address: Address::new("localhost:1") }
    }

    fn message(id: u128) -> ToGateway {
        ToGateway::Ended { session: SessionId::new(id) }
    }

    fn seconds(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_said_before_the_stream_is_open_waits_for_it() {
        let (mut doors, mut out) = (Doors::new(PATIENCE), Vec::new());
        (0..OUTBOX_MAX as u128 + 1).for_each(|id| doors.send(Time::ZERO, &gateway(), message(id), &mut out));
        doors.send_if_open(&gateway(), message(7), &mut out);
        assert_eq!(out, [Output::Dial(gateway())]);
        out.clear();
        assert!(doors.open(&gateway(), &mut out));
        assert_eq!(out.len(), OUTBOX_MAX);
        assert_eq!(out.first(), Some(&Output::Send(gateway(), message(1))), "the oldest had to go");
    }

    #[test]
    fn a_silent_gateway_is_given_up_unless_it_is_needed() {
        let (mut doors, mut out) = (Doors::new(PATIENCE), Vec::new());
        doors.dial(Time::ZERO, &gateway(), &mut out);
        doors.open(&gateway(), &mut out);
        assert_eq!(doors.deadline(), None);
        doors.shut(seconds(10), &gateway());
        out.clear();
        doors.sweep(seconds(69), |_| false, &mut out);
        doors.sweep(seconds(70), |_| true, &mut out);
        assert_eq!((out.len(), doors.deadline()), (0, Some(seconds(130))));
        doors.sweep(seconds(130), |_| false, &mut out);
        assert_eq!((out, doors.deadline()), (Vec::from([Output::Hangup(gateway())]), None));
        assert!(!doors.open(&gateway(), &mut Vec::new()), "nobody waits for it");
    }
}
