use super::*;

const MAX: usize = 1_000;

/// A frame of 126 bytes or more, with a mask of zeros.
fn frame(first: u8, length: u16) -> Vec<u8> {
    let mut frame = vec![first, 0x80 | 126];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.resize(8, 0);
    frame.resize(8 + usize::from(length), b'x');
    frame
}

fn feed(reader: &mut Reader, data: &[u8], flow: Flow) -> Result<Flow, WsError> {
    reader.feed(&mut data.to_vec(), MAX, &mut |_| flow)
}

#[test]
fn a_fragment_that_makes_the_message_too_long_is_refused_by_its_header() {
    for (length, result) in [(400, Ok(Flow::Continue)), (401, Err(WsError::TooBig))] {
        let mut reader = Reader::default();
        assert_eq!(feed(&mut reader, &frame(0x01, 600), Flow::Continue), Ok(Flow::Continue));
        assert_eq!(feed(&mut reader, &frame(0x80, length)[..8], Flow::Continue), result);
    }
}

#[test]
fn a_message_of_just_the_limit_takes_control_frames_between_and_leaves_nothing() {
    let mut reader = Reader::default();
    let data = frame(0x02, 1_000);
    let (most, last) = data.split_at(1_007);
    let ping: &[u8] = &[0x89, 0x82, 0, 0, 0, 0, b'h', b'i'];
    for (data, least) in [(most, 1_007), (last, 1_000), (ping, 1_000)] {
        assert_eq!(feed(&mut reader, data, Flow::Continue), Ok(Flow::Continue));
        assert!(reader.incomplete_bytes() >= least, "{}", reader.incomplete_bytes());
    }
    assert_eq!(feed(&mut reader, &[0x80, 0x80, 0, 0, 0, 0], Flow::Continue), Ok(Flow::Continue));
    assert_eq!(reader.incomplete_bytes(), 0);
    assert!(reader.partial.is_none());
}

/// A masked text frame.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [7, 11, 13, 17];
    let length = u8::try_from(payload.len()).expect("a short one");
    let head = [first, 0x80 | length, MASK[0], MASK[1], MASK[2], MASK[3]];
    let payload = payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    head.into_iter().chain(payload).collect()
}

/// How many bytes of a stream are taken one by one before a fault is told.
fn taken(stream: &[u8]) -> (usize, Option<WsError>) {
    let mut reader = Reader::default();
    for (at, byte) in stream.iter().enumerate() {
        if let Err(error) = feed(&mut reader, &[*byte], Flow::Continue) {
            return (at, Some(error));
        }
    }
    (stream.len(), None)
}

#[test]
fn a_fault_in_a_text_is_told_with_the_byte_that_makes_it() {
    let bad = Some(WsError::Utf8);
    let ping = masked(0x89, b"hi");
    let part = masked(0x01, b"ab\xe2\x82");
    let stream = |more: &[Vec<u8>]| more.concat();
    // Inside a frame, with a header of six bytes before it.
    assert_eq!(taken(&masked(0x81, b"abcde\xffxyz")), (6 + 5, bad));
    // In a fragment, with a ping before it, where the character began in the fragment before.
    let second = stream(&[part.clone(), ping.clone(), masked(0x00, b"\xac\xff.")]);
    assert_eq!(taken(&second), (part.len() + ping.len() + 6 + 1, bad));
    let second = stream(&[part.clone(), masked(0x80, b"(xyz")]);
    assert_eq!(taken(&second), (part.len() + 6, bad));
    // The text is whole but for its last character.
    assert_eq!(taken(&stream(&[masked(0x81, b"ab\xe2\x82")])), (9, bad));
    // Every message begins anew, whatever the one before it ended with.
    let good = masked(0x81, "\u{20ac}".as_bytes());
    let all = stream(&[part.clone(), masked(0x80, b"\xac"), good.clone(), good, part.clone()]);
    assert_eq!(taken(&all), (all.len(), None));
    // Bytes are not text.
    let binary = stream(&[masked(0x02, b"\xff"), masked(0x80, b"\xff\xfe"), masked(0x82, b"\xff\xff")]);
    assert_eq!(taken(&binary), (binary.len(), None));
}

#[test]
fn a_frame_that_may_not_follow_is_refused_by_its_header() {
    let wrong = Some(WsError::Protocol);
    assert_eq!(taken(&masked(0x80, b"abc")), (5, wrong));
    for second in [0x81, 0x02] {
        let part = masked(0x01, b"a");
        let both = [part.clone(), masked(second, b"\xff")].concat();
        assert_eq!(taken(&both), (part.len() + 5, wrong));
    }
}

#[test]
fn what_was_paused_is_incomplete_when_it_was_looked_at() {
    let mut reader = Reader::default();
    let mut data = frame(0x82, 300);
    data.extend_from_slice(&frame(0x82, 300)[..100]);
    assert_eq!(feed(&mut reader, &data, Flow::Pause), Ok(Flow::Pause));
    assert_eq!((reader.buffered().len(), reader.incomplete_bytes()), (100, 0));
    assert_eq!(feed(&mut reader, &[], Flow::Continue), Ok(Flow::Continue));
    assert!(reader.incomplete_bytes() >= 100);
}

#[test]
fn the_start_of_a_frame_does_not_keep_the_memory_of_the_one_before() {
    let mut reader = Reader::default();
    let mut data = frame(0x82, 900);
    data.push(0x82);
    let (most, rest) = data.split_at(800);
    assert_eq!(feed(&mut reader, most, Flow::Continue), Ok(Flow::Continue));
    assert!(reader.incomplete_bytes() >= 800);
    assert_eq!(feed(&mut reader, rest, Flow::Continue), Ok(Flow::Continue));
    assert!((1..100).contains(&reader.incomplete_bytes()), "{}", reader.incomplete_bytes());
}
