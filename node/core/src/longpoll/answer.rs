//! The answers to requests of long-poll, as whole HTTP responses. Most have status 200 and the status that the client
//! looks at in their body.

use bytes::Bytes;

use super::token::Token;

/// The status in the body when a session is new to the client, or gone.
const GONE: u16 = 410;

/// Makes one response, whose `headers` end in line breaks.
fn response(status: &str, headers: &str, body: &[&[u8]], keep_alive: bool) -> Bytes {
    let length: usize = body.iter().map(|part| part.len()).sum();
    let connection = if keep_alive { "" } else { "connection: close\r\n" };
    let head = format!(
        "HTTP/1.1 {status}\r\naccess-control-allow-origin: *\r\n{headers}content-length: {length}\r\n{connection}\r\n"
    );
    let mut out = Vec::with_capacity(head.len() + length);
    out.extend_from_slice(head.as_bytes());
    body.iter().for_each(|part| out.extend_from_slice(part));
    out.into()
}

/// What a client reads must come from no cache: with the token in a header all sessions have one URL.
fn json(body: &[&[u8]], keep_alive: bool) -> Bytes {
    let headers = "content-type: application/json; charset=utf-8\r\nx-content-type-options: nosniff\r\n\
        cache-control: no-store\r\n";
    response("200 OK", headers, body, keep_alive)
}

/// The node of the session cannot be reached now. Stock clients take an answer without a body for a connection that
/// broke, and begin anew after a while.
#[must_use]
pub fn away(keep_alive: bool) -> Bytes {
    response("503 Service Unavailable", "retry-after: 1\r\ncache-control: no-store\r\n", &[], keep_alive)
}

/// A status alone: 200, 403, 408, 410 or 500.
#[must_use]
pub fn status(status: u16, keep_alive: bool) -> Bytes {
    json(&[format!(r#"{{"status":{status}}}"#).as_bytes()], keep_alive)
}

/// A new session. Clients that had none take this for the connection being open.
#[must_use]
pub fn opened(token: &Token, keep_alive: bool) -> Bytes {
    messages(GONE, token, b"[]", keep_alive)
}

/// The end of a poll, with messages as a JSON list: status 200, or 204 without any.
#[must_use]
pub fn messages(status: u16, token: &Token, list: &[u8], keep_alive: bool) -> Bytes {
    let start = format!(r#"{{"status":{status},"token":"{token}","messages":"#);
    json(&[start.as_bytes(), list, b"}"], keep_alive)
}

/// The answer to a browser that asks whether a page may send these headers.
#[must_use]
pub fn preflight(headers: &str, keep_alive: bool) -> Bytes {
    let allowed = format!(
        "access-control-allow-headers: {headers}\r\naccess-control-allow-methods: get, post, options\r\n\
         access-control-max-age: 3600\r\n"
    );
    response("200 OK", &allowed, &[], keep_alive)
}

/// A request that cannot be served. The rest of it may not be read, so the connection ends.
#[must_use]
pub fn unreadable(status: &str) -> Bytes {
    response(status, "", &[], false)
}

/// A request whose query cannot be read. No page may read this answer, with Phoenix neither, which looks at the query first.
#[must_use]
pub fn unreadable_query() -> Bytes {
    Bytes::from_static(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::longpoll::token::TOKEN_BYTES;

    #[test]
    fn answers_are_whole_responses() {
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let token = Token::from_bytes([0; TOKEN_BYTES]);
        let letters = "A".repeat(44);
        let answer = text(messages(200, &token, b"[\"\"]", true));
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert_eq!(body, format!(r#"{{"status":200,"token":"{letters}","messages":[""]}}"#));
        assert!(head.starts_with("HTTP/1.1 200 OK\r\naccess-control-allow-origin: *\r\n"), "{head}");
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{head}");
        let opened = text(opened(&token, true));
        assert!(
            opened.ends_with(&format!("\r\n\r\n{{\"status\":410,\"token\":\"{letters}\",\"messages\":[]}}"))
        );
        let away = text(away(true));
        assert!(away.starts_with("HTTP/1.1 503 ") && away.contains("\r\nretry-after: 1\r\n"), "{away}");
        assert!(away.ends_with("\r\ncontent-length: 0\r\n\r\n"), "{away}");
        let close = text(status(408, false));
        assert!(close.ends_with("\r\nconnection: close\r\n\r\n{\"status\":408}"), "{close}");
        assert!(text(preflight("a, b", true)).contains("\r\naccess-control-allow-headers: a, b\r\n"));
        assert!(
            text(unreadable("411 Length Required"))
                .ends_with("content-length: 0\r\nconnection: close\r\n\r\n")
        );
    }
}
