//! Times as Kubernetes writes them, and as the operator counts them: in milliseconds since 1970.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// Milliseconds since 1970 as Kubernetes writes a time, to the second.
#[must_use]
pub fn time(millis: u64) -> Time {
    let seconds = i64::try_from(millis / 1_000).unwrap_or_default();
    Time(Timestamp::from_second(seconds).unwrap_or_default())
}

/// A time of Kubernetes in milliseconds since 1970.
#[must_use]
pub fn millis(time: &Time) -> u64 {
    u64::try_from(time.0.as_millisecond()).unwrap_or_default()
}
