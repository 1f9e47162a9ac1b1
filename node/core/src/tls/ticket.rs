//! Tickets with which a client resumes a session on any node that has the same keys (RFC 5077, section 4, in form).
//!
//! A key of the fleet never seals a ticket itself: each ticket has a key of its own, made of that of the fleet, the period of
//! time that the ticket was made in, and a salt. So no nonce is used twice, and a ticket ends with the period after its own.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hmac,
};
use zeroize::Zeroizing;

use super::keys::{KeyList, current};

/// Time in milliseconds after which tickets are made with another key. A ticket is good for that time at least, and for twice
/// as long at most.
pub const PERIOD_MILLIS: u64 = 12 * 3_600_000;
/// Bytes of a salt.
const SALT_BYTES: usize = 16;
/// Bytes of the number of a period.
const PERIOD_BYTES: usize = 8;
/// What the keys are for.
const PURPOSE: &[u8] = b"channelcluster tls ticket 1";

/// The keys of a fleet's tickets, each with the seconds since 1970 from which on it counts.
pub struct TicketKeys(Vec<(u64, TicketKey)>);

impl std::fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TicketKeys")
    }
}

impl TicketKeys {
    /// The tickets of one key, which may have any length. With another `context` they are other tickets.
    #[must_use]
    pub fn one(key: &[u8], context: &[u8]) -> Self {
        Self(vec![(0, TicketKey::new(key, context))])
    }

    /// The tickets of a list of keys, of which the one that counts seals and all of them open.
    #[must_use]
    pub fn of(list: &KeyList, context: &[u8]) -> Self {
        let dated = list.keys().iter();
        Self(dated.map(|dated| (dated.from, TicketKey::new(dated.key.as_bytes(), context))).collect())
    }

    /// A ticket for what a session is resumed from, at a time in milliseconds since 1970. No other ticket has this salt. `None`
    /// when it cannot be made.
    #[must_use]
    pub fn seal(&self, session: &[u8], unix_millis: u64, salt: [u8; SALT_BYTES]) -> Option<Vec<u8>> {
        let (_, key) = self.0.get(current(&self.0, |(from, _)| *from, unix_millis / 1_000))?;
        key.seal(session, unix_millis, salt)
    }

    /// What a session is resumed from, by a ticket that a client says it has. `None` for one that is of none of these keys, was
    /// changed, or is not of this period, the one before, or the next by a clock that goes ahead.
    #[must_use]
    pub fn open(&self, ticket: &[u8], unix_millis: u64) -> Option<Vec<u8>> {
        self.0.iter().rev().find_map(|(_, key)| key.open(ticket, unix_millis))
    }
}

/// One key of a fleet. AWS-LC wipes it when it is dropped.
struct TicketKey(hmac::Key);

impl TicketKey {
    fn new(key: &[u8], context: &[u8]) -> Self {
        let secret = Zeroizing::new([key, context].concat());
        Self(hmac::Key::new(hmac::HMAC_SHA256, &secret))
    }

    fn seal(&self, session: &[u8], unix_millis: u64, salt: [u8; SALT_BYTES]) -> Option<Vec<u8>> {
        let head = [&(unix_millis / PERIOD_MILLIS).to_be_bytes()[..], &salt].concat();
        let mut sealed = session.to_vec();
        self.key(&head)?.seal_in_place_append_tag(nonce(), Aad::from(&head), &mut sealed).ok()?;
        Some([head, sealed].concat())
    }

    fn open(&self, ticket: &[u8], unix_millis: u64) -> Option<Vec<u8>> {
        let (head, sealed) = ticket.split_at_checked(PERIOD_BYTES + SALT_BYTES)?;
        let period = u64::from_be_bytes(*head.first_chunk()?);
        if period.abs_diff(unix_millis / PERIOD_MILLIS) > 1 {
            return None;
        }
        let mut session = sealed.to_vec();
        let length = self.key(head)?.open_in_place(nonce(), Aad::from(head), &mut session).ok()?.len();
        session.truncate(length);
        Some(session)
    }

    fn key(&self, head: &[u8]) -> Option<LessSafeKey> {
        let made = hmac::sign(&self.0, &[PURPOSE, head].concat());
        Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, made.as_ref()).ok()?))
    }
}

/// Each key seals one ticket.
const NONCE: [u8; 12] = [0; 12];

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key(NONCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn key(secret: &str) -> TicketKeys {
        TicketKeys::one(secret.as_bytes(), b"")
    }

    fn keys(list: &str) -> TicketKeys {
        TicketKeys::of(&KeyList::parse(list).unwrap(), b"")
    }

    #[test]
    fn a_ticket_is_opened_by_every_node_with_the_secret_in_its_time() {
        let ticket = key("fleet").seal(b"session", NOW, [7; SALT_BYTES]).unwrap();
        for later in [0, 1, PERIOD_MILLIS] {
            assert_eq!(key("fleet").open(&ticket, NOW + later).as_deref(), Some(&b"session"[..]));
        }
        assert!(key("fleet").open(&ticket, NOW - PERIOD_MILLIS).is_some(), "a clock that goes behind");
        for time in [NOW + 2 * PERIOD_MILLIS, NOW - 2 * PERIOD_MILLIS, 0, u64::MAX] {
            assert_eq!(key("fleet").open(&ticket, time), None);
        }
        assert_eq!(key("other").open(&ticket, NOW), None);
        assert_eq!(TicketKeys::one(b"fleet", b"another CA").open(&ticket, NOW), None);
        let other = key("fleet").seal(b"session", NOW, [8; SALT_BYTES]).unwrap();
        assert_ne!(other[PERIOD_BYTES + SALT_BYTES..], ticket[PERIOD_BYTES + SALT_BYTES..]);
        assert_eq!(format!("{:?}", key("fleet")), "TicketKeys");
    }

    /// Nodes of two versions open each other's tickets. Python's `hmac` and its package cryptography made this one.
    #[test]
    fn a_ticket_is_the_same_for_every_version() {
        let ticket = key("fleet").seal(b"session", NOW, [7; SALT_BYTES]).unwrap();
        let hex: String = ticket.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "000000000000a2c2070707070707070707070707070707074f06c272483532517ec4bc5c7da335c784961c96f14df9"
        );
    }

    #[test]
    fn each_key_seals_in_its_time_and_opens_until_it_is_erased() {
        let (before, at) = (NOW - 60_000, NOW);
        let list = |from: u64| format!("{} one\n{from} two", NOW / 1_000 - 604_800);
        let both = keys(&list(NOW / 1_000));
        let old = both.seal(b"old", before, [1; SALT_BYTES]).unwrap();
        let new = both.seal(b"new", at, [2; SALT_BYTES]).unwrap();
        assert_eq!((key("one").open(&old, at).is_some(), key("two").open(&old, at)), (true, None));
        assert_eq!((key("two").open(&new, at).is_some(), key("one").open(&new, at)), (true, None));
        for (ticket, session) in [(&old, &b"old"[..]), (&new, b"new")] {
            // Also by a node whose clock is behind, and that makes tickets with the key before.
            assert_eq!(both.open(ticket, before).as_deref(), Some(session));
            assert_eq!(both.open(ticket, at).as_deref(), Some(session));
        }
        let erased = keys(&format!("{} two", NOW / 1_000));
        assert_eq!((erased.open(&old, at), erased.open(&new, at).is_some()), (None, true));
        // A list that begins in the future counts at once.
        let ahead = keys("9999999999 one").seal(b"old", at, [1; SALT_BYTES]).unwrap();
        assert!(key("one").open(&ahead, at).is_some());
    }

    #[test]
    fn no_changed_or_cut_ticket_is_opened() {
        let ticket = key("fleet").seal(b"session", NOW, [7; SALT_BYTES]).unwrap();
        for at in 0..ticket.len() {
            assert_eq!(key("fleet").open(&ticket[..at], NOW), None);
            for bit in 0..8 {
                let mut changed = ticket.clone();
                changed[at] ^= 1 << bit;
                assert_eq!(key("fleet").open(&changed, NOW), None, "byte {at}");
            }
        }
    }
}
