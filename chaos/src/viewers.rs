//! Clients outside of the network who watch films, one after the other, at whatever gateway lets them, while faults go on.
//! What each is sent has to be the film from its beginning, byte for byte, as far as it gets.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use model::{Address, Name, UnitId};
use player::films::{self, FilmFile};
use player::{Heard, PlayError, Player, Recorder};
use svc_kit::dial::Wire;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How many there are.
const VIEWERS: usize = 6;

/// How many times as fast as they are films play: faster than faults come and go.
const RATE: f64 = 6.0;

/// How long it may take after the last fault until everybody has seen a film to its end.
const DEADLINE: Duration = Duration::from_secs(120);

/// What the viewers have seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Films that were seen to their end.
    pub films: usize,
    /// How often another server took over.
    pub takeovers: usize,
    /// How often another gateway was needed.
    pub gateways: usize,
    /// How often two sides of a partition that had served a session met.
    pub merges: usize,
    /// Sessions that nobody remembered: all their servers were gone.
    pub forgotten: usize,
    /// Sessions that were given up, since no gateway could be reached for a while.
    pub unreached: usize,
    /// What happened when.
    pub moments: Moments,
    /// What may not have happened.
    pub wrong: Vec<String>,
}

/// What viewers noticed when.
pub type Moments = Vec<(Instant, Moment)>;

/// What a viewer may notice of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Another server took over.
    Takeover,
    /// Another gateway was needed.
    Gateway,
    /// No response came for so long. It counts as noticed in the middle of that time.
    Silence(Duration),
}

/// All viewers.
pub struct Viewers {
    tasks: JoinSet<anyhow::Result<Seen>>,
    calm: watch::Sender<bool>,
    moments: watch::Sender<Moments>,
}

impl Viewers {
    /// They begin, and write traces into that directory.
    pub fn begin(gateways: &[Address], traces: &Path) -> anyhow::Result<Viewers> {
        let (calm, calmed) = watch::channel(false);
        let moments = watch::Sender::new(Moments::new());
        let mut tasks = JoinSet::new();
        for number in 0..VIEWERS {
            let mut gateways = gateways.to_vec();
            let first = number % gateways.len();
            gateways.rotate_left(first);
            let name: Name = format!("viewer-{}", number + 1).parse()?;
            let recorder = Recorder::create(Some(traces), name);
            let recorder = recorder.map_err(|error| anyhow::anyhow!("no trace of {name}: {error}"))?;
            let (recorder, moments) = (Some(recorder), moments.clone());
            let viewer = Viewer { name, gateways, number, recorder, seen: Seen::default(), moments };
            tasks.spawn(viewer.watch(calmed.clone()));
        }
        Ok(Viewers { tasks, calm, moments })
    }

    /// Waits until somebody has noticed this, at that time or later.
    pub async fn notice(&self, mark: Moment, since: Instant) {
        let mut moments = self.moments.subscribe();
        let noticed = |all: &Moments| all.iter().rev().any(|(at, it)| *it == mark && *at >= since);
        // It cannot be closed, for one end of it is here.
        let _ = moments.wait_for(noticed).await;
    }

    /// No fault comes any more: waits until each has seen one more film to its end.
    pub async fn finish(mut self) -> anyhow::Result<Seen> {
        self.calm.send_replace(true);
        let mut all = Seen::default();
        let finished = timeout(DEADLINE, async {
            while let Some(done) = self.tasks.join_next().await {
                all.add(done.context("a viewer fell")??);
            }
            anyhow::Ok(())
        });
        let late = || format!("viewers have not seen a film {} s after the last fault", DEADLINE.as_secs());
        finished.await.with_context(late)??;
        all.moments = self.moments.send_replace(Moments::new());
        Ok(all)
    }
}

impl Seen {
    fn add(&mut self, other: Seen) {
        // Moments are where all viewers tell theirs.
        let Seen { films, takeovers, gateways, merges, forgotten, unreached, moments: _, wrong } = other;
        self.films += films;
        self.takeovers += takeovers;
        self.gateways += gateways;
        self.merges += merges;
        self.forgotten += forgotten;
        self.unreached += unreached;
        self.wrong.extend(wrong);
    }
}

/// One client.
struct Viewer {
    name: Name,
    gateways: Vec<Address>,
    number: usize,
    /// Lent to the session that is open.
    recorder: Option<Recorder>,
    seen: Seen,
    /// Where it tells what it notices.
    moments: watch::Sender<Moments>,
}

impl Viewer {
    /// Watches film after film; when all is calm, one more that is neither forgotten nor out of reach.
    async fn watch(mut self, calm: watch::Receiver<bool>) -> anyhow::Result<Seen> {
        loop {
            let film = films::ALL[self.number % films::ALL.len()];
            self.number += 1;
            let was_calm = *calm.borrow();
            match self.play(&film).await {
                Ok(()) => self.seen.films += 1,
                Err(error) => match error.downcast_ref::<PlayError>() {
                    Some(PlayError::Refused(status)) if was_calm => {
                        bail!("{}: refused after the last fault: {status}", self.name)
                    }
                    Some(PlayError::Refused(_)) => self.seen.forgotten += 1,
                    Some(PlayError::Unreachable { .. }) if !was_calm => self.seen.unreached += 1,
                    _ => {
                        self.seen.wrong.push(format!("{}, watching {}: {error:#}", self.name, film.unit));
                        return Ok(self.seen);
                    }
                },
            }
            if was_calm {
                return Ok(self.seen);
            }
        }
    }

    async fn play(&mut self, film: &FilmFile) -> anyhow::Result<()> {
        let unit: UnitId = film.unit.parse()?;
        let recorder = self.recorder.take().unwrap_or_else(Recorder::off);
        let mut player = Player::open(Wire::default(), self.gateways.clone(), &unit, recorder).await?;
        let played = self.listen(&mut player, film).await;
        match played {
            Ok(()) => {
                let (_, recorder) = player.close().await?;
                self.recorder = Some(recorder);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn listen(&mut self, player: &mut Player, film: &FilmFile) -> anyhow::Result<()> {
        let mut remote = player.remote();
        let quicker = remote.rate(RATE);
        tokio::pin!(quicker);
        let (mut asking, mut bytes, mut last) = (true, 0, None);
        loop {
            let heard = tokio::select! {
                heard = player.hear() => heard?,
                asked = &mut quicker, if asking => {
                    asking = false;
                    asked?;
                    continue;
                }
            };
            match heard {
                Heard::Response { at, payload, number, .. } => {
                    if let Some(last) = last.replace(at) {
                        let silence = at.duration_since(last);
                        self.noticed(last + silence / 2, Moment::Silence(silence));
                    }
                    if !film.bytes[bytes..].starts_with(&payload) {
                        bail!("response {number} is not what follows after {bytes} bytes");
                    }
                    bytes += payload.len();
                }
                Heard::Serving { takeover: true, at, .. } => {
                    self.seen.takeovers += 1;
                    self.noticed(at, Moment::Takeover);
                }
                Heard::Serving { .. } => {}
                Heard::Lost { .. } => {
                    self.seen.gateways += 1;
                    self.noticed(Instant::now(), Moment::Gateway);
                }
                Heard::Merged => self.seen.merges += 1,
                Heard::Rebuilt => bail!("it was brought back, and no unit allows that"),
                Heard::End if bytes == film.bytes.len() => return Ok(()),
                Heard::End => bail!("it ends after {bytes} of {} bytes", film.bytes.len()),
            }
        }
    }

    fn noticed(&self, at: Instant, moment: Moment) {
        self.moments.send_modify(|all| all.push((at, moment)));
    }
}
