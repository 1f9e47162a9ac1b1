//! Which connections may stay at a port for probes and scrapes, which anyone can reach without a token.
//!
//! Without bounds a few thousand silent connections would take the descriptors that clients need, and their request
//! heads would take memory. A full port makes room for the newest connection by ending the one that has waited for
//! longest since its last answer: probes are new and short, and connections that only occupy places are neither. The
//! same is done within one address, whose bound is lower: probes may share theirs with an attacker (the kubelet's,
//! where a pod uses the host's network or traffic is translated).

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
};

/// Bounds of one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at a time.
    pub connections: usize,
    /// Of these, connections of one address.
    pub per_address: usize,
    /// Milliseconds that a whole exchange may take, until the answer was taken: from the first byte of a request, or
    /// for the first request from the start of the connection. Single bytes do not prolong it.
    pub exchange_millis: u64,
    /// Milliseconds that a connection may be idle between an answer and the next request.
    pub idle_millis: u64,
    /// Longest request head in bytes.
    pub head_bytes: usize,
    /// Requests at a time on one connection of HTTP/2; none where that is not spoken.
    pub streams: Option<u32>,
}

/// Connections at a time.
const CONNECTIONS: usize = 128;
/// Of these, connections of one address.
const PER_ADDRESS: usize = 32;
/// A probe or a scrape takes milliseconds.
const EXCHANGE_MILLIS: u64 = 10_000;
/// Longer than the usual interval of a scrape, so that its connection is kept.
const IDLE_MILLIS: u64 = 35_000;
/// All connections together hold 2 MiB of heads.
const HEAD_BYTES: usize = 16 * 1024;

/// The bounds of the ports of a node and of the operator.
pub const BOUNDS: Bounds = Bounds {
    connections: CONNECTIONS,
    per_address: PER_ADDRESS,
    exchange_millis: EXCHANGE_MILLIS,
    idle_millis: IDLE_MILLIS,
    head_bytes: HEAD_BYTES,
    streams: None,
};

/// The connections of a port.
#[derive(Debug)]
pub struct Visitors {
    bounds: Bounds,
    here: HashMap<u64, Visitor>,
    /// A clock that counts events, so that it never stands still between two of them.
    clock: u64,
}

#[derive(Debug)]
struct Visitor {
    from: IpAddr,
    /// When it got its last answer, or else when it came.
    answered: u64,
}

/// The consequences of an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Names the new connection.
    pub id: u64,
    /// The connection to end for the new one, which is forgotten already.
    pub ended: Option<u64>,
}

impl Visitors {
    /// A port without connections.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, here: HashMap::new(), clock: 0 }
    }

    /// Connections now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.here.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.here.is_empty()
    }

    /// Takes a new connection. It always gets a place.
    pub fn arrive(&mut self, from: IpAddr) -> Arrival {
        let from = source(from);
        let of_address = self.here.values().filter(|other| other.from == from).count();
        let ended = if of_address >= self.bounds.per_address {
            self.longest_waiting(|other| other.from == from)
        } else if self.here.len() >= self.bounds.connections {
            self.longest_waiting(|_| true)
        } else {
            None
        };
        ended.map(|id| self.here.remove(&id));
        let id = self.tick();
        self.here.insert(id, Visitor { from, answered: id });
        Arrival { id, ended }
    }

    /// Records that a connection took a whole answer.
    pub fn answered(&mut self, id: u64) {
        let now = self.tick();
        if let Some(visitor) = self.here.get_mut(&id) {
            visitor.answered = now;
        }
    }

    /// Records that a connection is gone.
    pub fn leave(&mut self, id: u64) {
        self.here.remove(&id);
    }

    fn longest_waiting(&self, which: impl Fn(&Visitor) -> bool) -> Option<u64> {
        let candidates = self.here.iter().filter(|(_, visitor)| which(visitor));
        candidates.min_by_key(|(_, visitor)| visitor.answered).map(|(id, _)| *id)
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

/// Cuts an address to what counts as one client: of IPv6 the network of 64 bits, which a host has for itself; of IPv4 the
/// address, also where a socket of both families shows it as IPv6.
pub(crate) fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

/// How long a connection may go on, by what it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    bounds: Bounds,
    /// Whether a request or its answer is under way; otherwise the connection is idle.
    busy: bool,
    /// Since when, in milliseconds.
    since: u64,
}

impl Patience {
    /// The state of a connection that came and has to send a request.
    #[must_use]
    pub const fn new(bounds: Bounds, now_millis: u64) -> Self {
        Self { bounds, busy: true, since: now_millis }
    }

    /// The same of a connection of HTTP/2. Its frames do not tell where a request begins, and its clients answer for the
    /// protocol's sake after they were answered: it may be silent for as long as one that is idle.
    #[must_use]
    pub const fn of_http2(bounds: Bounds, now_millis: u64) -> Self {
        let longest = if bounds.exchange_millis > bounds.idle_millis {
            bounds.exchange_millis
        } else {
            bounds.idle_millis
        };
        Self::new(Bounds { exchange_millis: longest, ..bounds }, now_millis)
    }

    /// Records input. Returns whether the deadline changed.
    pub const fn on_input(&mut self, now_millis: u64) -> bool {
        let begins = !self.busy;
        if begins {
            (self.busy, self.since) = (true, now_millis);
        }
        begins
    }

    /// Records that an answer was taken as a whole. Returns whether the deadline changed.
    pub const fn on_answered(&mut self, now_millis: u64) -> bool {
        (self.busy, self.since) = (false, now_millis);
        true
    }

    /// When the connection is to be ended, in milliseconds.
    #[must_use]
    pub const fn deadline(&self) -> u64 {
        let length = if self.busy { self.bounds.exchange_millis } else { self.bounds.idle_millis };
        self.since.saturating_add(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn an_address_that_has_its_share_loses_whom_it_kept_waiting_for_longest() {
        let mut visitors = Visitors::new(BOUNDS);
        let other = visitors.arrive(address(2)).id;
        let first: Vec<_> = (0..BOUNDS.per_address).map(|_| visitors.arrive(address(1)).id).collect();
        visitors.answered(first[0]);
        let probe = visitors.arrive(address(1));
        assert_eq!(probe.ended, Some(first[1]), "the first was answered since");
        assert_eq!(visitors.len(), BOUNDS.per_address + 1);
        visitors.leave(probe.id);
        assert_eq!(visitors.arrive(address(1)).ended, None);
        assert!(visitors.here.contains_key(&other), "another address is not asked to make room");
    }

    #[test]
    fn a_full_port_makes_room_whoever_comes() {
        let mut visitors = Visitors::new(BOUNDS);
        let mut ids = Vec::new();
        for number in 0..BOUNDS.connections {
            ids.push(visitors.arrive(address((number / 10) as u8)).id);
        }
        visitors.answered(ids[0]);
        assert_eq!(visitors.arrive(address(200)).ended, Some(ids[1]));
        assert_eq!(visitors.len(), BOUNDS.connections);
    }

    #[test]
    fn one_host_of_ipv6_has_one_share_whatever_address_it_takes() {
        let mut visitors = Visitors::new(BOUNDS);
        for last in 0..BOUNDS.per_address as u16 {
            assert_eq!(visitors.arrive(Ipv6Addr::new(0xfd00, 1, 2, 3, last, 0, 0, last).into()).ended, None);
        }
        assert!(visitors.arrive(Ipv6Addr::new(0xfd00, 1, 2, 3, 9, 9, 9, 9).into()).ended.is_some());
        assert_eq!(visitors.arrive(Ipv6Addr::new(0xfd00, 1, 2, 4, 9, 9, 9, 9).into()).ended, None);
        let mapped: Ipv6Addr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(source(mapped.into()), address(1));
        assert_ne!(source(mapped.into()), source("::ffff:10.0.0.2".parse::<Ipv6Addr>().unwrap().into()));
    }

    #[test]
    fn single_bytes_prolong_nothing_and_an_answer_does() {
        let mut patience = Patience::new(BOUNDS, 0);
        for now in (0..BOUNDS.exchange_millis).step_by(1_000) {
            patience.on_input(now);
            assert_eq!(patience.deadline(), BOUNDS.exchange_millis);
        }
        patience.on_answered(9_000);
        assert_eq!(patience.deadline(), 9_000 + BOUNDS.idle_millis);
        assert!(patience.on_input(20_000));
        assert!(!patience.on_input(25_000));
        assert_eq!(patience.deadline(), 20_000 + BOUNDS.exchange_millis);
        let mut patience = Patience::of_http2(BOUNDS, 0);
        patience.on_answered(1_000);
        patience.on_input(1_001);
        assert_eq!(patience.deadline(), 1_001 + BOUNDS.idle_millis, "it acknowledged the answer");
    }
}
