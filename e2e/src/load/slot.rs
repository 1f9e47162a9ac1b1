//! The state of one connection, and phoenix.js' delays.

use super::ledger::Ledger;
use socket2::Socket;

/// phoenix.js' reconnect delays by attempt, milliseconds (assets/js/phoenix/socket.js, reconnectAfterMs).
const RECONNECT_MS: [u64; 9] = [10, 50, 100, 150, 200, 250, 500, 1000, 2000];
/// The delay of each further attempt, milliseconds.
const RECONNECT_LAST_MS: u64 = 5000;
/// phoenix.js' delays before a refused join is tried again, milliseconds (rejoinAfterMs).
const REJOIN_MS: [u64; 3] = [1000, 2000, 5000];
/// The delay of each further join, milliseconds.
const REJOIN_LAST_MS: u64 = 10_000;

/// How long to wait before connecting again; `attempt` counts from 0 since the last open socket.
pub fn reconnect_delay_ms(attempt: usize) -> u64 {
    RECONNECT_MS.get(attempt).copied().unwrap_or(RECONNECT_LAST_MS)
}

/// How long to wait before joining again; `attempt` counts from 0.
pub fn rejoin_delay_ms(attempt: usize) -> u64 {
    REJOIN_MS.get(attempt).copied().unwrap_or(REJOIN_LAST_MS)
}

/// The phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has no socket: before its time, waiting to reconnect, or given up.
    Closed,
    /// connect(2) is under way.
    Connecting,
    /// The upgrade request is sent.
    Upgrading,
    /// It is on the way into its room.
    Joining,
    /// The join was refused or the channel ended; the socket is open.
    Left,
    /// It is in its room.
    Joined,
    /// It is in its room, and does not read.
    Slow,
}

/// One connection: 48 bytes while it is in its room and nothing is incomplete.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) socket: Option<Socket>,
    /// Number of the connection in the whole run.
    pub(super) connection: u32,
    /// Place in its room's list of members.
    pub(super) place: u32,
    /// Changes whenever timers that were set earlier no longer concern the slot; it is also the reference of a join.
    pub(super) generation: u16,
    pub(super) phase: Phase,
    flags: u8,
    pub(super) ledger: Ledger,
    extra: Option<Box<Extra>>,
}

/// State that is needed only on the way into the room, or while something is half read or half sent.
#[derive(Debug, Default)]
pub(super) struct Extra {
    /// Bytes of a frame that has not come in whole.
    pub(super) partial: Vec<u8>,
    /// Bytes of a message in a stream of frames that has not come in whole.
    pub(super) stream: Vec<u8>,
    /// Bytes that the kernel has not taken yet.
    pub(super) pending: Vec<u8>,
    /// When the socket was opened, ns.
    pub(super) opened_at: u64,
    /// When the connection ended after it had been joined; ns.
    pub(super) down_at: Option<u64>,
    /// Sockets opened in a row without an upgrade.
    pub(super) attempts: u8,
    /// Joins refused in a row.
    pub(super) joins: u8,
}

/// Whether the first attempt has succeeded or failed.
pub(super) const DECIDED: u8 = 1;
/// Whether the connection was in its room at some time.
pub(super) const JOINED_ONCE: u8 = 2;
/// Whether a heartbeat is not answered yet.
pub(super) const HEARTBEAT: u8 = 4;

impl Slot {
    pub(super) fn new(connection: u32) -> Slot {
        Slot {
            socket: None,
            connection,
            place: 0,
            generation: 0,
            phase: Phase::Closed,
            flags: 0,
            ledger: Ledger::default(),
            extra: None,
        }
    }

    pub(super) fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Sets or clears a flag; returns its former value.
    pub(super) fn set(&mut self, flag: u8, on: bool) -> bool {
        let was = self.is(flag);
        self.flags = if on { self.flags | flag } else { self.flags & !flag };
        was
    }

    /// The state of what is incomplete, if anything is.
    pub(super) fn extra(&self) -> Option<&Extra> {
        self.extra.as_deref()
    }

    pub(super) fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// Gives back the state that a connection in its room does not need.
    pub(super) fn slim(&mut self) {
        if let Some(extra) = &self.extra
            && matches!(self.phase, Phase::Joined | Phase::Slow)
            && extra.partial.is_empty()
            && extra.stream.is_empty()
            && extra.pending.is_empty()
        {
            self.extra = None;
        }
    }

    /// The join's reference.
    pub(super) fn join_reference(&self) -> u32 {
        self.generation.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_in_its_room_is_small() {
        assert_eq!(size_of::<Slot>(), 48);
        let mut slot = Slot::new(7);
        slot.extra_mut().partial.push(1);
        slot.phase = Phase::Joined;
        slot.slim();
        assert!(slot.extra().is_some());
        slot.extra_mut().partial.clear();
        slot.slim();
        assert!(slot.extra().is_none());
    }

    #[test]
    fn flags_are_independent() {
        let mut slot = Slot::new(7);
        assert!(!slot.set(HEARTBEAT, true));
        assert!(slot.is(HEARTBEAT) && !slot.is(DECIDED));
        assert!(slot.set(HEARTBEAT, false));
        assert!(!slot.is(HEARTBEAT));
    }
}
