//! Stock phoenix.js clients that stay in their rooms while a test changes or breaks the fleet.
//!
//! They run under Node.js in the client namespace (`js/fleet.mjs`), and print one JSON line per event.

use anyhow::{Context, Result, ensure};
use cluster::Instance;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use crate::fleet::{HANG_GUARD, eventually};

/// Most lines that wait to be read; beyond that the clients wait.
const LINES: usize = 65_536;
/// When no line came for so long, all clients that were asked have answered.
const QUIET: Duration = Duration::from_secs(1);
/// The authority of the test's certificates, which clients trust who connect to `wss://`.
pub const AUTHORITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../node/tests/data/tls/ca.crt");
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/js");

/// Running stock clients; they end when the value is dropped.
pub struct StockClients {
    child: Child,
    lines: Receiver<Value>,
    events: Vec<Value>,
}

/// How the clients fared.
#[derive(Clone, Debug)]
pub struct StockSummary {
    /// Clients asked for.
    pub clients: u64,
    /// Clients in their room now.
    pub joined: u64,
    /// Clients that heard themselves in their room since their last join.
    pub heard: u64,
    /// Rejoins after an end, over all clients.
    pub reconnects: u64,
    /// Milliseconds from the end of a connection to being back in the room: the median.
    pub p50_millis: Option<f64>,
    /// The 99th percentile of these times.
    pub p99_millis: Option<f64>,
    /// The longest of these times.
    pub max_millis: Option<f64>,
    /// Ends of connections by close code.
    pub closes: Value,
    /// Most ends that one client had.
    pub most_closes: u64,
}

impl StockClients {
    /// Starts `count` clients in rooms of `room_size` against a socket mount (`ws://ADDRESS:PORT/socket`, or `wss://` with a
    /// certificate of [`AUTHORITY`] for `localhost`).
    ///
    /// # Errors
    /// When Node.js cannot be started.
    pub fn start(instance: &Instance, url: &str, count: usize, room_size: usize) -> Result<Self> {
        let mut child = instance
            .client_command("node")
            .current_dir(SCRIPTS)
            .args(["fleet.mjs", url, &count.to_string(), &room_size.to_string()])
            .arg(instance.client_addresses().join(","))
            .env("NODE_EXTRA_CA_CERTS", AUTHORITY)
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start node; install Debian's nodejs and run `npm ci` in e2e/js")?;
        let stdout = child.stdout.take().context("the clients' output is piped")?;
        let (sender, lines) = sync_channel(LINES);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let Ok(event) = serde_json::from_str(&line) else { continue };
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines, events: Vec::new() })
    }

    /// Waits until all clients are in their room for the first time.
    ///
    /// # Errors
    /// When that does not come within [`HANG_GUARD`].
    pub fn wait_ready(&mut self) -> Result<()> {
        self.wait_for("ready").map(drop)
    }

    /// Starts clients as [`Self::start`] does, and returns once all are in their room and `nodes` nodes have some.
    ///
    /// A Service follows the readiness of its pods by a second or more: clients that come before it does are all on
    /// the nodes that were there earlier, and stay there. So they are ended, and others started. The nodes must have
    /// `$cluster`.
    ///
    /// # Errors
    /// As for [`Self::start`] and [`Self::wait_ready`], or when no clients are on that many nodes within
    /// [`HANG_GUARD`].
    pub fn spread(
        instance: &Instance,
        url: &str,
        count: usize,
        room_size: usize,
        nodes: usize,
    ) -> Result<Self> {
        let (clients, _) = eventually(&format!("clients on {nodes} nodes"), || {
            let mut clients = Self::start(instance, url, count, room_size)?;
            clients.wait_ready()?;
            let found = nodes_of(&clients.events);
            ensure!(found.len() == nodes, "they are on {found:?}");
            Ok(Some(clients))
        })?;
        Ok(clients)
    }

    /// Asks how the clients fare now.
    ///
    /// # Errors
    /// When they do not answer.
    pub fn summary(&mut self) -> Result<StockSummary> {
        self.signal(libc::SIGUSR1)?;
        StockSummary::from_json(&self.wait_for("summary")?)
    }

    /// Waits until every client is in its room and hears its messages; says how they fared.
    ///
    /// # Errors
    /// When that does not come within [`HANG_GUARD`].
    pub fn wait_back(&mut self) -> Result<StockSummary> {
        let (summary, _) = eventually("every client is back in its room", || {
            let summary = self.summary()?;
            Ok(summary.all_back().then_some(summary))
        })?;
        Ok(summary)
    }

    /// The events that the clients have printed so far.
    pub fn events(&mut self) -> &[Value] {
        self.events.extend(self.lines.try_iter());
        &self.events
    }

    /// Ends the clients.
    ///
    /// # Errors
    /// When they do not answer, or end while not all are in their room.
    pub fn stop(mut self) -> Result<StockSummary> {
        self.signal(libc::SIGTERM)?;
        let summary = StockSummary::from_json(&self.wait_for("summary")?)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the clients ended with {status}: {summary:?}");
        Ok(summary)
    }

    fn wait_for(&mut self, event: &str) -> Result<Value> {
        let deadline = std::time::Instant::now() + HANG_GUARD;
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let found = line["event"] == event;
                    self.events.push(line.clone());
                    if found {
                        return Ok(line);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    let away = self.away()?;
                    anyhow::bail!(
                        "the clients did not say {event:?} in {} s; {} are not in their room: {:?}",
                        HANG_GUARD.as_secs(),
                        away.len(),
                        away.iter().take(5).collect::<Vec<_>>()
                    );
                }
                Err(RecvTimeoutError::Disconnected) => {
                    anyhow::bail!("the clients ended with {:?} and without {event:?}", self.child.wait()?);
                }
            }
        }
    }

    /// Asks each client that is not in its room how far it is.
    fn away(&self) -> Result<Vec<Value>> {
        self.signal(libc::SIGUSR2)?;
        let mut told = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(QUIET) {
            told.push(line);
        }
        Ok(told.into_iter().filter(|line| line["event"] == "away").collect())
    }

    fn signal(&self, signal: libc::c_int) -> Result<()> {
        let pid = libc::pid_t::try_from(self.child.id())?;
        crate::fleet::signal(pid, signal)
    }
}

impl Drop for StockClients {
    fn drop(&mut self) {
        // After `stop` it has ended already; otherwise the test failed and nobody waits for a summary.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Names of the nodes that clients connected to first.
fn nodes_of(events: &[Value]) -> BTreeSet<&str> {
    events
        .iter()
        .filter(|event| event["event"] == "node")
        .filter_map(|event| event["node"].as_str())
        .collect()
}

impl StockSummary {
    fn from_json(line: &Value) -> Result<Self> {
        let number = |key: &str| line[key].as_u64().with_context(|| format!("no {key} in {line}"));
        Ok(Self {
            clients: number("clients")?,
            joined: number("joined")?,
            heard: number("heard")?,
            reconnects: number("reconnects")?,
            p50_millis: line["p50"].as_f64(),
            p99_millis: line["p99"].as_f64(),
            max_millis: line["max"].as_f64(),
            closes: line["closes"].clone(),
            most_closes: number("most")?,
        })
    }

    /// The close codes that clients saw.
    #[must_use]
    pub fn codes(&self) -> Vec<&str> {
        self.closes.as_object().into_iter().flatten().map(|(code, _)| code.as_str()).collect()
    }

    /// Whether every client is in its room and hears its messages.
    #[must_use]
    pub fn all_back(&self) -> bool {
        self.joined == self.clients && self.heard == self.clients
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nodes_are_those_that_clients_tell_of() {
        let events = [
            json!({"event": "node", "client": 0, "node": "a"}),
            json!({"event": "node", "client": 1, "node": "b"}),
            json!({"event": "join", "client": 0, "topic": "room:fleet-0"}),
            json!({"event": "node", "client": 2, "node": "a"}),
            json!({"event": "ready", "clients": 3}),
        ];
        assert_eq!(nodes_of(&events), BTreeSet::from(["a", "b"]));
    }
}
