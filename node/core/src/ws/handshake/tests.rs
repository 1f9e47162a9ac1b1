use super::*;

const RULES: Rules<'static> = Rules { path: "/socket", allowed_origins: &[], page: Some(b"<p>") };

fn request(line: &str, extra: &str) -> String {
    format!(
        "{line} HTTP/1.1\r\nHost: example.org\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{extra}\r\n"
    )
}

fn get(target: &str, extra: &str) -> Request {
    read(request(&format!("GET {target}"), extra).as_bytes(), &RULES)
}

#[test]
fn the_example_of_rfc_6455_is_accepted() {
    let Request::Upgrade { vsn, head_len, response } = get("/socket/websocket?vsn=2.0.0", "") else {
        panic!("refused")
    };
    assert_eq!((vsn, head_len), (Vsn::V2, request("GET /socket/websocket?vsn=2.0.0", "").len()));
    let text = String::from_utf8(response).expect("ASCII");
    assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
    assert!(text.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{text}");
    assert!(!text.contains("protocol"), "{text}");
}

#[test]
fn the_subprotocol_is_echoed_without_the_token() {
    let Request::Upgrade { response, .. } =
        get("/socket/websocket", "Sec-WebSocket-Protocol: phoenix, base64url.bearer.phx.abc\r\n")
    else {
        panic!("refused")
    };
    assert!(String::from_utf8_lossy(&response).ends_with("\r\nsec-websocket-protocol: phoenix\r\n\r\n"));
}

#[test]
fn vsn_chooses_the_serializer() {
    for (query, vsn) in [
        ("", Some(Vsn::V1)),
        ("?vsn=1.0.0", Some(Vsn::V1)),
        ("?vsn=2.0.0", Some(Vsn::V2)),
        ("?user=a&vsn=2%2e0%2E7", Some(Vsn::V2)),
        ("?vsn=1.0.0&vsn=2.0.0", Some(Vsn::V2)),
        ("?vsn=3.0.0", None),
        ("?vsn=2.1.0", None),
        ("?vsn=2", None),
        ("?vsn=", None),
        ("?vsn=x", None),
    ] {
        match (get(&format!("/socket/websocket{query}"), ""), vsn) {
            (Request::Upgrade { vsn: got, .. }, Some(vsn)) => assert_eq!(got, vsn, "{query}"),
            (Request::Refused(RefuseReason::Version), None) => {}
            (other, _) => panic!("{query}: {other:?}"),
        }
    }
}

#[test]
fn refusals() {
    use RefuseReason::{BadRequest, HeaderTooLarge, Method, NotFound, Origin};
    let long = format!("X: {}\r\n", "x".repeat(MAX_REQUEST_HEAD_BYTES));
    let many = "X: y\r\n".repeat(MAX_HEADERS);
    for (line, extra, reason) in [
        ("POST /socket/websocket", "", BadRequest),
        ("POST /", "", Method),
        ("GET /socket", "", NotFound),
        ("GET /socket/websockets", "", NotFound),
        ("GET /socket/websocket", "Host: again\r\n", BadRequest),
        ("GET /socket/websocket", "Origin: https://evil.org\r\n", Origin),
        ("GET /socket/websocket", "Origin:\r\n", Origin),
        ("GET /socket/websocket", &long, HeaderTooLarge),
        ("GET /socket/websocket", &many, HeaderTooLarge),
        ("G\0T /", "", BadRequest),
    ] {
        let got = read(request(line, extra).as_bytes(), &RULES);
        assert_eq!(got, Request::Refused(reason), "{line} {extra:.40}");
        assert!(refusal(reason).ends_with(b"\r\n\r\n"));
    }
    let plain = b"GET /socket/websocket HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(read(plain, &RULES), Request::Refused(BadRequest));
    let old = request("GET /socket/websocket", "").replace("HTTP/1.1", "HTTP/1.0");
    assert_eq!(read(old.as_bytes(), &RULES), Request::Refused(BadRequest));
    let short_key = request("GET /socket/websocket", "").replace("dGhlIHNhbXBsZSBub25jZQ==", "dGhl");
    assert_eq!(read(short_key.as_bytes(), &RULES), Request::Refused(BadRequest));
}

#[test]
fn a_head_is_incomplete_until_its_last_byte() {
    let whole = request("GET /socket/websocket", "");
    for end in 0..whole.len() {
        assert_eq!(read(&whole.as_bytes()[..end], &RULES), Request::Incomplete, "{end}");
    }
}

#[test]
fn the_page_is_served_at_the_root_only_when_there_is_one() {
    let Request::Page(response) = get("/?x", "") else { panic!("no page") };
    assert!(response.starts_with(b"HTTP/1.1 200 OK\r\n") && response.ends_with(b"\r\n\r\n<p>"));
    let without = Rules { page: None, ..RULES };
    assert_eq!(read(request("GET /", "").as_bytes(), &without), Request::Refused(RefuseReason::NotFound));
}
