//! `handover check`: the checkers of the simulator on the traces of a real run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use check::read::Trace;
use check::{Report, Violation};
use svc_kit::shutdown::Exit;

use crate::table::Table;

/// Judge the traces that processes with `--trace DIR` wrote: every property that Handover promises is checked on every
/// record. Exits with 1 if one does not hold.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The directory with the traces
    dir: PathBuf,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let report = judge(&args.dir)?;
    let mut table = Table::new(["PROPERTY", "CLAIM", "HOLDS"]);
    for property in check::all() {
        let is_broken = report.violations.iter().any(|violation| violation.property == property.name());
        let holds = if is_broken { "no" } else { "yes" };
        table.row([property.name().to_owned(), property.claim().to_owned(), holds.to_owned()]);
    }
    println!("{table}\n{}", summary(&report));
    for violation in &report.violations {
        println!("\n{}", explained(&report, violation));
    }
    Ok(if report.violations.is_empty() { ExitCode::SUCCESS } else { Exit::Error.into() })
}

/// Whether there are traces in a directory.
pub fn has_traces(dir: &Path) -> bool {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    files.into_iter().any(|file| file.path().extension().is_some_and(|it| it == check::read::EXTENSION))
}

/// Judges all traces in a directory.
pub fn judge(dir: &Path) -> anyhow::Result<Report> {
    Ok(Trace::open(dir)?.judge()?)
}

/// How much was judged, and the verdict, in one line.
pub fn summary(report: &Report) -> String {
    let tally = &report.tally;
    format!(
        "{} records of {} processes: {} views, {} messages, {} deliveries, {} takeovers, {} requests, {} responses; \
         {} violations",
        tally.records,
        report.sources.len(),
        tally.views,
        tally.messages,
        tally.deliveries,
        tally.takeovers,
        tally.requests,
        tally.responses,
        report.violations.len()
    )
}

/// A violation, and the lines that prove it.
pub fn explained(report: &Report, violation: &Violation) -> String {
    let mut text = format!("{} [{}]: {}", violation.property, violation.claim, violation.breach.what);
    for position in &violation.breach.evidence {
        let source = report.sources.get(usize::from(position.source)).map_or("?", String::as_str);
        text.push_str(&format!("\n    {source}:{}", position.line));
    }
    text
}
