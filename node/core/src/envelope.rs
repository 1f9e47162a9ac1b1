//! What a publish looks like on the bus.
//!
//! ```text
//! byte 0        version, 1
//! byte 1        length of the header in bytes, 34 here
//! bytes 2..18   boot id of the node that sends, big endian
//! bytes 18..26  sequence, big endian: 1, 2, 3, ... per boot id and topic
//! bytes 26..34  when it was sent, big endian: milliseconds since the start of the node that sends
//! then          one whole unmasked WebSocket frame, as a V2 client gets it
//! ```
//!
//! Nodes of neighbouring versions share a bus. Whoever adds a field appends it to the header and raises its length, which
//! older readers skip; only a change that older readers must not survive raises the version. The frame is checked before
//! anyone is sent it, so that a broken peer cannot break the framing of every client here.

/// The version written, and the only one read.
pub const VERSION: u8 = 1;

/// Length of the header written, in bytes.
pub const HEADER_BYTES: usize = 34;

/// Least length of a header, in bytes: without the time of sending, which older nodes do not write.
pub const LEAST_HEADER_BYTES: usize = 26;

/// Why bytes from the bus are no envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Fewer bytes than a header, or than the header says it has.
    #[error("{0} bytes are too few for the header")]
    Short(usize),
    /// Written by a node that this one does not understand.
    #[error("version {0} is not known to this node")]
    Version(u8),
    /// The header's length is below the least.
    #[error("a header of {0} bytes is too short")]
    Header(u8),
    /// What follows the header is not one whole unmasked text or binary frame.
    #[error("the content is not one whole WebSocket frame")]
    Frame,
}

/// A publish on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// Boot id of the sender.
    pub origin: u128,
    /// Position among the sender's messages of this topic, from 1.
    pub sequence: u64,
    /// When it was sent, in milliseconds on the sender's own clock (see [`crate::age`]); none from an older node.
    pub sent_millis: Option<u64>,
    /// The frame.
    pub frame: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// The bytes for the bus.
    pub fn encode(&self) -> Vec<u8> {
        let length = if self.sent_millis.is_some() { HEADER_BYTES } else { LEAST_HEADER_BYTES };
        let mut header = [0; HEADER_BYTES];
        header[..2].copy_from_slice(&[VERSION, length as u8]);
        header[2..18].copy_from_slice(&self.origin.to_be_bytes());
        header[18..26].copy_from_slice(&self.sequence.to_be_bytes());
        header[26..].copy_from_slice(&self.sent_millis.unwrap_or(0).to_be_bytes());
        let mut out = Vec::with_capacity(HEADER_BYTES + self.frame.len());
        // Whole and then cut: a copy of a length that the compiler knows is no call.
        out.extend_from_slice(&header);
        out.truncate(length);
        out.extend_from_slice(self.frame);
        out
    }

    /// Reads bytes from the bus.
    ///
    /// # Errors
    /// See [`EnvelopeError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        let short = EnvelopeError::Short(bytes.len());
        let Some(head) = bytes.first_chunk::<LEAST_HEADER_BYTES>() else { return Err(short) };
        let [version, header, numbers @ ..] = head;
        if *version != VERSION {
            return Err(EnvelopeError::Version(*version));
        }
        let length = usize::from(*header);
        if length < LEAST_HEADER_BYTES {
            return Err(EnvelopeError::Header(*header));
        }
        let frame = bytes.get(length..).ok_or(short)?;
        let (origin, sequence) = numbers.split_first_chunk().ok_or(short)?;
        let (sequence, _) = sequence.split_first_chunk().ok_or(short)?;
        // What newer nodes append is skipped.
        let sent_millis =
            bytes[LEAST_HEADER_BYTES..length].first_chunk().map(|sent| u64::from_be_bytes(*sent));
        if !is_whole_frame(frame) {
            return Err(EnvelopeError::Frame);
        }
        let (origin, sequence) = (u128::from_be_bytes(*origin), u64::from_be_bytes(*sequence));
        Ok(Envelope { origin, sequence, sent_millis, frame })
    }
}

/// One final, uncompressed, unmasked text or binary frame with its length in the shortest form (RFC 6455, section 5.2),
/// and nothing behind it.
fn is_whole_frame(frame: &[u8]) -> bool {
    let [0x81 | 0x82, length, rest @ ..] = frame else { return false };
    match length {
        0..=125 => rest.len() == usize::from(*length),
        126 => rest.split_first_chunk().is_some_and(|(length, body)| {
            let length = u16::from_be_bytes(*length);
            length > 125 && body.len() == usize::from(length)
        }),
        127 => rest.split_first_chunk().is_some_and(|(length, body)| {
            let length = u64::from_be_bytes(*length);
            length > u16::MAX.into() && body.len() as u64 == length
        }),
        // The mask bit: only clients mask.
        128.. => false,
    }
}

/// Counts what is missing between the messages of one origin about one topic. NATS keeps the order of a sender, so a
/// sequence that does not rise means that the sender began anew (it had no members of the topic for a while).
///
/// Anybody with the password of the bus can make up origins and sequences. One message therefore adds no more than
/// [`MAX_GAP`] to the count, and made-up origins push each other out rather than those that go on speaking.
#[derive(Debug, Default)]
pub struct Gaps(Vec<Origin>);

/// A node that spoke about the topic.
#[derive(Debug)]
struct Origin {
    id: u128,
    sequence: u64,
    /// When it spoke last, in seconds.
    heard: u64,
    /// How often it spoke since it is known.
    messages: u32,
}

/// Most origins remembered per topic. Beyond it one is forgotten, and with it one possible gap.
pub const MAX_ORIGINS: usize = 256;
/// Most messages that are counted as missing before one: eleven minutes of 100 messages per second. A longer gap counts
/// as this long.
pub const MAX_GAP: u64 = 65_536;
/// An origin that has been silent for so many seconds is forgotten before any that was not: its process is gone, or it
/// has no members of the topic.
const SILENT_SECONDS: u64 = 300;

impl Gaps {
    /// Notes a message at a time in seconds, whose start does not matter; returns how many are missing before it, at most
    /// [`MAX_GAP`]. The first one of an origin tells nothing.
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

    /// Forgets whom it costs least: one that fell silent, or else who said least, and among these the one heard first.
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

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut out = vec![0x81];
        match body.len() {
            0..=125 => out.push(body.len() as u8),
            126..=0xffff => {
                out.push(126);
                out.extend_from_slice(&(body.len() as u16).to_be_bytes());
            }
            _ => {
                out.push(127);
                out.extend_from_slice(&(body.len() as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(body);
        out
    }

    #[test]
    fn the_bytes_are_as_documented() {
        let frame = &[0x81, 1, b'x'];
        let bytes = Envelope { origin: 0x0102, sequence: 3, sent_millis: Some(5), frame }.encode();
        let mut expected = vec![1, 34];
        expected.extend([0; 14]);
        expected.extend([1, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 5, 0x81, 1, b'x']);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn a_longer_header_of_a_newer_node_is_skipped_and_a_newer_version_is_refused() {
        let envelope = Envelope { origin: 7, sequence: 9, sent_millis: Some(4), frame: &[0x82, 0] };
        let mut bytes = envelope.encode();
        bytes.splice(34..34, [0xaa; 4]);
        bytes[1] = 38;
        assert_eq!(Envelope::decode(&bytes), Ok(envelope));
        // A node of before wrote no time of sending.
        bytes.drain(26..38);
        bytes[1] = 26;
        assert_eq!(Envelope::decode(&bytes), Ok(Envelope { sent_millis: None, ..envelope }));
        bytes[1] = 25;
        assert_eq!(Envelope::decode(&bytes), Err(EnvelopeError::Header(25)));
        bytes[0] = 2;
        assert_eq!(Envelope::decode(&bytes), Err(EnvelopeError::Version(2)));
    }

    #[test]
    fn only_one_whole_frame_passes() {
        let envelope =
            |frame: &[u8]| Envelope { origin: 0, sequence: 1, sent_millis: Some(0), frame }.encode();
        for (bad, why) in [
            (&[][..], "empty"),
            (&[0x81], "no length"),
            (&[0x81, 2, b'x'], "short"),
            (&[0x81, 1, b'x', 0x81], "two"),
            (&[0x01, 1, b'x'], "not final"),
            (&[0x88, 0], "close"),
            (&[0xc1, 1, b'x'], "compressed"),
            (&[0x81, 0x81, 0, 0, 0, 0, b'x'], "masked"),
            (&[0x81, 126, 0, 1, b'x'], "not the shortest length"),
        ] {
            assert_eq!(Envelope::decode(&envelope(bad)), Err(EnvelopeError::Frame), "{why}");
        }
        for length in [0, 125, 126, 0xffff, 0x1_0000] {
            let good = frame(&vec![b'x'; length]);
            assert_eq!(Envelope::decode(&envelope(&good)).map(|e| e.frame.len()), Ok(good.len()), "{length}");
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
        // Processes that are gone make room, however much they said.
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
            sent_millis: Option<u64>,
            body in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let frame = frame(&body);
            let envelope = Envelope { origin, sequence, sent_millis, frame: &frame };
            let bytes = envelope.encode();
            prop_assert_eq!(Envelope::decode(&bytes), Ok(envelope));
        }

        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..80), fix in 0..3u8) {
            // Without a likely start nearly all random bytes fail at the version.
            for (byte, likely) in bytes.iter_mut().zip([VERSION, HEADER_BYTES as u8]).take(fix.into()) {
                *byte = likely;
            }
            if let Ok(envelope) = Envelope::decode(&bytes) {
                prop_assert!(envelope.frame.len() <= bytes.len() - LEAST_HEADER_BYTES);
            }
        }
    }
}
