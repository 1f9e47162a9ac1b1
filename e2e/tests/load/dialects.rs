//! The generator in each dialect, against small servers that speak it.
#![allow(clippy::result_large_err, reason = "the type of tungstenite's callback")]

use clap::Parser;
use e2e::load::{Options, Report, run};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

/// The part of a server that differs between protocols.
trait Speaker: Clone + Send + 'static {
    /// Handles a connection that was opened at this path.
    fn open(&self, member: &Member, path: &str);
    /// Handles a message.
    fn hear(&self, member: &Member, message: &Message);
}

#[derive(Clone)]
struct Member {
    id: u64,
    out: UnboundedSender<Message>,
    hub: Arc<Hub>,
}

#[derive(Default)]
struct Hub {
    ids: AtomicU64,
    answered_pings: AtomicU64,
    rooms: Mutex<HashMap<String, HashMap<u64, UnboundedSender<Message>>>>,
    homes: Mutex<HashMap<u64, String>>,
}

impl Member {
    fn say(&self, text: impl Into<String>) {
        self.out.send(Message::text(text.into())).ok();
    }

    fn join(&self, room: &str) {
        self.hub.homes.lock().unwrap().insert(self.id, room.to_owned());
        let mut rooms = self.hub.rooms.lock().unwrap();
        rooms.entry(room.to_owned()).or_default().insert(self.id, self.out.clone());
    }

    fn home(&self) -> String {
        self.hub.homes.lock().unwrap()[&self.id].clone()
    }

    /// Sends the frames to all members of a room, without another message between them.
    fn tell(&self, room: &str, frames: &[Message], myself: bool) {
        for (id, out) in self.hub.rooms.lock().unwrap().get(room).into_iter().flatten() {
            for frame in frames.iter().filter(|_| myself || *id != self.id) {
                out.send(frame.clone()).ok();
            }
        }
    }
}

async fn start(speaker: impl Speaker) -> (SocketAddr, Arc<Hub>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let hub = Arc::new(Hub::default());
    let shared = Arc::clone(&hub);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, speaker.clone(), Arc::clone(&shared)));
        }
    });
    (address, hub)
}

async fn serve(stream: TcpStream, speaker: impl Speaker, hub: Arc<Hub>) {
    let mut path = String::new();
    let note = |request: &Request, response: Response| {
        path = request.uri().to_string();
        Ok(response)
    };
    let Ok(socket) = tokio_tungstenite::accept_hdr_async(stream, note).await else { return };
    let (mut sink, mut source) = socket.split();
    let (out, mut queue) = unbounded_channel();
    let member = Member { id: hub.ids.fetch_add(1, Ordering::SeqCst), out, hub };
    speaker.open(&member, &path);
    loop {
        tokio::select! {
            Some(message) = queue.recv() => if sink.send(message).await.is_err() { break },
            message = source.next() => match message {
                Some(Ok(Message::Pong(_))) => {
                    member.hub.answered_pings.fetch_add(1, Ordering::SeqCst);
                }
                Some(Ok(message)) => speaker.hear(&member, &message),
                _ => break,
            }
        }
    }
    for members in member.hub.rooms.lock().unwrap().values_mut() {
        members.remove(&member.id);
    }
}

/// The relays: they send each message of a room to all of its members.
#[derive(Clone)]
struct Relay {
    says_joined: bool,
}

impl Speaker for Relay {
    fn open(&self, member: &Member, path: &str) {
        member.join(path.split_once("room=").unwrap().1);
        if self.says_joined {
            member.say("joined");
        }
        member.out.send(Message::Ping("are you there".into())).ok();
    }

    fn hear(&self, member: &Member, message: &Message) {
        if message.is_text() {
            member.tell(&member.home(), std::slice::from_ref(message), true);
        }
    }
}

#[derive(Clone)]
struct SocketIo;

impl Speaker for SocketIo {
    fn open(&self, member: &Member, path: &str) {
        assert_eq!(path, "/socket.io/?EIO=4&transport=websocket");
        member.say(
            r#"0{"sid":"a","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#,
        );
    }

    fn hear(&self, member: &Member, message: &Message) {
        let Ok(text) = message.to_text() else { return };
        if text == "40" {
            member.say(r#"40{"sid":"b"}"#);
            member.say("2");
        } else if text == "3" {
            member.hub.answered_pings.fetch_add(1, Ordering::SeqCst);
        } else if let Some(rest) = text.strip_prefix("420") {
            let (word, room): (String, String) = serde_json::from_str(rest).unwrap();
            assert_eq!(word, "join");
            member.join(&room);
            member.say(r#"430["ok"]"#);
        } else if let Some(rest) = text.strip_prefix("42") {
            let (word, payload): (String, Value) = serde_json::from_str(rest).unwrap();
            assert_eq!(word, "pub");
            let message = Message::text(format!("42{}", json!(["msg", payload])));
            member.tell(&member.home(), &[message], true);
        }
    }
}

/// This server cuts its stream anywhere, and puts several messages into one frame.
#[derive(Clone)]
struct Nats;

impl Nats {
    fn frames(text: &str, cut: usize) -> Vec<Message> {
        let (head, tail) = text.as_bytes().split_at(cut % text.len());
        let pieces = [head.to_vec(), tail.to_vec()].into_iter().filter(|piece| !piece.is_empty());
        pieces.map(Message::binary).collect()
    }
}

impl Speaker for Nats {
    fn open(&self, member: &Member, path: &str) {
        assert_eq!(path, "/");
        for message in Nats::frames("INFO {\"server_id\":\"x\"}\r\n", 9) {
            member.out.send(message).ok();
        }
    }

    fn hear(&self, member: &Member, message: &Message) {
        if !message.is_binary() {
            return;
        }
        let text = String::from_utf8(message.clone().into_data().to_vec()).unwrap();
        if text.starts_with("CONNECT ") {
            let subject = text.split("\r\nSUB ").nth(1).unwrap().split(' ').next().unwrap();
            member.join(subject);
            member.out.send(Message::binary("PONG\r\nPING\r\n")).ok();
        } else if text == "PONG\r\n" {
            member.hub.answered_pings.fetch_add(1, Ordering::SeqCst);
        } else if let Some(rest) = text.strip_prefix("PUB ") {
            let (line, payload) = rest.split_once("\r\n").unwrap();
            let (subject, size) = line.split_once(' ').unwrap();
            assert_eq!(size.parse::<usize>().unwrap() + 2, payload.len());
            let message = format!("MSG {subject} 1 {size}\r\n{payload}");
            let twice = format!("MSG other 1 3\r\nabc\r\n{message}");
            let cut = member.hub.ids.fetch_add(1, Ordering::SeqCst) as usize * 7;
            member.tell(subject, &Nats::frames(&twice, cut), true);
        }
    }
}

#[derive(Clone)]
struct Pusher;

impl Speaker for Pusher {
    fn open(&self, member: &Member, path: &str) {
        assert_eq!(path, "/app/app-key?protocol=7&client=js&version=8.0");
        let data = json!({"socket_id": format!("{}.1", member.id), "activity_timeout": 120}).to_string();
        member.say(json!({"event": "pusher:connection_established", "data": data}).to_string());
    }

    fn hear(&self, member: &Member, message: &Message) {
        let Ok(text) = message.to_text() else { return };
        let Ok(said) = serde_json::from_str::<Value>(text) else { return };
        match said["event"].as_str().unwrap() {
            "pusher:subscribe" => {
                let channel = said["data"]["channel"].as_str().unwrap();
                let signature = said["data"]["auth"].as_str().unwrap().strip_prefix("app-key:").unwrap();
                assert_eq!(signature.len(), 64);
                member.join(channel);
                let name = "pusher_internal:subscription_succeeded";
                member.say(json!({"event": name, "channel": channel, "data": "{}"}).to_string());
                member.say(r#"{"event":"pusher:ping","data":{}}"#);
            }
            "pusher:pong" => {
                member.hub.answered_pings.fetch_add(1, Ordering::SeqCst);
            }
            "client-load" => {
                let channel = said["channel"].as_str().unwrap();
                member.tell(channel, std::slice::from_ref(message), false);
            }
            other => panic!("{other}"),
        }
    }
}

async fn load(dialect: &str, address: SocketAddr) -> Report {
    let flags = format!(
        "loadgen --dialect {dialect} --url ws://{address} --connections 100 --rooms 5 --rate 200 --duration 1 \
         --connect-rate 2000 --settle 20 --workers 2"
    );
    let options = Options::parse_from(flags.split_whitespace());
    tokio::task::spawn_blocking(move || run(options, &AtomicBool::new(false), &mut |_| ()).unwrap())
        .await
        .unwrap()
}

async fn check(dialect: &str, speaker: impl Speaker, receivers: u64, pings: u64) {
    let (address, hub) = start(speaker).await;
    let report = load(dialect, address).await;
    assert_eq!(report.failures, [""; 0], "{dialect}: {report}");
    assert_eq!((report.counters.joined, report.counters.published), (100, 200), "{dialect}: {report}");
    assert_eq!(report.expected, 200 * receivers, "{dialect}: {report}");
    assert_eq!(report.counters.received, report.expected, "{dialect}: {report}");
    assert_eq!(report.errors.len(), 0, "{dialect}: {report}");
    assert_eq!(hub.answered_pings.load(Ordering::SeqCst), pings, "{dialect}: {report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_are_spoken() {
    check("uws", Relay { says_joined: true }, 20, 100).await;
    check("nchan", Relay { says_joined: false }, 20, 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn socket_io_is_spoken() {
    check("socketio", SocketIo, 20, 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_is_spoken() {
    check("nats", Nats, 20, 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pusher_is_spoken_without_an_echo() {
    check("pusher", Pusher, 19, 100).await;
}
