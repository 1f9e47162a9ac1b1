//! Whether the nodes that stay have room for what the leaving ones carry.
//!
//! A sum says nothing of that: loads are not equal, and clients that leave a node come back to every node alike, to a
//! full one too.

use crate::capacity::Sizing;
use crate::heat::FULL;
use crate::samples::NodeLoad;

/// What one node carries, or all nodes that leave.
#[derive(Clone, Copy, Debug, Default)]
struct Carried {
    writes: f64,
    connections: f64,
    /// Whether it is known; an unknown node is full, and its own share is not judged.
    known: bool,
    saturated: bool,
}

impl Carried {
    fn of(node: &NodeLoad, sizing: &Sizing) -> Self {
        let (writes, held) = (node.writes(sizing), node.held(sizing));
        Self {
            writes: writes.unwrap_or(sizing.writes_per_second),
            connections: held.unwrap_or(sizing.connections),
            known: writes.is_some() && held.is_some(),
            saturated: node.saturated.is_some(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.writes += other.writes;
        self.connections += other.connections;
    }
}

/// The fewest of `current` nodes that can stay: none of them is above [`FULL`] of its capacity or saturated, and none would
/// be once it had its share of what the others carry, and so with every count in between. The nodes with the fewest writes/s
/// leave first; a node without figures stays. `current` when it is not possible with fewer.
#[must_use]
pub fn fits(nodes: &[NodeLoad], sizing: &Sizing, current: i32) -> i32 {
    let of = |node: &NodeLoad| Carried::of(node, sizing);
    let mut ready: Vec<_> = nodes.iter().filter(|node| node.ready).map(of).collect();
    if ready.is_empty() {
        return 1.min(current);
    }
    ready.sort_by(|a, b| a.known.cmp(&b.known).then(b.writes.total_cmp(&a.writes)));
    let mut leaving = Carried::default();
    nodes.iter().filter(|node| node.unready).map(of).for_each(|node| leaving.add(&node));
    // From all nodes down to one; each step lets one more of the ready nodes leave.
    let mut most_connections = vec![0.0f64; ready.len()];
    let mut most = 0.0f64;
    for (node, highest) in ready.iter().zip(&mut most_connections) {
        if node.known {
            most = most.max(node.connections);
        }
        *highest = most;
    }
    let busiest = ready.iter().find(|node| node.known).map_or(0.0, |node| node.writes);
    let unknown = ready.iter().filter(|node| !node.known).count();
    let last_saturated = ready.iter().rposition(|node| node.saturated);
    let mut fewest = current;
    let mut stay = ready.len();
    for count in (1..current).rev() {
        while stay > usize::try_from(count).unwrap_or_default() {
            stay -= 1;
            leaving.add(&ready[stay]);
        }
        let takers = stay.saturating_sub(unknown);
        let share = |sum: f64| if takers == 0 { f64::INFINITY } else { sum / takers as f64 };
        let hot = last_saturated.is_some_and(|at| at < stay)
            || busiest + share(leaving.writes) > FULL * sizing.writes_per_second
            || most_connections[stay - 1] + share(leaving.connections) > FULL * sizing.connections;
        // A pod that is not ready has no clients who would come to the others.
        if hot && stay < ready.len() {
            break;
        }
        fewest = count;
    }
    fewest
}

#[cfg(test)]
mod tests {
    use super::fits;
    use crate::autoscale::tests::known;
    use crate::capacity::Sizing;
    use crate::heat::Heat;
    use crate::samples::NodeLoad;

    const SIZING: Sizing = Sizing { writes_per_second: 40_000.0, connections: 10_000.0, target_percent: 60 };

    #[test]
    fn the_nodes_that_stay_have_room_for_the_others() {
        let even = [known(9_000.0, 10); 8];
        assert_eq!(fits(&even, &SIZING, 8), 2, "72,000 on two are 36,000 each");
        let mut one_full = even;
        one_full[3] = known(39_200.0, 10);
        assert_eq!(fits(&one_full, &SIZING, 8), 8);
        let mut uneven = even;
        uneven[3] = known(24_000.0, 10);
        assert_eq!(fits(&uneven, &SIZING, 8), 4, "36,000 that leave are 9,000 more each");
        let crowded = [known(10.0, 4_100), known(10.0, 4_100), known(10.0, 1_000)];
        assert_eq!(fits(&crowded, &SIZING, 3), 2, "connections have to fit as well");
    }

    #[test]
    fn a_saturated_node_may_leave_and_not_stay() {
        let slow = NodeLoad { saturated: Some(Heat::Busy), ..known(100.0, 10) };
        assert_eq!(fits(&[known(9_000.0, 10), known(9_000.0, 10), slow], &SIZING, 3), 1);
        let busy = NodeLoad { saturated: Some(Heat::Busy), ..known(12_000.0, 10) };
        assert_eq!(fits(&[known(9_000.0, 10), known(9_000.0, 10), busy], &SIZING, 3), 3);
    }

    #[test]
    fn an_unknown_node_takes_nothing_and_holds_nobody() {
        let unknown = NodeLoad { ready: true, ..NodeLoad::default() };
        assert_eq!(fits(&[known(9_000.0, 10), known(9_000.0, 10), unknown], &SIZING, 3), 2);
        assert_eq!(fits(&[unknown; 3], &SIZING, 3), 3);
        let leaves = NodeLoad { unready: true, ..NodeLoad::default() };
        assert_eq!(fits(&[known(9_000.0, 10), known(9_000.0, 10), leaves], &SIZING, 2), 2, "it may be full");
    }
}
