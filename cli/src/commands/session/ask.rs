//! Asking all servers for their sessions, page by page, and choosing who knows each of them best.

use std::collections::BTreeMap;

use anyhow::{anyhow, bail};
use futures::future::join_all;
use model::Address;
use proto::server::v1::server_service_client::ServerServiceClient;
use proto::server::v1::{ListSessionsRequest, Role, SessionStatus};
use server_svc::order_by::OrderBy;
use svc_kit::dial::Wire;
use svc_kit::{status, tls};
use tonic::{Code, Status};

use crate::commands::order::OrderError;
use crate::operator;
use crate::silence;
use crate::snapshot::limited;

/// Sessions are asked for in pages of this size.
const PAGE: i32 = 1000;

/// Which sessions, in which order.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) filter: String,
    pub(super) order_by: String,
}

/// Every session by its name, as whoever knows it best told it.
#[derive(Debug, Default)]
pub(super) struct Sessions(BTreeMap<String, (Address, SessionStatus)>);

impl Sessions {
    /// Asks all these servers. Those that do not answer are named on standard error.
    pub(super) async fn ask(servers: &[Address], wanted: &Wanted) -> anyhow::Result<Sessions> {
        let wire = operator::wire()?;
        let answers = servers.iter().map(async |at| (at, pages(&wire, at, wanted).await));
        let mut sessions = Sessions::default();
        let (mut is_answered, mut refusal) = (false, None);
        for (at, answer) in join_all(answers).await {
            match answer {
                Ok(answered) => {
                    is_answered = true;
                    answered.into_iter().for_each(|it| sessions.add(at, it));
                }
                Err(refused) if refused.code() == Code::InvalidArgument => {
                    bail!(OrderError::Refused(refused))
                }
                Err(silent) => {
                    silence::tell(at, &silent);
                    refusal = refusal.or(Some(silent).filter(silence::is_refusal));
                }
            }
        }
        if !is_answered {
            bail!(refusal.map_or(OrderError::Silent, OrderError::Refused));
        }
        Ok(sessions)
    }

    fn add(&mut self, at: &Address, session: SessionStatus) {
        let knowledge = |it: &SessionStatus| match it.role() {
            Role::Primary => 2,
            Role::Backup => 1,
            Role::None | Role::Unspecified => 0,
        };
        let known = self.0.entry(session.name.clone()).or_insert_with(|| (at.clone(), session.clone()));
        if knowledge(&session) > knowledge(&known.1) {
            *known = (at.clone(), session);
        }
    }

    /// In an order that servers have accepted.
    pub(super) fn ordered(&self, order_by: &str) -> anyhow::Result<Vec<&SessionStatus>> {
        let order = OrderBy::parse(order_by).map_err(|mistake| anyhow!("{mistake}"))?;
        let mut sessions: Vec<_> = self.0.values().map(|(_, session)| session).collect();
        sessions.sort_by(|one, other| order.compare(one, other));
        Ok(sessions)
    }

    /// The session that is called so, or whose id begins so.
    pub(super) fn find(&self, given: &str) -> anyhow::Result<&SessionStatus> {
        self.find_with_server(given).map(|(_, session)| session)
    }

    /// Likewise, with who knows it best.
    pub(super) fn find_with_server(&self, given: &str) -> anyhow::Result<(&Address, &SessionStatus)> {
        let is_meant = |name: &str| name == given || id_of(name).starts_with(given);
        let found: Vec<_> = self.0.values().filter(|(_, it)| is_meant(&it.name)).collect();
        match found[..] {
            [(at, session)] => Ok((at, session)),
            [] => bail!(OrderError::Refused(status::not_found("session", given))),
            _ => bail!("{} sessions begin with {given:?}: give more digits", found.len()),
        }
    }
}

pub(super) fn id_of(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

pub(super) fn unit_of(name: &str) -> &str {
    name.split('/').nth(1).unwrap_or_default()
}

async fn pages(wire: &Wire, at: &Address, wanted: &Wanted) -> Result<Vec<SessionStatus>, Status> {
    let channel = wire.endpoint(at, tls::Role::Server).map_err(|it| Status::unavailable(it.to_string()))?;
    let mut client = ServerServiceClient::new(channel.connect_lazy());
    let (mut sessions, mut page_token) = (Vec::new(), String::new());
    loop {
        let Wanted { filter, order_by } = wanted.clone();
        let parent = String::new();
        let request = ListSessionsRequest { parent, page_size: PAGE, page_token, filter, order_by };
        let page = client.list_sessions(limited(request)).await?.into_inner();
        sessions.extend(page.sessions);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(sessions);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(name: &str, role: Role, responses: u64) -> SessionStatus {
        SessionStatus { name: name.into(), role: role.into(), responses, ..SessionStatus::default() }
    }

    #[test]
    fn a_session_is_shown_as_its_primary_knows_it_and_found_by_enough_of_its_digits() {
        let mut sessions = Sessions::default();
        let (first, second) = ("contentUnits/life/sessions/0123", "contentUnits/life/sessions/0145");
        for (role, responses) in [(Role::None, 1), (Role::Primary, 3), (Role::Backup, 2)] {
            sessions.add(&Address::new("a:1"), session(first, role, responses));
        }
        sessions.add(&Address::new("b:1"), session(second, Role::None, 7));
        for given in ["0123", "012", first] {
            assert_eq!(sessions.find(given).unwrap().responses, 3, "{given}");
        }
        let error = |given| sessions.find(given).unwrap_err().to_string();
        assert_eq!(error("01"), "2 sessions begin with \"01\": give more digits");
        assert_eq!(error("9"), "no session \"9\" (NOT_FOUND)");
    }
}
