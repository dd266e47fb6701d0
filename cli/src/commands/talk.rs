//! `handover talk`: a session with any service, on the terminal.

mod line;

use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use model::{Address, UnitId};
use prost_types::Struct;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::ClusterChoice;
use super::opening;
use super::signals::{EXIT_INTERRUPTED, Signals};
use crate::cluster::Service;
use player::{Heard, PlayError, Remote};
use svc_kit::shutdown::Exit;

/// Have a session with any service. Every line that is typed is a request, either a JSON object or, for short, a verb
/// and its arguments: `answer choice=2` is `{"answer": {"choice": 2}}`. Every response is printed on a line of its own;
/// who serves, and what was refused, goes to the standard error output.
///
/// Ends when the input has ended and the last request is reflected in a response, or at Ctrl-C. Exits with 1 if a request was
/// refused and nobody sits at a terminal to see it.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The unit, as in `handover content ls`
    unit: UnitId,
    /// Print JSON responses with line breaks, for reading
    #[arg(long)]
    pretty: bool,
    /// When the input has ended, wait so long for the response to the last request
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    wait: Duration,
    /// Use this gateway; can be repeated, the preferred one first
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', env = "HANDOVER_GATEWAYS", value_parser = super::status::address)]
    gateway: Vec<Address>,
    #[command(flatten)]
    cluster: ClusterChoice,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::catch()?;
    tokio::select! {
        talked = talk(args) => talked,
        () = signals.next() => Ok(EXIT_INTERRUPTED.into()),
    }
}

async fn talk(args: Args) -> anyhow::Result<ExitCode> {
    let gateways = args.cluster.addresses(Service::Gateway, &args.gateway)?;
    if gateways.is_empty() {
        bail!("no gateway is running");
    }
    let mut player = opening::open(gateways, &args.unit).await?;
    let requests = requests(player.remote(), typed());
    tokio::pin!(requests);
    // Once all requests are sent: which of them has to be reflected, and how long that may take.
    let (mut awaited, mut deadline, mut reflected) = (None, Instant::now(), 0);
    let mut is_refused = false;
    while awaited.is_none_or(|awaited| reflected < awaited) {
        let heard = tokio::select! {
            heard = player.hear() => heard?,
            sent = &mut requests, if awaited.is_none() => {
                let sent = sent?;
                (awaited, is_refused) = (Some(sent.last), sent.is_refused);
                deadline = Instant::now() + args.wait;
                continue;
            }
            () = tokio::time::sleep_until(deadline), if awaited.is_some() => break,
        };
        match heard {
            Heard::Response { payload, requests_applied, .. } => {
                println!("{}", line::response(&payload, args.pretty));
                reflected = requests_applied;
            }
            Heard::Serving { server, fence, takeover, .. } => {
                let verb = if takeover { "took over" } else { "serves" };
                eprintln!("{server} {verb} (fence {fence})");
            }
            Heard::Lost { gateway, status } => eprintln!("gateway {gateway} is gone ({})", status.message()),
            Heard::Rebuilt => {
                eprintln!("all servers had forgotten the session: it goes on from where you are")
            }
            Heard::Merged => eprintln!("two sides served the session: their contexts are one again"),
            Heard::End => {}
        }
    }
    player.close().await?;
    Ok(if is_refused && !std::io::stdin().is_terminal() { Exit::Error.into() } else { ExitCode::SUCCESS })
}

/// The lines of the standard input, which blocks whoever reads it.
fn typed() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// What became of all that was typed.
#[derive(Debug, Default)]
struct Sent {
    /// The number of the last request that was not refused.
    last: u64,
    /// Whether any was, or a line was none.
    is_refused: bool,
}

/// Sends what is typed.
async fn requests(mut remote: Remote, mut lines: mpsc::Receiver<String>) -> Result<Sent, PlayError> {
    let mut sent = Sent::default();
    while let Some(line) = lines.recv().await {
        let operation: Struct = match line::request(&line) {
            Ok(Some(operation)) => operation,
            Ok(None) => continue,
            Err(reason) => {
                eprintln!("{reason}");
                sent.is_refused = true;
                continue;
            }
        };
        match remote.send(operation).await {
            Ok(()) => sent.last = remote.sent(),
            Err(refused @ PlayError::Refused(_)) => {
                eprintln!("refused: {refused}");
                sent.is_refused = true;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}
