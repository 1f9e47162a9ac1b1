//! What is measured of a controller on a trace.

use super::trace::Jump;

/// A change in the other direction within so many seconds after another change is a change back.
const BACK_SECONDS: u32 = 600;
/// When not enough nodes are asked for within so many seconds after a jump, so many count.
const LATEST_SECONDS: u32 = 300;
/// For so many seconds after figures are good again a decision counts as made on doubtful ones.
const AFTER_DOUBT_SECONDS: u32 = 30;

/// What is measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measures {
    /// Messages that clients were to get.
    pub writes: f64,
    /// Of these, the messages beyond what the clients' node could do and queue, and those of clients whom no node took.
    pub overload: f64,
    /// Clients closed because their node went.
    pub bounced: f64,
    /// Of these, the clients whose node was removed before it was empty.
    pub undrained: f64,
    /// Clients closed to move load.
    pub moved: f64,
    /// Clients closed once more in the same episode: an episode ends when no client was closed for a minute.
    pub again: f64,
    /// Seconds of all nodes.
    pub node_seconds: f64,
    /// Seconds of the nodes that just suffice at each moment.
    pub least_seconds: f64,
    /// Changes of the number of nodes that are to stay.
    pub changes: u32,
    /// Changes that took back one of the last ten minutes.
    pub back: u32,
    /// Of these, those under a load that is the same at all times.
    pub back_under_constant_load: u32,
    /// Seconds from each jump to the first growth.
    pub reactions: Vec<u32>,
    /// Seconds from the moment when each jump's load was all there until enough nodes were asked for.
    pub enough: Vec<u32>,
    /// Decisions that were wrong, each with its second.
    pub wrong: Vec<(u32, String)>,
    /// Looks of the operator.
    pub steps: u64,
    /// What must never be of a decision of the operator, and was, with its second.
    pub broken: Vec<(u32, String)>,
}

impl Measures {
    /// Overload as a percentage of all writes.
    #[must_use]
    pub fn overload_percent(&self) -> f64 {
        100.0 * self.overload / self.writes.max(1.0)
    }

    /// Node-hours over the least that always suffice.
    #[must_use]
    pub fn node_hours_over_least(&self) -> f64 {
        self.node_seconds / self.least_seconds.max(1.0)
    }

    /// Takes the measures of another trace to these.
    pub fn add(&mut self, other: &Self) {
        self.writes += other.writes;
        self.overload += other.overload;
        self.bounced += other.bounced;
        self.undrained += other.undrained;
        self.moved += other.moved;
        self.again += other.again;
        self.node_seconds += other.node_seconds;
        self.least_seconds += other.least_seconds;
        self.changes += other.changes;
        self.back += other.back;
        self.back_under_constant_load += other.back_under_constant_load;
        self.reactions.extend_from_slice(&other.reactions);
        self.enough.extend_from_slice(&other.enough);
        self.wrong.extend_from_slice(&other.wrong);
        self.steps += other.steps;
        self.broken.extend_from_slice(&other.broken);
    }
}

/// The middle one of some seconds.
#[must_use]
pub fn median(seconds: &[u32]) -> Option<u32> {
    let mut sorted = seconds.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

/// A jump that is being watched.
#[derive(Clone, Copy, Debug)]
struct Watched {
    jump: Jump,
    /// Nodes asked for before it.
    before: i32,
    /// Nodes that it needs.
    needed: i32,
    reacted: bool,
    enough: bool,
}

/// The look at a fleet at one second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// The second.
    pub(super) now: u32,
    /// Nodes that are to stay, pending ones included.
    pub(super) staying: i32,
    /// The least that suffices for what is asked now, within the bounds.
    pub(super) least: i32,
    /// The most that the bounds allow.
    pub(super) max: i32,
}

/// Watches a fleet from second to second.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    pub(super) measures: Measures,
    staying: Option<i32>,
    grown_at: Option<u32>,
    shrunk_at: Option<u32>,
    jumps: Vec<Watched>,
    /// A time of doubt with the nodes at its beginning; whether something wrong was seen in it.
    doubts: Vec<(u32, u32, Option<i32>, bool)>,
    /// The second from which on more nodes than allowed are wrong.
    above_max: Option<u32>,
}

impl Watch {
    /// Begins with the times when figures cannot be trusted.
    pub(super) fn new(doubts: &[(u32, u32)]) -> Self {
        let doubts = doubts.iter().map(|&(from, until)| (from, until, None, false)).collect();
        Self { doubts, ..Self::default() }
    }

    /// A jump begins now, with so many nodes, and needs so many.
    pub(super) fn jump(&mut self, jump: Jump, before: i32, needed: i32) {
        // Where the load stays within what is there, there is nothing to react to.
        if needed > before {
            self.jumps.push(Watched { jump, before, needed, reacted: false, enough: false });
        }
    }

    /// From now on the fleet is to have at most `max` nodes as soon as those that are too many are drained, which is
    /// given half an hour.
    pub(super) fn bounds_changed(&mut self, now: u32) {
        self.above_max = Some(now + 1_800);
    }

    /// Looks at one second.
    pub(super) fn look(&mut self, look: Look) {
        self.count(look);
        self.watch_jumps(look);
        self.watch_doubts(look);
        if self.above_max.is_some_and(|at| at <= look.now) && look.staying > look.max {
            let words = format!("{} nodes while nodes.max is {}", look.staying, look.max);
            self.measures.wrong.push((look.now, words));
            self.above_max = None;
        }
    }

    fn count(&mut self, Look { now, staying, .. }: Look) {
        let before = self.staying.replace(staying).unwrap_or(staying);
        if staying == before {
            return;
        }
        self.measures.changes += 1;
        let lately = |at: Option<u32>| at.is_some_and(|at| now - at <= BACK_SECONDS);
        let (other, same) = if staying > before {
            (self.shrunk_at, &mut self.grown_at)
        } else {
            (self.grown_at, &mut self.shrunk_at)
        };
        self.measures.back += u32::from(lately(other));
        *same = Some(now);
    }

    fn watch_jumps(&mut self, Look { now, staying, .. }: Look) {
        for watched in &mut self.jumps {
            let since = now - watched.jump.at;
            if !watched.reacted && (staying > watched.before || since >= LATEST_SECONDS) {
                watched.reacted = true;
                self.measures.reactions.push(since);
            }
            let since = now.saturating_sub(watched.jump.whole);
            if !watched.enough && (staying >= watched.needed || since >= LATEST_SECONDS) {
                watched.enough = true;
                self.measures.enough.push(since);
            }
        }
        self.jumps.retain(|watched| !watched.reacted || !watched.enough);
    }

    fn watch_doubts(&mut self, Look { now, staying, least, .. }: Look) {
        for (from, until, at_first, seen) in &mut self.doubts {
            if now < *from || now > *until + AFTER_DOUBT_SECONDS || *seen {
                continue;
            }
            let first = *at_first.get_or_insert(staying);
            let (fewest, most) = (first.min(least), first.max(least));
            let words = if staying < fewest {
                format!("{staying} nodes on doubtful figures, {fewest} were right")
            } else if staying > most + (most / 2).max(2) {
                format!("{staying} nodes on doubtful figures, {most} were enough")
            } else {
                continue;
            };
            *seen = true;
            self.measures.wrong.push((now, words));
        }
    }
}
