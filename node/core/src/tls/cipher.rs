//! The AEADs of the suites, and the key of one direction.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use zeroize::Zeroize;

/// Longest key of a suite, and the nonce of all of them, in bytes.
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
/// The beginning of the nonce that is never sent, with AES-GCM in TLS 1.2 (RFC 5288, section 3), in bytes.
const SALT_BYTES: usize = 4;
/// The rest of it, which stands in each record, in bytes.
pub(super) const EXPLICIT_BYTES: usize = NONCE_BYTES - SALT_BYTES;

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// A cipher suite, without its hash and key exchange, which only the handshake needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// AES-128-GCM.
    Aes128Gcm,
    /// AES-256-GCM.
    Aes256Gcm,
    /// ChaCha20-Poly1305.
    ChaCha20Poly1305,
}

impl Suite {
    const fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Aes128Gcm => &AES_128_GCM,
            Self::Aes256Gcm => &AES_256_GCM,
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        }
    }

    pub(super) const fn is_aes(self) -> bool {
        matches!(self, Self::Aes128Gcm | Self::Aes256Gcm)
    }
}

/// The secrets of one direction, as the handshake leaves them.
#[derive(Clone, Copy)]
pub struct Secrets<'a> {
    /// The sequence number of the next record.
    pub sequence: u64,
    /// The key.
    pub key: &'a [u8],
    /// The nonce of the record with sequence number 0.
    pub iv: &'a [u8],
}

/// Key and nonce of one direction. The key of AES-128 is in the first half.
pub(super) struct Direction {
    key: [u8; KEY_BYTES],
    iv: [u8; NONCE_BYTES],
}

impl Direction {
    pub(super) fn new(suite: Suite, secrets: &Secrets<'_>) -> Option<Self> {
        if secrets.key.len() != suite.algorithm().key_len() {
            return None;
        }
        let mut direction = Self { key: [0; KEY_BYTES], iv: secrets.iv.try_into().ok()? };
        direction.key[..secrets.key.len()].copy_from_slice(secrets.key);
        Some(direction)
    }

    /// The key with its schedule expanded, which takes about 100 ns and 500 bytes for as long as it lives.
    pub(super) fn expand(&self, suite: Suite) -> Option<LessSafeKey> {
        let algorithm = suite.algorithm();
        Some(LessSafeKey::new(UnboundKey::new(algorithm, &self.key[..algorithm.key_len()]).ok()?))
    }

    /// The nonce of a record (RFC 8446, section 5.3, and RFC 7905, section 2). With AES-GCM in TLS 1.2 it is up to the sender, and
    /// this is what rustls takes for its own records.
    pub(super) fn nonce(&self, sequence: u64) -> [u8; NONCE_BYTES] {
        let mut nonce = self.iv;
        for (byte, count) in nonce[SALT_BYTES..].iter_mut().zip(sequence.to_be_bytes()) {
            *byte ^= count;
        }
        nonce
    }

    /// The nonce of a record that says a part of it (RFC 5288, section 3).
    pub(super) fn said_nonce(&self, explicit: [u8; EXPLICIT_BYTES]) -> [u8; NONCE_BYTES] {
        let mut nonce = self.iv;
        nonce[SALT_BYTES..].copy_from_slice(&explicit);
        nonce
    }
}

impl Drop for Direction {
    fn drop(&mut self) {
        self.key.zeroize();
        self.iv.zeroize();
    }
}

/// A nonce for the library. The caller uses none twice.
pub(super) fn once(nonce: [u8; NONCE_BYTES]) -> Nonce {
    Nonce::assume_unique_for_key(nonce)
}
