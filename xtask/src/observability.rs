//! What is shipped for those who watch over a cluster is about metrics that there are: alert rules and the dashboard
//! name none that `docs/observability.md` does not list. (That page is compared with real processes by a test in
//! `e2e`.) Rules are checked, and tried out, by Prometheus' own tool.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::Context;

use crate::steps::{install, run};

const PAGE: &str = "docs/observability.md";
const RUNBOOK: &str = "docs/operations.md";
const RULES: &str = "deploy/observability/alerts.yml";
const DASHBOARD: &str = "deploy/observability/dashboard.json";

/// Metrics that are named where no process has them, and alerts of which the runbook does not say what to do.
pub fn breaches() -> anyhow::Result<Vec<String>> {
    let read = |path: &str| fs::read_to_string(path).context(path.to_owned());
    let page = read(PAGE)?;
    let known = stored(&page);
    let (rules, dashboard) = (read(RULES)?, read(DASHBOARD)?);
    serde_json::from_str::<serde_json::Value>(&dashboard).context(DASHBOARD)?;
    let mut breaches = Vec::new();
    for (path, text) in [(RULES, &rules), (DASHBOARD, &dashboard)] {
        let named = names(text);
        if named.is_empty() {
            breaches.push(format!("{path}: is about no metric"));
        }
        let unknown = named.into_iter().filter(|name| !known.contains(name));
        breaches.extend(unknown.map(|name| format!("{path}: {PAGE} does not list `{name}`")));
    }
    breaches.extend(runbook(&rules, &read(RUNBOOK)?));
    Ok(breaches)
}

/// Alerts that do not lead to a section of the runbook that is called by their name, and sections of no alert.
fn runbook(rules: &str, page: &str) -> Vec<String> {
    let alerts: Vec<_> = rules
        .split("- alert: ")
        .skip(1)
        .map(|rule| (rule.lines().next().unwrap_or_default().trim(), rule))
        .collect();
    let sections = page.split_once("\n## Runbook\n").map_or("", |(_, rest)| rest);
    let sections: Vec<_> = sections.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let astray = alerts.iter().filter(|(name, rule)| {
        let link = format!("runbook: {RUNBOOK}#{}", name.to_lowercase());
        !sections.contains(name) || !rule.lines().any(|line| line.trim() == link)
    });
    let idle = sections.iter().filter(|section| !alerts.iter().any(|(name, _)| name == *section));
    let astray =
        astray.map(|(name, _)| format!("{RULES}: `{name}` does not lead to its section in {RUNBOOK}"));
    astray.chain(idle.map(|section| format!("{RUNBOOK}: there is no alert `{section}`"))).collect()
}

/// The names under which the metrics of the page are stored.
fn stored(page: &str) -> BTreeSet<String> {
    let mut stored = BTreeSet::new();
    for line in page.lines().filter_map(|line| line.strip_prefix("| `")) {
        let Some((name, rest)) = line.split_once("` | ") else { continue };
        let kind = rest.split(' ').next().unwrap_or_default();
        let endings: &[&str] = match kind {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            "gauge" => &[""],
            _ => &[],
        };
        stored.extend(endings.iter().map(|ending| format!("{name}{ending}")));
    }
    stored
}

/// The metrics that a text names: words that begin as ours do.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|it: char| !(it.is_ascii_alphanumeric() || it == '_'));
    words.filter(|it| it.starts_with("handover_") || it.starts_with("process_")).map(str::to_owned).collect()
}

/// Has Prometheus' own tool check the rules and try them out. Installs it where it is missing.
pub fn check_rules() -> anyhow::Result<()> {
    if Command::new("promtool").arg("--version").output().is_err() {
        install(&["prometheus"])?;
    }
    let configurations = ["prometheus.yml", "compose/prometheus.yml"];
    let configurations = configurations.map(|it| format!("deploy/observability/{it}"));
    run(Command::new("promtool").args(["check", "config"]).args(configurations))?;
    run(Command::new("promtool").args(["test", "rules", "deploy/observability/alerts.test.yml"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alert_leads_to_its_section_and_every_section_is_an_alerts() {
        let page = "# Operating\n### Down\n\n## Runbook\n\n### Down\n### Slow\n";
        let rule = |name: &str, link: &str| format!("- alert: {name}\n  annotations:\n    runbook: {link}\n");
        let rules = rule("Down", "docs/operations.md#down") + &rule("Slow", "docs/operations.md#slow");
        assert_eq!(runbook(&rules, page), [""; 0]);
        let rules = rule("Down", "docs/operations.md#slow") + &rule("Late", "docs/operations.md#late");
        assert_eq!(runbook(&rules, page).len(), 3, "one leads astray, one nowhere, and nobody is slow");
    }

    #[test]
    fn metrics_are_known_by_the_names_under_which_they_are_stored() {
        let page =
            "| `handover_a` | counter | | \n| `handover_b` | histogram | `x` | \n| `/metrics` | text |\n";
        let known = stored(page);
        assert!(known.contains("handover_a_total") && known.contains("handover_b_bucket"));
        assert_eq!(known.len(), 4);
        let named = names("rate(handover_a_total[5m]) / process_b{x=\"handover\"}");
        assert_eq!(named.into_iter().collect::<Vec<_>>(), ["handover_a_total", "process_b"]);
    }
}
