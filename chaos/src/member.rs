//! A group process: attaches to the daemon of its machine, joins and leaves groups, multicasts to groups that it is in
//! and to others, and checks what it is told. When its attachment is lost, it attaches again, as a new process.
//!
//! It does so until its standard input says `rest`: then it sends nothing more, joins all groups, and reports how it
//! stands whenever that changes. It ends with its standard input.

mod ledger;

use std::io::{BufRead, Write};
use std::time::Duration;

use bytes::Bytes;
use gcs_client::{Attachment, Command, Commands, Event, Target};
use model::{Address, GroupName, GroupViewId, Level, Name, Terms};
use sim::dice::Dice;
use svc_kit::dial::{Keepalive, Wire};
use tokio::sync::watch;

use crate::report::{Report, Rest};
use ledger::Ledger;

/// The first word of the order to rest.
pub const REST: &str = "rest";

/// How long a process pauses between two commands, or two bursts of them.
const PAUSE: std::ops::RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_millis(110);

/// So many of 100 times it gives many commands at once: then much is on its way when something happens.
const BURST_PERCENT: u64 = 5;

/// How many commands are many.
const BURST: u64 = 40;

/// Settings of a group process.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Its name
    #[arg(long)]
    name: Name,
    /// The daemon to attach to
    #[arg(long)]
    daemon: String,
    /// The cluster
    #[arg(long)]
    cluster: Name,
    /// The groups that there are
    #[arg(long, value_delimiter = ',')]
    groups: Vec<String>,
    /// Decides what it does
    #[arg(long)]
    seed: u64,
    /// How long a daemon may be silent, in milliseconds
    #[arg(long)]
    silence: u64,
}

/// What it was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Busy,
    Rest,
    End,
}

/// Lives until standard input ends.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let silence = Duration::from_millis(args.silence);
    let target = Target {
        addresses: vec![Address::new(&args.daemon)],
        cluster: args.cluster,
        name: args.name,
        wire: Wire {
            keepalive: Keepalive { interval: silence / 2, timeout: silence / 2 },
            ..Wire::default()
        },
    };
    let groups = args.groups.iter().filter_map(|name| GroupName::new(name)).collect();
    let mut mode = orders();
    let mut process = Process { groups, dice: Dice::new(args.seed, 0), said: None };
    let mut end = mode.clone();
    tokio::select! {
        biased;
        _ = end.wait_for(|mode| *mode == Mode::End) => Ok(()),
        ended = async {
            loop {
                process.attach(&target, &mut mode).await?;
            }
        } => ended,
    }
}

/// Reads orders, on a thread of its own: standard input cannot be waited for.
fn orders() -> watch::Receiver<Mode> {
    let (sender, mode) = watch::channel(Mode::Busy);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if line == REST {
                sender.send_replace(Mode::Rest);
            }
        }
        sender.send_replace(Mode::End);
    });
    mode
}

/// What outlives an attachment.
struct Process {
    groups: Vec<GroupName>,
    dice: Dice,
    /// What was reported of its rest last.
    said: Option<Rest>,
}

impl Process {
    /// One attachment, from its beginning to its end.
    async fn attach(&mut self, target: &Target, mode: &mut watch::Receiver<Mode>) -> anyhow::Result<()> {
        let Attachment { process, commands, mut events, .. } = Attachment::connect(target).await?;
        say(&Report::Attached { process })?;
        let mut ledger = Ledger::new(process);
        loop {
            let resting = *mode.borrow_and_update() == Mode::Rest;
            if resting {
                self.rest(&mut ledger, &commands)?;
            }
            let pause = self.dice.time(PAUSE);
            tokio::select! {
                event = events.next() => match event {
                    Some(Event::Lost(loss)) => {
                        let why = loss.to_string();
                        return say(&Report::Lost { process, why });
                    }
                    Some(event) => {
                        match ledger.hears(&event) {
                            Ok(moves) => moves.into_iter().try_for_each(|step| say(&Report::Moved(step)))?,
                            Err(what) => say(&Report::Wrong { process, what })?,
                        }
                        answer(event, &commands).await;
                    }
                    None => return Ok(()),
                },
                () = tokio::time::sleep(pause) => if !resting {
                    let count = if self.dice.percent(BURST_PERCENT) { BURST } else { 1 };
                    (0..count).for_each(|_| self.act(&mut ledger, &commands));
                },
            }
        }
    }

    /// Does one thing, if the daemon has room for a command.
    fn act(&mut self, ledger: &mut Ledger, commands: &Commands) {
        let group = self.dice.pick(&self.groups);
        match self.dice.below(100) {
            0..6 => {
                if commands.try_send(Command::Join(vec![group.clone()])).is_ok() {
                    ledger.joins(&group);
                }
            }
            // A process that wants to be back in a strict group before it is out stays; it need not be told which.
            6..9 if group.is_strict() => {}
            6..9 => {
                if commands.try_send(Command::Leave(vec![group.clone()])).is_ok() {
                    ledger.leaves(&group);
                }
            }
            _ if ledger.is_blocked(&group) => {}
            throw => {
                let length = if throw == 9 { 30_000 } else { self.dice.below(600) };
                let terms = self.terms(ledger.view_of(&group));
                let payload = ledger.draft(&group, terms, length);
                if commands.try_send(Command::Multicast { group: group.clone(), payload, terms }).is_ok() {
                    ledger.sends(&group, terms);
                }
            }
        }
    }

    /// Most messages are sent on the usual terms.
    fn terms(&mut self, view: Option<GroupViewId>) -> Terms {
        let level = if self.dice.percent(15) { Level::Safe } else { Level::Agreed };
        let only_in = view.filter(|_| self.dice.percent(10));
        Terms { level, only_in, report: self.dice.percent(20) }
    }

    /// Is in all groups, and says how it stands.
    fn rest(&mut self, ledger: &mut Ledger, commands: &Commands) -> anyhow::Result<()> {
        for group in self.groups.iter().filter(|group| !ledger.is_in(group)).cloned().collect::<Vec<_>>() {
            if commands.try_send(Command::Join(vec![group.clone()])).is_ok() {
                ledger.joins(&group);
            }
        }
        let rest = ledger.rest();
        if self.said.as_ref() != Some(&rest) {
            say(&Report::Resting(rest.clone()))?;
            self.said = Some(rest);
        }
        Ok(())
    }
}

/// Does what it is asked to do.
async fn answer(event: Event, commands: &Commands) {
    match event {
        Event::Block(groups) => commands.send(Command::Blocked(groups)).await,
        Event::StateWanted { group, view } => {
            for last in [false, true] {
                let part = Bytes::from_static(b"state");
                commands.send(Command::State { group: group.clone(), view, part, last }).await;
            }
        }
        Event::Views(_)
        | Event::Message { .. }
        | Event::Outcome { .. }
        | Event::Primary(_)
        | Event::Unblock(_)
        | Event::State { .. }
        | Event::UpToDate { .. }
        | Event::Lost(_) => {}
    }
}

fn say(report: &Report) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    let mut output = std::io::stdout().lock();
    output.write_all(&line)?;
    Ok(output.flush()?)
}
