//! A blocking HTTP/1.1 client that keeps its connection.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
};

use serde_json::Value;

use super::wait::HANG;

pub(crate) struct Http(BufReader<TcpStream>);

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The headers as they came, in lower case.
    pub(crate) head: String,
    /// JSON, or null when the body is empty.
    pub(crate) body: Value,
}

impl Answer {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

impl Http {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the public port");
        Self::over(stream)
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(HANG)).expect("a time-out");
        Http(BufReader::new(stream))
    }

    /// Sends a request; `headers` end in line breaks.
    pub(crate) fn send(&mut self, method: &str, target: &str, headers: &str, body: &str) {
        let length = body.len();
        write!(
            self.0.get_mut(),
            "{method} {target} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        )
        .expect("sent");
    }

    /// Reads an answer.
    pub(crate) fn receive(&mut self) -> Answer {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.0.read_line(&mut head).expect("a head") > 0, "the connection ended: {head:?}");
        }
        let head = head.to_ascii_lowercase();
        let status = head[9..12].parse().expect("a status");
        let mut answer = Answer { status, head, body: Value::Null };
        let length = answer.header("content-length").expect("a length").parse().expect("a number");
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("a body");
        if !body.is_empty() {
            answer.body = serde_json::from_slice(&body).expect("JSON");
        }
        answer
    }

    pub(crate) fn ask(&mut self, method: &str, target: &str, headers: &str, body: &str) -> Answer {
        self.send(method, target, headers, body);
        self.receive()
    }

    /// Whether the node has ended the connection.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.read(&mut [0]).is_ok_and(|count| count == 0)
    }
}
