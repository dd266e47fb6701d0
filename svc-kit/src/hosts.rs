//! How many connections each host has, so that none takes those of all others.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::Counter;

/// How often it is told that hosts have too many connections, at most.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// The connections that each host may have.
#[derive(Clone, Debug)]
pub struct PerHost {
    /// So many; 0: as many as it likes.
    pub max: usize,
    /// Those beyond, which were closed at once.
    pub refused: Counter,
}

/// The connections that hosts have.
pub(crate) struct Hosts {
    bound: Option<PerHost>,
    open: Open,
    told: Option<Instant>,
    /// Refused since then.
    untold: u64,
}

#[derive(Clone, Default)]
struct Open(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Open {
    fn all(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one connection, until it is dropped.
pub(crate) struct Guest(Option<(Open, IpAddr)>);

impl Drop for Guest {
    fn drop(&mut self) {
        let Some((open, host)) = self.0.take() else { return };
        let mut open = open.all();
        if let Some(count) = open.get_mut(&host) {
            *count -= 1;
            if *count == 0 {
                open.remove(&host);
            }
        }
    }
}

impl Hosts {
    /// None yet.
    pub(crate) fn new(bound: Option<PerHost>) -> Hosts {
        let bound = bound.filter(|it| it.max > 0);
        Hosts { bound, open: Open::default(), told: None, untold: 0 }
    }

    /// A place for one more connection of a host, if it may have one.
    pub(crate) fn enter(&mut self, peer: IpAddr) -> Option<Guest> {
        let Some(PerHost { max, refused }) = &self.bound else { return Some(Guest(None)) };
        let host = host_of(peer);
        let mut open = self.open.all();
        let count = open.entry(host).or_default();
        if *count < *max {
            *count += 1;
            return Some(Guest(Some((self.open.clone(), host))));
        }
        refused.inc();
        self.untold += 1;
        if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            let refused = std::mem::take(&mut self.untold);
            tracing::warn!(%peer, max, refused, "a host has too many connections: further ones are closed");
            self.told = Some(Instant::now());
        }
        None
    }
}

/// Whose address it is: who has one of IPv6 has all of its network, 64 bits of them.
pub fn host_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(max: usize) -> (Hosts, Counter) {
        let refused = Counter::default();
        (Hosts::new(Some(PerHost { max, refused: refused.clone() })), refused)
    }

    #[test]
    fn a_host_has_so_many_connections_and_another_when_one_is_closed() {
        let (mut hosts, refused) = hosts(2);
        let [a, b] = ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse::<IpAddr>().unwrap());
        let (first, _second) = (hosts.enter(a).unwrap(), hosts.enter(a).unwrap());
        assert!(hosts.enter(a).is_none());
        let _other = hosts.enter(b).unwrap();
        assert_eq!(refused.get(), 1);
        drop(first);
        let again = hosts.enter(a).unwrap();
        assert!(hosts.enter(a).is_none());
        drop((again, _second, _other));
        assert!(hosts.open.all().is_empty(), "who has gone is forgotten");
    }

    #[test]
    fn a_host_is_an_address_of_ipv4_or_a_network_of_ipv6() {
        let (mut hosts, _) = hosts(1);
        let mut enters = |ip: &str| hosts.enter(ip.parse().unwrap());
        let _places = [enters("192.0.2.1").unwrap(), enters("2001:db8:0:1::1").unwrap()];
        assert!(enters("::ffff:192.0.2.1").is_none());
        assert!(enters("2001:db8:0:1:ffff::").is_none());
        enters("2001:db8:0:2::1").unwrap();
    }

    #[test]
    fn no_bound_is_no_bound() {
        let (mut hosts, refused) = hosts(0);
        let places: Option<Vec<_>> = (0..1000).map(|_| hosts.enter([192, 0, 2, 1].into())).collect();
        assert_eq!((places.unwrap().len(), refused.get()), (1000, 0));
    }
}
