//! What operators use at every process: its settings with their origins, and what it logs.

use std::sync::OnceLock;
use std::time::Duration;

use proto::process::v1 as pb;
use proto::process::v1::process_service_server::ProcessService;
use tonic::{Code, Request, Response, Status};

use crate::settings::Setting;
use crate::status::{bad_field, because};
use crate::telemetry;

/// The longest time for which another level of the log is set.
pub const LEVEL_TIME_MAX: Duration = Duration::from_secs(24 * 3600);

static SETTINGS: OnceLock<Vec<Setting>> = OnceLock::new();

/// The process runs with these settings. A second call changes nothing.
pub(crate) fn run_with(settings: Vec<Setting>) {
    let _ = SETTINGS.set(settings);
}

/// The service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process;

#[tonic::async_trait]
impl ProcessService for Process {
    async fn get_config(
        &self,
        _: Request<pb::GetConfigRequest>,
    ) -> Result<Response<pb::GetConfigResponse>, Status> {
        let settings = SETTINGS.get().ok_or_else(|| unconfigured("it was not started with settings"))?;
        let settings = settings.iter().cloned();
        let settings = settings.map(|Setting { key, value, origin }| pb::Setting { key, value, origin });
        Ok(Response::new(pb::GetConfigResponse { settings: settings.collect() }))
    }

    async fn get_log_level(
        &self,
        _: Request<pb::GetLogLevelRequest>,
    ) -> Result<Response<pb::GetLogLevelResponse>, Status> {
        let levels = levels()?;
        let (level, configured_level) = (levels.level(), levels.configured().to_owned());
        Ok(Response::new(pb::GetLogLevelResponse { level, configured_level }))
    }

    async fn set_log_level(
        &self,
        request: Request<pb::SetLogLevelRequest>,
    ) -> Result<Response<pb::SetLogLevelResponse>, Status> {
        let pb::SetLogLevelRequest { level, duration } = request.into_inner();
        let odd = |_| bad_field("duration", "must be at least nothing and at most a day");
        let time = duration.map(Duration::try_from).transpose().map_err(|_| odd(()))?;
        if time.is_some_and(|time| time > LEVEL_TIME_MAX) {
            return Err(odd(()));
        }
        let levels = levels()?;
        let level = if level.is_empty() { levels.configured().to_owned() } else { level };
        levels.set(&level, time).map_err(|error| bad_field("level", error.to_string()))?;
        tracing::warn!(level, ?time, "an operator changes what is logged");
        Ok(Response::new(pb::SetLogLevelResponse { level }))
    }
}

fn levels() -> Result<&'static telemetry::Levels, Status> {
    telemetry::levels().ok_or_else(|| unconfigured("it does not log by itself"))
}

fn unconfigured(why: &str) -> Status {
    because(Code::FailedPrecondition, "UNCONFIGURED", why)
}
