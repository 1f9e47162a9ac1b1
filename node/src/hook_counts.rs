//! What is counted of questions to the backend, beside what the shards count.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Why there is no usable answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Failure {
    /// The keys or the authorities cannot be read.
    Secret,
    /// No connection was made, or TLS failed.
    Connect,
    /// The connection broke.
    Broken,
    /// The time was over.
    Timeout,
    /// Another status than 2xx.
    Status,
    /// Too long, or something else than an answer.
    Unusable,
    /// It was not asked, because it had not answered for a while.
    Open,
}

/// The values of the label `result` in metrics: those of [`Failure`] in its order, and an answer.
const RESULTS: [&str; 8] =
    ["secret", "connect", "broken", "timeout", "status", "unusable", "open", "answered"];

/// The counters.
#[derive(Debug, Default)]
pub struct Counts {
    requests: [AtomicU64; RESULTS.len()],
    answered_micros: AtomicU64,
    open: AtomicBool,
}

impl Counts {
    /// Counts a question without a usable answer.
    pub fn failed(&self, failure: Failure) {
        self.requests[failure as usize].fetch_add(1, Relaxed);
    }

    /// Counts a question that was answered after so many microseconds.
    pub fn answered(&self, micros: u64) {
        self.requests[RESULTS.len() - 1].fetch_add(1, Relaxed);
        self.answered_micros.fetch_add(micros, Relaxed);
    }

    /// Notes whether the backend is not asked for a while.
    pub fn set_open(&self, open: bool) {
        self.open.store(open, Relaxed);
    }

    /// Questions so far, by result.
    pub fn requests(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RESULTS.into_iter().zip(self.requests.iter().map(|count| count.load(Relaxed)))
    }

    /// Time from question to answer in microseconds, of all that were answered.
    pub fn answered_micros(&self) -> u64 {
        self.answered_micros.load(Relaxed)
    }

    /// Whether the backend is not asked for a while.
    pub fn is_open(&self) -> bool {
        self.open.load(Relaxed)
    }
}
