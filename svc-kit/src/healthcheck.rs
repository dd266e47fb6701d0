//! The health of a process, asked for by its own program: for a container that has no shell and no other client.
//!
//! Asking takes the settings that the process itself runs with, so whoever gives them in the environment or in a file
//! need not say again where it listens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use model::Address;
use tokio::time::timeout;
use tonic::Status;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::dial::Wire;
use crate::settings::Settings;
use crate::shutdown::Failure;
use crate::tls::Role;

/// How long the process has for its answer. One that is stopped still takes connections.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Whether the process that has these settings serves.
pub(crate) fn ask<C: Settings>(config: &C) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let address = Address::new(&from_here(config.listen()).to_string());
    runtime.block_on(check(&config.wire()?, C::ROLE, &address))
}

/// Who listens everywhere is reached by the loopback interface, too.
fn from_here(listen: SocketAddr) -> SocketAddr {
    let loopback: IpAddr = match listen.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        address @ (IpAddr::V4(_) | IpAddr::V6(_)) => address,
    };
    (loopback, listen.port()).into()
}

async fn check(wire: &Wire, role: Role, address: &Address) -> Result<(), Failure> {
    let late = |_| Failure::Unreachable(format!("{address}: no answer within {} s", ANSWER_MAX.as_secs()));
    let status = timeout(ANSWER_MAX, answer(wire, role, address)).await.map_err(late)??;
    if status == ServingStatus::Serving {
        return Ok(());
    }
    Err(Failure::Unhealthy { address: address.clone(), status: status.as_str_name() })
}

async fn answer(wire: &Wire, role: Role, address: &Address) -> Result<ServingStatus, Failure> {
    let absent = |_| Failure::Unreachable(address.to_string());
    let channel = wire.connect(address, role).await.map_err(absent)?;
    let answer = HealthClient::new(channel).check(HealthCheckRequest { service: String::new() }).await;
    let refused = |status: Status| Failure::Unreachable(format!("{address}: {}", status.message()));
    Ok(answer.map_err(refused)?.into_inner().status())
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::metrics::Metrics;
    use crate::serve::{Listener, Services};
    use crate::shutdown::Exit;

    #[test]
    fn who_listens_everywhere_is_asked_here() {
        for (listen, asked) in [
            ("0.0.0.0:7400", "127.0.0.1:7400"),
            ("[::]:7400", "[::1]:7400"),
            ("10.0.0.1:7400", "10.0.0.1:7400"),
        ] {
            assert_eq!(from_here(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }

    #[tokio::test]
    async fn only_a_process_that_serves_is_healthy() {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), None).await.unwrap();
        let address = listener.advertised().clone();
        let mut metrics = Metrics::new("test", "test".parse().unwrap(), "a".parse().unwrap());
        let (server, health) = Services::new().server(&Wire::default(), &[], &mut metrics).await.unwrap();
        let stop = CancellationToken::new();
        let served = tokio::spawn(server.serve(listener, stop.clone()));
        let failed = check(&Wire::default(), Role::Server, &address).await.unwrap_err();
        assert_eq!(failed.to_string(), format!("{address} does not serve: NOT_SERVING"));
        assert_eq!(failed.exit(), Exit::Error);
        health.serving().await;
        check(&Wire::default(), Role::Server, &address).await.unwrap();
        stop.cancel();
        served.await.unwrap().unwrap();
        assert_eq!(
            check(&Wire::default(), Role::Server, &address).await.unwrap_err().exit(),
            Exit::Unreachable
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_connections_and_says_nothing_is_not_healthy() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::new(&silent.local_addr().unwrap().to_string());
        let failed = check(&Wire::default(), Role::Server, &address).await.unwrap_err();
        assert_eq!(failed.exit(), Exit::Unreachable, "{failed}");
    }
}
