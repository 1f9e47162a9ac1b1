//! Shards of one node with fake sockets: the test gives the bytes and the time, and gets the bytes.

#![cfg_attr(not(test), allow(dead_code, reason = "the fuzz targets use less of it than the tests"))]

use std::{collections::HashMap, sync::Arc};

use super::frames::split;
use crate::{
    addresses::Addresses,
    api::{news::Listening, order::Report},
    backend::Inquiry,
    broadcast::{Broadcast, Content, NodeTag, Origin},
    config::NodeConfig,
    counters::Counters,
    drain::DrainOrder,
    limits::CLOSE_TIMEOUT_MILLIS,
    longpoll::{
        Carried,
        peers::Peers,
        token::{KEY_BYTES, TokenKey},
    },
    route::Registry,
    session::{id::Slot, lifecycle::Phase},
    shard::{Accepted, Effect, Event, Mail, Outgoing, Places, Progress, Shard, ShardOptions, Times},
    ws::{deflate::Inflater, frame::RSV1, handshake::Page},
};

pub(crate) use super::frames::REQUEST;
pub(super) use super::frames::{deflate_request, deflated, masked};

/// A connection, by shard and id.
pub(crate) type Client = (usize, Slot);

/// A frame or answer that the node sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sent {
    Text(String),
    Binary(Vec<u8>),
    Ping,
    Pong(Vec<u8>),
    Close(u16),
}

#[derive(Debug, Default)]
struct Socket {
    output: Vec<u8>,
    /// Bytes that the fake kernel still takes; none: any number.
    room: Option<usize>,
    /// Bytes that the transport took and that the kernel did not.
    kept: Vec<u8>,
    output_ended: bool,
}

impl Socket {
    /// Lets the kernel take bytes. Returns how many it took.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let taken = self.room.map_or(bytes.len(), |room| room.min(bytes.len()));
        self.output.extend_from_slice(&bytes[..taken]);
        self.room = self.room.map(|room| room - taken);
        taken
    }

    /// Goes on with what was kept. True when nothing of it is left.
    fn send_kept(&mut self) -> bool {
        let kept = std::mem::take(&mut self.kept);
        let taken = self.take(&kept);
        self.kept = kept[taken..].to_vec();
        self.kept.is_empty()
    }
}

/// Most bytes that a transport takes at once.
const RECORD: usize = 50;

pub(crate) struct Sim {
    pub(super) shards: Vec<Shard>,
    pub(super) node: NodeTag,
    pub(super) peers: Arc<Peers>,
    /// What the bus is to carry to other nodes, since this was last emptied.
    pub(super) carried: Vec<Carried>,
    sockets: HashMap<Client, Socket>,
    pub(super) closed: Vec<Client>,
    pub(super) bus: Vec<String>,
    /// What shards have reported to the server API.
    pub(super) reports: Vec<Report>,
    /// What shards ask the backend, since this was last emptied.
    pub(super) inquiries: Vec<Inquiry>,
    /// What those listen for who hear the events of the node.
    pub(super) listening: Arc<Listening>,
    /// Connections that may be read again, since this was last emptied.
    pub(super) resumed: Vec<Client>,
    /// Connections whose input waits in their shard.
    paused: Vec<Client>,
    /// Connections written in one turn at most.
    pub(super) flushes_per_turn: usize,
    /// Every second connection has a transport that takes up to a record of output, also when its socket does not.
    pub(super) keeps_records: bool,
    pub(super) now_millis: u64,
}

impl Sim {
    pub(crate) fn new(shards: u8, has_bus: bool, change: impl FnOnce(&mut NodeConfig)) -> Self {
        Self::node(NodeTag::of(7 << 72), shards, has_bus, change)
    }

    /// A node that is one of several.
    pub(super) fn node(
        node: NodeTag,
        shards: u8,
        has_bus: bool,
        change: impl FnOnce(&mut NodeConfig),
    ) -> Self {
        let peers = Arc::<Peers>::default();
        let mut config = NodeConfig::dev();
        change(&mut config);
        let config = Arc::new(config);
        let registry = Arc::new(Registry::new([1, 2]));
        let places = Arc::new(Places::default());
        let addresses = Arc::new(Addresses::new([3, 4]));
        let listening = Arc::<Listening>::default();
        let shard = |index| {
            let options = ShardOptions {
                index,
                has_bus,
                node_name: "n1".to_owned(),
                version: "0.1.0",
                page: Page { html: b"<p>", policy: "" },
                registry: Arc::clone(&registry),
                places: Arc::clone(&places),
                addresses: Arc::clone(&addresses),
                poll_key: TokenKey::new(&[7; KEY_BYTES], node),
                peers: Arc::clone(&peers),
                ready: Arc::new(true.into()),
                listening: Arc::clone(&listening),
                close_timeout_millis: CLOSE_TIMEOUT_MILLIS,
            };
            Shard::new(options, Arc::clone(&config))
        };
        Self {
            shards: (0..shards).map(shard).collect(),
            node,
            peers: Arc::clone(&peers),
            carried: Vec::new(),
            sockets: HashMap::new(),
            closed: Vec::new(),
            bus: Vec::new(),
            reports: Vec::new(),
            inquiries: Vec::new(),
            listening,
            resumed: Vec::new(),
            paused: Vec::new(),
            flushes_per_turn: usize::MAX,
            keeps_records: false,
            now_millis: 0,
        }
    }

    pub(super) fn dev() -> Self {
        Self::new(1, false, |_| {})
    }

    /// Accepts a socket on which nothing was said yet.
    pub(crate) fn accept(&mut self, shard: usize) -> Client {
        let id = self.shards[shard].accept().expect("accepted").slot();
        self.sockets.insert((shard, id), Socket::default());
        (shard, id)
    }

    /// Accepts a socket from an address; none when the shard drops it at once. True when a header of the PROXY protocol
    /// is awaited.
    pub(super) fn accept_from(&mut self, shard: usize, peer: &str) -> Option<(Client, bool)> {
        let peer = peer.parse().expect("an address");
        let Accepted { id, awaits_header } = self.shards[shard].accept_from(peer)?;
        let client = (shard, id.slot());
        self.sockets.insert(client, Socket::default());
        self.settle();
        Some((client, awaits_header))
    }

    /// An established WebSocket.
    pub(super) fn connect_to(&mut self, shard: usize, vsn: &str) -> Client {
        let client = self.accept(shard);
        let response = self.http(client, &REQUEST.replace("2.0.0", vsn));
        assert!(response.starts_with("HTTP/1.1 101 "), "{response}");
        client
    }

    /// An established WebSocket with compression.
    pub(super) fn connect_deflate(&mut self, shard: usize, vsn: &str) -> Client {
        let client = self.accept(shard);
        let response = self.http(client, &deflate_request().replace("2.0.0", vsn));
        assert!(response.contains("permessage-deflate; server_no_context_takeover"), "{response}");
        client
    }

    pub(super) fn connect(&mut self) -> Client {
        self.connect_to(0, "2.0.0")
    }

    /// Sends raw text and returns the raw answer.
    pub(crate) fn http(&mut self, client: Client, request: &str) -> String {
        self.bytes(client, request.as_bytes());
        String::from_utf8(self.take_output(client)).expect("text")
    }

    /// Takes all bytes that were sent to a client.
    pub(super) fn take_output(&mut self, client: Client) -> Vec<u8> {
        std::mem::take(&mut self.sockets.get_mut(&client).expect("known").output)
    }

    /// Feeds data of a client; turns run until nothing is left to do, or the connection is gone (for lack of memory,
    /// say).
    pub(super) fn bytes(&mut self, (shard, id): Client, data: &[u8]) {
        self.begin();
        let mut data = data.to_vec();
        let mut progress = self.shards[shard].on_data(id, &mut data);
        self.settle();
        while progress == Progress::Paused && self.shards[shard].sessions.get(id).is_some() {
            if self.shards[shard].inquiries.hold(id) {
                self.paused.push((shard, id));
                return;
            }
            self.begin();
            progress = self.shards[shard].on_data(id, &mut []);
            self.settle();
        }
    }

    pub(crate) fn text(&mut self, client: Client, text: &str) {
        self.bytes(client, &masked(0x81, text.as_bytes()));
    }

    pub(crate) fn lose(&mut self, (shard, id): Client) {
        self.begin();
        self.shards[shard].handle(Event::Lost(id));
        self.settle();
    }

    /// Lets time pass in steps of a tick.
    pub(crate) fn pass(&mut self, millis: u64) {
        for _ in 0..millis.div_ceil(50) {
            self.now_millis += 50;
            self.begin();
            self.settle();
        }
    }

    /// Makes the fake kernel take only so many bytes more, or, with `None`, any number again.
    pub(super) fn limit(&mut self, client: Client, room: Option<usize>) {
        let socket = self.sockets.get_mut(&client).expect("known");
        socket.room = room;
        if socket.send_kept() && room != Some(0) {
            self.begin();
            let shard = &mut self.shards[client.0];
            shard.handle(Event::Writable(shard.sessions.id(client.1)));
            self.settle();
        }
    }

    fn begin(&mut self) {
        let now = self.now_millis;
        self.shards.iter_mut().for_each(|shard| begin(shard, now));
    }

    /// Flushes, carries out effects and delivers between shards until all is quiet.
    pub(super) fn settle(&mut self) {
        loop {
            let mut mails = Vec::new();
            for index in 0..self.shards.len() {
                self.flush(index);
                mails.extend(self.carry_out(index));
            }
            let went_on = self.go_on();
            if mails.is_empty() && !went_on && !self.shards.iter().any(Shard::has_flushes) {
                return;
            }
            for (shard, mail) in mails {
                self.shards[shard].handle(Event::Mail(mail));
            }
        }
    }

    /// Goes on with the input that waits in the shards, as far as it may be read. False when none was.
    fn go_on(&mut self) -> bool {
        let (mut went_on, mut held) = (false, Vec::new());
        for (index, slot) in std::mem::take(&mut self.paused) {
            let shard = &mut self.shards[index];
            let may_read = shard.may_read(slot, false);
            went_on |= may_read;
            if !may_read || shard.go_on(slot) == Progress::Paused {
                held.push((index, slot));
            }
        }
        self.paused.extend(held);
        went_on
    }

    /// Carries out a shard's effects, and returns its mail for other shards.
    pub(super) fn carry_out(&mut self, index: usize) -> Vec<(usize, Mail)> {
        let mut effects = Vec::new();
        self.shards[index].take_effects(&mut effects);
        let mut mails = Vec::new();
        for effect in effects {
            match effect {
                Effect::Tell(Outgoing::Publish { topic, broadcast, shards, nodes }) => {
                    if nodes {
                        self.bus.push(format!("publish {topic}"));
                    }
                    mails.extend(shards.iter().map(|shard| {
                        let mail = Mail::Remote { broadcast: broadcast.clone(), origin: Origin::Shard };
                        (usize::from(shard), mail)
                    }));
                }
                Effect::Tell(Outgoing::Deliver { shard, mail }) => mails.push((usize::from(shard), mail)),
                Effect::Tell(Outgoing::Carry(carried)) => self.carried.push(*carried),
                Effect::Tell(Outgoing::Report(report)) => self.reports.push(*report),
                Effect::Tell(Outgoing::Inquire(inquiry)) => self.inquiries.push(*inquiry),
                Effect::Tell(Outgoing::News(_)) => panic!("it is taken at the end of a turn"),
                Effect::Tell(Outgoing::Interest(topic)) => {
                    // The bus looks into the registry for all shards; here it is this shard alone.
                    let members = self.shards[index].options.registry.shards(&topic);
                    let joined = members.iter().any(|shard| usize::from(shard) == index);
                    self.bus.push(format!("{} {topic}", if joined { "join" } else { "leave" }));
                }
                Effect::Resume(slot) => self.resumed.push((index, slot)),
                Effect::Paused(slot) => self.paused.push((index, slot)),
                Effect::EndOutput(slot) => {
                    self.sockets.get_mut(&(index, slot)).expect("known").output_ended = true;
                }
                Effect::Ended(slot) => {
                    self.paused.retain(|paused| *paused != (index, slot));
                    self.closed.push((index, slot));
                }
            }
        }
        mails
    }

    fn flush(&mut self, index: usize) {
        let shard = &mut self.shards[index];
        for _ in 0..self.flushes_per_turn {
            let Some(id) = shard.next_flush() else { break };
            let socket = self.sockets.get_mut(&(index, id)).expect("known");
            let (outbox, queue) = shard.output(id);
            let bytes: Vec<u8> = outbox.slices(queue).flatten().copied().collect();
            assert_eq!(bytes.len(), queue.bytes() as usize);
            if self.keeps_records && id.0 % 2 == 1 {
                assert!(socket.kept.is_empty(), "it is not written while it is blocked");
                let record = &bytes[..bytes.len().min(RECORD)];
                let sent = socket.take(record);
                if sent == record.len() {
                    shard.on_sent(id, sent, sent);
                } else {
                    socket.kept = record[sent..].to_vec();
                    shard.on_kept(id, record.len(), record.len() - sent);
                }
                continue;
            }
            let taken = socket.take(&bytes);
            shard.on_sent(id, taken, bytes.len());
        }
        shard.end_flushes(None, || self.now_millis);
    }

    pub(super) fn output_ended(&self, client: Client) -> bool {
        self.sockets[&client].output_ended
    }

    /// Takes what was sent to a client, as messages. A message that was cut off in the middle stays.
    pub(crate) fn sent(&mut self, client: Client) -> Vec<Sent> {
        let output = &mut self.sockets.get_mut(&client).expect("known").output;
        let mut sent = Vec::new();
        let mut inflater = Inflater::default();
        while let Some((first, mut payload, rest)) = split(output) {
            if first & RSV1 != 0 {
                payload = inflater.message(&payload, usize::MAX).expect("DEFLATE data").to_vec();
            }
            sent.push(match first & !RSV1 {
                0x81 => Sent::Text(String::from_utf8(payload).expect("UTF-8")),
                0x82 => Sent::Binary(payload),
                0x88 => Sent::Close(u16::from_be_bytes([payload[0], payload[1]])),
                0x89 => Sent::Ping,
                0x8a => Sent::Pong(payload),
                other => panic!("frame type {other:#x}"),
            });
            *output = rest;
        }
        sent
    }

    /// Takes what was sent after the response head, and leaves the head.
    pub(super) fn sent_after_head(&mut self, client: Client) -> Vec<Sent> {
        let output = &mut self.sockets.get_mut(&client).expect("known").output;
        let end = output.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        let frames = output.split_off(end);
        let head = std::mem::replace(output, frames);
        let sent = self.sent(client);
        self.sockets.get_mut(&client).expect("known").output = head;
        sent
    }

    /// Takes what was sent, which must all be text.
    pub(super) fn texts(&mut self, client: Client) -> Vec<String> {
        let text = |sent| match sent {
            Sent::Text(text) => text,
            other => panic!("not text: {other:?}"),
        };
        self.sent(client).into_iter().map(text).collect()
    }

    pub(super) fn join(&mut self, client: Client, topic: &str, join_ref: &str) {
        self.text(client, &format!(r#"["{join_ref}","{join_ref}","{topic}","phx_join",{{}}]"#));
        let ok =
            format!(r#"["{join_ref}","{join_ref}","{topic}","phx_reply",{{"status":"ok","response":{{}}}}]"#);
        assert_eq!(self.texts(client), [ok]);
    }

    /// The bytes of incomplete messages, added up anew: the shards' own counts must be the same.
    pub(super) fn incomplete_bytes(&self) -> usize {
        let of_shard = |shard: &Shard| {
            let established = shard.sessions.iter().filter(|(_, conn)| !conn.is(Phase::Handshake));
            let bytes: usize = established.map(|(_, conn)| conn.reader.incomplete_bytes()).sum();
            assert_eq!(shard.sessions.incomplete_bytes(), bytes);
            bytes
        };
        self.shards.iter().map(of_shard).sum()
    }

    /// Ends the node and lets so much time pass; then nothing is kept of what was said. Returns what was counted.
    pub(super) fn end(&mut self, millis: u64) -> Counters {
        for shard in &mut self.shards {
            shard.handle(Event::Mail(Mail::Shutdown));
        }
        self.settle();
        self.pass(millis);
        let counters = self.counters();
        assert_eq!(self.incomplete_bytes(), 0);
        self.check_ledgers();
        for shard in &self.shards {
            let deadlines = shard.timers.held_bytes();
            assert_eq!(shard.held(), (shard.egress.outbox().slack_bytes() + deadlines) as u64);
            assert!(shard.sessions.side().iter().next().is_none());
        }
        counters
    }

    pub(crate) fn counters(&mut self) -> Counters {
        let mut sum = Counters::ZERO;
        for shard in &mut self.shards {
            sum.add(shard.end_turn(Times::default()));
        }
        sum
    }
}

/// Begins a turn, with time passing before any event is reported.
pub(crate) fn begin(shard: &mut Shard, now_millis: u64) {
    shard.begin_turn(now_millis, 0);
    shard.handle_timeout();
}

/// Ends a drain.
pub(super) const fn stay() -> Event {
    Event::Mail(Mail::Drain(DrainOrder::Stop))
}

/// Begins a drain, or changes its pace.
pub(super) const fn drain(connections_per_second: u32) -> Event {
    Event::Mail(Mail::Drain(DrainOrder::Close { connections_per_second }))
}

/// The arrival of another node's broadcast.
pub(super) fn remote(broadcast: Broadcast, late: bool) -> Event {
    Event::Mail(Mail::Remote { broadcast, origin: Origin::Node { node: NodeTag::of(1), late } })
}

/// A broadcast of another node or shard.
pub(super) fn said(topic: &str, event: &str) -> Broadcast {
    Broadcast::pack(&Content::json(topic, event, "{}")).expect("short names")
}
