//! Clients of a fleet whose nodes are replaced: stock ones in rooms, and some beside them whose messages are counted.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;

use super::{Fleet, NodePod};
use crate::report::record;
use crate::soak::{
    Millis,
    clients::{Clients, Place},
    ledger::Ledger,
    now,
};
use crate::stock::{StockClients, StockSummary};

/// Nodes of the fleet whose nodes are replaced.
pub const NODES: usize = 3;

/// Its spec: `nodes` is what its nodes are made by (`podLabels: {release: first}`), `drain` how fast they are drained.
#[must_use]
pub fn spec(nodes: &str, drain: &str) -> String {
    format!(
        "{{targetConnections: 1000, rooms: {{maxMembers: 150}}, auth: {{anonymous: true}}, expose: {{chatPage: true}}, \
         nodes: {{min: {NODES}, max: {NODES}, {nodes}}}, drain: {{delay: 1s, {drain}}}}}"
    )
}

/// Whether as many nodes as there were serve, and none of those with these UIDs is there.
#[must_use]
pub fn are_replaced(pods: &[NodePod], before: &BTreeSet<String>) -> bool {
    pods.len() == NODES && pods.iter().all(|pod| pod.ready && !before.contains(&pod.uid))
}

/// Stock clients, and how many of them are in a room.
pub const CLIENTS: usize = 150;
const ROOM: usize = 50;
/// Clients whose messages are counted, all in one room; each says something once in the period.
pub const TALKERS: usize = 12;
const PERIOD: Duration = Duration::from_millis(100);
/// Time that is left at the end for messages that are under way.
const LATE: Duration = Duration::from_secs(3);

/// The clients; they end when the value is dropped.
pub struct Crowd {
    stock: StockClients,
    talk: Clients,
    since: Millis,
}

/// How the clients fared.
#[derive(Debug)]
pub struct Fared {
    /// How the stock clients fared.
    pub stock: StockSummary,
    /// Close codes of the others.
    pub codes: BTreeSet<u16>,
    /// Most ends that one of the others had.
    pub most_ends: usize,
    /// Messages of the others, how many of them one of them missed, and how many came to one twice.
    pub messages: u64,
    /// See `messages`.
    pub missed: usize,
    /// See `messages`.
    pub twice: usize,
}

impl Crowd {
    /// Lets them join, and waits until they are in their rooms, the stock ones on so many nodes. The nodes must have
    /// `$cluster`.
    ///
    /// # Errors
    /// When that does not come within the hang guard.
    pub fn join(fleet: &Fleet, nodes: usize) -> Result<Self> {
        let address = fleet.service_address()?;
        let stock = StockClients::spread(&fleet.instance, &fleet.socket_url()?, CLIENTS, ROOM, nodes)?;
        let place = Place { address: format!("{address}:80"), round_trip: None };
        let ledger = Ledger::new(TALKERS, TALKERS);
        let talk = Clients::start(&fleet.instance, place, ledger, vec![Some(PERIOD); TALKERS])?;
        talk.wait_there()?;
        talk.wait_whole()?;
        Ok(Self { stock, talk, since: now() })
    }

    /// How the stock clients fare now.
    ///
    /// # Errors
    /// When they do not answer.
    pub fn summary(&mut self) -> Result<StockSummary> {
        self.stock.summary()
    }

    /// Waits until all are back in their rooms and hear everything, ends them, and adds their figures to the report of
    /// `test`.
    ///
    /// # Errors
    /// When they are not back within the hang guard.
    pub fn end(mut self, test: &str) -> Result<Fared> {
        let stock = self.stock.wait_back()?;
        self.talk.wait_whole()?;
        self.talk.hush();
        let until = now();
        std::thread::sleep(LATE);
        let ledger = self.talk.ledger.lock();
        let ends = |client| ledger.ends().filter(|(who, ..)| *who == client).count();
        let fared = Fared {
            codes: ledger.ends().map(|(.., code)| code).collect(),
            most_ends: (0..TALKERS).map(ends).max().unwrap_or_default(),
            messages: ledger.messages(),
            missed: ledger.misses(self.since, until).len(),
            twice: ledger.duplicates.len(),
            stock,
        };
        let disconnects = fared.stock.reconnects + ledger.ends().count() as u64;
        drop(ledger);
        record(test, "disconnects", disconnects as f64)?;
        for (key, millis) in [("p50", fared.stock.p50_millis), ("p99", fared.stock.p99_millis)] {
            if let Some(millis) = millis {
                record(test, &format!("reconnect_{key}"), millis / 1_000.0)?;
            }
        }
        record(test, "messages", fared.messages as f64)?;
        record(test, "messages_lost", fared.missed as f64)?;
        record(test, "messages_duplicated", fared.twice as f64)?;
        self.talk.stop()?;
        self.stock.stop()?;
        Ok(fared)
    }
}

impl Fared {
    /// Panics unless all clients moved once, told by close code 1012, and heard each message once.
    ///
    /// # Panics
    /// See above.
    pub fn assert_moved_once(&self) {
        assert_eq!(self.stock.codes(), ["1012"], "{self:?}");
        assert_eq!(self.stock.reconnects, CLIENTS as u64, "each stock client moves: {self:?}");
        assert_eq!((self.stock.most_closes, self.most_ends), (1, 1), "a client moved twice: {self:?}");
        assert_eq!(self.codes, BTreeSet::from([1012]), "{self:?}");
        assert_eq!((self.missed, self.twice), (0, 0), "{self:?}");
    }

    /// Panics if a client was disconnected, or if it missed a message or heard one twice.
    ///
    /// # Panics
    /// See above.
    pub fn assert_undisturbed(&self) {
        assert_eq!((self.stock.reconnects, self.stock.most_closes, self.most_ends), (0, 0, 0), "{self:?}");
        assert_eq!((self.missed, self.twice), (0, 0), "{self:?}");
    }
}
