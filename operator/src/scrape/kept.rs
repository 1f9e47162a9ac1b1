//! GET requests over connections that are kept and cost nothing but their socket between two requests.
//!
//! An operator asks thousands of nodes each few seconds. A general client keeps about 30 KiB of buffers and queues with each
//! connection, which were most of the operator's memory. These connections have one request at a time, so the answer is read into
//! a buffer that is gone with it.

use std::collections::HashMap;
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderValue;
use node_core::admin::NODE_HEADER;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{MAX_ANSWER, NodeError, unreachable};

/// A connection that was not used for so long is closed.
const IDLE: Duration = Duration::from_secs(20);
/// Longest head of an answer, in bytes, and most of its headers: a node sends a handful.
const MAX_HEAD: usize = 8 * 1_024;
const MAX_HEADERS: usize = 32;
/// Bytes that are made room for at first: most answers are shorter.
const FIRST_ROOM: usize = 4 * 1_024;

/// The connections that wait for the next request, one for each address at most.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    streams: HashMap<SocketAddr, (TcpStream, Instant)>,
    /// When those that are too old were last closed.
    swept: Option<Instant>,
}

/// What is asked for, and of whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Get<'a> {
    pub(super) address: SocketAddr,
    pub(super) path: &'a str,
    pub(super) token: &'a str,
    /// Name of the node, which it compares with its own.
    pub(super) node: &'a str,
    /// Longest wait for a connection.
    pub(super) connect: Duration,
}

/// An answer: its status and its body.
pub(super) type Answer = (u16, Vec<u8>);

/// Where an answer failed.
enum Failed {
    /// Before the first byte of it: a kept connection may have been closed by the node meanwhile.
    Early(Error),
    /// Later.
    Late(NodeError),
}

impl Kept {
    /// Asks, over a kept connection if there is one.
    pub(super) async fn get(&self, get: Get<'_>) -> Result<Answer, NodeError> {
        let text = text(&get)?;
        if let Some(stream) = self.take(get.address) {
            match self.exchange(stream, get.address, &text).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::Late(error)) => return Err(error),
                Err(Failed::Early(_)) => {}
            }
        }
        let stream = tokio::time::timeout(get.connect, TcpStream::connect(get.address));
        let stream = stream
            .await
            .map_err(|_| Error::from(ErrorKind::TimedOut))
            .flatten()
            .map_err(|error| unreachable(&error))?;
        stream.set_nodelay(true).map_err(|error| unreachable(&error))?;
        self.exchange(stream, get.address, &text).await.map_err(|failed| match failed {
            Failed::Early(error) => unreachable(&error),
            Failed::Late(error) => error,
        })
    }

    async fn exchange(
        &self,
        mut stream: TcpStream,
        address: SocketAddr,
        text: &str,
    ) -> Result<Answer, Failed> {
        stream.write_all(text.as_bytes()).await.map_err(Failed::Early)?;
        let mut read = Vec::with_capacity(FIRST_ROOM);
        if stream.read_buf(&mut read).await.map_err(Failed::Early)? == 0 {
            return Err(Failed::Early(ErrorKind::UnexpectedEof.into()));
        }
        let head = loop {
            if let Some(head) = Head::of(&read).map_err(Failed::Late)? {
                break head;
            }
            more(&mut stream, &mut read).await.map_err(Failed::Late)?;
        };
        while read.len() < head.bytes + head.length {
            more(&mut stream, &mut read).await.map_err(Failed::Late)?;
        }
        // Bytes beyond the answer would be taken for the next one.
        if head.keeps && read.len() == head.bytes + head.length {
            self.keep(address, stream);
        }
        read.truncate(head.bytes + head.length);
        Ok((head.status, read.split_off(head.bytes)))
    }

    fn take(&self, address: SocketAddr) -> Option<TcpStream> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (stream, since) = waiting.streams.remove(&address)?;
        (since.elapsed() < IDLE).then_some(stream)
    }

    fn keep(&self, address: SocketAddr, stream: TcpStream) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.swept.is_none_or(|swept| swept.elapsed() >= IDLE) {
            waiting.streams.retain(|_, (_, since)| since.elapsed() < IDLE);
            waiting.swept = Some(Instant::now());
        }
        waiting.streams.insert(address, (stream, Instant::now()));
    }
}

/// The request. A token or a name with a line break in it would be another request.
fn text(get: &Get<'_>) -> Result<String, NodeError> {
    let Get { address, path, token, node, connect: _ } = get;
    for value in [token, node] {
        HeaderValue::from_str(value).map_err(|error| NodeError::Unreachable(error.to_string()))?;
    }
    Ok(format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n{NODE_HEADER}: {node}\r\n\r\n"
    ))
}

async fn more(stream: &mut TcpStream, read: &mut Vec<u8>) -> Result<(), NodeError> {
    match stream.read_buf(read).await {
        Ok(0) => Err(NodeError::Unreadable("it ends in the middle".to_owned())),
        Ok(_) => Ok(()),
        Err(error) => Err(unreachable(&error)),
    }
}

/// What the head of an answer says.
struct Head {
    status: u16,
    /// Its own length.
    bytes: usize,
    /// Length of the body.
    length: usize,
    /// Whether the connection stays open.
    keeps: bool,
}

impl Head {
    /// Reads it; none until it is whole.
    fn of(read: &[u8]) -> Result<Option<Self>, NodeError> {
        let unreadable = |what: &str| NodeError::Unreadable(what.to_owned());
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let bytes = match response.parse(read).map_err(|error| unreadable(&error.to_string()))? {
            httparse::Status::Complete(bytes) => bytes,
            httparse::Status::Partial if read.len() > MAX_HEAD => {
                return Err(unreadable("its head is too long"));
            }
            httparse::Status::Partial => return Ok(None),
        };
        let value = |name: &str| {
            let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(found.value).ok().map(str::trim)
        };
        let length = value("content-length").and_then(|text| text.parse().ok());
        let length: usize = length.ok_or_else(|| unreadable("it does not say its length"))?;
        if length > MAX_ANSWER {
            return Err(unreadable(&format!("it is longer than {MAX_ANSWER} bytes")));
        }
        let closes = value("connection").is_some_and(|text| text.eq_ignore_ascii_case("close"));
        let keeps = !closes && response.version == Some(1);
        Ok(Some(Self { status: response.code.unwrap_or_default(), bytes, length, keeps }))
    }
}

#[cfg(test)]
mod tests {
    use super::{Get, Head, text};
    use crate::scrape::NodeError;

    #[test]
    fn a_head_says_where_the_answer_ends() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        let head = Head::of(whole).unwrap().unwrap();
        assert_eq!((head.status, whole.len() - head.bytes, head.length, head.keeps), (200, 2, 2, true));
        assert!(Head::of(&whole[..40]).unwrap().is_none());
        let closes =
            Head::of(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap().unwrap();
        assert_eq!((closes.status, closes.keeps), (503, false));
        assert!(!Head::of(b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap().unwrap().keeps);
        let bad: [&[u8]; 4] = [
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n",
            b"no answer at all\r\n\r\n",
            &[b'x'; 9_000],
        ];
        assert!(bad.into_iter().all(|bad| matches!(Head::of(bad), Err(NodeError::Unreadable(_)))));
    }

    #[test]
    fn a_token_is_no_second_request() {
        let address = "[::1]:9400".parse().unwrap();
        let get = |token| Get { address, path: "/v1/stats", token, node: "a", connect: Default::default() };
        assert!(text(&get("t")).unwrap().starts_with("GET /v1/stats HTTP/1.1\r\nhost: [::1]:9400\r\n"));
        assert!(matches!(text(&get("t\r\nx: y")), Err(NodeError::Unreachable(_))));
    }
}
