//! A server that is to end hands its sessions over first. Signals ask for that, and operators, who can watch it.

use std::pin::Pin;
use std::sync::OnceLock;
use std::time::Duration;

use futures::{Stream, stream};
use model::trace::Role;
use model::{Name, Time, UnitId};
use proto::server::v1 as pb;
use proto::server::v1::DrainResponse;
use session_core::Server;
use svc_kit::driver::Handle;
use svc_kit::status::because;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::Service;
use crate::wire;

/// How often an operator hears how far a drain is.
const PROGRESS: Duration = Duration::from_millis(200);

/// What an operator hears of a drain.
pub(crate) type Progress = Pin<Box<dyn Stream<Item = Result<DrainResponse, Status>> + Send>>;

/// The moments of the end of a server.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    /// It was asked to end.
    pub(crate) asked: CancellationToken,
    /// All sessions are handed over.
    pub(crate) drained: CancellationToken,
    /// Its tasks stop, whether or not sessions are left.
    pub(crate) stop: CancellationToken,
}

impl Ending {
    /// Asks the server to end, and tells what becomes of its sessions.
    pub(crate) fn begin<S: Service>(self, machine: Handle<Server<S>>) -> Progress {
        self.asked.cancel();
        let mut due = tokio::time::interval(PROGRESS);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        Box::pin(stream::unfold(Some((self, machine, due)), async |state| {
            let (ending, machine, mut due) = state?;
            let progress = tokio::select! {
                biased;
                () = ending.drained.cancelled() => None,
                () = ending.stop.cancelled() => Some(Err(())),
                _ = due.tick() => Some(machine.ask(served).await.map_err(|_| ())),
            };
            match progress {
                None => Some((Ok(DrainResponse { sessions: 0 }), None)),
                Some(Ok(sessions)) => Some((Ok(DrainResponse { sessions }), Some((ending, machine, due)))),
                Some(Err(())) => Some((Err(cut_short()), None)),
            }
        }))
    }
}

/// A drain that an operator began and does not wait for. There is one in the life of a server.
#[derive(Debug, Default)]
pub(crate) struct Operation(OnceLock<Begun>);

#[derive(Debug)]
struct Begun {
    at: Time,
    sessions: u64,
    request: String,
}

impl Operation {
    /// It begins, if it has not yet, with so many sessions.
    pub(crate) fn begin(&self, at: Time, sessions: u64, request: String) {
        self.0.get_or_init(|| Begun { at, sessions, request });
    }

    /// How far it is, while so many sessions are left; nothing if it was not begun.
    pub(crate) fn progress(&self, server: Name, left: u64, done: bool) -> Option<pb::Operation> {
        let Begun { at, sessions, request } = self.0.get()?;
        let left = if done { 0 } else { left };
        let metadata = pb::DrainMetadata {
            begin_time: Some(wire::timestamp(*at)),
            sessions_total: *sessions,
            sessions_moved: sessions.saturating_sub(left),
            request_id: request.clone(),
        };
        Some(pb::Operation { name: Operation::name(server), metadata: Some(metadata), done })
    }

    /// The name of the drain of a server.
    pub(crate) fn name(server: Name) -> String {
        format!("operations/drain-{server}")
    }
}

/// How many sessions are served here.
pub(crate) fn served<S: Service>(server: &Server<S>) -> u64 {
    server.sessions().filter(|it| it.role == Role::Primary).count() as u64
}

/// The units whose shared state would wait for voters without this server.
pub(crate) fn resting_here<S: Service>(server: &Server<S>) -> Vec<UnitId> {
    let resting = server.databases().filter(|(_, database)| database.rests_on_me());
    resting.map(|(unit, _)| unit.clone()).collect()
}

pub(crate) fn voters_needed(units: &[UnitId]) -> Status {
    let units: Vec<_> = units.iter().map(UnitId::as_str).collect();
    let message = format!(
        "too few of the others have the shared state of {}: wait until they do, or force it",
        units.join(", ")
    );
    because(Code::FailedPrecondition, "VOTERS_NEEDED", message)
}

fn cut_short() -> Status {
    because(Code::Aborted, "UNDRAINED", "the drain timeout is over, and not all sessions were handed over")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_begun_once() {
        let (operation, server) = (Operation::default(), "server-1".parse().unwrap());
        assert_eq!(operation.progress(server, 3, false), None);
        operation.begin(Time::ZERO, 3, "first".into());
        operation.begin(Time::from_micros(7), 2, "second".into());
        let progress = operation.progress(server, 1, false).unwrap();
        let metadata = progress.metadata.unwrap();
        assert_eq!(progress.name, "operations/drain-server-1");
        assert_eq!((metadata.sessions_total, metadata.sessions_moved), (3, 2));
        assert_eq!(metadata.request_id, "first");
        let over = operation.progress(server, 1, true).unwrap();
        assert_eq!(
            (over.done, over.metadata.unwrap().sessions_moved),
            (true, 3),
            "it was looked at a moment before"
        );
    }
}
