//! The policy of a unit, as operators read and write it.

use model::Level;
use proto::server::v1 as pb;
use session_core::{Components, Policy, PolicyChange, Rebuild, Uncertain};
use svc_kit::status::bad_field;
use tonic::Status;

/// What an operator wants to be different.
pub(crate) fn policy_change(request: &pb::ChangePolicyRequest) -> Result<PolicyChange, Status> {
    let too_many = |_| bad_field("backups", "must be at most 255");
    let backups = request.backups.map(u8::try_from).transpose().map_err(too_many)?;
    let bounds = Policy::PERIOD_MIN..=Policy::PERIOD_MAX;
    let period = |given| std::time::Duration::try_from(given).ok().filter(|it| bounds.contains(it));
    let period = match request.period {
        None => None,
        Some(given) => {
            let odd = || bad_field("period", "must be at least 1 ms and at most an hour");
            Some(period(given).ok_or_else(odd)?)
        }
    };
    let components = match request.components() {
        pb::Components::Unspecified if request.components == 0 => None,
        pb::Components::Unspecified => return Err(bad_field("components", "is not a value of its enum")),
        pb::Components::Any => Some(Components::Any),
        pb::Components::Primary => Some(Components::Primary),
    };
    let uncertain = match request.uncertain() {
        pb::Uncertain::Unspecified if request.uncertain == 0 => None,
        pb::Uncertain::Unspecified => return Err(bad_field("uncertain", "is not a value of its enum")),
        pb::Uncertain::Ask => Some(Uncertain::Ask),
        pb::Uncertain::Resend => Some(Uncertain::Resend),
        pb::Uncertain::Skip => Some(Uncertain::Skip),
        pb::Uncertain::Essential => Some(Uncertain::Essential),
    };
    let commit = match request.commit() {
        pb::CommitLevel::Unspecified if request.commit == 0 => None,
        pb::CommitLevel::Unspecified => return Err(bad_field("commit", "is not a value of its enum")),
        pb::CommitLevel::None => Some(None),
        pb::CommitLevel::Agreed => Some(Some(Level::Agreed)),
        pb::CommitLevel::Safe => Some(Some(Level::Safe)),
    };
    let rebuild = match request.rebuild() {
        pb::Rebuild::Unspecified if request.rebuild == 0 => None,
        pb::Rebuild::Unspecified => return Err(bad_field("rebuild", "is not a value of its enum")),
        pb::Rebuild::Never => Some(Rebuild::Never),
        pb::Rebuild::Allowed => Some(Rebuild::Allowed),
    };
    Ok(PolicyChange { backups, period, components, uncertain, commit, rebuild })
}

pub(crate) fn rebuild(rebuild: Rebuild) -> pb::Rebuild {
    match rebuild {
        Rebuild::Never => pb::Rebuild::Never,
        Rebuild::Allowed => pb::Rebuild::Allowed,
    }
}

pub(crate) fn commit_level(commit: Option<Level>) -> pb::CommitLevel {
    match commit {
        None => pb::CommitLevel::None,
        Some(Level::Agreed) => pb::CommitLevel::Agreed,
        Some(Level::Safe) => pb::CommitLevel::Safe,
    }
}

pub(crate) fn components(components: Components) -> pb::Components {
    match components {
        Components::Any => pb::Components::Any,
        Components::Primary => pb::Components::Primary,
    }
}

pub(crate) fn uncertain(uncertain: Uncertain) -> pb::Uncertain {
    match uncertain {
        Uncertain::Ask => pb::Uncertain::Ask,
        Uncertain::Resend => pb::Uncertain::Resend,
        Uncertain::Skip => pb::Uncertain::Skip,
        Uncertain::Essential => pb::Uncertain::Essential,
    }
}
