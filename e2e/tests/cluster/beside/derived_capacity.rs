//! `capacity.connections: Derived`: what a node holds is derived from its memory at first, and from what connections take once
//! nodes hold many. The floor of the node count follows, and no estimate replaces a node or closes a connection.

use anyhow::{Context, ensure};
use e2e::fleet::{Fleet, eventually};
use e2e::report::record;
use e2e::scaling::{Load, status};
use serde_json::Value;

/// Memory of a node. docs/OPERATIONS.md: (128 MiB x 40 % - 16 MB) / 8,192 bytes, and half of it for a node that died.
const MEMORY: u64 = 128 << 20;
/// Bytes of a connection before nodes have shown more.
const ASSUMED: u64 = 8_192;
/// Nodes of 2,300 connections: two.
const TARGET: u64 = 4_000;
/// Three quarters of what two nodes hold of the assumed connections: they tell within half a minute, once they run for one.
const HELD: u32 = 7_000;

fn derived(fleet: &Fleet) -> anyhow::Result<Value> {
    Ok(status(fleet)?["capacity"]["connections"].clone())
}

fn number(of: &Value, field: &str) -> anyhow::Result<u64> {
    of[field].as_u64().with_context(|| format!("no {field} in {of}"))
}

fn uids(fleet: &Fleet) -> Vec<String> {
    let mut uids: Vec<_> = fleet.node_pods().unwrap().into_iter().map(|pod| pod.uid).collect();
    uids.sort();
    uids
}

#[test]
fn what_a_node_holds_is_derived_from_its_memory_and_then_from_what_connections_take() {
    let spec = format!(
        "{{targetConnections: {TARGET}, rooms: {{maxMembers: 150}}, auth: {{anonymous: true}}, nodes: {{min: 1, max: 2, \
         resources: {{limits: {{memory: {}Mi}}}}, capacity: {{connections: Derived, writesPerSecond: 5000}}}}}}",
        MEMORY >> 20
    );
    let fleet = Fleet::create("derived", &spec).unwrap();
    let assumed = (MEMORY as f64 * 0.4 - 16e6) / ASSUMED as f64 / 2.0;
    eventually("nodes for what memory holds of the assumed connections", || {
        let derived = derived(&fleet)?;
        ensure!(number(&derived, "memoryLimit")? == MEMORY, "{derived}");
        ensure!((number(&derived, "estimate")? as f64 / assumed - 1.0).abs() < 0.02, "{assumed}: {derived}");
        ensure!(derived["confidence"] == "Low", "{derived}");
        let wanted = TARGET.div_ceil(number(&derived, "estimate")?) as usize;
        let ready = fleet.node_pods()?.iter().filter(|pod| pod.ready).count();
        Ok((ready == wanted && wanted == 2).then_some(()))
    })
    .unwrap();

    let before = uids(&fleet);
    let load = Load::hold(&fleet, env!("CARGO_BIN_EXE_loadgen"), HELD).unwrap();
    let (after, elapsed) = eventually("the nodes have shown what a connection takes", || {
        let derived = derived(&fleet)?;
        let held = status(&fleet)?["totals"]["connections"].as_u64();
        ensure!(derived["confidence"] != "Low", "{held:?} are held: {derived}");
        Ok(Some(derived))
    })
    .unwrap();
    record("derived_capacity", "held_to_shown", elapsed.as_secs_f64()).unwrap();
    let [each, evidence] = ["bytesPerConnection", "evidence"].map(|field| number(&after, field).unwrap());
    // What counts lies between what was assumed and what was seen, which with the tests' build is more than with a release.
    let (least, most) = (evidence.min(ASSUMED), evidence.max(ASSUMED));
    assert!(
        (3_607..=81_920).contains(&evidence) && (least..=most).contains(&each) && each != ASSUMED,
        "{after}"
    );
    let holds = (MEMORY as f64 * 0.4 - 16e6) / each as f64 / 2.0;
    let estimate = number(&after, "estimate").unwrap() as f64;
    assert!((estimate / holds - 1.0).abs() < 0.16, "{holds}: {after}");
    record("derived_capacity", "evidence_bytes", evidence as f64).unwrap();
    let held = status(&fleet).unwrap()["totals"]["connections"].as_u64().unwrap();
    assert!(held >= u64::from(HELD), "{held}");
    assert_eq!(uids(&fleet), before, "no estimate replaces a node");
    load.stop().unwrap();
}
