//! Counts by GCRA (ITU-T I.371) how much one connection said lately.

use crate::{
    config::Limits,
    gcra::{BURST_MICROS, cost},
};

/// A connection's messages and bytes, each as the time until which the connection would have sent them at its rate.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Whether it was noted that it says nearly too much.
    pub(super) near: bool,
    /// Whether it was told that it says too much.
    pub(super) told: bool,
    /// Whether it is not read until a deadline.
    pub(super) waits: bool,
    pub(super) messages_micros: u64,
    pub(super) bytes_micros: u64,
}

impl Bucket {
    /// The time at which one more message fits.
    pub(super) fn next_micros(&self, limits: &Limits) -> u64 {
        let messages = self.messages_micros + cost(1, limits.messages_per_second);
        messages.max(self.bytes_micros).saturating_sub(BURST_MICROS)
    }
}
