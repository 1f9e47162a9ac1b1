//! The autoscaler of Knative (`pkg/autoscaler/scaling/autoscaler.go` of Knative 1.19) on writes/s, with its defaults: a
//! stable window of 60 s, a panic window of a tenth of it, panic at twice of what the ready pods are for.

use std::collections::{HashMap, VecDeque};

use super::Control;
use crate::capacity::whole;
use crate::world::fleet::{Answer, World};

/// Seconds between two decisions.
const TICK: u32 = 2;
/// The windows, in seconds.
const STABLE: u32 = 60;
const PANIC: u32 = 6;
/// Need over ready pods from which on it panics.
const PANIC_THRESHOLD: f64 = 2.0;
/// Most that it shrinks by in one decision, as a divisor.
const MOST_DOWN: f64 = 2.0;

/// The autoscaler.
#[derive(Default)]
pub(super) struct Kpa {
    /// Counter of each pod at the last scrape, with its second.
    counters: HashMap<String, (u32, u64)>,
    /// Sums over the pods, with their second.
    sums: VecDeque<(u32, f64)>,
    panic_at: Option<u32>,
    most_in_panic: i32,
}

impl Kpa {
    /// Asks the pods each second. Those that do not answer are taken to be as those that do (`stats_scraper.go`).
    fn scrape(&mut self, world: &World<'_>) {
        let (mut sum, mut known, mut ready) = (0.0, 0.0, 0.0);
        for (index, node) in world.nodes.iter().enumerate() {
            ready += f64::from(u8::from(node.in_service));
            let Answer::Stats(stats) = world.ask(index) else { continue };
            let writes = stats.counters.writes;
            let before = self.counters.insert(node.name.clone(), (world.now, writes));
            let Some((at, before)) = before.filter(|(_, before)| *before <= writes && node.in_service) else {
                continue;
            };
            sum += (writes - before) as f64 / f64::from(world.now - at);
            known += 1.0;
        }
        self.counters.retain(|name, _| world.nodes.iter().any(|node| node.name == *name));
        if known > 0.0 {
            self.sums.push_back((world.now, sum * f64::max(ready, known) / known));
        }
        self.sums.retain(|(at, _)| at + STABLE > world.now);
    }

    fn average(&self, window: u32, now: u32) -> Option<f64> {
        let within: Vec<f64> =
            self.sums.iter().filter(|(at, _)| at + window > now).map(|(_, sum)| *sum).collect();
        (!within.is_empty()).then(|| within.iter().sum::<f64>() / within.len() as f64)
    }

    fn wanted(&mut self, world: &World<'_>) -> Option<i32> {
        let (now, per_pod) = (world.now, world.sizing.target_writes());
        let ready = world.nodes.iter().filter(|node| node.in_service).count().max(1) as f64;
        let within = |need: f64| whole(need.max((ready / MOST_DOWN).floor()));
        let (stable, panic) = (self.average(STABLE, now)? / per_pod, self.average(PANIC, now)? / per_pod);
        let (stable, wanted) = (within(stable), within(panic));
        if panic.ceil() / ready >= PANIC_THRESHOLD {
            self.panic_at = Some(now);
        } else if self.panic_at.is_some_and(|at| at + STABLE < now) {
            (self.panic_at, self.most_in_panic) = (None, 0);
        }
        if self.panic_at.is_none() {
            return Some(stable);
        }
        self.most_in_panic = self.most_in_panic.max(wanted).max(stable);
        Some(self.most_in_panic)
    }
}

impl Control for Kpa {
    fn look(&mut self, world: &mut World<'_>) {
        self.scrape(world);
        if !world.now.is_multiple_of(TICK) {
            return;
        }
        // A decider that begins beside several ready pods begins in panic, so that a restart does not shrink the fleet.
        if world.now <= TICK && world.replicas > 1 {
            (self.panic_at, self.most_in_panic) = (Some(world.now), world.replicas);
        }
        let Some(wanted) = self.wanted(world) else { return };
        let wanted = wanted.clamp(world.fewest(), world.bounds().max);
        if wanted != world.replicas {
            world.scale(wanted);
        }
    }
}
