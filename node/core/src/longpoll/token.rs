//! The token of a session: the node and the place there where the session is, signed with a key that the node made at its
//! start.
//!
//! Only the node of the session has the key. Another node reads from the token which node that is, takes it for what it
//! is if that node is one of the fleet, and leaves it to that node to refuse a token that it has not signed.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac, digest::Key};
use sha2::Sha256;

use crate::{broadcast::NodeTag, session::id::ConnId};

/// Length of a key in bytes: the block of SHA-256, which HMAC takes as it is.
pub const KEY_BYTES: usize = 64;

const NODE_BYTES: usize = 7;
const PLACE_BYTES: usize = 8;
/// 144 bits of HMAC-SHA-256: nobody guesses as much, and base64 needs no padding.
const TAG_BYTES: usize = 18;
/// What is signed.
const SIGNED_BYTES: usize = NODE_BYTES + PLACE_BYTES;
/// Length of a token in bytes, before it is written as text.
pub const TOKEN_BYTES: usize = SIGNED_BYTES + TAG_BYTES;
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

/// A token, which somebody may have made up. Its text is 44 letters, digits, `-` and `_`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token([u8; TOKEN_BYTES]);

/// Whoever has the token has the session, so it is in no log.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl Token {
    /// Reads the text of a token; `None` when it has another form.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; TOKEN_BYTES];
        // The check of the length comes first, so that a long text costs nothing.
        let is_whole = text.len() == TOKEN_BYTES / 3 * 4
            && URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) == Ok(TOKEN_BYTES);
        is_whole.then_some(Self(bytes))
    }

    /// The token of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; TOKEN_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; TOKEN_BYTES] {
        self.0
    }

    /// The node that it names.
    #[must_use]
    pub const fn node(&self) -> NodeTag {
        let [a, b, c, d, e, f, g, ..] = self.0;
        NodeTag::from_bytes([a, b, c, d, e, f, g])
    }

    /// The session that it names, which may have ended.
    #[must_use]
    pub const fn session(&self) -> SessionRef {
        let [_, _, _, _, _, _, _, a, b, c, d, e, f, g, h, ..] = self.0;
        SessionRef::from_bytes([a, b, c, d, e, f, g, h])
    }
}

/// The key that signs the tokens of one node.
#[derive(Clone)]
pub struct TokenKey {
    mac: Hmac<Sha256>,
    node: NodeTag,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey")
    }
}

impl TokenKey {
    /// The key of a node, of these random bytes.
    #[must_use]
    pub fn new(bytes: &[u8; KEY_BYTES], node: NodeTag) -> Self {
        let mut key = Key::<Hmac<Sha256>>::default();
        key.copy_from_slice(bytes);
        Self { mac: Hmac::new(&key), node }
    }

    /// The node whose key it is.
    #[must_use]
    pub const fn node(&self) -> NodeTag {
        self.node
    }

    /// The token of a session of the node.
    #[must_use]
    pub fn sign(&self, session: SessionRef) -> Token {
        let mut token = [0; TOKEN_BYTES];
        token[..NODE_BYTES].copy_from_slice(&self.node.to_bytes());
        token[NODE_BYTES..SIGNED_BYTES].copy_from_slice(&session.to_bytes());
        let tag = self.mac.clone().chain_update(&token[..SIGNED_BYTES]).finalize().into_bytes();
        token[SIGNED_BYTES..].copy_from_slice(&tag[..TAG_BYTES]);
        Token(token)
    }

    /// Whether the node has signed a token.
    #[must_use]
    pub fn has_signed(&self, token: &Token) -> bool {
        let (signed, tag) = token.0.split_at(SIGNED_BYTES);
        token.node() == self.node && self.mac.clone().chain_update(signed).verify_truncated_left(tag).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(shard: u8, token: u64) -> SessionRef {
        SessionRef { shard, id: ConnId::from_token(token) }
    }

    #[test]
    fn a_token_names_its_session_and_is_good_as_it_was_signed_alone() {
        let node = NodeTag::of(1 << 127);
        let key = TokenKey::new(&[7; KEY_BYTES], node);
        for session in [session(0, 0), session(127, (1 << 56) - 1), session(3, 1 << 32 | 5)] {
            let token = key.sign(session);
            let text = token.to_string();
            assert_eq!((text.len(), Token::read(text.as_bytes())), (44, Some(token)));
            assert_eq!((token.node(), token.session()), (node, session));
            assert!(key.has_signed(&token) && Token::from_bytes(token.to_bytes()) == token);
            for at in 0..text.len() {
                let mut changed = text.clone().into_bytes();
                changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
                assert!(!key.has_signed(&Token::read(&changed).expect("its form is right")), "{at}");
            }
            assert!(!TokenKey::new(&[8; KEY_BYTES], node).has_signed(&token));
            assert!(!TokenKey::new(&[7; KEY_BYTES], NodeTag::of(2)).has_signed(&token));
            for other in
                [&text[1..], &format!("{text}A"), &format!("{text}="), "", &text.replace(&text[..1], "*")]
            {
                assert_eq!(Token::read(other.as_bytes()), None, "{other}");
            }
            assert_eq!(format!("{token:?} {key:?}"), "Token TokenKey");
        }
        assert!(!key.has_signed(&Token::read(&[b'A'; 44]).expect("its form is right")));
    }
}
