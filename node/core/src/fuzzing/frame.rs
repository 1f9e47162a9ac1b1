//! The WebSocket reader: however a stream is cut, it gives the same messages.

use crate::ws::{
    Event, Flow, Reader, WsError,
    deflate::Inflater,
    frame::{MAX_CONTROL_BYTES, control, header_bytes, split_server_frame, write_header},
};

/// A message that a reader gave.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Vec<u8>),
}

/// All messages, and how the reading ended.
type Outcome = (Vec<Said>, Result<Flow, WsError>);

/// The first two bytes say how long a message may be and where the stream is cut; the rest is the stream.
pub(super) fn check(bytes: &[u8]) {
    server_frames(bytes);
    let Some((&[limit, cuts], stream)) = bytes.split_first_chunk::<2>() else { return };
    reads_the_same(stream, usize::from(limit) * 16, cuts, false);
}

/// Reads a stream at once, byte by byte, in pieces and with pauses, from a client that may compress messages or may not.
pub(super) fn reads_the_same(stream: &[u8], max: usize, cuts: u8, deflate: bool) {
    let read = |lengths: &mut dyn Iterator<Item = usize>, after| read(stream, (max, deflate), lengths, after);
    let whole = read(&mut std::iter::once(stream.len()), Flow::Continue);
    let one_by_one = read(&mut std::iter::repeat_n(1, stream.len()), Flow::Continue);
    let pieces = || {
        // Lengths from 1 to 64 that differ from piece to piece.
        let mut state = u32::from(cuts) << 8 | 1;
        std::iter::from_fn(move || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            Some(1 + (state % 64) as usize)
        })
    };
    assert_eq!(read(&mut pieces(), Flow::Continue), whole, "cut at other places");
    assert_eq!(one_by_one, whole, "byte by byte");
    assert_eq!(read(&mut pieces(), Flow::Pause), whole, "with a pause after each message");
    for said in &whole.0 {
        match said {
            Said::Text(text) => assert!(text.len() <= max),
            Said::Binary(bytes) => assert!(bytes.len() <= max),
            Said::Ping(bytes) | Said::Close(bytes) => assert!(bytes.len() <= MAX_CONTROL_BYTES),
            Said::Pong => {}
        }
    }
}

/// Reads `stream` in pieces; `after` is the answer to each message.
fn read(
    stream: &[u8],
    (max, deflate): (usize, bool),
    lengths: &mut dyn Iterator<Item = usize>,
    after: Flow,
) -> Outcome {
    let mut said = Vec::new();
    let mut reader = Reader::default();
    let mut inflater = deflate.then(Inflater::default);
    let mut feed = |reader: &mut Reader, piece: &[u8], said: &mut Vec<Said>| {
        feed(reader, piece, (max, inflater.as_mut()), after, said)
    };
    let mut rest = stream;
    for length in lengths {
        if rest.is_empty() {
            break;
        }
        let (piece, behind) = rest.split_at(length.min(rest.len()));
        rest = behind;
        let mut result = feed(&mut reader, piece, &mut said);
        while result == Ok(Flow::Pause) {
            result = feed(&mut reader, &[], &mut said);
        }
        if result != Ok(Flow::Continue) {
            return (said, result);
        }
        // Buffers that grow take at most twice what is in them, and never less than a small allocation.
        let most = 4 * (max + MAX_CONTROL_BYTES + 64) + 2 * piece.len();
        assert!(reader.incomplete_bytes() <= most, "{} of {most}", reader.incomplete_bytes());
    }
    (said, Ok(Flow::Continue))
}

fn feed(
    reader: &mut Reader,
    piece: &[u8],
    (max, inflater): (usize, Option<&mut Inflater>),
    after: Flow,
    said: &mut Vec<Said>,
) -> Result<Flow, WsError> {
    let mut sink = |event: Event<'_>| {
        said.push(match event {
            Event::Text(text) => Said::Text(text.to_owned()),
            Event::Binary(bytes) => Said::Binary(bytes.to_vec()),
            Event::Ping(bytes) => Said::Ping(bytes.to_vec()),
            Event::Pong => Said::Pong,
            Event::Close(bytes) => Said::Close(bytes.to_vec()),
        });
        after
    };
    let mut piece = piece.to_vec();
    match inflater {
        None => reader.feed(&mut piece, max, &mut sink),
        Some(inflater) => reader.feed_deflate(&mut piece, max, inflater, &mut sink),
    }
}

/// A server's frame that splits makes the same frame again, and every frame that is written splits.
fn server_frames(bytes: &[u8]) {
    if let Some((first, payload)) = split_server_frame(bytes) {
        let mut again = Vec::new();
        write_header(&mut again, first, payload.len());
        assert_eq!(again.len(), header_bytes(payload.len()));
        again.extend_from_slice(payload);
        // Only the shortest form of a length is written.
        assert!(again.len() < bytes.len() || again == bytes);
        assert_eq!(split_server_frame(&again), Some((first, payload)));
    }
    let pong = control(crate::ws::Opcode::Pong, bytes);
    let cut = &bytes[..bytes.len().min(MAX_CONTROL_BYTES)];
    assert_eq!(split_server_frame(&pong), Some((0x8a, cut)));
}
