//! A peer for tests and fuzz targets: it seals whatever it is told, also what no honest peer would send.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::{End, Secrets, Session, Suite};

/// The suites, each with the algorithm under which the library has it.
pub(crate) const SUITES: [Suite; 3] = [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::ChaCha20Poly1305];

const KEYS: [[u8; 32]; 2] = [[0x41; 32], [0x5a; 32]];
const IVS: [[u8; 12]; 2] = [[0x17; 12], [0x99; 12]];

fn key(suite: Suite, side: usize) -> &'static [u8] {
    if suite == Suite::Aes128Gcm { &KEYS[side][..16] } else { &KEYS[side] }
}

/// A session that opens what [`Peer`] seals, with the next sequence numbers of both directions.
pub(crate) fn session(suite: Suite, sealed: u64, opened: u64) -> Session {
    let secrets = |side: usize, sequence| Secrets { sequence, key: key(suite, side), iv: &IVS[side] };
    Session::new(suite, &secrets(0, sealed), &secrets(1, opened), 0).expect("keys of this suite")
}

/// The other side of [`session`] as a session.
#[cfg(test)]
pub(crate) fn mirror(suite: Suite) -> Session {
    let secrets = |side: usize| Secrets { sequence: 0, key: key(suite, side), iv: &IVS[side] };
    Session::new(suite, &secrets(1), &secrets(0), 0).expect("keys of this suite")
}

/// The other side of [`session`].
pub(crate) struct Peer {
    key: LessSafeKey,
    sequence: u64,
}

impl Peer {
    pub(crate) fn new(suite: Suite) -> Self {
        let algorithm = match suite {
            Suite::Aes128Gcm => &AES_128_GCM,
            Suite::Aes256Gcm => &AES_256_GCM,
            Suite::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        };
        let key = UnboundKey::new(algorithm, key(suite, 1)).expect("a key");
        Self { key: LessSafeKey::new(key), sequence: 0 }
    }

    /// Seals data, the content type and so many bytes of padding behind them.
    pub(crate) fn seal(&mut self, content: u8, data: &[u8], padding: usize) -> Vec<u8> {
        let mut inner = data.to_vec();
        inner.push(content);
        inner.resize(inner.len() + padding, 0);
        self.seal_inner(inner)
    }

    /// Seals what shall stand inside the record.
    pub(crate) fn seal_inner(&mut self, mut inner: Vec<u8>) -> Vec<u8> {
        let [high, low] = u16::try_from(inner.len() + 16).expect("short").to_be_bytes();
        let header = [23, 3, 3, high, low];
        let mut nonce = IVS[1];
        nonce.iter_mut().rev().zip(self.sequence.to_le_bytes()).for_each(|(byte, count)| *byte ^= count);
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, Aad::from(header), &mut inner).expect("sealed");
        self.sequence += 1;
        [&header[..], &inner].concat()
    }
}

/// Feeds bytes that end at each of `cuts` as a transport does, and returns the data and the end.
pub(crate) fn read(session: &mut Session, bytes: &[u8], cuts: &[usize]) -> (Vec<u8>, Option<End>) {
    let (mut data, mut kept, mut from) = (Vec::new(), Vec::new(), 0);
    for to in cuts.iter().copied().chain([bytes.len()]) {
        kept.extend_from_slice(&bytes[from..to]);
        from = to;
        let opened = session.open(&mut kept);
        assert!(opened.data <= opened.used || opened.end.is_some(), "{opened:?}");
        data.extend_from_slice(&kept[..opened.data]);
        if opened.end.is_some() {
            return (data, opened.end);
        }
        kept.drain(..opened.used);
    }
    (data, None)
}
