//! Bodies: what a POST says as frames of a WebSocket client, and what is queued for a session as a list of messages.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    limits::{MAX_ANSWER_BYTES, MAX_POST_BYTES, MAX_POST_LINES},
    ws::{
        Opcode,
        base64::PADDED,
        frame::{FIN_BINARY, FIN_TEXT, append_client_frame, first_server_frame},
    },
};

/// Frame header of a client with the longest form of a length.
const FRAME_HEADER_BYTES: usize = 14;

/// Longest body of a post in bytes: [`MAX_POST_LINES`] of the longest messages, where that is less than
/// [`MAX_POST_BYTES`]. A binary message has four letters for three bytes, and a line feed.
#[must_use]
pub fn most_bytes(max_frame_bytes: u32) -> usize {
    let line = (max_frame_bytes as usize).div_ceil(3) * 4 + 2;
    line.saturating_mul(MAX_POST_LINES).min(MAX_POST_BYTES)
}

/// The messages of a post as frames of a WebSocket client. With `lines` each of the first [`MAX_POST_LINES`] lines is
/// one: text when it begins with `[`, else base64 of a binary message. Otherwise the whole body is one text message.
/// `None` when a line is neither.
#[must_use]
pub fn frames(body: &[u8], lines: bool) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(body.len() + FRAME_HEADER_BYTES);
    if !lines {
        append_client_frame(&mut out, FIN_TEXT, body);
        return Some(out);
    }
    for line in body.split(|byte| *byte == b'\n').take(MAX_POST_LINES) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.starts_with(b"[") {
            append_client_frame(&mut out, FIN_TEXT, line);
        } else {
            append_client_frame(&mut out, FIN_BINARY, &PADDED.decode(line).ok()?);
        }
    }
    Some(out)
}

/// What is queued for a session, as far as one answer takes it.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    /// The messages as a JSON list of texts.
    pub json: Vec<u8>,
    /// How many messages these are.
    pub messages: usize,
    /// How many bytes of the queue they are.
    pub taken: usize,
    /// Whether a close frame came after them: the session says nothing more.
    pub ends: bool,
}

/// Makes a list of what is queued: `runs` are its frames, of which each slice has whole ones. Once the list has
/// [`MAX_ANSWER_BYTES`] the rest waits for the next poll.
pub fn messages<'a>(runs: impl Iterator<Item = &'a [u8]>) -> Said {
    let mut said = Said { json: vec![b'['], messages: 0, taken: 0, ends: false };
    for run in runs {
        said.taken += run.len();
        let mut rest = run;
        while let Some((first, payload, after)) = first_server_frame(rest) {
            rest = after;
            match first {
                FIN_TEXT | FIN_BINARY => append_message(&mut said, payload),
                _ => said.ends |= first & 0xf == Opcode::Close as u8,
            }
        }
        if said.ends || said.json.len() >= MAX_ANSWER_BYTES {
            break;
        }
    }
    said.json.push(b']');
    said
}

/// Phoenix writes the bytes of a binary message as a text where they are one, and fails where they are not. Here they are
/// base64 then, as in a post. A client can tell the three: a message in JSON begins with `[` or `{`, a binary one with its
/// kind, which is a control character, and base64 with neither.
fn append_message(said: &mut Said, payload: &[u8]) {
    if said.messages > 0 {
        said.json.push(b',');
    }
    said.messages += 1;
    let encoded;
    let text = match std::str::from_utf8(payload) {
        Ok(text) => text,
        Err(_) => {
            encoded = STANDARD.encode(payload);
            &encoded
        }
    };
    // Writing a text to memory cannot fail.
    serde_json::to_writer(&mut said.json, text).ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::{CloseCode, Event, Flow, Reader, frame};

    fn read(frames: &[u8]) -> Vec<String> {
        let mut said = Vec::new();
        let flow = Reader::default().feed(&mut frames.to_vec(), 1 << 20, &mut |event| {
            said.push(match event {
                Event::Text(text) => text.to_owned(),
                Event::Binary(bytes) => format!("{bytes:?}"),
                other => panic!("{other:?}"),
            });
            Flow::Continue
        });
        assert_eq!(flow, Ok(Flow::Continue));
        said
    }

    #[test]
    fn a_post_has_a_message_in_each_line_or_is_one_whole() {
        for (body, lines, said) in [
            ("[1]", true, &["[1]"][..]),
            ("[1]\n[2]\r\nAAEC", true, &["[1]", "[2]", "[0, 1, 2]"]),
            ("AB==", true, &["[0]"]),
            ("{}", false, &["{}"]),
            ("[1]\n[2]", false, &["[1]\n[2]"]),
            ("", false, &[""]),
            ("", true, &["[]"]),
            ("[1]\n", true, &["[1]", "[]"]),
        ] {
            let frames = frames(body.as_bytes(), lines).expect(body);
            assert_eq!(read(&frames), said, "{body:?}");
        }
        for bad in ["{}", "AAE", "AA EC", "[1]\n*", " [1]", "AAEC\r\r"] {
            assert_eq!(frames(bad.as_bytes(), true), None, "{bad:?}");
        }
        let many = vec!["[1]"; MAX_POST_LINES + 1].join("\n") + "\n*";
        assert_eq!(read(&frames(many.as_bytes(), true).expect("the rest is ignored")).len(), MAX_POST_LINES);
    }

    #[test]
    fn a_post_may_be_as_long_as_its_messages_may_be() {
        assert_eq!(most_bytes(1), 600);
        assert!(most_bytes(1 << 10) > MAX_POST_LINES << 10);
        assert_eq!(most_bytes(u32::MAX), MAX_POST_BYTES);
    }

    fn server(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        frame::write_header(&mut out, first, payload.len());
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn messages_are_a_list_of_texts_up_to_the_close_frame() {
        let two = [server(FIN_TEXT, b"[\"\xc3\xa4\n\"]"), server(FIN_BINARY, b"\x02\x01ab")].concat();
        let other = server(FIN_BINARY, &[2, 0xff]);
        let said = messages([&two[..], &other].into_iter());
        assert_eq!(said.json, r#"["[\"ä\n\"]","\u0002\u0001ab","Av8="]"#.as_bytes());
        assert_eq!((said.messages, said.taken, said.ends), (3, two.len() + other.len(), false));
        let close = frame::close(CloseCode::Restart);
        let said = messages([&close[..], &other].into_iter());
        assert_eq!((said.json, said.messages, said.taken, said.ends), (b"[]".to_vec(), 0, close.len(), true));
    }

    #[test]
    fn an_answer_takes_no_further_run_when_it_is_long() {
        let run = server(FIN_TEXT, &vec![b'x'; MAX_ANSWER_BYTES]);
        let said = messages([&run[..], &run].into_iter());
        assert_eq!((said.messages, said.taken), (1, run.len()));
    }
}
