//! The counters of a shard as other threads see them.
//!
//! The owner stores all values once per turn with relaxed ordering into lines that only it writes; readers may see
//! values of two neighbouring turns mixed, which a rate over seconds does not notice.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

use node_core::{
    counters::Counters,
    moving::MoveReport,
    shard::{ByPolicy, Latencies, Recent},
};

/// Parts per million in [`ShardStats::utilization`].
const MILLION: f64 = 1_000_000.0;

/// Published counters of one shard.
// 128 bytes: two lines of 64, because x86 prefetches lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub struct ShardStats {
    words: [AtomicU64; Counters::WORDS],
    utilization_ppm: AtomicU32,
    /// The highest value since it was last taken.
    memory_permille: AtomicU64,
    writes_per_second: AtomicU64,
    handshake_p99_millis: AtomicU64,
    oldest_queued_millis: AtomicU64,
    /// Stored when the shard moves clients, some times a second.
    moves: Mutex<MoveReport>,
    /// Stored some times a second.
    latencies: Mutex<Latencies>,
    by_policy: Mutex<ByPolicy>,
}

impl Default for ShardStats {
    fn default() -> Self {
        Self {
            words: std::array::from_fn(|_| AtomicU64::new(0)),
            utilization_ppm: AtomicU32::new(0),
            memory_permille: AtomicU64::new(0),
            writes_per_second: AtomicU64::new(0),
            handshake_p99_millis: AtomicU64::new(0),
            oldest_queued_millis: AtomicU64::new(0),
            moves: Mutex::default(),
            latencies: Mutex::default(),
            by_policy: Mutex::default(),
        }
    }
}

impl ShardStats {
    /// Publishes the owner's counters.
    pub fn store(&self, counters: &Counters) {
        for (word, value) in self.words.iter().zip(counters.words()) {
            word.store(value, Relaxed);
        }
    }

    /// The counters as of a recent turn.
    #[must_use]
    pub fn load(&self) -> Counters {
        Counters::from_words(&std::array::from_fn(|i| self.words[i].load(Relaxed)))
    }

    /// Publishes the busy fraction of the last whole second, 0 to 1.
    pub fn store_utilization(&self, ratio: f64) {
        // Truncation is wanted: the value is clamped to 0..=1 first.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        self.utilization_ppm.store((ratio.clamp(0.0, 1.0) * MILLION) as u32, Relaxed);
    }

    /// Publishes the use of memory since the last call, in thousandths of what the shard may hold.
    pub fn store_memory_permille(&self, permille: u64) {
        self.memory_permille.fetch_max(permille, Relaxed);
    }

    /// The highest use since the last call, in thousandths.
    pub fn take_memory_permille(&self) -> u64 {
        self.memory_permille.swap(0, Relaxed)
    }

    /// Publishes the writes/s of the last whole second.
    pub fn store_writes_per_second(&self, writes: u64) {
        self.writes_per_second.store(writes, Relaxed);
    }

    /// Writes/s of the last whole second.
    #[must_use]
    pub fn writes_per_second(&self) -> u64 {
        self.writes_per_second.load(Relaxed)
    }

    /// Publishes the core's figures of the last second.
    pub fn store_recent(&self, recent: Recent) {
        self.handshake_p99_millis.store(recent.handshake_p99_millis, Relaxed);
        self.oldest_queued_millis.store(recent.oldest_queued_millis, Relaxed);
    }

    /// The core's figures of the last second.
    #[must_use]
    pub fn recent(&self) -> Recent {
        Recent {
            handshake_p99_millis: self.handshake_p99_millis.load(Relaxed),
            oldest_queued_millis: self.oldest_queued_millis.load(Relaxed),
        }
    }

    /// Publishes the times that broadcasts and queues took.
    pub fn store_latencies(&self, latencies: Latencies) {
        *self.latencies.lock().unwrap_or_else(PoisonError::into_inner) = latencies;
    }

    /// The times that broadcasts and queues took.
    #[must_use]
    pub fn latencies(&self) -> Latencies {
        *self.latencies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes what was counted for each policy of rooms.
    pub fn store_by_policy(&self, by_policy: &ByPolicy) {
        self.by_policy.lock().unwrap_or_else(PoisonError::into_inner).clone_from(by_policy);
    }

    /// What was counted for each policy of rooms.
    #[must_use]
    pub fn by_policy(&self) -> ByPolicy {
        self.by_policy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Publishes what the shard has moved.
    pub fn store_moves(&self, report: MoveReport) {
        *self.moves.lock().unwrap_or_else(PoisonError::into_inner) = report;
    }

    /// What the shard has moved in its last operation.
    #[must_use]
    pub fn moves(&self) -> MoveReport {
        self.moves.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Busy fraction (1 - parked / wall) of the last whole second, 0 to 1.
    #[must_use]
    pub fn utilization(&self) -> f64 {
        f64::from(self.utilization_ppm.load(Relaxed)) / MILLION
    }
}
