//! Two nodes whose clients poll, and a bus between them that a test loses, holds up and turns around what it likes.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    harness::{Client, Sim},
    polls::responses,
};
use crate::{
    broadcast::NodeTag,
    longpoll::{
        Answer, Ask, Carried, What,
        parcel::{Parcel, Parts, parcels},
    },
    shard::{Event, Mail},
};

/// What the bus takes of a body at once, so that most come in parts.
const PART_BYTES: usize = 60;
pub(super) const fn boot_id(node: usize) -> u128 {
    (node as u128 + 1) << 72
}

/// Two nodes, each with a WebSocket client that publishes, and the bus between them.
pub(super) struct Fleet {
    pub(super) nodes: [Sim; 2],
    publishers: [Client; 2],
    /// Messages said on each node so far.
    pub(super) said: [u64; 2],
    parts: [Parts; 2],
    /// What is under way: the node that it is for, and the bytes.
    pub(super) bus: Vec<(usize, Vec<u8>)>,
    /// Whether the bus takes nothing.
    pub(super) is_full: bool,
    /// Whether NATS knows of no node that listens.
    pub(super) is_alone: bool,
}

impl Fleet {
    pub(super) fn new(shards: u8) -> Self {
        let mut nodes = [0, 1].map(|node| Sim::node(NodeTag::of(boot_id(node)), shards, true, |_| {}));
        let publishers = nodes.each_mut().map(|node| {
            let socket = node.connect();
            node.join(socket, "room:1", "1");
            socket
        });
        let mut fleet = Self {
            nodes,
            publishers,
            said: [0; 2],
            parts: Default::default(),
            bus: Vec::new(),
            is_full: false,
            is_alone: false,
        };
        fleet.see(Some(true));
        fleet
    }

    /// Lets the nodes see each other, or not; or know nothing.
    pub(super) fn see(&mut self, others: Option<bool>) {
        let tags: HashSet<_> = self.nodes.iter().map(|node| node.node).collect();
        for node in &self.nodes {
            node.peers.set(others.map(|are_there| if are_there { tags.clone() } else { HashSet::new() }));
        }
    }

    /// Puts what the nodes want carried on the bus.
    pub(super) fn collect(&mut self) {
        for from in [0, 1] {
            while let Some(carried) = self.nodes[from].carried.pop() {
                let to = carried.to().expect("another node");
                let to = self.nodes.iter().position(|node| node.node == to).expect("one of the two");
                assert_ne!(to, from);
                let asked = match &carried {
                    Carried::Ask(Ask { from, what: What::Poll | What::Post(_), .. }) => Some(*from),
                    _ => None,
                };
                if self.is_full {
                    let back = match &carried {
                        Carried::Ask(Ask { from, .. }) => from.shard,
                        Carried::Answer(Answer { token, .. }) => token.session().shard,
                    };
                    self.hand(from, back, Mail::NotCarried(Box::new(carried)));
                } else if let (true, Some(asker)) = (self.is_alone, asked) {
                    self.hand(from, asker.shard, Mail::NobodyThere(asker));
                } else {
                    let sent = parcels(&carried, (boot_id(from), 0), PART_BYTES);
                    self.bus.extend(sent.map(|bytes| (to, bytes)));
                }
            }
        }
    }

    pub(super) fn hand(&mut self, node: usize, shard: u8, mail: Mail) {
        let node = &mut self.nodes[node];
        node.shards[usize::from(shard)].handle(Event::Mail(mail));
        node.settle();
    }

    /// Brings one message of the bus.
    pub(super) fn deliver(&mut self, at: usize) {
        let (to, bytes) = self.bus.remove(at);
        let parcel = Parcel::decode(&bytes).expect("sent");
        match self.parts[to].take(&parcel, self.nodes[to].now_millis, 1 << 20).expect("sent") {
            Some(Carried::Ask(ask)) => self.hand(to, ask.token.session().shard, Mail::Ask(Box::new(ask))),
            Some(Carried::Answer(answer)) => self.hand(to, answer.to.shard, Mail::Answer(Box::new(answer))),
            None => {}
        }
        self.collect();
    }

    /// Brings all that is under way.
    pub(super) fn settle(&mut self) {
        self.collect();
        while !self.bus.is_empty() {
            self.deliver(0);
        }
    }

    pub(super) fn pass(&mut self, millis: u64) {
        self.nodes.iter_mut().for_each(|node| node.pass(millis));
        self.collect();
    }

    /// A message in the room of the WebSocket client of this node.
    pub(super) fn say(&mut self, node: usize) {
        self.said[node] += 1;
        let said = format!(r#"["1",null,"room:1","m",{{"n":{}}}]"#, self.said[node]);
        self.nodes[node].text(self.publishers[node], &said);
        self.collect();
    }

    /// A connection to a node, on which this is asked.
    pub(super) fn ask(&mut self, node: usize, shard: usize, request: &str) -> Client {
        let client = self.nodes[node].accept(shard);
        // A connection before it may have had its slot.
        self.nodes[node].closed.retain(|closed| *closed != client);
        self.nodes[node].bytes(client, request.as_bytes());
        self.collect();
        client
    }

    /// The status line and body of the answer that came, if one did.
    pub(super) fn answer(&mut self, node: usize, client: Client) -> Option<(String, Value)> {
        let output = self.nodes[node].take_output(client);
        let all = responses(&String::from_utf8(output).expect("text"));
        assert!(all.len() <= 1, "{all:?}");
        all.into_iter().next()
    }
}
