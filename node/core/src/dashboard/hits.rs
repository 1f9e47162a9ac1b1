//! The limits that were reached, each with what it did about it, as the counters know them.

use crate::counters::{BusCounters, CloseReason, Counters, JoinRefusal, RefuseReason};

/// A limit of which it is counted that it was reached.
#[derive(Debug, Clone, Copy)]
pub struct Hit {
    /// Its key in the node's file, or the words of docs/LIMITS.md where it has none.
    pub limit: &'static str,
    /// Whether it turns away clients that have done nothing about it: then the node is not healthy.
    pub of_node: bool,
    count: fn(&Counters, &BusCounters) -> u64,
}

/// Shorthand of the table.
const fn hit(limit: &'static str, of_node: bool, count: fn(&Counters, &BusCounters) -> u64) -> Hit {
    Hit { limit, of_node, count }
}

const fn refused(counters: &Counters, reason: RefuseReason) -> u64 {
    counters.refused[reason as usize]
}

const fn joins(counters: &Counters, reason: JoinRefusal) -> u64 {
    counters.joins_refused[reason as usize]
}

const fn closed(counters: &Counters, reason: CloseReason) -> u64 {
    counters.closed[reason as usize]
}

/// The limits. Deadlines are none: clients that went away run into them.
pub const HITS: [Hit; 17] = [
    hit("limits.maxConnections", true, |c, _| refused(c, RefuseReason::Full)),
    hit("limits.handshakesPerSecond", true, |c, _| refused(c, RefuseReason::Rate)),
    hit("limits.memoryBudget", true, |c, _| {
        let refused = refused(c, RefuseReason::Memory) + refused(c, RefuseReason::MemoryLow);
        let closed = closed(c, CloseReason::Memory) + closed(c, CloseReason::Full);
        refused + closed + joins(c, JoinRefusal::Memory)
    }),
    hit("limits.maxRooms", true, |c, _| joins(c, JoinRefusal::TooManyRooms)),
    hit("rooms.maxMembers", true, |c, _| joins(c, JoinRefusal::RoomFull)),
    hit("open files", true, |c, _| c.accept_errors),
    hit("queues to and from the bus", true, |c, bus| c.bus_queue_dropped + bus.dropped_out + bus.dropped_in),
    hit("limits.maxConnectionsPerAddress", false, |c, _| refused(c, RefuseReason::AddressFull)),
    hit("limits.handshakesPerSecondPerAddress", false, |c, _| refused(c, RefuseReason::AddressRate)),
    hit("limits.joinsPerSecond", false, |c, _| joins(c, JoinRefusal::Rate)),
    hit("limits.joinsPerSecondPerAddress", false, |c, _| joins(c, JoinRefusal::AddressRate)),
    hit("limits.messagesPerSecond, limits.bytesPerSecond", false, |c, _| c.rate_limited),
    hit("limits.maxChannelsPerConnection", false, |c, _| joins(c, JoinRefusal::TooManyChannels)),
    hit("limits.maxFrameBytes", false, |c, _| closed(c, CloseReason::TooBig)),
    hit("limits.maxRequestHeadBytes, limits.maxTopicBytes", false, |c, _| {
        refused(c, RefuseReason::HeaderTooLarge) + joins(c, JoinRefusal::TopicTooLong)
    }),
    hit("limits.maxEventBytes, limits.maxPayloadBytes, limits.maxJsonDepth", false, |c, _| c.beyond_limit),
    hit("limits.sendQueueBytes, limits.sendQueueFrames", false, |c, _| closed(c, CloseReason::SlowConsumer)),
];

/// How often each of [`HITS`] was reached.
pub type Counts = [u64; HITS.len()];

/// How often each limit was reached since the process started.
#[must_use]
pub fn counts(counters: &Counters, bus: &BusCounters) -> Counts {
    HITS.map(|hit| (hit.count)(counters, bus))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_room_is_a_hit_of_the_node_and_a_long_message_is_one_of_a_client() {
        let mut counters = Counters::ZERO;
        counters.count_join_refused(JoinRefusal::RoomFull);
        counters.count_closed(CloseReason::TooBig);
        let bus = BusCounters { dropped_in: 3, ..BusCounters::default() };
        let counts = counts(&counters, &bus);
        let seen: Vec<_> =
            HITS.iter().zip(counts).filter(|(_, n)| *n > 0).map(|(h, n)| (h.limit, h.of_node, n)).collect();
        let expected = [
            ("rooms.maxMembers", true, 1),
            ("queues to and from the bus", true, 3),
            ("limits.maxFrameBytes", false, 1),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_is_no_limit_is_no_hit() {
        let mut counters = Counters::ZERO;
        for reason in [CloseReason::Peer, CloseReason::Lost, CloseReason::Idle, CloseReason::Drain] {
            counters.count_closed(reason);
        }
        for reason in [RefuseReason::Timeout, RefuseReason::Token, RefuseReason::NotFound] {
            counters.count_refused(reason);
        }
        assert_eq!(counts(&counters, &BusCounters::default()), [0; HITS.len()]);
    }
}
