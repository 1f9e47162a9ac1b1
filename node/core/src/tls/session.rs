//! The keys of one connection, and sealing and opening with them.

use std::fmt;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use zeroize::Zeroize;

use super::wire::{
    Alert, Content, HEADER_BYTES, MAX_PLAINTEXT_BYTES, Next, OVERHEAD_BYTES, TAG_BYTES, next_record,
};

/// Longest key of a suite, and the nonce of all of them, in bytes.
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
/// Most records that may be sealed with one key of AES-GCM (RFC 8446, section 5.5), rounded down.
const MOST_RECORDS: u64 = 1 << 24;
/// Records that are left for what is still said when a session is worn: its last messages, close frame and alert.
const LAST_RECORDS: u64 = 1 << 16;
/// Most records without data in a row, as in OpenSSL.
const MOST_EMPTY: u8 = 32;
/// `KeyUpdate` among handshake messages (RFC 8446, section 4).
const KEY_UPDATE: u8 = 24;

/// A cipher suite of TLS 1.3, without its hash, which only the handshake needs.
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

    const fn is_aes(self) -> bool {
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
struct Direction {
    key: [u8; KEY_BYTES],
    iv: [u8; NONCE_BYTES],
}

impl Direction {
    fn new(suite: Suite, secrets: &Secrets<'_>) -> Option<Self> {
        if secrets.key.len() != suite.algorithm().key_len() {
            return None;
        }
        let mut direction = Self { key: [0; KEY_BYTES], iv: secrets.iv.try_into().ok()? };
        direction.key[..secrets.key.len()].copy_from_slice(secrets.key);
        Some(direction)
    }

    /// The key with its schedule expanded, which takes about 100 ns and 500 bytes for as long as it lives.
    fn expand(&self, suite: Suite) -> Option<LessSafeKey> {
        let algorithm = suite.algorithm();
        Some(LessSafeKey::new(UnboundKey::new(algorithm, &self.key[..algorithm.key_len()]).ok()?))
    }

    /// The nonce of a record (RFC 8446, section 5.3).
    fn nonce(&self, sequence: u64) -> Nonce {
        let mut nonce = self.iv;
        for (byte, count) in nonce[NONCE_BYTES - 8..].iter_mut().zip(sequence.to_be_bytes()) {
            *byte ^= count;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

impl Drop for Direction {
    fn drop(&mut self) {
        self.key.zeroize();
        self.iv.zeroize();
    }
}

/// Nothing more can be sealed: with this key as many records were as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worn;

/// Why nothing more can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The peer said that it is done, or that it gives up.
    Closed,
    /// The peer is to be told this, and the connection ends.
    Broken(Alert),
}

/// What [`Session::open`] made of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// So much data is at the beginning of the buffer.
    pub data: usize,
    /// So many bytes of the buffer were records. What follows them is where it was: the beginning of a record.
    pub used: usize,
    /// Nothing after the data counts any more.
    pub end: Option<End>,
}

/// A connection whose handshake is done: 112 bytes.
pub struct Session {
    sealing: Direction,
    opening: Direction,
    /// Records sealed and opened so far, which are the sequence numbers.
    sealed: u64,
    opened: u64,
    /// When so many are sealed the connection should end soon.
    worn_at: u32,
    /// Records without data that were opened in a row.
    empty: u8,
    suite: Suite,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { suite, sealed, opened, .. } = self;
        f.debug_struct("Session")
            .field("suite", suite)
            .field("sealed", sealed)
            .field("opened", opened)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// A session that seals and opens with these secrets. `spread` is a random number: connections that began together and
    /// hear the same are not worn together. `None` when the secrets are not of this suite.
    #[must_use]
    pub fn new(suite: Suite, sealing: &Secrets<'_>, opening: &Secrets<'_>, spread: u32) -> Option<Self> {
        let half = MOST_RECORDS / 2;
        let worn_at = half + u64::from(spread) % (half - LAST_RECORDS);
        Some(Self {
            sealing: Direction::new(suite, sealing)?,
            opening: Direction::new(suite, opening)?,
            sealed: sealing.sequence,
            opened: opening.sequence,
            // Numbers of ChaCha20-Poly1305 end before its key is worn.
            worn_at: if suite.is_aes() { worn_at as u32 } else { u32::MAX },
            empty: 0,
            suite,
        })
    }

    /// Whether so much was sealed by now that the connection should end. True once.
    #[must_use]
    pub const fn is_worn(&self) -> bool {
        self.sealed == self.worn_at as u64
    }

    /// Seals one record in place. Its `length` bytes stand in `buffer` behind room for the header, and room for the rest of
    /// [`OVERHEAD_BYTES`] follows them. Returns the length of the record.
    ///
    /// # Errors
    /// When no more may be sealed with the key.
    ///
    /// # Panics
    /// When the buffer is shorter, or there is more than [`MAX_PLAINTEXT_BYTES`].
    pub fn seal(&mut self, content: Content, buffer: &mut [u8], length: usize) -> Result<usize, Worn> {
        assert!(length <= MAX_PLAINTEXT_BYTES, "{length} bytes are no record");
        if self.suite.is_aes() && self.sealed >= MOST_RECORDS {
            return Err(Worn);
        }
        let key = self.sealing.expand(self.suite).ok_or(Worn)?;
        let whole = length + OVERHEAD_BYTES;
        let header = header(whole - HEADER_BYTES);
        buffer[..HEADER_BYTES].copy_from_slice(&header);
        let (inner, tag) = buffer[HEADER_BYTES..whole].split_at_mut(length + 1);
        inner[length] = content as u8;
        let nonce = self.sealing.nonce(self.sealed);
        let made = key.seal_in_place_separate_tag(nonce, Aad::from(header), inner).map_err(|_| Worn)?;
        tag.copy_from_slice(made.as_ref());
        self.sealed += 1;
        Ok(whole)
    }

    /// An alert as a record.
    ///
    /// # Errors
    /// As for [`Session::seal`].
    pub fn alert(&mut self, alert: Alert) -> Result<[u8; OVERHEAD_BYTES + 2], Worn> {
        let message = alert.message();
        let mut record = [0; OVERHEAD_BYTES + 2];
        record[HEADER_BYTES..HEADER_BYTES + message.len()].copy_from_slice(&message);
        self.seal(Content::Alert, &mut record, message.len())?;
        Ok(record)
    }

    /// Opens the records at the beginning of `bytes` in place, and puts their data together there.
    pub fn open(&mut self, bytes: &mut [u8]) -> Opened {
        let (mut data, mut used, mut key) = (0, 0, None);
        let end = loop {
            let rest = &mut bytes[used..];
            if rest.first().is_some_and(|content| *content != Content::Data as u8) {
                break Some(End::Broken(Alert::UnexpectedMessage));
            }
            let length = match next_record(rest) {
                Next::Incomplete => break None,
                Next::TooLong => break Some(End::Broken(Alert::RecordOverflow)),
                Next::Whole(length) => length,
            };
            if key.is_none() {
                key = self.opening.expand(self.suite);
            }
            let Some(key) = &key else { break Some(End::Broken(Alert::InternalError)) };
            let taken = match self.open_one(key, &mut rest[..length]) {
                Ok(taken) => taken,
                Err(end) => break Some(end),
            };
            bytes.copy_within(used + HEADER_BYTES..used + HEADER_BYTES + taken, data);
            data += taken;
            used += length;
            self.empty = if taken == 0 { self.empty + 1 } else { 0 };
            if self.empty > MOST_EMPTY {
                break Some(End::Broken(Alert::UnexpectedMessage));
            }
        };
        Opened { data, used, end }
    }

    /// Opens one record, and returns how many bytes of data stand behind its header.
    fn open_one(&mut self, key: &LessSafeKey, record: &mut [u8]) -> Result<usize, End> {
        let body = &mut record[HEADER_BYTES..];
        // The version of a header is to be ignored for all purposes.
        let aad = Aad::from(header(body.len()));
        let nonce = self.opening.nonce(self.opened);
        let inner = key.open_in_place(nonce, aad, body).map_err(|_| End::Broken(Alert::BadRecordMac))?;
        self.opened += 1;
        if inner.len() > MAX_PLAINTEXT_BYTES + 1 {
            return Err(End::Broken(Alert::RecordOverflow));
        }
        // Zeros after the content type are padding.
        let last = inner.iter().rposition(|byte| *byte != 0);
        let at = last.ok_or(End::Broken(Alert::UnexpectedMessage))?;
        let (content, inner) = (inner[at], &inner[..at]);
        if content == Content::Data as u8 {
            return Ok(inner.len());
        }
        Err(match (content, inner) {
            (_, []) => End::Broken(Alert::UnexpectedMessage),
            (content, [_, description]) if content == Content::Alert as u8 => {
                if *description == Alert::UserCanceled as u8 {
                    return Ok(0);
                }
                End::Closed
            }
            (content, _) if content == Content::Alert as u8 => End::Broken(Alert::DecodeError),
            // The next key comes of a secret that the handshake does not give away.
            (content, [KEY_UPDATE, ..]) if content == Content::Handshake as u8 => {
                End::Broken(Alert::InternalError)
            }
            _ => End::Broken(Alert::UnexpectedMessage),
        })
    }
}

/// The header of a sealed record of which `length` bytes follow.
const fn header(length: usize) -> [u8; HEADER_BYTES] {
    // At most 2^14 + 256.
    let [high, low] = (length as u16).to_be_bytes();
    [Content::Data as u8, 3, 3, high, low]
}

const _: () = assert!(size_of::<Session>() == 112 && TAG_BYTES == 16);
