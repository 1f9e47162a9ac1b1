//! How fast the nodes of a fleet may close connections.

/// Connections per second that may still be told to nodes to close in this look, of `drain.connectionsPerSecond` for
/// the whole fleet. Only the arbiter makes one, and each operation takes from it the pace that it tells a node.
#[derive(Debug)]
pub struct Budget(u32);

impl Budget {
    /// The whole budget of a fleet, in connections per second.
    pub(super) const fn new(connections_per_second: u32) -> Self {
        Self(connections_per_second)
    }

    /// Takes `most` connections per second, or what is left.
    pub(super) fn take(&mut self, most: u32) -> u32 {
        let taken = self.0.min(most);
        self.0 -= taken;
        taken
    }

    /// What is left, in connections per second.
    pub(super) const fn left(&self) -> u32 {
        self.0
    }

    /// Takes all that is left.
    pub(super) fn take_all(&mut self) -> u32 {
        self.take(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn no_more_is_given_than_there_is() {
        let mut budget = Budget::new(500);
        assert_eq!(
            [budget.take(200), budget.left(), budget.take_all(), budget.take(1), budget.take_all()],
            [200, 300, 300, 0, 0]
        );
    }
}
