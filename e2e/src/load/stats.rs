//! Counters and histograms of a worker, summed at the end of a run.

use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// Highest duration that histograms can count, nanoseconds; longer ones count as this.
const HIGHEST_NS: u64 = 300_000_000_000;
/// Most distinct error names kept; further ones are counted as `other`.
const MAX_ERROR_KINDS: usize = 64;

/// A histogram of nanoseconds with three significant digits: 160 KB.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, HIGHEST_NS, 3).expect("the bounds are constants and valid")
}

/// A histogram of nanoseconds with two significant digits: 20 KB.
pub(super) fn coarse() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, HIGHEST_NS, 2).expect("the bounds are constants and valid")
}

/// Adds one histogram to another of the same bounds.
pub(super) fn merge(sum: &mut Histogram<u64>, part: &Histogram<u64>) {
    if !part.is_empty() {
        sum.add(part).expect("both histograms have the same bounds");
    }
}

/// How many deliveries were later than so many milliseconds.
pub(super) fn later_than(latency: &Histogram<u64>, millis: f64) -> u64 {
    latency.len() - latency.count_between(0, (millis * 1e6) as u64)
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counts of a run.
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
    /// Joined connections that ended, other than by us.
    disconnects,
    /// Joined connections that we ended, as in `churn` and `storm`.
    cut,
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
    /// Publishes that were not owed to their own senders, because the dialect leaves the sender out.
    unechoed,
    /// Owed deliveries that arrived.
    received,
    /// Owed deliveries that did not arrive although the connection stayed open.
    lost,
    /// Owed deliveries excused because the receiver's connection ended, or the sender's before its echo.
    interrupted,
    /// Deliveries that arrived a second time.
    duplicates,
    /// Deliveries of publishes sent before the join reply had been read; owed to no connection.
    early,
    /// Messages of another generator's run or of a person.
    foreign,
    /// Connections in their room that do not read; they are owed nothing and not among `joined`.
    slow_joined,
    /// Connections among these that the server ended.
    slow_closed,
    /// Messages that these connections got once they read again.
    slow_received,
    /// Heartbeats sent.
    heartbeats,
    /// Reads of a socket that brought a delivery.
    reads,
    /// Handshakes of TLS that made use of a ticket.
    tls_resumed,
    /// Bytes of frames received.
    bytes_in,
    /// Bytes of frames sent.
    bytes_out,
}

/// The results of a worker at its end.
pub(super) struct Stats {
    /// Plain counts.
    pub(super) counters: Counters,
    /// Errors by name.
    pub(super) errors: BTreeMap<String, u64>,
    /// Joined connections ended by the server, by WebSocket close code; 1006 stands for an end without a code.
    pub(super) close_codes: BTreeMap<u16, u64>,
    /// The same for connections that did not read.
    pub(super) slow_close_codes: BTreeMap<u16, u64>,
    /// Time from the intended sending of a publish to when a delivery of it was read, ns.
    pub(super) latency: Histogram<u64>,
    /// Time from opening a socket to the join reply, ns.
    pub(super) connect: Histogram<u64>,
    /// Time from the end of a joined connection to the reply of its next join, ns.
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
            slow_close_codes: BTreeMap::new(),
            latency: histogram(),
            connect: coarse(),
            reconnect: coarse(),
            lag: coarse(),
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

    /// Adds another worker's results.
    pub(super) fn add(&mut self, other: &Stats) {
        self.counters.add(&other.counters);
        for (name, count) in &other.errors {
            *self.errors.entry(name.clone()).or_default() += count;
        }
        for (code, count) in &other.close_codes {
            *self.close_codes.entry(*code).or_default() += count;
        }
        for (code, count) in &other.slow_close_codes {
            *self.slow_close_codes.entry(*code).or_default() += count;
        }
        for (sum, part) in [
            (&mut self.latency, &other.latency),
            (&mut self.connect, &other.connect),
            (&mut self.reconnect, &other.reconnect),
            (&mut self.lag, &other.lag),
        ] {
            merge(sum, part);
        }
    }
}

/// What a worker publishes while it runs.
pub(super) struct Board {
    /// Its counts so far.
    pub(super) counters: Counters,
    /// Connections now joined.
    pub(super) joined_now: u32,
    /// Connections whose first attempt is not decided yet.
    pub(super) undecided: u32,
    /// When a connection last joined, ns.
    pub(super) last_join: u64,
    /// Storms it has seen.
    pub(super) storms: u32,
    /// The segment of the schedule that it is in.
    pub(super) segment: u32,
    /// Owed deliveries so far and those that have not arrived; counted only once the worker's turns of the segment
    /// are over.
    pub(super) account: Option<Account>,
    /// Latencies of the segment's publishes since the reader last took them, ns.
    pub(super) interval: Histogram<u64>,
    /// Its lateness since the reader last took it, ns.
    pub(super) lag: Histogram<u64>,
}

/// The deliveries that open and closed connections were owed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    /// Deliveries owed since the run began.
    pub(super) owed: u64,
    /// Deliveries among them that may still come.
    pub(super) outstanding: u64,
    /// How many publishes of all workers this account covers.
    pub(super) published: u64,
}

impl Board {
    /// The board of a worker with `connections` to open.
    pub(super) fn new(connections: u32) -> Board {
        Board {
            counters: Counters::default(),
            joined_now: 0,
            undecided: connections,
            last_join: 0,
            storms: 0,
            segment: 0,
            account: None,
            interval: histogram(),
            lag: coarse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_later_than_the_bound_is_counted() {
        let mut latency = histogram();
        for millis in [1_u64, 50, 99, 101, 150, 10_000] {
            latency.record_n(millis * 1_000_000, 10).unwrap();
        }
        assert_eq!(later_than(&latency, 100.0), 30);
        assert_eq!(later_than(&latency, f64::INFINITY), 0);
    }
}
