//! The steps of CI, the quickest to fail first.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::tidy;

const BUF: &str = "@bufbuild/buf@1.75.0";
const TOOLS: &str = "target/tools";

/// Runs every step, and stops at the first that fails.
pub fn ci() -> anyhow::Result<()> {
    let mut taken = Vec::new();
    let mut step = |name: &'static str, run: &dyn Fn() -> anyhow::Result<()>| -> anyhow::Result<()> {
        println!("\n=== {name}");
        let start = Instant::now();
        run().with_context(|| format!("step `{name}` failed"))?;
        taken.push((name, start.elapsed()));
        Ok(())
    };
    step("format", &|| cargo(&["fmt", "--all", "--check"]))?;
    step("tidy", &tidy::check)?;
    step("lints", &|| {
        cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"])
    })?;
    step("unit tests and scripts", &|| cargo(&["test", "--workspace", "--exclude", "e2e", "--quiet"]))?;
    step("release build", &|| cargo(&["build", "--release", "--quiet"]))?;
    step("simulation", &|| handover(&["sim", "--seeds", "1000"]))?;
    step("multicast simulation", &|| handover(&["sim", "--seeds", "1000", "--world", "multicast"]))?;
    step("membership simulation", &|| handover(&["sim", "--seeds", "700", "--world", "membership"]))?;
    step("membership of many", &|| {
        ["moshe", "wombat"].iter().try_for_each(|it| handover(&["sim", "--scale", "300", "--protocol", it]))
    })?;
    step("mutants", &|| cargo(&["run", "--release", "--quiet", "--package", "sim", "--bin", "mutants"]))?;
    step("contracts", &contracts)?;
    step("end to end", &|| cargo(&["test", "--package", "e2e", "--quiet"]))?;
    step("chaos", &chaos)?;
    step("main job", &|| handover(&["demo"]))?;
    step("benchmark runs", &|| {
        let smoke = ["latency", "--count", "100"];
        cargo(&[&["run", "--release", "--quiet", "--package", "bench", "--"][..], &smoke].concat())
    })?;

    println!("\n=== all steps passed");
    for (name, time) in &taken {
        println!("{:>7.1} s  {name}", time.as_secs_f64());
    }
    let total: Duration = taken.iter().map(|(_, time)| *time).sum();
    println!("{:>7.1} s  in all", total.as_secs_f64());
    Ok(())
}

/// Installs `buf`, which also stands in for `grpcurl` in the end-to-end tests, and lints the contracts.
fn contracts() -> anyhow::Result<()> {
    let buf = format!("{TOOLS}/node_modules/.bin/buf");
    if !Path::new(&buf).exists() {
        run(Command::new("npm").args([
            "install",
            "--silent",
            "--no-fund",
            "--no-audit",
            "--prefix",
            TOOLS,
            BUF,
        ]))?;
    }
    run(Command::new(buf).args(["lint", "proto"]))
}

/// Three minutes of faults on real networks, by a new seed each time. Installs what that needs, where it is missing.
fn chaos() -> anyhow::Result<()> {
    let is_there = |tool: &&str| Command::new(tool).arg("-V").output().is_ok();
    if !["ip", "tc", "nft"].iter().all(is_there) {
        let apt = |args: &[&str]| {
            run(Command::new("apt-get").args(args))
                .context("install iproute2 and nftables, or run this as root")
        };
        apt(&["update", "--quiet"])?;
        apt(&["install", "--quiet", "--yes", "iproute2", "nftables"])?;
    }
    let packages = ["chaos", "gcs-svc", "membership-svc", "server-svc", "gateway"]
        .iter()
        .flat_map(|package| ["--package", package]);
    run(Command::new(env!("CARGO")).args(["build", "--release", "--quiet", "--bins"]).args(packages))?;
    run(Command::new("target/release/chaos").args(["--seconds", "180"]))
}

fn cargo(args: &[&str]) -> anyhow::Result<()> {
    run(Command::new(env!("CARGO")).args(args))
}

fn handover(args: &[&str]) -> anyhow::Result<()> {
    run(Command::new("target/release/handover").args(args))
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = format!("{command:?}").replace('"', "");
    println!("$ {shown}");
    let status = command.status().with_context(|| format!("cannot run `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}`: {status}");
    }
    Ok(())
}
