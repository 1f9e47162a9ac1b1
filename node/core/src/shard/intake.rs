//! How much a turn takes in, from each source of input.

/// What a turn has taken, and may take.
#[derive(Debug, Default)]
pub(super) struct Intake {
    /// Broadcasts in this turn from this source, and how many it may have over the budget.
    broadcasts: u64,
    quota: u64,
    /// This turn takes no broadcasts.
    stuck: bool,
}

impl Intake {
    /// A turn begins. `stuck` says that more queues are half full than it can write.
    pub(super) const fn begin_turn(&mut self, stuck: bool) {
        self.stuck = stuck;
        self.begin_source(1);
    }

    /// Another source comes next, of which a turn over its budget takes so many broadcasts.
    pub(super) const fn begin_source(&mut self, quota: u64) {
        self.broadcasts = 0;
        self.quota = quota;
    }

    /// Something was broadcast.
    pub(super) const fn note_broadcast(&mut self) {
        self.broadcasts += 1;
    }

    /// Whether the turn takes no more from this source.
    pub(super) const fn is_saturated(&self, over_budget: bool) -> bool {
        self.stuck || (over_budget && self.broadcasts >= self.quota)
    }
}
