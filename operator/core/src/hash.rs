//! Short hashes, which tell the states of one object apart.

use sha2::{Digest, Sha256};

/// The first 16 hexadecimal digits of the SHA-256.
#[must_use]
pub fn short_hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
