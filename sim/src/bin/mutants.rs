//! Plants one fault at a time in the protocols, and demands that the simulation finds each.
//!
//! `sim/mutants.toml` lists the faults: a file, a text in it that occurs once, and what stands there instead. The pure
//! crates are copied, the fault is planted in the copy, and the copy's simulator runs a fixed range of seeds. It has
//! to report a violation. A mutant that no longer fits the code is an error, and so is one that survives.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use serde::Deserialize;

/// The crates that the simulator is built from.
const CRATES: [&str; 6] = ["model", "check", "membership-core", "gcs-core", "session-core", "sim"];

/// How many seeds a mutant may survive.
const SEEDS: u64 = 400;

/// Quick to build, and quick enough to run.
const PROFILE: &str = "\n[profile.dev]\nopt-level = 1\ndebug = false\n";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    mutant: Vec<Mutant>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutant {
    /// The claim that it breaks.
    name: String,
    file: String,
    find: String,
    replace: String,
}

/// What came of a mutant.
enum Fate {
    /// The simulation reported this verdict, at this seed.
    Found(String),
    Survived,
    /// It could not be planted, or does not build.
    Unfit(String),
}

fn main() -> ExitCode {
    match run(std::env::args().nth(1).as_deref()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mutants: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Tries all mutants, or those whose name contains `only`. Returns whether each was found.
fn run(only: Option<&str>) -> Result<bool, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let list: List =
        toml::from_str(&read(&root.join("sim/mutants.toml"))?).map_err(|error| error.to_string())?;
    let bench = root.join("target/mutants");
    let copy = bench.join("source");
    if copy.exists() {
        fs::remove_dir_all(&copy).map_err(|error| format!("{}: {error}", copy.display()))?;
    }
    let mut all_found = true;
    let sound =
        Mutant { name: "(none)".into(), file: String::new(), find: String::new(), replace: String::new() };
    let chosen = list.mutant.iter().filter(|mutant| only.is_none_or(|only| mutant.name.contains(only)));
    for mutant in std::iter::once(&sound).chain(chosen) {
        let began = Instant::now();
        lay_out(&root, &copy)?;
        let fate = plant(&copy, mutant).map_or_else(Fate::Unfit, |()| simulate(&copy, &bench.join("build")));
        let (word, detail, as_hoped) = match &fate {
            Fate::Found(verdict) => ("found", verdict.as_str(), !mutant.file.is_empty()),
            Fate::Survived => ("survived", "", mutant.file.is_empty()),
            Fate::Unfit(error) => ("unfit", error.as_str(), false),
        };
        println!("{:<55} {word:<9} {detail:<40} {:>5.1} s", mutant.name, began.elapsed().as_secs_f64());
        all_found &= as_hoped;
    }
    Ok(all_found)
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Copies the crates, touching only files that differ, so that a build takes up what has changed.
fn lay_out(root: &Path, copy: &Path) -> Result<(), String> {
    let mut manifest: toml::Table = read(&root.join("Cargo.toml"))?.parse().map_err(|e| format!("{e}"))?;
    let workspace = manifest.get_mut("workspace").and_then(toml::Value::as_table_mut);
    let workspace = workspace.ok_or("Cargo.toml: no workspace")?;
    workspace.insert("members".into(), CRATES.to_vec().into());
    workspace.insert("default-members".into(), vec!["sim"].into());
    manifest.remove("profile");
    write(&copy.join("Cargo.toml"), &format!("{manifest}{PROFILE}"))?;
    write(&copy.join("Cargo.lock"), &read(&root.join("Cargo.lock"))?)?;
    for krate in CRATES {
        write(&copy.join(krate).join("Cargo.toml"), &read(&root.join(krate).join("Cargo.toml"))?)?;
        copy_sources(&root.join(krate).join("src"), &copy.join(krate).join("src"))?;
    }
    Ok(())
}

fn copy_sources(from: &Path, to: &Path) -> Result<(), String> {
    for entry in fs::read_dir(from).map_err(|error| format!("{}: {error}", from.display()))? {
        let path: PathBuf = entry.map_err(|error| error.to_string())?.path();
        let Some(name) = path.file_name() else { continue };
        if path.is_dir() {
            copy_sources(&path, &to.join(name))?;
        } else {
            write(&to.join(name), &read(&path)?)?;
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, text));
    made.map_err(|error| format!("{}: {error}", path.display()))
}

fn plant(copy: &Path, mutant: &Mutant) -> Result<(), String> {
    if mutant.file.is_empty() {
        return Ok(());
    }
    let path = copy.join(&mutant.file);
    let text = read(&path)?;
    match text.matches(&mutant.find).count() {
        1 => write(&path, &text.replace(&mutant.find, &mutant.replace)),
        count => Err(format!("its text occurs {count} times in {}", mutant.file)),
    }
}

fn simulate(copy: &Path, build: &Path) -> Fate {
    let cargo = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO"));
        command.args(args).current_dir(copy).env("CARGO_TARGET_DIR", build).output()
    };
    match cargo(&["build", "--quiet", "--offline", "--bin", "sim"]) {
        Err(error) => return Fate::Unfit(error.to_string()),
        Ok(built) if !built.status.success() => {
            let text = String::from_utf8_lossy(&built.stderr).into_owned();
            let first = text.lines().find(|line| line.starts_with("error")).unwrap_or("does not build");
            return Fate::Unfit(first.to_owned());
        }
        Ok(_) => {}
    }
    let seeds = SEEDS.to_string();
    match Command::new(build.join("debug/sim")).args(["--stop", "--seeds", &seeds]).output() {
        Err(error) => Fate::Unfit(error.to_string()),
        Ok(ran) if ran.status.success() => Fate::Survived,
        Ok(ran) => {
            let text = String::from_utf8_lossy(&ran.stdout).into_owned();
            let first = text.lines().find(|line| line.starts_with("seed ")).unwrap_or("crashed");
            Fate::Found(first.to_owned())
        }
    }
}
