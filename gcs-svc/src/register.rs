//! The stream to a membership server: what the daemon says on it, and how long the server has been silent.

use std::future::pending;
use std::time::Duration;

use detector::{Doubt, Monitor, Params, Report};
use futures::{Stream, stream};
use model::DaemonId;
use proto::membership::v1 as pb;
use proto::membership::v1::register_request::Request as Said;
use svc_kit::driver::Clock;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// What a daemon says: who it is, then whom it cannot reach whenever that changes, what it answers, and that it is alive
/// when there was nothing to say for `period`; and goodbye when `stop` is cancelled.
pub fn requests(
    hello: pb::RegisterHello,
    mut reach: watch::Receiver<Report<DaemonId>>,
    answers: mpsc::Receiver<pb::Attempted>,
    period: Duration,
    stop: CancellationToken,
) -> impl Stream<Item = pb::RegisterRequest> + Send {
    // A server that was just found knows nothing of what others were told.
    if !reach.borrow_and_update().is_empty() {
        reach.mark_changed();
    }
    let start = Some((Some(hello), reach, answers, stop));
    stream::unfold(start, move |state| async move {
        let (hello, mut reach, mut answers, stop): (
            _,
            watch::Receiver<_>,
            mpsc::Receiver<_>,
            CancellationToken,
        ) = state?;
        let said = match hello {
            Some(hello) => Said::Hello(hello),
            None => tokio::select! {
                biased;
                () = stop.cancelled() => {
                    return Some((pb::RegisterRequest { request: Some(Said::Goodbye(pb::Goodbye {})) }, None));
                }
                Some(answer) = answers.recv() => Said::Attempted(answer),
                Ok(()) = reach.changed() => Said::Reach(unreachable(&reach.borrow_and_update())),
                () = tokio::time::sleep(period) => Said::Beat(pb::Beat {}),
            },
        };
        Some((pb::RegisterRequest { request: Some(said) }, Some((None, reach, answers, stop))))
    })
}

fn unreachable(report: &Report<DaemonId>) -> pb::Reach {
    let unreachable = report.iter().map(|(daemon, doubted)| pb::Unreachable {
        daemon: daemon.to_string(),
        doubt: match doubted.doubt {
            Doubt::Doubtful => pb::Doubt::Doubtful,
            Doubt::Cut => pb::Doubt::Cut,
        }
        .into(),
        silent: prost_types::Duration::try_from(doubted.silent).ok(),
    });
    pb::Reach { unreachable: unreachable.collect() }
}

/// How long the server has been silent. One that never beats is never silent: only its connection can tell.
pub struct Silence {
    monitor: Monitor<()>,
    clock: Clock,
}

impl Silence {
    /// Of a server that was not heard yet.
    pub fn new(params: &Params) -> Silence {
        Silence { monitor: Monitor::new(params), clock: Clock::start() }
    }

    /// The server said something.
    pub fn heard(&mut self) {
        self.monitor.heard((), self.clock.now());
    }

    /// The server beats, and is expected to go on.
    pub fn beat(&mut self) {
        if self.monitor.next_wake().is_none() {
            self.monitor.watch((), self.clock.now());
        }
    }

    /// Waits until the server has been silent for too long, and says for how long.
    pub async fn broken(&mut self) -> Duration {
        loop {
            let Some(due) = self.monitor.next_wake() else { return pending().await };
            tokio::time::sleep_until(self.clock.instant(due)).await;
            if let Some(((), silent)) = self.monitor.wake(self.clock.now()).pop() {
                return silent;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use detector::{Doubted, Profile};
    use futures::StreamExt;
    use tokio::time::Instant;

    const LAN: Params = Profile::Lan.params();

    fn doubted(daemon: &str) -> Report<DaemonId> {
        let silent = Duration::from_millis(400);
        Report::from([(daemon.parse().unwrap(), Doubted { doubt: Doubt::Cut, silent })])
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_says_who_it_is_and_whom_it_misses_and_otherwise_beats_and_in_the_end_goodbye() {
        let (tell, reach) = watch::channel(doubted("b#1"));
        let (stop, start) = (CancellationToken::new(), Instant::now());
        let (_answer, answers) = mpsc::channel(1);
        let said = requests(pb::RegisterHello::default(), reach, answers, LAN.period, stop.clone());
        tokio::pin!(said);
        let mut next = async || said.next().await.map(|request| request.request.unwrap());
        assert_eq!(next().await, Some(Said::Hello(pb::RegisterHello::default())));
        let silent = prost_types::Duration { seconds: 0, nanos: 400_000_000 };
        let missed =
            pb::Unreachable { daemon: "b#1".into(), doubt: pb::Doubt::Cut.into(), silent: Some(silent) };
        assert_eq!(next().await, Some(Said::Reach(pb::Reach { unreachable: vec![missed] })));
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(next().await, Some(Said::Beat(pb::Beat {})));
        assert_eq!(start.elapsed(), LAN.period);
        tell.send_replace(Report::new());
        assert_eq!(next().await, Some(Said::Reach(pb::Reach::default())));
        stop.cancel();
        assert_eq!(next().await, Some(Said::Goodbye(pb::Goodbye {})));
        assert_eq!(next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_misses_nobody_says_nothing_of_it() {
        let (_tell, reach) = watch::channel(Report::new());
        let (_answer, answers) = mpsc::channel(1);
        let said =
            requests(pb::RegisterHello::default(), reach, answers, LAN.period, CancellationToken::new());
        let said: Vec<_> = said.take(2).map(|request| request.request.unwrap()).collect().await;
        assert_eq!(said[1], Said::Beat(pb::Beat {}));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stops_beating_is_silent_and_one_that_never_beats_is_not() {
        let mut silence = Silence::new(&LAN);
        silence.heard();
        let hour = Duration::from_secs(3_600);
        assert!(tokio::time::timeout(hour, silence.broken()).await.is_err());

        silence.beat();
        for _ in 0..200 {
            assert!(tokio::time::timeout(LAN.period, silence.broken()).await.is_err());
            silence.heard();
        }
        let silent = silence.broken().await;
        assert!((LAN.floor..LAN.floor + LAN.period).contains(&silent), "{silent:?}");
    }
}
