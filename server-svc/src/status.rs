//! Units and sessions, as operators see them.

use model::trace::Role;
use model::{Name, ProcessId, Time, UnitId};
use proto::server::v1 as pb;
use session_core::{Database, Server, SessionStatus, SharedStatus, Stage};

use crate::Service;
use crate::policy::{commit_level, components, rebuild, uncertain};
use crate::wire;

/// A unit that is held here.
pub(crate) fn unit_status<S: Service>(
    server: &Server<S>,
    now: Time,
    unit: &UnitId,
    database: &Database,
) -> pb::UnitStatus {
    let policy = database.policy();
    let sessions = database.sessions().keys().filter_map(|id| server.session(unit, *id));
    pb::UnitStatus {
        name: wire::unit_name(unit),
        view: database.view().to_string(),
        members: database.members().iter().map(ProcessId::to_string).collect(),
        agreed: database.is_agreed(),
        backups: policy.backups.into(),
        period: prost_types::Duration::try_from(policy.period).ok(),
        components: components(policy.components).into(),
        uncertain: uncertain(policy.uncertain).into(),
        commit: commit_level(policy.commit).into(),
        rebuild: rebuild(policy.rebuild).into(),
        may_serve: server.may_serve(unit),
        shared_state: shared_state(database),
        edition: database.edition().number,
        editions: server.editions(unit).map(|edition| edition.number).collect(),
        sessions: sessions.map(|it| session_status(now, &it)).collect(),
    }
}

/// The state that the sessions on a unit share, if they do.
pub(crate) fn shared_state(database: &Database) -> Option<pb::SharedState> {
    let SharedStatus { live, voters, updates } = database.shared_status()?;
    Some(pb::SharedState { live, voters: voters.iter().map(Name::to_string).collect(), updates })
}

/// A session on such a unit.
pub(crate) fn session_status(now: Time, status: &SessionStatus<'_>) -> pb::SessionStatus {
    let role = match status.role {
        Role::Primary => pb::Role::Primary,
        Role::Backup => pb::Role::Backup,
        Role::None => pb::Role::None,
    };
    let state = match status.session.stage() {
        Stage::Unserved => pb::SessionState::Unserved,
        Stage::Claimed => pb::SessionState::Claimed,
        Stage::Active => pb::SessionState::Active,
    };
    let client = match status.client {
        None => pb::ClientState::Unspecified,
        Some(true) => pb::ClientState::Attached,
        Some(false) => pb::ClientState::Detached,
    };
    let age = status.heard.and_then(|heard| prost_types::Duration::try_from(now.since(heard)).ok());
    pb::SessionStatus {
        name: wire::session_name(status.unit, status.id),
        role: role.into(),
        primary: status.session.primary.map(|it| it.to_string()).unwrap_or_default(),
        backups: status.session.backups.iter().map(ProcessId::to_string).collect(),
        fence: status.session.fence.to_string(),
        gateway: status.session.gateway.name.to_string(),
        responses: status.responses,
        requests: status.requests,
        context_age: age,
        placed: status.session.placed,
        edition: status.session.edition().map_or(0, |edition| edition.number),
        stalls: status.session.stalls.moves,
        state: state.into(),
        primary_server: status.primary.map(|name| name.to_string()).unwrap_or_default(),
        backup_servers: status.backups.iter().map(Name::to_string).collect(),
        client: client.into(),
    }
}
