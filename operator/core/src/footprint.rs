//! What a node and its connections take of memory, and what a manifest says of that: the part of connections that are
//! derived for which nobody has to ask a node ([`crate::capacity::derived`] is the other one).

use crds::{ChannelClusterSpec, Connections};

use crate::figures::number;

/// What a node needs before its first connection, in bytes: 15.8 MB (`docs/BENCHMARKS.md`, "Coming, going, and a million
/// deliveries a second").
pub const PROCESS_BYTES: f64 = 16e6;
/// Memory of a node per connection that is in a room and gets a message each second, in bytes: 107 after half an hour of
/// it (`docs/BENCHMARKS.md`, "100,000 connections for half an hour"); idle members take as much or less.
pub const MEMBER_BYTES: f64 = 107.0;
/// The same with TLS in the node: 201 (`docs/BENCHMARKS.md`, "TLS").
pub const TLS_MEMBER_BYTES: f64 = 201.0;
/// Memory of the kernel per connection without anything queued, in bytes: half of the 7 KB that both ends together took
/// (`docs/BENCHMARKS.md`, "Many connections in one process").
pub const SOCKET_BYTES: f64 = 3_500.0;
/// A node takes up to so many times the connections it is sized for before it refuses more: enough for a node to take
/// over the clients of a dead one, and still a bound.
pub(crate) const CONNECTION_HEADROOM: u64 = 2;
/// Percent of the memory limit for the node and its connections. Half of the limit is what clients can make the node hold
/// (`docs/LIMITS.md`, "Memory"), and a tenth of it is left for a second of a burst in send queues.
const MEMORY_PERCENT: f64 = 40.0;
/// Bytes of a connection while nothing is known: twice the 3,701 of a member with TLS and its socket in the kernel,
/// rounded up. Members of many rooms, and tokens, take more than those of that run had.
pub(crate) const ASSUMED_BYTES: f64 = 8_192.0;
/// Fewest bytes of a connection: those of a member of one room without TLS and its socket in the kernel.
pub(crate) const LEAST_BYTES: f64 = MEMBER_BYTES + SOCKET_BYTES;

/// What a manifest says of connections that are to be derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// The memory limit of its nodes in bytes.
    pub memory_limit: Option<u64>,
    /// `limits.maxConnections` of the nodes' file.
    pub most: u32,
}

impl Given {
    /// Reads it; none where the manifest gives the number of connections.
    #[must_use]
    pub fn of(spec: &ChannelClusterSpec) -> Option<Self> {
        let memory_limit = memory_limit(spec).map(whole);
        let derives = spec.nodes.capacity.connections == Connections::Derived;
        derives.then(|| Self { memory_limit, most: most(spec) })
    }

    /// The most that is derived: a node refuses more than twice of it.
    pub(crate) fn most_capacity(&self) -> u64 {
        u64::from(self.most) / CONNECTION_HEADROOM
    }
}

/// The memory limit of a manifest's nodes in bytes, `nodes.resources.limits.memory`.
#[must_use]
pub fn memory_limit(spec: &ChannelClusterSpec) -> Option<f64> {
    let limits = spec.nodes.resources.as_ref()?.limits.as_ref()?;
    bytes(&limits.get("memory")?.0)
}

/// A quantity of Kubernetes in bytes: a number with a suffix of `resource.Quantity`
/// (`k8s.io/apimachinery/pkg/api/resource/quantity.go`); none when it is no such text.
fn bytes(text: &str) -> Option<f64> {
    let text = text.trim();
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let factor = match &text[end..] {
        "" => 1.0,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "Ki" => 1_024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        // An exponent, as in 1e9.
        _ => return text.parse().ok(),
    };
    text[..end].parse::<f64>().ok().map(|number| number * factor)
}

/// `limits.maxConnections` of the nodes' file: twice the capacity that the manifest gives, or what the memory limit holds of
/// the smallest connections.
#[must_use]
pub fn most(spec: &ChannelClusterSpec) -> u32 {
    let wanted = match (spec.nodes.capacity.connections, memory_limit(spec)) {
        (Connections::Derived, Some(limit)) => whole(room(limit, LEAST_BYTES)),
        (given, _) => given.assumed().saturating_mul(CONNECTION_HEADROOM),
    };
    let most = keys::MAX_CONNECTIONS.node.most;
    u32::try_from(wanted.max(CONNECTION_HEADROOM)).map_or(most, |wanted| wanted.min(most))
}

/// Connections of one node at 100 % that a manifest gives, or that count by it until its nodes have answered.
#[must_use]
pub fn assumed(spec: &ChannelClusterSpec) -> u64 {
    match (spec.nodes.capacity.connections, memory_limit(spec)) {
        (Connections::Derived, Some(limit)) => {
            let held = whole(held(limit, ASSUMED_BYTES));
            held.clamp(1, u64::from(most(spec)) / CONNECTION_HEADROOM)
        }
        (given, _) => given.assumed(),
    }
}

/// Connections of `each` bytes that fit into a memory limit.
fn room(limit: f64, each: f64) -> f64 {
    ((limit * MEMORY_PERCENT / 100.0 - PROCESS_BYTES) / each).max(0.0)
}

/// Connections of `each` bytes that a memory limit holds with room for as many again.
#[allow(clippy::cast_precision_loss, reason = "a small constant")]
pub(crate) fn held(limit: f64, each: f64) -> f64 {
    room(limit, each) / CONNECTION_HEADROOM as f64
}

/// What counts by a manifest alone where connections are derived, in words; none where it gives their number.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "bounded by the schema far below 2^52")]
pub fn assumed_terms(spec: &ChannelClusterSpec) -> Option<String> {
    let Given { memory_limit, .. } = Given::of(spec)?;
    let sum = memory_limit.map(|limit| memory_sum(&mebibytes(limit as f64), &number(ASSUMED_BYTES)));
    let why = sum.unwrap_or_else(|| "nodes.resources.limits.memory is not given".to_owned());
    Some(format!("{} are assumed until the nodes have shown more ({why})", number(assumed(spec) as f64)))
}

/// The sum of what memory holds, in words.
pub(crate) fn memory_sum(limit: &str, each: &str) -> String {
    format!("({limit}Mi x {MEMORY_PERCENT} % - 16 MB) / {each} bytes / {CONNECTION_HEADROOM}")
}

/// Bytes in MiB, rounded up.
pub(crate) fn mebibytes(bytes: f64) -> String {
    number((bytes / 1_048_576.0).ceil())
}

/// A figure without its fraction, rounded.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of a float saturates")]
fn whole(figure: f64) -> u64 {
    figure.round() as u64
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn a_quantity_is_read_as_kubernetes_reads_it() {
        for (text, size) in [("512Mi", 536_870_912.0), ("1G", 1e9), ("1e9", 1e9), ("1.5Gi", 1_610_612_736.0)]
        {
            assert_eq!(bytes(text), Some(size), "{text}");
        }
        assert_eq!(bytes("much"), None);
    }
}
