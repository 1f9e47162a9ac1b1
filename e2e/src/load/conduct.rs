//! The coordinator takes a run through the phases of its scenario and watches the workers.

use super::figures::{Burst, Percentiles, Step, Storm};
use super::sampler::{Sampler, Second, process_cpu};
use super::scenario::Scenario;
use super::search::{Search, outcome};
use super::shared::{Segment, Shared, lock};
use super::stats::{Account, Board, Counters, Stats, coarse, histogram, later_than, merge};
use super::worker::LOOK_NS;
use hdrhistogram::Histogram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the coordinator looks at the workers.
const TICK: Duration = Duration::from_millis(50);
/// How often progress is reported.
const PROGRESS: Duration = Duration::from_secs(1);
/// Longest wait for connections, beyond the time that the connect rate takes.
const RAMP_GRACE: Duration = Duration::from_secs(30);
/// Length of a burst's schedule in seconds: one turn.
const ONE_TURN: f64 = 1e-6;
/// Pause between two bursts.
const BETWEEN_BURSTS: Duration = Duration::from_millis(200);
/// For how long clients that read again must have found nothing before they count as done.
const SLOW_QUIET: Duration = Duration::from_secs(1);
/// The part of the owed deliveries that must arrive in a step of `max`.
const ARRIVE: f64 = 0.99;
/// Part of the deliveries of a step of `max` that may be later than the bound of its p99.
const LATE: f64 = 0.01;
/// Ticks between two looks at how late the deliveries of a step are.
const LOOK_TICKS: u32 = 4;
/// How large the generator's own lateness may be, as a part of the latency bound.
const LAG_SHARE: f64 = 0.25;

/// The state of a run at one moment.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Time since the run began.
    pub elapsed: Duration,
    /// `connect`, `warmup`, `publish`, `step`, `burst`, `storm` or `settle`.
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

/// The results of the phases.
pub(super) struct Played {
    pub(super) workers: Vec<JoinHandle<anyhow::Result<Stats>>>,
    pub(super) sampler: Sampler,
    pub(super) ramp: Duration,
    pub(super) published: Duration,
    /// Deliveries of the warm-up: counted, but not measured.
    pub(super) warmed: u64,
    pub(super) cpu: Duration,
    pub(super) latency: Histogram<u64>,
    pub(super) lag: Histogram<u64>,
    pub(super) steps: Vec<Step>,
    pub(super) bursts: Vec<Burst>,
    pub(super) storms: Vec<Storm>,
}

pub(super) struct Conductor<'a> {
    shared: Arc<Shared>,
    stop: &'a AtomicBool,
    progress: &'a mut dyn FnMut(&Progress),
    started: Instant,
    cpu_before: Duration,
    reported: Instant,
    sample_at: Option<Instant>,
    /// Deliveries received when progress was last reported, and when the last sample was taken.
    received: u64,
    sampled: u64,
    /// Latencies since then, and those of the segment.
    fresh: Histogram<u64>,
    minute: Histogram<u64>,
    segment_latency: Histogram<u64>,
    segment_lag: Histogram<u64>,
    segment: Segment,
    /// The account at the end of the warm-up.
    warmed_account: Account,
    played: Played,
}

impl<'a> Conductor<'a> {
    pub(super) fn new(
        shared: Arc<Shared>,
        workers: Vec<JoinHandle<anyhow::Result<Stats>>>,
        stop: &'a AtomicBool,
        sampler: Sampler,
        progress: &'a mut dyn FnMut(&Progress),
    ) -> Conductor<'a> {
        Conductor {
            shared,
            stop,
            progress,
            started: Instant::now(),
            cpu_before: process_cpu(),
            reported: Instant::now(),
            sample_at: None,
            received: 0,
            sampled: 0,
            fresh: histogram(),
            minute: histogram(),
            segment_latency: histogram(),
            segment_lag: coarse(),
            segment: Segment::default(),
            warmed_account: Account::default(),
            played: Played {
                workers,
                sampler,
                ramp: Duration::ZERO,
                published: Duration::ZERO,
                warmed: 0,
                cpu: Duration::ZERO,
                latency: histogram(),
                lag: coarse(),
                steps: Vec::new(),
                bursts: Vec::new(),
                storms: Vec::new(),
            },
        }
    }

    /// Plays the scenario to its end.
    pub(super) fn play(&mut self) -> anyhow::Result<()> {
        self.ramp();
        self.played.ramp = self.started.elapsed();
        self.played.sampler.connecting_ended();
        self.sample();
        if self.shared.settings.options.scenario == Scenario::Storm {
            self.storms();
        }
        self.warm_up();
        let begun = self.started.elapsed();
        self.played.sampler.publishing_begins(begun.as_secs_f64())?;
        match self.shared.settings.options.scenario {
            Scenario::Max => self.search(),
            Scenario::Burst => self.bursts(),
            _ => self.hold(),
        }
        self.played.published = self.started.elapsed() - begun;
        self.shared.resume.store(true, Ordering::SeqCst);
        self.settle("settle");
        self.settle_slow();
        self.played.sampler.publishing_ended((begun + self.played.published).as_secs_f64());
        self.played.sampler.memory_end();
        self.sample();
        Ok(())
    }

    /// The results. The workers have been told to finish.
    pub(super) fn end(self) -> Played {
        Played { cpu: process_cpu() - self.cpu_before, ..self.played }
    }

    fn ramp(&mut self) {
        let last = self.shared.settings.open_at(self.shared.plan.connections);
        let limit = Duration::from_nanos(last) + RAMP_GRACE;
        while self.started.elapsed() < limit && self.going() && self.undecided() > 0 {
            self.tick("connect");
        }
    }

    /// Publishes only to warm the server up; the latencies are dropped.
    fn warm_up(&mut self) {
        let (seconds, rate) = (self.shared.settings.options.warmup, self.shared.settings.rate);
        if seconds == 0.0 {
            return;
        }
        self.publish(seconds, rate, "warmup");
        self.warmed_account = self.settle("warmup").unwrap_or_default();
        self.sample();
        self.played.warmed = self.sum(|board| board.counters.received);
        self.played.latency.reset();
        self.played.lag.reset();
    }

    /// Publishes at the rate that was asked for.
    fn hold(&mut self) {
        self.sample_at = Some(Instant::now() + self.sample_interval());
        let (seconds, rate) = (self.shared.settings.duration, self.shared.settings.rate);
        self.publish(seconds, rate, "publish");
        self.sample_at = None;
    }

    /// Publishes for some time.
    fn publish(&mut self, seconds: f64, rate: f64, phase: &'static str) {
        self.begin_publishing(seconds, rate);
        while self.is_publishing() {
            self.tick(phase);
        }
        self.shared.stop_publishing();
    }

    fn begin_publishing(&mut self, seconds: f64, rate: f64) {
        self.collect();
        self.segment_latency.reset();
        self.segment_lag.reset();
        // It begins a little later, so that all workers know of it before.
        self.segment = self.shared.begin(self.shared.now() + LOOK_NS, seconds, rate);
    }

    fn is_publishing(&self) -> bool {
        self.shared.now() < self.segment.until && self.going()
    }

    /// Publishes for some time, or until so many deliveries are late that no further one can bring p99 within `bound`
    /// (milliseconds): beyond its ceiling a server would only let them wait. Returns the seconds.
    fn publish_step(&mut self, seconds: f64, rate: f64, bound: f64) -> f64 {
        let most =
            rate * seconds * f64::from(self.shared.plan.connections) / f64::from(self.shared.plan.rooms);
        self.begin_publishing(seconds, rate);
        while self.is_publishing() {
            for _ in 0..LOOK_TICKS {
                self.tick("step");
            }
            self.collect();
            if later_than(&self.segment_latency, bound) as f64 > LATE * most {
                break;
            }
        }
        self.shared.stop_publishing();
        self.shared.now().min(self.segment.until).saturating_sub(self.segment.from) as f64 / 1e9
    }

    /// Waits for deliveries and connections that are on their way, for as long as any arrives. Returns the accounts,
    /// if they are known.
    fn settle(&mut self, phase: &'static str) -> Option<Account> {
        let quiet = Duration::from_secs_f64(self.shared.settings.settle);
        let arrived =
            |board: &Board| board.counters.received + board.counters.duplicates + board.counters.rejoined;
        let (mut last, mut since) = (self.sum(arrived), Instant::now());
        loop {
            let account = self.account();
            let done = account.is_some_and(|account| account.outstanding == 0) && self.away() == 0;
            if done || since.elapsed() >= quiet || !self.alive() {
                return account;
            }
            self.tick(phase);
            let now = self.sum(arrived);
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
    }

    /// Waits until the clients that did not read have read everything that was there for them.
    fn settle_slow(&mut self) {
        let seen = |board: &Board| board.counters.slow_received + board.counters.slow_closed;
        let end = Instant::now() + Duration::from_secs_f64(self.shared.settings.settle);
        let (mut last, mut since) = (self.sum(seen), Instant::now());
        while self.shared.settings.slow_every > 0
            && since.elapsed() < SLOW_QUIET
            && Instant::now() < end
            && self.alive()
        {
            self.tick("settle");
            let now = self.sum(seen);
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
    }

    fn bursts(&mut self) {
        let repeats = self.shared.settings.repeats;
        let mut before = self.warmed_account;
        for _ in 0..repeats {
            if !self.going() {
                return;
            }
            let turn = f64::from(self.shared.settings.burst_size);
            self.publish(ONE_TURN, turn, "burst");
            let account = self.settle("burst").unwrap_or(before);
            self.collect();
            self.played.bursts.push(Burst::new(account.owed - before.owed, &self.segment_latency));
            before = account;
            std::thread::sleep(BETWEEN_BURSTS);
        }
    }

    fn storms(&mut self) {
        for _ in 0..self.shared.settings.repeats {
            if !self.going() {
                return;
            }
            let failed = self.sum(|board| board.counters.failed_reconnects);
            let from = self.shared.now();
            let number = self.shared.storms.fetch_add(1, Ordering::SeqCst) + 1;
            let limit = from + (self.shared.settings.settle * 1e9) as u64;
            let seen = |board: &Board| board.storms == number;
            while (!self.all(seen) || self.away() > 0) && self.shared.now() < limit && self.going() {
                self.tick("storm");
            }
            let last = self.shared.boards.iter().map(|board| lock(board).last_join).max().unwrap_or(0);
            self.played.storms.push(Storm {
                back_seconds: last.saturating_sub(from) as f64 / 1e9,
                away: self.away(),
                failed_reconnects: self.sum(|board| board.counters.failed_reconnects) - failed,
            });
        }
    }

    fn search(&mut self) {
        let settings = &self.shared.settings;
        let highest = settings.options.max_rate.unwrap_or(f64::INFINITY);
        let bound = self.bound();
        let mut search = Search::new(settings.rate.max(1.0), highest, settings.options.precision);
        let mut before = self.warmed_account;
        while let Some(rate) = search.next()
            && self.going()
        {
            let step = self.step(rate, &mut before);
            search.note(outcome(&step, bound));
            self.played.steps.push(step);
        }
    }

    /// The latency that a step of `max` may have, milliseconds.
    fn bound(&self) -> f64 {
        self.shared.settings.max_p99_ms.unwrap_or(f64::INFINITY)
    }

    /// Tries one rate of `max` on the existing connections.
    fn step(&mut self, rate: f64, before: &mut Account) -> Step {
        let disconnects = self.sum(|board| board.counters.disconnects);
        let (usage, own) = (self.played.sampler.usage_now(), process_cpu());
        let bound = self.bound();
        let seconds = self.publish_step(self.shared.settings.options.step, rate, bound);
        let account = self.settle("step").unwrap_or(*before);
        self.collect();
        let owed = account.owed.saturating_sub(before.owed);
        *before = account;
        let latency = Percentiles::of(&self.segment_latency);
        let lag = Percentiles::of(&self.segment_lag).p99_ms;
        let lost = self.sum(|board| board.counters.disconnects) - disconnects;
        let arrived = latency.count as f64 >= ARRIVE * owed as f64;
        let in_time = latency.count > 0 && latency.p99_ms <= bound;
        let punctual = lag <= bound * LAG_SHARE;
        let used = self.played.sampler.usage_now().zip(usage).map(|(now, then)| now.since(&then));
        Step {
            publishes_per_second: rate,
            deliveries_per_second: latency.count as f64 / seconds,
            owed,
            latency,
            lag_p99_ms: lag,
            disconnects: lost,
            generator_cpus: (process_cpu() - own).as_secs_f64() / seconds,
            server_cpus: used.map(|used| used.cpu_seconds / seconds),
            cpu_us_per_delivery: used
                .filter(|_| latency.count > 0)
                .map(|used| used.cpu_seconds * 1e6 / latency.count as f64),
            passed: arrived && in_time && punctual && lost == 0,
            generator_late: !punctual,
        }
    }

    fn going(&self) -> bool {
        !self.stop.load(Ordering::Relaxed) && self.alive()
    }

    /// Whether all workers still run. When one has ended early, its error comes out when it is joined.
    fn alive(&self) -> bool {
        !self.played.workers.iter().any(JoinHandle::is_finished)
    }

    fn sum(&self, of: impl Fn(&Board) -> u64) -> u64 {
        self.shared.boards.iter().map(|board| of(&lock(board))).sum()
    }

    fn all(&self, is: impl Fn(&Board) -> bool) -> bool {
        self.shared.boards.iter().all(|board| is(&lock(board)))
    }

    fn undecided(&self) -> u64 {
        self.sum(|board| board.undecided.into())
    }

    /// The accounts of the segment, once it is over and all workers have published theirs.
    fn account(&self) -> Option<Account> {
        let published = self.shared.published.load(Ordering::SeqCst);
        let mut sum = Account { published, ..Account::default() };
        for board in &self.shared.boards {
            let board = lock(board);
            let current =
                |account: &Account| board.segment == self.segment.number && account.published == published;
            let account = board.account.filter(current)?;
            sum.owed += account.owed;
            sum.outstanding += account.outstanding;
        }
        Some(sum)
    }

    /// Connections that are on their way back into their room.
    fn away(&self) -> u64 {
        if !self.shared.settings.reconnect {
            return 0;
        }
        self.sum(|board| board.counters.joined.saturating_sub(board.joined_now.into()))
    }

    fn sample_interval(&self) -> Duration {
        Duration::from_secs_f64(self.shared.settings.options.sample_interval)
    }

    /// Takes the latencies that the workers have published.
    fn collect(&mut self) {
        for board in &self.shared.boards {
            let mut board = lock(board);
            for sum in
                [&mut self.fresh, &mut self.minute, &mut self.segment_latency, &mut self.played.latency]
            {
                merge(sum, &board.interval);
            }
            for sum in [&mut self.segment_lag, &mut self.played.lag] {
                merge(sum, &board.lag);
            }
            board.interval.reset();
            board.lag.reset();
        }
    }

    /// Takes a sample of everything that is watched.
    fn sample(&mut self) {
        self.collect();
        let joined = self.sum(|board| board.joined_now.into());
        let received = self.sum(|board| board.counters.received);
        let at = self.started.elapsed().as_secs_f64();
        let latency = Percentiles::of(&self.minute);
        self.played.sampler.sample(at, joined, received - self.sampled, latency);
        self.sampled = received;
        self.minute.reset();
    }

    fn tick(&mut self, phase: &'static str) {
        std::thread::sleep(TICK);
        if let Some(due) = self.sample_at
            && Instant::now() >= due
        {
            self.sample_at = Some(due + self.sample_interval());
            self.sample();
        }
        let since = self.reported.elapsed();
        if since < PROGRESS {
            return;
        }
        self.reported = Instant::now();
        self.collect();
        let (mut counters, mut joined) = (Counters::default(), 0);
        for board in &self.shared.boards {
            let board = lock(board);
            counters.add(&board.counters);
            joined += u64::from(board.joined_now);
        }
        let received = counters.received - self.received;
        self.received = counters.received;
        let elapsed = self.started.elapsed();
        let deliveries_per_second = received as f64 / since.as_secs_f64();
        let latency = Percentiles::of(&self.fresh);
        self.fresh.reset();
        self.played.sampler.seconds.push(Second {
            at: elapsed.as_secs_f64(),
            phase,
            joined,
            deliveries_per_second,
            p50_ms: latency.p50_ms,
            p99_ms: latency.p99_ms,
        });
        (self.progress)(&Progress { elapsed, phase, joined, counters, deliveries_per_second, latency });
    }
}
