//! The keys of one connection, and sealing and opening with them.

use std::fmt;

use aws_lc_rs::aead::LessSafeKey;

use super::{
    cipher::{Direction, Secrets, Suite, Version},
    v12, v13,
    wire::{Alert, Content, End, HEADER_BYTES, Inner, MAX_PLAINTEXT_BYTES, Next, next_record},
};

/// Most bytes by which a sealed record of any version is longer than its data.
pub const OVERHEAD_BYTES: usize = v12::OVERHEAD_BYTES;
/// Most records that may be sealed with one key of AES-GCM (RFC 8446, section 5.5), rounded down.
const MOST_RECORDS: u64 = 1 << 24;
/// Records that are left for what is still said when a session is worn: its last messages, close frame and alert.
const LAST_RECORDS: u64 = 1 << 16;
/// Most records without data in a row, as in OpenSSL.
const MOST_EMPTY: u8 = 32;
/// Room for an alert as a record, in bytes.
pub const ALERT_BYTES: usize = OVERHEAD_BYTES + 2;

/// Nothing more can be sealed: with this key as many records were as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worn;

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
    version: Version,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, suite, sealed, opened, .. } = self;
        f.debug_struct("Session")
            .field("version", version)
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
    pub fn new(
        version: Version,
        suite: Suite,
        sealing: &Secrets<'_>,
        opening: &Secrets<'_>,
        spread: u32,
    ) -> Option<Self> {
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
            version,
        })
    }

    /// Bytes of a record before its data.
    #[must_use]
    pub const fn head_bytes(&self) -> usize {
        match self.version {
            Version::Tls13 => HEADER_BYTES,
            Version::Tls12 => HEADER_BYTES + v12::explicit_bytes(self.suite),
        }
    }

    /// Whether so much was sealed by now that the connection should end. True once.
    #[must_use]
    pub const fn is_worn(&self) -> bool {
        self.sealed == self.worn_at as u64
    }

    /// Seals one record in place. Its `length` bytes stand in `buffer` behind [`Session::head_bytes`], and room for the rest of
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
        let (direction, sequence) = (&self.sealing, self.sealed);
        let whole = match self.version {
            Version::Tls13 => v13::seal(&key, direction, sequence, content, buffer, length),
            Version::Tls12 => v12::seal(&key, (direction, self.suite), sequence, content, buffer, length),
        };
        let whole = whole.ok_or(Worn)?;
        self.sealed += 1;
        Ok(whole)
    }

    /// An alert as a record, which is made in `room`.
    ///
    /// # Errors
    /// As for [`Session::seal`].
    pub fn alert<'a>(&mut self, alert: Alert, room: &'a mut [u8; ALERT_BYTES]) -> Result<&'a [u8], Worn> {
        let (message, head) = (alert.message(), self.head_bytes());
        room[head..head + message.len()].copy_from_slice(&message);
        let length = self.seal(Content::Alert, room, message.len())?;
        Ok(&room[..length])
    }

    /// Opens the records at the beginning of `bytes` in place, and puts their data together there.
    pub fn open(&mut self, bytes: &mut [u8]) -> Opened {
        let (mut data, mut used, mut key, head) = (0, 0, None, self.head_bytes());
        let end = loop {
            let rest = &mut bytes[used..];
            if rest.first().is_some_and(|byte| !self.is_outside(*byte)) {
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
            bytes.copy_within(used + head..used + head + taken, data);
            data += taken;
            used += length;
            self.empty = if taken == 0 { self.empty + 1 } else { 0 };
            if self.empty > MOST_EMPTY {
                break Some(End::Broken(Alert::UnexpectedMessage));
            }
        };
        Opened { data, used, end }
    }

    const fn is_outside(&self, byte: u8) -> bool {
        match self.version {
            Version::Tls13 => v13::is_outside(byte),
            Version::Tls12 => v12::is_outside(byte),
        }
    }

    /// Opens one record, and returns how many bytes of data stand behind its head.
    fn open_one(&mut self, key: &LessSafeKey, record: &mut [u8]) -> Result<usize, End> {
        let (direction, sequence) = (&self.opening, self.opened);
        let inner = match self.version {
            Version::Tls13 => v13::open(key, direction, sequence, record),
            Version::Tls12 => v12::open(key, (direction, self.suite), sequence, record),
        };
        let Inner { content, data } = inner.map_err(End::Broken)?;
        self.opened += 1;
        if content == Content::Data as u8 {
            return Ok(data.len());
        }
        match self.version {
            Version::Tls13 => v13::heed(Inner { content, data })?,
            Version::Tls12 => v12::heed(Inner { content, data })?,
        }
        Ok(0)
    }
}

const _: () = assert!(size_of::<Session>() == 112 && v13::OVERHEAD_BYTES <= OVERHEAD_BYTES);
