//! What must hold of every decision, whatever was seen.

use crds::{AutoscalingMode, DecisionInputs, WindowLoad};

use crate::autoscale::{Decision, judge};

/// How much more a load is that must never be answered with fewer nodes.
const MORE: [f64; 3] = [1.05, 1.5, 10.0];

/// What a decision breaks, if anything.
pub(super) fn broken(decision: &Decision) -> Option<String> {
    let inputs = &decision.inputs;
    if inputs.mode != AutoscalingMode::Auto {
        return None;
    }
    not_repeated(decision)
        .or_else(|| out_of_bounds(decision.desired, inputs))
        .or_else(|| in_on_doubt(decision.desired, inputs))
        .or_else(|| survivors_over_target(decision.desired, inputs))
        .or_else(|| fewer_for_more(decision.desired, inputs))
        .map(|what| format!("{what}: {decision:?}"))
}

/// A decision is made again of its record.
fn not_repeated(decision: &Decision) -> Option<String> {
    let text = serde_json::to_string(&decision.inputs).ok()?;
    let again = serde_json::from_str(&text).map(|inputs| judge(&inputs).decision);
    let same = again.is_ok_and(|again| {
        (again.desired, again.rule, &again.message) == (decision.desired, decision.rule, &decision.message)
    });
    (!same).then(|| "another decision of the same record".to_owned())
}

fn out_of_bounds(desired: i32, inputs: &DecisionInputs) -> Option<String> {
    let least = inputs.min.max(inputs.floor).max(inputs.scheduled).min(inputs.max);
    (!(least..=inputs.max).contains(&desired)).then(|| format!("{desired} outside {least} to {}", inputs.max))
}

/// Nothing but a lower `nodes.max` shrinks a fleet that is not known.
fn in_on_doubt(desired: i32, inputs: &DecisionInputs) -> Option<String> {
    let unknown = inputs.fresh == 0 || inputs.fresh * 3 < inputs.ready * 2;
    let unheard = inputs.lost_bus + inputs.late_bus > 0;
    let early = inputs.burst_left_millis > 0 || inputs.warmup_left_millis > 0;
    (desired < inputs.current.min(inputs.max) && (unknown || unheard || early))
        .then(|| format!("{} to {desired} in doubt", inputs.current))
}

/// The nodes that stay are below the target with the load of the stable window.
#[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn survivors_over_target(desired: i32, inputs: &DecisionInputs) -> Option<String> {
    if desired >= inputs.current.min(inputs.max) {
        return None;
    }
    let writes = inputs.stable.map_or(0, |stable| stable.writes);
    let loads = [(writes, inputs.node_writes_per_second), (inputs.connections, inputs.node_connections)];
    loads.into_iter().find_map(|(load, node)| {
        let target = node as f64 * f64::from(inputs.target_percent) / 100.0 * f64::from(desired);
        (load as f64 > target).then(|| format!("{load} on {desired} nodes for {target}"))
    })
}

fn fewer_for_more(desired: i32, inputs: &DecisionInputs) -> Option<String> {
    MORE.into_iter().find_map(|factor| {
        let more = judge(&loaded(inputs, factor)).decision.desired;
        (more < desired).then(|| format!("{more} nodes for {factor} times the load"))
    })
}

fn loaded(inputs: &DecisionInputs, factor: f64) -> DecisionInputs {
    let times = |figure: i64| (figure as f64 * factor).ceil() as i64;
    let window = |load: WindowLoad| WindowLoad {
        millis: load.millis,
        writes: times(load.writes),
        hidden: times(load.hidden),
        silent: times(load.silent),
        presumed: times(load.presumed),
    };
    DecisionInputs {
        stable: inputs.stable.map(window),
        burst: inputs.burst.map(window),
        connections: times(inputs.connections),
        presumed_connections: times(inputs.presumed_connections),
        ..inputs.clone()
    }
}
