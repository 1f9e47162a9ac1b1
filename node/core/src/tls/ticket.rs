//! Tickets with which a client resumes a session on any node that has the same secret (RFC 5077, section 4, in form).
//!
//! The secret never seals a ticket itself: each ticket has a key of its own, made of the secret, the period of time that the
//! ticket was made in, and a salt. So keys change by themselves with the time, at the same moment on all nodes, no nonce is used
//! twice, and a ticket ends with the period after its own.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Time in milliseconds after which tickets are made with another key. A ticket is good for that time at least, and for twice
/// as long at most.
pub const PERIOD_MILLIS: u64 = 12 * 3_600_000;
/// Bytes of a salt.
const SALT_BYTES: usize = 16;
/// Bytes of the number of a period.
const PERIOD_BYTES: usize = 8;
/// What the keys are for.
const PURPOSE: &[u8] = b"channelcluster tls ticket 1";

/// The secret of a fleet's tickets.
pub struct TicketKey(Hmac<Sha256>);

impl std::fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TicketKey")
    }
}

impl TicketKey {
    /// The tickets of a secret, which may have any length.
    #[must_use]
    pub fn new(secret: &[u8]) -> Option<Self> {
        Some(Self(Hmac::new_from_slice(secret).ok()?))
    }

    /// A ticket for what a session is resumed from, at a time in milliseconds since 1970. No other ticket has this salt. `None`
    /// when it cannot be made.
    #[must_use]
    pub fn seal(&self, session: &[u8], unix_millis: u64, salt: [u8; SALT_BYTES]) -> Option<Vec<u8>> {
        let head = [&(unix_millis / PERIOD_MILLIS).to_be_bytes()[..], &salt].concat();
        let mut sealed = session.to_vec();
        self.key(&head)?.seal_in_place_append_tag(nonce(), Aad::from(&head), &mut sealed).ok()?;
        Some([head, sealed].concat())
    }

    /// What a session is resumed from, by a ticket that a client says it has. `None` for one that is not of this secret, was
    /// changed, or is not of this period, the one before, or the next by a clock that goes ahead.
    #[must_use]
    pub fn open(&self, ticket: &[u8], unix_millis: u64) -> Option<Vec<u8>> {
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
        let key = Zeroizing::new(
            self.0.clone().chain_update(PURPOSE).chain_update(head).finalize().into_bytes().into(),
        );
        let key: &[u8; 32] = &key;
        Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?))
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

    fn key(secret: &str) -> TicketKey {
        TicketKey::new(secret.as_bytes()).unwrap()
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
        let other = key("fleet").seal(b"session", NOW, [8; SALT_BYTES]).unwrap();
        assert_ne!(other[PERIOD_BYTES + SALT_BYTES..], ticket[PERIOD_BYTES + SALT_BYTES..]);
        assert_eq!(format!("{:?}", key("fleet")), "TicketKey");
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
