//! The pages for people name this program's metrics and flags, all of them and no others.

use crate::pages;
use std::process::Command;
use std::sync::Arc;

use operator::metrics::{ClusterLabels, Metrics, ResultLabels, RuleLabels};
use operator::pulses::{Pulse, Pulses};

#[test]
fn every_metric_is_in_the_page_and_no_other() {
    let metrics = Metrics::default();
    // A family shows once it has a member.
    let cluster = ClusterLabels { namespace: "default".to_owned(), name: "chat".to_owned() };
    metrics.reconciles.get_or_create(&ResultLabels { result: "applied" }).inc();
    metrics.desired.get_or_create(&cluster).set(2);
    metrics.ready.get_or_create(&cluster).set(2);
    metrics.writes.get_or_create(&cluster).set(1.0);
    metrics.unknown.get_or_create(&cluster).set(1);
    let pulses = Pulses::new(vec![Arc::new(Pulse::new("pods", None))]);
    metrics.watches(Some(&pulses));
    metrics.decisions.get_or_create(&RuleLabels { rule: "MinNodes" }).inc();
    let names = pages::scraped(&metrics.encode().unwrap());
    let registered = include_str!("../../src/metrics.rs").matches("r.register(").count();
    assert_eq!(names.len(), registered, "a family that this test gives no member: {names:?}");
    assert_eq!(pages::metrics(&pages::page("docs/METRICS.md"), "channelcluster_operator_"), names);
}

#[test]
fn every_flag_is_in_the_page_and_no_other() {
    let help = Command::new(env!("CARGO_BIN_EXE_channel-operator")).arg("--help").output().unwrap();
    pages::check_flags("channel-operator", &String::from_utf8(help.stdout).unwrap());
}
