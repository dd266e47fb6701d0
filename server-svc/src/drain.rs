//! A server that is to end hands its sessions over first. Signals ask for that, and operators, who can watch it.

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, stream};
use model::trace::Role;
use proto::server::v1::DrainResponse;
use session_core::Server;
use svc_kit::driver::Handle;
use svc_kit::status::because;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::Service;

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

/// How many sessions are served here.
pub(crate) fn served<S: Service>(server: &Server<S>) -> u64 {
    server.sessions().filter(|it| it.role == Role::Primary).count() as u64
}

fn cut_short() -> Status {
    because(Code::Aborted, "UNDRAINED", "the drain timeout is over, and not all sessions were handed over")
}
