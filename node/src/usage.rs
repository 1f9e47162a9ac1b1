//! How busy a shard's thread is: time parked against time passed, and its CPU time.
//!
//! The runtime reports when it parks. All other time counts as busy, also when the kernel gave the CPU to another
//! process: throttling and steal must show as load, because they use up the node's ability to answer.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use node_core::shard::Times;
use rustix::time::{ClockId, clock_gettime};

/// Window of the published utilization.
const WINDOW: Duration = Duration::from_secs(1);

thread_local! {
    static PARKED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static PARKED_AT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Called by the runtime before the thread parks.
pub(crate) fn on_park() {
    PARKED_AT.set(Some(Instant::now()));
}

/// Called by the runtime after the thread unparks.
pub(crate) fn on_unpark() {
    if let Some(at) = PARKED_AT.take() {
        PARKED.set(PARKED.get() + at.elapsed());
    }
}

/// The measurements of one shard thread.
#[derive(Debug)]
pub(crate) struct Usage {
    started: Instant,
    window_start: Instant,
    window_parked: Duration,
}

impl Usage {
    pub(crate) fn new(now: Instant) -> Self {
        Self { started: now, window_start: now, window_parked: PARKED.get() }
    }

    /// The cumulative times, except CPU time, which costs a system call.
    pub(crate) fn times(&self, now: Instant) -> Times {
        Times { wall: nanos(now.duration_since(self.started)), parked: nanos(PARKED.get()), cpu: None }
    }

    /// Publishes the utilization at the end of each window, which is given the time that the window took.
    pub(crate) fn tick(&mut self, now: Instant, publish: impl FnOnce(f64, Duration)) {
        let wall = now.duration_since(self.window_start);
        if wall < WINDOW {
            return;
        }
        let parked = PARKED.get().saturating_sub(self.window_parked);
        publish(1.0 - parked.as_secs_f64() / wall.as_secs_f64(), wall);
        self.window_start = now;
        self.window_parked = PARKED.get();
    }
}

/// CPU time of the calling thread.
pub(crate) fn thread_cpu_nanos() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.wrapping_mul(1_000_000_000).wrapping_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
