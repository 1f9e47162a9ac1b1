//! `channel-operator probe URL`: asks an operator's own HTTP port once, for the test of the chart. The image has no other
//! program that could ask.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Parser;

/// Longest wait for the connection, and for each part of the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of an answer that are read.
const MOST: u64 = 4 << 10;

/// Asks a URL; the exit code is 0 if the answer is 200.
#[derive(Clone, Debug, Parser)]
#[command(name = "channel-operator probe")]
pub struct Probe {
    /// As http://channel-operator:9410/readyz
    #[arg(value_name = "URL")]
    pub url: String,
}

impl Probe {
    /// Asks; gives the first line of the answer and its body.
    ///
    /// # Errors
    /// When the URL is none of this kind, nobody answers, or the answer is another one than 200.
    pub fn ask(&self) -> anyhow::Result<String> {
        let Self { url } = self;
        let Some((host, path)) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')) else {
            bail!("{url}: give a URL such as http://channel-operator:9410/readyz");
        };
        let (line, body) = get(host, path).with_context(|| format!("{url} does not answer"))?;
        let code = line.split(' ').nth(1).unwrap_or_default();
        ensure!(code == "200", "{url} answers {line}: {body}");
        Ok(format!("{url} answers {line}: {body}"))
    }
}

/// The first line of the answer, and its body.
fn get(host: &str, path: &str) -> io::Result<(String, String)> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in host.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return exchange(stream, host, path),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn exchange(mut stream: TcpStream, host: &str, path: &str) -> io::Result<(String, String)> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut text = Vec::new();
    stream.take(MOST).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    Ok((head.lines().next().unwrap_or_default().to_owned(), body.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::Probe;

    /// A server that answers one request.
    fn answering(answer: &'static str) -> (String, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/readyz", listener.local_addr().expect("an address"));
        let served = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut lines = BufReader::new(stream.try_clone().expect("a handle")).lines();
            let first = lines.next().expect("a line").expect("a line");
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            stream.write_all(answer.as_bytes()).expect("written");
            first
        });
        (url, served)
    }

    #[test]
    fn only_200_is_well() {
        let (url, served) = answering("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nleads");
        let said = Probe { url: url.clone() }.ask().expect("well");
        assert_eq!(said, format!("{url} answers HTTP/1.1 200 OK: leads"));
        assert_eq!(served.join().expect("served"), "GET /readyz HTTP/1.1");
        let (url, _served) = answering("HTTP/1.1 503 Service Unavailable\r\n\r\nstands by");
        let refused = format!("{:#}", Probe { url }.ask().expect_err("not well"));
        assert!(refused.contains("503 Service Unavailable: stands by"), "{refused}");
    }

    #[test]
    fn what_cannot_be_asked_is_said() {
        for (url, says) in
            [("https://a/b", "http://channel-operator"), ("http://a", "http://channel-operator")]
        {
            let refused = format!("{:#}", Probe { url: url.to_owned() }.ask().expect_err("no such URL"));
            assert!(refused.contains(says), "{refused}");
        }
        let gone =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
        let refused =
            format!("{:#}", Probe { url: format!("http://{gone}/readyz") }.ask().expect_err("gone"));
        assert!(refused.contains("does not answer"), "{refused}");
    }
}
