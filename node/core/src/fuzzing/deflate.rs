//! Compressed messages: whatever a client sends, it is inflated within the bound or refused, and what is compressed here
//! inflates to the same.

use super::frame;
use crate::{
    config::Compression,
    counters::Counters,
    ws::{
        WsError,
        deflate::{Deflater, Inflater, MAX_WINDOW_BITS, MIN_WINDOW_BITS},
        extension,
        frame::{FIN_TEXT, RSV1, first_server_frame, write_header},
    },
};

/// The first byte says which part is checked, the second how long a message may be, the third more about it.
pub(super) fn check(bytes: &[u8]) {
    let Some((&[part, limit, more], data)) = bytes.split_first_chunk::<3>() else { return };
    let max = usize::from(limit) * 64;
    match part % 4 {
        0 => inflates(data, max),
        1 => frame::reads_the_same(data, max, more, true),
        2 => there_and_back(data, more),
        _ => offers(data, more),
    }
}

/// Any bytes as the payload of a compressed message, after and before a good one.
fn inflates(body: &[u8], max: usize) {
    let mut inflater = Inflater::default();
    let first = inflater.message(body, max).map(<[u8]>::to_vec);
    assert!(inflater.held_bytes() <= max + (64 << 10), "{}", inflater.held_bytes());
    match &first {
        Ok(said) => assert!(said.len() <= max),
        Err(error) => assert!(matches!(error, WsError::TooBig | WsError::Deflate)),
    }
    // Nothing of a message, good or bad, is left for the next one.
    assert_eq!(inflater.message(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], 5), Ok(&b"Hello"[..]));
    assert_eq!(inflater.message(body, max).map(<[u8]>::to_vec), first);
    // A longer bound gives the same, or more of what was too long.
    match (first, inflater.message(body, 2 * max + 1)) {
        (Ok(said), more) => assert_eq!(more, Ok(&*said)),
        (Err(WsError::Deflate), more) => assert!(more.is_err()),
        (Err(_), _) => {}
    }
}

/// A run of frames with pieces of the data, compressed.
fn there_and_back(data: &[u8], more: u8) {
    let (level, bits) = (1 + more % 9, MIN_WINDOW_BITS + more % (MAX_WINDOW_BITS - MIN_WINDOW_BITS + 1));
    let mut run = Vec::new();
    for piece in data.chunks(1 + usize::from(more) * 16) {
        write_header(&mut run, FIN_TEXT, piece.len());
        run.extend_from_slice(piece);
    }
    let mut counters = Counters::ZERO;
    let settings = Compression { level, min_bytes: 32 };
    let smaller = Deflater::within(bits).run(&run.clone().into(), settings, &mut counters);
    assert!(smaller.len() <= run.len());
    let (mut inflater, mut again, mut rest) = (Inflater::default(), Vec::new(), &smaller[..]);
    while let Some((first, payload, behind)) = first_server_frame(rest) {
        let said = if first & RSV1 == 0 {
            payload
        } else {
            inflater.message(payload, data.len()).expect("good data")
        };
        write_header(&mut again, first & !RSV1, said.len());
        again.extend_from_slice(said);
        rest = behind;
    }
    assert!(rest.is_empty() && again == run);
}

/// Any header with offers: what is agreed on is within what was offered, and reads back as an offer of the same.
fn offers(data: &[u8], more: u8) {
    let least = MIN_WINDOW_BITS + more % (MAX_WINDOW_BITS - MIN_WINDOW_BITS + 1);
    if let Some(agreed) = extension::negotiate(data.split(|byte| *byte == b'\n'), least) {
        assert!((least..=MAX_WINDOW_BITS).contains(&agreed.window_bits()));
        let answer = agreed.answer();
        assert_eq!(extension::negotiate([answer.as_bytes()].into_iter(), least), Some(agreed));
    }
}
