//! Messages of other nodes on the bus: they are read or refused, and never become a broken frame for members.

use std::collections::BTreeMap;

use crate::{
    broadcast::{Kind, Packed},
    envelope::{Envelope, Gaps, HEADER_BYTES, MAX_GAP, MAX_ORIGINS},
    protocol::{Vsn, encode, foreign},
};

/// The bytes are an envelope, and then a row of sequences.
pub(super) fn check(bytes: &[u8]) {
    if let Ok(envelope) = Envelope::decode(bytes) {
        let Packed { bytes: said, .. } = envelope.packed;
        assert!(said.len() <= bytes.len() - HEADER_BYTES && bytes.ends_with(said));
        members(&envelope.packed);
        let again = envelope.encode();
        assert_eq!(Envelope::decode(&again), Ok(envelope));
        assert_eq!(again.len(), HEADER_BYTES + said.len());
        assert!(Envelope::decode(&again[..HEADER_BYTES - 1]).is_err());
    }
    if let [topic_bytes, event_bytes, bytes @ ..] = bytes {
        for kind in (0..=u8::MAX).map_while(Kind::of) {
            let packed = Packed { kind, topic_bytes: *topic_bytes, event_bytes: *event_bytes, bytes };
            let envelope = Envelope { origin: 1, sequence: 1, sent_millis: 1, packed };
            assert_eq!(Envelope::decode(&envelope.encode()), Ok(envelope));
            members(&packed);
        }
    }
    gaps(bytes);
}

/// A broadcast that members are given has their topic, and V1 members can get it if it is text, all others always.
fn members(packed: &Packed<&[u8]>) {
    const TOPIC: &str = "room:1";
    if foreign::check(packed, TOPIC, packed.len()).is_ok() {
        assert_eq!(foreign::check(packed, "room:2", packed.len()), Err(foreign::NotABroadcast::Topic));
        assert_eq!(foreign::check(packed, TOPIC, packed.len() - 1), Err(foreign::NotABroadcast::TooBig));
        let content = packed.unpack().expect("checked");
        let able = Vsn::ALL.map(|vsn| encode::broadcasts(vsn, &[content]).1);
        let is_json = matches!(packed.kind, Kind::Json | Kind::UserJson);
        assert_eq!(able, [usize::from(is_json), 1, 1]);
    }
}

/// Three bytes are one message: its origin, and what is added to the origin's sequence. There are so few origins that
/// none is forgotten.
fn gaps(bytes: &[u8]) {
    let mut gaps = Gaps::default();
    let mut last = BTreeMap::<u8, u64>::new();
    for message in bytes.chunks_exact(3) {
        let origin = message[0];
        let step = i64::from(i16::from_be_bytes([message[1], message[2]]));
        let sequence = match last.get(&origin) {
            Some(before) => before.saturating_add_signed(step),
            // Some sequences begin near the largest number.
            None if step < 0 => u64::MAX - step.unsigned_abs(),
            None => step.unsigned_abs(),
        };
        let expected = match last.insert(origin, sequence) {
            None => 0,
            Some(before) if sequence > before => sequence - before - 1,
            Some(_) => sequence.saturating_sub(1),
        };
        assert_eq!(gaps.note(origin.into(), sequence, 0), expected.min(MAX_GAP));
    }
    assert!(last.len() <= MAX_ORIGINS);
}
