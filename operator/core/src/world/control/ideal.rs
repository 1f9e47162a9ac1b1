//! A controller that knows the load, as the bound of what can be reached.

use super::Control;
use crate::world::cohort::{Cohort, count};
use crate::world::fleet::{Why, World};

/// Seconds that it knows ahead when it grows: a node is Ready within them.
const AHEAD: u32 = 8;
/// Seconds whose load it keeps nodes for.
const KEEPS: u32 = 620;
/// Clients that it moves per second.
const PACE: f64 = 500.0;
/// It moves clients off a node that is busier than this, and than the mean by a tenth.
const BUSY: f64 = 0.66;

/// The controller.
pub(super) struct Ideal {
    /// Whether it moves clients.
    pub(super) moves: bool,
}

impl Control for Ideal {
    fn look(&mut self, world: &mut World<'_>) {
        let most = |seconds: u32, each: usize| {
            let all = (world.now..=world.now + seconds).step_by(each);
            all.map(|second| world.need(second)).fold(0.0, f64::max)
        };
        let (soon, staying) = (world.within(most(AHEAD, 1)), world.staying());
        if soon > staying {
            world.scale(soon);
        } else if world.now.is_multiple_of(10) {
            let kept = world.within(most(KEEPS, 5));
            if kept < staying {
                for _ in kept..staying {
                    remove_emptiest(world);
                }
            }
        }
        if self.moves {
            shift(world);
        }
    }
}

/// Removes the node with the fewest clients.
fn remove_emptiest(world: &mut World<'_>) {
    let staying = world.nodes.iter_mut().filter(|node| node.cost.is_none());
    let held = |node: &crate::world::node::Node| count(&node.clients);
    if let Some(node) = staying.min_by(|a, b| held(a).total_cmp(&held(b))) {
        node.cost = Some(i32::MIN);
        node.in_service = true;
    }
    world.scale(world.replicas - 1);
}

/// Moves clients from the busiest node to the least busy one.
fn shift(world: &mut World<'_>) {
    let load = |index: usize| world.nodes[index].asked / world.nodes[index].capacity;
    let serving: Vec<usize> = (0..world.nodes.len()).filter(|index| world.nodes[*index].in_service).collect();
    let by_load = |a: &&usize, b: &&usize| load(**a).total_cmp(&load(**b));
    let (Some(&full), Some(&idle)) = (serving.iter().max_by(by_load), serving.iter().min_by(by_load)) else {
        return;
    };
    let mean = serving.iter().map(|index| load(*index)).sum::<f64>() / serving.len() as f64;
    let (most, least) = (load(full), load(idle));
    if most < BUSY || most < 1.1 * mean {
        return;
    }
    let held = count(&world.nodes[full].clients);
    // So many that both are alike afterwards, at most.
    let part = ((most - least) / (2.0 * most)).min(PACE / held.max(1.0));
    let moved = world.nodes[full].close(|_, _| part);
    world.move_to(moved, idle);
}

impl World<'_> {
    /// Brings clients to a node at once.
    fn move_to(&mut self, clients: Vec<Cohort>, index: usize) {
        self.count_closed(&clients, Why::Moves);
        for cohort in clients {
            self.nodes[index].take(Cohort { moved: true, ..cohort });
        }
    }
}
