//! The HTTP side of the public port: the WebSocket handshake (RFC 6455 section 4.2) with Phoenix's parameters, the chat
//! page, and refusals.
//!
//! The head is parsed by httparse straight from the bytes, which costs 3 us less per accept than a HTTP library,
//! leaves nothing in memory, and keeps the limits our own. Every answer but an upgrade and those of long-poll closes the
//! connection.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use sha1::{Digest, Sha1};

use super::{
    Agreed, ConnectInfo, Opening,
    base64::PADDED,
    extension,
    headers::{has_token, single, values},
    host, origin,
    query::{self, Parameters},
    subprotocol,
    target::Target,
};
use crate::{
    auth::Token, config::Auth, counters::RefuseReason, limits::MAX_HEADERS, longpoll, protocol::Vsn,
    proxy::forwarded::Search,
};

/// Appended to the client's key before hashing (RFC 6455 section 1.3).
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Length of a decoded `Sec-WebSocket-Key`, and of the buffer that base64 wants for it.
const KEY_BYTES: usize = 16;
const KEY_BUFFER: usize = 18;
/// Length of `Sec-WebSocket-Accept`: a SHA-1 digest in base64.
const ACCEPT_BYTES: usize = 28;

/// Paths at which load balancers ask whether to send new clients.
const HEALTH_PATHS: [&str; 2] = ["/healthz", "/health"];

/// The chat page.
#[derive(Debug, Clone, Copy, Default)]
pub struct Page<'a> {
    /// The document.
    pub html: &'a [u8],
    /// Its content security policy, a header's value.
    pub policy: &'a str,
}

/// The settings that decide about a request.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// Mount, such as `/socket`.
    pub path: &'a str,
    /// Longest head in bytes.
    pub max_head_bytes: usize,
    /// Which origins may connect, and by which hosts.
    pub auth: &'a Auth,
    /// The page at `/`, when one is served.
    pub page: Option<Page<'a>>,
    /// Whether load balancers shall send new clients.
    pub ready: bool,
    /// How requests of long-poll are read, when these are served.
    pub long_poll: Option<longpoll::request::Rules<'a>>,
    /// Whether dev mode's rules apply: what a client says about itself is told, and it is refused when it asks for that.
    pub dev: bool,
    /// Where the client's address is looked for, when a proxy sent the request and the address matters.
    pub client: Option<&'a Search<'a>>,
    /// The smallest window that the server can compress within, as its base-2 logarithm; none where messages are not
    /// compressed.
    pub deflate_window_bits: Option<u8>,
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// The head is not complete yet.
    Incomplete,
    /// A WebSocket handshake that can be accepted with `response`.
    Upgrade {
        /// Serializer that the client chose.
        vsn: Vsn,
        /// Bytes of the head; what follows are frames.
        head_len: usize,
        /// The whole `101` response.
        response: Vec<u8>,
        /// What the client says about itself, where dev mode asks for it and there is anything.
        info: Option<Box<ConnectInfo>>,
        /// The token that came with it, not verified. It is only looked for where an issuer of tokens is declared.
        token: Option<Token>,
        /// Set where messages may be compressed.
        deflate: Option<Agreed>,
    },
    /// The chat page or the state of the node, as a whole response.
    Answer(Vec<u8>),
    /// A request of a long-poll client.
    LongPoll(longpoll::request::Request),
    /// Anything else on the path of long-poll, and the whole response to it.
    Declined(RefuseReason, Bytes),
    /// Anything else.
    Refused(RefuseReason),
}

/// Reads a request head.
#[must_use]
pub fn read(bytes: &[u8], rules: &Rules<'_>) -> Request {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let head_len = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= rules.max_head_bytes => length,
        Ok(httparse::Status::Partial) if bytes.len() < rules.max_head_bytes => return Request::Incomplete,
        Ok(_) | Err(httparse::Error::TooManyHeaders) => {
            return Request::Refused(RefuseReason::HeaderTooLarge);
        }
        Err(_) => return Request::Refused(RefuseReason::BadRequest),
    };
    if let Some(search) = rules.client {
        search.look(values(request.headers, search.header()));
    }
    let target = Target::read(request.method.unwrap_or_default(), request.path.unwrap_or_default());
    let is_socket = target.as_ref().is_ok_and(|target| target.is_below(rules.path, "websocket"));
    if !is_socket
        && let (Some(long_poll), Ok(target)) = (&rules.long_poll, &target)
        && target.is_below(rules.path, "longpoll")
    {
        return long_poll_request(&request, target, head_len, (rules.auth, long_poll));
    }
    // A handshake has no body (RFC 6455 section 4.1), and no other request here has one: frames follow the head. A
    // client that could make us and a proxy disagree about where the frames begin could speak for other clients.
    if has_body(request.headers) {
        return Request::Refused(RefuseReason::BadRequest);
    }
    match target {
        Ok(target) => route(&request, (&target, is_socket), head_len, rules),
        Err(reason) => Request::Refused(reason),
    }
}

fn long_poll_request(
    request: &httparse::Request<'_, '_>,
    target: &Target<'_>,
    head_len: usize,
    (auth, rules): (&Auth, &longpoll::request::Rules<'_>),
) -> Request {
    match addressed(request.headers, target, auth) {
        Ok(Some(host)) => match longpoll::request::read(request, target, head_len, host, (auth, rules)) {
            Ok(request) => Request::LongPoll(request),
            Err((reason, response)) => Request::Declined(reason, response),
        },
        Ok(None) => Request::Refused(RefuseReason::BadRequest),
        Err(reason) => Request::Refused(reason),
    }
}

/// The host that a request is addressed to; none when it names none in a header. An absolute target counts instead of the
/// header, of which there must be exactly one all the same. A port must be one (RFC 9112 section 3.2).
fn addressed<'a>(
    headers: &[httparse::Header<'a>],
    target: &Target<'a>,
    auth: &Auth,
) -> Result<Option<&'a [u8]>, RefuseReason> {
    let named = single(headers, "host")?;
    let has_port = |host| std::str::from_utf8(host).is_ok_and(host::has_valid_port);
    if !named.is_none_or(has_port) {
        return Err(RefuseReason::BadRequest);
    }
    let host = target.authority.map(str::as_bytes).or(named);
    if host.is_some_and(|host| !origin::is_served(host, auth)) {
        return Err(RefuseReason::Host);
    }
    Ok(host.filter(|_| named.is_some()))
}

/// Whether a request has a body, or may have one.
fn has_body(headers: &[httparse::Header<'_>]) -> bool {
    let mut lengths = 0;
    headers.iter().any(|header| {
        if header.name.eq_ignore_ascii_case("content-length") {
            lengths += 1;
            return lengths > 1 || header.value.trim_ascii() != b"0";
        }
        header.name.eq_ignore_ascii_case("transfer-encoding")
    })
}

fn route(
    request: &httparse::Request<'_, '_>,
    (target, is_socket): (&Target<'_>, bool),
    head_len: usize,
    rules: &Rules<'_>,
) -> Request {
    let is_head = request.method == Some("HEAD");
    let is_get = request.method == Some("GET");
    let reads = is_get || is_head;
    // Load balancers ask each backend by its address, so the host does not matter here.
    if !is_socket && reads && HEALTH_PATHS.iter().any(|path| target.is_path(path)) {
        return Request::Answer(health_response(rules.ready, is_head));
    }
    let is_page = rules.page.filter(|_| !is_socket && reads && target.is_path("/"));
    if is_page.is_none() && !is_socket {
        return Request::Refused(if reads { RefuseReason::NotFound } else { RefuseReason::Method });
    }
    let host = match addressed(request.headers, target, rules.auth) {
        Ok(host) => host,
        Err(reason) => return Request::Refused(reason),
    };
    if let Some(page) = is_page {
        return Request::Answer(page_response(page, is_head));
    }
    let Some(host) = host.filter(|_| is_get) else {
        return Request::Refused(RefuseReason::BadRequest);
    };
    match upgrade(request, target, host, rules) {
        Ok((Opening { vsn, info, token }, deflate, response)) => {
            Request::Upgrade { vsn, head_len, response, info, token, deflate }
        }
        Err(reason) => Request::Refused(reason),
    }
}

/// Judges a handshake in the order of Phoenix, which looks at the headers of the upgrade last.
fn upgrade(
    request: &httparse::Request<'_, '_>,
    target: &Target<'_>,
    host: &[u8],
    rules: &Rules<'_>,
) -> Result<(Opening, Option<Agreed>, Vec<u8>), RefuseReason> {
    let headers = &*request.headers;
    let one = |name: &str| single(headers, name);
    let parameters = Parameters::read(target.query)?;
    if !origin::is_allowed(one("origin")?, host, rules.auth) {
        return Err(RefuseReason::Origin);
    }
    let offer = subprotocol::read(values(headers, "sec-websocket-protocol"))?;
    let vsn = parameters.serializer(rules.dev)?;
    let is_upgrade = request.version == Some(1)
        && has_token(headers, "upgrade", "websocket")
        && has_token(headers, "connection", "upgrade");
    let key = one("sec-websocket-key")?.ok_or(RefuseReason::BadRequest)?;
    let key_is_good = PADDED.decode_slice(key, &mut [0; KEY_BUFFER]) == Ok(KEY_BYTES);
    if !is_upgrade || !key_is_good || one("sec-websocket-version")? != Some(b"13") {
        return Err(RefuseReason::BadRequest);
    }
    let param = rules.auth.token_param.as_deref().and_then(|name| query::last(target.query, name));
    let (said, by) = ((headers, param), (rules.auth, rules.dev));
    let opening = Opening::read(vsn, offer.token, parameters.user_id, said, by)?;
    let deflate = rules
        .deflate_window_bits
        .and_then(|bits| extension::negotiate(values(headers, "sec-websocket-extensions"), bits));
    Ok((opening, deflate, switching_protocols(key, offer.phoenix, deflate)))
}

fn switching_protocols(key: &[u8], phoenix: bool, deflate: Option<Agreed>) -> Vec<u8> {
    let mut response = Vec::with_capacity(192);
    response.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ",
    );
    response.extend_from_slice(&accept_key(key));
    if phoenix {
        response.extend_from_slice(b"\r\nsec-websocket-protocol: ");
        response.extend_from_slice(subprotocol::PHOENIX.as_bytes());
    }
    if let Some(agreed) = deflate {
        response.extend_from_slice(b"\r\nsec-websocket-extensions: ");
        response.extend_from_slice(agreed.answer().as_bytes());
    }
    response.extend_from_slice(b"\r\n\r\n");
    response
}

fn accept_key(key: &[u8]) -> [u8; ACCEPT_BYTES] {
    let digest = Sha1::new().chain_update(key).chain_update(ACCEPT_GUID).finalize();
    let mut accept = [0; ACCEPT_BYTES];
    // This cannot fail: every digest has this length.
    STANDARD.encode_slice(digest, &mut accept).ok();
    accept
}

/// A HEAD has the headers of a GET and no more.
fn with_body(mut head: Vec<u8>, body: &[u8], is_head: bool) -> Vec<u8> {
    if !is_head {
        head.extend_from_slice(body);
    }
    head
}

fn page_response(Page { html, policy }: Page<'_>, is_head: bool) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\ncache-control: no-cache\r\n\
         x-content-type-options: nosniff\r\nx-frame-options: DENY\r\ncontent-security-policy: {policy}\r\n\
         referrer-policy: no-referrer\r\nconnection: close\r\n\r\n",
        html.len()
    );
    with_body(head.into_bytes(), html, is_head)
}

fn health_response(ready: bool, is_head: bool) -> Vec<u8> {
    let (status, body) = if ready {
        ("200 OK", "ready\n")
    } else {
        ("503 Service Unavailable\r\nretry-after: 1", "not ready\n")
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\nconnection: close\r\n\r\n",
        body.len()
    );
    with_body(head.into_bytes(), body.as_bytes(), is_head)
}

/// Whether a head may be whole, or is `most` bytes long, of which the first `known` bytes are known not to be whole: an empty
/// line ends it. The line is looked for only where it can be new, so that a head that comes byte by byte is not parsed
/// each time.
#[must_use]
pub fn may_be_whole(head: &[u8], known: usize, most: usize) -> bool {
    let fresh = &head[known.saturating_sub(b"\n\r".len()).min(head.len())..];
    let ends = |at: usize| matches!(&fresh[at..], [b'\n', b'\n', ..] | [b'\n', b'\r', b'\n', ..]);
    head.len() >= most || (0..fresh.len()).any(ends)
}

/// The whole response of a refusal.
#[must_use]
pub fn refusal(reason: RefuseReason) -> &'static [u8] {
    macro_rules! empty {
        ($status:literal) => {
            concat!("HTTP/1.1 ", $status, "\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").as_bytes()
        };
    }
    match reason {
        RefuseReason::BadRequest => empty!("400 Bad Request\r\nsec-websocket-version: 13"),
        RefuseReason::Tls => empty!("400 Bad Request"),
        RefuseReason::Method => empty!("405 Method Not Allowed\r\nallow: GET, HEAD"),
        RefuseReason::NotFound => empty!("404 Not Found"),
        RefuseReason::Version
        | RefuseReason::Origin
        | RefuseReason::Subprotocol
        | RefuseReason::Asked
        | RefuseReason::NoToken
        | RefuseReason::Token
        | RefuseReason::TokenExpired => empty!("403 Forbidden"),
        RefuseReason::Host => empty!("421 Misdirected Request"),
        RefuseReason::HeaderTooLarge => empty!("431 Request Header Fields Too Large"),
        RefuseReason::AddressFull => empty!("429 Too Many Requests\r\nretry-after: 5"),
        RefuseReason::AddressRate => empty!("429 Too Many Requests\r\nretry-after: 1"),
        RefuseReason::Rate => empty!("503 Service Unavailable\r\nretry-after: 1"),
        RefuseReason::ProxyHeader => empty!("400 Bad Request"),
        RefuseReason::Timeout | RefuseReason::Lost => empty!("408 Request Timeout"),
        RefuseReason::Full | RefuseReason::Draining | RefuseReason::Bus => {
            empty!("503 Service Unavailable\r\nretry-after: 1")
        }
        // Keys are fetched within that time, unless their issuer is away for longer.
        RefuseReason::NoKeys => empty!("503 Service Unavailable\r\nretry-after: 2"),
        RefuseReason::Memory | RefuseReason::MemoryLow => empty!("503 Service Unavailable\r\nretry-after: 5"),
    }
}

#[cfg(test)]
mod tests;
