//! A peer for tests and fuzz targets: it seals whatever it is told, also what no honest peer would send.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::{End, Secrets, Session, Suite, Version};

/// A version with a suite of it.
pub(crate) type Kind = (Version, Suite);

/// All of them.
pub(crate) const KINDS: [Kind; 6] = [
    (Version::Tls13, Suite::Aes128Gcm),
    (Version::Tls13, Suite::Aes256Gcm),
    (Version::Tls13, Suite::ChaCha20Poly1305),
    (Version::Tls12, Suite::Aes128Gcm),
    (Version::Tls12, Suite::Aes256Gcm),
    (Version::Tls12, Suite::ChaCha20Poly1305),
];

const KEYS: [[u8; 32]; 2] = [[0x41; 32], [0x5a; 32]];
const IVS: [[u8; 12]; 2] = [[0x17; 12], [0x99; 12]];

fn key(suite: Suite, side: usize) -> &'static [u8] {
    if suite == Suite::Aes128Gcm { &KEYS[side][..16] } else { &KEYS[side] }
}

/// A session that opens what [`Peer`] seals, with the next sequence numbers of both directions.
pub(crate) fn session((version, suite): Kind, sealed: u64, opened: u64) -> Session {
    let secrets = |side: usize, sequence| Secrets { sequence, key: key(suite, side), iv: &IVS[side] };
    Session::new(version, suite, &secrets(0, sealed), &secrets(1, opened), 0).expect("keys of this suite")
}

/// The other side of [`session`] as a session.
#[cfg(test)]
pub(crate) fn mirror((version, suite): Kind) -> Session {
    let secrets = |side: usize| Secrets { sequence: 0, key: key(suite, side), iv: &IVS[side] };
    Session::new(version, suite, &secrets(1), &secrets(0), 0).expect("keys of this suite")
}

/// The other side of [`session`].
pub(crate) struct Peer {
    key: LessSafeKey,
    kind: Kind,
    sequence: u64,
}

impl Peer {
    pub(crate) fn new(kind: Kind) -> Self {
        let algorithm = match kind.1 {
            Suite::Aes128Gcm => &AES_128_GCM,
            Suite::Aes256Gcm => &AES_256_GCM,
            Suite::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        };
        let key = UnboundKey::new(algorithm, key(kind.1, 1)).expect("a key");
        Self { key: LessSafeKey::new(key), kind, sequence: 0 }
    }

    /// Seals data with its content type, and in TLS 1.3 so many bytes of padding behind them.
    pub(crate) fn seal(&mut self, content: u8, data: &[u8], padding: usize) -> Vec<u8> {
        if self.kind.0 == Version::Tls12 {
            return self.seal_12(content, data);
        }
        let mut inner = data.to_vec();
        inner.push(content);
        inner.resize(inner.len() + padding, 0);
        self.seal_13(inner)
    }

    /// Seals what shall stand inside the record. In TLS 1.2 its last byte becomes the content type, which stands outside.
    pub(crate) fn seal_inner(&mut self, inner: Vec<u8>) -> Vec<u8> {
        match (self.kind.0, inner.split_last()) {
            (Version::Tls13, _) => self.seal_13(inner),
            (Version::Tls12, Some((content, data))) => self.seal_12(*content, data),
            (Version::Tls12, None) => self.seal_12(0, &[]),
        }
    }

    fn seal_13(&mut self, mut inner: Vec<u8>) -> Vec<u8> {
        let [high, low] = u16::try_from(inner.len() + 16).expect("short").to_be_bytes();
        let header = [23, 3, 3, high, low];
        let nonce = Nonce::assume_unique_for_key(self.nonce());
        self.key.seal_in_place_append_tag(nonce, Aad::from(header), &mut inner).expect("sealed");
        self.sequence += 1;
        [&header[..], &inner].concat()
    }

    fn seal_12(&mut self, content: u8, data: &[u8]) -> Vec<u8> {
        let mut nonce = self.nonce();
        // The part that is sent need not be the number.
        let explicit = (!self.sequence).to_le_bytes();
        let explicit = if self.kind.1 == Suite::ChaCha20Poly1305 {
            &[][..]
        } else {
            nonce = IVS[1];
            nonce[4..].copy_from_slice(&explicit);
            &explicit
        };
        let length = u16::try_from(data.len()).expect("short").to_be_bytes();
        let aad = [&self.sequence.to_be_bytes()[..], &[content, 3, 3], &length].concat();
        let mut sealed = data.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, Aad::from(aad), &mut sealed).expect("sealed");
        self.sequence += 1;
        let [high, low] = u16::try_from(explicit.len() + sealed.len()).expect("short").to_be_bytes();
        [&[content, 3, 3, high, low], explicit, &sealed].concat()
    }

    fn nonce(&self) -> [u8; 12] {
        let mut nonce = IVS[1];
        nonce.iter_mut().rev().zip(self.sequence.to_le_bytes()).for_each(|(byte, count)| *byte ^= count);
        nonce
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
