//! The capacity worksheet: from what a team expects of its clients to nodes, memory and bandwidth, each with its formula
//! written out. Nothing here is measured on the team's machines: where a figure comes from `docs/BENCHMARKS.md`, its
//! constant says so.

use serde::Serialize;

use crate::capacity::{self, Sizing};
pub use crate::figures::number;
use crate::footprint::{MEMBER_BYTES, PROCESS_BYTES, SOCKET_BYTES, TLS_MEMBER_BYTES};

pub mod checks;

/// CPU time of a delivery at 50,000/s, kernel included, in seconds: 6.65 us (`docs/BENCHMARKS.md`, "TLS"). It falls when a
/// node is busy enough to put several messages into one write.
pub const DELIVERY_SECONDS: f64 = 6.65e-6;
/// What is put around a payload, in bytes: the WebSocket header, and the array of Phoenix with a topic and an event of
/// ordinary length.
pub const FRAME_BYTES: f64 = 64.0;
/// Headers of a segment on the network, in bytes: Ethernet 14, IPv4 20, TCP 20 with 12 for time stamps. Each message is
/// counted as a segment of its own, which is the worst case: a busy node puts several into one.
pub const SEGMENT_BYTES: f64 = 66.0;
/// Period of the heartbeat of Phoenix clients, in seconds.
pub const HEARTBEAT_SECONDS: f64 = 30.0;
/// How long a burst may wait in send queues before it counts as late, in seconds; the memory of a pod has room for it.
pub const QUEUED_SECONDS: f64 = 1.0;

/// What is expected of the clients at the busiest time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Messages published per second, over all rooms.
    pub publishes_per_second: f64,
    /// Members of the room that a message is published in, averaged over messages: large rooms count more.
    pub room_size: f64,
    /// The part of a room's members that are connected and get the message, above 0 and at most 1.
    pub active_fraction: f64,
    /// Payload of a message in bytes.
    pub message_bytes: f64,
    /// Most connections at a time.
    pub peak_connections: f64,
}

impl Load {
    /// What is wrong with it, as a sentence for each.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let positive = [
            ("publishes per second", self.publishes_per_second),
            ("the size of a room", self.room_size),
            ("the bytes of a message", self.message_bytes),
            ("the peak of connections", self.peak_connections),
        ];
        let wrong = positive.into_iter().filter(|(_, value)| !(value.is_finite() && *value >= 0.0));
        let mut problems: Vec<_> =
            wrong.map(|(what, value)| format!("{what}: {value} is no number of at least 0")).collect();
        if !(self.active_fraction > 0.0 && self.active_fraction <= 1.0) {
            let fraction = self.active_fraction;
            problems
                .push(format!("the active fraction: {fraction} is not above 0 and at most 1; 40 % is 0.4"));
        }
        problems
    }

    /// Fan-out writes per second: messages delivered to members.
    #[must_use]
    pub fn writes_per_second(&self) -> f64 {
        self.publishes_per_second * self.room_size * self.active_fraction
    }
}

/// What the worksheet is made for, beside the load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Site {
    /// What one node carries, and how full it may be.
    pub sizing: Sizing,
    /// Fewest nodes.
    pub min: i32,
    /// Connections closed per second while a node is drained.
    pub drain_per_second: f64,
    /// Whether the nodes speak TLS.
    pub tls: bool,
}

/// One line of the worksheet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// What it is about.
    pub what: &'static str,
    /// How it was computed, with the numbers in it.
    pub formula: String,
    /// The result.
    pub value: f64,
    /// Unit of the result.
    pub unit: &'static str,
}

/// The worksheet.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Worksheet {
    /// Fan-out writes per second.
    pub writes_per_second: f64,
    /// Nodes that there have to be.
    pub nodes: i32,
    /// Load of each other node, in percent of its capacity, when one of them is gone; none with a single node.
    pub percent_after_loss: Option<f64>,
    /// Memory that a node takes with its part of the load, in bytes.
    pub node_memory_bytes: f64,
    /// Memory limit that a pod needs to take twice its connections with queues, in bytes.
    pub pod_memory_bytes: f64,
    /// Bits per second that all nodes send to clients.
    pub egress_bits_per_second: f64,
    /// Each figure with its formula, in the order in which one follows from another.
    pub lines: Vec<Line>,
}

/// Computes the worksheet.
#[must_use]
pub fn worksheet(load: &Load, site: &Site) -> Worksheet {
    let mut sheet = Sheet { load, site, lines: Vec::new() };
    let writes = sheet.writes();
    let nodes = sheet.nodes(writes);
    let percent_after_loss = sheet.loss(writes, nodes);
    let (node_memory_bytes, pod_memory_bytes) = sheet.memory(writes, nodes);
    let egress_bits_per_second = sheet.network(writes, nodes);
    sheet.time(writes, nodes);
    Worksheet {
        writes_per_second: writes,
        nodes,
        percent_after_loss,
        node_memory_bytes,
        pod_memory_bytes,
        egress_bits_per_second,
        lines: sheet.lines,
    }
}

struct Sheet<'a> {
    load: &'a Load,
    site: &'a Site,
    lines: Vec<Line>,
}

impl Sheet<'_> {
    fn line(&mut self, what: &'static str, formula: String, value: f64, unit: &'static str) -> f64 {
        self.lines.push(Line { what, formula, value, unit });
        value
    }

    fn writes(&mut self) -> f64 {
        let Load { publishes_per_second, room_size, active_fraction, .. } = *self.load;
        let formula = format!(
            "{} publishes/s x {} members x {active_fraction} active",
            number(publishes_per_second),
            number(room_size)
        );
        self.line("writes per second", formula, self.load.writes_per_second(), "writes/s")
    }

    fn nodes(&mut self, writes: f64) -> i32 {
        let Sizing { writes_per_second, connections, target_percent } = self.site.sizing;
        let peak = self.load.peak_connections;
        let formula =
            format!("{} / ({} writes/s x {target_percent} %)", number(writes), number(writes_per_second));
        let need = writes / self.site.sizing.target_writes();
        let by_writes = self.line("nodes for writes", formula, need, "nodes");
        let formula =
            format!("{} / ({} connections x {target_percent} %)", number(peak), number(connections));
        let need = peak / self.site.sizing.target_connections();
        let by_connections = self.line("nodes for connections", formula, need, "nodes");
        let nodes = capacity::whole(by_writes).max(capacity::whole(by_connections)).max(self.site.min).max(1);
        let formula = format!(
            "the most of {}, {} and nodes.min {}",
            capacity::whole(by_writes),
            capacity::whole(by_connections),
            self.site.min
        );
        self.line("nodes", formula, f64::from(nodes), "nodes");
        nodes
    }

    /// What each other node carries when one is gone.
    fn loss(&mut self, writes: f64, nodes: i32) -> Option<f64> {
        let others = f64::from(nodes - 1);
        if others < 1.0 {
            return None;
        }
        let Sizing { writes_per_second, connections, .. } = self.site.sizing;
        let by_writes = writes * 100.0 / (others * writes_per_second);
        let by_connections = self.load.peak_connections * 100.0 / (others * connections);
        let (load, capacity, unit) = if by_writes >= by_connections {
            (writes, writes_per_second, "writes/s")
        } else {
            (self.load.peak_connections, connections, "connections")
        };
        let formula = format!("{} / ({} x {} {unit})", number(load), nodes - 1, number(capacity));
        Some(self.line(
            "load of the others when one node is gone",
            formula,
            by_writes.max(by_connections),
            "%",
        ))
    }

    fn memory(&mut self, writes: f64, nodes: i32) -> (f64, f64) {
        let held = self.load.peak_connections / f64::from(nodes);
        let formula = format!("{} / {nodes}", number(self.load.peak_connections));
        self.line("connections per node", formula, held, "connections");
        let (member, source) =
            if self.site.tls { (TLS_MEMBER_BYTES, " with TLS") } else { (MEMBER_BYTES, "") };
        let each = member + SOCKET_BYTES;
        let formula =
            format!("16 MB + {} x ({member} bytes{source} + 3,500 bytes of the kernel)", number(held));
        let node = self.line("memory per node", formula, PROCESS_BYTES + held * each, "bytes");
        // A node takes the clients of one that died: it accepts up to twice its connections.
        let most = 2.0 * self.site.sizing.connections;
        let message = self.load.message_bytes + FRAME_BYTES;
        let queued = (writes / f64::from(nodes)) * QUEUED_SECONDS * message;
        let formula = format!(
            "2 x (16 MB + {} x {} bytes + {} writes/s x 1 s x {} bytes): twice nodes.capacity.connections, a second of \
             queues, and limits.memoryBudget is half of it",
            number(most),
            number(each),
            number(writes / f64::from(nodes)),
            number(message)
        );
        let limit = 2.0 * (PROCESS_BYTES + most * each + queued);
        (node, self.line("memory limit of a pod", formula, limit, "bytes"))
    }

    fn network(&mut self, writes: f64, nodes: i32) -> f64 {
        let Load { publishes_per_second, room_size, active_fraction, message_bytes, .. } = *self.load;
        let each = message_bytes + FRAME_BYTES + SEGMENT_BYTES;
        let around = "64 around it + 66 of a segment";
        let formula =
            format!("{} writes/s x ({} + {around}) bytes x 8", number(writes), number(message_bytes));
        let egress = self.line("bandwidth to clients", formula, writes * each * 8.0, "bit/s");
        let formula = format!("{} / {nodes}", number(egress));
        self.line("bandwidth to clients per node", formula, egress / f64::from(nodes), "bit/s");
        let formula = format!(
            "{} publishes/s x ({} + {around}) bytes x 8",
            number(publishes_per_second),
            number(message_bytes)
        );
        self.line("bandwidth from clients", formula, publishes_per_second * each * 8.0, "bit/s");
        if nodes > 1 {
            // The backplane carries one copy to each other node that has a member of the room.
            let (n, members) = (f64::from(nodes), room_size * active_fraction);
            let hearing = n * (1.0 - (1.0 - 1.0 / n).powf(members));
            let copies = (hearing - 1.0).max(0.0);
            let formula = format!(
                "{} publishes/s x {copies:.2} other nodes with members ({n} x (1 - (1 - 1/{n})^{}) - 1)",
                number(publishes_per_second),
                number(members)
            );
            let out = self.line(
                "messages out of the backplane",
                formula,
                publishes_per_second * copies,
                "messages/s",
            );
            let formula =
                format!("{} messages/s x ({} + {around}) bytes x 8", number(out), number(message_bytes));
            self.line("bandwidth out of the backplane", formula, out * each * 8.0, "bit/s");
        }
        egress
    }

    fn time(&mut self, writes: f64, nodes: i32) {
        let per_node = writes / f64::from(nodes);
        let formula = format!("{} writes/s x 6.65 us", number(per_node));
        self.line("CPU per node, of deliveries", formula, per_node * DELIVERY_SECONDS, "cores");
        let peak = self.load.peak_connections;
        let formula = format!("{} / {HEARTBEAT_SECONDS} s", number(peak));
        self.line("heartbeats", formula, peak / HEARTBEAT_SECONDS, "messages/s");
        let (held, pace) = (peak / f64::from(nodes), self.site.drain_per_second);
        let formula = format!("{} connections / {} per second", number(held), number(pace));
        self.line("draining one node", formula, held / pace, "s");
    }
}

#[cfg(test)]
mod tests;
