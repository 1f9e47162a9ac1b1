//! The result of a load run: JSON for machines, a table for people, and a verdict.

use super::options::Options;
use super::plan::Plan;
use super::stats::{Counters, Stats};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What a run measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was asked for.
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
    /// All counts.
    pub counters: Counters,
    /// Deliveries owed and not excused: `owed - interrupted`, which is `received + lost`.
    pub expected: u64,
    /// Joined connections that were not in their room at the end.
    pub stranded: u64,
    /// Deliveries per second of publishing.
    pub deliveries_per_second: f64,
    /// From the intended send time to the delivery.
    pub latency: Percentiles,
    /// From opening a socket to the first join reply.
    pub connect: Percentiles,
    /// From the end of a connection to being in the room again.
    pub reconnect: Percentiles,
    /// How late the generator was with its own schedule.
    pub generator_lag: Percentiles,
    /// Joined connections ended by the server, by close code; 1006 is the absence of one.
    pub close_codes: BTreeMap<u16, u64>,
    /// Errors by name.
    pub errors: BTreeMap<String, u64>,
    /// What the counters of the nodes grew by, summed over the nodes.
    pub node_metrics: BTreeMap<String, f64>,
    /// Why the run counts as failed; empty when it passed.
    pub failures: Vec<String>,
}

/// The part of the options that a reader of the report needs.
#[derive(Clone, Debug, Serialize)]
pub struct Asked {
    /// Where to.
    pub url: Vec<String>,
    /// Connections.
    pub connections: u32,
    /// Rooms.
    pub rooms: u32,
    /// Publishes per second.
    pub rate: f64,
    /// Seconds of publishing.
    pub duration: f64,
    /// Connections per second while opening.
    pub connect_rate: f64,
    /// Bytes of a payload.
    pub payload: usize,
    /// Whether ended connections were opened again.
    pub reconnect: bool,
    /// Lost deliveries that do not fail the run.
    pub max_lost: u64,
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

/// What a report is made of.
pub(super) struct Measured<'a> {
    pub(super) options: &'a Options,
    pub(super) plan: Plan,
    pub(super) stats: &'a Stats,
    pub(super) stopped: bool,
    pub(super) ramp: Duration,
    pub(super) published: Duration,
    pub(super) cpu: Duration,
    pub(super) node_metrics: BTreeMap<String, f64>,
}

impl Report {
    pub(super) fn new(measured: Measured<'_>) -> Report {
        let Measured { options, plan, stats, .. } = measured;
        let counters = stats.counters;
        let seconds = measured.published.as_secs_f64();
        let mut report = Report {
            asked: Asked {
                url: options.url.clone(),
                connections: options.connections,
                rooms: plan.rooms,
                rate: options.rate,
                duration: options.duration,
                connect_rate: options.connect_rate,
                payload: options.payload,
                reconnect: options.reconnect,
                max_lost: options.max_lost,
            },
            stopped_early: measured.stopped,
            workers: plan.workers,
            ramp_seconds: measured.ramp.as_secs_f64(),
            publish_seconds: seconds,
            generator_cpu_seconds: measured.cpu.as_secs_f64(),
            counters,
            expected: counters.owed.saturating_sub(counters.interrupted),
            stranded: counters.joined.saturating_sub(counters.joined_at_end),
            deliveries_per_second: if seconds > 0.0 { counters.received as f64 / seconds } else { 0.0 },
            latency: Percentiles::of(&stats.latency),
            connect: Percentiles::of(&stats.connect),
            reconnect: Percentiles::of(&stats.reconnect),
            generator_lag: Percentiles::of(&stats.lag),
            close_codes: stats.close_codes.clone(),
            errors: stats.errors.clone(),
            node_metrics: measured.node_metrics,
            failures: Vec::new(),
        };
        report.failures = report.judge(options);
        report
    }

    fn judge(&self, options: &Options) -> Vec<String> {
        let counters = &self.counters;
        let never = u64::from(options.connections).saturating_sub(counters.joined);
        let checks = [
            (counters.failed_connects, 0, "connects failed"),
            (if self.stopped_early { 0 } else { never }, 0, "connections never joined their room"),
            (counters.lost, options.max_lost, "deliveries lost"),
            (counters.duplicates, 0, "deliveries came twice"),
            (self.stranded, 0, "connections were out of their room at the end"),
            (if options.reconnect { 0 } else { counters.disconnects }, 0, "connections were ended"),
            (counters.unsent, 0, "publishes had no joined member to send them"),
        ];
        checks
            .into_iter()
            .filter(|(count, allowed, _)| count > allowed)
            .map(|(count, allowed, what)| {
                if allowed > 0 {
                    format!("{count} {what} (allowed: {allowed})")
                } else {
                    format!("{count} {what}")
                }
            })
            .collect()
    }

    /// Why the run failed; empty when it passed.
    pub fn failures(&self) -> &[String] {
        &self.failures
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.counters;
        writeln!(
            f,
            "connections  {} joined of {} in {:.1} s, {} failed, {} disconnected, {} rejoined, {} stranded",
            c.joined,
            self.asked.connections,
            self.ramp_seconds,
            c.failed_connects,
            c.disconnects,
            c.rejoined,
            self.stranded
        )?;
        writeln!(
            f,
            "publishes    {} in {:.1} s to {} rooms, {} unsent",
            c.published, self.publish_seconds, self.asked.rooms, c.unsent
        )?;
        writeln!(
            f,
            "deliveries   {} expected, {} received, {} lost, {} duplicate; {} interrupted, {} early ({:.0}/s)",
            self.expected,
            c.received,
            c.lost,
            c.duplicates,
            c.interrupted,
            c.early,
            self.deliveries_per_second
        )?;
        writeln!(
            f,
            "{:<12} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "ms", "count", "p50", "p90", "p99", "p99.9", "max"
        )?;
        for (name, p) in [
            ("delivery", &self.latency),
            ("connect+join", &self.connect),
            ("reconnect", &self.reconnect),
            ("own lag", &self.generator_lag),
        ] {
            if p.count > 0 {
                writeln!(
                    f,
                    "{name:<12} {:>10} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2}",
                    p.count, p.p50_ms, p.p90_ms, p.p99_ms, p.p999_ms, p.max_ms
                )?;
            }
        }
        writeln!(f, "generator    {:.2} s CPU, {} workers", self.generator_cpu_seconds, self.workers)?;
        for (code, count) in &self.close_codes {
            writeln!(f, "closed       {count} with code {code}")?;
        }
        for (name, count) in &self.errors {
            writeln!(f, "error        {count} x {name}")?;
        }
        for (name, growth) in self.node_metrics.iter().filter(|(_, growth)| **growth != 0.0) {
            writeln!(f, "nodes        {name} +{growth}")?;
        }
        match self.failures.as_slice() {
            [] => writeln!(f, "passed"),
            failures => writeln!(f, "FAILED       {}", failures.join("; ")),
        }
    }
}
