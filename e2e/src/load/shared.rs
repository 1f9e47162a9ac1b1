//! The state that the workers of a run share.

use super::dialect::Dialect;
use super::plan::Plan;
use super::settings::Settings;
use super::stats::Board;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// State shared by all workers; times are nanoseconds since `origin`.
pub(super) struct Shared {
    /// The settings of the run.
    pub(super) settings: Settings,
    /// The server's protocol.
    pub(super) dialect: Dialect,
    /// The plan of the run.
    pub(super) plan: Plan,
    /// Random number of this run.
    pub(super) run: u32,
    /// One per room.
    pub(super) rooms: Vec<Room>,
    /// One board per worker.
    pub(super) boards: Vec<Mutex<Board>>,
    /// Publishes numbered so far, by all workers.
    pub(super) published: AtomicU64,
    /// How many storms were to cut all connections.
    pub(super) storms: AtomicU32,
    /// Whether connections that do not read shall read again.
    pub(super) resume: AtomicBool,
    origin: Instant,
    segment: Mutex<Segment>,
    /// Changes with `segment`, so that a look whether that changed costs no lock.
    version: AtomicU32,
    finish: AtomicBool,
}

/// A stretch of the schedule: publishes at one rate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Segment {
    /// Its number, from 1; 0 is the time before the first.
    pub(super) number: u32,
    /// When it begins, ns.
    pub(super) from: u64,
    /// When it ends, ns.
    pub(super) until: u64,
    /// Turns per second; in each turn one connection sends `burst_size` publishes.
    pub(super) turns: f64,
}

impl Segment {
    /// When the `k`-th turn of this segment is due, if there is one.
    pub(super) fn due(&self, k: u64) -> Option<u64> {
        if self.turns <= 0.0 {
            return None;
        }
        let due = self.from.saturating_add((k as f64 * 1e9 / self.turns) as u64);
        (due < self.until).then_some(due)
    }
}

/// Numbering of a room's publishes.
#[derive(Default)]
pub(super) struct Room {
    next: AtomicU32,
    any_void: AtomicBool,
    void: Mutex<Vec<u32>>,
}

impl Room {
    /// The number of the next publish. A publish that gets this number or a higher one is sent after this call.
    pub(super) fn next(&self) -> u32 {
        self.next.load(Ordering::SeqCst)
    }

    /// Takes a number for a publish that is about to be sent.
    pub(super) fn number(&self) -> u32 {
        self.next.fetch_add(1, Ordering::SeqCst)
    }

    /// Declares that no connection is owed this publish: its sender's connection ended before the echo came.
    pub(super) fn declare_void(&self, number: u32) {
        lock(&self.void).push(number);
        self.any_void.store(true, Ordering::SeqCst);
    }

    /// Whether no connection is owed this publish.
    pub(super) fn is_void(&self, number: u32) -> bool {
        self.any_void.load(Ordering::SeqCst) && lock(&self.void).contains(&number)
    }
}

impl Shared {
    /// The state before the first connection.
    pub(super) fn new(settings: Settings, dialect: Dialect, plan: Plan) -> Shared {
        let share = |worker| plan.connections_of(worker).count() as u32;
        Shared {
            settings,
            dialect,
            plan,
            run: rand::random(),
            rooms: (0..plan.rooms).map(|_| Room::default()).collect(),
            boards: (0..plan.workers).map(|worker| Mutex::new(Board::new(share(worker)))).collect(),
            published: AtomicU64::new(0),
            storms: AtomicU32::new(0),
            resume: AtomicBool::new(false),
            origin: Instant::now(),
            segment: Mutex::default(),
            version: AtomicU32::new(0),
            finish: AtomicBool::new(false),
        }
    }

    /// Nanoseconds since the run began.
    pub(super) fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    /// Begins a segment of `seconds` with `rate` publishes per second at `from`.
    pub(super) fn begin(&self, from: u64, seconds: f64, rate: f64) -> Segment {
        let mut segment = lock(&self.segment);
        *segment = Segment {
            number: segment.number + 1,
            from,
            until: from.saturating_add((seconds * 1e9) as u64),
            turns: rate / f64::from(self.settings.burst_size),
        };
        self.version.fetch_add(1, Ordering::SeqCst);
        *segment
    }

    /// Ends publishing now, whether it has begun or not.
    pub(super) fn stop_publishing(&self) {
        let mut segment = lock(&self.segment);
        segment.until = segment.until.min(self.now());
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// The segment of the schedule, when it is another one than that of `version`.
    pub(super) fn changed_segment(&self, version: &mut u32) -> Option<Segment> {
        if self.version.load(Ordering::SeqCst) == *version {
            return None;
        }
        let segment = lock(&self.segment);
        *version = self.version.load(Ordering::SeqCst);
        Some(*segment)
    }

    /// Tells the workers to settle accounts and end.
    pub(super) fn finish(&self) {
        self.finish.store(true, Ordering::SeqCst);
    }

    /// Whether the workers are to end.
    pub(super) fn finishing(&self) -> bool {
        self.finish.load(Ordering::SeqCst)
    }
}

/// Locks even when another thread panicked with the lock: the join of that thread fails the run.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_due_evenly_until_the_end() {
        let segment = Segment { number: 1, from: 1_000, until: 1_000_001_000, turns: 4.0 };
        let due: Vec<_> = (0..6).map(|k| segment.due(k)).collect();
        let at = |quarter: u64| Some(1_000 + quarter * 250_000_000);
        assert_eq!(due, [at(0), at(1), at(2), at(3), None, None]);
        assert_eq!(Segment { turns: 0.0, ..segment }.due(0), None);
        let single = Segment { until: segment.from + 1, ..segment };
        assert_eq!((single.due(0), single.due(1)), (Some(1_000), None));
    }
}
