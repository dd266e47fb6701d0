//! Sessions, as they are shown.

use std::fmt;

use proto::server::v1::{ClientState, SessionState, SessionStatus};
use serde::Serialize;

use super::ask::{id_of, unit_of};
use crate::commands::status::milliseconds;
use crate::table::Table;
use crate::words::digits_of;

/// A list of sessions.
#[derive(Debug, Serialize)]
pub(super) struct Roll {
    sessions: Vec<Row>,
}

/// A session.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    session: String,
    unit: String,
    state: &'static str,
    primary: Option<String>,
    backups: Vec<String>,
    gateway: String,
    client: Option<&'static str>,
    requests: u64,
    responses: u64,
    edition: u32,
    fence: String,
    placed: bool,
    stalls: u32,
    context_age_ms: u64,
}

impl Roll {
    pub(super) fn of(sessions: &[&SessionStatus]) -> Roll {
        Roll { sessions: sessions.iter().map(|it| Row::of(it)).collect() }
    }
}

impl Row {
    pub(super) fn of(it: &SessionStatus) -> Row {
        // A server that is gone, and has a part in the session still, may be known by its process id alone.
        let primary = Some(&it.primary_server).filter(|name| !name.is_empty()).or(Some(&it.primary));
        let state = match it.state() {
            SessionState::Active => "active",
            SessionState::Claimed => "claimed",
            SessionState::Unserved => "unserved",
            SessionState::Unspecified => "unknown",
        };
        let client = match it.client() {
            ClientState::Attached => Some("attached"),
            ClientState::Detached => Some("detached"),
            ClientState::Unspecified => None,
        };
        Row {
            session: id_of(&it.name).to_owned(),
            unit: unit_of(&it.name).to_owned(),
            state,
            primary: primary.filter(|name| !name.is_empty()).cloned(),
            backups: it.backup_servers.clone(),
            gateway: it.gateway.clone(),
            client,
            requests: it.requests,
            responses: it.responses,
            edition: it.edition,
            fence: it.fence.clone(),
            placed: it.placed,
            stalls: it.stalls,
            context_age_ms: milliseconds(it.context_age.as_ref()),
        }
    }

    /// All there is to say, a line each.
    pub(super) fn in_full(&self) -> String {
        let lines = [
            ("session", self.session.clone()),
            ("unit", self.unit.clone()),
            ("edition", self.edition.to_string()),
            ("state", self.state.to_owned()),
            ("primary", self.primary().to_owned()),
            ("placed", if self.placed { "by an operator" } else { "no" }.to_owned()),
            ("backups", self.backups.join(" ")),
            ("fence", self.fence.clone()),
            ("gateway", self.gateway.clone()),
            ("client", self.client().to_owned()),
            ("requests", self.requests.to_string()),
            ("responses", self.responses.to_string()),
            ("stalls", self.stalls.to_string()),
            ("context age", format!("{} ms", self.context_age_ms)),
        ];
        lines.map(|(name, value)| format!("{name:12} {value}").trim_end().to_owned() + "\n").concat()
    }

    fn primary(&self) -> &str {
        self.primary.as_deref().unwrap_or("-")
    }

    fn client(&self) -> &str {
        self.client.unwrap_or("-")
    }
}

impl fmt::Display for Roll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new([
            "SESSION",
            "UNIT",
            "STATE",
            "PRIMARY",
            "BACKUPS",
            "GATEWAY",
            "CLIENT",
            "REQUESTS",
            "RESPONSES",
            "EDITION",
        ]);
        let digits = digits_of(self.sessions.iter().map(|it| it.session.as_str()));
        for it in &self.sessions {
            table.row([
                it.session.chars().take(digits).collect(),
                it.unit.clone(),
                it.state.to_owned(),
                it.primary().to_owned(),
                it.backups.join(" "),
                it.gateway.clone(),
                it.client().to_owned(),
                it.requests.to_string(),
                it.responses.to_string(),
                it.edition.to_string(),
            ]);
        }
        write!(f, "{table}")
    }
}
