//! What the workers of a run have in common.

use super::options::{Options, Target};
use super::plan::Plan;
use super::stats::Board;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// "Not set" of a point in time.
const UNSET: u64 = u64::MAX;

/// State shared by all workers; times are nanoseconds since `origin`.
pub(super) struct Shared {
    /// What was asked for.
    pub(super) options: Options,
    /// Who does what.
    pub(super) plan: Plan,
    /// Where to connect.
    pub(super) targets: Vec<Target>,
    /// Random number of this run.
    pub(super) run: u32,
    /// One per room.
    pub(super) rooms: Vec<Room>,
    /// One per worker.
    pub(super) boards: Vec<Mutex<Board>>,
    origin: Instant,
    publish_from: AtomicU64,
    publish_until: AtomicU64,
    finish: AtomicBool,
}

/// Numbering of a room's publishes.
#[derive(Default)]
pub(super) struct Room {
    next: AtomicU32,
    any_void: AtomicBool,
    void: Mutex<Vec<u32>>,
}

impl Room {
    /// The number the next publish will get. A publish numbered at or above what this returns is sent after
    /// this call.
    pub(super) fn next(&self) -> u32 {
        self.next.load(Ordering::SeqCst)
    }

    /// Takes a number for a publish that is about to be sent.
    pub(super) fn number(&self) -> u32 {
        self.next.fetch_add(1, Ordering::SeqCst)
    }

    /// Declares that nobody is owed this publish: its sender's connection ended before the echo came.
    pub(super) fn declare_void(&self, number: u32) {
        lock(&self.void).push(number);
        self.any_void.store(true, Ordering::SeqCst);
    }

    /// Whether nobody is owed this publish.
    pub(super) fn is_void(&self, number: u32) -> bool {
        self.any_void.load(Ordering::SeqCst) && lock(&self.void).contains(&number)
    }
}

impl Shared {
    /// The state before the first connection.
    pub(super) fn new(options: Options, plan: Plan, targets: Vec<Target>) -> Shared {
        let mut shares = vec![0; plan.workers as usize];
        for connection in 0..plan.connections {
            shares[plan.worker_of(connection) as usize] += 1;
        }
        Shared {
            options,
            plan,
            targets,
            run: rand::random(),
            rooms: (0..plan.rooms).map(|_| Room::default()).collect(),
            boards: shares.into_iter().map(|share| Mutex::new(Board::new(share))).collect(),
            origin: Instant::now(),
            publish_from: AtomicU64::new(UNSET),
            publish_until: AtomicU64::new(UNSET),
            finish: AtomicBool::new(false),
        }
    }

    /// Nanoseconds since the run began.
    pub(super) fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    /// The name of a room's topic.
    pub(super) fn topic(&self, room: u32) -> String {
        format!("{}{room}", self.options.topic_prefix)
    }

    /// Lets publishing begin at `from` for the time asked for.
    pub(super) fn start_publishing(&self, from: u64) {
        let until = from.saturating_add((self.options.duration * 1e9) as u64);
        self.publish_until.store(until, Ordering::SeqCst);
        self.publish_from.store(from, Ordering::SeqCst);
    }

    /// Ends publishing now, begun or not.
    pub(super) fn stop_publishing(&self) {
        self.publish_until.fetch_min(self.now(), Ordering::SeqCst);
    }

    /// When the `k`-th publish is due, if there is one.
    pub(super) fn publish_due(&self, k: u64) -> Option<u64> {
        let from = self.publish_from.load(Ordering::SeqCst);
        if from == UNSET || self.options.rate <= 0.0 {
            return None;
        }
        let due = from.saturating_add((k as f64 * 1e9 / self.options.rate) as u64);
        (due < self.publish_until.load(Ordering::SeqCst)).then_some(due)
    }

    /// Whether publishing is over.
    pub(super) fn published_all(&self) -> bool {
        self.now() >= self.publish_until.load(Ordering::SeqCst)
    }

    /// Tells the workers to settle accounts and end.
    pub(super) fn finish(&self) {
        self.finish.store(true, Ordering::SeqCst);
    }

    /// Whether the workers shall end.
    pub(super) fn finishing(&self) -> bool {
        self.finish.load(Ordering::SeqCst)
    }
}

/// Locks even when another holder panicked: the run is failed by that thread's join, not here.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
