//! Times and counts as people read them.

use std::time::{SystemTime, UNIX_EPOCH};

use crds::{CapacityStatus, DerivedCapacity, LearnedCapacity};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use operator_core::capacity::derived;
use operator_core::plan::number;
use operator_core::timestamp;

/// Milliseconds since 1970 by the clock of this machine.
#[must_use]
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// How long ago something was, as kubectl says it: `45s`, `3m`, `2h`, `5d`.
#[must_use]
pub fn age(time: &Time, now: u64) -> String {
    span(now.saturating_sub(timestamp::millis(time)))
}

/// A span of milliseconds in its largest unit of which there are at least two.
#[must_use]
pub fn span(millis: u64) -> String {
    let seconds = millis / 1_000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A count, grouped by thousands; a dash when it is not known.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "counts of connections and messages are far below 2^52")]
pub fn count(count: Option<i64>) -> String {
    count.map_or_else(|| "-".to_owned(), |count| number(count as f64))
}

/// A percentage; a dash when it is not known.
#[must_use]
pub fn percent(percent: Option<i32>) -> String {
    percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent} %"))
}

/// What was learned of a node, in a line.
pub(crate) fn learned_sentence(learned: &LearnedCapacity) -> String {
    format!(
        "a node delivers {} writes/s as was learned, confidence {:?}: {}",
        count(Some(learned.estimate)),
        learned.confidence,
        learned.reason
    )
}

/// What was derived of a node, in a line.
pub(crate) fn derived_sentence(derived: &DerivedCapacity) -> String {
    format!(
        "a node holds {} connections as was derived, confidence {:?}: {}; {}",
        count(Some(derived.estimate)),
        derived.confidence,
        derived::terms(derived),
        derived.reason
    )
}

/// What was learned and derived of a node, a line each.
pub(crate) fn known_sentences(known: &CapacityStatus) -> Vec<String> {
    let writes = known.writes_per_second.as_ref().map(learned_sentence);
    writes.into_iter().chain(known.connections.as_ref().map(derived_sentence)).collect()
}
