//! A decision is made again of what the status records of it.

use crds::{AutoscalingMode, Confidence, DecisionInputs, DerivedCapacity, LearnedCapacity};

use super::super::{Inputs, Settings, State, judge};
use super::{calm, default_size, known, unknown};
use crate::backplane::Hearing;
use crate::heat::Heat;
use crate::holds::Holds;
use crate::samples::NodeLoad;
use crate::schedule::Now;
use crate::timestamp::time;

/// Most bytes of the recorded inputs of one decision: ten of them are in each status.
const MAX_BYTES: usize = 2_048;

#[test]
fn every_decision_is_reproduced_from_its_record() {
    arbtest::arbtest(|u| {
        let modes =
            [AutoscalingMode::Auto, AutoscalingMode::Auto, AutoscalingMode::Observe, AutoscalingMode::Manual];
        let mut settings = Settings {
            mode: *u.choose(&modes)?,
            manual: u.arbitrary::<bool>()?.then_some(3),
            min: u.int_in_range(1..=4)?,
            max: u.int_in_range(4..=40)?,
            floor: u.int_in_range(0..=6)?,
            down: calm(u.int_in_range(0..=60)?),
            holds: Holds { scale_in: u.ratio(1u8, 5u8)?, scale_out: u.ratio(1u8, 5u8)? },
            schedule: u.ratio(1u8, 3u8)?.then(|| Now {
                min_nodes: 5,
                until: 90_000,
                words: "\"0 18 * * *\" in Europe/Berlin".to_owned(),
            }),
            ..default_size()
        };
        if u.arbitrary()? {
            settings.learned = Some(learned(u)?);
            settings.sizing.writes_per_second =
                settings.learned.as_ref().map_or(0.0, |of| of.estimate as f64);
        }
        if u.arbitrary()? {
            settings.derived = Some(derived(u)?);
            settings.sizing.connections = settings.derived.as_ref().map_or(0.0, |of| of.estimate as f64);
        }
        let mut current = u.int_in_range(1..=12)?;
        let (mut state, mut now) = (State::new(0, current), 0);
        for _ in 0..u.int_in_range(1..=60)? {
            now += u.int_in_range(0..=9_000u64)?;
            let mut nodes = Vec::new();
            for _ in 0..current {
                nodes.push(node(u)?);
            }
            if u.ratio(1u8, 20u8)? {
                settings.max = u.int_in_range(4..=40)?;
            }
            let decision = state.step(&settings, Inputs { now, current, replicas: current, nodes: &nodes });
            let text = serde_json::to_string(&decision.inputs).unwrap();
            assert!(text.len() <= MAX_BYTES, "{} bytes: {text}", text.len());
            let read: DecisionInputs = serde_json::from_str(&text).unwrap();
            let known = (settings.learned.as_ref(), settings.derived.as_ref());
            assert_eq!((read.learned.as_ref(), read.derived.as_ref()), known, "{text}");
            let carries = (read.node_writes_per_second as f64, read.node_connections as f64);
            assert_eq!(carries, (settings.sizing.writes_per_second, settings.sizing.connections), "{text}");
            let again = judge(&read).decision;
            let told = |d: &super::Decision| (d.desired, d.rule, d.message.clone());
            assert_eq!(told(&again), told(&decision), "{text}");
            if u.ratio(1u8, 2u8)? {
                current = decision.desired;
            }
        }
        Ok(())
    });
}

/// What may have been learned, with the longest reason.
fn learned(u: &mut arbtest::arbitrary::Unstructured<'_>) -> arbtest::arbitrary::Result<LearnedCapacity> {
    Ok(LearnedCapacity {
        estimate: u.int_in_range(4_000..=400_000)?,
        confidence: Confidence::Medium,
        reason: "messages or rooms are of another kind than before: evidence of 19 s of a busy node is less than what is \
                 assumed weighs"
            .to_owned(),
        evidence: 399_999,
        weight_millis: 2_000_000,
        observed_at: time(1_800_000_000_000),
        message_bytes: 65_536,
        deliveries: 1_000_000,
    })
}

/// What may have been derived, with the longest reason.
fn derived(u: &mut arbtest::arbitrary::Unstructured<'_>) -> arbtest::arbitrary::Result<DerivedCapacity> {
    Ok(DerivedCapacity {
        estimate: u.int_in_range(1..=5_000_000)?,
        confidence: Confidence::Low,
        reason: "evidence of 59 s of a full node is less than the 8192 bytes weigh that are assumed"
            .to_owned(),
        memory_limit: Some(1 << 40),
        memory_holds: Some(60_000_000),
        descriptors_hold: Some(i64::MAX),
        bytes_per_connection: 81_920,
        evidence: 81_920,
        weight_millis: 2_000_000,
        observed_at: time(1_800_000_000_000),
    })
}

fn node(u: &mut arbtest::arbitrary::Unstructured<'_>) -> arbtest::arbitrary::Result<NodeLoad> {
    if u.ratio(1u8, 6u8)? {
        return Ok(unknown());
    }
    let writes = f64::from(u.int_in_range(0..=90_000u32)?) + 0.37;
    let mut node = known(writes, u.int_in_range(0..=12_000)?);
    node.saturated = u.ratio(1u8, 5u8)?.then_some(Heat::Busy);
    node.writes_before = u.arbitrary::<bool>()?.then_some(20_000.0);
    node.hearing =
        Some(*u.choose(&[Hearing::Well, Hearing::Well, Hearing::Well, Hearing::Late, Hearing::Lost])?);
    Ok(node)
}
