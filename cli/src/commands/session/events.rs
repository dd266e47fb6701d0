//! What happened to a session, as all servers together tell it.

use std::fmt;

use anyhow::bail;
use futures::future::join_all;
use model::{Address, SessionId};
use proto::server::v1::server_service_client::ServerServiceClient;
use proto::server::v1::{
    ClientState, HandoverReason, ListSessionEventsRequest, SessionEvent, SessionEventKind,
};
use serde::Serialize;
use svc_kit::dial::Wire;
use svc_kit::{status, tls};
use tonic::{Code, Status};

use super::ask::{Sessions, Wanted};
use crate::commands::order::OrderError;
use crate::operator;
use crate::snapshot::limited;
use crate::table::Table;
use crate::words::{counted, listed, time};

/// Events are asked for in pages of this size.
const PAGE: i32 = 1000;

/// What happened to a session, the oldest first.
#[derive(Debug, Serialize)]
pub(super) struct History {
    session: String,
    events: Vec<Event>,
}

#[derive(Debug, Serialize)]
struct Event {
    time: String,
    event: &'static str,
    reason: Option<&'static str>,
    from: Option<String>,
    to: Option<String>,
    backups: Option<Vec<String>>,
    fence: Option<String>,
    responses: Option<u64>,
    client: Option<&'static str>,
}

impl History {
    /// Asks all these servers. The session may be over: then its whole id has to be given.
    pub(super) async fn ask(servers: &[Address], given: &str) -> anyhow::Result<History> {
        let parent = match Sessions::ask(servers, &Wanted::default()).await?.find(given) {
            Ok(session) => session.name.clone(),
            Err(_) if given.starts_with("contentUnits/") => given.to_owned(),
            Err(error) => match given.parse::<SessionId>() {
                Ok(id) => format!("contentUnits/-/sessions/{id}"),
                Err(_) => return Err(error),
            },
        };
        let wire = operator::wire()?;
        let answers = join_all(servers.iter().map(|at| pages(&wire, at, &parent))).await;
        let mut events = Vec::new();
        for answer in answers {
            match answer {
                Ok(told) => events.extend(told),
                Err(refused) if refused.code() == Code::InvalidArgument => {
                    bail!(OrderError::Refused(refused))
                }
                // It knows nothing, or does not answer, as was said before.
                Err(_) => {}
            }
        }
        if events.is_empty() {
            bail!(OrderError::Refused(status::not_found("session", given)));
        }
        let session = super::ask::id_of(&parent).to_owned();
        Ok(History { session, events: once(events).iter().map(Event::of).collect() })
    }
}

/// What several servers tell alike is told once, as who saw it first did.
fn once(mut events: Vec<SessionEvent>) -> Vec<SessionEvent> {
    let moment = |it: &SessionEvent| it.time.map(|time| (time.seconds, time.nanos));
    events.sort_by_key(moment);
    let mut told = Vec::<SessionEvent>::new();
    for event in events {
        let is_known = |it: &SessionEvent| SessionEvent { time: event.time, ..it.clone() } == event;
        let is_shared = !matches!(
            event.kind(),
            SessionEventKind::Serving | SessionEventKind::Attached | SessionEventKind::Detached
        );
        if !(is_shared && told.iter().any(is_known)) {
            told.push(event);
        }
    }
    told
}

async fn pages(wire: &Wire, at: &Address, parent: &str) -> Result<Vec<SessionEvent>, Status> {
    let channel = wire.endpoint(at, tls::Role::Server).map_err(|it| Status::unavailable(it.to_string()))?;
    let mut client = ServerServiceClient::new(channel.connect_lazy());
    let (mut events, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListSessionEventsRequest { parent: parent.to_owned(), page_size: PAGE, page_token };
        let page = client.list_session_events(limited(request)).await?.into_inner();
        events.extend(page.events);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(events);
        }
    }
}

impl Event {
    fn of(it: &SessionEvent) -> Event {
        let given = |text: &String| Some(text).filter(|text| !text.is_empty()).cloned();
        let of = |kind, value: Option<u64>| value.filter(|_| it.kind() == kind);
        let client = match it.client() {
            ClientState::Attached => Some("attached"),
            ClientState::Detached => Some("detached"),
            ClientState::Unspecified => None,
        };
        Event {
            time: time(&it.time.unwrap_or_default()),
            event: word(it.kind()),
            reason: reason(it.reason()),
            from: given(&it.from),
            to: given(&it.to),
            backups: (it.kind() == SessionEventKind::Backups).then(|| it.backups.clone()),
            fence: given(&it.fence),
            responses: of(SessionEventKind::Serving, Some(it.responses)),
            client,
        }
    }

    /// What there is to say beside what it is.
    fn detail(&self) -> String {
        let to = self.to.as_deref().unwrap_or("nobody");
        let gateway = self.to.as_deref().unwrap_or("-");
        match self.event {
            "opened" | "rebuilt" => format!("at {gateway}"),
            "gateway" => format!("{} -> {gateway}", self.from.as_deref().unwrap_or("-")),
            "primary" => {
                let why = self.reason.map(|why| format!(", {why}")).unwrap_or_default();
                format!("{} -> {to}{why}", self.from.as_deref().unwrap_or("nobody"))
            }
            "backups" => {
                let backups: Vec<&str> = self.backups.iter().flatten().map(String::as_str).collect();
                if backups.is_empty() { "none".to_owned() } else { listed(&backups) }
            }
            "serving" => {
                let responses = usize::try_from(self.responses.unwrap_or_default()).unwrap_or(usize::MAX);
                let client = self.client.unwrap_or("unknown");
                format!("{to}, after {}, client {client}", counted(responses, "response"))
            }
            _ => String::new(),
        }
    }
}

fn word(kind: SessionEventKind) -> &'static str {
    match kind {
        SessionEventKind::Opened => "opened",
        SessionEventKind::Rebuilt => "rebuilt",
        SessionEventKind::Learned => "learned",
        SessionEventKind::Primary => "primary",
        SessionEventKind::Backups => "backups",
        SessionEventKind::Gateway => "gateway",
        SessionEventKind::Serving => "serving",
        SessionEventKind::Attached => "attached",
        SessionEventKind::Detached => "detached",
        SessionEventKind::Closed => "closed",
        SessionEventKind::Expired => "expired",
        SessionEventKind::Dismissed => "dismissed",
        SessionEventKind::Failed => "failed",
        SessionEventKind::Unspecified => "unknown",
    }
}

fn reason(reason: HandoverReason) -> Option<&'static str> {
    match reason {
        HandoverReason::Vacant => Some("vacant"),
        HandoverReason::Lost => Some("lost"),
        HandoverReason::Drained => Some("drained"),
        HandoverReason::Unable => Some("unable"),
        HandoverReason::Ordered => Some("ordered"),
        HandoverReason::Balance => Some("balance"),
        HandoverReason::Stalled => Some("stalled"),
        HandoverReason::Merged => Some("merged"),
        HandoverReason::Unspecified => None,
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["TIME", "EVENT", "WHAT"]);
        for it in &self.events {
            table.row([it.time.clone(), it.event.to_owned(), it.detail()]);
        }
        write!(f, "{table}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(millis: i32, kind: SessionEventKind) -> SessionEvent {
        let time = Some(prost_types::Timestamp { seconds: 0, nanos: millis * 1_000_000 });
        SessionEvent { time, kind: kind.into(), place: "v1.0+0/1".into(), ..SessionEvent::default() }
    }

    #[test]
    fn what_all_saw_is_told_once_in_the_order_of_time() {
        let lost = |millis| SessionEvent {
            from: "server-1".into(),
            to: "server-2".into(),
            reason: HandoverReason::Lost.into(),
            ..event(millis, SessionEventKind::Primary)
        };
        let serving = SessionEvent {
            to: "server-2".into(),
            responses: 17,
            client: ClientState::Attached.into(),
            ..event(9, SessionEventKind::Serving)
        };
        let (left, again) = (event(10, SessionEventKind::Detached), event(11, SessionEventKind::Detached));
        let events = once(vec![again, serving, lost(8), left, lost(7)]).iter().map(Event::of).collect();
        let shown = History { session: "1".into(), events }.to_string();
        let expected = "\
TIME                       EVENT      WHAT
1970-01-01T00:00:00.007Z   primary    server-1 -> server-2, lost
1970-01-01T00:00:00.009Z   serving    server-2, after 17 responses, client attached
1970-01-01T00:00:00.010Z   detached
1970-01-01T00:00:00.011Z   detached
";
        assert_eq!(shown, expected);
    }
}
