//! Counters and histograms of a worker, summed at the end of a run.

use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// Highest duration that histograms hold, nanoseconds; longer ones count as this.
const HIGHEST_NS: u64 = 300_000_000_000;
/// Most distinct error names kept; further ones are counted as `other`.
const MAX_ERROR_KINDS: usize = 64;

/// A histogram of nanoseconds with three significant digits.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, HIGHEST_NS, 3).expect("the bounds are constants and valid")
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What happened, as plain counts.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
        pub struct Counters { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            /// Adds another worker's counts.
            pub fn add(&mut self, other: &Counters) { $(self.$name += other.$name;)* }
        }
    };
}

counters! {
    /// Connections that joined their room at least once.
    joined,
    /// Attempts to connect and join for the first time that failed.
    failed_connects,
    /// Connections that were in their room when the run ended.
    joined_at_end,
    /// Joined connections that ended without our doing.
    disconnects,
    /// Connections that joined again after a disconnect.
    rejoined,
    /// Attempts to connect and join again that failed.
    failed_reconnects,
    /// Publishes handed to a socket.
    published,
    /// Publishes that were due while their room had no joined member to send them.
    unsent,
    /// Deliveries owed: for each publish, the connections whose join reply had been read when it was numbered.
    owed,
    /// Owed deliveries that arrived.
    received,
    /// Owed deliveries that did not arrive although the connection lived on.
    lost,
    /// Owed deliveries excused because the receiver's connection ended, or the sender's before its echo.
    interrupted,
    /// Deliveries that arrived again.
    duplicates,
    /// Deliveries of publishes sent before the join reply had been read; owed to nobody.
    early,
    /// Messages of another generator's run or of a person.
    foreign,
    /// Heartbeats sent.
    heartbeats,
    /// Bytes of frames received.
    bytes_in,
    /// Bytes of frames sent.
    bytes_out,
}

/// All a worker knows at its end.
pub(super) struct Stats {
    /// Plain counts.
    pub(super) counters: Counters,
    /// Errors by name.
    pub(super) errors: BTreeMap<String, u64>,
    /// Joined connections ended by the server, by WebSocket close code; 1006 is the absence of one.
    pub(super) close_codes: BTreeMap<u16, u64>,
    /// From when the schedule wanted a publish sent to when a delivery of it was read, ns.
    pub(super) latency: Histogram<u64>,
    /// From opening a socket to the join reply, ns.
    pub(super) connect: Histogram<u64>,
    /// From the end of a joined connection to the reply of its next join, ns.
    pub(super) reconnect: Histogram<u64>,
    /// How late the generator itself was with a publish, ns.
    pub(super) lag: Histogram<u64>,
}

impl Default for Stats {
    fn default() -> Stats {
        Stats {
            counters: Counters::default(),
            errors: BTreeMap::new(),
            close_codes: BTreeMap::new(),
            latency: histogram(),
            connect: histogram(),
            reconnect: histogram(),
            lag: histogram(),
        }
    }
}

impl Stats {
    /// Counts an error under its name.
    pub(super) fn error(&mut self, name: &str) {
        if let Some(count) = self.errors.get_mut(name) {
            *count += 1;
        } else {
            let name = if self.errors.len() < MAX_ERROR_KINDS { name } else { "other" };
            *self.errors.entry(name.to_owned()).or_default() += 1;
        }
    }

    /// Adds what another worker saw.
    pub(super) fn add(&mut self, other: &Stats) {
        self.counters.add(&other.counters);
        for (name, count) in &other.errors {
            *self.errors.entry(name.clone()).or_default() += count;
        }
        for (code, count) in &other.close_codes {
            *self.close_codes.entry(*code).or_default() += count;
        }
        for (sum, part) in [
            (&mut self.latency, &other.latency),
            (&mut self.connect, &other.connect),
            (&mut self.reconnect, &other.reconnect),
            (&mut self.lag, &other.lag),
        ] {
            sum.add(part).expect("all histograms have the same bounds");
        }
    }
}

/// What a worker shows while it runs.
pub(super) struct Board {
    /// Its counts so far.
    pub(super) counters: Counters,
    /// Connections now joined.
    pub(super) joined_now: u32,
    /// Connections whose first attempt is not decided yet.
    pub(super) undecided: u32,
    /// Owed deliveries not here yet; counted only once publishing is over.
    pub(super) outstanding: Option<u64>,
    /// Latencies since the reader last took them, ns.
    pub(super) interval: Histogram<u64>,
}

impl Board {
    /// The board of a worker with `connections` to open.
    pub(super) fn new(connections: u32) -> Board {
        Board {
            counters: Counters::default(),
            joined_now: 0,
            undecided: connections,
            outstanding: None,
            interval: histogram(),
        }
    }
}
