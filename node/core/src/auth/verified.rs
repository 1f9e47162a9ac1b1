//! Tokens that were verified, so that clients which come back together after an outage do not have each of their
//! signatures verified anew.
//!
//! A token is known by its SHA-256 digest and is not kept. The memory belongs to one keyring, which is replaced when a key,
//! an issuer or a right changes, and ends with it. It has two halves: when the younger one is full, it takes the place of
//! the older one, whose tokens are forgotten unless they were used meanwhile.

use std::{
    fmt,
    sync::{Arc, PoisonError},
};

use aws_lc_rs::digest;
use hashbrown::HashTable;

use super::{identity::Identity, token::Token};
use crate::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Part of the node's memory budget that verified tokens may take. Of a budget of 256 MiB it is enough for about 40,000
/// tokens with a few topics each.
const BUDGET_PART: u64 = 16;
/// Most bytes that they may take whatever the budget is: about 200,000 tokens.
const MOST_BYTES: u64 = 64 << 20;

/// The digest of a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest([u8; digest::SHA256_OUTPUT_LEN]);

impl Digest {
    /// The digest of a token.
    pub(super) fn of(token: &Token) -> Self {
        let mut bytes = [0; digest::SHA256_OUTPUT_LEN];
        let digest = digest::digest(&digest::SHA256, token.text().as_bytes());
        bytes.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        Self(bytes)
    }

    /// Its beginning: only who can sign tokens could look for some that have it in common.
    fn hash(&self) -> u64 {
        self.0.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
    }
}

struct Entry {
    digest: Digest,
    identity: Arc<Identity>,
}

/// Bytes of an entry beside its identity: its place, twice, because tables grow to the double, and the two counts of
/// the reference.
const ENTRY_BYTES: u64 = 2 * size_of::<Entry>() as u64 + 16;

impl Entry {
    fn bytes(&self) -> u64 {
        ENTRY_BYTES + self.identity.held_bytes() as u64
    }
}

#[derive(Default)]
struct Half {
    table: HashTable<Entry>,
    bytes: u64,
}

impl Half {
    fn get(&self, digest: Digest) -> Option<&Entry> {
        self.table.find(digest.hash(), |entry| entry.digest == digest)
    }

    fn insert(&mut self, entry: Entry) {
        self.bytes += entry.bytes();
        self.table.insert_unique(entry.digest.hash(), entry, |entry| entry.digest.hash());
    }

    fn take(&mut self, digest: Digest) -> Option<Entry> {
        let found = self.table.find_entry(digest.hash(), |entry| entry.digest == digest).ok()?;
        let (entry, _) = found.remove();
        self.bytes -= entry.bytes();
        Some(entry)
    }
}

#[derive(Default)]
struct Halves {
    young: Half,
    old: Half,
    /// Most bytes of each, as of the last token that was remembered.
    most: u64,
}

/// The verified tokens of a keyring. All shards share it; its lock is held for a look into a table.
#[derive(Default)]
pub(super) struct Verified {
    halves: Mutex<Halves>,
    bytes: AtomicU64,
}

impl Verified {
    /// The identity of a token that was verified and has not ended at this time in milliseconds since 1970.
    pub(super) fn find(&self, digest: Digest, now_millis: u64) -> Option<Arc<Identity>> {
        let halves = &mut *self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        let is_young = halves.young.get(digest).is_some();
        let entry = if is_young { halves.young.get(digest)? } else { halves.old.get(digest)? };
        let (identity, bytes) = (Arc::clone(&entry.identity), entry.bytes());
        if !is_young && halves.young.bytes + bytes <= halves.most {
            let moved = halves.old.take(digest)?;
            halves.young.insert(moved);
        }
        (now_millis < identity.expires_at_millis()).then_some(identity)
    }

    /// Remembers a verified token on a node with this memory budget in bytes.
    pub(super) fn insert(&self, digest: Digest, identity: &Arc<Identity>, budget: u64) {
        let entry = Entry { digest, identity: Arc::clone(identity) };
        let most = (budget / BUDGET_PART).min(MOST_BYTES) / 2;
        let halves = &mut *self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        halves.most = most;
        // Two shards may have verified it at once.
        if halves.young.get(digest).is_some() || entry.bytes() > most {
            return;
        }
        if halves.young.bytes + entry.bytes() > most {
            halves.old = std::mem::take(&mut halves.young);
        }
        halves.young.insert(entry);
        self.bytes.store(halves.young.bytes + halves.old.bytes, Relaxed);
    }

    /// Memory in bytes.
    pub(super) fn held_bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verified({} bytes)", self.held_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::tests::identity;

    const BUDGET: u64 = 16 << 20;

    fn digest(name: &str) -> Digest {
        Digest::of(&Token::new(name))
    }

    #[test]
    fn a_token_is_known_until_it_ends() {
        let verified = Verified::default();
        assert!(verified.find(digest("a"), 0).is_none());
        verified.insert(digest("a"), &identity("ann", 5_000).into(), BUDGET);
        verified.insert(digest("a"), &identity("ann", 5_000).into(), BUDGET);
        let bytes = ENTRY_BYTES + identity("ann", 5_000).held_bytes() as u64;
        assert_eq!(verified.held_bytes(), bytes, "it is kept once");
        assert_eq!(
            verified.find(digest("a"), 4_999).map(|found| found.user().to_owned()),
            Some("ann".to_owned())
        );
        assert!(verified.find(digest("a"), 5_000).is_none());
        assert!(verified.find(digest("b"), 0).is_none());
        assert!(!format!("{verified:?}").contains("ann"));
    }

    #[test]
    fn what_is_kept_has_a_bound_and_what_is_used_stays() {
        let verified = Verified::default();
        let mut most = 0;
        for n in 0..20_000 {
            verified.insert(digest(&n.to_string()), &identity("ann", 5_000).into(), BUDGET);
            assert!(n == 0 || verified.find(digest("0"), 0).is_some(), "it is used all the time, at {n}");
            most = most.max(verified.held_bytes());
        }
        assert!(most <= BUDGET / BUDGET_PART && most > BUDGET / BUDGET_PART / 3, "{most}");
        let halves = verified.halves.lock().unwrap();
        let added: u64 = halves.young.table.iter().chain(&halves.old.table).map(Entry::bytes).sum();
        assert_eq!(halves.young.bytes + halves.old.bytes, added);
        drop(halves);
        assert!(verified.find(digest("19999"), 0).is_some() && verified.find(digest("1"), 0).is_none());
        verified.insert(digest("x"), &identity("ann", 5_000).into(), 0);
        assert!(verified.find(digest("x"), 0).is_none(), "without a budget nothing is kept");
    }
}
