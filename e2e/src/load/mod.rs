//! Open-loop load: many light connections, publishes on a fixed schedule, every delivery accounted for.
//!
//! Workers have epolls of their own instead of tasks, because the generator shares its machine with the server that
//! it measures: a connection is a slot of 48 bytes, and a delivery costs a part of one recv(2) and a look at a fixed
//! place. Each worker has its own descriptor table, so that the process may have more sockets than its descriptor
//! limit.
//!
//! *Expected* deliveries are counted per connection, not from the plan: a publish is owed to a connection if
//! the connection's join reply had been read before the publish was numbered (and so before it was sent), the
//! sender included unless its dialect leaves it out. Of those, a delivery is `received`, `lost`, or
//! `interrupted`: excused because the receiver's connection ended before it came, or because the sender's
//! connection ended before its own echo proved that the server had the publish at all.
//! `expected = owed - interrupted = received + lost`. Latency counts from when the schedule wanted the publish
//! sent, so a stalled generator or server cannot hide (coordinated omission).

mod conduct;
mod dialect;
mod figures;
mod html;
mod io;
mod ledger;
mod metrics;
mod options;
mod perf;
mod plan;
mod plot;
mod process;
mod report;
mod sampler;
mod scenario;
mod search;
mod session;
mod settings;
mod shared;
mod slot;
mod socket;
mod stamp;
mod stats;
mod sys;
mod text;
mod tls;
mod turns;
mod verdict;
mod wire;
mod worker;

pub use conduct::Progress;
pub use dialect::DialectName;
pub use figures::Percentiles;
pub use options::{Options, Sources, Target};
pub use process::{Footprint, Usage};
pub use report::Report;
pub use scenario::Scenario;
pub use slot::{reconnect_delay_ms, rejoin_delay_ms};
pub use stats::Counters;
pub use sys::stop_on_signals;

use anyhow::{Context, anyhow, ensure};
use conduct::Conductor;
use dialect::{Dialect, Keys};
use plan::Plan;
use settings::Settings;
use shared::Shared;
use stats::Stats;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use worker::Worker;

/// Descriptors of a worker that are not connections.
const RESERVED_DESCRIPTORS: u64 = 64;

/// Runs the load to its end, or to its early end when `stop` becomes true. Blocks the calling thread.
///
/// # Errors
/// When the options make no sense or the machine cannot have so many connections; a bad result of the load itself is
/// no error but in [`Report::failures`].
pub fn run(
    options: Options,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&Progress),
) -> anyhow::Result<Report> {
    let settings = Settings::new(options)?;
    let nofile = sys::raise_nofile().context("raising the limit of open files")?;
    let per_worker = nofile.saturating_sub(RESERVED_DESCRIPTORS).min(u32::MAX.into()) as u32;
    ensure!(per_worker > 0, "the limit of open files ({nofile}) is too low: raise it with ulimit -n");
    let plan = Plan::new(settings.connections, settings.rooms, settings.options.workers, per_worker);
    let options = &settings.options;
    let keys = Keys { key: options.pusher_key.clone(), secret: options.pusher_secret.clone() };
    let dialect = Dialect::new(options.dialect, keys);
    let before = metrics::scrape_all(&options.metrics_url)?;
    let mut sampler = sampler::Sampler::new(&settings)?;
    let shared = Arc::new(Shared::new(settings, dialect, plan));
    sampler.connecting_begins();
    let workers = start(&shared)?;
    let mut conductor = Conductor::new(Arc::clone(&shared), workers, stop, sampler, progress);
    let ended = conductor.play();
    shared.finish();
    let mut played = conductor.end();
    let mut stats = Stats::default();
    for worker in std::mem::take(&mut played.workers) {
        let seen = worker.join().map_err(|_| anyhow!("a worker panicked"))??;
        stats.add(&seen);
    }
    ended?;
    stats::merge(&mut stats.latency, &played.latency);
    stats::merge(&mut stats.lag, &played.lag);
    stats.counters.owed = stats.counters.owed.saturating_sub(stats.counters.unechoed);
    let after = metrics::scrape_all(&shared.settings.options.metrics_url)?;
    let node_metrics = metrics::difference(&before, &after);
    let stopped = stop.load(Ordering::Relaxed);
    let mut report = Report::new(&shared.settings, plan, &stats, played, stopped, node_metrics);
    report.failures = verdict::judge(&report, &shared.settings);
    Ok(report)
}

fn start(shared: &Arc<Shared>) -> anyhow::Result<Vec<JoinHandle<anyhow::Result<Stats>>>> {
    (0..shared.plan.workers)
        .map(|id| {
            let shared = Arc::clone(shared);
            std::thread::Builder::new()
                .name(format!("load-{id}"))
                .spawn(move || Worker::new(shared, id)?.run())
                .context("starting a worker")
        })
        .collect()
}
