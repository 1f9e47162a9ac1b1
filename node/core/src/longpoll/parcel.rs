//! The form of a long-poll request, an answer, or a part of either on the bus.
//!
//! ```text
//! byte 0        version, 1
//! byte 1        length of the header in bytes, 81 here
//! bytes 2..18   boot id of the node that sends, big endian
//! bytes 18..26  when it was sent, big endian: milliseconds since the start of that node
//! byte 26       shard of the HTTP connection whose request it is about
//! bytes 27..35  that connection, big endian
//! bytes 35..39  number of the request on that connection, big endian
//! bytes 39..72  token of the session
//! byte 72       kind, see `kind`
//! bytes 73..77  length of the whole body, big endian
//! bytes 77..81  where in the body this part begins, big endian
//! then          a part of the body: frames of a post, or the JSON list of an answer
//! ```
//!
//! A body that is longer than what the bus takes at once is sent in several parts, in their order. The versions of nodes are
//! dealt with as for broadcasts ([`crate::envelope`]): a newer field is appended to the header, and what is not known is
//! dropped.

use std::collections::HashMap;

use serde::de::IgnoredAny;

use super::{
    ask::{Answer, Ask, Asker, Carried, Outcome, What},
    token::{TOKEN_BYTES, Token},
};
use crate::{broadcast::NodeTag, session::id::ConnId};

/// The version written, and the only one read.
pub const VERSION: u8 = 1;
/// Length of the header written, and the least that is read, in bytes.
pub const HEADER_BYTES: usize = 81;

/// Memory in bytes of a body of which parts are missing, beside its bytes.
const BODY_BYTES: usize = 128;

/// Why bytes from the bus are no parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParcelError {
    /// Fewer bytes than a header, or than the header says it has.
    #[error("{0} bytes are too few for the header")]
    Short(usize),
    /// Another version.
    #[error("version {0} is not known to this node")]
    Version(u8),
    /// The header's length is below the least.
    #[error("a header of {0} bytes is too short")]
    Header(u8),
    /// A kind that only newer nodes send.
    #[error("kind {0} is not known to this node")]
    Kind(u8),
    /// A part that ends beyond the body, or a body where there is none.
    #[error("a part of {part} bytes at {offset} is not in a body of {total}")]
    Part {
        /// Bytes of the part.
        part: usize,
        /// Where it begins.
        offset: u32,
        /// Length of the body.
        total: u32,
    },
    /// The messages of an answer are no JSON list.
    #[error("the messages of an answer are no JSON list")]
    List,
}

/// The numbers of the kinds.
mod kind {
    pub(super) const POLL: u8 = 0;
    pub(super) const POST: u8 = 1;
    pub(super) const ABANDONED: u8 = 2;
    pub(super) const UNSENT: u8 = 3;
    pub(super) const UNDELIVERED: u8 = 4;
    pub(super) const RECEIVED: u8 = 5;
    pub(super) const MESSAGES: u8 = 16;
    pub(super) const NOTHING: u8 = 17;
    pub(super) const TAKEN: u8 = 18;
    pub(super) const NOT_TAKEN: u8 = 19;
    pub(super) const MISSED: u8 = 20;
    pub(super) const GONE: u8 = 21;
    pub(super) const AWAY: u8 = 22;
}

/// Whether something with a body has this kind; `None` when nothing has.
const fn has_body(kind: u8) -> Option<bool> {
    match kind {
        kind::POST | kind::MESSAGES => Some(true),
        kind::POLL..=kind::RECEIVED | kind::NOTHING..=kind::AWAY => Some(false),
        _ => None,
    }
}

/// The number of its kind, and its body.
fn kind_and_body(carried: &Carried) -> (u8, &[u8]) {
    match carried {
        Carried::Ask(ask) => match &ask.what {
            What::Poll => (kind::POLL, &[]),
            What::Post(frames) => (kind::POST, frames),
            What::Abandoned => (kind::ABANDONED, &[]),
            What::Unsent => (kind::UNSENT, &[]),
            What::Undelivered => (kind::UNDELIVERED, &[]),
            What::Received => (kind::RECEIVED, &[]),
        },
        Carried::Answer(answer) => match &answer.outcome {
            Outcome::Messages(list) => (kind::MESSAGES, list),
            Outcome::Nothing => (kind::NOTHING, &[]),
            Outcome::Taken => (kind::TAKEN, &[]),
            Outcome::NotTaken => (kind::NOT_TAKEN, &[]),
            Outcome::Missed => (kind::MISSED, &[]),
            Outcome::Gone => (kind::GONE, &[]),
            Outcome::Away => (kind::AWAY, &[]),
        },
    }
}

/// A message of the bus about a long-poll request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parcel<'a> {
    /// Boot id of the node that sends it.
    pub from: u128,
    /// When it was sent, in milliseconds on the sender's own clock (see [`crate::age`]).
    pub sent_millis: u64,
    shard: u8,
    connection: ConnId,
    number: u32,
    token: Token,
    kind: u8,
    total: u32,
    offset: u32,
    part: &'a [u8],
}

/// What is to be sent for something that is carried, in parts of at most `part_bytes` of its body. It comes from the node
/// with this boot id, at this time on its clock.
pub fn parcels(
    carried: &Carried,
    (from, sent_millis): (u128, u64),
    part_bytes: usize,
) -> impl Iterator<Item = Vec<u8>> {
    let (kind, body) = kind_and_body(carried);
    let (asker, token) = match carried {
        Carried::Ask(ask) => (ask.from, ask.token),
        Carried::Answer(answer) => (answer.to, answer.token),
    };
    // No body is as long as 32 bits can say: a queue of a connection is bounded far below.
    let total = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let Asker { shard, connection, number, .. } = asker;
    let parts = part_bytes.max(1);
    (0..body.len().max(1)).step_by(parts).map(move |at| {
        let part = &body[at..body.len().min(at + parts)];
        let offset = at as u32;
        Parcel { from, sent_millis, shard, connection, number, token, kind, total, offset, part }.encode()
    })
}

impl<'a> Parcel<'a> {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + self.part.len());
        out.extend_from_slice(&[VERSION, HEADER_BYTES as u8]);
        out.extend_from_slice(&self.from.to_be_bytes());
        out.extend_from_slice(&self.sent_millis.to_be_bytes());
        out.push(self.shard);
        out.extend_from_slice(&self.connection.to_token().to_be_bytes());
        out.extend_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(&self.token.to_bytes());
        out.push(self.kind);
        out.extend_from_slice(&self.total.to_be_bytes());
        out.extend_from_slice(&self.offset.to_be_bytes());
        out.extend_from_slice(self.part);
        out
    }

    /// Reads bytes from the bus.
    ///
    /// # Errors
    /// See [`ParcelError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, ParcelError> {
        let short = ParcelError::Short(bytes.len());
        let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else { return Err(short) };
        let [version, length, fields @ ..] = head;
        if *version != VERSION {
            return Err(ParcelError::Version(*version));
        }
        if usize::from(*length) < HEADER_BYTES {
            return Err(ParcelError::Header(*length));
        }
        let part = bytes.get(usize::from(*length)..).ok_or(short)?;
        let (from, rest) = fields.split_first_chunk().ok_or(short)?;
        let (sent_millis, rest) = rest.split_first_chunk().ok_or(short)?;
        let (shard, rest) = rest.split_first().ok_or(short)?;
        let (connection, rest) = rest.split_first_chunk().ok_or(short)?;
        let (number, rest) = rest.split_first_chunk().ok_or(short)?;
        let (token, rest) = rest.split_first_chunk::<TOKEN_BYTES>().ok_or(short)?;
        let (kind, rest) = rest.split_first().ok_or(short)?;
        let (total, rest) = rest.split_first_chunk().ok_or(short)?;
        let (offset, _) = rest.split_first_chunk().ok_or(short)?;
        let (total, offset) = (u32::from_be_bytes(*total), u32::from_be_bytes(*offset));
        let is_long = has_body(*kind).ok_or(ParcelError::Kind(*kind))?;
        let end = (offset as usize).saturating_add(part.len());
        if end > total as usize || (!is_long && total > 0) || (total > 0 && part.is_empty()) {
            return Err(ParcelError::Part { part: part.len(), offset, total });
        }
        Ok(Parcel {
            from: u128::from_be_bytes(*from),
            sent_millis: u64::from_be_bytes(*sent_millis),
            shard: *shard,
            connection: ConnId::from_token(u64::from_be_bytes(*connection)),
            number: u32::from_be_bytes(*number),
            token: Token::from_bytes(*token),
            kind: *kind,
            total,
            offset,
            part,
        })
    }

    /// Whether it asks for an answer, which nobody wants any more when it comes too late.
    #[must_use]
    pub const fn asks(&self) -> bool {
        matches!(self.kind, kind::POLL | kind::POST)
    }

    /// What a whole one says.
    fn open(&self, body: Vec<u8>) -> Result<Carried, ParcelError> {
        let asker =
            |node| Asker { node, shard: self.shard, connection: self.connection, number: self.number };
        let ask =
            |what| Carried::Ask(Ask { from: asker(Some(NodeTag::of(self.from))), token: self.token, what });
        let answer = |outcome| Carried::Answer(Answer { to: asker(None), token: self.token, outcome });
        Ok(match self.kind {
            kind::POLL => ask(What::Poll),
            kind::POST => ask(What::Post(body)),
            kind::ABANDONED => ask(What::Abandoned),
            kind::UNSENT => ask(What::Unsent),
            kind::UNDELIVERED => ask(What::Undelivered),
            kind::RECEIVED => ask(What::Received),
            kind::MESSAGES => {
                serde_json::from_slice::<Vec<IgnoredAny>>(&body).map_err(|_| ParcelError::List)?;
                answer(Outcome::Messages(body))
            }
            kind::NOTHING => answer(Outcome::Nothing),
            kind::TAKEN => answer(Outcome::Taken),
            kind::NOT_TAKEN => answer(Outcome::NotTaken),
            kind::MISSED => answer(Outcome::Missed),
            kind::GONE => answer(Outcome::Gone),
            kind::AWAY => answer(Outcome::Away),
            other => return Err(ParcelError::Kind(other)),
        })
    }

    const fn key(&self) -> Key {
        (self.from, self.shard, self.connection.to_token(), self.number, self.kind)
    }
}

/// The request or answer that a part belongs to.
type Key = (u128, u8, u64, u32, u8);

/// Bodies of which a part is missing.
#[derive(Debug, Default)]
pub struct Parts {
    bodies: HashMap<Key, Body>,
    held_bytes: usize,
}

#[derive(Debug)]
struct Body {
    bytes: Vec<u8>,
    begun_millis: u64,
}

impl Body {
    const fn held_bytes(&self) -> usize {
        self.bytes.len() + BODY_BYTES
    }
}

impl Parts {
    /// Takes a parcel at a time in milliseconds, and returns what it completes. A body with which all of them would
    /// hold more than `most_bytes` is dropped, as is one of which a part was lost. Bodies that come whole are not kept.
    ///
    /// # Errors
    /// When what it completes cannot be read.
    pub fn take(
        &mut self,
        parcel: &Parcel<'_>,
        now_millis: u64,
        most_bytes: usize,
    ) -> Result<Option<Carried>, ParcelError> {
        let key = parcel.key();
        let before = self.bodies.remove(&key);
        self.held_bytes -= before.as_ref().map_or(0, Body::held_bytes);
        if parcel.offset == 0 && parcel.part.len() == parcel.total as usize {
            return parcel.open(parcel.part.to_vec()).map(Some);
        }
        let mut body = match before {
            Some(body) if body.bytes.len() == parcel.offset as usize => body,
            None if parcel.offset == 0 => Body { bytes: Vec::new(), begun_millis: now_millis },
            Some(_) | None => return Ok(None),
        };
        if self.held_bytes + body.held_bytes() + parcel.part.len() > most_bytes {
            return Ok(None);
        }
        body.bytes.extend_from_slice(parcel.part);
        if body.bytes.len() == parcel.total as usize {
            return parcel.open(body.bytes).map(Some);
        }
        self.held_bytes += body.held_bytes();
        self.bodies.insert(key, body);
        Ok(None)
    }

    /// Drops bodies that were begun so many milliseconds ago.
    pub fn expire(&mut self, now_millis: u64, after_millis: u64) {
        if !self.bodies.is_empty() {
            self.bodies.retain(|_, body| now_millis.saturating_sub(body.begun_millis) < after_millis);
            self.held_bytes = self.bodies.values().map(Body::held_bytes).sum();
        }
    }

    /// Memory in bytes of the bodies.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.held_bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FROM: u128 = 0x0102_0304_0506_0708_0910_1112_1314_1516;
    const MOST: usize = 1_000;

    fn asker(node: Option<NodeTag>) -> Asker {
        Asker { node, shard: 3, connection: ConnId::from_token(5), number: 7 }
    }

    fn token() -> Token {
        Token::from_bytes(std::array::from_fn(|at| at as u8))
    }

    /// Everything that is said, as it is sent and as it arrives.
    fn all(body: &[u8]) -> Vec<(Carried, Carried)> {
        let whats = [
            What::Poll,
            What::Post(body.to_vec()),
            What::Abandoned,
            What::Unsent,
            What::Undelivered,
            What::Received,
        ];
        let list = serde_json::to_vec(body).expect("a list");
        let outcomes = [
            Outcome::Messages(list),
            Outcome::Nothing,
            Outcome::Taken,
            Outcome::NotTaken,
            Outcome::Missed,
            Outcome::Gone,
            Outcome::Away,
        ];
        let ask = |node, what| Carried::Ask(Ask { from: asker(node), token: token(), what });
        let answer = |node, outcome| Carried::Answer(Answer { to: asker(node), token: token(), outcome });
        let asks =
            whats.into_iter().map(|what| (ask(None, what.clone()), ask(Some(NodeTag::of(FROM)), what)));
        let answers = outcomes.into_iter();
        asks.chain(
            answers.map(|outcome| (answer(Some(NodeTag::of(FROM)), outcome.clone()), answer(None, outcome))),
        )
        .collect()
    }

    #[test]
    fn the_bytes_are_as_documented() {
        let carried = Carried::Ask(Ask { from: asker(None), token: token(), what: What::Post(vec![9, 8]) });
        let sent: Vec<_> = parcels(&carried, (FROM, 5), 100).collect();
        let mut expected = vec![1, 81];
        expected.extend(FROM.to_be_bytes());
        expected.extend([0, 0, 0, 0, 0, 0, 0, 5, 3, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 7]);
        expected.extend(0..33);
        expected.extend([1, 0, 0, 0, 2, 0, 0, 0, 0, 9, 8]);
        assert_eq!(sent, [expected.clone()]);
        expected.splice(81..81, [0xaa; 4]);
        expected[1] = 85;
        assert_eq!(Parcel::decode(&expected).map(|parcel| parcel.part), Ok(&[9, 8][..]), "a longer header");
        for (at, value, error) in [
            (72, 99, ParcelError::Kind(99)),
            (72, 0, ParcelError::Part { part: 2, offset: 0, total: 2 }),
            (80, 1, ParcelError::Part { part: 2, offset: 1, total: 2 }),
            (1, 80, ParcelError::Header(80)),
            (0, 2, ParcelError::Version(2)),
        ] {
            let mut changed = expected.clone();
            changed[at] = value;
            assert_eq!(Parcel::decode(&changed), Err(error));
        }
        assert_eq!(Parcel::decode(&expected[..80]), Err(ParcelError::Short(80)));
    }

    #[test]
    fn a_body_of_which_a_part_is_lost_or_that_is_too_long_is_dropped() {
        let post = |bytes| Carried::Ask(Ask { from: asker(None), token: token(), what: What::Post(bytes) });
        let sent: Vec<_> = parcels(&post(vec![1; 10]), (FROM, 0), 4).collect();
        let take = |parts: &mut Parts, bytes: &[u8], most| {
            parts.take(&Parcel::decode(bytes).expect("sent"), 0, most).expect("read")
        };
        let mut parts = Parts::default();
        assert_eq!(take(&mut parts, &sent[0], MOST), None);
        assert_eq!((take(&mut parts, &sent[2], MOST), parts.held_bytes()), (None, 0));
        assert_eq!((take(&mut parts, &sent[1], MOST), parts.held_bytes()), (None, 0));
        assert_eq!([0, 1].map(|at| take(&mut parts, &sent[at], 7 + BODY_BYTES)), [None, None]);
        assert_eq!((take(&mut parts, &sent[2], MOST), parts.held_bytes()), (None, 0));
        assert_eq!((take(&mut parts, &sent[0], MOST), parts.held_bytes()), (None, 4 + BODY_BYTES));
        parts.expire(99, 100);
        assert_eq!(parts.held_bytes(), 4 + BODY_BYTES);
        parts.expire(100, 100);
        assert_eq!(parts.held_bytes(), 0);
        let bad = Carried::Answer(Answer {
            to: asker(Some(NodeTag::of(FROM))),
            token: token(),
            outcome: Outcome::Messages(b"[1".to_vec()),
        });
        let bytes = parcels(&bad, (FROM, 0), 100).next().expect("one");
        assert_eq!(parts.take(&Parcel::decode(&bytes).expect("sent"), 0, MOST), Err(ParcelError::List));
    }

    proptest! {
        #[test]
        fn what_is_sent_in_parts_arrives(body in proptest::collection::vec(any::<u8>(), 0..200), part in 1..80usize) {
            let mut parts = Parts::default();
            for (sent, arrives) in all(&body) {
                let mut arrived = Vec::new();
                for bytes in parcels(&sent, (FROM, 9), part) {
                    let parcel = Parcel::decode(&bytes).expect("sent");
                    prop_assert_eq!((parcel.from, parcel.sent_millis), (FROM, 9));
                    prop_assert!(bytes.len() <= HEADER_BYTES + part);
                    arrived.extend(parts.take(&parcel, 0, MOST).expect("read"));
                }
                prop_assert_eq!(arrived, [arrives]);
                prop_assert_eq!(parts.held_bytes(), 0);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), fix in 0..3u8) {
            for (byte, likely) in bytes.iter_mut().zip([VERSION, HEADER_BYTES as u8]).take(fix.into()) {
                *byte = likely;
            }
            if let Ok(parcel) = Parcel::decode(&bytes) {
                let mut parts = Parts::default();
                parts.take(&parcel, 0, MOST).ok();
                prop_assert!(parts.held_bytes() <= bytes.len() - HEADER_BYTES + BODY_BYTES);
            }
        }
    }
}
