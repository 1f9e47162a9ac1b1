//! The token of a session: where the session is, signed with a key that the process made at its start.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac, digest::Key};
use sha2::Sha256;

use crate::session::id::ConnId;

/// Length of a key in bytes: the block of SHA-256, which HMAC takes as it is.
pub const KEY_BYTES: usize = 64;

const PLACE_BYTES: usize = 8;
/// 128 bits of HMAC-SHA-256: nobody guesses as much.
const TAG_BYTES: usize = 16;
const TOKEN_BYTES: usize = PLACE_BYTES + TAG_BYTES;
/// A [`ConnId`] is a number below 2^56, and the shard stands above it.
const SHARD_SHIFT: u32 = 56;

/// Where a session is on its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRef {
    /// The shard.
    pub shard: u8,
    /// The session's id there.
    pub id: ConnId,
}

impl SessionRef {
    const fn to_bytes(self) -> [u8; PLACE_BYTES] {
        ((self.shard as u64) << SHARD_SHIFT | self.id.to_token()).to_be_bytes()
    }

    const fn from_bytes(bytes: [u8; PLACE_BYTES]) -> Self {
        let number = u64::from_be_bytes(bytes);
        let id = ConnId::from_token(number & !(u64::MAX << SHARD_SHIFT));
        Self { shard: (number >> SHARD_SHIFT) as u8, id }
    }
}

/// The key that signs the tokens of one node.
#[derive(Clone)]
pub struct TokenKey(Hmac<Sha256>);

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey")
    }
}

impl TokenKey {
    /// A key of these random bytes.
    #[must_use]
    pub fn new(bytes: &[u8; KEY_BYTES]) -> Self {
        let mut key = Key::<Hmac<Sha256>>::default();
        key.copy_from_slice(bytes);
        Self(Hmac::new(&key))
    }

    /// The token of a session: 32 letters, digits, `-` and `_`.
    #[must_use]
    pub fn sign(&self, session: SessionRef) -> String {
        let place = session.to_bytes();
        let tag = self.0.clone().chain_update(place).finalize().into_bytes();
        let mut token = [0; TOKEN_BYTES];
        token[..PLACE_BYTES].copy_from_slice(&place);
        token[PLACE_BYTES..].copy_from_slice(&tag[..TAG_BYTES]);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// The session that a token names; `None` when this key has not signed it. The session may have ended.
    #[must_use]
    pub fn verify(&self, token: &[u8]) -> Option<SessionRef> {
        let mut bytes = [0; TOKEN_BYTES];
        // The check of the length comes first, so that a long text costs nothing.
        let is_whole = token.len() == TOKEN_BYTES / 3 * 4
            && URL_SAFE_NO_PAD.decode_slice(token, &mut bytes) == Ok(TOKEN_BYTES);
        let (place, tag) = bytes.split_first_chunk().filter(|_| is_whole)?;
        self.0.clone().chain_update(place).verify_truncated_left(tag).ok()?;
        Some(SessionRef::from_bytes(*place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(shard: u8, token: u64) -> SessionRef {
        SessionRef { shard, id: ConnId::from_token(token) }
    }

    #[test]
    fn a_token_names_its_session_and_no_other_text_does() {
        let key = TokenKey::new(&[7; KEY_BYTES]);
        for session in [session(0, 0), session(127, (1 << 56) - 1), session(3, 1 << 32 | 5)] {
            let token = key.sign(session);
            assert_eq!((token.len(), key.verify(token.as_bytes())), (32, Some(session)));
            for at in 0..token.len() {
                let mut changed = token.clone().into_bytes();
                changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
                assert_eq!(key.verify(&changed), None, "{at}");
            }
            assert_eq!(TokenKey::new(&[8; KEY_BYTES]).verify(token.as_bytes()), None);
            for other in [&token[1..], &format!("{token}A"), &format!("{token}="), ""] {
                assert_eq!(key.verify(other.as_bytes()), None, "{other}");
            }
        }
        assert_eq!(key.verify(&[b'A'; 32]), None);
        assert_eq!(format!("{key:?}"), "TokenKey");
    }
}
