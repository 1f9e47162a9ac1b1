use super::*;
use crate::{environment::Environment, peers::BARE, record::Header, scenario::select};
use serde_json::json;
use std::collections::BTreeMap;

fn run(round: u32, server: &str, cpu: f64, failures: &[&str]) -> Run {
    Run {
        scenario: "fanout-100".into(),
        round,
        server: server.into(),
        at: "12:00:00".into(),
        cpus_of_others: Some(0.25),
        error: None,
        report: json!({
            "cpu_us_per_delivery": cpu,
            "user_us_per_delivery": 0.5,
            "latency": {"p99_ms": 3.0},
            "failures": failures,
        }),
    }
}

fn records() -> Records {
    let environment = Environment {
        cpu: "A CPU".into(),
        cpus: 2,
        memory_gib: 8,
        kernel: "6.1".into(),
        commit: "abcdef".into(),
        date: "2026-01-01".into(),
        nofile: 20_000,
    };
    let versions = BTreeMap::from([("nats".to_owned(), "v2".to_owned())]);
    let header = Header { seed: 5, seconds: None, environment, versions };
    let path = std::env::temp_dir().join(format!("bench-page-{:?}.jsonl", std::thread::current().id()));
    fs::remove_file(&path).ok();
    let mut records = Records::resume(&path, || Ok(header)).unwrap();
    for round in 0..5 {
        // The machine gets slower, and the ratio stays the same.
        let slower = 1.0 + f64::from(round);
        records.add(run(round, OURS, 4.0 * slower, &[])).unwrap();
        records.add(run(round, "nats", 8.0 * slower, &[])).unwrap();
    }
    records.add(run(5, "nats", 0.1, &["9 deliveries lost"])).unwrap();
    fs::remove_file(path).unwrap();
    records
}

#[test]
fn a_table_has_medians_ratios_and_failures() {
    let all = select(&[], Group::Peers).unwrap();
    let text = text(&records(), &all);
    assert!(text.contains("| **channel-node** | 12.0 ("), "{text}");
    assert!(
        text.contains("| nats | 24.0 (") && text.contains("| 0.500 (0.500 to 0.500) | 5, 1 failed |"),
        "{text}"
    );
    assert!(text.contains("9 deliveries lost") && !text.contains("idle"), "{text}");
    assert!(text.find("channel-node") < text.find("| nats"), "the best first");
}

#[test]
fn each_number_of_our_workers_is_compared() {
    let mut records = records();
    for round in 0..5 {
        records.runs.push(run(round, "channel-node@1", 2.0 * f64::from(round + 1), &[]));
    }
    let text = text(&records, &select(&[], Group::Peers).unwrap());
    assert!(text.contains("| channel-node / it | channel-node@1 / it | runs |"), "{text}");
    assert!(text.contains("| 0.500 (0.500 to 0.500) | 0.250 (0.250 to 0.250) | 5, 1 failed |"), "{text}");
    assert!(text.contains("| - | 0.500 (0.500 to 0.500) | 5 |"), "{text}");
}

#[test]
fn ours_with_another_number_of_workers_is_compared_when_it_is_alone() {
    let mut records = records();
    for run in &mut records.runs {
        if run.server == OURS {
            run.server = format!("{OURS}@1");
        }
    }
    let text = text(&records, &select(&[], Group::Peers).unwrap());
    assert!(
        text.contains("| **channel-node@1** | 12.0 (") && text.contains("| 0.500 (0.500 to 0.500) |"),
        "{text}"
    );
}

#[test]
fn beside_the_bare_loop_both_are_multiples_of_it() {
    let mut records = records();
    for run in &mut records.runs {
        run.scenario = "send-4".into();
        if run.server == "nats" {
            run.server = BARE.into();
        }
    }
    let text = text(&records, &select(&[], Group::Send).unwrap());
    assert!(text.contains("| times bare | runs |") && text.contains("0.500 (0.500 to 0.500)"), "{text}");
}

#[test]
fn with_tls_both_of_ours_are_compared() {
    let mut records = records();
    for run in &mut records.runs {
        run.scenario = "tls-100".into();
        run.server = if run.server == "nats" { "nats-tls" } else { TLS }.into();
    }
    for round in 0..5 {
        let plain = run(round, OURS, 3.2 * f64::from(round + 1), &[]);
        records.runs.push(Run { scenario: "tls-100".into(), ..plain });
    }
    let text = text(&records, &select(&[], Group::Tls).unwrap());
    assert!(text.contains("| channel-node / it | channel-node-tls / it | runs |"), "{text}");
    assert!(text.contains("| **channel-node-tls** | 12.0 ("), "{text}");
    let ratios = ["| 0.800 (0.800 to 0.800) | - |", "| 0.400 (0.400 to 0.400) | 0.500 (0.500 to 0.500) |"];
    assert!(ratios.iter().all(|ratio| text.contains(ratio)), "{text}");
}

#[test]
fn what_was_not_run_is_named() {
    let (section, pictures) = section(&[records()]);
    assert!(section.contains("Not run: uws, tungstenite, nchan, socketio, sockudo."), "{section}");
    assert!(section.contains("10,000 connections\n\nNot run.\n"), "{section}");
    assert_eq!(pictures.len(), 1);
    assert!(section.contains("](benchmarks/fanout-100.svg)") && pictures[0].0 == "fanout-100.svg");
    assert!(section.contains("| nats | v2 | 1 |") && section.contains("used 0.250 CPUs in the median run"));
}

#[test]
fn a_scenario_is_shown_from_the_first_campaign_that_has_it() {
    let newer = records();
    let mut older = records();
    older.header.environment.commit = "older1".to_owned();
    for round in 0..5 {
        older.runs.push(Run { scenario: "burst".into(), ..run(round, OURS, 3.0, &[]) });
    }
    let (section, _) = section(&[newer, older]);
    assert!(section.contains("commit `abcdef` (fanout-100)"), "{section}");
    assert!(section.contains("commit `older1` (burst)"), "{section}");
}

#[test]
fn only_the_section_of_the_page_is_replaced() {
    let first = format!("{BEGIN}\none\n{END}\n");
    let second = format!("{BEGIN}\ntwo\n{END}\n");
    let page = replace("# Page\n\nText.\n", &first);
    assert_eq!(page, format!("# Page\n\nText.\n\n{first}"));
    let more = format!("{page}\n## After\n");
    assert_eq!(replace(&more, &second), format!("# Page\n\nText.\n\n{second}\n## After\n"));
    assert_eq!(replace(&page, &second), format!("# Page\n\nText.\n\n{second}"));
}
