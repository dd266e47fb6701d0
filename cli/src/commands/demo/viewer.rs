//! One viewer of the demo: plays a film from its start, again and again, sends a request every second, and tells the
//! stage what happens.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use model::{Address, Name, UnitId};
use svc_kit::dial::Wire;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use vod::{Film, Progress};

use player::lateness::Lateness;
use player::{Heard, Ledger, PlayError, Player, Recorder, Remote};

/// How often a viewer sends a request.
const REQUEST_PERIOD: Duration = Duration::from_secs(1);

/// How long the request that is under way at the end may take.
const REQUEST_MAX: Duration = Duration::from_secs(30);

/// What a viewer watches, and through which gateways.
pub struct Seat {
    /// Which viewer, from 0.
    pub viewer: usize,
    pub unit: UnitId,
    pub film: Film,
    /// The preferred one first.
    pub gateways: Vec<Address>,
    pub trace: Option<PathBuf>,
}

/// What a viewer tells the stage.
#[derive(Debug)]
pub enum Note {
    /// A server serves from here on.
    Serving { viewer: usize, at: Instant, server: String, fence: u64, takeover: bool },
    /// The gateway is gone.
    GatewayLost { viewer: usize, gateway: Address, reason: String },
    /// The session is over.
    Played { viewer: usize, result: Box<Played> },
    /// The viewer cannot go on.
    Failed { viewer: usize, reason: String },
    /// The viewer has left.
    Left,
}

/// What came of one session.
#[derive(Debug)]
pub struct Played {
    pub ledger: Ledger,
    /// Whether the bytes are those of the film, as far as they go.
    pub matches: bool,
    /// Whether it is the whole film.
    pub complete: bool,
    /// Requests that were applied.
    pub requests: u64,
    pub requests_lost: u64,
    pub lateness: Vec<Duration>,
}

/// Watches until `stop` is cancelled.
pub async fn watch(seat: Seat, stop: CancellationToken, notes: mpsc::Sender<Note>) {
    let viewer = seat.viewer;
    if let Err(error) = watch_again_and_again(&seat, &stop, &notes).await {
        tell(&notes, Note::Failed { viewer, reason: format!("{error:#}") }).await;
    }
    tell(&notes, Note::Left).await;
}

/// The stage listens until every viewer has left.
async fn tell(notes: &mpsc::Sender<Note>, note: Note) {
    let _ = notes.send(note).await;
}

async fn watch_again_and_again(
    seat: &Seat,
    stop: &CancellationToken,
    notes: &mpsc::Sender<Note>,
) -> anyhow::Result<()> {
    let name: Name = format!("client-{}", seat.viewer + 1).parse()?;
    let mut recorder = Recorder::create(seat.trace.as_deref(), name)?;
    while !stop.is_cancelled() {
        let player = Player::open(Wire::default(), seat.gateways.clone(), &seat.unit, recorder).await?;
        let (played, returned) = watch_once(seat, player, stop, notes).await?;
        recorder = returned;
        tell(notes, Note::Played { viewer: seat.viewer, result: Box::new(played) }).await;
    }
    Ok(())
}

async fn watch_once(
    seat: &Seat,
    mut player: Player,
    stop: &CancellationToken,
    notes: &mpsc::Sender<Note>,
) -> anyhow::Result<(Played, Recorder)> {
    let viewer = seat.viewer;
    let over = stop.child_token();
    let requests = send_requests(player.remote(), over.clone());
    let (mut progress, mut lateness, mut requests_lost) = (Progress::new(), Schedule::default(), 0);
    loop {
        let heard = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            heard = player.hear() => heard?,
        };
        match heard {
            Heard::Serving { at, server, fence, takeover, requests_lost: lost } => {
                requests_lost += lost;
                tell(notes, Note::Serving { viewer, at, server, fence, takeover }).await;
            }
            Heard::Response { at, payload, .. } => {
                if let Some(fragment) = progress.read(&payload) {
                    lateness.arrived(at, fragment.decode_time);
                }
            }
            Heard::Lost { gateway, status } => {
                let reason = status.message().to_owned();
                tell(notes, Note::GatewayLost { viewer, gateway, reason }).await;
            }
            Heard::Merged | Heard::Rebuilt => {}
            Heard::End => break,
        }
    }
    over.cancel();
    let requests = timeout(REQUEST_MAX, requests).await???;
    let (ledger, recorder) = player.close().await?;
    let played = Played {
        matches: ledger.matches(&seat.film),
        complete: ledger.is_complete(&seat.film),
        ledger,
        requests,
        requests_lost,
        lateness: lateness.lateness.all().collect(),
    };
    Ok((played, recorder))
}

/// Sends a request every second until `over`, and returns how many were applied. They ask for the rate that the film
/// has anyway, so that what comes is the file as it is; on their way they are like any other.
fn send_requests(mut remote: Remote, over: CancellationToken) -> JoinHandle<Result<u64, PlayError>> {
    tokio::spawn(async move {
        let mut tick = interval(REQUEST_PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = over.cancelled() => return Ok(remote.sent()),
                _ = tick.tick() => remote.rate(1.0).await?,
            }
        }
    })
}

/// Counts times from the first fragment.
#[derive(Default)]
struct Schedule {
    first: Option<(Instant, Duration)>,
    lateness: Lateness,
}

impl Schedule {
    fn arrived(&mut self, at: Instant, shown: Duration) {
        let (first_at, first_shown) = *self.first.get_or_insert((at, shown));
        self.lateness.arrived(at.duration_since(first_at), shown.saturating_sub(first_shown));
    }
}
