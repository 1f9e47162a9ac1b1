//! The fleet's live figures: what each node says about itself once a second, and their sum for the topic `$cluster`.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use node_core::admin::Phase;
use serde::{Deserialize, Serialize};

/// Figures older than this belong to a node that is gone.
pub const FRESH: Duration = Duration::from_secs(5);
/// Most nodes in the list that clients get; the sums hold all.
pub const LISTED: usize = 50;
/// Most nodes remembered.
const NODES: usize = 4_096;
/// Longest node name kept, in bytes: what Kubernetes allows.
const NAME_BYTES: usize = 253;

/// What a node says about itself on the control subject.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Figures {
    /// Version of this format, 1.
    pub version: u32,
    /// Random per process start, in hex.
    pub boot_id: String,
    /// Name of the node.
    pub node: String,
    /// Where the node is in its life.
    pub phase: Phase,
    /// Open connections.
    pub connections: u64,
    /// Rooms with members there.
    pub rooms: u64,
    /// Writes per second over the last second.
    pub writes_per_second: u64,
    /// Busy fraction of the busiest shard, 0 to 1.
    pub utilization: f64,
    /// When this was sent, on the clock of [`node_core::envelope::Envelope::sent_millis`]; none from an older node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_millis: Option<u64>,
}

/// The sums.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sum {
    /// Fresh nodes.
    pub nodes: u64,
    /// Their connections.
    pub connections: u64,
    /// Their rooms; a room counts on each node that has members of it.
    pub rooms: u64,
    /// Their writes per second.
    pub writes_per_second: u64,
    /// The first [`LISTED`] nodes by name.
    pub list: Vec<Line>,
}

/// One node in [`Sum::list`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// Name of the node.
    pub node: String,
    /// Where the node is in its life.
    pub phase: Phase,
    /// Open connections.
    pub connections: u64,
    /// Writes per second.
    pub writes_per_second: u64,
    /// Busy fraction of the busiest shard, 0 to 1.
    pub utilization: f64,
}

/// Everyone heard of lately.
#[derive(Debug, Default)]
pub struct Fleet(HashMap<String, (Instant, Figures)>);

impl Fleet {
    /// Takes a node's figures.
    pub fn observe(&mut self, mut figures: Figures, now: Instant) {
        if figures.boot_id.len() > NAME_BYTES
            || (self.0.len() >= NODES && !self.0.contains_key(&figures.boot_id))
        {
            return;
        }
        figures.node.truncate(figures.node.floor_char_boundary(NAME_BYTES));
        self.0.insert(figures.boot_id.clone(), (now, figures));
    }

    /// Forgets who was not heard of for [`FRESH`] and adds up the others.
    pub fn sum(&mut self, now: Instant) -> Sum {
        self.0.retain(|_, (heard, _)| now.saturating_duration_since(*heard) < FRESH);
        let mut all: Vec<&Figures> = self.0.values().map(|(_, figures)| figures).collect();
        all.sort_by(|a, b| (&a.node, &a.boot_id).cmp(&(&b.node, &b.boot_id)));
        // Saturating, because peers say these numbers.
        let add = |pick: fn(&Figures) -> u64| all.iter().map(|f| pick(f)).fold(0, u64::saturating_add);
        Sum {
            nodes: all.len() as u64,
            connections: add(|f| f.connections),
            rooms: add(|f| f.rooms),
            writes_per_second: add(|f| f.writes_per_second),
            list: all.iter().take(LISTED).map(|figures| line(figures)).collect(),
        }
    }
}

fn line(figures: &Figures) -> Line {
    Line {
        node: figures.node.clone(),
        phase: figures.phase,
        connections: figures.connections,
        writes_per_second: figures.writes_per_second,
        utilization: figures.utilization,
    }
}

/// Rate of a counter between two calls.
#[derive(Debug)]
pub struct Rate {
    at: Instant,
    value: u64,
}

impl Rate {
    /// Starts at a value.
    pub fn new(at: Instant, value: u64) -> Self {
        Rate { at, value }
    }

    /// Per second since the last call, rounded.
    pub fn per_second(&mut self, at: Instant, value: u64) -> u64 {
        let seconds = at.saturating_duration_since(self.at).as_secs_f64();
        let grown = value.saturating_sub(self.value) as f64;
        (self.at, self.value) = (at, value);
        if seconds > 0.0 { (grown / seconds).round() as u64 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(boot: &str, connections: u64) -> Figures {
        Figures { boot_id: boot.to_owned(), node: format!("n-{boot}"), connections, ..Figures::default() }
    }

    #[test]
    fn fresh_nodes_are_added_up_and_silent_ones_forgotten() {
        let mut fleet = Fleet::default();
        let start = Instant::now();
        fleet.observe(figures("b", 2), start);
        fleet.observe(figures("a", 1), start + FRESH / 2);
        fleet.observe(figures("a", 5), start + FRESH / 2);
        let sum = fleet.sum(start + FRESH / 2);
        assert_eq!((sum.nodes, sum.connections, sum.list[0].node.as_str()), (2, 7, "n-a"));
        assert_eq!(fleet.sum(start + FRESH).nodes, 1);
        assert_eq!(fleet.sum(start + 2 * FRESH).nodes, 0);
    }

    #[test]
    fn the_list_is_bounded_and_hostile_numbers_do_not_overflow() {
        let mut fleet = Fleet::default();
        let now = Instant::now();
        for boot in 0..2 * LISTED {
            fleet.observe(figures(&boot.to_string(), u64::MAX), now);
        }
        fleet.observe(Figures { boot_id: "x".repeat(1000), ..Figures::default() }, now);
        let sum = fleet.sum(now);
        assert_eq!((sum.nodes, sum.connections, sum.list.len()), (2 * LISTED as u64, u64::MAX, LISTED));
    }

    #[test]
    fn a_rate_is_per_second_whatever_the_interval() {
        let start = Instant::now();
        let mut rate = Rate::new(start, 10);
        assert_eq!(rate.per_second(start + Duration::from_millis(500), 60), 100);
        assert_eq!(rate.per_second(start + Duration::from_millis(500), 60), 0);
        assert_eq!(rate.per_second(start + Duration::from_millis(2500), 64), 2);
    }
}
