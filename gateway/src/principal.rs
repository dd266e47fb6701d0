//! Clients that are known by name, and what that is good for: a session is its client's alone, and nobody calls more often
//! than is allowed.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use session_core::message::Secret;
use sha2::{Digest, Sha256};
use svc_kit::access::Caller;
use svc_kit::hosts::host_of;
use tonic::{Request, Status};

use crate::status;

/// After so many calls, those who have not called for a while are forgotten.
const FORGET_EVERY: u32 = 1024;

/// The name under which a client is known.
pub(crate) type Principal = Arc<str>;

/// What the session is known by to the cluster: the secret of its client, or, where clients have names, a digest of both. So
/// a secret, and a cursor, which is sealed with the same, are of no use to anybody else, at any gateway.
pub(crate) fn bound(secret: Secret, principal: Option<&Principal>) -> Secret {
    let Some(principal) = principal else { return secret };
    let text = Sha256::new().chain_update(secret.bits().to_le_bytes()).chain_update(principal.as_bytes());
    let mut bits = [0; 16];
    bits.iter_mut().zip(text.finalize()).for_each(|(bits, byte)| *bits = byte);
    Secret::new(u128::from_le_bytes(bits))
}

/// Whose calls are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Whose {
    Principal(Principal),
    Host(IpAddr),
    Nobody,
}

/// How often everybody may call.
pub(crate) struct Rates {
    limiter: Option<DefaultKeyedRateLimiter<Whose>>,
    calls: AtomicU32,
}

impl Rates {
    /// So many calls a second for each principal, or each host where clients have no names, and so many at once; 0: no
    /// limit.
    pub(crate) fn new(per_second: u32, burst: u32) -> Rates {
        let quota = NonZeroU32::new(per_second).map(|per_second| {
            Quota::per_second(per_second).allow_burst(NonZeroU32::new(burst).unwrap_or(per_second))
        });
        Rates { limiter: quota.map(RateLimiter::keyed), calls: AtomicU32::new(0) }
    }

    /// Who makes the call, if that is known and it may.
    pub(crate) fn admit<T>(&self, request: &Request<T>) -> Result<Option<Principal>, Status> {
        let principal = Caller::of(request).principal();
        let Some(limiter) = &self.limiter else { return Ok(principal) };
        if self.calls.fetch_add(1, Ordering::Relaxed) % FORGET_EVERY == FORGET_EVERY - 1 {
            limiter.retain_recent();
        }
        let whose = match (&principal, request.remote_addr()) {
            (Some(principal), _) => Whose::Principal(principal.clone()),
            (None, Some(host)) => Whose::Host(host_of(host.ip())),
            (None, None) => Whose::Nobody,
        };
        match limiter.check_key(&whose) {
            Ok(()) => Ok(principal),
            Err(not_until) => {
                let wait = not_until.wait_time_from(DefaultClock::default().now());
                Err(status::too_many_calls(wait))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use svc_kit::status::reason;
    use tonic::transport::server::TcpConnectInfo;

    use super::*;

    #[test]
    fn a_secret_is_good_for_one_principal() {
        let (secret, other) = (Secret::new(7), Secret::new(8));
        let (alice, bob): (Principal, Principal) = ("token:alice".into(), "token:bob".into());
        assert_eq!(bound(secret, None), secret);
        assert_eq!(bound(secret, Some(&alice)), bound(secret, Some(&alice)));
        assert_ne!(bound(secret, Some(&alice)), bound(secret, Some(&bob)));
        assert_ne!(bound(secret, Some(&alice)), bound(other, Some(&alice)));
        assert_ne!(bound(secret, Some(&alice)), secret);
    }

    #[test]
    fn clients_without_names_are_counted_by_host_as_their_connections_are() {
        let rates = Rates::new(1, 1);
        let call = |ip: &str| {
            let mut request = Request::new(());
            let remote_addr = Some((ip.parse::<IpAddr>().unwrap(), 7400).into());
            request.extensions_mut().insert(TcpConnectInfo { local_addr: None, remote_addr });
            rates.admit(&request).is_ok()
        };
        assert!(call("2001:db8:0:1::1"));
        assert!(!call("2001:db8:0:1:ffff::"), "another address of the same network");
        assert!(call("2001:db8:0:2::1"));
        assert!(call("192.0.2.1"));
        assert!(!call("::ffff:192.0.2.1"));
        assert!(call("192.0.2.2"));
    }

    #[test]
    fn who_calls_too_often_is_told_when_to_try_again() {
        let rates = Rates::new(1, 3);
        let call = || rates.admit(&Request::new(()));
        for _ in 0..3 {
            call().unwrap();
        }
        let refused = call().unwrap_err();
        assert_eq!(reason(&refused).as_deref(), Some("TOO_MANY_CALLS"));
        assert!(tonic_types::StatusExt::get_details_retry_info(&refused).unwrap().retry_delay.is_some());
        let unlimited = Rates::new(0, 0);
        for _ in 0..10_000 {
            unlimited.admit(&Request::new(())).unwrap();
        }
    }
}
