//! `/metrics`: the node's own figures in the OpenMetrics text format.
//!
//! Nothing is kept here. A scrape sums the shards' counters and reads the kernel, so that the hot path pays one store
//! per counter and turn and nothing per event.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use node_core::{
    counters::{BusCounters, CloseReason, Counters, JoinRefusal, Limit, RefuseReason, Shown},
    histogram::Histogram,
    ledger::Kind,
    shard::PolicyCounts,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use crate::{app::App, app::BUILD, bus::BusState, sysinfo};

/// Content type of [`render`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The answer to one scrape.
///
/// # Errors
/// Writing to a string does not fail; the encoder's type says it could.
pub fn render(app: &Arc<App>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(Arc::clone(app))));
    let mut out = String::with_capacity(8 * 1024);
    text::encode(&mut out, &registry)?;
    Ok(out)
}

#[derive(Debug)]
struct Scrape(Arc<App>);

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        let sum = self.0.counters();
        gauges(&mut out, &self.0, &sum)?;
        latencies(&mut out, &self.0)?;
        policies(&mut out, &self.0)?;
        figures(&mut out, &Counters::METRICS, &sum.scalars())?;
        reasons(&mut out, &sum)?;
        near(&mut out, &self.0, &sum)?;
        shards(&mut out, &self.0)?;
        key_sources(&mut out, &self.0)?;
        server_api(&mut out, &self.0)?;
        hooks(&mut out, &self.0)?;
        kernel(&mut out, &self.0)?;
        if let Some(bus) = &self.0.bus {
            bus_metrics(&mut out, bus)?;
        }
        Ok(())
    }
}

struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn one<M: EncodeMetric>(&mut self, name: &str, help: &str, metric: &M) -> fmt::Result {
        let name = format!("channelcluster_node_{name}");
        metric.encode(self.0.encode_descriptor(&name, help, None, metric.metric_type())?)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.one(name, help, &ConstCounter::new(value))
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.one(name, help, &ConstGauge::new(signed(value)))
    }

    /// A family with one label.
    fn family<M: EncodeMetric>(
        &mut self,
        (name, help, kind): (&str, &str, MetricType),
        label: &'static str,
        rows: impl IntoIterator<Item = (String, M)>,
    ) -> fmt::Result {
        let name = format!("channelcluster_node_{name}");
        let mut encoder = self.0.encode_descriptor(&name, help, None, kind)?;
        for (value, metric) in rows {
            let labels = [(label, value)];
            metric.encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// A histogram of the core.
#[derive(Debug)]
struct Times<'a>(&'a Histogram);

impl EncodeMetric for Times<'_> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let (sum, count) = (self.0.sum_seconds(), self.0.count());
        encoder.encode_histogram::<NoLabelSet>(sum, count, &self.0.buckets(), None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

fn latencies(out: &mut Out<'_>, app: &App) -> fmt::Result {
    let latencies = app.latencies();
    let about = "From the turn in which a shard takes a broadcast until its last member there is written";
    out.one("fan_out_seconds", about, &Times(&latencies.fan_out))?;
    let about = "Of each shard and second, the longest wait of bytes for clients to be written";
    out.one("queue_age_seconds", about, &Times(&latencies.queue_age))
}

/// The policies of rooms, of which a configuration has few.
fn policies(out: &mut Out<'_>, app: &App) -> fmt::Result {
    let all = app.by_policy();
    let rows = |value: fn(&PolicyCounts) -> u64| {
        all.iter().map(move |(name, counts)| (name.clone(), ConstCounter::new(value(counts))))
    };
    let about = ("policy_publishes", "Messages published by clients, by policy", MetricType::Counter);
    out.family(about, "policy", rows(|counts| counts.publishes))?;
    let about = ("policy_writes", "Broadcast frames queued to members, by policy", MetricType::Counter);
    out.family(about, "policy", rows(|counts| counts.writes))?;
    let about = (
        "policy_joins_refused",
        "Joins refused by rights, places and memory, by policy",
        MetricType::Counter,
    );
    out.family(about, "policy", rows(|counts| counts.joins_refused))
}

/// The server API.
fn server_api(out: &mut Out<'_>, app: &App) -> fmt::Result {
    let published = app.api_counts.publications();
    out.counter("api_publications", "Publications of backends, one for each topic", published)?;
    let [streams, told, lost] = app.api_counts.events();
    out.gauge("api_event_streams", "Open streams of events", streams)?;
    out.counter("api_events", "Events told, one for each stream", told)?;
    out.counter("api_events_lost", "Events that a stream missed, one for each stream", lost)?;
    out.gauge("api_keys", "Keys of the server API", app.api_keys.load().len() as u64)?;
    let about = "Requests to the server API that were answered, by route and class of status";
    let mut encoder =
        out.0.encode_descriptor("channelcluster_node_api_requests", about, None, MetricType::Counter)?;
    for (route, status, count) in app.api_counts.requests() {
        let labels = [("route", route), ("status", status)];
        ConstCounter::new(count).encode(encoder.encode_family(&labels)?)?;
    }
    Ok(())
}

/// Questions to the backend.
fn hooks(out: &mut Out<'_>, app: &App) -> fmt::Result {
    let counts = &app.hook_counts;
    let rows = counts.requests().map(|(result, count)| (result.to_owned(), ConstCounter::new(count)));
    out.family(
        ("hook_requests", "Questions to the backend, by what became of them", MetricType::Counter),
        "result",
        rows,
    )?;
    let seconds = ConstCounter::new(counts.answered_micros() as f64 / 1e6);
    out.one("hook_answered_seconds", "Time from question to answer of the backend, summed", &seconds)?;
    out.gauge(
        "hook_open",
        "1 while the backend is not asked, because it did not answer",
        counts.is_open().into(),
    )
}

/// Unlimited (`u64::MAX`) becomes the largest value that a gauge can show.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn gauges(out: &mut Out<'_>, app: &App, sum: &Counters) -> fmt::Result {
    memory(out, app, sum)?;
    let utilization = ConstGauge::new(app.utilization());
    out.one("utilization_ratio", "Busy fraction of the busiest shard over one second", &utilization)?;
    out.gauge("ready", "1 while the node is in service", app.is_ready().into())?;
    let moving = app.drain.is_moving(app.now_millis()).into();
    out.gauge("rebalancing", "1 while the node moves clients to other nodes", moving)?;
    let recent = app.recent();
    let waited = ConstGauge::new(recent.oldest_queued_millis as f64 / 1e3);
    out.one(
        "oldest_queued_seconds",
        "Longest wait within a second of bytes for clients to be written",
        &waited,
    )?;
    let took = ConstGauge::new(recent.handshake_p99_millis as f64 / 1e3);
    out.one(
        "handshake_p99_seconds",
        "From accept to the end of the handshake, for 99 of 100 within a second",
        &took,
    )?;
    if let Some(tls) = &app.tls {
        let about = "Time at which the certificate of the public port ends, in seconds since 1970";
        out.gauge("tls_certificate_not_after_seconds", about, tls.not_after())?;
    }
    let limits = &app.config.load().limits;
    out.gauge("connections_limit", "Connections the node may hold", limits.max_connections.into())?;
    out.gauge("rooms_limit", "Rooms the node may have", limits.rooms().into())?;
    let addresses = app.addresses.len().into();
    out.gauge("client_addresses", "Client addresses with connections that are counted", addresses)?;
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
    out.counter("config_reloads", "Changed configuration files taken", load(&app.reloads))?;
    let refused = load(&app.reload_failures);
    out.counter("config_reload_failures", "Changed configuration files refused", refused)?;
    out.family(
        ("build_info", "The running binary", MetricType::Gauge),
        "version",
        [(BUILD.to_owned(), ConstGauge::new(1i64))],
    )
}

fn memory(out: &mut Out<'_>, app: &App, sum: &Counters) -> fmt::Result {
    let config = app.config.load();
    let budget = config.limits.memory_budget.unwrap_or(u64::MAX);
    out.gauge("memory_budget_bytes", "Memory that clients can make the node hold", budget)?;
    let of_shards = Kind::ALL.iter().map(|kind| (kind.label(), sum.memory[*kind as usize]));
    let kinds = of_shards.chain(app.common_memory());
    let rows = kinds.map(|(kind, bytes)| (kind.to_owned(), ConstGauge::new(signed(bytes))));
    out.family(("memory_bytes", "Memory that clients make the node hold", MetricType::Gauge), "kind", rows)
}

/// The rows of a table of counters.
fn figures(out: &mut Out<'_>, metrics: &[(&str, Shown, &str)], values: &[u64]) -> fmt::Result {
    for ((name, shown, help), value) in metrics.iter().zip(values) {
        match shown {
            Shown::Gauge => out.gauge(name, help, *value)?,
            Shown::Counter => out.counter(name, help, *value)?,
            Shown::Indirectly => {}
        }
    }
    Ok(())
}

fn reasons(out: &mut Out<'_>, sum: &Counters) -> fmt::Result {
    let rows = |labels: Vec<&'static str>, values: &[u64]| -> Vec<(String, ConstCounter)> {
        labels
            .into_iter()
            .zip(values)
            .map(|(label, value)| (label.to_owned(), ConstCounter::new(*value)))
            .collect()
    };
    let labels = CloseReason::ALL.iter().map(|reason| reason.label()).collect();
    let about = ("closed", "Connections ended", MetricType::Counter);
    out.family(about, "reason", rows(labels, &sum.closed))?;
    let labels = RefuseReason::ALL.iter().map(|reason| reason.label()).collect();
    let about = ("refused", "Connections refused before they were WebSockets", MetricType::Counter);
    out.family(about, "reason", rows(labels, &sum.refused))?;
    let labels = JoinRefusal::ALL.iter().map(|reason| reason.label()).collect();
    let about = ("joins_refused", "Joins refused with a reply", MetricType::Counter);
    out.family(about, "reason", rows(labels, &sum.joins_refused))
}

fn near(out: &mut Out<'_>, app: &App, sum: &Counters) -> fmt::Result {
    let counts = app.near.counts(sum);
    let rows =
        Limit::ALL.iter().map(|limit| (limit.label().to_owned(), ConstCounter::new(counts[*limit as usize])));
    let about = ("limit_near", "Times that 80 percent of a limit were reached", MetricType::Counter);
    out.family(about, "limit", rows)?;
    let rows = app.near.ratios().map(|(limit, ratio)| (limit.label().to_owned(), ConstGauge::new(ratio)));
    let about = ("limit_used_ratio", "Use of a limit of the node, 1 being all of it", MetricType::Gauge);
    out.family(about, "limit", rows)
}

fn shards(out: &mut Out<'_>, app: &App) -> fmt::Result {
    let index = |shard: &crate::mailbox::ShardHandle| shard.index().to_string();
    let about = ("shard_utilization_ratio", "Busy fraction over one second", MetricType::Gauge);
    let rows = app.shards.iter().map(|shard| (index(shard), ConstGauge::new(shard.stats().utilization())));
    out.family(about, "shard", rows)?;
    let loaded: Vec<(String, Counters)> =
        app.shards.iter().map(|shard| (index(shard), shard.stats().load())).collect();
    let about = ("shard_connections", "Open client connections", MetricType::Gauge);
    let rows = loaded.iter().map(|(shard, c)| (shard.clone(), ConstGauge::new(signed(c.connections))));
    out.family(about, "shard", rows)?;
    let about = ("shard_cpu_seconds", "CPU time of the shard's thread", MetricType::Counter);
    let rows = loaded.iter().map(|(shard, c)| (shard.clone(), ConstCounter::new(c.cpu_nanos as f64 / 1e9)));
    out.family(about, "shard", rows)
}

/// The keys of tokens that are fetched, by the number of their entry in `auth.jwt`.
fn key_sources(out: &mut Out<'_>, app: &App) -> fmt::Result {
    let listed = app.key_sources.load();
    let figures: Vec<_> =
        listed.iter().map(|(index, source)| (index.to_string(), source.figures())).collect();
    let rows = figures.iter().map(|(index, of)| (index.clone(), ConstGauge::new(of.age_millis as f64 / 1e3)));
    let about =
        ("token_keys_age_seconds", "Time since the keys of an issuer were fetched", MetricType::Gauge);
    out.family(about, "issuer", rows)?;
    let rows = figures.iter().map(|(index, of)| (index.clone(), ConstCounter::new(of.fetches)));
    let about = ("token_keys_fetches", "Fetches of the keys of an issuer", MetricType::Counter);
    out.family(about, "issuer", rows)?;
    let rows = figures.iter().map(|(index, of)| (index.clone(), ConstCounter::new(of.failures)));
    let about =
        ("token_keys_fetch_failures", "Fetches of the keys of an issuer that failed", MetricType::Counter);
    out.family(about, "issuer", rows)
}

fn kernel(out: &mut Out<'_>, app: &App) -> fmt::Result {
    let limits = sysinfo::nofile();
    let rows = [("soft", limits.soft), ("hard", limits.hard)];
    let rows = rows.map(|(kind, value)| (kind.to_owned(), ConstGauge::new(signed(value))));
    let about = ("nofile", "Limit of open files of the running process", MetricType::Gauge);
    out.family(about, "kind", rows)?;
    let asked = &app.config.load().fixed.sysctls;
    let got = sysinfo::sysctls(asked);
    let about = ("sysctl", "Sysctl as /proc/sys shows it; of several numbers the last", MetricType::Gauge);
    let rows = got.iter().filter_map(|(key, value)| {
        let last = value.rsplit(' ').next()?.parse::<i64>().ok()?;
        Some((key.clone(), ConstGauge::new(last)))
    });
    out.family(about, "name", rows)?;
    let wrong = sysinfo::mismatches(asked, &got).len() as u64;
    out.gauge("sysctl_mismatches", "Sysctls that are not what was asked for", wrong)?;
    out.gauge(
        "memory_limit_bytes",
        "Memory that the cgroup allows; 0 without a limit",
        app.memory.limit_bytes(),
    )?;
    out.gauge("resident_bytes", "Resident memory", sysinfo::rss_bytes())?;
    out.one("cpu_seconds", "CPU time of all threads", &ConstCounter::new(sysinfo::cpu_seconds()))
}

fn bus_metrics(out: &mut Out<'_>, bus: &BusState) -> fmt::Result {
    out.gauge("bus_connected", "1 while the bus is connected", bus.connected().into())?;
    let stats = bus.stats();
    let silent = ConstGauge::new(stats.silent_millis as f64 / 1e3);
    out.one(
        "bus_silent_seconds",
        "Since anything was heard from the bus, which is asked each second",
        &silent,
    )?;
    let took = ConstGauge::new(stats.round_trip_micros as f64 / 1e6);
    out.one("bus_round_trip_seconds", "What the last answer of the bus took", &took)?;
    let counts = bus.counts.load();
    figures(out, &BusCounters::METRICS, &counts.scalars())?;
    let rows = [("out", counts.dropped_out), ("in", counts.dropped_in)];
    let rows = rows.map(|(way, value)| (way.to_owned(), ConstCounter::new(value)));
    let about = ("bus_dropped", "Messages lost between node and bus", MetricType::Counter);
    out.family(about, "direction", rows)
}
