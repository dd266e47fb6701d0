//! A member of Handover's groups. Its parts, and its lines, are those of `peers/cpg.c`.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Subcommand;
use gcs_client::{Attachment, Command, Commands, Event, Events, Target};
use model::{Address, GroupName, GroupView};
use svc_kit::dial::{Keepalive, Wire};

use crate::handover::SILENCE;

/// The group of all workloads but those on many groups.
const GROUP: &str = "bench";
/// Members mark the order so often.
const MARK_EVERY: u64 = 4096;
/// Members go on sending for so long after they have measured, so that others measure under load too.
const AFTERWARDS: Duration = Duration::from_millis(500);
/// So many groups are joined with one command.
const JOIN_MAX: usize = 4096;

/// A member's command line.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to attach
    #[arg(long)]
    daemon: String,
    #[command(subcommand)]
    part: Part,
}

/// See [`crate::bed::Part`].
#[derive(Debug, Subcommand)]
enum Part {
    Flood {
        bytes: usize,
        warm_up: f64,
        seconds: f64,
        members: usize,
    },
    Ping {
        bytes: usize,
        warm_up: usize,
        count: usize,
        members: usize,
    },
    Watch,
    Join {
        count: usize,
    },
    /// Joins all at once, and says how many nanoseconds it took until it had a view of each.
    JoinAtOnce {
        count: usize,
    },
    /// Joins all, and says `view` and a number whenever the last view of each group has that many members.
    Crowd {
        groups: usize,
    },
}

/// Plays a part.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let target = Target {
        addresses: vec![Address::new(&args.daemon)],
        cluster: svc_kit::settings::default_cluster(),
        name: "member".parse()?,
        wire: Wire { keepalive: Keepalive { timeout: SILENCE, ..Keepalive::default() }, ..Wire::default() },
    };
    let Attachment { commands, events, .. } = Attachment::connect(&target).await?;
    let mut member = Member { commands, events };
    match args.part {
        Part::Flood { bytes, warm_up, seconds, members } => {
            member.gather(members).await?;
            member.flood(bytes, warm_up, seconds).await
        }
        Part::Ping { bytes, warm_up, count, members } => {
            member.gather(members).await?;
            member.ping(bytes, warm_up, count).await
        }
        Part::Watch => member.watch().await,
        Part::Join { count } => member.join_one_by_one(count).await,
        Part::JoinAtOnce { count } => member.join_at_once(count).await,
        Part::Crowd { groups } => member.crowd(groups).await,
    }
}

struct Member {
    commands: Commands,
    events: Events,
}

impl Member {
    async fn event(&mut self) -> anyhow::Result<Event> {
        let event = self.events.next().await.context("the attachment is over")?;
        if let Event::Lost(loss) = event {
            bail!("the attachment is lost: {loss}");
        }
        Ok(event)
    }

    async fn views(&mut self) -> anyhow::Result<Vec<GroupView>> {
        loop {
            if let Event::Views(views) = self.event().await? {
                return Ok(views);
            }
        }
    }

    /// Joins the group, and waits until so many are in it.
    async fn gather(&mut self, members: usize) -> anyhow::Result<()> {
        self.commands.send(Command::Join(vec![group(GROUP)?])).await;
        while !self.views().await?.iter().any(|view| view.members.len() >= members) {}
        Ok(())
    }

    async fn flood(&mut self, bytes: usize, warm_up: f64, seconds: f64) -> anyhow::Result<()> {
        let from = Instant::now() + Duration::from_secs_f64(warm_up);
        let to = from + Duration::from_secs_f64(seconds);
        tokio::spawn(send_until(self.commands.clone(), group(GROUP)?, bytes, to + AFTERWARDS));
        let (mut all, mut delivered, mut digest, mut order) = (0, 0, 0, Vec::new());
        let mut says =
            [Some((from, Line::Measuring)), Some((to, Line::Count))].into_iter().flatten().peekable();
        loop {
            let Event::Message { id, .. } = self.event().await? else { continue };
            let now = Instant::now();
            all += 1;
            delivered += u64::from((from..to).contains(&now));
            digest = mixed(mixed(digest, id.sender().daemon().boot().number()), id.number());
            if all % MARK_EVERY == 0 {
                order.push(digest);
            }
            if let Some((_, line)) = says.next_if(|(at, _)| *at <= now) {
                match line {
                    Line::Measuring => say("measuring"),
                    Line::Count => {
                        say(&serde_json::json!({ "delivered": delivered, "order": order }).to_string())
                    }
                }
            }
        }
    }

    async fn ping(&mut self, bytes: usize, warm_up: usize, count: usize) -> anyhow::Result<()> {
        let (group, payload) = (group(GROUP)?, Bytes::from(vec![0; bytes]));
        let mut nanos = Vec::with_capacity(count);
        for number in 0..warm_up + count {
            let start = Instant::now();
            self.commands.send(Command::multicast(group.clone(), payload.clone())).await;
            while !matches!(self.event().await?, Event::Message { .. }) {}
            if number >= warm_up {
                nanos.push(start.elapsed().as_nanos());
            }
        }
        nanos.iter().for_each(|nanos| say(&nanos.to_string()));
        say("end");
        Ok(())
    }

    async fn watch(&mut self) -> anyhow::Result<()> {
        self.commands.send(Command::Join(vec![group(GROUP)?])).await;
        loop {
            for view in self.views().await? {
                say(&format!("view {}", view.members.len()));
            }
        }
    }

    async fn join_one_by_one(&mut self, count: usize) -> anyhow::Result<()> {
        for number in 0..count {
            let start = Instant::now();
            self.commands.send(Command::Join(vec![group(&format!("fresh-{number}"))?])).await;
            self.views().await?;
            let nanos = start.elapsed().as_nanos();
            say(&format!("{nanos} {nanos}"));
        }
        say("end");
        Ok(())
    }

    async fn join_at_once(&mut self, count: usize) -> anyhow::Result<()> {
        let groups = (0..count).map(|number| group(&format!("fresh-{number}")));
        let groups = groups.collect::<Result<Vec<_>, _>>()?;
        let start = Instant::now();
        let commands = self.commands.clone();
        tokio::spawn(async move {
            for group in groups {
                commands.send(Command::Join(vec![group])).await;
            }
        });
        let mut seen = 0;
        while seen < count {
            seen += self.views().await?.len();
        }
        say(&start.elapsed().as_nanos().to_string());
        Ok(())
    }

    async fn crowd(&mut self, count: usize) -> anyhow::Result<()> {
        let groups = (0..count).map(|number| group(&format!("session/film-1/{number:08}")));
        let groups = groups.collect::<Result<Vec<_>, _>>()?;
        for part in groups.chunks(JOIN_MAX) {
            self.commands.send(Command::Join(part.to_vec())).await;
        }
        // How many groups have a view of so many members, by that number; each group counts once.
        let mut sizes = std::collections::HashMap::new();
        let mut with = [0; 8];
        loop {
            for view in self.views().await? {
                let size = view.members.len();
                if let Some(before) = sizes.insert(view.group, size) {
                    with[before] -= 1;
                }
                with[size] += 1;
                if with[size] == count {
                    say(&format!("view {size}"));
                }
            }
        }
    }
}

enum Line {
    Measuring,
    Count,
}

async fn send_until(commands: Commands, group: GroupName, bytes: usize, end: Instant) {
    let payload = Bytes::from(vec![0; bytes]);
    while Instant::now() < end {
        commands.send(Command::multicast(group.clone(), payload.clone())).await;
    }
}

/// A step of FNV-1a.
fn mixed(digest: u64, word: u64) -> u64 {
    (digest ^ word).wrapping_mul(0x0000_0100_0000_01b3)
}

fn group(name: &str) -> anyhow::Result<GroupName> {
    GroupName::new(name).context("a group's name")
}

fn say(line: &str) {
    // Whoever started this has gone away if it cannot be told.
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(1);
    }
}
