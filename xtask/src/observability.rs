//! What is shipped for those who watch over a cluster is about metrics that there are: alert rules and the dashboard
//! name none that `docs/observability.md` does not list. (That page is compared with real processes by a test in
//! `e2e`.) Rules are checked, and tried out, by Prometheus' own tool.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::Context;

use crate::steps::{install, run};

const PAGE: &str = "docs/observability.md";
const RULES: &str = "deploy/observability/alerts.yml";
const DASHBOARD: &str = "deploy/observability/dashboard.json";

/// Metrics that are named where no process has them, and alerts of which the page does not say what to do.
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
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let silent = alerts.filter(|alert| !page.contains(&format!("| `{alert}` |")));
    breaches.extend(silent.map(|alert| format!("{PAGE}: says nothing of the alert `{alert}`")));
    Ok(breaches)
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
