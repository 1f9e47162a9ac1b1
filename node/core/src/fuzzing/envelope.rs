//! What other nodes put on the bus: read or refused, and never a broken frame for members.

use std::collections::BTreeMap;

use crate::{
    envelope::{Envelope, Gaps, LEAST_HEADER_BYTES, MAX_GAP, MAX_ORIGINS},
    protocol::{encode, foreign},
    ws::frame::FIN_TEXT,
};

/// The bytes are an envelope, and then a row of sequences.
pub(super) fn check(bytes: &[u8]) {
    if let Ok(envelope) = Envelope::decode(bytes) {
        let Envelope { sent_millis, frame, .. } = envelope;
        assert!(frame.len() <= bytes.len() - LEAST_HEADER_BYTES && bytes.ends_with(frame));
        assert!(encode::is_broadcast_frame(frame));
        members(frame);
        let again = envelope.encode();
        assert_eq!(Envelope::decode(&again), Ok(envelope));
        let without = Envelope { sent_millis: None, ..envelope };
        assert_eq!(without.encode().len() + if sent_millis.is_some() { 8 } else { 0 }, again.len());
        // Another frame behind the first, or a byte less, is refused.
        assert!(Envelope::decode(&[&again, frame].concat()).is_err());
        assert!(Envelope::decode(&again[..again.len() - 1]).is_err());
    }
    let framed = Envelope { origin: 1, sequence: 1, sent_millis: Some(1), frame: bytes }.encode();
    let whole = Envelope::decode(&framed).map(|envelope| envelope.frame);
    assert!(whole.is_err() || whole == Ok(bytes));
    gaps(bytes);
}

/// What members are given names their topic, and those who speak V1 can be told text as well.
fn members(frame: &[u8]) {
    const TOPIC: &str = "room:1";
    if foreign::check(frame, TOPIC, frame.len()).is_ok() {
        assert_eq!(foreign::check(frame, "room:2", frame.len()), Err(foreign::NotABroadcast::Topic));
        assert_eq!(encode::broadcast_to_v1(frame).is_some(), frame[0] == FIN_TEXT);
    }
}

/// Three bytes are one message: who, and what is added to its sequence. Few enough origins that none is forgotten.
fn gaps(bytes: &[u8]) {
    let mut gaps = Gaps::default();
    let mut last = BTreeMap::<u8, u64>::new();
    for message in bytes.chunks_exact(3) {
        let origin = message[0];
        let step = i64::from(i16::from_be_bytes([message[1], message[2]]));
        let sequence = match last.get(&origin) {
            Some(before) => before.saturating_add_signed(step),
            // Some begin near the end of all numbers.
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
