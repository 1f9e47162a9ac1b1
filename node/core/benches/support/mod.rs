//! One shard with fake sockets that take everything, driven through the public API only. `cargo xtask gates` makes
//! its figures with it. Every key and input is fixed, so that each run does the same.

use std::{hint::black_box, io::IoSlice, sync::Arc};

use node_core::{
    addresses::Addresses,
    broadcast::NodeTag,
    config::NodeConfig,
    longpoll::token::{KEY_BYTES, TokenKey},
    route::Registry,
    session::id::Slot,
    shard::{Effect, Shard, ShardOptions},
};

/// The request that a browser sends.
pub(crate) const REQUEST: &str = "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: chat.example.org\r\n\
    Connection: Upgrade\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
    Upgrade: websocket\r\nOrigin: https://chat.example.org\r\nSec-WebSocket-Version: 13\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Cookie: _session=SFMyNTY.g3QAAAABbQAAAAtfY3NyZl90b2tlbm0AAAAYSGVsbG9Xb3JsZA.5jW0c8vV3cQ\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

/// Members of a room that is one of many.
const ROOM: usize = 100;
/// Up to so many bytes the shell copies frames together, beyond it gathers them: `COPY_BYTES` and `SLICES` in
/// `node/src/transport/plain.rs`.
const COPY_BYTES: usize = 16 * 1024;
const SLICES: usize = 64;
/// Masks of clients are random; any mask but zero costs the same.
const MASK: [u8; 4] = [7, 11, 13, 17];

/// A shard and the state that its thread would keep.
pub(crate) struct Fake {
    pub(crate) shard: Shard,
    scratch: Box<[u8]>,
    effects: Vec<Effect>,
    now_millis: u64,
}

impl Fake {
    /// A shard without connections.
    pub(crate) fn new() -> Box<Self> {
        Self::of(NodeConfig::dev())
    }

    /// The same with this configuration.
    pub(crate) fn of(config: NodeConfig) -> Box<Self> {
        let options = ShardOptions {
            index: 0,
            has_bus: false,
            node_name: "node".to_owned(),
            version: "0",
            page: Default::default(),
            registry: Arc::new(Registry::new([1, 2])),
            places: Arc::default(),
            addresses: Arc::new(Addresses::new([1, 2])),
            poll_key: TokenKey::new(&[1; KEY_BYTES], NodeTag::of(1)),
            peers: Arc::default(),
            ready: Arc::new(true.into()),
            listening: Arc::default(),
            close_timeout_millis: node_core::limits::CLOSE_TIMEOUT_MILLIS,
        };
        Box::new(Self {
            shard: Shard::new(options, Arc::new(config)),
            scratch: vec![0; COPY_BYTES].into_boxed_slice(),
            effects: Vec::new(),
            now_millis: 0,
        })
    }

    /// `count` members of the room [`topic`] gives the number 0.
    pub(crate) fn with_one_room(count: usize) -> Box<Self> {
        let mut fake = Self::new();
        (0..count).for_each(|_| fake.connect_and_join(0));
        fake
    }

    /// `count` connections in rooms of 100.
    pub(crate) fn with_rooms(count: usize) -> Box<Self> {
        let mut fake = Self::new();
        fake.fill_rooms(count);
        fake
    }

    /// Adds `count` connections in rooms of 100.
    pub(crate) fn fill_rooms(&mut self, count: usize) {
        (0..count).for_each(|connection| self.connect_and_join(connection / ROOM));
    }

    /// An established WebSocket.
    pub(crate) fn connect(&mut self) -> Slot {
        let id = self.shard.accept().expect("a place").slot();
        self.shard.on_data(id, &mut REQUEST.as_bytes().to_vec());
        id
    }

    fn connect_and_join(&mut self, room: usize) {
        let id = self.connect();
        self.settle();
        self.shard.on_data(id, &mut join(room));
        self.settle();
    }

    /// Ends a turn as the shell does, and begins the next.
    pub(crate) fn settle(&mut self) {
        self.flush();
        self.shard.take_effects(&mut self.effects);
        self.effects.clear();
        self.shard.begin_turn(self.now_millis, 0);
    }

    /// Lets time pass until all memory that is given back after a while was given back.
    pub(crate) fn rest(&mut self) {
        for _ in 0..100 {
            self.now_millis += 50;
            self.shard.begin_turn(self.now_millis, 0);
            self.shard.handle_timeout();
            self.settle();
        }
    }

    /// Writes once every connection that has something queued. It must do what `node/src/transport/plain.rs` does,
    /// without the system call.
    pub(crate) fn flush(&mut self) -> usize {
        let mut sent = 0;
        while let Some(id) = self.shard.next_flush() {
            let (outbox, queue) = self.shard.output(id);
            let taken = if queue.frames() == 1 {
                black_box(outbox.first(queue)).len()
            } else if queue.bytes() as usize <= COPY_BYTES {
                let end = outbox.copy(queue, &mut self.scratch);
                black_box(&self.scratch[..end]).len()
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let filled = outbox.gather(queue, &mut slices);
                black_box(&slices[..filled]).iter().map(|slice| slice.len()).sum()
            };
            sent += taken;
            self.shard.on_sent(id, taken, taken);
        }
        self.shard.end_flushes(None, || self.now_millis);
        sent
    }
}

/// The topic of a room.
pub(crate) fn topic(room: usize) -> String {
    format!("room:{room:06}")
}

/// A join, as it comes off a socket.
pub(crate) fn join(room: usize) -> Vec<u8> {
    masked(&format!(r#"["3","3","{}","phx_join",{{}}]"#, topic(room)))
}

/// A publish with `bytes` of text.
pub(crate) fn publish(bytes: usize) -> Vec<u8> {
    masked(&format!(r#"["3","17","{}","new_msg",{{"body":"{}"}}]"#, topic(0), "x".repeat(bytes)))
}

/// A text frame as a client sends it.
pub(crate) fn masked(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u8::try_from(text.len()) {
        Ok(length @ 0..126) => frame.push(0x80 | length),
        _ => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(text.len()).expect("a short text").to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(text.bytes().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
