//! The result of a load run as it goes into its JSON file; the names of the fields must not change.

use super::conduct::Played;
use super::dialect::DialectName;
use super::figures::{Bursts, Percentiles, Step, Storm};
use super::plan::Plan;
use super::sampler::{Sample, Second, Server};
use super::scenario::Scenario;
use super::settings::Settings;
use super::stats::{Counters, Stats};
use serde::Serialize;
use std::collections::BTreeMap;

/// The results of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The options of the run.
    pub asked: Asked,
    /// Whether a signal ended the run early.
    pub stopped_early: bool,
    /// Worker threads, each with its own descriptor table.
    pub workers: u32,
    /// Time until every connection had joined or failed, seconds.
    pub ramp_seconds: f64,
    /// Time of publishing, seconds.
    pub publish_seconds: f64,
    /// CPU time of the generator, seconds.
    pub generator_cpu_seconds: f64,
    /// CPU time of the generator per delivery, from the first publish to the last delivery, microseconds.
    pub generator_us_per_delivery: Option<f64>,
    /// All counts.
    pub counters: Counters,
    /// Deliveries owed and not excused: `owed - interrupted`, which is `received + lost`.
    pub expected: u64,
    /// Joined connections that were not in their room at the end.
    pub stranded: u64,
    /// Deliveries per second of publishing, without the warm-up.
    pub deliveries_per_second: f64,
    /// Time from the intended sending to the delivery, without the warm-up.
    pub latency: Percentiles,
    /// Time from opening a socket to the first join reply.
    pub connect: Percentiles,
    /// Time from the end of a connection to being in the room again.
    pub reconnect: Percentiles,
    /// How late the generator was with its own schedule.
    pub generator_lag: Percentiles,
    /// Joined connections ended by the server, by close code; 1006 stands for an end without a code.
    pub close_codes: BTreeMap<u16, u64>,
    /// Errors by name.
    pub errors: BTreeMap<String, u64>,
    /// The same for connections that did not read, as in `slow`.
    pub slow_close_codes: BTreeMap<u16, u64>,
    /// The cost of the server, with `--server-pid`.
    pub server: Option<Server>,
    /// CPU time of the server per delivery, microseconds.
    pub cpu_us_per_delivery: Option<f64>,
    /// The part of this time in user space.
    pub user_us_per_delivery: Option<f64>,
    /// Deliveries per read, of reads that brought any: how full the server's writes were.
    pub deliveries_per_read: f64,
    /// The fastest step of `max` that passed.
    pub max: Option<Step>,
    /// All steps of `max`.
    pub steps: Vec<Step>,
    /// What `burst` measured.
    pub bursts: Option<Bursts>,
    /// What `storm` measured.
    pub storms: Vec<Storm>,
    /// A sample per interval, and one after the connecting and at the end.
    pub samples: Vec<Sample>,
    /// A line per second.
    pub timeline: Vec<Second>,
    /// Latencies by percentile.
    pub distribution: Vec<(f64, f64)>,
    /// How much the counters of the nodes grew, summed over the nodes.
    pub node_metrics: BTreeMap<String, f64>,
    /// Why the run counts as failed; empty when it passed.
    pub failures: Vec<String>,
}

/// The part of the options that a reader of the report needs.
#[derive(Clone, Debug, Serialize)]
pub struct Asked {
    /// The scenario.
    pub scenario: Scenario,
    /// The server's protocol.
    pub dialect: DialectName,
    /// The server's addresses.
    pub url: Vec<String>,
    /// Connections.
    pub connections: u32,
    /// Rooms.
    pub rooms: u32,
    /// Publishes per second.
    pub rate: f64,
    /// Seconds of publishing.
    pub duration: f64,
    /// Seconds of publishing before that, which are not measured.
    pub warmup: f64,
    /// Connections per second while opening.
    pub connect_rate: f64,
    /// Bytes of a payload.
    pub payload: usize,
    /// Publishes in one write.
    pub burst_size: u32,
    /// Whether ended connections were opened again.
    pub reconnect: bool,
    /// Lost deliveries that do not fail the run.
    pub max_lost: u64,
    /// Highest 99th percentile that passes, milliseconds.
    pub max_p99_ms: Option<f64>,
}

/// Percentiles of the distribution.
const DISTRIBUTION: [f64; 16] =
    [0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 97.5, 99.0, 99.5, 99.75, 99.9, 99.95, 99.99, 99.999, 100.0];

impl Report {
    /// The report without failures, before it is judged.
    pub(super) fn new(
        settings: &Settings,
        plan: Plan,
        stats: &Stats,
        played: Played,
        stopped: bool,
        node_metrics: BTreeMap<String, f64>,
    ) -> Report {
        let counters = stats.counters;
        let seconds = played.published.as_secs_f64();
        let measured = counters.received.saturating_sub(played.warmed);
        let server = played.sampler.server(counters.joined, measured);
        let at =
            |percentile: f64| (percentile, stats.latency.value_at_quantile(percentile / 100.0) as f64 / 1e6);
        let ratio = |of: u64, by: f64| if by > 0.0 { of as f64 / by } else { 0.0 };
        let best = played.steps.iter().filter(|step| step.passed);
        Report {
            asked: Asked::new(settings, plan),
            stopped_early: stopped,
            workers: plan.workers,
            ramp_seconds: played.ramp.as_secs_f64(),
            publish_seconds: seconds,
            generator_cpu_seconds: played.cpu.as_secs_f64(),
            generator_us_per_delivery: (measured > 0)
                .then(|| played.sampler.own.as_secs_f64() * 1e6 / measured as f64),
            counters,
            expected: counters.owed.saturating_sub(counters.interrupted),
            stranded: counters.joined.saturating_sub(counters.joined_at_end),
            deliveries_per_second: ratio(measured, seconds),
            latency: Percentiles::of(&stats.latency),
            connect: Percentiles::of(&stats.connect),
            reconnect: Percentiles::of(&stats.reconnect),
            generator_lag: Percentiles::of(&stats.lag),
            close_codes: stats.close_codes.clone(),
            errors: stats.errors.clone(),
            slow_close_codes: stats.slow_close_codes.clone(),
            cpu_us_per_delivery: server.as_ref().and_then(|server| server.cpu_us_per_delivery),
            user_us_per_delivery: server.as_ref().and_then(|server| server.user_us_per_delivery),
            server,
            deliveries_per_read: ratio(counters.received, counters.reads as f64),
            max: best.max_by(|a, b| a.publishes_per_second.total_cmp(&b.publishes_per_second)).cloned(),
            steps: played.steps,
            bursts: Bursts::new(played.bursts),
            storms: played.storms,
            samples: played.sampler.samples,
            timeline: played.sampler.seconds,
            distribution: if stats.latency.is_empty() {
                Vec::new()
            } else {
                DISTRIBUTION.into_iter().map(at).collect()
            },
            node_metrics,
            failures: Vec::new(),
        }
    }

    /// Why the run failed; empty when it passed.
    pub fn failures(&self) -> &[String] {
        &self.failures
    }
}

impl Asked {
    fn new(settings: &Settings, plan: Plan) -> Asked {
        let options = &settings.options;
        Asked {
            scenario: options.scenario,
            dialect: options.dialect,
            url: options.url.clone(),
            connections: settings.connections,
            rooms: plan.rooms,
            rate: settings.rate,
            duration: settings.duration,
            warmup: options.warmup,
            connect_rate: settings.connect_rate,
            payload: options.payload,
            burst_size: settings.burst_size,
            reconnect: settings.reconnect,
            max_lost: options.max_lost,
            max_p99_ms: settings.max_p99_ms,
        }
    }
}
