//! How much a turn takes in, from each source of input.

/// How much a turn has taken, and how much it may take.
#[derive(Debug, Default)]
pub(super) struct Intake {
    /// Broadcasts of the present source in this turn, and how many of them the turn takes while it is over the
    /// budget.
    broadcasts: u64,
    quota: u64,
    /// Whether this turn takes no broadcasts at all.
    stuck: bool,
}

impl Intake {
    /// Begins a turn. `stuck` says that more queues are half full than the turn can write.
    pub(super) const fn begin_turn(&mut self, stuck: bool) {
        self.stuck = stuck;
        self.begin_source(1);
    }

    /// Begins the input of another source, of which a turn over its budget takes `quota` broadcasts.
    pub(super) const fn begin_source(&mut self, quota: u64) {
        self.broadcasts = 0;
        self.quota = quota;
    }

    /// Counts a broadcast.
    pub(super) const fn note_broadcast(&mut self) {
        self.broadcasts += 1;
    }

    /// Whether the turn takes no more from this source.
    pub(super) const fn is_saturated(&self, over_budget: bool) -> bool {
        self.stuck || (over_budget && self.broadcasts >= self.quota)
    }
}
