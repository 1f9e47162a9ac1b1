//! What a worker does on schedule: publishes, heartbeats, and ending connections.

use super::dialect::{Channel, Publish};
use super::slot::{HEARTBEAT, Phase, reconnect_delay_ms};
use super::stamp::Stamp;
use super::wire;
use super::worker::Worker;
use std::sync::atomic::Ordering;

/// Most turns taken at once, so that a late worker goes on reading.
const TURNS_AT_ONCE: usize = 256;
/// How many of a room's latest publishes are remembered with their senders, to excuse those whose sender's connection
/// ends.
const RECENT: usize = 256;

impl Worker {
    /// When this worker's next turn is due, if it has one in this segment.
    pub(super) fn turn_due(&self) -> Option<u64> {
        self.segment.due(self.next_turn.saturating_sub(self.segment.number.into()))
    }

    pub(super) fn turns_due(&mut self) {
        for _ in 0..TURNS_AT_ONCE {
            let Some(due) = self.turn_due() else { return };
            let (room, worker) = self.shared.plan.publish(self.next_turn);
            if worker == self.id && due > self.now {
                return;
            }
            self.next_turn += 1;
            if worker == self.id {
                self.publish(room, due);
            }
        }
    }

    /// Lets one member of a room send its publishes, all in one write.
    fn publish(&mut self, room: u32, due: u64) {
        let burst = self.shared.settings.burst_size;
        let local = self.shared.plan.local_room(room);
        let Some(local) = self.rooms.get_mut(local) else { return };
        if local.members.is_empty() {
            self.stats.counters.unsent += u64::from(burst);
            return;
        }
        local.cursor = (local.cursor + 1) % local.members.len();
        let sender = local.members[local.cursor];
        let slot = &mut self.slots[sender as usize];
        let dialect = &self.shared.dialect;
        let mut mask = self.reference ^ self.now as u32;
        self.frame.clear();
        self.shared.published.fetch_add(burst.into(), Ordering::SeqCst);
        for _ in 0..burst {
            let number = self.shared.rooms[room as usize].number();
            if local.recent.len() == RECENT {
                local.recent.pop_front();
            }
            local.recent.push_back((number, sender));
            if !dialect.echoes() {
                slot.ledger.excuse(number);
                self.stats.counters.unechoed += 1;
            }
            self.reference = self.reference.wrapping_add(1).max(1 << 16);
            self.message.clear();
            dialect.publish(
                &mut self.message,
                &Publish {
                    channel: Channel { topic: &local.topic, join: slot.join_reference() },
                    reference: self.reference,
                    stamp: Stamp { run: self.shared.run, number, intended_ns: due, sender: slot.connection },
                    size: self.shared.settings.options.payload,
                },
            );
            mask = mask.wrapping_mul(0x9e37_79b9).wrapping_add(1);
            wire::encode(&mut self.frame, dialect.opcode(), &self.message, mask);
        }
        self.stats.counters.published += u64::from(burst);
        self.lag.saturating_record(self.shared.now().saturating_sub(due));
        self.send_frame(sender);
    }

    /// Sends each joined connection's heartbeat once per interval, spread evenly over it.
    pub(super) fn heartbeats_due(&mut self) {
        let interval = self.shared.settings.heartbeat_ns;
        if interval == 0 {
            return;
        }
        let count = self.slots.len() as u64;
        let target = (u128::from(self.now) * u128::from(count) / u128::from(interval)) as u64;
        while self.next_heartbeat < target {
            let slot = (self.next_heartbeat % count) as u32;
            self.next_heartbeat += 1;
            self.heartbeat(slot);
        }
    }

    fn heartbeat(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if !matches!(slot.phase, Phase::Joined | Phase::Slow) {
            return;
        }
        self.message.clear();
        if !self.shared.dialect.heartbeat(&mut self.message, self.reference) {
            return;
        }
        if slot.set(HEARTBEAT, true) && slot.phase == Phase::Joined {
            self.end(index, 1006, "heartbeat timeout");
            return;
        }
        self.reference = self.reference.wrapping_add(1).max(1 << 16);
        self.stats.counters.heartbeats += 1;
        self.send_message(index);
    }

    /// Ends this worker's part of the connections that are to end by now.
    pub(super) fn churn_due(&mut self) {
        let rate = self.shared.settings.churn_rate;
        if rate <= 0.0 || self.segment.number == 0 {
            return;
        }
        let share = self.slots.len() as f64 / f64::from(self.shared.plan.connections);
        let until = self.now.min(self.segment.until);
        let target = (until.saturating_sub(self.segment.from) as f64 / 1e9 * rate * share) as u64;
        while self.churned < target {
            let index = (self.churned % self.slots.len() as u64) as u32;
            self.churned += 1;
            if self.slots[index as usize].phase == Phase::Joined {
                self.account(index, true);
                self.send(index, wire::CLOSE, &1000u16.to_be_bytes());
                self.drop_socket(index);
                self.stats.counters.cut += 1;
                let generation = self.slots[index as usize].generation;
                self.at(self.now + reconnect_delay_ms(0) * 1_000_000, index, generation);
            }
        }
    }

    /// Cuts every connection, as a network does: without a close frame. All come back after phoenix.js' first delay.
    pub(super) fn cut_all(&mut self) {
        let back_at = self.now + reconnect_delay_ms(0) * 1_000_000;
        for index in 0..self.slots.len() as u32 {
            let slot = &self.slots[index as usize];
            if slot.phase == Phase::Joined {
                self.account(index, true);
                self.stats.counters.cut += 1;
            }
            let slot = &self.slots[index as usize];
            if let Some(socket) = &slot.socket {
                // Otherwise a close would send the rest and leave a port in TIME_WAIT for each connection.
                if let Err(error) = socket.set_linger(Some(std::time::Duration::ZERO)) {
                    self.stats.error(&format!("linger: {error}"));
                }
                self.drop_socket(index);
                let slot = &mut self.slots[index as usize];
                let generation = slot.generation;
                slot.extra_mut().attempts = 1;
                self.at(back_at, index, generation);
            }
        }
    }
}
