//! What all processes of a cluster say about themselves, asked at about the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use model::Address;
use proto::gateway::v1::gateway_service_client::GatewayServiceClient;
use proto::gcs::v1::group_service_client::GroupServiceClient;
use proto::server::v1::server_service_client::ServerServiceClient;
use proto::{gateway::v1 as gateway_pb, gcs::v1 as gcs_pb, server::v1 as server_pb};
use svc_kit::dial::{DialError, Wire};
use svc_kit::tls::Role;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::cluster::Service;
use crate::cluster::state::State;
use crate::operator;

/// How long a process has for an answer.
pub const ANSWER_MAX: Duration = Duration::from_secs(2);

/// The phase of a daemon in which messages flow.
pub const STEADY: &str = "steady";

/// How long an answer may be. Servers and gateways name all their sessions in one, some 250 bytes each.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Groups are listed in pages of this size.
const PAGE: i32 = 1000;

/// Where the processes of a cluster listen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Daemons.
    pub daemons: Vec<Address>,
    /// Content servers.
    pub servers: Vec<Address>,
    /// Gateways.
    pub gateways: Vec<Address>,
}

impl From<&State> for Addresses {
    fn from(state: &State) -> Addresses {
        Addresses {
            daemons: state.addresses(Service::Daemon),
            servers: state.addresses(Service::Server),
            gateways: state.addresses(Service::Gateway),
        }
    }
}

/// An answer of a process.
pub type Answer<T> = (Address, Result<T, Status>);

/// What all processes said.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Daemons.
    pub daemons: Vec<Answer<gcs_pb::GetStatusResponse>>,
    /// Content servers.
    pub servers: Vec<Answer<server_pb::GetStatusResponse>>,
    /// Gateways.
    pub gateways: Vec<Answer<gateway_pb::GetStatusResponse>>,
    /// Content groups, as the first daemon that answered knows them.
    pub content_groups: Vec<gcs_pb::Group>,
    /// How many session groups it knows.
    pub session_groups: usize,
}

impl Snapshot {
    /// The daemons that answered.
    pub fn up_daemons(&self) -> impl Iterator<Item = &gcs_pb::GetStatusResponse> {
        up(&self.daemons)
    }

    /// The content servers that answered.
    pub fn up_servers(&self) -> impl Iterator<Item = &server_pb::GetStatusResponse> {
        up(&self.servers)
    }

    /// The gateways that answered.
    pub fn up_gateways(&self) -> impl Iterator<Item = &gateway_pb::GetStatusResponse> {
        up(&self.gateways)
    }

    /// Who did not answer, and why.
    pub fn silent(&self) -> Vec<(&Address, &Status)> {
        fn of<T>(answers: &[Answer<T>]) -> impl Iterator<Item = (&Address, &Status)> {
            answers.iter().filter_map(|(address, answer)| Some((address, answer.as_ref().err()?)))
        }
        of(&self.daemons).chain(of(&self.servers)).chain(of(&self.gateways)).collect()
    }

    /// Servers by their process id, which is how they appear in views.
    pub fn servers_by_process(&self) -> BTreeMap<&str, &str> {
        self.up_servers().map(|server| (server.process.as_str(), server.name.as_str())).collect()
    }

    /// Whether the cluster has come together: all daemons that answered are in one configuration of exactly them, and
    /// every unit is served by all servers that hold it.
    ///
    /// # Errors
    /// What is missing, in a few words.
    pub fn is_settled(&self) -> Result<(), String> {
        let daemons: BTreeSet<&str> = self.up_daemons().map(|it| it.daemon.as_str()).collect();
        for it in self.up_daemons() {
            let members: BTreeSet<&str> = it.members.iter().map(String::as_str).collect();
            if members != daemons || it.phase != STEADY {
                return Err(format!("{} is in {} of {members:?}, {}", it.daemon, it.configuration, it.phase));
            }
        }
        let mut holders = BTreeMap::<&str, usize>::new();
        for unit in self.up_servers().flat_map(|server| &server.units) {
            *holders.entry(&unit.name).or_default() += 1;
        }
        for server in self.up_servers() {
            if server.process.is_empty() {
                return Err(format!("{} is not attached to its daemon", server.name));
            }
            for unit in &server.units {
                let expected = holders.get(unit.name.as_str()).copied().unwrap_or_default();
                if !unit.agreed || unit.members.len() != expected {
                    let (agreed, members) = (unit.agreed, unit.members.len());
                    return Err(format!(
                        "{} sees {members} of {expected} servers of {}, agreed: {agreed}",
                        server.name, unit.name
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether nothing is left to do: the cluster has come together, no session is open, and every message is
    /// delivered by everybody.
    ///
    /// # Errors
    /// What is not done yet, in a few words.
    pub fn is_at_rest(&self) -> Result<(), String> {
        self.is_settled()?;
        let open: usize =
            self.up_servers().flat_map(|server| &server.units).map(|unit| unit.sessions.len()).sum();
        if open + self.session_groups > 0 {
            return Err(format!("{open} sessions are open, and {} groups of sessions", self.session_groups));
        }
        for it in self.up_daemons() {
            let windows = it.windows.unwrap_or_default();
            if windows.unstable + windows.waiting > 0 {
                return Err(format!("messages of {} are on their way: {windows:?}", it.daemon));
            }
        }
        Ok(())
    }
}

fn up<T>(answers: &[Answer<T>]) -> impl Iterator<Item = &T> {
    answers.iter().filter_map(|(_, answer)| answer.as_ref().ok())
}

/// Asks processes, over connections that it keeps.
#[derive(Debug, Default)]
pub struct Probe {
    wire: Wire,
    channels: BTreeMap<Address, Channel>,
}

impl Probe {
    /// One that connects like this.
    pub fn new(wire: Wire) -> Probe {
        Probe { wire, channels: BTreeMap::new() }
    }

    /// Asks all processes; daemons last, so that what they say about messages under way covers all that the others
    /// have seen.
    ///
    /// # Errors
    /// If an address is not one.
    pub async fn snapshot(&mut self, addresses: &Addresses) -> Result<Snapshot, DialError> {
        let servers = self.ask(Role::Server, &addresses.servers, async |channel| {
            let mut client = ServerServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
            client.get_status(limited(server_pb::GetStatusRequest {})).await
        });
        let servers = servers.await?;
        let gateways = self.ask(Role::Gateway, &addresses.gateways, async |channel| {
            let mut client = GatewayServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
            client.get_status(limited(gateway_pb::GetStatusRequest {})).await
        });
        let gateways = gateways.await?;
        let (mut content_groups, mut session_groups) = (Vec::new(), 0);
        for daemon in &addresses.daemons {
            if let Ok(groups) = self.content_groups(daemon).await? {
                content_groups = groups;
                // If it goes away now, it has no groups to show.
                session_groups = self.groups(daemon, "session/").await?.unwrap_or_default().len();
                break;
            }
        }
        let daemons = self.daemons(&addresses.daemons).await?;
        Ok(Snapshot { daemons, servers, gateways, content_groups, session_groups })
    }

    /// Asks daemons alone.
    ///
    /// # Errors
    /// If an address is not one.
    pub async fn daemons(
        &mut self,
        addresses: &[Address],
    ) -> Result<Vec<Answer<gcs_pb::GetStatusResponse>>, DialError> {
        let answers = self.ask(Role::Machine, addresses, async |channel| {
            GroupServiceClient::new(channel).get_status(limited(gcs_pb::GetStatusRequest {})).await
        });
        answers.await
    }

    /// The content groups that a daemon knows.
    ///
    /// # Errors
    /// If the address is not one.
    pub async fn content_groups(
        &mut self,
        daemon: &Address,
    ) -> Result<Result<Vec<gcs_pb::Group>, Status>, DialError> {
        self.groups(daemon, "content/").await
    }

    /// Whether all these processes of a role say that they serve.
    ///
    /// # Errors
    /// If an address is not one.
    pub async fn all_serve(
        &mut self,
        role: Role,
        addresses: &[Address],
    ) -> Result<Result<(), String>, DialError> {
        let answers = self.ask(role, addresses, async |channel| {
            HealthClient::new(channel).check(limited(HealthCheckRequest { service: String::new() })).await
        });
        for (address, answer) in answers.await? {
            match answer.map(|answer| answer.status()) {
                Ok(ServingStatus::Serving) => {}
                Ok(status) => return Ok(Err(format!("{address} is {}", status.as_str_name()))),
                Err(status) => return Ok(Err(format!("{address}: {}", status.message()))),
            }
        }
        Ok(Ok(()))
    }

    /// The groups that a daemon knows, whose names begin with `prefix`.
    async fn groups(
        &mut self,
        daemon: &Address,
        prefix: &str,
    ) -> Result<Result<Vec<gcs_pb::Group>, Status>, DialError> {
        let mut client = GroupServiceClient::new(self.channel(daemon, Role::Machine)?);
        let (mut groups, mut page_token) = (Vec::new(), String::new());
        loop {
            let request =
                gcs_pb::ListGroupsRequest { page_size: PAGE, page_token, prefix: prefix.to_owned() };
            match client.list_groups(limited(request)).await {
                Ok(page) => {
                    let page = page.into_inner();
                    groups.extend(page.groups);
                    page_token = page.next_page_token;
                }
                Err(status) => return Ok(Err(status)),
            }
            if page_token.is_empty() {
                return Ok(Ok(groups));
            }
        }
    }

    async fn ask<T>(
        &mut self,
        role: Role,
        addresses: &[Address],
        question: impl AsyncFn(Channel) -> Result<tonic::Response<T>, Status>,
    ) -> Result<Vec<Answer<T>>, DialError> {
        let channels: Vec<_> = addresses
            .iter()
            .map(|address| Ok((address, self.channel(address, role)?)))
            .collect::<Result<_, DialError>>()?;
        let answers = channels.into_iter().map(async |(address, channel)| {
            (address.clone(), question(channel).await.map(tonic::Response::into_inner))
        });
        Ok(join_all(answers).await)
    }

    fn channel(&mut self, address: &Address, role: Role) -> Result<Channel, DialError> {
        if let Some(channel) = self.channels.get(address) {
            return Ok(channel.clone());
        }
        let channel = self.wire.endpoint(address, role)?.connect_lazy();
        self.channels.insert(address.clone(), channel.clone());
        Ok(channel)
    }
}

/// A request of an operator, which is not waited for forever.
pub fn limited<T>(message: T) -> Request<T> {
    let mut request = operator::unlimited(message);
    request.set_timeout(ANSWER_MAX);
    request
}

#[cfg(test)]
mod tests {
    use proto::gateway::v1::gateway_service_server::{GatewayService, GatewayServiceServer};
    use tonic::Response;
    use tonic::transport::server::TcpIncoming;

    use super::*;

    /// A gateway with so many sessions.
    struct Crowded(usize);

    #[tonic::async_trait]
    impl GatewayService for Crowded {
        async fn get_status(
            &self,
            _: Request<gateway_pb::GetStatusRequest>,
        ) -> Result<Response<gateway_pb::GetStatusResponse>, Status> {
            let name = format!("contentUnits/{}/sessions/{}", "u".repeat(127), "0".repeat(32));
            let session = gateway_pb::SessionStatus { name, ..gateway_pb::SessionStatus::default() };
            let sessions = vec![session; self.0];
            Ok(Response::new(gateway_pb::GetStatusResponse { sessions, ..Default::default() }))
        }
    }

    #[tokio::test]
    async fn an_answer_may_name_many_sessions() {
        const SESSIONS: usize = 30_000;
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let gateway = Address::new(&incoming.local_addr().unwrap().to_string());
        let service = GatewayServiceServer::new(Crowded(SESSIONS));
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(incoming));
        let addresses = Addresses { gateways: vec![gateway], ..Addresses::default() };
        let snapshot = Probe::default().snapshot(&addresses).await.unwrap();
        let (_, answer) = &snapshot.gateways[0];
        assert_eq!(answer.as_ref().map(|it| it.sessions.len()).map_err(Status::message), Ok(SESSIONS));
    }
}
