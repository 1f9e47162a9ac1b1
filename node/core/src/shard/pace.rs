//! Reads each connection at its pace: as its rates and the memory allow.

use super::{state::Shard, timers::Deadline};
use crate::{
    protocol,
    session::{Heard, Pace, id::Slot, lifecycle::Phase},
};

/// So many messages of one read are taken before the connection's rate is looked at: most reads bring fewer and cost
/// no look.
const UNCHECKED: u32 = 32;

/// How many messages one read has brought, and may bring.
#[derive(Debug)]
pub(super) struct Allowance {
    /// Messages so far.
    said: u32,
    /// Up to how many messages the rate need not be looked at.
    unchecked: u32,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { said: 0, unchecked: UNCHECKED }
    }
}

impl Shard {
    /// Whether this read has brought as many messages as the connection may say: the rest waits.
    pub(super) fn is_used_up(&self, slot: Slot, allowance: &mut Allowance) -> bool {
        allowance.said += 1;
        if allowance.said < allowance.unchecked {
            return false;
        }
        allowance.unchecked = self.sessions.may_say(slot, self.now_millis, &self.config.limits);
        allowance.said >= allowance.unchecked
    }

    /// Charges the connection for what a read brought, and tells it when it says too much.
    pub(super) fn charge(&mut self, slot: Slot, allowance: &Allowance, bytes: usize) {
        // A connection that ended by its own message is forgotten already.
        if self.sessions[slot].is(Phase::Gone) {
            return;
        }
        match self.sessions.charge(slot, self.now_millis, (allowance.said, bytes), &self.config.limits) {
            Heard::Fine => {}
            Heard::Near(limit) => self.counters.count_near(limit),
            Heard::TooMuch(millis) => {
                self.counters.rate_limited += 1;
                let refs = (protocol::NULL, protocol::NULL);
                self.reply_error_for_now(slot, refs, crate::topic::PHOENIX, "rate limited", millis);
            }
        }
    }

    /// Whether a connection may be read now. When not, [`super::Effect::Resume`] names it once it may. `ended` says
    /// that the peer has ended its side.
    pub fn may_read(&mut self, slot: Slot, ended: bool) -> bool {
        // Whatever phase it is in: what it says keeps its order.
        if self.inquiries.hold(slot) {
            return false;
        }
        if self.sessions.get(slot).is_none_or(|conn| !conn.is(Phase::Open)) {
            return true;
        }
        match self.sessions.pace(slot, self.now_millis, &self.config.limits) {
            Pace::Free => ended || !self.holds_reads_of(slot),
            Pace::Waits => false,
            Pace::WaitsUntil(at_millis) => {
                self.timers.set(at_millis, Deadline::Read(slot));
                false
            }
        }
    }
}
