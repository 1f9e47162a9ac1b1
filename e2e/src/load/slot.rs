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

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No socket: before its time, waiting to reconnect, or given up.
    Closed,
    /// connect(2) is under way.
    Connecting,
    /// The upgrade request is sent.
    Upgrading,
    /// The join is sent.
    Joining,
    /// The join was refused or the channel ended; the socket is open.
    Left,
    /// In its room.
    Joined,
}

pub(super) struct Slot {
    pub(super) socket: Option<Socket>,
    /// Bytes of a frame that is not all here.
    pub(super) partial: Vec<u8>,
    /// Bytes the kernel did not take yet.
    pub(super) pending: Vec<u8>,
    pub(super) ledger: Ledger,
    /// When the socket was opened, ns.
    pub(super) opened_at: u64,
    /// When the connection, having been joined, ended; ns.
    pub(super) down_at: Option<u64>,
    /// Number of the connection in the whole run.
    pub(super) connection: u32,
    /// Changes whenever timers set earlier no longer concern the slot.
    pub(super) generation: u32,
    pub(super) join_reference: u32,
    /// Reference of the heartbeat not answered yet, or 0.
    pub(super) heartbeat_reference: u32,
    /// Place in its room's list of members.
    pub(super) place: u32,
    reference: u32,
    pub(super) attempts: u8,
    pub(super) joins: u8,
    pub(super) phase: Phase,
    /// Whether the first attempt was decided, one way or the other.
    pub(super) decided: bool,
    pub(super) joined_once: bool,
}

impl Slot {
    pub(super) fn new(connection: u32) -> Slot {
        Slot {
            socket: None,
            partial: Vec::new(),
            pending: Vec::new(),
            ledger: Ledger::default(),
            opened_at: 0,
            down_at: None,
            connection,
            generation: 0,
            join_reference: 0,
            heartbeat_reference: 0,
            place: 0,
            reference: 0,
            attempts: 0,
            joins: 0,
            phase: Phase::Closed,
            decided: false,
            joined_once: false,
        }
    }

    /// The next message reference, counted from 1.
    pub(super) fn next_reference(&mut self) -> u32 {
        self.reference = self.reference.wrapping_add(1).max(1);
        self.reference
    }
}
