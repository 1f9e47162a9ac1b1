//! Whether a node is healthy, in one sentence.
//!
//! The sentence has no figures that change from look to look: screen readers say it anew whenever it is another one.

use crate::{admin::NodePhase, ledger::READ_LESS_PERCENT};

/// Busy fraction of the busiest shard, over ten seconds, beyond which it is hot: as the operator sees it.
pub const HOT: f64 = 0.9;
/// Part of its memory, in thousandths, from which on a shard is short of it: when it begins to read less.
pub const SHORT_OF_MEMORY_PERMILLE: u64 = READ_LESS_PERCENT * 10;

/// What is known of a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Where it is in its life.
    pub phase: NodePhase,
    /// Whether it moves clients to other nodes.
    pub moving: bool,
    /// Whether the bus is connected; none without a bus.
    pub bus: Option<bool>,
    /// Other nodes that fell silent within the last minute and had not said that they leave.
    pub silent: usize,
    /// Busy fraction of the busiest shard over ten seconds, 0 to 1.
    pub utilization: f64,
    /// Use of the memory of the shard that is nearest to its part of the budget, in thousandths.
    pub memory_permille: u64,
    /// Whether a limit of the node was reached within the last minute.
    pub hit: bool,
}

/// A reason why a node is not healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concern {
    /// It never heard the bus.
    Starting,
    /// It drains.
    Draining,
    /// It moves clients to other nodes.
    Moving,
    /// It does not hear the bus.
    BusAway,
    /// Other nodes fell silent.
    Silent,
    /// A shard is hot.
    HotShard,
    /// Memory is short.
    Memory,
    /// A limit was reached.
    Limit,
}

impl Concern {
    /// Every reason, in the order of the sentence.
    pub const ALL: [Self; 8] = [
        Self::Starting,
        Self::Draining,
        Self::Moving,
        Self::BusAway,
        Self::Silent,
        Self::HotShard,
        Self::Memory,
        Self::Limit,
    ];

    /// The reason as a part of the sentence.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Starting => "this node waits for its first connection to the bus",
            Self::Draining => "this node drains",
            Self::Moving => "this node moves clients to other nodes",
            Self::BusAway => "this node does not hear the bus",
            Self::Silent => "other nodes have fallen silent",
            Self::HotShard => "a shard works for more than 90 % of the time",
            Self::Memory => "memory is near or above its budget",
            Self::Limit => "a limit of this node was reached within the last minute",
        }
    }
}

/// The reasons why a node is not healthy; none when it is.
#[must_use]
pub fn concerns(seen: &Seen) -> Vec<Concern> {
    let is_away = seen.bus == Some(false);
    let holds = |concern: &Concern| match concern {
        Concern::Starting => seen.phase == NodePhase::Starting,
        Concern::Draining => !matches!(seen.phase, NodePhase::Starting | NodePhase::Serving),
        Concern::Moving => seen.moving,
        Concern::BusAway => is_away && seen.phase != NodePhase::Starting,
        // Without the bus no node is heard.
        Concern::Silent => seen.silent > 0 && !is_away,
        Concern::HotShard => seen.utilization > HOT,
        Concern::Memory => seen.memory_permille >= SHORT_OF_MEMORY_PERMILLE,
        Concern::Limit => seen.hit,
    };
    Concern::ALL.into_iter().filter(holds).collect()
}

/// The sentence for these reasons.
#[must_use]
pub fn sentence(concerns: &[Concern]) -> String {
    let words: Vec<_> = concerns.iter().map(|concern| concern.words()).collect();
    match words.split_last() {
        None => "Healthy: this node serves its clients, and nothing needs attention.".to_owned(),
        Some((last, [])) => format!("Not healthy: {last}."),
        Some((last, others)) => format!("Not healthy: {}, and {last}.", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: Seen = Seen {
        phase: NodePhase::Serving,
        moving: false,
        bus: Some(true),
        silent: 0,
        utilization: HOT,
        memory_permille: SHORT_OF_MEMORY_PERMILLE - 1,
        hit: false,
    };

    #[test]
    fn each_reason_is_told_by_itself() {
        assert_eq!(concerns(&FINE), []);
        assert_eq!(concerns(&Seen { bus: None, ..FINE }), []);
        for (seen, concern) in [
            (Seen { phase: NodePhase::Starting, bus: Some(false), ..FINE }, Concern::Starting),
            (Seen { phase: NodePhase::Unready, ..FINE }, Concern::Draining),
            (Seen { phase: NodePhase::Closing, ..FINE }, Concern::Draining),
            (Seen { phase: NodePhase::Closed, ..FINE }, Concern::Draining),
            (Seen { moving: true, ..FINE }, Concern::Moving),
            (Seen { bus: Some(false), silent: 2, ..FINE }, Concern::BusAway),
            (Seen { silent: 1, ..FINE }, Concern::Silent),
            (Seen { utilization: HOT + 0.001, ..FINE }, Concern::HotShard),
            (Seen { memory_permille: SHORT_OF_MEMORY_PERMILLE, ..FINE }, Concern::Memory),
            (Seen { hit: true, ..FINE }, Concern::Limit),
        ] {
            assert_eq!(concerns(&seen), [concern], "{seen:?}");
        }
    }

    #[test]
    fn the_sentence_has_every_reason_and_no_figure_that_changes() {
        assert!(sentence(&[]).starts_with("Healthy: "));
        assert_eq!(sentence(&[Concern::Draining]), "Not healthy: this node drains.");
        let all = concerns(&Seen {
            phase: NodePhase::Closing,
            moving: true,
            silent: 3,
            utilization: 1.0,
            memory_permille: 1_200,
            hit: true,
            ..FINE
        });
        let said = sentence(&all);
        assert_eq!(all.len(), 6);
        assert!(all.iter().all(|concern| said.contains(concern.words())), "{said}");
        assert!(said.contains(", and a limit") && said.ends_with('.'), "{said}");
    }
}
