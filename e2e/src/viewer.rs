//! A client that plays one film in the background: it knows every fragment of it, so it can tell which one each
//! response brings, byte for byte.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use model::{Address, Name, UnitId};
use player::films;
use player::{Heard, Player, Recorder, Remote, Session};
use svc_kit::dial::Wire;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vod::Film;

use crate::deadline::{DEADLINE, within};

/// A server that began to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    /// Its name.
    pub server: Name,
    /// Its fence.
    pub fence: u64,
    /// Whether it took over from another one, as the client was told.
    pub takeover: bool,
    /// How many responses had come before.
    pub after: usize,
    /// Requests of which nothing is known any more.
    pub requests_lost: u64,
}

/// What a viewer has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Which fragment of the film each response brought, from 0.
    pub fragments: Vec<u32>,
    /// How many requests the last response reflects.
    pub applied: u64,
    /// Who served.
    pub servings: Vec<Serving>,
    /// Gateways that went away, and what they said.
    pub lost: Vec<(Address, String)>,
    /// How often the session was made anew.
    pub rebuilt: usize,
    /// Everything was sent.
    pub ended: bool,
    /// Why the viewer cannot go on.
    failed: Option<String>,
}

impl Seen {
    /// Who serves now.
    pub fn server(&self) -> Option<Name> {
        self.servings.last().map(|serving| serving.server)
    }

    /// How often a server took over from another one.
    pub fn takeovers(&self) -> usize {
        self.servings.iter().filter(|serving| serving.takeover).count()
    }

    /// The stretches of the film that came without a jump: the first fragment and the one after the last, of each.
    pub fn stretches(&self) -> Vec<(u32, u32)> {
        let mut stretches: Vec<(u32, u32)> = Vec::new();
        for &fragment in &self.fragments {
            match stretches.last_mut() {
                Some((_, end)) if *end == fragment => *end += 1,
                _ => stretches.push((fragment, fragment + 1)),
            }
        }
        stretches
    }
}

/// The fragments of a film by their bytes. Those behind the init segment are the openings.
struct Reel {
    openings: BTreeMap<Bytes, u32>,
    payloads: BTreeMap<Bytes, u32>,
}

impl Reel {
    fn of(film: &Film) -> Reel {
        let by = |bytes: fn(&Film, &vod::Fragment) -> Bytes| {
            film.fragments().iter().zip(0..).map(|(fragment, index)| (bytes(film, fragment), index)).collect()
        };
        Reel { openings: by(Film::opening), payloads: by(Film::payload) }
    }

    fn fragment(&self, number: u64, payload: &Bytes) -> Option<u32> {
        if number == 1 { &self.openings } else { &self.payloads }.get(payload).copied()
    }
}

/// The film of a unit that comes with the program.
pub(crate) fn film(unit: &str) -> Film {
    let file = films::ALL.iter().find(|film| film.unit == unit).expect("the film comes with the program");
    file.parse().expect("it is a film")
}

/// The fragment that a seek to `position` leads to.
pub fn seek_target(unit: &str, position: Duration) -> u32 {
    film(unit).seek(position).expect("the film is longer")
}

/// A client that plays a film.
pub struct Viewer {
    /// Its session.
    pub session: Session,
    remote: Option<Remote>,
    seen: watch::Receiver<Seen>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), String>>,
}

impl Viewer {
    pub(crate) async fn open(
        wire: Wire,
        gateways: Vec<Address>,
        unit: &str,
        name: Name,
        trace: &Path,
    ) -> Viewer {
        let recorder = Recorder::create(Some(trace), name).expect("a trace can be written");
        let id = UnitId::new(unit).expect("a unit");
        let opened = within("a session", Player::open(wire, gateways, &id, recorder)).await;
        let player = opened.unwrap_or_else(|error| panic!("cannot open a session on {unit}: {error}"));
        let (session, remote) = (player.session().clone(), Some(player.remote()));
        let (sender, seen) = watch::channel(Seen::default());
        let stop = CancellationToken::new();
        let task = tokio::spawn(play(player, Reel::of(&film(unit)), sender, stop.clone()));
        Viewer { session, remote, seen, stop, task }
    }

    /// Its remote control.
    ///
    /// # Panics
    /// If it was given away.
    pub fn remote(&mut self) -> &mut Remote {
        self.remote.as_mut().expect("the remote control is here")
    }

    /// Gives its remote control away.
    ///
    /// # Panics
    /// If that was done already.
    pub fn give_remote(&mut self) -> Remote {
        self.remote.take().expect("the remote control is here")
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until it has seen enough.
    ///
    /// # Panics
    /// If that does not happen in time, or the viewer fails.
    pub async fn until(&self, what: &str, enough: impl Fn(&Seen) -> bool) -> Seen {
        let mut seen = self.seen.clone();
        let reached = tokio::time::timeout(DEADLINE, seen.wait_for(|it| it.failed.is_some() || enough(it)));
        let Ok(Ok(reached)) = reached.await.map(|it| it.map(|it| it.clone())) else {
            panic!("waited {} s in vain for {what}; the viewer saw {:?}", DEADLINE.as_secs(), self.seen());
        };
        if let Some(reason) = &reached.failed {
            panic!("no {what}, for the viewer cannot go on: {reason}; it saw {reached:?}");
        }
        reached
    }

    /// Waits until `count` more responses have come.
    pub async fn goes_on(&self, count: usize) -> Seen {
        let before = self.seen().fragments.len();
        self.until(&format!("{count} responses after {before}"), |seen| {
            seen.fragments.len() >= before + count
        })
        .await
    }

    /// Waits until a server serves.
    pub async fn server(&self) -> Name {
        let seen = self.until("a server", |seen| seen.server().is_some()).await;
        seen.server().expect("it was awaited")
    }

    /// Waits for the end of the film.
    pub async fn end(&self) -> Seen {
        self.until("the end of the film", |seen| seen.ended).await
    }

    /// Plays eight times as fast, so that a test sees much of the film in little time. The bytes are the same.
    ///
    /// # Panics
    /// If that is not acknowledged.
    pub async fn hurry(&mut self) {
        within("an acknowledgement", self.remote().rate(8.0)).await.expect("a rate is accepted");
    }

    /// Closes the session.
    ///
    /// # Panics
    /// Unless every response came exactly once and in order, and brought a fragment of the film, byte for byte.
    pub async fn close(self) -> Seen {
        self.stop.cancel();
        let closed = within("the end of the session", self.task).await.expect("the viewer does not panic");
        let seen = self.seen.borrow().clone();
        closed.unwrap_or_else(|reason| panic!("{reason}; the viewer saw {seen:?}"));
        seen
    }
}

/// Plays until `stop`, then closes the session.
async fn play(
    mut player: Player,
    reel: Reel,
    seen: watch::Sender<Seen>,
    stop: CancellationToken,
) -> Result<(), String> {
    let mut failed = None;
    while failed.is_none() {
        let heard = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            heard = player.hear() => heard,
        };
        let heard = heard.map_err(|error| error.to_string());
        let mut ended = false;
        seen.send_modify(|seen| {
            if let Err(reason) = heard.and_then(|heard| seen.enter(&reel, heard)) {
                seen.failed = Some(reason);
            }
            failed = seen.failed.clone();
            ended = seen.ended;
        });
        if ended {
            stop.cancelled().await;
        }
    }
    if let Some(reason) = failed {
        return Err(reason);
    }
    let (ledger, _) = player.close().await.map_err(|error| format!("cannot close the session: {error}"))?;
    match (ledger.lost(), ledger.repeated(), ledger.reordered()) {
        (0, 0, 0) => Ok(()),
        disorder => Err(format!("(lost, repeated, reordered) is {disorder:?}")),
    }
}

impl Seen {
    fn enter(&mut self, reel: &Reel, heard: Heard) -> Result<(), String> {
        match heard {
            Heard::Serving { server, fence, takeover, requests_lost, .. } => {
                let server = server.parse().map_err(|_| format!("{server:?} is not a name"))?;
                let after = self.fragments.len();
                self.servings.push(Serving { server, fence, takeover, after, requests_lost });
            }
            Heard::Response { number, payload, requests_applied, .. } => {
                let expected = self.fragments.len() as u64 + 1;
                if number != expected {
                    return Err(format!("response {number} came where {expected} was next"));
                }
                let fragment = reel.fragment(number, &payload);
                self.fragments.push(fragment.ok_or(format!("response {number} is not of the film"))?);
                self.applied = requests_applied;
            }
            Heard::Lost { gateway, status } => self.lost.push((gateway, reason(&status))),
            Heard::Merged => {}
            Heard::Rebuilt => self.rebuilt += 1,
            Heard::End => self.ended = true,
        }
        Ok(())
    }
}

fn reason(status: &tonic::Status) -> String {
    svc_kit::status::reason(status).unwrap_or_else(|| status.message().to_owned())
}
