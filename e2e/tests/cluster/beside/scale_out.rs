//! (c) Writes/s rise: the node count follows, and the status says why.

use e2e::fleet::{Fleet, eventually};
use e2e::report::record;
use e2e::scaling::{FOR_FOUR_NODES, Load, SMALL_STEPS, events, replicas, status, wait_replicas};
use serde_json::Value;

/// 2,000 writes/s: 3.3 nodes of 1,000 at 60 %.

#[test]
fn the_node_count_follows_the_writes_and_the_status_says_why() {
    // The namespace controller looks again only after half the longest grace period, so the grace period is kept
    // short.
    let spec = format!("{{{SMALL_STEPS}, drain: {{delay: 1s, deadline: 20s}}}}");
    let fleet = Fleet::create("scale-out", &spec).unwrap();
    fleet.wait_ready(2).unwrap();

    let load = Load::start(&fleet, env!("CARGO_BIN_EXE_loadgen"), FOR_FOUR_NODES).unwrap();
    // The time is taken from the start of the generator, which first connects: an upper bound of the time since the
    // threshold.
    let (_, first) = eventually("more replicas", || Ok((replicas(&fleet)? > 2).then_some(()))).unwrap();
    record("scale_out", "load_to_more_replicas", first.as_secs_f64()).unwrap();
    let rest = wait_replicas(&fleet, 4).unwrap();
    let (_, ready) = fleet.wait_ready(4).unwrap();
    record("scale_out", "load_to_all_replicas", (first + rest).as_secs_f64()).unwrap();
    record("scale_out", "load_to_all_ready", (first + rest + ready).as_secs_f64()).unwrap();

    let ((), _) = eventually("the status says why", || {
        let status = status(&fleet)?;
        let decisions = status["decisions"].as_array().cloned().unwrap_or_default();
        let says = |decision: &Value| {
            let rule = decision["rule"].as_str().unwrap_or_default();
            let message = decision["message"].as_str().unwrap_or_default();
            decision["to"] == 4
                && rule.starts_with("WritesPerSecond")
                && message.contains("writes/s over")
                && message.contains("1000 writes/s at 60 %")
        };
        let said = decisions.iter().any(says);
        anyhow::ensure!(said && status["desiredReplicas"] == 4, "{status}");
        Ok(Some(()))
    })
    .unwrap();
    let ((), _) = eventually("an Event says so too", || {
        let notes = events(&fleet, "Scaling")?;
        Ok(notes.iter().any(|note| note.contains("WritesPerSecond")).then_some(()))
    })
    .unwrap();
    load.stop().unwrap();
}
