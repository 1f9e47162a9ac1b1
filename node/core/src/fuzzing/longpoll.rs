//! Long-poll: bodies, tokens, and requests on connections of any shard.

use arbitrary::Unstructured;

use crate::{
    broadcast::NodeTag,
    limits::MAX_POST_LINES,
    longpoll::{
        body,
        parcel::{self, Parcel, Parts},
        token::{KEY_BYTES, Token, TokenKey},
    },
    shard::tests::polls_chaos,
    ws::{Flow, Reader},
};

/// The bytes are a body, a token, a queue, and the choices of clients.
pub(super) fn check(bytes: &[u8]) {
    let key = TokenKey::new(&[7; KEY_BYTES], NodeTag::of(1));
    if let Some(token) = Token::read(bytes) {
        assert_eq!(token.to_string().as_bytes(), bytes);
        assert_eq!(key.has_signed(&token), key.sign(token.session()) == token);
    }
    carried(bytes);
    posts(bytes);
    let list = body::messages(std::iter::once(bytes)).json;
    assert!(serde_json::from_slice::<Vec<String>>(&list).is_ok(), "a list of texts");
    // Too few bytes end the run early, which is no fault.
    polls_chaos::run(&mut Unstructured::new(bytes)).ok();
}

/// What another node sends is read or refused, and is sent again as it was.
fn carried(bytes: &[u8]) {
    let mut parts = Parts::default();
    let Ok(parcel) = Parcel::decode(bytes) else { return };
    let most = bytes.len();
    if let Ok(Some(said)) = parts.take(&parcel, 0, most) {
        let sent = (parcel.from, parcel.sent_millis);
        for part_bytes in [1, 7, most] {
            let mut arrived = Vec::new();
            for again in parcel::parcels(&said, sent, part_bytes) {
                let again = Parcel::decode(&again).expect("sent");
                arrived.extend(parts.take(&again, 0, 2 * most + 1_000).expect("read before"));
            }
            assert_eq!(arrived, std::slice::from_ref(&said));
        }
    }
    assert!(parts.held_bytes() <= most);
}

/// The frames of a post are whole, whatever it holds, and as many as it has messages.
fn posts(bytes: &[u8]) {
    for (lines, most) in [(false, 1), (true, bytes.split(|byte| *byte == b'\n').count().min(MAX_POST_LINES))]
    {
        let Some(mut frames) = body::frames(bytes, lines) else { continue };
        let (mut reader, mut messages) = (Reader::default(), 0);
        let result = reader.feed(&mut frames, bytes.len(), &mut |_| {
            messages += 1;
            Flow::Continue
        });
        // Text that is not UTF-8 ends the reading.
        assert!(result.is_err() || (messages, reader.held_bytes()) == (most, 0));
    }
}
