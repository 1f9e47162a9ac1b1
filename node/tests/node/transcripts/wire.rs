//! A WebSocket client that can break every rule: it sends the bytes that it is given, and reads frames of a server.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
};

use crate::support::wait::HANG;

/// The key of RFC 6455, section 1.3, and the answer to it.
pub(super) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A message of the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Text(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16),
    /// The server has ended its side.
    End,
}

/// The answer to a request.
pub(super) struct Answer {
    pub(super) status: String,
    /// Whether it has the `Sec-WebSocket-Accept` that belongs to [`KEY`].
    pub(super) accepted: bool,
    head: String,
    pub(super) wire: Wire,
}

impl Answer {
    /// The value of a header, whose name is in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

pub(super) struct Wire {
    stream: TcpStream,
}

impl Wire {
    /// Sends a request for the socket and reads the head of the answer.
    pub(super) fn open(
        address: SocketAddr,
        method: &str,
        query: &str,
        headers: &[(&str, &str)],
    ) -> io::Result<Answer> {
        let host = address.to_string();
        let headers: Vec<_> = [("Host", &*host)].into_iter().chain(headers.iter().copied()).collect();
        Self::request(address, &format!("{method} /socket/websocket{query} HTTP/1.1"), &headers)
    }

    /// Sends any request and reads the head of the answer.
    pub(super) fn request(address: SocketAddr, line: &str, headers: &[(&str, &str)]) -> io::Result<Answer> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(HANG))?;
        let mut request = format!("{line}\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes())?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let status = head.split(' ').nth(1).unwrap_or_default().to_owned();
        Ok(Answer { status, accepted: head.contains(ACCEPT), head, wire: Wire { stream } })
    }

    /// Sends bytes. The server may have closed before it took all of them.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).ok();
    }

    /// The next message of the server.
    pub(super) fn hear(&mut self) -> Heard {
        match self.frame() {
            Ok((0x81, payload)) => Heard::Text(String::from_utf8(payload).unwrap()),
            Ok((0x82, payload)) => Heard::Binary(payload),
            Ok((0x88, payload)) => Heard::Close(u16::from_be_bytes([payload[0], payload[1]])),
            Ok((0x8a, payload)) => Heard::Pong(payload),
            Ok((first, _)) => panic!("a frame that begins with {first:#x}"),
            // What the server did not read when it ended may come back as a reset.
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                Heard::End
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head)?;
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                self.stream.read_exact(&mut length)?;
                u16::from_be_bytes(length).into()
            }
            127 => {
                let mut length = [0; 8];
                self.stream.read_exact(&mut length)?;
                u64::from_be_bytes(length) as usize
            }
            length => usize::from(length),
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload)?;
        Ok((head[0], payload))
    }
}

/// A frame of a client, with a mask that is not zero.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    crate::support::frame::frame(first, [1, 2, 3, 4], payload)
}

pub(super) fn text(text: &str) -> Vec<u8> {
    frame(0x81, text.as_bytes())
}
