//! The alerts that the chart ships: by the words of promtool, by cases in which each fires and stays silent, and by their
//! entries in the runbook.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::pages::{self, page};

/// The alerts, in Prometheus' own form.
const ALERTS: &str = "charts/channelcluster/files/alerts.yaml";
/// The cases.
const CASES: &str = "e2e/alerts/tests.yaml";

fn promtool(args: &[&str]) -> String {
    let mut command = Command::new("/usr/bin/promtool");
    let output = command.args(args).current_dir(pages::root()).output();
    let output = output.expect("the Debian package prometheus is installed");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "promtool {args:?}: {said}");
    said
}

fn read(name: &str) -> Value {
    serde_saphyr::from_str(&page(name)).unwrap()
}

fn rules() -> Vec<Value> {
    let groups = read(ALERTS)["groups"].as_array().unwrap().clone();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

#[test]
fn every_alert_fires_in_its_case_and_stays_silent_in_the_other() {
    assert!(promtool(&["check", "rules", ALERTS]).contains("SUCCESS"));
    assert!(promtool(&["test", "rules", CASES]).contains("SUCCESS"));
    let cases = read(CASES)["tests"].as_array().unwrap().clone();
    let names: BTreeSet<_> = cases.iter().map(|case| case["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names.len(), cases.len(), "a name is there twice");
    for rule in rules() {
        let alert = rule["alert"].as_str().unwrap();
        for (case, samples) in [("fires", 1), ("stays silent", 0)] {
            let name = format!("{alert} {case}");
            let case = cases.iter().find(|case| case["name"] == name.as_str());
            let asked =
                &case.unwrap_or_else(|| panic!("{CASES} has no case {name:?}"))["promql_expr_test"][0];
            let wanted = format!("count(ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"}})");
            assert_eq!(asked["expr"], wanted.as_str());
            assert_eq!(asked["exp_samples"].as_array().map(Vec::len), Some(samples), "{name}");
        }
    }
    assert_eq!(names.len(), rules().len() * 2, "a case of an alert that is not there");
}

#[test]
fn every_alert_says_what_it_means_and_what_to_do() {
    let runbook = page("docs/RUNBOOK.md");
    let headings: Vec<_> = runbook.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let alerts = rules();
    for rule in &alerts {
        let alert = rule["alert"].as_str().unwrap();
        assert!(headings.contains(&alert), "docs/RUNBOOK.md has no entry for {alert}");
        let annotations = &rule["annotations"];
        let url = annotations["runbook_url"].as_str().unwrap();
        assert!(url.ends_with(&format!("/docs/RUNBOOK.md#{}", alert.to_lowercase())), "{alert}: {url}");
        for text in ["summary", "description"] {
            assert!(annotations[text].as_str().unwrap().len() > 10, "{alert} has no {text}");
        }
        let severity = rule["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning", "info"].contains(&severity), "{alert}: {severity}");
    }
    assert!(alerts.len() > 20, "only {} alerts", alerts.len());
    assert_eq!(headings.len(), alerts.len(), "an entry of an alert that is not there: {headings:?}");
}

/// The names of metrics in alerts and dashboards are those of the page, which tests of both programs hold to the programs.
#[test]
fn alerts_and_dashboards_use_metrics_that_are_there() {
    let known = pages::metrics(&page("docs/METRICS.md"), "channelcluster_");
    let labels = ["channelcluster_io_cluster".to_owned()].into();
    let directory = "charts/channelcluster/files";
    let files = [
        ALERTS,
        &format!("{directory}/dashboards/fleet.json"),
        &format!("{directory}/dashboards/operator.json"),
    ]
    .map(str::to_owned);
    for file in files {
        let used = pages::metrics(&page(&file), "channelcluster_");
        let used: BTreeSet<_> = used.difference(&labels).cloned().collect();
        assert!(used.len() > 10, "{file}: only {used:?}");
        let unknown: Vec<_> = used.difference(&known).collect();
        assert!(unknown.is_empty(), "{file}: no such metrics: {unknown:?}");
    }
}
