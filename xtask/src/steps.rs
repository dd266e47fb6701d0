//! The steps of CI, the quickest to fail first.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::{clients, compose, deployment, engine, tidy};

const BUF: &str = "@bufbuild/buf@1.75.0";
/// Where tools of other languages are installed.
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
    step("deployment", &deployment::check)?;
    step("end to end", &|| cargo(&["test", "--package", "e2e", "--quiet"]))?;
    step("clients", &clients::check)?;
    step("chaos", &chaos)?;
    step("compose", &drill_compose)?;
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

/// Installs `buf`, which also stands in for `grpcurl` in the end-to-end tests, lints the contracts, and compares them with
/// those that were released: nobody's generated client is to break. A release writes `proto/released.binpb` anew, by
/// `buf build proto --exclude-source-info -o proto/released.binpb`.
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
    run(Command::new(&buf).args(["lint", "proto"]))?;
    run(Command::new(buf).args(["breaking", "proto", "--against", "proto/released.binpb"]))
}

/// Five minutes of faults on real networks, by a new seed each time, and the drills. Installs what that needs, where it is
/// missing.
fn chaos() -> anyhow::Result<()> {
    let is_there = |tool: &&str| Command::new(tool).arg("-V").output().is_ok();
    if !["ip", "tc", "nft"].iter().all(is_there) {
        install(&["iproute2", "nftables"])?;
    }
    ["partition", "row"].iter().try_for_each(|drill| handover(&["chaos", "--drill", drill]))?;
    handover(&["chaos", "--minutes", "5"])
}

/// The cluster of `docker-compose.yml`, drilled while films play.
pub fn drill_compose() -> anyhow::Result<()> {
    // Anew, for other builds of `handover` leave one in its place that needs a C library.
    cargo(&["--quiet", "static"])?;
    compose::provide()?;
    engine::beside(drills)
}

/// The drills, on an engine that runs: all of them with the new docker-compose, and with the old one the drill that leaves
/// most to it.
pub fn drills() -> anyhow::Result<()> {
    let drills = || {
        let mut command = Command::new("target/release/handover");
        command.args(["chaos", "compose"]).env("HANDOVER_IMAGE_FROM", "host");
        command
    };
    run(drills().env("PATH", compose::new_first()?))?;
    run(drills().args(["--drill", "scale"]))
}

/// The program that the tests of other languages run.
pub fn handover_path() -> std::io::Result<PathBuf> {
    std::path::absolute("target/release/handover")
}

/// Python in an environment of its own, in which these packages are installed.
pub fn python(packages: &[&str]) -> anyhow::Result<impl Fn() -> Command> {
    let environment = format!("{TOOLS}/python");
    run(Command::new("python3").args(["-m", "venv", &environment]))?;
    let python = move || Command::new(format!("{environment}/bin/python"));
    run(python().args(["-m", "pip", "install", "--quiet"]).args(packages))?;
    Ok(python)
}

/// Installs packages of Debian.
pub fn install(packages: &[&str]) -> anyhow::Result<()> {
    let hint = || format!("install {}, or run this as root", packages.join(", "));
    run(Command::new("apt-get").args(["update", "--quiet"])).with_context(hint)?;
    let flags = ["install", "--quiet", "--yes", "--no-install-recommends"];
    let mut install = Command::new("apt-get");
    run(install.env("DEBIAN_FRONTEND", "noninteractive").args(flags).args(packages)).with_context(hint)
}

fn cargo(args: &[&str]) -> anyhow::Result<()> {
    run(Command::new(env!("CARGO")).args(args))
}

fn handover(args: &[&str]) -> anyhow::Result<()> {
    run(Command::new("target/release/handover").args(args))
}

/// Runs a command, and shows which.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = format!("{command:?}").replace('"', "");
    println!("$ {shown}");
    // Build scripts that look at what cargo said of the program that calls it would run anew for every other one.
    for (name, _) in std::env::vars_os() {
        let bytes = name.as_encoded_bytes();
        if bytes.starts_with(b"CARGO_PKG_") || bytes.starts_with(b"CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    let status = command.status().with_context(|| format!("cannot run `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}`: {status}");
    }
    Ok(())
}
