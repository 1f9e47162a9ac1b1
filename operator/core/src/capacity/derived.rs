//! What one node can hold, from its memory, its descriptors and what a connection takes.
//!
//! ```text
//! room     = the smallest of (memory limit x 40 % - 16 MB) / bytes of a connection,
//!            what the descriptor tables of a node hold, and `limits.maxConnections` of the node's file
//! capacity = room / 2
//! ```
//!
//! Half of the room is for the clients of a node that died. Bytes of a connection are assumed until nodes that hold many
//! show them: their resident memory, without queues and without what a node takes by itself, and what the kernel takes
//! besides, which no node sees. The node's file is made from the manifest alone, so no estimate changes it.

use crds::{Confidence, Connections, DerivedCapacity};

use super::evidence::{self, DIFFER, MOST_MILLIS, Mean, OLD_ENOUGH_MILLIS};
use super::rounded;
use crate::figures::number;
use crate::footprint::{
    ASSUMED_BYTES, CONNECTION_HEADROOM, Given, LEAST_BYTES, PROCESS_BYTES, SOCKET_BYTES, held, mebibytes,
    memory_sum,
};
use crate::timestamp::time;
use crate::view::NodeSeen;

/// Most bytes of a connection: what is beyond ten times the assumed ones is a fault, or memory of something else.
const MOST_BYTES: f64 = 10.0 * ASSUMED_BYTES;

/// In this time half of the evidence is forgotten while nodes show more, in milliseconds.
const HALF_MILLIS: f64 = 600_000.0;
/// The same while none does: a connection takes the same after a night with few of them.
const QUIET_HALF_MILLIS: f64 = 86_400_000.0;
/// Evidence that counts as much as what is assumed, in milliseconds of a node that is full.
const ASSUMED_MILLIS: f64 = 60_000.0;
/// A node with so many connections tells as much as one that is full, however much memory it has: what the process takes by
/// itself, which differs by megabytes, no longer counts beside them.
const ENOUGH_CONNECTIONS: f64 = 20_000.0;
/// Nodes that hold a smaller part of this, or of what is assumed if that is less, tell nothing, nor those with fewer
/// connections.
const LEAST_FULL: f64 = 0.2;
const LEAST_CONNECTIONS: f64 = 2_000.0;
/// Without a node that holds such a part of it, the rest is far away.
const FULL_ENOUGH: f64 = 0.4;
/// What memory holds stays as it is until the sum differs by this part of it: the floor of the node count follows it at once.
const STAYS: f64 = 0.15;

/// What one node showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shown {
    /// Connections held.
    pub connections: f64,
    /// Its resident memory without what is queued to clients, in bytes; 0 when it does not say.
    pub bytes: f64,
    /// Memory that it may have, in bytes; 0 when it does not say, or nothing limits it.
    pub limit: u64,
    /// Connections that its descriptor tables hold; 0 when it does not say.
    pub descriptors: u64,
    /// Age of its process in milliseconds.
    pub age: u64,
}

impl Shown {
    #[allow(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
    fn of(node: &NodeSeen) -> Option<Self> {
        let stats = node.stats.as_ref().filter(|_| node.serves())?;
        let gauges = &stats.gauges;
        Some(Self {
            connections: gauges.connections as f64,
            bytes: gauges.rss_bytes.saturating_sub(gauges.send_queue_bytes) as f64,
            limit: gauges.memory_limit_bytes,
            descriptors: gauges.descriptor_room,
            age: stats.monotonic_millis,
        })
    }

    /// Bytes of one of its connections, those of the kernel included.
    fn each(&self) -> f64 {
        let own = (self.bytes - PROCESS_BYTES).max(0.0) / self.connections;
        (own + SOCKET_BYTES).clamp(LEAST_BYTES, MOST_BYTES)
    }
}

/// What the nodes of a fleet showed at one look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look {
    /// The nodes that serve and answered.
    pub nodes: Vec<Shown>,
    /// Whether every node that runs answered.
    pub whole: bool,
}

impl Look {
    /// Reads the nodes.
    #[must_use]
    pub fn of(nodes: &[NodeSeen]) -> Self {
        let whole = nodes.iter().filter(|node| node.runs).all(|node| node.stats.is_some());
        Self { nodes: nodes.iter().filter_map(Shown::of).collect(), whole }
    }

    /// The smallest figure of all nodes that say one.
    fn least(&self, of: fn(&Shown) -> u64) -> Option<u64> {
        self.nodes.iter().map(of).filter(|figure| *figure > 0).min()
    }

    /// The smallest memory limit that nodes say, or that of the manifest; what was known before while nobody answers.
    fn limit(&self, before: Option<&DerivedCapacity>, given: &Given) -> Option<u64> {
        let known = before.and_then(|before| before.memory_limit).filter(|_| self.nodes.is_empty());
        // Nodes of one template have one limit: one that says a tenth of it does not decide for the others.
        let least = given.memory_limit.map_or(0, |limit| limit / 10);
        let limit = self.least(|shown| shown.limit).map(|limit| limit.max(least)).or(given.memory_limit);
        limit.or(known.map(i64::unsigned_abs))
    }

    /// What descriptors hold. More than before counts only when every node says so: the one that holds least may be silent.
    fn descriptors(&self, before: Option<&DerivedCapacity>) -> Option<i64> {
        let known = before.and_then(|before| before.descriptors_hold);
        let held = self.least(|shown| shown.descriptors).map(|room| signed(room / CONNECTION_HEADROOM));
        match (held, known) {
            (Some(held), Some(known)) if held > known && !self.whole => Some(known),
            (None, known) if !self.whole || self.nodes.is_empty() => known,
            (held, _) => held,
        }
    }
}

/// The nodes that tell what a connection takes, each with the part of enough connections that it holds, 0 to 1.
struct Telling(Vec<(Shown, f64)>);

impl Telling {
    fn of(look: &Look, limit: Option<f64>) -> Self {
        let Some(enough) = limit.map(|limit| held(limit, ASSUMED_BYTES).clamp(1.0, ENOUGH_CONNECTIONS))
        else {
            return Self(Vec::new());
        };
        let tells = |shown: &Shown| {
            shown.age >= OLD_ENOUGH_MILLIS && shown.bytes > 0.0 && shown.connections >= LEAST_CONNECTIONS
        };
        let telling = look.nodes.iter().filter(|shown| tells(shown));
        let telling = telling.map(|shown| (*shown, (shown.connections / enough).min(1.0)));
        Self(telling.filter(|(_, full)| *full >= LEAST_FULL).collect())
    }

    /// The mean of the bytes of a connection; its weight is that of a millisecond.
    fn mean(&self) -> Mean {
        let each = |mean: Mean, (shown, full): &(Shown, f64)| mean.with(shown.each(), full * full);
        self.0.iter().fold(Mean::default(), each)
    }

    fn confidence(&self, weight: f64) -> (Confidence, String) {
        let seconds = weight / 1_000.0;
        if weight < ASSUMED_MILLIS {
            let words = format!(
                "evidence of {seconds:.0} s of a full node is less than the {ASSUMED_BYTES} bytes weigh that are assumed"
            );
            return (Confidence::Low, words);
        }
        if self.0.is_empty() {
            let words = format!("evidence of {seconds:.0} s of a full node, and none at present");
            return (Confidence::Medium, words);
        }
        let each = |fold: fn(f64, f64) -> f64| self.0.iter().map(|(shown, _)| shown.each()).reduce(fold);
        let (least, most) = (each(f64::min).unwrap_or(0.0), each(f64::max).unwrap_or(0.0));
        if most > DIFFER * least {
            let words =
                format!("nodes differ: a connection takes {least:.0} bytes on one, {most:.0} on another one");
            return (Confidence::Medium, words);
        }
        let fullest = self.0.iter().map(|(_, full)| *full).fold(0.0, f64::max);
        let held = self.0.iter().map(|(shown, _)| shown.connections).fold(0.0, f64::max);
        let nodes = self.0.len();
        if fullest < FULL_ENOUGH {
            let words =
                format!("no node holds more than {held:.0} connections: one that is full is far away");
            return (Confidence::Medium, words);
        }
        let words = format!(
            "evidence of {seconds:.0} s of a full node; {nodes} nodes tell, with up to {held:.0} connections"
        );
        (evidence::undoubted(weight, ASSUMED_MILLIS), words)
    }
}

/// Derives from what nodes show at `now` (milliseconds since 1970), and from what was derived before.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "figures far below 2^52")]
pub fn derive(before: Option<&DerivedCapacity>, look: &Look, given: &Given, now: u64) -> DerivedCapacity {
    let limit = look.limit(before, given);
    let telling = Telling::of(look, limit.map(|limit| limit as f64));
    let since = evidence::since(before.map(|before| &before.observed_at), now);
    let half = if telling.0.is_empty() { QUIET_HALF_MILLIS } else { HALF_MILLIS };
    let old = before.map_or(Mean::default(), |before| {
        let weight = evidence::faded(before.weight_millis, since, half);
        Mean::default().with(before.evidence as f64, weight)
    });
    let new = telling.mean();
    let evidence = old.with(new.value(), new.weight * since.min(MOST_MILLIS));
    let each = evidence.with(ASSUMED_BYTES, ASSUMED_MILLIS).value().clamp(LEAST_BYTES, MOST_BYTES);
    let memory_limit = limit.map(signed);
    let memory_holds = limit.map(|limit| {
        let sum = held(limit as f64, each);
        let known = before.filter(|before| before.memory_limit == memory_limit);
        let known = known.and_then(|before| before.memory_holds);
        known.filter(|known| (sum - *known as f64).abs() <= STAYS * *known as f64).unwrap_or(rounded(sum))
    });
    let descriptors_hold = look.descriptors(before);
    let usual = signed(Connections::USUAL);
    let bounds = [Some(memory_holds.unwrap_or(usual)), descriptors_hold, Some(signed(given.most_capacity()))];
    let (confidence, reason) = match limit {
        Some(_) => telling.confidence(evidence.weight),
        None => (Confidence::Low, format!("no memory limit is known, so that {usual} count at most")),
    };
    DerivedCapacity {
        estimate: bounds.into_iter().flatten().min().unwrap_or(usual).max(1),
        confidence,
        reason,
        memory_limit,
        memory_holds,
        descriptors_hold,
        bytes_per_connection: rounded(each),
        evidence: rounded(evidence.value()),
        weight_millis: rounded(evidence.weight),
        observed_at: time(now),
    }
}

/// The sum with its terms, in words.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "figures far below 2^52")]
pub fn terms(derived: &DerivedCapacity) -> String {
    let figure = |figure: i64| number(figure as f64);
    let memory = derived.memory_limit.zip(derived.memory_holds).map(|(limit, holds)| {
        let (limit, each) = (mebibytes(limit as f64), figure(derived.bytes_per_connection));
        format!("memory holds {} ({})", figure(holds), memory_sum(&limit, &each))
    });
    let memory = memory.unwrap_or_else(|| "no memory limit is known".to_owned());
    let descriptors = derived.descriptors_hold.map(|held| format!(", descriptors hold {}", figure(held)));
    memory + &descriptors.unwrap_or_default()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
