//! One membership server after the other, until one answers.

use model::Address;
use proto::membership::v1 as pb;
use proto::membership::v1::membership_service_client::MembershipServiceClient;
use svc_kit::tls::Role;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use crate::operator;
use crate::silence;
use crate::snapshot::{ANSWER_MAX, limited};

type Client = MembershipServiceClient<Channel>;

/// The membership servers of a cluster.
pub struct Servers(pub Vec<Address>);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The servers refuse what was asked for.
    #[error("{}", svc_kit::status::sentence(.0))]
    Refused(Status),
    /// No server answers.
    #[error("no membership server answers")]
    Silent,
}

impl Servers {
    /// The answer of the first server that gives one. Those that do not are named.
    pub async fn ask<T>(
        &self,
        question: impl AsyncFn(Client) -> Result<Response<T>, Status>,
    ) -> Result<T, AskError> {
        for address in &self.0 {
            match ask_one(address, &question).await {
                Ok(answer) => return Ok(answer),
                Err(status) if is_silence(&status) => silence::tell(address, &status),
                Err(status) => return Err(AskError::Refused(status)),
            }
        }
        Err(AskError::Silent)
    }

    /// Who is there.
    pub async fn membership(&self) -> Result<pb::GetMembershipResponse, AskError> {
        self.ask(async |mut client| client.get_membership(limited(pb::GetMembershipRequest {})).await).await
    }

    /// Shows each new configuration, going on at the next server whenever one goes away.
    pub async fn watch(&self, mut show: impl FnMut(&pb::View) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut last = Vec::new();
        loop {
            let question =
                async |mut client: Client| client.watch(operator::unlimited(pb::WatchRequest {})).await;
            let mut views = self.ask(question).await?;
            while let Ok(Some(response)) = views.message().await {
                let Some(view) = response.view.filter(|view| view.configurations != last) else { continue };
                show(&view)?;
                last = view.configurations;
            }
        }
    }
}

async fn ask_one<T>(
    address: &Address,
    question: &impl AsyncFn(Client) -> Result<Response<T>, Status>,
) -> Result<T, Status> {
    let wire = operator::wire().map_err(|error| Status::unavailable(error.to_string()))?;
    let channel = tokio::time::timeout(ANSWER_MAX, wire.connect(address, Role::Membership))
        .await
        .map_err(|_| Status::deadline_exceeded("no connection in time"))?
        .map_err(|error| Status::unavailable(error.cause()))?;
    question(MembershipServiceClient::new(channel)).await.map(Response::into_inner)
}

/// Whether another server may answer.
fn is_silence(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Unimplemented
    )
}

/// The name of a daemon or a server, without the number of its life.
pub fn without_boot(id: &str) -> &str {
    id.split_once('#').map_or(id, |(name, _)| name)
}
