//! How long what nodes showed counts, for all figures that are taken from them.

use crds::Confidence;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::timestamp::millis;

/// A look stands for so long at most, in milliseconds, and for so long when it is the first.
pub(super) const MOST_MILLIS: f64 = 60_000.0;
const FIRST_MILLIS: f64 = 2_000.0;
/// Nodes of this age and more tell something, in milliseconds: a process that has just begun is busy with handshakes.
pub(super) const OLD_ENOUGH_MILLIS: u64 = 60_000;
/// Nodes differ when the figure of one of them is so many times that of another.
pub(super) const DIFFER: f64 = 1.5;
/// Evidence is much from so many times the weight of what is assumed on.
const MUCH: f64 = 4.0;

/// A mean with its weight.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mean {
    sum: f64,
    /// What stands behind it, in milliseconds where it is evidence.
    pub(super) weight: f64,
}

impl Mean {
    pub(super) fn with(self, figure: f64, weight: f64) -> Self {
        Self { sum: self.sum + figure * weight, weight: self.weight + weight }
    }

    pub(super) fn value(self) -> f64 {
        if self.weight > 0.0 { self.sum / self.weight } else { 0.0 }
    }
}

/// Milliseconds since the look before; what the first look stands for when there was none.
#[allow(clippy::cast_precision_loss, reason = "milliseconds far below 2^52")]
pub(super) fn since(before: Option<&Time>, now: u64) -> f64 {
    before.map_or(FIRST_MILLIS, |before| now.saturating_sub(millis(before)) as f64)
}

/// What is left of a weight after `since` milliseconds, if half of it is forgotten in `half`.
#[allow(clippy::cast_precision_loss, reason = "milliseconds far below 2^52")]
pub(super) fn faded(weight: i64, since: f64, half: f64) -> f64 {
    weight as f64 * 0.5f64.powf(since / half)
}

/// The confidence in evidence of which nothing is doubtful, and that weighs as much as what is assumed or more.
pub(super) fn undoubted(weight: f64, assumed: f64) -> Confidence {
    if weight >= MUCH * assumed { Confidence::High } else { Confidence::Medium }
}
