//! Long-poll: bodies, tokens, and requests on connections of any shard.

use arbitrary::Unstructured;

use crate::{
    limits::MAX_POST_LINES,
    longpoll::{
        body,
        token::{KEY_BYTES, TokenKey},
    },
    shard::tests::polls_chaos,
    ws::{Flow, Reader},
};

/// The bytes are a body, a token, a queue, and the choices of clients.
pub(super) fn check(bytes: &[u8]) {
    let key = TokenKey::new(&[7; KEY_BYTES]);
    assert!(key.verify(bytes).is_none_or(|session| key.sign(session).as_bytes() == bytes));
    posts(bytes);
    let list = body::messages(std::iter::once(bytes)).json;
    assert!(serde_json::from_slice::<Vec<String>>(&list).is_ok(), "a list of texts");
    // Too few bytes end the run early, which is no fault.
    polls_chaos::run(&mut Unstructured::new(bytes)).ok();
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
