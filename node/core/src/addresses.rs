//! How many connections each client address has on the node, and how often it connects and joins, whatever shards the
//! connections are on.
//!
//! The shards share one table, which has an entry only while an address has connections that are counted, or has lately
//! done something that is: nothing is counted while no limit asks for it. A shard reads the clock once a turn, so that the
//! shards' times differ: what is charged here is charged at the latest time that any of them said, for which an allowance
//! is never smaller than it should be. The table is bounded. Addresses beyond the bound are not counted, so that somebody
//! with very many addresses shuts nobody else out; the limits of the node hold for them all the same.

use std::{
    net::IpAddr,
    sync::{
        PoisonError,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use hashbrown::{HashTable, hash_table::Entry};
use siphasher::sip::SipHasher13;

use crate::{
    counters::near,
    gcra,
    sync::{Mutex, MutexGuard},
    visitors,
};

/// Most client addresses that are counted.
pub const MAX_ADDRESSES: u32 = 262_144;
/// Entries of a part for which place is kept although they are not needed at the moment.
const KEPT: usize = 64;
/// Parts of the table, each with a lock of its own.
const STRIPES: usize = 16;
/// Bytes of an entry, twice, because tables grow to the double.
const ADDRESS_BYTES: u64 = 2 * size_of::<Counted>() as u64;

/// What counts as one client: an IPv4 address, or an IPv6 network of 64 bits, which a host has for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(u64);

impl ClientAddress {
    /// The client that has this address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match visitors::source(address) {
            // The first half of these addresses is of a block that nobody gets (RFC 4291 section 2.4).
            IpAddr::V4(v4) => Self(1 << 32 | u64::from(v4.to_bits())),
            IpAddr::V6(v6) => Self((v6.to_bits() >> 64) as u64),
        }
    }
}

/// One address.
#[derive(Debug)]
struct Counted {
    address: ClientAddress,
    connections: u32,
    /// The buckets by [`Deed`].
    buckets: [u64; 2],
}

/// Something that an address may do so often per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Deed {
    /// To connect.
    Handshake,
    /// To join a topic.
    Join,
}

/// The answer to a client that asks for a place among the connections of its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It has one, to be given back by [`Addresses::release`]. The address has come near its limit by it, or has not.
    Counted {
        /// Whether it has.
        near: bool,
    },
    /// The table is full: the connection is not counted.
    Uncounted,
    /// The address has as many connections as it may.
    None,
}

/// The addresses that have connections.
#[derive(Debug)]
pub struct Addresses {
    stripes: [Mutex<HashTable<Counted>>; STRIPES],
    hasher: SipHasher13,
    count: AtomicU32,
    /// The bucket of all connects of the node.
    handshakes: AtomicU64,
    /// The latest time of a shard at which something was charged, in microseconds.
    latest_micros: AtomicU64,
    /// The part of the table that is swept next.
    next_sweep: AtomicUsize,
}

impl Addresses {
    /// A table without addresses. `key` must be random, since clients choose their addresses to some extent.
    #[must_use]
    pub fn new([first, second]: [u64; 2]) -> Self {
        let hasher = SipHasher13::new_with_keys(first, second);
        Self {
            stripes: std::array::from_fn(|_| Mutex::default()),
            hasher,
            count: AtomicU32::new(0),
            handshakes: AtomicU64::new(0),
            latest_micros: AtomicU64::new(0),
            next_sweep: AtomicUsize::new(0),
        }
    }

    /// Takes one of the `most` places of an address.
    #[must_use]
    pub fn claim(&self, address: ClientAddress, most: u32) -> Place {
        let claim = |counted: &mut Counted| {
            if counted.connections >= most {
                return Place::None;
            }
            counted.connections += 1;
            Place::Counted { near: u64::from(counted.connections) == near(most.into()) }
        };
        self.change(address, claim).unwrap_or(Place::Uncounted)
    }

    /// Charges an address for a deed of which it may do `rate` per second. True when it comes near that.
    ///
    /// # Errors
    /// When it may not do it now: the milliseconds until it may.
    pub(crate) fn charge(
        &self,
        address: ClientAddress,
        deed: Deed,
        now_millis: u64,
        rate: u32,
    ) -> Result<bool, u64> {
        let now_micros = self.latest(now_millis);
        let charge = |counted: &mut Counted| -> Result<bool, u64> {
            let bucket = &mut counted.buckets[deed as usize];
            let charged = gcra::charge(*bucket, now_micros, rate)?;
            *bucket = charged.micros;
            Ok(charged.near)
        };
        self.change(address, charge).unwrap_or(Ok(false))
    }

    /// Charges the node for a connect, of which it takes `rate` per second. True when it comes near that.
    ///
    /// # Errors
    /// When it takes none now: the milliseconds until it does.
    pub(crate) fn charge_node(&self, now_millis: u64, rate: u32) -> Result<bool, u64> {
        let now_micros = self.latest(now_millis);
        let charged = |bucket| gcra::charge(bucket, now_micros, rate);
        let charge = |bucket| charged(bucket).ok().map(|charged| charged.micros);
        match self.handshakes.fetch_update(Relaxed, Relaxed, charge) {
            Ok(before) => charged(before).map(|charged| charged.near),
            Err(before) => charged(before).map(|charged| charged.near),
        }
    }

    /// The latest time that a shard said, in microseconds.
    fn latest(&self, now_millis: u64) -> u64 {
        let now_micros = now_millis * 1_000;
        self.latest_micros.fetch_max(now_micros, Relaxed).max(now_micros)
    }

    /// Changes the entry of an address. None when it has none and the table is full.
    fn change<R>(&self, address: ClientAddress, change: impl FnOnce(&mut Counted) -> R) -> Option<R> {
        let (hash, mut stripe) = self.stripe(address);
        match stripe.entry(hash, |counted| counted.address == address, |counted| self.hash(counted.address)) {
            Entry::Occupied(mut entry) => Some(change(entry.get_mut())),
            Entry::Vacant(entry) => {
                if self.count.fetch_add(1, Relaxed) >= MAX_ADDRESSES {
                    self.count.fetch_sub(1, Relaxed);
                    return None;
                }
                Some(change(entry.insert(Counted { address, connections: 0, buckets: [0; 2] }).into_mut()))
            }
        }
    }

    /// Forgets, in one part of the table, the addresses that have no connections and empty buckets. To be called over and
    /// over.
    pub(crate) fn sweep(&self, now_millis: u64) {
        if self.is_empty() {
            return;
        }
        let next = self.next_sweep.fetch_add(1, Relaxed) % STRIPES;
        let mut stripe = self.stripes[next].lock().unwrap_or_else(PoisonError::into_inner);
        let before = stripe.len();
        let now_micros = now_millis * 1_000;
        stripe.retain(|counted| {
            counted.connections > 0 || counted.buckets.iter().any(|bucket| *bucket > now_micros)
        });
        // There are at most `MAX_ADDRESSES`.
        self.count.fetch_sub((before - stripe.len()) as u32, Relaxed);
        self.trim(&mut stripe);
    }

    /// Gives memory of a past peak back.
    fn trim(&self, stripe: &mut HashTable<Counted>) {
        if stripe.capacity() > KEPT && stripe.len() < stripe.capacity() / 8 {
            let target = stripe.len() * 2;
            stripe.shrink_to(target, |counted| self.hash(counted.address));
        }
    }

    /// Gives a place back.
    pub fn release(&self, address: ClientAddress) {
        let (hash, mut stripe) = self.stripe(address);
        let Ok(mut entry) = stripe.find_entry(hash, |counted| counted.address == address) else { return };
        entry.get_mut().connections -= 1;
        let Counted { connections, buckets, .. } = *entry.get();
        if connections == 0 && buckets == [0; 2] {
            entry.remove();
            self.count.fetch_sub(1, Relaxed);
            self.trim(&mut stripe);
        }
    }

    /// Addresses that are counted.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.count.load(Relaxed)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        u64::from(self.len()) * ADDRESS_BYTES
    }

    fn hash(&self, address: ClientAddress) -> u64 {
        self.hasher.hash(&address.0.to_ne_bytes())
    }

    fn stripe(&self, address: ClientAddress) -> (u64, MutexGuard<'_, HashTable<Counted>>) {
        let hash = self.hash(address);
        // The table inside uses the low bits for the bucket and the top seven for the tag.
        let stripe = (hash >> 32) as usize % STRIPES;
        (hash, self.stripes[stripe].lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, net::Ipv6Addr};

    use super::*;

    fn of(text: &str) -> ClientAddress {
        ClientAddress::of(text.parse().unwrap())
    }

    #[test]
    fn a_host_of_ipv6_is_one_client_and_each_address_of_ipv4_another() {
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_ne!(of("::1"), of("0.0.0.1"));
    }

    #[test]
    fn the_table_says_what_a_simple_count_says() {
        arbtest::arbtest(|u| {
            let (table, mut model) = (Addresses::new([1, 2]), HashMap::<u8, u32>::new());
            let most = u.int_in_range(1..=3)?;
            while !u.is_empty() {
                let number = u.int_in_range(0..=5u8)?;
                let address = ClientAddress::of([10, 0, 0, number].into());
                let has = model.entry(number).or_default();
                if u.arbitrary()? {
                    let expected = if *has < most {
                        Place::Counted { near: *has + 1 == near(most.into()) as u32 }
                    } else {
                        Place::None
                    };
                    assert_eq!(table.claim(address, most), expected);
                    *has += u32::from(expected != Place::None);
                } else if *has > 0 {
                    table.release(address);
                    *has -= 1;
                }
                assert_eq!(table.len() as usize, model.values().filter(|has| **has > 0).count());
            }
            Ok(())
        });
    }

    #[test]
    fn beyond_the_bound_nobody_is_counted_and_nobody_refused() {
        let table = Addresses::new([1, 2]);
        let client =
            |number: u32| ClientAddress::of(Ipv6Addr::from_bits(u128::from(number) << 64 | 2 << 112).into());
        for number in 0..MAX_ADDRESSES {
            assert_eq!(table.claim(client(number), 1), Place::Counted { near: true });
        }
        assert_eq!(table.claim(client(MAX_ADDRESSES), 1), Place::Uncounted);
        assert_eq!(table.claim(client(0), 1), Place::None, "those within it are still held to the limit");
        (0..MAX_ADDRESSES).for_each(|number| table.release(client(number)));
        assert!(table.is_empty() && table.held_bytes() == 0);
    }
    #[test]
    fn an_address_with_full_buckets_is_remembered_until_they_are_empty() {
        let table = Addresses::new([1, 2]);
        let one = of("192.0.2.1");
        assert!(matches!(table.claim(one, 9), Place::Counted { .. }));
        assert_eq!((0..5).filter(|_| table.charge(one, Deed::Handshake, 0, 1).is_ok()).count(), 5);
        assert_eq!(table.charge(one, Deed::Handshake, 0, 1), Err(1_000));
        assert_eq!(table.charge(one, Deed::Join, 0, 1), Ok(false), "each deed has a bucket of its own");
        assert_eq!(table.charge(of("192.0.2.2"), Deed::Handshake, 0, 1), Ok(false));
        table.release(one);
        (0..STRIPES).for_each(|_| table.sweep(4_999));
        assert_eq!(table.len(), 1);
        assert!(table.charge(one, Deed::Handshake, 1_000, 1).is_ok());
        (0..STRIPES).for_each(|_| table.sweep(60_000));
        assert_eq!((table.len(), table.held_bytes()), (0, 0));
    }

    #[test]
    fn the_node_has_one_bucket_for_all() {
        let table = Addresses::new([1, 2]);
        let taken: Vec<_> = (0..51).map(|_| table.charge_node(0, 10)).collect();
        assert_eq!(taken.iter().filter(|taken| **taken == Ok(true)).count(), 1, "at 80 percent");
        assert_eq!((taken[39], taken[50]), (Ok(true), Err(100)));
        assert_eq!(table.charge_node(100, 10), Ok(false));
    }

    #[test]
    fn a_shard_whose_time_is_older_is_refused_nothing_for_that() {
        let table = Addresses::new([1, 2]);
        let one = of("192.0.2.1");
        for now in [1_000, 990, 1_000, 930, 1_000] {
            assert!(table.charge_node(now, 1).is_ok(), "five seconds' worth come at once");
            assert!(table.charge(one, Deed::Join, now, 1).is_ok());
        }
        assert_eq!(table.charge_node(990, 1), Err(1_000));
        assert_eq!(table.charge(one, Deed::Join, 990, 1), Err(1_000));
    }
}
