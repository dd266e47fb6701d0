//! The sweep: many seeds on all cores, and a report of the first that goes wrong.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use membership_core::Protocol;
use model::trace::Record;

use crate::coverage::Coverage;
use crate::diagram::Detail;
use crate::knobs::Knobs;
use crate::membership;
use crate::report::Outcome;
use crate::world::World;

/// Runs the protocols in a simulated world full of faults, once for each seed, and judges every run.
#[derive(Clone, Debug, Parser)]
pub struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 200)]
    pub seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    pub from: u64,
    /// What is simulated.
    #[arg(long, value_enum, default_value_t = Scope::Sessions)]
    pub world: Scope,
    /// How membership servers agree, in the world of that name: moshe or wombat.
    #[arg(long, default_value_t = Protocol::Moshe)]
    pub protocol: Protocol,
    /// Print how often each kind of fault struck, and what happened.
    #[arg(long)]
    pub coverage: bool,
    /// Write the trace of the last run to this file, as JSON lines.
    #[arg(long)]
    pub trace: Option<PathBuf>,
    /// Stop at the first seed that goes wrong.
    #[arg(long)]
    pub stop: bool,
    /// Instead of running seeds, print what changes cost so many daemons at seven membership servers.
    #[arg(long, value_name = "DAEMONS")]
    pub scale: Option<usize>,
    /// Print every run as a diagram.
    #[arg(long)]
    pub verbose: bool,
}

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    /// Sessions and everything below them: processes crash and start again, connections break.
    Sessions,
    /// Group communication alone, on machines that crash, stand still, are slow, and lose each other.
    Multicast,
    /// Membership servers and daemons alone, on a network in which every connection fails by itself.
    Membership,
}

impl Scope {
    /// How it is called.
    fn name(self) -> &'static str {
        match self {
            Scope::Sessions => "sessions",
            Scope::Multicast => "multicast",
            Scope::Membership => "membership",
        }
    }
}

/// What many runs came to.
#[derive(Default)]
struct Sum {
    runs: u64,
    events: u64,
    views: u64,
    messages: u64,
    takeovers: u64,
    requests: u64,
    responses: u64,
    sessions: u64,
    lost: u64,
    coverage: Coverage,
    membership: membership::Coverage,
    bad: Vec<Failure>,
}

struct Failure {
    seed: u64,
    verdict: &'static str,
    text: String,
}

/// Runs the seeds that `args` names. Fails if anything goes wrong in any of them.
pub fn run(args: Args) -> ExitCode {
    if let Some(daemons) = args.scale {
        return scale(daemons, args.protocol);
    }
    let began = Instant::now();
    let sum = sweep(&args);
    let seconds = began.elapsed().as_secs_f64();
    print_sum(&sum, seconds, &args);
    match args.world {
        _ if !args.coverage => {}
        Scope::Sessions | Scope::Multicast => println!("\n{}", sum.coverage),
        Scope::Membership => println!("\n{}", sum.membership),
    }
    if sum.bad.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn scale(daemons: usize, protocol: Protocol) -> ExitCode {
    match membership::scale::measure(7, daemons, protocol) {
        Ok(costs) => {
            println!("{}", membership::scale::table(&costs));
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            eprintln!("{wrong}");
            ExitCode::FAILURE
        }
    }
}

fn sweep(args: &Args) -> Sum {
    let next = AtomicU64::new(args.from);
    let sum = Mutex::new(Sum::default());
    let threads = thread::available_parallelism().map_or(1, usize::from).min(args.seeds as usize);
    let shown = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let over = args.stop && sum.lock().is_ok_and(|sum| !sum.bad.is_empty());
                    if over || seed >= args.from + args.seeds {
                        break;
                    }
                    let result = one(seed, args);
                    let Ok(mut sum) = sum.lock() else { break };
                    sum.add(seed, result);
                    if args.stop && !sum.bad.is_empty() {
                        break;
                    }
                }
            });
        }
    });
    std::panic::set_hook(shown);
    let mut sum = sum.into_inner().unwrap_or_default();
    sum.bad.sort_by_key(|failure| failure.seed);
    sum
}

/// Runs one seed. An assertion that fails in a core is a verdict too.
fn one(seed: u64, args: &Args) -> Result<Outcome, String> {
    let run = || match args.world {
        Scope::Sessions => play(Knobs::from_seed(seed), args),
        Scope::Multicast => play(Knobs::multicast(seed), args),
        Scope::Membership => {
            let mut world = membership::World::new(membership::Knobs::from_seed(seed, args.protocol));
            if args.verbose {
                world.tell_all();
            }
            let outcome = world.run();
            keep_trace(world.records(), args);
            outcome
        }
    };
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })
}

fn play(knobs: Knobs, args: &Args) -> Outcome {
    let mut world = World::new(knobs);
    if args.verbose {
        world.draw(Detail::Everything);
    }
    let outcome = world.run();
    if let Some(diagram) = world.diagram() {
        let lines = diagram.take();
        println!("{}", lines.join("\n"));
    }
    keep_trace(world.records(), args);
    outcome
}

fn keep_trace(records: &[Record], args: &Args) {
    if let Some(path) = &args.trace
        && let Err(error) = write_trace(records, path)
    {
        eprintln!("{}: {error}", path.display());
    }
}

fn write_trace(records: &[Record], path: &Path) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for record in records {
        serde_json::to_writer(&mut file, record)?;
        file.write_all(b"\n")?;
    }
    file.flush()
}

impl Sum {
    fn add(&mut self, seed: u64, result: Result<Outcome, String>) {
        self.runs += 1;
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(text) => {
                self.bad.push(Failure { seed, verdict: "assertion", text });
                return;
            }
        };
        let tally = outcome.report.tally;
        self.events += outcome.events;
        self.coverage.add(&outcome.coverage);
        self.membership.add(&outcome.membership);
        self.views += tally.views;
        self.messages += tally.messages;
        self.takeovers += tally.takeovers;
        self.requests += tally.requests;
        self.responses += tally.responses;
        self.sessions += outcome.tallies.iter().map(|tally| tally.opened).sum::<u64>();
        self.lost += outcome.tallies.iter().map(|tally| tally.lost).sum::<u64>();
        if !outcome.is_good() {
            let violations = outcome.report.violations.iter().map(|violation| violation.to_string());
            let text = violations.chain(outcome.complaints.iter().cloned()).collect::<Vec<_>>().join("\n");
            self.bad.push(Failure { seed, verdict: outcome.verdict(), text });
        }
    }
}

fn print_sum(sum: &Sum, seconds: f64, args: &Args) {
    let Sum { runs, events, views, messages, takeovers, requests, responses, sessions, lost, bad, .. } = sum;
    println!("seeds       {runs}");
    println!("events      {events}");
    if args.world != Scope::Membership {
        println!("views       {views}");
        println!("messages    {messages}");
    }
    if args.world == Scope::Sessions {
        println!("sessions    {sessions} ({lost} lost with all their servers)");
        println!("takeovers   {takeovers}");
        println!("requests    {requests}");
        println!("responses   {responses}");
    }
    println!("violations  {}", bad.len());
    println!("time        {seconds:.1} s, {:.0} seeds/s", *runs as f64 / seconds);
    if let Some(first) = bad.first() {
        println!("\nseed {}: {}\n{}", first.seed, first.verdict, first.text);
        let (world, protocol) = (args.world.name(), args.protocol);
        let wombat = if protocol == Protocol::default() { "" } else { &format!(" --protocol {protocol}") };
        println!("\nreplay: handover sim --seeds 1 --from {} --verbose --world {world}{wombat}", first.seed);
    }
    let mut kinds = BTreeMap::<&str, Vec<u64>>::new();
    for failure in bad {
        kinds.entry(failure.verdict).or_default().push(failure.seed);
    }
    for (kind, seeds) in kinds {
        println!("{:>5} × {kind}: seeds {:?}", seeds.len(), &seeds[..seeds.len().min(8)]);
    }
}
