//! Watches the server's process, its utilization, and the generator's own use of CPU.

use super::figures::Percentiles;
use super::metrics;
use super::perf::{self, Sampling, UserPart};
use super::process::{self, Footprint, Usage};
use super::settings::Settings;
use anyhow::Context;
use serde::Serialize;
use std::time::Duration;

/// One second of a run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Second {
    /// Seconds since the run began.
    pub at: f64,
    /// `connect`, `publish`, ...
    pub phase: &'static str,
    /// Connections in their room.
    pub joined: u64,
    /// Deliveries per second since the previous line.
    pub deliveries_per_second: f64,
    /// Median latency since the previous line.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
}

/// The observations of one moment, and the sums since the previous sample.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Seconds since the run began.
    pub at: f64,
    /// Connections in their room.
    pub joined: u64,
    /// The server's memory and descriptors.
    pub server: Option<Footprint>,
    /// Its CPU time since the previous sample, in CPUs.
    pub server_cpus: Option<f64>,
    /// Busy fraction of the busiest shard.
    pub utilization: Option<f64>,
    /// Memory that the machine could still give, bytes.
    pub available_bytes: u64,
    /// Resident set of the generator, bytes.
    pub generator_rss_bytes: u64,
    /// CPU time of the generator since the previous sample, in CPUs.
    pub generator_cpus: f64,
    /// Deliveries since the previous sample.
    pub deliveries: u64,
    /// Their latencies.
    pub latency: Percentiles,
}

/// The cost of the server.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Server {
    /// The process that was asked for.
    pub pid: u32,
    /// Use of CPU over the publishing, until its last delivery.
    pub usage: Option<Usage>,
    /// CPU time from before the first connect until all had joined or failed, per joined connection, microseconds.
    pub cpu_us_per_connect: Option<f64>,
    /// CPU time per delivery, microseconds.
    pub cpu_us_per_delivery: Option<f64>,
    /// The part in user space: by perf, with `--perf`, or by the kernel's ticks.
    pub user_us_per_delivery: Option<f64>,
    /// The result of perf from the first publish to the last delivery.
    pub user_part: Option<UserPart>,
    /// Memory before the first connection.
    pub before: Option<Footprint>,
    /// Memory when all connections had joined.
    pub ramped: Option<Footprint>,
    /// Memory at the end, with connections still open.
    pub end: Option<Footprint>,
    /// Growth of PSS from `before` to `ramped`, per joined connection.
    pub pss_bytes_per_connection: Option<f64>,
    /// The same from `before` to `end`.
    pub pss_bytes_per_connection_at_end: Option<f64>,
    /// Growth of PSS from a quarter of the publishing to its end, percent.
    pub growth_percent: Option<f64>,
    /// Memory that the whole machine used up from `before` to `ramped`, per joined connection: both ends and the
    /// kernel's sockets.
    pub machine_bytes_per_connection: Option<f64>,
}

/// Takes all of these samples.
pub(super) struct Sampler {
    pid: Option<u32>,
    perf: bool,
    sampling: Option<Sampling>,
    user_part: Option<UserPart>,
    metrics_url: Vec<String>,
    available_before: u64,
    available_ramped: u64,
    pub(super) before: Option<Footprint>,
    pub(super) ramped: Option<Footprint>,
    pub(super) end: Option<Footprint>,
    unconnected: Option<Usage>,
    connecting: Option<Usage>,
    begun: Option<Usage>,
    own_begun: Duration,
    /// CPU time of the generator from the first publish to the last delivery.
    pub(super) own: Duration,
    pub(super) usage: Option<Usage>,
    at_last: (f64, Option<Usage>, Duration),
    pub(super) samples: Vec<Sample>,
    pub(super) seconds: Vec<Second>,
    /// When publishing began and ended, seconds since the run began.
    pub(super) window: (f64, f64),
}

impl Sampler {
    pub(super) fn new(settings: &Settings) -> anyhow::Result<Sampler> {
        let pid = settings.options.server_pid;
        let usage = match pid {
            None => None,
            Some(pid) => {
                Some(process::usage(pid).with_context(|| format!("--server-pid {pid}: no such process"))?)
            }
        };
        let perf = settings.options.perf;
        if perf {
            perf::check()?;
        }
        Ok(Sampler {
            pid,
            perf,
            sampling: None,
            user_part: None,
            metrics_url: settings.options.metrics_url.clone(),
            available_before: 0,
            available_ramped: 0,
            before: None,
            ramped: None,
            end: None,
            unconnected: None,
            connecting: None,
            begun: None,
            own_begun: Duration::ZERO,
            own: Duration::ZERO,
            usage: None,
            at_last: (0.0, usage, process_cpu()),
            samples: Vec::new(),
            seconds: Vec::new(),
            window: (0.0, 0.0),
        })
    }

    /// Looks at the server before the first connect.
    pub(super) fn connecting_begins(&mut self) {
        self.unconnected = self.usage_now();
        self.before = self.footprint();
        self.available_before = process::available_memory();
    }

    /// Looks at the server when all connections have joined or failed.
    pub(super) fn connecting_ended(&mut self) {
        self.connecting = self.usage_now().zip(self.unconnected).map(|(now, then)| now.since(&then));
        self.ramped = self.footprint();
        self.available_ramped = process::available_memory();
    }

    pub(super) fn memory_end(&mut self) {
        self.end = self.footprint();
    }

    fn footprint(&self) -> Option<Footprint> {
        self.pid.and_then(process::footprint)
    }

    /// The server's use of CPU so far.
    pub(super) fn usage_now(&self) -> Option<Usage> {
        self.pid.and_then(process::usage)
    }

    pub(super) fn publishing_begins(&mut self, at: f64) -> anyhow::Result<()> {
        if let Some(pid) = self.pid.filter(|_| self.perf) {
            self.sampling = Some(Sampling::begin(&process::tree(pid))?);
        }
        self.begun = self.usage_now();
        self.own_begun = process_cpu();
        self.window = (at, at);
        Ok(())
    }

    pub(super) fn publishing_ended(&mut self, at: f64) {
        self.own = process_cpu().saturating_sub(self.own_begun);
        self.usage = self.usage_now().zip(self.begun).map(|(now, begun)| now.since(&begun));
        self.window.1 = at;
        if let Some(sampling) = self.sampling.take() {
            // The report of the run is worth having without this figure.
            self.user_part = sampling.end().unwrap_or_else(|error| {
                say::err!("loadgen: --perf: {error:#}");
                None
            });
        }
    }

    /// Takes a sample; `deliveries` and `latency` are those since the previous sample.
    pub(super) fn sample(&mut self, at: f64, joined: u64, deliveries: u64, latency: Percentiles) {
        let (last, usage_before, own_before) = self.at_last;
        let span = (at - last).max(1e-3);
        let (usage, own) = (self.usage_now(), process_cpu());
        let utilization = metrics::utilization(&self.metrics_url);
        self.samples.push(Sample {
            at,
            joined,
            server: self.footprint(),
            server_cpus: usage.zip(usage_before).map(|(now, then)| now.since(&then).cpu_seconds / span),
            utilization,
            available_bytes: process::available_memory(),
            generator_rss_bytes: process::own_rss(),
            generator_cpus: (own - own_before).as_secs_f64() / span,
            deliveries,
            latency,
        });
        self.at_last = (at, usage, own);
    }

    /// The cost of the server, given the counts of the connections.
    pub(super) fn server(&self, joined: u64, received: u64) -> Option<Server> {
        let pid = self.pid?;
        let per = |total: f64, count: u64| (count > 0).then(|| total / count as f64);
        let growth = |later: Option<Footprint>| {
            let (later, before) = (later?, self.before?);
            per(later.pss_bytes as f64 - before.pss_bytes as f64, joined)
        };
        let machine = self.available_before as f64 - self.available_ramped as f64;
        Some(Server {
            pid,
            usage: self.usage,
            cpu_us_per_connect: self.connecting.and_then(|usage| per(usage.cpu_seconds * 1e6, joined)),
            cpu_us_per_delivery: self.usage.and_then(|usage| per(usage.cpu_seconds * 1e6, received)),
            user_us_per_delivery: self.usage.and_then(|usage| {
                let part = if self.perf { self.user_part?.part } else { usage.user_part_by_ticks() };
                per(usage.cpu_seconds * part * 1e6, received)
            }),
            user_part: self.user_part,
            before: self.before,
            ramped: self.ramped,
            end: self.end,
            pss_bytes_per_connection: growth(self.ramped),
            pss_bytes_per_connection_at_end: growth(self.end),
            growth_percent: self.growth_percent(),
            machine_bytes_per_connection: per(machine, joined),
        })
    }

    /// Growth of the server's memory from a quarter of the publishing to its end.
    fn growth_percent(&self) -> Option<f64> {
        let (from, until) = self.window;
        growth_percent(from, until, &self.samples, self.end?)
    }
}

/// Growth of PSS from the first sample after a quarter of that time to `end`, percent; `None` without a sample in
/// that time.
fn growth_percent(from: f64, until: f64, samples: &[Sample], end: Footprint) -> Option<f64> {
    let quarter = from + (until - from) / 4.0;
    let first = samples.iter().find(|sample| (quarter..until).contains(&sample.at))?.server?;
    (first.pss_bytes > 0).then(|| (end.pss_bytes as f64 / first.pss_bytes as f64 - 1.0) * 100.0)
}

/// CPU time of the generator so far.
pub(super) fn process_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: f64, pss_bytes: u64) -> Sample {
        Sample {
            at,
            joined: 0,
            server: Some(Footprint { pss_bytes, ..Footprint::default() }),
            server_cpus: None,
            utilization: None,
            available_bytes: 0,
            generator_rss_bytes: 0,
            generator_cpus: 0.0,
            deliveries: 0,
            latency: Percentiles::default(),
        }
    }

    #[test]
    fn growth_needs_a_sample_while_messages_are_published() {
        let end = Footprint { pss_bytes: 150, ..Footprint::default() };
        let samples = [sample(2.0, 50), sample(4.0, 100), sample(7.5, 140), sample(10.5, 150)];
        assert_eq!(growth_percent(2.0, 10.0, &samples, end), Some(50.0));
        // With only the samples before and after that time the growth is unknown, not 0.
        let ends = [samples[0].clone(), samples[3].clone()];
        assert_eq!(growth_percent(2.0, 10.0, &ends, end), None);
    }
}
