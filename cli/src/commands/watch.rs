//! `handover watch`: a client on the terminal.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::slice;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use model::{Address, UnitId};
use vod::Progress;

use super::ClusterChoice;
use super::content::{self, clock};
use super::opening;
use super::signals::{EXIT_INTERRUPTED, Signals};
use crate::cluster::Service;
use crate::quantiles::milliseconds;
use crate::words::counted;
use player::Heard;

/// Play a film as a client: what a player would get is counted, checked and, with --out, written to a file. Shows the
/// position, who serves, and every takeover with the time that passed without a response.
///
/// Uses the cluster that `handover up` or `handover demo` runs on this computer, or the gateways that are given. If
/// its gateway goes away it goes on at another one.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The film, as in `handover content ls`
    unit: UnitId,
    /// Start at this second of the film
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    seek: Option<Duration>,
    /// Play so many times as fast
    #[arg(long, value_name = "FACTOR")]
    rate: Option<f64>,
    /// Write what comes to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Use this gateway; can be repeated, the preferred one first
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', env = "HANDOVER_GATEWAYS", value_parser = super::status::address)]
    gateway: Vec<Address>,
    #[command(flatten)]
    cluster: ClusterChoice,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "must be a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::catch()?;
    tokio::select! {
        played = play(args) => played.map(|()| ExitCode::SUCCESS),
        () = signals.next() => {
            println!();
            Ok(EXIT_INTERRUPTED.into())
        }
    }
}

async fn play(args: Args) -> anyhow::Result<()> {
    let gateways = args.cluster.addresses(Service::Gateway, &args.gateway)?;
    if gateways.is_empty() {
        bail!("no gateway is running");
    }
    let mut out = match &args.out {
        Some(path) => Some(BufWriter::new(
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?,
        )),
        None => None,
    };
    let mut player = opening::open(gateways, &args.unit).await?;
    if !is_film(&args.unit, player.gateway()).await? {
        player.close().await?;
        bail!("{0} is no film: `handover talk {0}` has a session on it", args.unit);
    }
    let mut remote = player.remote();
    // Requests need a gateway that knows the session, so they are sent while the player listens.
    let requests = async {
        if let Some(position) = args.seek {
            remote.seek(position).await?;
        }
        if let Some(factor) = args.rate {
            remote.rate(factor).await?;
        }
        anyhow::Ok(())
    };
    tokio::pin!(requests);
    let (mut screen, mut requesting) = (Screen::new(&args.unit, player.gateway()), true);
    loop {
        let heard = tokio::select! {
            heard = player.hear() => heard?,
            done = &mut requests, if requesting => {
                done?;
                requesting = false;
                continue;
            }
        };
        if let (Heard::Response { payload, .. }, Some(out)) = (&heard, &mut out) {
            out.write_all(payload)?;
        }
        if matches!(heard, Heard::End) {
            break;
        }
        screen.show(&heard, player.gateway());
    }
    if let Some(out) = &mut out {
        out.flush()?;
    }
    let (ledger, _) = player.close().await?;
    screen.end();
    println!(
        "{} responses, {} bytes; {} lost, {} repeated, {} out of order; {}",
        ledger.responses(),
        ledger.bytes(),
        ledger.lost(),
        ledger.repeated(),
        ledger.reordered(),
        counted(screen.takeovers, "takeover")
    );
    if ledger.lost() + ledger.repeated() + ledger.reordered() > 0 {
        bail!("not every response came exactly once and in order");
    }
    Ok(())
}

/// Whether a unit plays. One that does not would be watched in silence.
async fn is_film(unit: &UnitId, gateway: &Address) -> anyhow::Result<bool> {
    let units = content::list(slice::from_ref(gateway)).await?;
    let meant = units.iter().find(|it| it.name.rsplit('/').next() == Some(unit.as_str()));
    Ok(meant.is_none_or(|it| content::playing_time(it).is_some()))
}

/// How often a line is printed where lines cannot be overwritten.
const LINE_PERIOD: Duration = Duration::from_secs(5);

/// What is shown: one line that is overwritten on a terminal, a line now and then elsewhere.
struct Screen {
    unit: UnitId,
    gateway: Address,
    live: bool,
    progress: Progress,
    position: Duration,
    number: u64,
    server: String,
    fence: u64,
    takeovers: usize,
    last_response: Instant,
    /// The longest time without a response around a takeover.
    longest: Duration,
    /// Somebody took over, and has not sent a response yet.
    taken_over: bool,
    printed: Option<Instant>,
}

impl Screen {
    fn new(unit: &UnitId, gateway: &Address) -> Screen {
        Screen {
            unit: unit.clone(),
            gateway: gateway.clone(),
            live: std::io::stdout().is_terminal(),
            progress: Progress::new(),
            position: Duration::ZERO,
            number: 0,
            server: String::new(),
            fence: 0,
            takeovers: 0,
            last_response: Instant::now(),
            longest: Duration::ZERO,
            taken_over: false,
            printed: None,
        }
    }

    fn show(&mut self, heard: &Heard, gateway: &Address) {
        match heard {
            Heard::Serving { server, fence, takeover, requests_lost, .. } => {
                let before = std::mem::replace(&mut self.server, server.clone());
                self.fence = *fence;
                if *takeover {
                    self.takeovers += 1;
                    self.taken_over = true;
                    self.event(&format!("{before} -> {server} (fence {fence})"));
                } else {
                    self.event(&format!("{server} serves (fence {fence}), through {gateway}"));
                }
                if *requests_lost > 0 {
                    self.event(&format!("{requests_lost} requests are lost"));
                }
            }
            Heard::Response { at, number, payload, .. } => {
                let silence = at.duration_since(self.last_response);
                self.last_response = *at;
                if std::mem::take(&mut self.taken_over) {
                    self.longest = self.longest.max(silence);
                    let next = format!(
                        "the next response came {:.0} ms after the one before",
                        milliseconds(silence)
                    );
                    self.event(&next);
                }
                self.number = *number;
                if let Some(fragment) = self.progress.read(payload) {
                    self.position = fragment.decode_time + fragment.duration;
                }
            }
            Heard::Lost { gateway: lost, status } => {
                self.event(&format!("gateway {lost} is gone ({}); trying {gateway}", status.message()));
                self.gateway = gateway.clone();
            }
            Heard::Merged | Heard::Rebuilt | Heard::End => {}
        }
        if self.number > 0 {
            self.refresh();
        }
    }

    /// A line that stays.
    fn event(&mut self, text: &str) {
        let clear = if self.live { "\r\x1b[K" } else { "" };
        println!("{clear}{}  {text}", clock(self.position));
    }

    fn refresh(&mut self) {
        let line = format!(
            "{}  {}  response {}  {} (fence {})  {}{}",
            clock(self.position),
            self.unit,
            self.number,
            self.server,
            self.fence,
            counted(self.takeovers, "takeover"),
            if self.longest.is_zero() {
                String::new()
            } else {
                format!(", longest silence {:.0} ms", milliseconds(self.longest))
            }
        );
        if self.live {
            print!("\r\x1b[K{line}");
            // A terminal that is gone is noticed by the next line.
            let _ = std::io::stdout().flush();
        } else if self.printed.is_none_or(|printed| printed.elapsed() >= LINE_PERIOD) {
            println!("{line}");
            self.printed = Some(Instant::now());
        }
    }

    fn end(&self) {
        if self.live {
            println!();
        }
    }
}
