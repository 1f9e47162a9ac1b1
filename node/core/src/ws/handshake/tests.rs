use super::*;
use crate::{auth::Keyring, ws::host::Names};

const AUTH: &Auth = &Auth {
    anonymous: true,
    anonymous_topics: vec![],
    jwt: vec![],
    token_param: None,
    expiry_warning_millis: None,
    on_expiry: crate::config::OnExpiry::Close,
    allowed_origins: vec![],
    served_hosts: vec![],
    names: Names::Any,
    keys: Keyring::NONE,
};
const RULES: Rules<'static> = Rules {
    path: "/socket",
    max_head_bytes: 32 << 10,
    auth: AUTH,
    page: Some(Page { html: b"<p>", policy: "default-src 'none'" }),
    ready: true,
    dev: false,
    client: None,
    long_poll: None,
    deflate_window_bits: None,
};

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
    let Request::Upgrade { vsn, head_len, response, token: None, .. } =
        get("/socket/websocket?vsn=2.0.0", "")
    else {
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
        get("/socket/websocket", "Sec-WebSocket-Protocol: phoenix, base64url.bearer.phx.dG9rZW4\r\n")
    else {
        panic!("refused")
    };
    assert!(String::from_utf8_lossy(&response).ends_with("\r\nsec-websocket-protocol: phoenix\r\n\r\n"));
}

#[test]
fn dev_mode_is_told_what_a_client_says_about_itself_and_refuses_who_asks_for_it() {
    let dev = Rules { dev: true, ..RULES };
    let token = "Sec-WebSocket-Protocol: base64url.bearer.phx.dG9rZW4\r\n";
    let told = |rules: &Rules<'_>, target: &str, extra: &str| match read(
        request(&format!("GET /socket/websocket{target}"), extra).as_bytes(),
        rules,
    ) {
        Request::Upgrade { info, response, .. } => {
            let response = String::from_utf8(response).expect("ASCII");
            assert!(!response.contains("protocol"), "{response}");
            Ok(info)
        }
        other => Err(other),
    };
    let info =
        Box::new(ConnectInfo { user_id: Some("\u{fc}".to_owned()), auth_token: Some("token".to_owned()) });
    assert_eq!(told(&dev, "?user_id=%C3%BC", token), Ok(Some(info)));
    assert_eq!(told(&RULES, "?user_id=ann", token), Ok(None));
    assert_eq!(told(&dev, "?user_id[]=ann", ""), Ok(None));
    assert_eq!(told(&dev, "?refuse", ""), Err(Request::Refused(RefuseReason::Asked)));
    assert_eq!(told(&RULES, "?refuse", ""), Ok(None));
}

#[test]
fn vsn_chooses_the_serializer() {
    for (query, vsn) in [
        ("", Some(Vsn::V1)),
        ("?vsn=1.0.0", Some(Vsn::V1)),
        ("?vsn=2.0.0", Some(Vsn::V2)),
        ("?user=a&vsn=2%2e0%2E7", Some(Vsn::V2)),
        ("?vsn=1.0.0&vsn=2.0.0", Some(Vsn::V2)),
        ("?vsn[]=2.0.0&vsn=2.0.1%2Bx", Some(Vsn::V2)),
        ("?vsn=2.0.0%2Bmsgpack", Some(Vsn::MessagePack)),
        ("?vsn=2.0.0+msgpack", Some(Vsn::MessagePack)),
        ("?vsn=2.0.7%2Bmsgpack", Some(Vsn::MessagePack)),
        ("?vsn=2.0.0%2Bmsgpack.1", Some(Vsn::V2)),
        ("?vsn=1.0.0%2Bmsgpack", Some(Vsn::V1)),
        ("?vsn=2.1.0%2Bmsgpack", None),
        ("?vsn=2.0.0&x=%zz", Some(Vsn::V2)),
        ("?vsn=2.0.0&vsn[]=2.0.0", None),
        ("?vsn[a]=2.0.0", None),
        ("?vsn=2.0.0+x", None),
        ("?vsn=%2B2.0.0", None),
        ("?vsn=2.0.0-rc.1", None),
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
    use RefuseReason::{BadRequest, HeaderTooLarge, Method, NotFound, Origin, Subprotocol, Version};
    let long = format!("X: {}\r\n", "x".repeat(RULES.max_head_bytes));
    let many = "X: y\r\n".repeat(MAX_HEADERS);
    for (line, extra, reason) in [
        ("POST /socket/websocket", "", BadRequest),
        ("POST /", "", Method),
        ("GET /socket", "", NotFound),
        ("GET /socket/websockets", "", NotFound),
        ("HEAD /socket/websocket", "", BadRequest),
        ("HEAD /socket", "", NotFound),
        ("OPTIONS *", "", Method),
        ("CONNECT example.org:80", "", Method),
        ("GET *", "", BadRequest),
        ("GET http://u@example.org/socket/websocket", "", BadRequest),
        ("GET /socket/websocket", "Host: again\r\n", BadRequest),
        ("GET http://example.org/socket/websocket", "Host: again\r\n", BadRequest),
        // A handshake has no body, so one that names a length is refused.
        ("GET /socket/websocket", "Content-Length: 5\r\n", BadRequest),
        ("GET /socket/websocket", "Content-Length: 0\r\nContent-Length: 0\r\n", BadRequest),
        ("GET /socket/websocket", "Content-Length: 0, 5\r\n", BadRequest),
        ("GET /socket/websocket", "Content-Length: 00\r\n", BadRequest),
        ("GET /socket/websocket", "Content-Length:\r\n", BadRequest),
        ("GET /socket/websocket", "Transfer-Encoding: chunked\r\n", BadRequest),
        ("GET /socket/websocket", "Transfer-Encoding: identity\r\n", BadRequest),
        ("GET /socket/websocket", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", BadRequest),
        ("GET /", "Content-Length: 1\r\n", BadRequest),
        ("GET /healthz", "Transfer-Encoding: chunked\r\n", BadRequest),
        ("GET /socket/websocket", "Origin: https://evil.org\r\n", Origin),
        ("GET /socket/websocket", "Origin:\r\n", Origin),
        ("GET /socket/websocket?x=%ff", "", BadRequest),
        ("GET /socket/websocket", "Sec-WebSocket-Protocol: other\r\n", Subprotocol),
        ("GET /socket/websocket", "Sec-WebSocket-Protocol: phoenix, base64url.bearer.phx.!\r\n", Subprotocol),
        // The first fault counts, in the order of Phoenix.
        ("GET /socket/websocket?x=%ff", "Origin:\r\n", BadRequest),
        ("GET /socket/websocket?vsn=3", "Origin:\r\nSec-WebSocket-Protocol: x\r\n", Origin),
        ("GET /socket/websocket?vsn=3", "Sec-WebSocket-Protocol: x\r\nUpgrade: x\r\n", Subprotocol),
        ("GET /socket/websocket?vsn=3", "Sec-WebSocket-Version: 8\r\n", Version),
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
    let Request::Answer(response) = get("/?x", "") else { panic!("no page") };
    let text = String::from_utf8(response).expect("ASCII");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\n<p>"), "{text}");
    assert!(text.contains("\r\ncontent-security-policy: default-src 'none'\r\n"), "{text}");
    let without = Rules { page: None, ..RULES };
    assert_eq!(read(request("GET /", "").as_bytes(), &without), Request::Refused(RefuseReason::NotFound));
}

#[test]
fn an_empty_body_is_none() {
    assert!(matches!(get("/socket/websocket", "Content-Length: 0\r\n"), Request::Upgrade { .. }));
}

#[test]
fn an_absolute_target_names_the_host() {
    let auth = Auth { served_hosts: vec!["chat.example.net".to_owned()], ..AUTH.clone() };
    let rules = Rules { auth: &auth, ..RULES };
    let ask = |target: &str, extra: &str| read(request(&format!("GET {target}"), extra).as_bytes(), &rules);
    let target = "http://chat.example.net/socket/websocket?vsn=2.0.0";
    assert!(matches!(ask(target, ""), Request::Upgrade { vsn: Vsn::V2, .. }), "the header says example.org");
    let origin = "Origin: https://chat.example.net\r\n";
    assert!(matches!(ask(target, origin), Request::Upgrade { .. }));
    for refused in ["/socket/websocket", "http://example.org/socket/websocket", "/"] {
        assert_eq!(ask(refused, ""), Request::Refused(RefuseReason::Host), "{refused}");
    }
}

/// The grammar of RFC 3986, section 3.2.3, is `port = *DIGIT`.
#[test]
fn the_port_of_a_host_is_digits_or_nothing() {
    let ask = |host: &str, auth: &Auth| {
        let text = request("GET /socket/websocket", "")
            .replace("Host: example.org\r\n", &format!("Host: {host}\r\n"));
        read(text.as_bytes(), &Rules { auth, ..RULES })
    };
    let served = Auth { served_hosts: vec!["example.org".to_owned(), "[::1]".to_owned()], ..AUTH.clone() };
    for host in [
        "example.org",
        "example.org:",
        "example.org:080",
        "example.org:0",
        "example.org:65535",
        "[::1]",
        "[::1]:",
    ] {
        for auth in [AUTH, &served] {
            assert!(matches!(ask(host, auth), Request::Upgrade { .. }), "{host}");
        }
    }
    for host in [
        "example.org:65536",
        "example.org:8a",
        "example.org:+80",
        "example.org:-1",
        "example.org:80:",
        "example.org:: 80",
        "::1",
        "[::1",
        "[::1]80",
        "[::1]:x",
    ] {
        assert_eq!(ask(host, AUTH), Request::Refused(RefuseReason::BadRequest), "{host}");
    }
}

/// Another owner's name leads here: the page and the socket then have the same host, which is not ours.
#[test]
fn a_rebound_name_is_refused_where_hosts_or_origins_are_listed_and_in_dev_mode() {
    let text = request("GET /socket/websocket", "Origin: http://evil.example\r\n")
        .replace("Host: example.org", "Host: evil.example:80");
    let ask = |auth: &Auth| read(text.as_bytes(), &Rules { auth, ..RULES });
    assert!(matches!(ask(AUTH), Request::Upgrade { .. }), "nothing says which names are ours");
    let listed = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let hosts = Auth { served_hosts: listed(&["example.org"]), ..AUTH.clone() };
    let origins = Auth { allowed_origins: listed(&["https://example.org"]), ..AUTH.clone() };
    let (loopback, addresses) =
        (Auth { names: Names::Loopback, ..AUTH.clone() }, Auth { names: Names::Addresses, ..AUTH.clone() });
    for (auth, reason) in [
        (&hosts, RefuseReason::Host),
        (&origins, RefuseReason::Origin),
        (&loopback, RefuseReason::Host),
        (&addresses, RefuseReason::Host),
    ] {
        assert_eq!(ask(auth), Request::Refused(reason), "{auth:?}");
    }
}

#[test]
fn load_balancers_are_told_whether_the_node_is_ready_whatever_host_they_name() {
    let auth = Auth { names: Names::Loopback, ..AUTH.clone() };
    for (line, ready, status, body) in [
        ("GET /healthz HTTP/1.1", true, "200 OK", "ready\n"),
        ("HEAD /healthz HTTP/1.1", true, "200 OK", ""),
        ("GET /health HTTP/1.0", false, "503 Service Unavailable", "not ready\n"),
        ("HEAD /healthz/ HTTP/1.1", false, "503 Service Unavailable", ""),
    ] {
        let rules = Rules { auth: &auth, ready, ..RULES };
        let Request::Answer(response) = read(format!("{line}\r\nHost: 10.0.0.9\r\n\r\n").as_bytes(), &rules)
        else {
            panic!("{line}: refused")
        };
        let text = String::from_utf8(response).expect("ASCII");
        let (head, got) = text.split_once("\r\n\r\n").expect("a head");
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}\r\n")) && head.contains("connection: close"),
            "{text}"
        );
        assert_eq!(got, body, "{line}");
    }
    assert_eq!(read(request("POST /healthz", "").as_bytes(), &RULES), Request::Refused(RefuseReason::Method));
}

#[test]
fn the_page_has_a_head_of_its_own() {
    let Request::Answer(head) = read(request("HEAD /", "").as_bytes(), &RULES) else { panic!("no page") };
    let text = String::from_utf8(head).expect("ASCII");
    assert!(text.contains("content-length: 3\r\n") && text.ends_with("\r\n\r\n"), "{text}");
}

/// Bandit, the server that Phoenix comes with, takes 10,000 bytes for the request line and for each header.
#[test]
fn what_phoenix_takes_is_taken() {
    let (token, cookie) = ("t".repeat(9_900), format!("Cookie: a={}\r\n", "c".repeat(9_900)));
    let target = format!("/socket/websocket?vsn=2.0.0&token={token}");
    assert!(matches!(get(&target, &cookie), Request::Upgrade { .. }));
    let many = "X: y\r\n".repeat(50);
    assert!(matches!(get("/socket/websocket", &many), Request::Upgrade { .. }));
}

#[test]
fn a_head_is_parsed_again_only_when_it_may_be_whole() {
    let whole = request("GET /socket/websocket", "");
    let parsed: Vec<usize> = (1..=whole.len())
        .filter(|end| may_be_whole(&whole.as_bytes()[..*end], end - 1, usize::MAX))
        .collect();
    assert_eq!(parsed, [whole.len()]);
    // However the head is cut into pieces, its end is found.
    let bare = whole.replace('\r', "");
    for text in [&whole, &bare] {
        for cut in 0..text.len() {
            assert!(may_be_whole(text.as_bytes(), cut, usize::MAX), "{cut}");
        }
    }
    assert!(may_be_whole(&[b'x'; 100], 99, 100), "too long is told");
    assert!(!may_be_whole(&[b'x'; 99], 98, 100));
}

#[test]
fn compression_is_agreed_on_where_it_is_configured_and_offered() {
    let ask = |deflate_window_bits, extra: &str| {
        let rules = Rules { deflate_window_bits, ..RULES };
        match read(request("GET /socket/websocket", extra).as_bytes(), &rules) {
            Request::Upgrade { deflate, response, .. } => {
                (deflate.is_some(), String::from_utf8(response).expect("ASCII"))
            }
            other => panic!("refused: {other:?}"),
        }
    };
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    for (bits, extra) in [(None, offer), (Some(15), ""), (Some(15), "Sec-WebSocket-Extensions: foo\r\n")] {
        let (agreed, response) = ask(bits, extra);
        assert!(!agreed && !response.contains("extensions"), "{response}");
    }
    let (agreed, response) = ask(Some(15), offer);
    let line = "\r\nsec-websocket-extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n\r\n";
    assert!(agreed && response.ends_with(line), "{response}");
}
