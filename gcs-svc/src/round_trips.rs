//! How long it takes until another daemon has answered: by its machine, and on the connection that carries what it is sent, so
//! that whatever is in the way of that is part of it.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use model::DaemonId;
use proto::gcs::v1 as pb;
use proto::gcs::v1::link_service_client::LinkServiceClient;
use svc_kit::metrics::{Family, Metrics, SecondsGauge};
use tokio::time::MissedTickBehavior;
use tonic::transport::Channel;

/// How often each peer is asked.
const PERIOD: Duration = Duration::from_secs(5);

/// The label of a gauge: whom it is about.
type Peer = [(&'static str, String); 1];

/// The last of them, for each peer that there is a stream to.
#[derive(Clone, Debug)]
pub struct RoundTrips(Family<Peer, SecondsGauge>);

/// One that is forgotten with its stream.
struct Known<'a> {
    all: &'a RoundTrips,
    peer: Peer,
}

impl Drop for Known<'_> {
    fn drop(&mut self) {
        self.all.0.remove(&self.peer);
    }
}

impl RoundTrips {
    /// None yet.
    pub fn new(to: &mut Metrics) -> RoundTrips {
        let help = "Time until the daemon of a peer had answered a call, the last time";
        RoundTrips(to.add("peer_rtt_seconds", help, Family::default()))
    }

    /// Asks `peer` again and again, for as long as this is polled. Who does not answer is for the machine to notice.
    pub async fn measure(&self, peer: DaemonId, request: pb::ProbeRequest, channel: Channel) -> Infallible {
        let known = Known { all: self, peer: [("peer", peer.name().to_string())] };
        let mut client = LinkServiceClient::new(channel);
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let asked = Instant::now();
            if client.probe(request.clone()).await.is_ok() {
                self.0.get_or_create(&known.peer).set(asked.elapsed().as_secs_f64());
            }
        }
    }
}
