//! The form of a publish on the bus.
//!
//! ```text
//! byte 0        version, 2
//! byte 1        length of the header in bytes, 37 here
//! bytes 2..18   boot id of the node that sends, big endian
//! bytes 18..26  sequence, big endian: 1, 2, 3, ... per boot id and topic
//! bytes 26..34  when it was sent, big endian: milliseconds since the start of the node that sends
//! byte 34       kind: 0 is a broadcast of JSON, 1 one of bytes, 2 and 3 are user broadcasts of the same
//! byte 35       length of the topic in bytes
//! byte 36       length of the event in bytes
//! then          topic, event, payload
//! ```
//!
//! Nodes of neighbouring versions share a bus. A new field is appended to the header and raises its length, and older
//! readers skip it; a new sort of message gets a new kind, and older readers drop it; only for a change that older
//! readers must not read at all the version is raised.

use crate::broadcast::{Kind, Packed};

/// The version written, and the only one read.
pub const VERSION: u8 = 2;

/// Length of the header written, and the least that is read, in bytes.
pub const HEADER_BYTES: usize = 37;

/// Why bytes from the bus are no envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Fewer bytes than a header, or than the header says it has.
    #[error("{0} bytes are too few for the header")]
    Short(usize),
    /// The writer's version is one that this node does not know.
    #[error("version {0} is not known to this node")]
    Version(u8),
    /// The header's length is below the least.
    #[error("a header of {0} bytes is too short")]
    Header(u8),
    /// A message of a kind that only newer nodes send. It has its place in the sender's sequence for the topic.
    #[error("kind {kind} is not known to this node")]
    Kind {
        /// Its number.
        kind: u8,
        /// See [`Envelope::origin`].
        origin: u128,
        /// See [`Envelope::sequence`].
        sequence: u64,
    },
}

/// A publish on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// Boot id of the sender.
    pub origin: u128,
    /// Position among the sender's messages of this topic, from 1.
    pub sequence: u64,
    /// When it was sent, in milliseconds on the sender's own clock (see [`crate::age`]).
    pub sent_millis: u64,
    /// The broadcast. It is not checked yet: see [`crate::protocol::foreign::check`].
    pub packed: Packed<&'a [u8]>,
}

impl<'a> Envelope<'a> {
    /// The bytes for the bus.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Packed { kind, topic_bytes, event_bytes, bytes } = self.packed;
        let mut header = [0; HEADER_BYTES];
        header[..2].copy_from_slice(&[VERSION, HEADER_BYTES as u8]);
        header[2..18].copy_from_slice(&self.origin.to_be_bytes());
        header[18..26].copy_from_slice(&self.sequence.to_be_bytes());
        header[26..34].copy_from_slice(&self.sent_millis.to_be_bytes());
        header[34..].copy_from_slice(&[kind as u8, topic_bytes, event_bytes]);
        let mut out = Vec::with_capacity(HEADER_BYTES + bytes.len());
        out.extend_from_slice(&header);
        out.extend_from_slice(bytes);
        out
    }

    /// Reads bytes from the bus.
    ///
    /// # Errors
    /// See [`EnvelopeError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        let short = EnvelopeError::Short(bytes.len());
        let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else { return Err(short) };
        let [version, length, numbers @ ..] = head;
        if *version != VERSION {
            return Err(EnvelopeError::Version(*version));
        }
        if usize::from(*length) < HEADER_BYTES {
            return Err(EnvelopeError::Header(*length));
        }
        // Fields that newer nodes append to the header are skipped.
        let bytes = bytes.get(usize::from(*length)..).ok_or(short)?;
        let (origin, rest) = numbers.split_first_chunk().ok_or(short)?;
        let (sequence, rest) = rest.split_first_chunk().ok_or(short)?;
        let (sent_millis, rest) = rest.split_first_chunk().ok_or(short)?;
        let [kind, topic_bytes, event_bytes] = *rest else { return Err(short) };
        let (origin, sequence) = (u128::from_be_bytes(*origin), u64::from_be_bytes(*sequence));
        let kind = Kind::of(kind).ok_or(EnvelopeError::Kind { kind, origin, sequence })?;
        Ok(Envelope {
            origin,
            sequence,
            sent_millis: u64::from_be_bytes(*sent_millis),
            packed: Packed { kind, topic_bytes, event_bytes, bytes },
        })
    }
}

/// Counts what is missing between the messages of one origin about one topic. NATS keeps the order of a sender, so a
/// sequence that does not rise means that the sender began anew (it had no members of the topic for a while).
///
/// A sender that has the password of the bus can make up origins and sequences. So one message adds no more than
/// [`MAX_GAP`] to the count, and a made-up origin pushes out another made-up one rather than an origin that goes on
/// speaking.
#[derive(Debug, Default)]
pub struct Gaps(Vec<Origin>);

/// A node that spoke about the topic.
#[derive(Debug)]
struct Origin {
    id: u128,
    sequence: u64,
    /// When it spoke last, in seconds.
    heard: u64,
    /// How often it spoke since it became known.
    messages: u32,
}

/// Most origins remembered per topic. Beyond it one is forgotten, and with it at most one gap.
pub const MAX_ORIGINS: usize = 256;
/// Most messages that are counted as missing before one: eleven minutes of 100 messages per second. A longer gap counts
/// as this long.
pub const MAX_GAP: u64 = 65_536;
/// An origin that has been silent for so many seconds is forgotten before any that was not: its process is gone, or it
/// has no members of the topic.
const SILENT_SECONDS: u64 = 300;

impl Gaps {
    /// Records a message at a time in seconds, whose start does not matter; returns how many messages are missing
    /// before it, at most [`MAX_GAP`]. The first message of an origin shows nothing missing.
    pub fn note(&mut self, id: u128, sequence: u64, now: u64) -> u64 {
        if let Some(origin) = self.0.iter_mut().find(|origin| origin.id == id) {
            let before = if sequence > origin.sequence { origin.sequence } else { 0 };
            origin.sequence = sequence;
            origin.heard = now;
            origin.messages = origin.messages.saturating_add(1);
            return (sequence - before).saturating_sub(1).min(MAX_GAP);
        }
        if self.0.len() == MAX_ORIGINS {
            self.forget_one(now);
        }
        self.0.push(Origin { id, sequence, heard: now, messages: 1 });
        0
    }

    /// Forgets the origin that costs least: one that fell silent, or else the one that spoke least often, and among
    /// these the one that was heard first.
    fn forget_one(&mut self, now: u64) {
        let rank = |origin: &Origin| {
            let silent = now.saturating_sub(origin.heard) >= SILENT_SECONDS;
            (!silent, origin.messages, origin.heard)
        };
        let least = self.0.iter().enumerate().min_by_key(|(_, origin)| rank(origin)).map(|(index, _)| index);
        least.map(|index| self.0.remove(index));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SAID: Packed<&[u8]> =
        Packed { kind: Kind::Binary, topic_bytes: 1, event_bytes: 2, bytes: &[b't', b'e', b'v', 0] };

    #[test]
    fn the_bytes_are_as_documented() {
        let bytes = Envelope { origin: 0x0102, sequence: 3, sent_millis: 5, packed: SAID }.encode();
        let mut expected = vec![2, 37];
        expected.extend([0; 14]);
        expected.extend([1, 2]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 3]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 5]);
        expected.extend([1, 1, 2, b't', b'e', b'v', 0]);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn a_longer_header_of_a_newer_node_is_skipped_and_what_is_new_is_refused() {
        let envelope = Envelope { origin: 7, sequence: 9, sent_millis: 4, packed: SAID };
        let mut bytes = envelope.encode();
        bytes.splice(37..37, [0xaa; 4]);
        bytes[1] = 41;
        assert_eq!(Envelope::decode(&bytes), Ok(envelope));
        bytes[34] = 9;
        assert_eq!(Envelope::decode(&bytes), Err(EnvelopeError::Kind { kind: 9, origin: 7, sequence: 9 }));
        bytes[1] = 36;
        assert_eq!(Envelope::decode(&bytes), Err(EnvelopeError::Header(36)));
        bytes[0] = 3;
        assert_eq!(Envelope::decode(&bytes), Err(EnvelopeError::Version(3)));
        for short in [0, 1, 36] {
            assert_eq!(Envelope::decode(&envelope.encode()[..short]), Err(EnvelopeError::Short(short)));
        }
    }

    #[test]
    fn gaps_are_counted_per_origin_and_a_new_start_is_none() {
        let mut gaps = Gaps::default();
        let mut note = |origin, sequence| gaps.note(origin, sequence, 0);
        assert_eq!([note(1, 5), note(1, 6), note(1, 9), note(2, 1)], [0, 0, 2, 0]);
        assert_eq!([note(1, 1), note(1, 2), note(2, 3)], [0, 0, 1]);
        assert_eq!(note(1, 2), 1, "began anew and lost its first");
        assert_eq!(note(1, 0), 0, "no sender writes 0, and it must not overflow");
    }

    #[test]
    fn one_message_adds_a_bounded_gap_whatever_it_says() {
        let mut gaps = Gaps::default();
        gaps.note(1, 1, 0);
        assert_eq!([gaps.note(1, u64::MAX, 0), gaps.note(1, 3, 0), gaps.note(1, 4, 0)], [MAX_GAP, 2, 0]);
        gaps.note(1, 10_000_000, 0);
        gaps.note(1, 1, 0);
        assert_eq!(gaps.note(1, 10_000_001, 0), MAX_GAP);
    }

    #[test]
    fn made_up_origins_push_out_each_other_and_the_silent_but_nobody_who_speaks() {
        let mut gaps = Gaps::default();
        for sequence in [1, 2] {
            gaps.note(7, sequence, 0);
            gaps.note(8, sequence, 0);
        }
        for made_up in 0..5_000 {
            gaps.note(1_000 + made_up, 1, 0);
        }
        assert_eq!(gaps.0.len(), MAX_ORIGINS);
        assert_eq!([gaps.note(7, 4, SILENT_SECONDS - 1), gaps.note(8, 5, SILENT_SECONDS - 1)], [1, 2]);
        // Origins whose processes are gone make room, however often they spoke.
        let mut gaps = Gaps::default();
        for gone in 0..MAX_ORIGINS as u128 {
            (1..=3).for_each(|sequence| assert_eq!(gaps.note(gone, sequence, 0), 0));
        }
        gaps.note(1_000, 1, SILENT_SECONDS);
        gaps.note(1_001, 1, SILENT_SECONDS);
        assert_eq!(gaps.note(1_000, 3, SILENT_SECONDS), 1, "the new one is known");
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes(
            origin: u128,
            sequence: u64,
            sent_millis: u64,
            names: (u8, u8),
            body in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let packed = Packed { kind: Kind::Json, topic_bytes: names.0, event_bytes: names.1, bytes: &*body };
            let envelope = Envelope { origin, sequence, sent_millis, packed };
            let bytes = envelope.encode();
            prop_assert_eq!(Envelope::decode(&bytes), Ok(envelope));
        }

        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..80), fix in 0..3u8) {
            // Without a likely start nearly all random bytes would fail at the version.
            for (byte, likely) in bytes.iter_mut().zip([VERSION, HEADER_BYTES as u8]).take(fix.into()) {
                *byte = likely;
            }
            if let Ok(envelope) = Envelope::decode(&bytes) {
                prop_assert!(envelope.packed.len() <= bytes.len() - HEADER_BYTES);
            }
        }
    }
}
