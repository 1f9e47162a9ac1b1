//! The fleet's live figures: what each node says about itself once a second, and their sum for the topic `$cluster`.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use node_core::{admin::NodePhase, broadcast::NodeTag};
use serde::{Deserialize, Serialize};

/// Figures older than this belong to a node that is gone.
pub const FRESH: Duration = Duration::from_secs(5);
/// Most nodes in the list that clients get; the sums hold all.
pub const LISTED: usize = 50;
/// How long a node that fell silent is remembered as such.
pub const SILENT: Duration = Duration::from_secs(60);
/// Most nodes that are remembered as silent.
const MOST_SILENT: usize = 50;
/// Most nodes remembered: twice the largest fleet. Figures of further nodes are not taken.
const NODES: usize = 2_048;
/// Longest node name taken, in bytes: what Kubernetes allows.
const NAME_BYTES: usize = 253;
/// Longest figures taken, in bytes: several times what a node says of itself, so that newer ones may say more.
const FIGURES_BYTES: usize = 4 * 1024;
/// Digits of a boot id.
const BOOT_ID_DIGITS: usize = 32;

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
    pub phase: NodePhase,
    /// Open connections.
    pub connections: u64,
    /// Rooms with members there.
    pub rooms: u64,
    /// Writes per second over the last second.
    pub writes_per_second: u64,
    /// Busy fraction of the busiest shard, 0 to 1.
    pub utilization: f64,
    /// Version of the calls of the server API that it answers ([`node_core::api::call::VERSION`]); 0 of a node that answers none.
    pub api: u32,
    /// When this was sent, on the clock of [`node_core::envelope::Envelope::sent_millis`]; none from an older node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_millis: Option<u64>,
}

impl Figures {
    /// Reads what a node says of itself; `None` when no node says such a thing.
    pub fn read(json: &[u8]) -> Option<Self> {
        let short = Some(json).filter(|json| json.len() <= FIGURES_BYTES)?;
        let figures: Self = serde_json::from_slice(short).ok()?;
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let boot_id = figures.boot_id.len() == BOOT_ID_DIGITS && figures.boot_id.bytes().all(is_hex);
        let is_busy_fraction = (0.0..=1.0).contains(&figures.utilization);
        (boot_id && is_busy_fraction && figures.node.len() <= NAME_BYTES).then_some(figures)
    }
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
    /// The [`LISTED`] nodes that have been known for longest, by name.
    pub list: Vec<Line>,
}

/// One node in [`Sum::list`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// Name of the node.
    pub node: String,
    /// Where the node is in its life.
    pub phase: NodePhase,
    /// Open connections.
    pub connections: u64,
    /// Rooms with members there.
    pub rooms: u64,
    /// Writes per second.
    pub writes_per_second: u64,
    /// Busy fraction of the busiest shard, 0 to 1.
    pub utilization: f64,
}

/// A node that fell silent while it served, and had not said that it leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silent {
    /// Name of the node.
    pub node: String,
    /// When it was heard last.
    pub heard: Instant,
}

/// The nodes that were heard of lately. Anybody with the password of the bus can make up nodes; nodes that are known
/// already are never forgotten or left out for made-up ones.
#[derive(Debug, Default)]
pub struct Fleet {
    /// By boot id.
    known: HashMap<String, Known>,
    /// Those that were lost lately, the one lost longest ago first.
    silent: VecDeque<Silent>,
}

/// A node that is heard of.
#[derive(Debug)]
struct Known {
    since: Instant,
    heard: Instant,
    figures: Figures,
}

impl Known {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) < FRESH
    }

    fn tag(&self) -> Option<NodeTag> {
        u128::from_str_radix(&self.figures.boot_id, 16).ok().map(NodeTag::of)
    }
}

impl Fleet {
    /// Takes a node's figures; returns false when there are too many other nodes.
    pub fn observe(&mut self, figures: Figures, now: Instant) -> bool {
        if let Some(known) = self.known.get_mut(&figures.boot_id) {
            (known.heard, known.figures) = (now, figures);
            return true;
        }
        let room = self.known.len() < NODES;
        if room {
            self.known.insert(figures.boot_id.clone(), Known { since: now, heard: now, figures });
        }
        room
    }

    /// The nodes that were heard of within [`FRESH`].
    pub fn tags(&self, now: Instant) -> HashSet<NodeTag> {
        self.fresh(now).filter_map(Known::tag).collect()
    }

    /// The same, those alone that answer calls of the server API; and how many do not.
    pub fn answering(&self, now: Instant) -> (HashSet<NodeTag>, usize) {
        let (able, others): (Vec<_>, Vec<_>) = self.fresh(now).partition(|known| known.figures.api > 0);
        (able.into_iter().filter_map(Known::tag).collect(), others.len())
    }

    fn fresh(&self, now: Instant) -> impl Iterator<Item = &Known> {
        self.known.values().filter(move |known| known.is_fresh(now))
    }

    /// The nodes that fell silent within [`SILENT`] of the last [`Fleet::sum`], by the time when they did.
    pub fn silent(&self) -> impl Iterator<Item = &Silent> {
        self.silent.iter()
    }

    fn forget(&mut self, now: Instant) {
        for (_, known) in self.known.extract_if(|_, known| !known.is_fresh(now)) {
            // A node that leaves says so, and is not missed.
            if known.figures.phase == NodePhase::Serving {
                if self.silent.len() >= MOST_SILENT {
                    self.silent.pop_front();
                }
                self.silent.push_back(Silent { node: known.figures.node, heard: known.heard });
            }
        }
        if !self.silent.is_empty() {
            let known: HashSet<_> = self.known.values().map(|known| known.figures.node.as_str()).collect();
            self.silent.retain(|silent| {
                now.saturating_duration_since(silent.heard) < SILENT && !known.contains(silent.node.as_str())
            });
        }
    }

    /// Forgets nodes that were not heard of for [`FRESH`] and adds up the others.
    pub fn sum(&mut self, now: Instant) -> Sum {
        self.forget(now);
        let mut all: Vec<&Known> = self.known.values().collect();
        let name = |known: &Known| (known.figures.node.clone(), known.figures.boot_id.clone());
        all.sort_by_cached_key(|known| (known.since, name(known)));
        // The additions saturate, because other nodes choose these numbers.
        let add =
            |pick: fn(&Figures) -> u64| all.iter().map(|k| pick(&k.figures)).fold(0, u64::saturating_add);
        let (nodes, connections) = (all.len() as u64, add(|f| f.connections));
        let (rooms, writes_per_second) = (add(|f| f.rooms), add(|f| f.writes_per_second));
        all.truncate(LISTED);
        all.sort_by_cached_key(|known| name(known));
        let list = all.iter().map(|known| line(&known.figures)).collect();
        Sum { nodes, connections, rooms, writes_per_second, list }
    }
}

fn line(figures: &Figures) -> Line {
    Line {
        node: figures.node.clone(),
        phase: figures.phase,
        connections: figures.connections,
        rooms: figures.rooms,
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
    fn a_node_that_falls_silent_is_missed_for_a_minute_unless_it_had_said_that_it_leaves() {
        let (mut fleet, start) = (Fleet::default(), Instant::now());
        let serving = |boot: &str| Figures { phase: NodePhase::Serving, ..figures(boot, 1) };
        let left = Figures { phase: NodePhase::Closed, ..figures("left", 0) };
        for figures in [serving("lost"), serving("back"), left] {
            fleet.observe(figures, start);
        }
        let missed = |fleet: &mut Fleet, seconds| -> Vec<String> {
            fleet.sum(start + Duration::from_secs(seconds));
            let mut names: Vec<_> = fleet.silent().map(|silent| silent.node.clone()).collect();
            names.sort();
            names
        };
        assert_eq!(missed(&mut fleet, 4), Vec::<String>::new());
        assert_eq!(missed(&mut fleet, 5), ["n-back", "n-lost"]);
        let again = Figures { node: "n-back".to_owned(), ..serving("another process") };
        fleet.observe(again, start + Duration::from_secs(58));
        assert_eq!(missed(&mut fleet, 59), ["n-lost"]);
        assert_eq!(missed(&mut fleet, 60), Vec::<String>::new());
        for boot in 0..3 * MOST_SILENT {
            fleet.observe(serving(&boot.to_string()), start + Duration::from_secs(60));
        }
        assert_eq!(missed(&mut fleet, 70).len(), MOST_SILENT);
    }

    #[test]
    fn the_tags_are_those_of_fresh_nodes() {
        let (mut fleet, start) = (Fleet::default(), Instant::now());
        let ids = [1u128 << 100, 2 << 100];
        for (id, at) in ids.iter().zip([start, start + FRESH / 2]) {
            fleet.observe(figures(&format!("{id:032x}"), 1), at);
        }
        let tags = ids.map(NodeTag::of);
        assert_eq!(fleet.tags(start + FRESH / 2), HashSet::from(tags));
        assert_eq!(fleet.tags(start + FRESH), HashSet::from([tags[1]]));
        assert_eq!(fleet.tags(start + 2 * FRESH), HashSet::new());
        let old = fleet.answering(start + FRESH / 2);
        assert_eq!(old, (HashSet::new(), 2), "nodes of before the server API");
        let newer = Figures { api: 1, ..figures(&format!("{:032x}", ids[0]), 1) };
        fleet.observe(newer, start + FRESH / 2);
        assert_eq!(fleet.answering(start + FRESH / 2), (HashSet::from([tags[0]]), 1));
    }

    #[test]
    fn the_list_is_bounded_and_hostile_numbers_do_not_overflow() {
        let mut fleet = Fleet::default();
        let now = Instant::now();
        for boot in 0..2 * LISTED {
            fleet.observe(figures(&boot.to_string(), u64::MAX), now);
        }
        let sum = fleet.sum(now);
        assert_eq!((sum.nodes, sum.connections, sum.list.len()), (2 * LISTED as u64, u64::MAX, LISTED));
    }

    #[test]
    fn made_up_nodes_push_out_nobody_who_is_known() {
        let mut fleet = Fleet::default();
        let start = Instant::now();
        let real = || (0..10).map(|n| figures(&format!("z{n}"), 1));
        assert!(real().all(|figures| fleet.observe(figures, start)));
        for second in 1..20 {
            let now = start + Duration::from_secs(second);
            assert!(real().all(|figures| fleet.observe(figures, now)));
            let taken = (0..5_000).filter(|n| fleet.observe(figures(&format!("a{n}"), 0), now)).count();
            assert_eq!(taken, NODES - 10);
            let list = fleet.sum(now).list;
            let listed = list.iter().filter(|line| line.node.starts_with("n-z")).count();
            assert_eq!((listed, list.len()), (10, LISTED), "after {second} s");
        }
        let later = start + Duration::from_secs(20) + FRESH;
        assert!(real().all(|figures| fleet.observe(figures, later)));
        assert_eq!(fleet.sum(later).nodes, 10, "the others fell silent");
    }

    #[test]
    fn figures_that_no_node_says_are_not_read() {
        let good = Figures { boot_id: "0123456789abcdef".repeat(2), ..figures("", 1) };
        let json = |figures: &Figures| serde_json::to_vec(figures).expect("JSON");
        assert_eq!(Figures::read(&json(&good)), Some(good.clone()));
        for bad in [
            Figures { boot_id: "x".repeat(32), ..good.clone() },
            Figures { boot_id: "0".repeat(1_000), ..good.clone() },
            Figures { node: "n".repeat(NAME_BYTES + 1), ..good.clone() },
            Figures { utilization: 1e9, ..good.clone() },
            Figures { utilization: -1.0, ..good.clone() },
        ] {
            assert_eq!(Figures::read(&json(&bad)), None, "{bad:?}");
        }
        let padded = [json(&good), vec![b' '; FIGURES_BYTES]].concat();
        assert_eq!((Figures::read(&padded), Figures::read(b"{")), (None, None));
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
