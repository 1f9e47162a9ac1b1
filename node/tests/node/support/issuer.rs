//! An issuer of tokens that gives its keys by HTTP or HTTPS, or does not.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio_rustls::rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::wait::HANG;

/// What an issuer does with a request.
#[derive(Clone)]
pub(crate) enum Reply {
    /// It sends these bytes and closes the connection.
    Bytes(Vec<u8>),
    /// It sends these bytes, and goes on with blanks for as long as they are taken.
    Endless(Vec<u8>),
}

impl Reply {
    /// An answer with this status line, these headers, each with its line end, and this body.
    pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::Bytes(
            format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}").into_bytes(),
        )
    }

    /// An answer with this set of keys.
    pub(crate) fn set(set: &str) -> Self {
        Self::answer("200 OK", "", set)
    }
}

#[derive(Default)]
struct State {
    reply: Option<Reply>,
    /// The head of each request.
    requests: Vec<String>,
}

/// A running issuer. It listens until the end of the test program.
pub(crate) struct IssuerServer {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

/// A file of the certificates of issuers: `ca.crt`, and `issuer.crt` for 127.0.0.1 with its key.
pub(crate) fn certificate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/issuer").join(name)
}

fn tls() -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_file(certificate("issuer.crt")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(self::certificate("issuer.key")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a pair");
    Arc::new(config)
}

impl IssuerServer {
    /// Starts one that says nothing, with TLS or without.
    pub(crate) fn start(with_tls: bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::<Mutex<State>>::default();
        let (tls, shared) = (with_tls.then(tls), Arc::clone(&state));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (tls, state) = (tls.clone(), Arc::clone(&shared));
                stream.set_read_timeout(Some(HANG)).expect("a timeout");
                std::thread::spawn(move || match tls {
                    None => serve(stream, &state),
                    Some(config) => {
                        let connection = ServerConnection::new(config).expect("a connection");
                        serve(StreamOwned::new(connection, stream), &state);
                    }
                });
            }
        });
        Self { address, state }
    }

    /// What it does from now on, also with requests that wait.
    pub(crate) fn reply(&self, reply: Reply) {
        self.state.lock().expect("no panic").reply = Some(reply);
    }

    /// The heads of the requests until now.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.lock().expect("no panic").requests.clone()
    }
}

fn serve(mut stream: impl Read + Write, state: &Mutex<State>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            // A client that does not trust the certificate, or a probe.
            Ok(_) => return,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).expect("a head");
    state.lock().expect("no panic").requests.push(head);
    let reply = loop {
        match state.lock().expect("no panic").reply.clone() {
            // It says nothing until it is told what to do.
            None => {}
            Some(reply) => break reply,
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let (bytes, endless) = match reply {
        Reply::Bytes(bytes) => (bytes, false),
        Reply::Endless(bytes) => (bytes, true),
    };
    let mut sent = stream.write_all(&bytes);
    while endless && sent.is_ok() {
        sent = stream.write_all(&[b' '; 4_096]);
    }
    stream.flush().ok();
}
