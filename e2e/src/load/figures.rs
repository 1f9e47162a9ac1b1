//! Figures of a run, which the phases make and the report shows; the names of the fields must not change.

use hdrhistogram::Histogram;
use serde::Serialize;

/// One rate of `max`.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// The rate.
    pub publishes_per_second: f64,
    /// Deliveries of these publishes, per second of the step.
    pub deliveries_per_second: f64,
    /// Deliveries owed.
    pub owed: u64,
    /// Latencies of the deliveries that came.
    pub latency: Percentiles,
    /// 99th percentile of the generator's own lateness.
    pub lag_p99_ms: f64,
    /// Connections that the server ended meanwhile.
    pub disconnects: u64,
    /// CPUs that the generator used.
    pub generator_cpus: f64,
    /// CPUs that the server used.
    pub server_cpus: Option<f64>,
    /// CPU time of the server per delivery.
    pub cpu_us_per_delivery: Option<f64>,
    /// Whether nearly all deliveries came, in time, on a punctual schedule.
    pub passed: bool,
    /// Whether the generator was late itself: then this machine may have failed, not the server.
    pub generator_late: bool,
}

/// One publish of `burst`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Burst {
    /// Deliveries owed.
    pub owed: u64,
    /// Deliveries that came.
    pub received: u64,
    /// Time until half of them had come.
    pub p50_ms: f64,
    /// Time until the last one had come.
    pub last_ms: f64,
}

impl Burst {
    pub(super) fn new(owed: u64, latency: &Histogram<u64>) -> Burst {
        let latency = Percentiles::of(latency);
        Burst { owed, received: latency.count, p50_ms: latency.p50_ms, last_ms: latency.max_ms }
    }
}

/// The bursts together.
#[derive(Clone, Debug, Serialize)]
pub struct Bursts {
    /// Time to the last receiver, median over the bursts.
    pub last_median_ms: f64,
    /// 99th percentile.
    pub last_p99_ms: f64,
    /// Largest.
    pub last_max_ms: f64,
    /// Each burst.
    pub each: Vec<Burst>,
}

impl Bursts {
    pub(super) fn new(each: Vec<Burst>) -> Option<Bursts> {
        let mut last: Vec<f64> = each.iter().map(|burst| burst.last_ms).collect();
        last.sort_by(f64::total_cmp);
        let at = |quantile: f64| {
            let rank = (quantile * last.len() as f64).ceil() as usize;
            last.get(rank.max(1) - 1).copied()
        };
        Some(Bursts { last_median_ms: at(0.5)?, last_p99_ms: at(0.99)?, last_max_ms: at(1.0)?, each })
    }
}

/// One storm.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Storm {
    /// Time from the cut until the last connection was in its room again.
    pub back_seconds: f64,
    /// Connections that were not back when the wait ended.
    pub away: u64,
    /// Attempts that failed.
    pub failed_reconnects: u64,
}

/// A distribution of durations, milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Percentiles {
    /// How many values.
    pub count: u64,
    /// Median.
    pub p50_ms: f64,
    /// 90th percentile.
    pub p90_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// 99.9th percentile.
    pub p999_ms: f64,
    /// Largest.
    pub max_ms: f64,
}

impl Percentiles {
    /// The percentiles of a histogram of nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Percentiles {
        if histogram.is_empty() {
            return Percentiles::default();
        }
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
        Percentiles {
            count: histogram.len(),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: histogram.max() as f64 / 1e6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_are_ranked() {
        let burst = |last_ms| Burst { owed: 1, received: 1, p50_ms: 1.0, last_ms };
        let bursts = Bursts::new([5.0, 1.0, 3.0].map(burst).to_vec()).unwrap();
        assert_eq!((bursts.last_median_ms, bursts.last_p99_ms, bursts.last_max_ms), (3.0, 5.0, 5.0));
        assert!(Bursts::new(Vec::new()).is_none());
    }
}
