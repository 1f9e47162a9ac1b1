//! A fleet with two nodes full of clients and two that came after: what tests of moving clients begin with.

use anyhow::{Result, ensure};
use serde_json::Value;

use super::Fleet;
use crate::report::record;
use crate::scaling::{Load, SMALL_STEPS, is_even, wait_replicas};
use crate::stock::StockClients;

/// Publishes per second into rooms of 100, half of whose members are stock clients: 2,000 writes/s, which are 1,000 on each of
/// two nodes and 500 on each of four.
const RATE: u32 = 20;
/// Stock clients, and how many of them are in a room.
const CLIENTS: usize = 100;
const ROOM: usize = 50;
/// Nodes at first, and at last.
const FEW: usize = 2;
const MANY: usize = 4;
/// 60 % of the capacity that the fleet is told, and the tolerance above it.
const MOST_WRITES: i64 = 600 + 120;

/// The fleet's spec, with this `rebalance.mode` and `rebalance.connectionsPerSecond`.
#[must_use]
pub fn spec(mode: &str, per_second: u32) -> String {
    format!(
        "{{{SMALL_STEPS}, rebalance: {{mode: {mode}, tolerance: 20, connectionsPerSecond: {per_second}}}}}"
    )
}

/// Whether no node is above its target, and nobody is moved.
#[must_use]
pub fn is_over(status: &Value) -> bool {
    is_even(status, MANY, MOST_WRITES) && status["operation"].is_null()
}

/// The clients of such a fleet; they end when the value is dropped.
pub struct Uneven {
    clients: StockClients,
    load: Load,
}

impl Uneven {
    /// Fills the nodes of a fleet with [`spec`] `Observe`, waits for those that are added, and lets clients be moved then: who
    /// came since the first round began is not moved for ten minutes, so no round may begin before all are there.
    ///
    /// # Errors
    /// When one of these does not come within the hang guard.
    pub fn fill(fleet: &Fleet, loadgen: &str, per_second: u32) -> Result<Self> {
        fleet.wait_ready(FEW)?;
        let clients = StockClients::spread(&fleet.instance, &fleet.socket_url()?, CLIENTS, ROOM, FEW)?;
        let load = Load::start_in(fleet, loadgen, RATE, "room:fleet-")?;
        wait_replicas(fleet, MANY as i64)?;
        fleet.wait_ready(MANY)?;
        fleet.apply_spec(&spec("Auto", per_second))?;
        Ok(Self { clients, load })
    }

    /// Checks that clients were moved, none of them twice and all with close code 1012, adds their figures to the report of
    /// `test`, and ends them.
    ///
    /// # Errors
    /// When one of these is not so, or a client is not back within the hang guard.
    pub fn end(mut self, test: &str) -> Result<()> {
        let summary = self.clients.wait_back()?;
        ensure!(summary.most_closes == 1, "nobody was moved, or a client twice: {summary:?}");
        ensure!(summary.codes() == ["1012"], "{summary:?}");
        record(test, "moved_of_100", summary.reconnects as f64)?;
        for (key, millis) in [("reconnect_p99", summary.p99_millis), ("reconnect_max", summary.max_millis)] {
            record(test, key, millis.unwrap_or_default() / 1_000.0)?;
        }
        self.load.stop()?;
        self.clients.stop()?;
        Ok(())
    }
}
