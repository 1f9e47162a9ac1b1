//! A Prometheus that scrapes the nodes' counter of writes each 30 s, and `rate(...[1m])` over what it has.

use std::collections::{HashMap, VecDeque};

use crate::world::fleet::{Answer, World};

/// Seconds between two scrapes.
const SCRAPE: u32 = 30;
/// Range of the rate, in seconds.
const RANGE: u32 = 60;
/// The offset of the scrapes to the beginning, in seconds.
const OFFSET: u32 = 11;

/// One scraped counter.
#[derive(Clone, Debug)]
struct Sample {
    at: u32,
    writes: f64,
}

/// What was scraped, by pod.
#[derive(Debug, Default)]
pub(super) struct Prometheus(HashMap<String, VecDeque<Sample>>);

impl Prometheus {
    /// Scrapes if it is time.
    pub(super) fn look(&mut self, world: &World<'_>) {
        if world.now % SCRAPE != OFFSET {
            return;
        }
        for (index, node) in world.nodes.iter().enumerate() {
            let Answer::Stats(stats) = world.ask(index) else { continue };
            let samples = self.0.entry(node.name.clone()).or_default();
            samples.push_back(Sample { at: world.now, writes: stats.counters.writes as f64 });
            if samples.len() > 4 {
                samples.pop_front();
            }
        }
        self.0.retain(|name, _| world.nodes.iter().any(|node| node.name == *name));
    }

    /// `rate(writes[1m])` of a pod; none with fewer than two samples in the range. A counter that is lower than before
    /// began anew, as Prometheus takes it (`promql/functions.go`, `extrapolatedRate`).
    pub(super) fn rate(&self, pod: &str, now: u32) -> Option<f64> {
        let within: Vec<&Sample> = self.0.get(pod)?.iter().filter(|s| s.at + RANGE > now).collect();
        let (first, last) = (within.first()?, within.last()?);
        let seconds = f64::from(last.at - first.at);
        let rise = |pair: &[&Sample]| {
            let rise = pair[1].writes - pair[0].writes;
            if rise < 0.0 { pair[1].writes } else { rise }
        };
        (seconds > 0.0).then(|| within.windows(2).map(rise).sum::<f64>() / seconds)
    }
}
