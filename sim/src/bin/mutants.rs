//! Plants faults in the protocols, and demands that the simulation, or a script, finds each.
//!
//! `sim/mutants.toml` lists the faults: a file, a text in it that occurs once and lies in one function, what stands
//! there instead, and who is to find it. The pure crates are copied, and every fault is planted in the one copy, asleep:
//! a function with faults gets a body for each of them, and an environment variable says at run time which fault is awake.
//! So there is one build for all. With no fault awake everything must be found good. A mutant that no longer fits the
//! code is an error, and so is one that survives.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

/// The crates that the simulator and the tests are built from.
const CRATES: [&str; 8] =
    ["model", "check", "detector", "fuzz", "membership-core", "gcs-core", "session-core", "sim"];

/// The crates whose tests find some of their own mutants.
const SCRIPTED: [&str; 2] = ["membership-core", "gcs-core"];

/// Crates whose unit tests do.
const UNIT_TESTED: [&str; 1] = ["session-core"];

/// Says which mutant is awake.
const AWAKE: &str = "HANDOVER_MUTANT";

/// What the crate below all others gets, so that every crate can ask.
const QUESTION: &str = r#"
extern crate std;

/// Whether mutant `number` is awake.
pub fn mutant(number: u32) -> bool {
    static AWAKE: std::sync::OnceLock<Option<u32>> = std::sync::OnceLock::new();
    let read = || std::env::var("HANDOVER_MUTANT").ok()?.parse().ok();
    *AWAKE.get_or_init(read) == Some(number)
}

std::thread_local! {
    /// What one place of a mutant tells another.
    pub static NOTE: core::cell::Cell<bool> = const { core::cell::Cell::new(false) };
}
"#;

/// Quick to build, and quick enough to run.
const PROFILE: &str = "\n[profile.dev]\nopt-level = 1\ndebug = false\n";

/// A run that takes longer than this goes round in circles.
const PATIENCE: Duration = Duration::from_secs(90);

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
    finder: Finder,
    /// Which test, if it is found by one.
    test: Option<String>,
    file: String,
    find: String,
    replace: String,
    /// Another place that belongs to the same fault.
    also: Option<Place>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    file: String,
    find: String,
    replace: String,
}

/// Who finds a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Finder {
    /// Some seed of the world with sessions.
    Sessions,
    /// Some seed of the world without.
    Multicast,
    /// Some seed of the world of membership servers.
    Membership,
    /// A test of the crate that it is in, where random seeds are no way to come across it.
    Script,
}

impl Finder {
    /// The world.
    const fn world(self) -> &'static str {
        match self {
            Finder::Sessions => "sessions",
            Finder::Membership => "membership",
            Finder::Multicast | Finder::Script => "multicast",
        }
    }

    /// How many seeds a mutant may survive.
    const fn seeds(self) -> &'static str {
        match self {
            Finder::Sessions => "1000",
            Finder::Multicast | Finder::Script => "600",
            Finder::Membership => "1000",
        }
    }
}

/// Where to look for a mutant.
#[derive(Clone, Copy)]
enum Look<'a> {
    /// In a world.
    Seeds(Finder),
    /// In the tests of a crate, or in one of them.
    Tests(&'a str, Option<&'a str>),
}

impl Mutant {
    fn look(&self) -> Look<'_> {
        match self.finder {
            Finder::Script => {
                let krate = self.file.split('/').next().unwrap_or_default();
                Look::Tests(krate, self.test.as_deref())
            }
            finder @ (Finder::Sessions | Finder::Multicast | Finder::Membership) => Look::Seeds(finder),
        }
    }
}

/// What came of a run.
enum Fate {
    /// Something was wrong, and this is what.
    Found(String),
    Survived,
}

/// The programs that find mutants.
struct Programs {
    sim: PathBuf,
    /// By crate.
    tests: BTreeMap<String, PathBuf>,
}

/// A text to put in the place of another, while mutant `number` is awake.
struct Edit<'a> {
    number: usize,
    name: &'a str,
    find: &'a str,
    replace: &'a str,
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
    let began = Instant::now();
    let bench = root.join("target/mutants");
    let copy = bench.join("source");
    let mut files = sources(&root)?;
    plant(&mut files, &list.mutant)?;
    write_out(&copy, &files)?;
    let programs = build(&copy, &bench.join("build"))?;
    println!("{} mutants, built in {:.1} s", list.mutant.len(), began.elapsed().as_secs_f64());

    let mut survivors = Vec::new();
    let sound = [Finder::Membership, Finder::Multicast, Finder::Sessions]
        .map(|finder| (0, "(none)", Look::Seeds(finder)));
    let tested = SCRIPTED.into_iter().chain(UNIT_TESTED);
    let sound = sound.into_iter().chain(tested.map(|krate| (0, "(none)", Look::Tests(krate, None))));
    let chosen = (1..).zip(&list.mutant).filter(|(_, it)| only.is_none_or(|only| it.name.contains(only)));
    let chosen = chosen.map(|(number, it)| (number, it.name.as_str(), it.look()));
    for (number, name, look) in sound.chain(chosen) {
        let began = Instant::now();
        let fate = programs.try_out(number, look)?;
        let by = match look {
            Look::Seeds(finder) => finder.world(),
            Look::Tests(krate, _) => krate,
        };
        let (word, detail) = match &fate {
            Fate::Found(verdict) if number == 0 => {
                return Err(format!("{by} proves nothing: without any mutant it finds {verdict}"));
            }
            Fate::Found(verdict) => ("found", verdict.as_str()),
            Fate::Survived => ("survived", ""),
        };
        if number > 0 && matches!(fate, Fate::Survived) {
            survivors.push(name);
        }
        println!("{name:<66} {by:<15} {word:<8} {detail:<40} {:>5.1} s", began.elapsed().as_secs_f64());
    }
    println!("in all {:.1} s", began.elapsed().as_secs_f64());
    survivors.iter().for_each(|name| println!("survived: {name}"));
    Ok(survivors.is_empty())
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The workspace of the pure crates: every file, by its path in the workspace.
fn sources(root: &Path) -> Result<BTreeMap<PathBuf, String>, String> {
    let mut manifest: toml::Table = read(&root.join("Cargo.toml"))?.parse().map_err(|e| format!("{e}"))?;
    let workspace = manifest.get_mut("workspace").and_then(toml::Value::as_table_mut);
    let workspace = workspace.ok_or("Cargo.toml: no workspace")?;
    workspace.insert("members".into(), CRATES.to_vec().into());
    workspace.insert("default-members".into(), vec!["sim"].into());
    manifest.remove("profile");
    let mut files = BTreeMap::from([
        (PathBuf::from("Cargo.toml"), format!("{manifest}{PROFILE}")),
        (PathBuf::from("Cargo.lock"), read(&root.join("Cargo.lock"))?),
    ]);
    for krate in CRATES {
        let path = Path::new(krate).join("Cargo.toml");
        files.insert(path.clone(), read(&root.join(path))?);
        take(root, &Path::new(krate).join("src"), &mut files)?;
    }
    for krate in SCRIPTED {
        take(root, &Path::new(krate).join("tests"), &mut files)?;
    }
    Ok(files)
}

fn take(root: &Path, folder: &Path, files: &mut BTreeMap<PathBuf, String>) -> Result<(), String> {
    let path = root.join(folder);
    for entry in fs::read_dir(&path).map_err(|error| format!("{}: {error}", path.display()))? {
        let path = folder.join(entry.map_err(|error| error.to_string())?.file_name());
        if root.join(&path).is_dir() {
            take(root, &path, files)?;
        } else {
            files.insert(path.clone(), read(&root.join(path))?);
        }
    }
    Ok(())
}

/// Makes `copy` consist of `files`. Those that are there already are not touched, so that they are not built again.
fn write_out(copy: &Path, files: &BTreeMap<PathBuf, String>) -> Result<(), String> {
    let mut there = BTreeMap::new();
    if copy.exists() {
        take(copy, Path::new(""), &mut there)?;
    }
    let failed = |path: &Path, error| format!("{}: {error}", path.display());
    for path in there.keys().filter(|path| !files.contains_key(*path)) {
        fs::remove_file(copy.join(path)).map_err(|error| failed(path, error))?;
    }
    for (path, text) in files.iter().filter(|(path, text)| there.get(*path) != Some(*text)) {
        let path = copy.join(path);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text));
        made.map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

/// Plants all mutants. They are numbered from 1, in the order of the list.
fn plant(files: &mut BTreeMap<PathBuf, String>, mutants: &[Mutant]) -> Result<(), String> {
    let mut edits: BTreeMap<&Path, Vec<Edit<'_>>> = BTreeMap::new();
    for (number, mutant) in (1..).zip(mutants) {
        let name = mutant.name.as_str();
        let edit = Edit { number, name, find: &mutant.find, replace: &mutant.replace };
        edits.entry(Path::new(&mutant.file)).or_default().push(edit);
        if let Some(Place { file, find, replace }) = &mutant.also {
            edits.entry(Path::new(file)).or_default().push(Edit { number, name, find, replace });
        }
    }
    for (path, edits) in edits {
        let text = files.get_mut(path).ok_or_else(|| format!("no file {}", path.display()))?;
        *text = with_edits(text, &edits).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if let Some(text) = files.get_mut(Path::new("model/src/lib.rs")) {
        text.push_str(QUESTION);
    }
    Ok(())
}

/// `text` with a further body for each edit, in the function in which it lies.
fn with_edits(text: &str, edits: &[Edit<'_>]) -> Result<String, String> {
    let mut bodies: BTreeMap<(usize, usize), Vec<(&Edit<'_>, usize)>> = BTreeMap::new();
    for edit in edits {
        let mut places = text.match_indices(edit.find).map(|(place, _)| place);
        let (Some(place), None) = (places.next(), places.next()) else {
            let count = text.matches(edit.find).count();
            return Err(format!("the text of \"{}\" occurs {count} times", edit.name));
        };
        let body = body_around(text, place..place + edit.find.len())
            .ok_or_else(|| format!("\"{}\" does not lie in one function", edit.name))?;
        bodies.entry(body).or_default().push((edit, place));
    }
    let mut changed = text.to_owned();
    let mut last_start = text.len();
    for ((start, end), edits) in bodies.into_iter().rev() {
        if end > last_start {
            return Err(format!(
                "\"{}\" lies in a function within another one with mutants",
                edits[0].0.name
            ));
        }
        last_start = start;
        let body = &text[start..end];
        let mut all = String::from("\n");
        for (edit, place) in edits {
            let (before, after) = body.split_at(place - start);
            let after = &after[edit.find.len()..];
            all.push_str(&format!(
                "if ::model::mutant({}) {{{before}{}{after}}} else ",
                edit.number, edit.replace
            ));
        }
        changed.replace_range(start..end, &format!("{all}{{{body}}}\n"));
    }
    Ok(changed)
}

/// What stands between the braces of the innermost function around `range`. The source is formatted, so a function ends
/// at the first line that is a closing brace with the indentation of its beginning.
fn body_around(text: &str, range: std::ops::Range<usize>) -> Option<(usize, usize)> {
    let mut lines = Vec::new();
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        lines.push((offset, line));
        offset += line.len();
    }
    let is_function = |line: &str| {
        let words = line.trim_start().split(' ').take(3);
        words.take_while(|word| *word == "fn" || word.starts_with("pub")).any(|word| word == "fn")
    };
    let before = lines.iter().take_while(|(offset, _)| *offset <= range.start).count();
    lines[..before].iter().enumerate().rev().filter(|(_, (_, line))| is_function(line)).find_map(|(at, _)| {
        let line = lines[at].1;
        let closing = format!("{}}}\n", &line[..line.len() - line.trim_start().len()]);
        let (opens, opening) = lines[at..].iter().find(|(_, line)| line.trim_end().ends_with('{'))?;
        let (end, _) = lines[at + 1..].iter().find(|(_, line)| *line == closing)?;
        let start = opens + opening.trim_end().len();
        (start <= range.start && range.end <= *end).then_some((start, *end))
    })
}

/// Builds everything from one text, so that what is common to the programs is built once.
fn build(copy: &Path, target: &Path) -> Result<Programs, String> {
    let packages = |of: &[&'static str]| of.iter().flat_map(|krate| ["--package", krate]).collect::<Vec<_>>();
    let scripted = [packages(&["sim"]), packages(&SCRIPTED)].concat();
    let simulator = [&["build", "--bin", "sim", "--test", "all"], &scripted[..]].concat();
    let unit_tests = [&["test", "--no-run", "--lib"], &packages(&UNIT_TESTED)[..]].concat();
    let mut built = compile(&simulator, copy, target)?;
    built.extend(compile(&unit_tests, copy, target)?);
    let sim = built.remove("sim").ok_or("cargo does not say where the simulator is")?;
    Ok(Programs { sim, tests: built })
}

/// Has cargo build programs. Returns where they are, by the crate that they belong to.
fn compile(args: &[&str], copy: &Path, target: &Path) -> Result<BTreeMap<String, PathBuf>, String> {
    let mut command = Command::new(env!("CARGO"));
    command.args(args).args(["--offline", "--message-format", "json-render-diagnostics"]);
    // Nothing is built twice from the same text, so what a build leaves for the next one is of no use.
    command.current_dir(copy).env("CARGO_TARGET_DIR", target).env("CARGO_INCREMENTAL", "0");
    let ran = command.output().map_err(|error| error.to_string())?;
    if !ran.status.success() {
        let told = String::from_utf8_lossy(&ran.stderr).into_owned();
        let errors: Vec<&str> = told.lines().skip_while(|line| !line.starts_with("error")).take(12).collect();
        return Err(format!("the mutants do not build:\n{}", errors.join("\n")));
    }
    let mut built = BTreeMap::new();
    for line in String::from_utf8_lossy(&ran.stdout).lines() {
        let told: serde_json::Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let krate = told["manifest_path"].as_str().and_then(|path| Path::new(path).parent()?.file_name());
        if let (Some(krate), Some(program)) = (krate, told["executable"].as_str()) {
            built.insert(krate.to_string_lossy().into_owned(), PathBuf::from(program));
        }
    }
    Ok(built)
}

impl Programs {
    /// Wakes a mutant, and lets its finder look for it.
    fn try_out(&self, number: usize, look: Look<'_>) -> Result<Fate, String> {
        let mut command = match look {
            Look::Tests(krate, test) => {
                let tests = self.tests.get(krate).ok_or_else(|| format!("no tests of {krate}"))?;
                let mut command = Command::new(tests);
                command.args(test);
                command
            }
            Look::Seeds(finder) => {
                let mut command = Command::new(&self.sim);
                command.args(["--stop", "--seeds", finder.seeds(), "--world", finder.world()]);
                command
            }
        };
        let output = PathBuf::from(format!("{}.out", self.sim.display()));
        let file = fs::File::create(&output).map_err(|error| error.to_string())?;
        let command = command.env(AWAKE, number.to_string()).stdout(file).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let began = Instant::now();
        loop {
            match child.try_wait().map_err(|error| error.to_string())? {
                Some(status) if status.success() => return Ok(Fate::Survived),
                Some(_) => break,
                None if began.elapsed() > PATIENCE => {
                    child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
                    return Ok(Fate::Found("does not end".into()));
                }
                None => thread::sleep(Duration::from_millis(10)),
            }
        }
        let text = read(&output)?;
        let is_verdict = |line: &&str| line.starts_with("seed ") || line.ends_with("... FAILED");
        Ok(Fate::Found(text.lines().find(is_verdict).unwrap_or("crashed").to_owned()))
    }
}
