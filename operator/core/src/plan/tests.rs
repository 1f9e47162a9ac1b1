use arbtest::arbtest;
use serde_json::Value;

use super::checks::{Check, Verdict, check};
use super::{Load, Site, Worksheet, number, worksheet};
use crate::capacity::Sizing;
use crate::fixtures::cluster;

/// The example of the model: 120,000 writes/s although 2,000 publishes/s look trivial.
const LOAD: Load = Load {
    publishes_per_second: 2_000.0,
    room_size: 150.0,
    active_fraction: 0.4,
    message_bytes: 256.0,
    peak_connections: 20_000.0,
};
const SITE: Site = Site {
    sizing: Sizing { writes_per_second: 40_000.0, connections: 10_000.0, target_percent: 100 },
    min: 1,
    drain_per_second: 500.0,
    tls: false,
};

fn line(sheet: &Worksheet, what: &str) -> f64 {
    sheet.lines.iter().find(|line| line.what == what).unwrap_or_else(|| panic!("no line {what}")).value
}

#[test]
fn the_example_of_the_model() {
    let sheet = worksheet(&LOAD, &SITE);
    assert!((sheet.writes_per_second - 120_000.0).abs() < 1e-6);
    assert_eq!(sheet.nodes, 3, "at 100 %");
    let at_sixty = Site { sizing: Sizing { target_percent: 60, ..SITE.sizing }, ..SITE };
    let sheet = worksheet(&LOAD, &at_sixty);
    assert_eq!(sheet.nodes, 5);
    assert!((sheet.percent_after_loss.unwrap() - 75.0).abs() < 1e-9, "{:?}", sheet.percent_after_loss);
    assert!((line(&sheet, "nodes for connections") - 20_000.0 / 6_000.0).abs() < 1e-9);
    assert!((line(&sheet, "draining one node") - 8.0).abs() < 1e-9, "4,000 at 500/s");
    // 16 MB and 4,000 connections of 3,607 bytes.
    assert!((sheet.node_memory_bytes - 30_428_000.0).abs() < 1.0, "{}", sheet.node_memory_bytes);
    assert!((sheet.egress_bits_per_second - 120_000.0 * 386.0 * 8.0).abs() < 1.0);
    // Of 60 members each of 5 nodes has some: a message goes to the 4 others.
    assert!((line(&sheet, "messages out of the backplane") - 8_000.0).abs() < 1.0);
}

#[test]
fn connections_and_the_least_count_are_floors() {
    let quiet = Load { publishes_per_second: 0.0, peak_connections: 100_000.0, ..LOAD };
    assert_eq!(worksheet(&quiet, &SITE).nodes, 10);
    let nobody = Load { peak_connections: 0.0, ..quiet };
    let sheet = worksheet(&nobody, &SITE);
    assert_eq!((sheet.nodes, sheet.percent_after_loss), (1, None));
    assert!(sheet.lines.iter().all(|line| line.value.is_finite()), "{:?}", sheet.lines);
    assert_eq!(worksheet(&nobody, &Site { min: 2, ..SITE }).nodes, 2);
}

/// More of anything never asks for fewer nodes, less memory or less bandwidth.
#[test]
fn more_load_never_asks_for_less() {
    arbtest(|u| {
        let mut draw =
            |most: u32| -> arbtest::arbitrary::Result<f64> { Ok(f64::from(u.int_in_range(1..=most)?)) };
        let load = Load {
            publishes_per_second: draw(1_000_000)?,
            room_size: draw(100_000)?,
            active_fraction: draw(1_000)? / 1_000.0,
            message_bytes: draw(65_536)?,
            peak_connections: draw(10_000_000)?,
        };
        let factor = 1.0 + draw(100)? / 10.0;
        let more = Load {
            publishes_per_second: load.publishes_per_second * factor,
            peak_connections: load.peak_connections * factor,
            ..load
        };
        let (before, after) = (worksheet(&load, &SITE), worksheet(&more, &SITE));
        assert!(after.nodes >= before.nodes, "{load:?}");
        assert!(after.egress_bits_per_second >= before.egress_bits_per_second, "{load:?}");
        // The load that is planned for fits.
        let capacity = f64::from(before.nodes) * SITE.sizing.target_writes();
        assert!(before.writes_per_second <= capacity * (1.0 + 1e-6), "{load:?}");
        Ok(())
    });
}

#[test]
fn numbers_are_grouped() {
    for (value, text) in [
        (0.0, "0"),
        (999.0, "999"),
        (1_000.0, "1,000"),
        (-1_234_567.0, "-1,234,567"),
        (3.5, "3.50"),
        (123.4, "123"),
        (0.333_3, "0.33"),
    ] {
        assert_eq!(number(value), text);
    }
}

#[test]
fn a_load_that_cannot_be_is_named() {
    assert_eq!(LOAD.problems(), Vec::<String>::new());
    let percent = Load { active_fraction: 40.0, room_size: -1.0, ..LOAD };
    let problems = percent.problems().join("; ");
    assert!(problems.contains("0.4") && problems.contains("size of a room"), "{problems}");
    let nothing = Load { active_fraction: f64::NAN, ..LOAD };
    assert_eq!(nothing.problems().len(), 1);
}

fn checked(spec: &str, load: Option<&Load>) -> Vec<Check> {
    let raw: Value = serde_saphyr::from_str(spec).unwrap();
    let site = Site { sizing: Sizing { target_percent: 60, ..SITE.sizing }, ..SITE };
    let sheet = load.map(|load| worksheet(load, &site));
    check(&cluster(spec).spec, &raw, load.zip(sheet.as_ref()))
}

fn lacking(checks: &[Check]) -> Vec<u8> {
    checks.iter().filter(|check| check.verdict == Verdict::Lacking).map(|check| check.number).collect()
}

/// A manifest that meets all that a manifest can meet.
const GOOD: &str = "
targetConnections: 20000
rooms: {maxMembers: 150}
nodes:
  min: 2
  max: 8
  capacity: {writesPerSecond: 40000, connections: 10000}
  resources: {requests: {cpu: '1', memory: 512Mi}, limits: {memory: 512Mi}}
tuning: {nofile: 65536}
auth: {anonymous: true}
";

#[test]
fn a_good_manifest_lacks_nothing() {
    let checks = checked(GOOD, Some(&LOAD));
    assert_eq!(checks.iter().map(|check| check.number).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
    assert_eq!(lacking(&checks), Vec::<u8>::new(), "{checks:#?}");
    assert_eq!(checks[9].verdict, Verdict::ByHand, "no manifest shows that a fleet was tested");
    let derived = checked(&GOOD.replace("connections: 10000}", "connections: Derived}"), Some(&LOAD));
    assert_eq!(lacking(&derived), Vec::<u8>::new(), "{derived:#?}");
}

#[test]
fn each_check_finds_what_the_manifest_lacks() {
    let base = |change: &str, to: &str| {
        assert!(GOOD.contains(change), "{change}");
        GOOD.replace(change, to)
    };
    let cases = [
        ("no capacity", base("  capacity: {writesPerSecond: 40000, connections: 10000}\n", ""), 1),
        (
            "connections without a memory limit",
            base("connections: 10000}", "connections: Derived}")
                .replace("limits: {memory: 512Mi}", "limits: {}"),
            1,
        ),
        (
            "fewer nodes than derived connections need",
            base("connections: 10000}", "connections: Derived}")
                .replace("targetConnections: 20000", "targetConnections: 98000"),
            1,
        ),
        ("max too low", base("max: 8", "max: 2"), 1),
        ("nothing to compare open files with", base("tuning: {nofile: 65536}", "tuning: {}"), 2),
        ("too few open files", base("nofile: 65536", "nofile: 8000"), 2),
        ("no bound of memory", base("limits: {memory: 512Mi}", "limits: {}"), 3),
        ("little memory", base("limits: {memory: 512Mi}", "limits: {memory: 64Mi}"), 3),
        ("rooms larger than the cap", base("maxMembers: 150", "maxMembers: 100"), 4),
        (
            "a queue for less than five seconds",
            format!("{GOOD}limits: {{sendQueueBytes: 4096, maxFrameBytes: 2048}}"),
            5,
        ),
        ("no backplane", format!("{GOOD}backplane: {{type: None}}"), 6),
        ("one node", base("min: 2", "min: 1"), 8),
        ("a drain that cannot end", format!("{GOOD}drain: {{connectionsPerSecond: 10, deadline: 60s}}"), 8),
        ("dead sockets", format!("{GOOD}limits: {{idleTimeout: 30m}}"), 9),
        ("messages longer than frames", format!("{GOOD}limits: {{maxFrameBytes: 1024}}"), 9),
    ];
    let long = Load { message_bytes: 4_000.0, ..LOAD };
    for (what, spec, number) in &cases {
        let load = if *what == "messages longer than frames" { &long } else { &LOAD };
        let checks = checked(spec, Some(load));
        assert!(lacking(&checks).contains(number), "{what}: {checks:#?}");
        let finding = &checks[usize::from(*number) - 1].findings;
        assert!(finding.iter().all(|text| text.contains(' ') && text.len() > 20), "{what}: {finding:?}");
    }
}

/// Without a load the manifest is still looked at.
#[test]
fn a_manifest_alone_is_checked() {
    assert_eq!(lacking(&checked(GOOD, None)), Vec::<u8>::new());
    let bare = "{targetConnections: 100, rooms: {maxMembers: 10}, auth: {anonymous: true}}";
    assert_eq!(lacking(&checked(bare, None)), [1, 2, 3]);
}
