//! How often nodes refuse clients, from the counters of two looks.

use std::collections::HashMap;

use crate::samples::NodeSeries;

/// One node's counter.
#[derive(Clone, Debug)]
struct Counter {
    boot: String,
    millis: u64,
    refused: u64,
    rate: Option<f64>,
}

/// Handshakes that nodes refused, by the UIDs of their pods.
#[derive(Clone, Debug, Default)]
pub struct Refusals(HashMap<String, Counter>);

impl Refusals {
    /// Takes in the last answers.
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub fn look(&mut self, series: &HashMap<String, NodeSeries>, now: u64) {
        self.0.retain(|uid, _| series.get(uid).is_some_and(|series| series.fresh(now).is_some()));
        for (uid, series) in series {
            let Some(stats) = series.fresh(now) else { continue };
            let (millis, refused) = (stats.monotonic_millis, stats.counters.handshakes_refused);
            let before = self.0.get(uid).filter(|before| before.boot == stats.boot_id);
            let rate = match before {
                Some(before) if before.millis >= millis => continue,
                Some(before) => {
                    let seconds = (millis - before.millis) as f64 / 1_000.0;
                    Some(refused.saturating_sub(before.refused) as f64 / seconds)
                }
                None => None,
            };
            self.0.insert(uid.clone(), Counter { boot: stats.boot_id.clone(), millis, refused, rate });
        }
    }

    /// Handshakes that a node refuses per second; none when not known yet.
    #[must_use]
    pub fn rate(&self, pod_uid: &str) -> Option<f64> {
        self.0.get(pod_uid)?.rate
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use node_core::admin::{Counters, Stats};

    use super::Refusals;
    use crate::samples::NodeSeries;

    #[test]
    fn a_rate_is_known_from_the_second_answer_of_a_process_on() {
        let mut refusals = Refusals::default();
        let mut series = HashMap::from([("a".to_owned(), NodeSeries::default())]);
        let mut answer = |boot: &str, second: u64, handshakes_refused| {
            let counters = Counters { handshakes_refused, ..Counters::default() };
            let boot_id = boot.to_owned();
            let stats = Stats { boot_id, monotonic_millis: second * 1_000, counters, ..Stats::default() };
            series.get_mut("a").unwrap().push(stats, second * 1_000);
            refusals.look(&series, second * 1_000);
            refusals.rate("a")
        };
        assert_eq!([answer("x", 1, 5), answer("x", 3, 45), answer("y", 5, 0)], [None, Some(20.0), None]);
        refusals.look(&series, 100_000);
        assert_eq!(refusals.rate("a"), None);
    }
}
