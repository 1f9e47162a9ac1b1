//! How many connections each client address has on the node, whatever shards they are on.
//!
//! The shards share one table, which has an entry only while an address has connections that are counted: nothing is
//! counted while no limit asks for it. The table is bounded. Addresses beyond the bound are not counted, so that
//! somebody with very many addresses shuts nobody else out; the limits of the node hold for them all the same.

use std::{
    net::IpAddr,
    sync::{
        PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use hashbrown::{HashTable, hash_table::Entry};
use siphasher::sip::SipHasher13;

use crate::{
    sync::{Mutex, MutexGuard},
    visitors,
};

/// Most client addresses whose connections are counted.
pub const MAX_ADDRESSES: u32 = 262_144;
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

/// The connections of one address.
#[derive(Debug)]
struct Counted {
    address: ClientAddress,
    connections: u32,
}

/// The answer to a client that asks for a place among the connections of its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It has one, to be given back by [`Addresses::release`].
    Counted,
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
}

impl Addresses {
    /// A table without addresses. `key` must be random, since clients choose their addresses to some extent.
    #[must_use]
    pub fn new([first, second]: [u64; 2]) -> Self {
        let hasher = SipHasher13::new_with_keys(first, second);
        Self { stripes: std::array::from_fn(|_| Mutex::default()), hasher, count: AtomicU32::new(0) }
    }

    /// Takes one of the `most` places of an address.
    #[must_use]
    pub fn claim(&self, address: ClientAddress, most: u32) -> Place {
        let (hash, mut stripe) = self.stripe(address);
        match stripe.entry(hash, |counted| counted.address == address, |counted| self.hash(counted.address)) {
            Entry::Occupied(mut entry) => {
                let connections = &mut entry.get_mut().connections;
                if *connections >= most {
                    return Place::None;
                }
                *connections += 1;
                Place::Counted
            }
            Entry::Vacant(entry) => {
                if self.count.fetch_add(1, Relaxed) >= MAX_ADDRESSES {
                    self.count.fetch_sub(1, Relaxed);
                    return Place::Uncounted;
                }
                entry.insert(Counted { address, connections: 1 });
                Place::Counted
            }
        }
    }

    /// Gives a place back.
    pub fn release(&self, address: ClientAddress) {
        let (hash, mut stripe) = self.stripe(address);
        let Ok(mut entry) = stripe.find_entry(hash, |counted| counted.address == address) else { return };
        entry.get_mut().connections -= 1;
        if entry.get().connections == 0 {
            entry.remove();
            self.count.fetch_sub(1, Relaxed);
            if stripe.capacity() > 64 && stripe.len() < stripe.capacity() / 8 {
                let target = stripe.len() * 2;
                stripe.shrink_to(target, |counted| self.hash(counted.address));
            }
        }
    }

    /// Addresses that have connections which are counted.
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
                    let expected = if *has < most { Place::Counted } else { Place::None };
                    assert_eq!(table.claim(address, most), expected);
                    *has += u32::from(expected == Place::Counted);
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
            assert_eq!(table.claim(client(number), 1), Place::Counted);
        }
        assert_eq!(table.claim(client(MAX_ADDRESSES), 1), Place::Uncounted);
        assert_eq!(table.claim(client(0), 1), Place::None, "those within it are still held to the limit");
        (0..MAX_ADDRESSES).for_each(|number| table.release(client(number)));
        assert!(table.is_empty() && table.held_bytes() == 0);
    }
}
