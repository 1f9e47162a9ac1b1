//! The head of a request for `<mount>/longpoll`.

use bytes::Bytes;

use super::{
    answer,
    peers::{Peers, Whereabouts},
    token::{Token, TokenKey},
};
use crate::{
    config::Auth,
    counters::RefuseReason,
    ws::{
        Opening,
        headers::{has_token, single, values},
        origin,
        query::{self, Parameters, Value},
        target::Target,
    },
};

/// Where newer clients have their token; older ones have it in the query.
const TOKEN_HEADER: &str = "x-phoenix-longpoll-token";
/// The parameter of the query where older ones have it.
const SESSION_PARAM: &str = "token";
/// Where phoenix.js has the token that it puts among the subprotocols of a WebSocket.
const AUTH_TOKEN_HEADER: &str = "x-phoenix-authtoken";
/// The content type of a post with a message in each line.
const LINES: &[u8] = b"application/x-ndjson";

/// The settings that decide about a request.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// Verifies tokens of this node.
    pub key: &'a TokenKey,
    /// The nodes whose tokens are taken for what they say; none without a bus.
    pub peers: Option<&'a Peers>,
    /// Longest body in bytes.
    pub max_body_bytes: usize,
    /// Whether dev mode's rules apply, as to a handshake.
    pub dev: bool,
}

/// A request that can be served.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// Bytes of the head.
    pub head_len: usize,
    /// Whether another request may follow on the connection.
    pub keep_alive: bool,
    /// What the client wants.
    pub wish: Wish,
}

/// What a client wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Wish {
    /// To know whether it may send these headers.
    Preflight(String),
    /// Messages of a session, or a session when it names none.
    Poll {
        /// Names the session.
        session: Option<Token>,
        /// A new one, or why the client may not have it.
        opening: Result<Opening, RefuseReason>,
    },
    /// To say something.
    Post {
        /// Names the session.
        session: Token,
        /// Bytes of the body, which follow the head.
        bytes: usize,
        /// Whether each line of it is a message.
        lines: bool,
    },
}

/// Why a request is not served, and the whole response.
pub type Declined = (RefuseReason, Bytes);

fn unreadable(status: &str) -> Declined {
    (RefuseReason::BadRequest, answer::unreadable(status))
}

/// Reads the head of a request. A host that is not served is none of the reasons here: the caller has looked at `host`.
///
/// # Errors
/// When the request cannot be served; the connection ends after the response.
pub(crate) fn read(
    request: &httparse::Request<'_, '_>,
    target: &Target<'_>,
    head_len: usize,
    host: &[u8],
    (auth, rules): (&Auth, &Rules<'_>),
) -> Result<Request, Declined> {
    let headers = &*request.headers;
    let one = |name: &str| single(headers, name).map_err(|_| unreadable("400 Bad Request"));
    let length = body_length(headers)?;
    let mut parameters =
        Parameters::read(target.query).map_err(|reason| (reason, answer::unreadable_query()))?;
    if !origin::is_allowed(one("origin")?, host, auth) {
        return Err((RefuseReason::Origin, answer::status(403, false)));
    }
    let keep_alive = request.version == Some(1) && !has_token(headers, "connection", "close");
    let named = values(headers, TOKEN_HEADER).next().map(<[u8]>::to_vec);
    let token = parameters.token.take().and_then(Value::into_text).map(String::into_bytes);
    let token = named.or(token);
    let is_named = token.as_ref().is_some_and(|token| !token.is_empty() && !token.contains(&b'.'));
    let token = token.and_then(|token| Token::read(&token));
    let wish = match (request.method, length) {
        (Some("OPTIONS"), 0) => Wish::Preflight(asked_headers(headers)),
        (Some("GET"), 0) => {
            let session = named_session(token, rules)?;
            let opening = opening(headers, target, parameters, (auth, rules.dev));
            let has_none = opening.as_ref().is_ok_and(|opening| opening.token.is_none());
            // Its session is gone, and without a token of an issuer it gets no other one.
            if session.is_none() && is_named && has_none && !auth.jwt.is_empty() && !auth.anonymous {
                return Err((RefuseReason::NotFound, answer::status(410, false)));
            }
            Wish::Poll { session, opening }
        }
        (Some("POST"), bytes) if bytes > rules.max_body_bytes => {
            return Err(unreadable("413 Content Too Large"));
        }
        (Some("POST"), bytes) => {
            let Some(session) = named_session(token, rules)? else {
                // The body is not read, hence nothing more on this connection.
                return Err((RefuseReason::NotFound, answer::status(410, false)));
            };
            Wish::Post { session, bytes, lines: values(headers, "content-type").eq([LINES]) }
        }
        _ => return Err(unreadable("400 Bad Request")),
    };
    Ok(Request { head_len, keep_alive, wish })
}

/// The session that a token names. A token of another node is looked at no further than for the node that it names, which
/// must be one of the fleet.
fn named_session(token: Option<Token>, rules: &Rules<'_>) -> Result<Option<Token>, Declined> {
    let Some(token) = token else { return Ok(None) };
    if token.node() == rules.key.node() {
        return Ok(rules.key.has_signed(&token).then_some(token));
    }
    match rules.peers.map(|peers| peers.find(token.node())) {
        Some(Whereabouts::There) => Ok(Some(token)),
        Some(Whereabouts::Unknown) => Err((RefuseReason::Bus, answer::away(false))),
        Some(Whereabouts::Nowhere) | None => Ok(None),
    }
}

/// The length of the body. A client that could make us and a proxy disagree about where it ends could speak for other
/// clients, so there is one way to say it.
fn body_length(headers: &[httparse::Header<'_>]) -> Result<usize, Declined> {
    let is_encoded = headers.iter().any(|header| header.name.eq_ignore_ascii_case("transfer-encoding"));
    let length = single(headers, "content-length").map_err(|_| unreadable("400 Bad Request"))?;
    match (length, is_encoded) {
        (None, false) => Ok(0),
        (None, true) => Err(unreadable("411 Length Required")),
        (Some(_), true) => Err(unreadable("400 Bad Request")),
        (Some(digits), false) if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
            // More digits than a number takes are a length above any bound.
            Ok(std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).unwrap_or(usize::MAX))
        }
        (Some(_), false) => Err(unreadable("400 Bad Request")),
    }
}

/// The session that a client without one may have.
fn opening(
    headers: &[httparse::Header<'_>],
    target: &Target<'_>,
    parameters: Parameters<'_>,
    by: (&Auth, bool),
) -> Result<Opening, RefuseReason> {
    let vsn = parameters.serializer(by.1)?;
    let offered = values(headers, AUTH_TOKEN_HEADER).next().map(std::str::from_utf8);
    let offered = offered.transpose().map_err(|_| RefuseReason::Token)?.map(str::to_owned);
    Opening::read(vsn, offered, parameters.user_id, (headers, param(target.query, by.0)), by)
}

/// The value of the parameter for tokens of issuers. Phoenix calls the token of a session `token` too, and stands last; where
/// both have that name, the issuer's is told by its dots, which a session's never has.
fn param<'a>(query: &'a str, auth: &Auth) -> Option<Value<'a>> {
    let name = auth.token_param.as_deref()?;
    if name == SESSION_PARAM {
        query::last_text(query, name, |text| text.contains('.'))
    } else {
        query::last(query, name)
    }
}

/// The headers that a browser asks for, as it wrote them. A list with anything but names in it is left out.
fn asked_headers(headers: &[httparse::Header<'_>]) -> String {
    let is_listed = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~, \t".contains(&b);
    let lists = values(headers, "access-control-request-headers")
        .filter_map(|list| std::str::from_utf8(list).ok())
        .filter(|list| list.bytes().all(is_listed));
    lists.collect::<Vec<_>>().join(", ")
}
