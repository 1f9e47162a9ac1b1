//! Open-loop load: many light Phoenix connections, publishes on a fixed schedule, every delivery accounted for.
//!
//! Own epoll workers instead of tasks, because the generator shares its machine with what it measures: a
//! connection is a slot of about 200 bytes and a delivery costs one recv(2) and a search. Each worker has its
//! own descriptor table, so that the process holds more sockets than its descriptor limit.
//!
//! *Expected* deliveries are counted per connection, not from the plan: a publish is owed to a connection if
//! the connection's join reply had been read before the publish was numbered (and so before it was sent), the
//! sender included. Of those, a delivery is `received`, `lost`, or `interrupted`: excused because the
//! receiver's connection ended before it came, or because the sender's connection ended before its own echo
//! proved that the server had the publish at all. `expected = owed - interrupted = received + lost`. Latency
//! counts from when the schedule wanted the publish sent, so a stalled generator or server cannot hide
//! (coordinated omission).

mod ledger;
mod metrics;
mod options;
mod phoenix;
mod plan;
mod report;
mod session;
mod shared;
mod slot;
mod stats;
mod sys;
mod wire;
mod worker;

pub use options::{Options, Target};
pub use report::{Percentiles, Report};
pub use slot::{reconnect_delay_ms, rejoin_delay_ms};
pub use stats::Counters;
pub use sys::stop_on_signals;

use anyhow::{Context, anyhow, ensure};
use hdrhistogram::Histogram;
use plan::Plan;
use shared::{Shared, lock};
use stats::{Stats, histogram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use worker::Worker;

/// How often the coordinator looks at the workers.
const TICK: Duration = Duration::from_millis(50);
/// How often progress is reported.
const PROGRESS: Duration = Duration::from_secs(1);
/// Longest wait for connections beyond the time that the connect rate takes.
const RAMP_GRACE: Duration = Duration::from_secs(30);
/// Descriptors of a worker that are no connections.
const RESERVED_DESCRIPTORS: u64 = 64;

/// What a run looks like at the moment.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Since the run began.
    pub elapsed: Duration,
    /// `connect`, `publish` or `settle`.
    pub phase: &'static str,
    /// Connections now in their room.
    pub joined: u64,
    /// Counts so far.
    pub counters: Counters,
    /// Deliveries per second since the last report.
    pub deliveries_per_second: f64,
    /// Latencies since the last report.
    pub latency: Percentiles,
}

/// Runs the load to its end, or to its early end when `stop` becomes true. Blocks the calling thread.
///
/// # Errors
/// When the options make no sense or the machine cannot hold the connections; a bad result of the load itself
/// is no error but in [`Report::failures`].
pub fn run(
    options: Options,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&Progress),
) -> anyhow::Result<Report> {
    let targets = options.targets()?;
    let nofile = sys::raise_nofile().context("raising the limit of open files")?;
    let per_worker = nofile.saturating_sub(RESERVED_DESCRIPTORS).min(u32::MAX.into()) as u32;
    ensure!(per_worker > 0, "the limit of open files ({nofile}) is too low: raise it with ulimit -n");
    let plan = Plan::new(options.connections, options.rooms, options.workers, per_worker);
    let before = metrics::scrape_all(&options.metrics_url)?;
    let shared = Arc::new(Shared::new(options, plan, targets));
    let mut run = Run {
        workers: start(&shared)?,
        shared,
        stop,
        started: Instant::now(),
        reported: Instant::now(),
        received: 0,
        progress,
    };
    let cpu_before = process_cpu();
    run.ramp();
    let ramp = run.started.elapsed();
    run.publish();
    let published = run.started.elapsed() - ramp;
    run.settle();
    run.shared.finish();
    let mut stats = Stats::default();
    for worker in std::mem::take(&mut run.workers) {
        let seen = worker.join().map_err(|_| anyhow!("a worker panicked"))??;
        stats.add(&seen);
    }
    let after = metrics::scrape_all(&run.shared.options.metrics_url)?;
    Ok(Report::new(report::Measured {
        options: &run.shared.options,
        plan,
        stats: &stats,
        stopped: stop.load(Ordering::Relaxed),
        ramp,
        published,
        cpu: process_cpu() - cpu_before,
        node_metrics: metrics::difference(&before, &after),
    }))
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

fn process_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

struct Run<'a> {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<anyhow::Result<Stats>>>,
    stop: &'a AtomicBool,
    started: Instant,
    reported: Instant,
    received: u64,
    progress: &'a mut dyn FnMut(&Progress),
}

impl Run<'_> {
    fn ramp(&mut self) {
        let options = &self.shared.options;
        let limit =
            Duration::from_secs_f64(f64::from(options.connections) / options.connect_rate) + RAMP_GRACE;
        while self.started.elapsed() < limit && self.going() && self.undecided() > 0 {
            self.tick("connect");
        }
    }

    fn publish(&mut self) {
        self.shared.start_publishing(self.shared.now());
        while !self.shared.published_all() && self.going() {
            self.tick("publish");
        }
        self.shared.stop_publishing();
    }

    /// Waits for what is on its way, for as long as something arrives.
    fn settle(&mut self) {
        let quiet = Duration::from_secs_f64(self.shared.options.settle);
        let (mut since, mut arrivals) = (Instant::now(), self.arrivals());
        while since.elapsed() < quiet && self.alive() && (self.outstanding() != Some(0) || self.away() > 0) {
            self.tick("settle");
            let now = self.arrivals();
            if now != arrivals {
                (since, arrivals) = (Instant::now(), now);
            }
        }
    }

    fn going(&self) -> bool {
        !self.stop.load(Ordering::Relaxed) && self.alive()
    }

    /// Whether no worker has ended early; its error comes out when it is joined.
    fn alive(&self) -> bool {
        !self.workers.iter().any(JoinHandle::is_finished)
    }

    fn undecided(&self) -> u64 {
        self.shared.boards.iter().map(|board| u64::from(lock(board).undecided)).sum()
    }

    fn outstanding(&self) -> Option<u64> {
        self.shared.boards.iter().map(|board| lock(board).outstanding).sum()
    }

    /// Grows with each delivery and each connection that comes back.
    fn arrivals(&self) -> u64 {
        let of = |counters: &Counters| counters.received + counters.duplicates + counters.rejoined;
        self.shared.boards.iter().map(|board| of(&lock(board).counters)).sum()
    }

    /// Connections that are on their way back into their room.
    fn away(&self) -> u64 {
        if !self.shared.options.reconnect {
            return 0;
        }
        let of = |board: &stats::Board| board.counters.joined.saturating_sub(board.joined_now.into());
        self.shared.boards.iter().map(|board| of(&lock(board))).sum()
    }

    fn tick(&mut self, phase: &'static str) {
        std::thread::sleep(TICK);
        let since = self.reported.elapsed();
        if since < PROGRESS {
            return;
        }
        self.reported = Instant::now();
        let (mut counters, mut joined) = (Counters::default(), 0);
        let mut latency: Histogram<u64> = histogram();
        for board in &self.shared.boards {
            let mut board = lock(board);
            counters.add(&board.counters);
            joined += u64::from(board.joined_now);
            latency.add(&board.interval).expect("both histograms have the same bounds");
            board.interval.reset();
        }
        let received = counters.received - self.received;
        self.received = counters.received;
        (self.progress)(&Progress {
            elapsed: self.started.elapsed(),
            phase,
            joined,
            counters,
            deliveries_per_second: received as f64 / since.as_secs_f64(),
            latency: Percentiles::of(&latency),
        });
    }
}
