//! A small Phoenix server with faults on demand, to test the clients and the generator against.
//!
//! It shares nothing with the node: whole messages as JSON values, one task per connection.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_rustls::rustls::{HandshakeKind, ServerConfig};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};

/// Messages queued to a connection before the server panics: no test comes near this number.
const QUEUE: usize = 100_000;

/// The faults of the server.
#[derive(Clone, Copy, Default)]
pub(crate) struct Faults {
    /// Leaves out every n-th delivery.
    pub(crate) drop_every: Option<u64>,
    /// Sends every n-th delivery twice.
    pub(crate) repeat_every: Option<u64>,
    /// Refuses every n-th join.
    pub(crate) refuse_join_every: Option<u64>,
}

/// A running server; it ends with the runtime.
#[derive(Clone)]
pub(crate) struct Double {
    pub(crate) address: SocketAddr,
    scheme: &'static str,
    state: Arc<State>,
}

struct State {
    faults: Faults,
    deliveries: AtomicU64,
    joins: AtomicU64,
    heartbeats: AtomicU64,
    dropped: AtomicU64,
    ids: AtomicU64,
    resumed: AtomicU64,
    connections: Mutex<HashMap<u64, mpsc::Sender<Message>>>,
    rooms: Mutex<HashMap<String, HashMap<u64, mpsc::Sender<Message>>>>,
}

impl Double {
    pub(crate) async fn start(faults: Faults) -> Double {
        Double::start_with(faults, None).await
    }

    /// The same behind TLS, as tokio-rustls speaks it, with the certificate of this name in the node's test data.
    pub(crate) async fn start_with_tls(name: &str) -> Double {
        let file = |end: &str| tls_data(&format!("{name}.{end}"));
        let certificate = CertificateDer::from_pem_file(file("crt")).unwrap();
        let key = PrivateKeyDer::from_pem_file(file("key")).unwrap();
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
        Double::start_with(Faults::default(), Some(TlsAcceptor::from(Arc::new(config.unwrap())))).await
    }

    async fn start_with(faults: Faults, tls: Option<TlsAcceptor>) -> Double {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            faults,
            deliveries: AtomicU64::new(0),
            joins: AtomicU64::new(0),
            heartbeats: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            ids: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
            connections: Mutex::default(),
            rooms: Mutex::default(),
        });
        let scheme = if tls.is_some() { "wss" } else { "ws" };
        let server = Double { address, scheme, state: Arc::clone(&state) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, state) = (tls.clone(), Arc::clone(&state));
                tokio::spawn(async move {
                    let Some(tls) = tls else { return serve(stream, state).await };
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
                    state.resumed.fetch_add(resumed.into(), Ordering::SeqCst);
                    serve(stream, state).await;
                });
            }
        });
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}/socket/websocket", self.scheme, self.address)
    }

    /// Handshakes of TLS so far that a ticket shortened.
    pub(crate) fn resumed(&self) -> u64 {
        self.state.resumed.load(Ordering::SeqCst)
    }

    /// Deliveries left out so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.state.dropped.load(Ordering::SeqCst)
    }

    /// Heartbeats received so far.
    pub(crate) fn heartbeats(&self) -> u64 {
        self.state.heartbeats.load(Ordering::SeqCst)
    }

    /// Connections now open.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.lock().unwrap().len()
    }

    /// Sends every connection a close frame; returns how many there were.
    pub(crate) fn close_all(&self, code: u16) -> usize {
        let frame = CloseFrame { code: CloseCode::from(code), reason: "".into() };
        let connections = self.state.connections.lock().unwrap();
        for sender in connections.values() {
            sender.try_send(Message::Close(Some(frame.clone()))).unwrap();
        }
        connections.len()
    }
}

/// A file of the node's test data.
pub(crate) fn tls_data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../node/tests/data/tls").join(name)
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, state: Arc<State>) {
    let Ok(socket) = tokio_tungstenite::accept_async(stream).await else { return };
    let (mut sink, mut source) = socket.split();
    let (sender, mut queue) = mpsc::channel::<Message>(QUEUE);
    let id = state.ids.fetch_add(1, Ordering::SeqCst);
    state.connections.lock().unwrap().insert(id, sender.clone());
    loop {
        tokio::select! {
            Some(message) = queue.recv() => {
                let closing = message.is_close();
                if sink.send(message).await.is_err() {
                    break;
                }
                if closing {
                    // If bytes stayed unread at the end, the kernel would reset the connection, and the close frame
                    // would be lost.
                    while let Some(Ok(_)) = source.next().await {}
                    break;
                }
            }
            message = source.next() => match message {
                Some(Ok(Message::Text(text))) => state.on_message(id, &sender, &text),
                Some(Ok(_)) => {}
                _ => break,
            }
        }
    }
    state.connections.lock().unwrap().remove(&id);
    for members in state.rooms.lock().unwrap().values_mut() {
        members.remove(&id);
    }
}

impl State {
    fn on_message(&self, id: u64, sender: &mpsc::Sender<Message>, text: &str) {
        let (join, reference, topic, event, payload): (Value, Value, String, String, Value) =
            serde_json::from_str(text).unwrap();
        let reply = |status: &str, response: Value| {
            let message =
                json!([join, reference, topic, "phx_reply", {"status": status, "response": response}]);
            sender.try_send(Message::text(message.to_string())).unwrap();
        };
        match event.as_str() {
            "heartbeat" => {
                self.heartbeats.fetch_add(1, Ordering::SeqCst);
                reply("ok", json!({}));
            }
            "phx_leave" => {
                if let Some(members) = self.rooms.lock().unwrap().get_mut(&topic) {
                    members.remove(&id);
                }
                reply("ok", json!({}));
            }
            "phx_join" => {
                let count = self.joins.fetch_add(1, Ordering::SeqCst) + 1;
                if !topic.starts_with("room:") {
                    return reply("error", json!({"reason": "unmatched topic"}));
                }
                if every(self.faults.refuse_join_every, count) {
                    return reply("error", json!({"reason": "room full"}));
                }
                reply("ok", json!({}));
                self.rooms.lock().unwrap().entry(topic.clone()).or_default().insert(id, sender.clone());
            }
            "echo" => reply("ok", payload),
            _ => self.broadcast(&topic, &event, &payload),
        }
    }

    fn broadcast(&self, topic: &str, event: &str, payload: &Value) {
        let message = Message::text(json!([null, null, topic, event, payload]).to_string());
        let rooms = self.rooms.lock().unwrap();
        for member in rooms.get(topic).into_iter().flat_map(HashMap::values) {
            let count = self.deliveries.fetch_add(1, Ordering::SeqCst) + 1;
            if every(self.faults.drop_every, count) {
                self.dropped.fetch_add(1, Ordering::SeqCst);
                continue;
            }
            member.try_send(message.clone()).unwrap();
            if every(self.faults.repeat_every, count) {
                member.try_send(message.clone()).unwrap();
            }
        }
    }
}

fn every(nth: Option<u64>, count: u64) -> bool {
    nth.is_some_and(|nth| count.is_multiple_of(nth))
}
