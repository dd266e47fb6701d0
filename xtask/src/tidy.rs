//! The rules that no other tool checks.
//!
//! - Every source file opens with what it is, and has one topic: at most 800 lines outside its tests.
//! - The text of every mutant in `sim/mutants.toml` occurs once in its file.
//! - Every claim cited in code, such as `[KK:cut]`, is defined in `docs/papers.toml`, and every claim there is cited.
//! - Crates depend on each other in one direction.
//! - Diagrams in `docs/protocol.md` are the outputs of the scripts that they name.
//! - Alert rules and the dashboard are about metrics that there are, and each alert leads to its section of the runbook.
//! - Code in `docs/writing-a-service.md` is the file that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;

use crate::observability;

const LINES_MAX: usize = 800;

/// What each pure crate may depend on within this workspace.
const PURE: [(&str, &[&str]); 11] = [
    ("model", &[]),
    ("detector", &["model"]),
    ("membership-core", &["model", "detector"]),
    ("gcs-core", &["model", "detector"]),
    ("session-core", &["model"]),
    ("check", &["model"]),
    ("services/vod", &["model", "session-core"]),
    ("services/courseware", &["model", "session-core"]),
    ("services/search", &["model", "session-core"]),
    ("services/tokens", &["model", "session-core"]),
    ("services/kv", &["model", "session-core"]),
];

/// What a pure crate may never depend on.
const RUNTIME: [&str; 4] = ["tokio", "tonic", "prost", "rand"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Papers {
    paper: Vec<Paper>,
    claim: Vec<Claim>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read to make sure that it is there")]
struct Paper {
    id: String,
    title: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read to make sure that it is there")]
struct Claim {
    id: String,
    section: String,
    says: String,
    deviation: Option<String>,
}

#[derive(Deserialize)]
struct Mutants {
    mutant: Vec<Mutant>,
}

#[derive(Deserialize)]
struct Mutant {
    name: String,
    file: PathBuf,
    find: String,
}

/// Checks all rules, and lists every breach.
pub fn check() -> anyhow::Result<()> {
    let sources = sources(Path::new("."))?;
    let mut breaches = Vec::new();
    let mut cited = BTreeMap::new();
    for path in &sources {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        breaches.extend(shape(path, &text));
        for claim in claims_in(&text) {
            cited.entry(claim).or_insert_with(|| path.clone());
        }
    }
    breaches.extend(papers(&cited)?);
    breaches.extend(diagrams()?);
    breaches.extend(quotations()?);
    breaches.extend(mutants()?);
    breaches.extend(observability::breaches()?);
    for (krate, allowed) in PURE {
        breaches.extend(dependencies(krate, allowed)?);
    }
    for breach in &breaches {
        eprintln!("{breach}");
    }
    if !breaches.is_empty() {
        bail!("{} breaches", breaches.len());
    }
    println!("{} files, {} claims", sources.len(), cited.len());
    Ok(())
}

/// Mutants that do not apply any more.
fn mutants() -> anyhow::Result<Vec<String>> {
    let list = "sim/mutants.toml";
    let Mutants { mutant } = toml::from_str(&fs::read_to_string(list)?).context(list)?;
    let mut breaches = Vec::new();
    for Mutant { name, file, find } in mutant {
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let count = text.matches(&find).count();
        if count != 1 {
            breaches
                .push(format!("{list}: the text of \"{name}\" occurs {count} times in {}", file.display()));
        }
    }
    Ok(breaches)
}

/// All Rust sources of the workspace, by path.
fn sources(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(sources(&path)?);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn shape(path: &Path, text: &str) -> Vec<String> {
    let mut breaches = Vec::new();
    if !text.starts_with("//!") {
        breaches.push(format!("{}: does not open with `//!`: what is it?", path.display()));
    }
    let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
    if lines > LINES_MAX {
        breaches.push(format!("{}: {lines} lines outside its tests, at most {LINES_MAX}", path.display()));
    }
    breaches
}

/// The claims cited in a text: `[PAPER:claim]`.
fn claims_in(text: &str) -> BTreeSet<String> {
    const PAPERS: [&str; 8] = ["KK", "Moshe", "FK", "VKCD", "OVS", "VMFT", "PB", "ADR"];
    let mut claims = BTreeSet::new();
    for candidate in text.split('[').skip(1).filter_map(|rest| rest.split(']').next()) {
        let Some((paper, claim)) = candidate.split_once(':') else { continue };
        let spelt = !claim.is_empty()
            && claim.bytes().all(|b| b.is_ascii_lowercase() || b == b'-' || b.is_ascii_digit());
        if PAPERS.contains(&paper) && spelt {
            claims.insert(candidate.to_owned());
        }
    }
    claims
}

fn papers(cited: &BTreeMap<String, PathBuf>) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string("docs/papers.toml").context("docs/papers.toml")?;
    let papers: Papers = toml::from_str(&text).context("docs/papers.toml")?;
    let known: BTreeSet<_> = papers.claim.iter().map(|claim| claim.id.clone()).collect();
    let titles: BTreeSet<_> = papers.paper.iter().map(|paper| paper.id.as_str()).collect();
    let unknown = cited
        .iter()
        .filter(|(claim, _)| !known.contains(*claim))
        .map(|(claim, path)| format!("{}: [{claim}] is not in docs/papers.toml", path.display()));
    let idle = known
        .iter()
        .filter(|claim| !cited.contains_key(*claim))
        .map(|claim| format!("docs/papers.toml: [{claim}] is cited nowhere"));
    let homeless = known
        .iter()
        .filter(|claim| !claim.split_once(':').is_some_and(|(paper, _)| titles.contains(paper)))
        .map(|claim| format!("docs/papers.toml: [{claim}] names a paper that is not listed"));
    Ok(unknown.chain(idle).chain(homeless).collect())
}

/// Diagrams that are not what their scripts print.
fn diagrams() -> anyhow::Result<Vec<String>> {
    const PAGE: &str = "docs/protocol.md";
    let page = fs::read_to_string(PAGE).context(PAGE)?;
    let mut breaches = Vec::new();
    for part in page.split("<!-- diagram: ").skip(1) {
        let Some((path, rest)) = part.split_once(" -->\n```text\n") else {
            breaches.push(format!("{PAGE}: no diagram after `{}`", part.lines().next().unwrap_or_default()));
            continue;
        };
        let shown = rest.split("\n```").next().unwrap_or_default();
        let script = fs::read_to_string(path).with_context(|| format!("{PAGE}: {path}"))?;
        let printed = script.split_once("---\n").map_or("", |(_, output)| output.trim_end());
        if shown != printed {
            breaches.push(format!("{PAGE}: the diagram of {path} is not what the script prints"));
        }
    }
    Ok(breaches)
}

/// Code that is not what the file has that it is quoted from.
fn quotations() -> anyhow::Result<Vec<String>> {
    const PAGE: &str = "docs/writing-a-service.md";
    let page = fs::read_to_string(PAGE).context(PAGE)?;
    let mut breaches = Vec::new();
    let parts: Vec<_> = page.split("<!-- file: ").skip(1).collect();
    if parts.is_empty() {
        breaches.push(format!("{PAGE}: quotes no file"));
    }
    for part in parts {
        let quoted = part
            .split_once(" -->\n```rust\n")
            .and_then(|(path, rest)| Some((path, rest.split_once("```")?.0)));
        let Some((path, shown)) = quoted else {
            breaches.push(format!("{PAGE}: no code after `{}`", part.lines().next().unwrap_or_default()));
            continue;
        };
        if shown != fs::read_to_string(path).with_context(|| format!("{PAGE}: {path}"))? {
            breaches.push(format!("{PAGE}: what it shows of {path} is not what the file has"));
        }
    }
    Ok(breaches)
}

fn dependencies(krate: &str, allowed: &[&str]) -> anyhow::Result<Vec<String>> {
    let path = format!("{krate}/Cargo.toml");
    let manifest: toml::Table =
        fs::read_to_string(&path).context(path.clone())?.parse().context(path.clone())?;
    let workspace: toml::Table = fs::read_to_string("Cargo.toml")?.parse()?;
    let own: BTreeSet<_> = workspace["workspace"]["dependencies"]
        .as_table()
        .into_iter()
        .flatten()
        .filter(|(_, value)| value.get("path").is_some())
        .map(|(name, _)| name.as_str())
        .collect();
    let named = manifest.get("dependencies").and_then(|value| value.as_table()).into_iter().flatten();
    let wrong = |name: &str| {
        (own.contains(name) && !allowed.contains(&name))
            || RUNTIME.iter().any(|runtime| name.starts_with(runtime))
    };
    Ok(named
        .map(|(name, _)| name)
        .filter(|name| wrong(name))
        .map(|name| format!("{path}: may not depend on `{name}`"))
        .collect())
}
