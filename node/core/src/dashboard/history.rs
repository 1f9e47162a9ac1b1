//! The last minute of a node, a sample a second, so that a page that is opened now knows what has just happened.

use std::collections::VecDeque;

use super::hits::{Counts, HITS};

/// Samples that are kept: a minute of them. They take about 12 KiB.
pub const SAMPLES: usize = 61;
/// Samples over which a rate is taken.
const RATE_SAMPLES: usize = 2;
/// Samples over which it is judged whether the busiest shard is hot: one busy second is none.
const HOT_SAMPLES: usize = 10;

/// What is noted each second. Counts are since the process started.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// When, in milliseconds since then.
    pub millis: u64,
    /// Writes to members.
    pub writes: u64,
    /// Messages that came to be written: of clients, of backends and of other nodes.
    pub messages: u64,
    /// Busy fraction of the busiest shard, 0 to 1.
    pub utilization: f64,
    /// How often each limit was reached.
    pub hits: Counts,
}

/// The samples.
#[derive(Debug, Default)]
pub struct History {
    samples: VecDeque<Sample>,
}

/// What changed lately.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Lately {
    /// Writes per second, over the last two seconds.
    pub writes_per_second: f64,
    /// Messages per second, over the same.
    pub messages_per_second: f64,
    /// Writes for each message of the last minute; none without a message.
    pub writes_per_message: Option<f64>,
    /// Mean of the busy fraction of the busiest shard over the last ten seconds, 0 to 1.
    pub utilization: f64,
    /// How often each limit was reached within the last minute.
    pub hits: Counts,
}

impl History {
    /// Notes a sample, which is later than those before.
    pub fn observe(&mut self, sample: Sample) {
        while self.samples.len() >= SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// What the samples show; nothing before the second one.
    #[must_use]
    pub fn lately(&self) -> Lately {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else {
            return Lately::default();
        };
        let begin = self.samples.iter().rev().nth(RATE_SAMPLES).unwrap_or(first);
        let seconds = last.millis.saturating_sub(begin.millis) as f64 / 1e3;
        let rate = |now: u64, then: u64| {
            if seconds > 0.0 { now.saturating_sub(then) as f64 / seconds } else { 0.0 }
        };
        let messages = last.messages.saturating_sub(first.messages);
        let writes = last.writes.saturating_sub(first.writes);
        let recent = self.samples.iter().rev().take(HOT_SAMPLES);
        Lately {
            writes_per_second: rate(last.writes, begin.writes),
            messages_per_second: rate(last.messages, begin.messages),
            writes_per_message: (messages > 0).then(|| writes as f64 / messages as f64),
            // In the first seconds the others count as idle: a start is no load.
            utilization: recent.map(|sample| sample.utilization).sum::<f64>() / HOT_SAMPLES as f64,
            hits: std::array::from_fn(|at| last.hits[at].saturating_sub(first.hits[at])),
        }
    }

    /// The limits of the node that were reached within the last minute.
    pub fn hit_limits(lately: &Lately) -> impl Iterator<Item = &'static str> {
        HITS.iter()
            .zip(lately.hits)
            .filter(|(hit, count)| hit.of_node && *count > 0)
            .map(|(hit, _)| hit.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(second: u64, change: impl FnOnce(&mut Sample)) -> Sample {
        let mut sample = Sample {
            millis: second * 1_000,
            writes: 0,
            messages: 0,
            utilization: 0.0,
            hits: [0; HITS.len()],
        };
        change(&mut sample);
        sample
    }

    #[test]
    fn rates_are_of_two_seconds_and_the_rest_of_a_minute() {
        let mut history = History::default();
        assert_eq!(history.lately(), Lately::default());
        for second in 0..=100 {
            history.observe(sample(second, |s| {
                (s.writes, s.messages) = (second * 20, second * 2);
                s.hits[4] = second.min(50);
            }));
        }
        let lately = history.lately();
        assert_eq!((lately.writes_per_second, lately.messages_per_second), (20.0, 2.0));
        assert_eq!((lately.writes_per_message, lately.hits[4]), (Some(10.0), 10));
        assert_eq!(History::hit_limits(&lately).collect::<Vec<_>>(), ["rooms.maxMembers"]);
        history.observe(sample(110, |s| (s.writes, s.messages) = (2_000, 200)));
        for second in 111..=175 {
            history.observe(sample(second, |s| {
                (s.writes, s.messages, s.hits[4]) = (2_000, 200, 50);
            }));
        }
        let lately = history.lately();
        assert_eq!((lately.writes_per_second, lately.writes_per_message, lately.hits[4]), (0.0, None, 0));
        assert_eq!(history.samples.len(), SAMPLES);
    }

    #[test]
    fn one_busy_second_is_not_hot_and_ten_are() {
        let mut history = History::default();
        for second in 0..20 {
            history.observe(sample(second, |s| s.utilization = f64::from(u8::from(second == 19))));
        }
        assert!((history.lately().utilization - 0.1).abs() < 1e-9);
        for second in 20..30 {
            history.observe(sample(second, |s| s.utilization = 1.0));
        }
        assert!((history.lately().utilization - 1.0).abs() < 1e-9);
    }
}
