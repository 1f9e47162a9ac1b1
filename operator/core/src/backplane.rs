//! Whether the nodes hear each other, from what they say of the bus.
//!
//! A bus that stands still looks healthy for as long as its connections live. Meanwhile fewer messages are delivered,
//! which looks like less load; afterwards the gathered messages come at once, which looks like a burst. So the node
//! count does not follow figures from either time.

use node_core::admin::Stats;

/// Silence of the bus in milliseconds after which a node counts as not hearing it. Nodes ask it each second, so one
/// answer and a half are missing; a look each 2 s then finds it within 4.5 s.
pub const SILENT_MILLIS: u64 = 2_500;

/// How a node hears the bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hearing {
    /// There is no bus, or the node did not say.
    #[default]
    Unused,
    /// What others publish arrives in time.
    Well,
    /// It arrives, and some of it late.
    Late,
    /// There is no connection, or nothing comes over it.
    Lost,
}

impl Hearing {
    /// How the node hears the bus by its own answer. To know whether messages are late takes two answers: see
    /// [`crate::samples::NodeSeries::hearing`].
    #[must_use]
    pub fn of(stats: &Stats) -> Self {
        let silent = stats.bus.is_some_and(|bus| !bus.connected || bus.silent_millis >= SILENT_MILLIS);
        match stats.bus_connected {
            None if stats.bus.is_none() => Self::Unused,
            Some(false) => Self::Lost,
            _ if silent => Self::Lost,
            _ => Self::Well,
        }
    }
}

#[cfg(test)]
mod tests {
    use node_core::admin::{BusStats, Stats};

    use super::{Hearing, SILENT_MILLIS};

    #[test]
    fn nodes_of_all_versions_are_understood() {
        let says = |connected, bus| Hearing::of(&Stats { bus_connected: connected, bus, ..Stats::default() });
        assert_eq!(says(None, None), Hearing::Unused);
        assert_eq!(
            (says(Some(true), None), says(Some(false), None)),
            (Hearing::Well, Hearing::Lost),
            "before the field"
        );
        let bus =
            |connected, silent_millis| Some(BusStats { connected, silent_millis, ..BusStats::default() });
        assert_eq!(says(Some(true), bus(true, SILENT_MILLIS - 1)), Hearing::Well);
        assert_eq!(
            says(Some(true), bus(true, SILENT_MILLIS)),
            Hearing::Lost,
            "before the node gives it up itself"
        );
        assert_eq!(says(Some(false), bus(false, 0)), Hearing::Lost);
        assert_eq!(says(None, bus(false, 9_000)), Hearing::Lost);
    }
}
