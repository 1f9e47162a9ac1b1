//! A server of the node's bare WebSocket codec, compression included, which says every text and all bytes back:
//! `cargo run -p node --example echo -- PORT`, where port 0 is any. The Autobahn test suite judges the codec by it
//! (`cargo xtask autobahn`).

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::ExitCode,
    thread,
};

use node_core::{
    config::Auth,
    ws::{
        Agreed, Event, Flow, Opcode, Reader,
        deflate::{Deflater, Inflater, MIN_WINDOW_BITS},
        frame::{self, FIN_BINARY, FIN_TEXT, RSV1},
        handshake::{self, Request, Rules},
    },
};

/// Longest message in bytes; those of the suite have 16 MiB at most.
const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;
/// Level of compression, the node's default.
const LEVEL: u8 = keys::COMPRESSION_LEVEL.usual;
/// The socket's mount. A request for any path is taken for one of it.
const MOUNT: &str = "/socket";

fn main() -> ExitCode {
    let Some(port) = std::env::args().nth(1).and_then(|port| port.parse().ok()) else {
        eprintln!("usage: echo PORT");
        return ExitCode::from(64);
    };
    match serve(port) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves each client in a thread of its own.
fn serve(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let mut out = io::stdout();
    writeln!(out, "{}", listener.local_addr()?)?;
    out.flush()?;
    for stream in listener.incoming() {
        let stream = stream?;
        // A client that breaks off is no fault of the server.
        thread::spawn(move || echo(stream).ok());
    }
    Ok(())
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; READ_BYTES];
    let Some((mut early, deflate)) = shake_hands(&mut stream, &mut buffer)? else { return Ok(()) };
    let mut codec = Codec {
        reader: Reader::default(),
        compression: deflate.map(|agreed| (Inflater::default(), Deflater::within(agreed.window_bits()))),
    };
    let mut goes_on = codec.answer(&mut stream, &mut early)?;
    while goes_on {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        goes_on = codec.answer(&mut stream, &mut buffer[..count])?;
    }
    // What the client still says must be read, or the kernel would reset the connection and drop what was sent.
    stream.shutdown(std::net::Shutdown::Write)?;
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

/// Answers the handshake, and returns what came after it and what was agreed about compression. `None` when it was
/// refused.
fn shake_hands(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<Option<(Vec<u8>, Option<Agreed>)>> {
    let auth = Auth { anonymous: true, allowed_origins: vec!["*".to_owned()], ..Auth::default() };
    let rules = Rules {
        path: MOUNT,
        max_head_bytes: 32 << 10,
        auth: &auth,
        page: None,
        ready: true,
        dev: false,
        client: None,
        long_poll: None,
        deflate_window_bits: Some(MIN_WINDOW_BITS),
    };
    let mut head = Vec::new();
    loop {
        let count = stream.read(buffer)?;
        if count == 0 {
            return Ok(None);
        }
        head.extend_from_slice(&buffer[..count]);
        let asked = for_the_socket(&head);
        match handshake::read(&asked, &rules) {
            Request::Incomplete => {}
            Request::Upgrade { head_len, response, deflate, .. } => {
                stream.write_all(&response)?;
                return Ok(Some((asked[head_len..].to_vec(), deflate)));
            }
            Request::Refused(reason) => {
                stream.write_all(handshake::refusal(reason))?;
                return Ok(None);
            }
            Request::Answer(_) | Request::LongPoll(_) | Request::Declined(..) => return Ok(None),
        }
    }
}

/// The head of a request with the socket's path in the place of its own.
fn for_the_socket(head: &[u8]) -> Vec<u8> {
    let mut parts = head.splitn(3, |byte| *byte == b' ');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(method), Some(_), Some(rest)) => {
            [method, b" ", MOUNT.as_bytes(), b"/websocket ", rest].concat()
        }
        _ => head.to_vec(),
    }
}

/// Both sides of a connection.
struct Codec {
    reader: Reader,
    compression: Option<(Inflater, Deflater)>,
}

impl Codec {
    /// Answers what came. False when the connection is to end.
    fn answer(&mut self, stream: &mut TcpStream, data: &mut [u8]) -> io::Result<bool> {
        let mut said = self.read(stream, data)?;
        while said == Some(Flow::Pause) {
            said = self.read(stream, &mut [])?;
        }
        Ok(said == Some(Flow::Continue))
    }

    /// Reads as much as the reader takes at once. `None` when the client broke the protocol.
    fn read(&mut self, stream: &mut TcpStream, data: &mut [u8]) -> io::Result<Option<Flow>> {
        let Self { reader, compression } = self;
        let (inflater, mut deflater) =
            compression.as_mut().map(|(inflater, deflater)| (inflater, deflater)).unzip();
        let mut out = Vec::new();
        let mut sink = |event: Event<'_>| {
            match event {
                Event::Text(text) => append(&mut out, FIN_TEXT, text.as_bytes(), deflater.as_deref_mut()),
                Event::Binary(bytes) => append(&mut out, FIN_BINARY, bytes, deflater.as_deref_mut()),
                Event::Ping(payload) => out.extend(frame::control(Opcode::Pong, payload)),
                Event::Pong => {}
                Event::Close(payload) => out.extend(frame::close_answer(payload)),
            }
            Flow::Continue
        };
        let said = match inflater {
            None => reader.feed(data, MAX_MESSAGE_BYTES, &mut sink),
            Some(inflater) => reader.feed_deflate(data, MAX_MESSAGE_BYTES, inflater, &mut sink),
        };
        if let Err(error) = &said {
            out.extend(frame::close(error.code()));
        }
        stream.write_all(&out)?;
        Ok(said.ok())
    }
}

/// Appends a message, compressed where that is agreed, also when it gets longer by that: the suite takes no other text then.
fn append(out: &mut Vec<u8>, first_byte: u8, payload: &[u8], deflater: Option<&mut Deflater>) {
    // A fixed code takes nine bits for some bytes.
    let below = payload.len() + payload.len() / 8 + 64;
    let compressed = deflater.and_then(|deflater| deflater.message(LEVEL, payload, below));
    let (first_byte, payload) = compressed.map_or((first_byte, payload), |body| (first_byte | RSV1, body));
    frame::write_header(out, first_byte, payload.len());
    out.extend_from_slice(payload);
}
