//! The way to the other nodes.
//!
//! NATS carries one copy of a publish to each node that has members of the topic. The client lives on its own thread
//! and runtime; shards reach it through one bounded queue and are reached through their mailboxes. Without a
//! configured bus none of this runs: the node is complete alone.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use node_core::{
    admin::BusStats,
    config::{Bus as BusConfig, Limits, NodeConfig},
    counters::BusCounts,
    ledger,
    limits::BUS_SILENCE_MILLIS,
    longpoll::peers::Peers,
    route::Registry,
};
use tokio::{
    runtime::Runtime,
    sync::{mpsc, oneshot},
};

use crate::{
    failure::guarded,
    inlets::Heard,
    mailbox::{BusReceiver, ShardHandle},
    secrets::{CREDENTIAL_BYTES, SecretError, SecretFile},
};

mod carry;
mod connect;
pub mod fleet;
mod inbound;
mod link;
mod nats;
mod post;
mod subjects;

/// Figures that wait for the bus; one arrives each second.
const FIGURES_QUEUE: usize = 2;

/// The state of the bus, for metrics, readiness and the operator.
#[derive(Debug)]
pub struct BusState {
    started: Instant,
    /// Whether there is a connection, even a silent one.
    linked: AtomicBool,
    ever_connected: AtomicBool,
    /// When anything was last heard, on [`BusState::clock_millis`].
    heard_millis: AtomicU64,
    round_trip_micros: AtomicU64,
    /// Age in milliseconds from which on a message of another node is dropped.
    pub most_millis: AtomicU64,
    /// Longest message of a client in bytes, which bounds what is taken from the bus.
    max_frame_bytes: AtomicU32,
    /// The counters.
    pub counts: BusCounts,
}

impl Default for BusState {
    fn default() -> Self {
        BusState::new(&Limits::default())
    }
}

impl BusState {
    /// The state of a bus that was not heard yet.
    pub fn new(limits: &Limits) -> Self {
        BusState {
            started: Instant::now(),
            linked: AtomicBool::default(),
            ever_connected: AtomicBool::default(),
            heard_millis: AtomicU64::default(),
            round_trip_micros: AtomicU64::default(),
            most_millis: limits.bus_message_age().into(),
            max_frame_bytes: limits.max_frame_bytes.into(),
            counts: BusCounts::default(),
        }
    }

    /// The clock of messages on the bus: milliseconds since the node started.
    pub fn clock_millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether the bus is connected now and was heard lately: a connection on which nothing comes does not count.
    pub fn connected(&self) -> bool {
        self.linked.load(Relaxed) && self.silent_millis() <= BUS_SILENCE_MILLIS
    }

    fn silent_millis(&self) -> u64 {
        self.clock_millis().saturating_sub(self.heard_millis.load(Relaxed))
    }

    /// Records that something came from the bus; when it was an answer, with how long that took.
    fn heard(&self, round_trip: Option<Duration>) {
        self.heard_millis.store(self.clock_millis(), Relaxed);
        if let Some(took) = round_trip {
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            self.round_trip_micros.store(micros, Relaxed);
        }
    }

    /// What the operator reads about the bus.
    pub fn stats(&self) -> BusStats {
        BusStats {
            connected: self.connected(),
            silent_millis: self.silent_millis(),
            round_trip_micros: self.round_trip_micros.load(Relaxed),
        }
    }

    /// Whether the bus was ever connected: the condition for a node to become ready for the first time.
    pub fn ever_connected(&self) -> bool {
        self.ever_connected.load(Relaxed)
    }

    /// Longest message of a client in bytes.
    fn max_frame_bytes(&self) -> usize {
        self.max_frame_bytes.load(Relaxed) as usize
    }

    /// Takes over [`node_core::config::Limits::max_frame_bytes`] when it changes.
    pub fn set_max_frame_bytes(&self, bytes: u32) {
        self.max_frame_bytes.store(bytes, Relaxed);
    }

    /// Records a change of the connection.
    pub fn set_connected(&self, connected: bool) {
        if connected {
            self.heard(None);
            self.ever_connected.store(true, Relaxed);
            self.counts.connects.fetch_add(1, Relaxed);
        }
        self.linked.store(connected, Relaxed);
    }
}

/// How the node logs in to NATS.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// It does not log in.
    None,
    /// As a user named in the configuration, with the password in a file.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: SecretFile,
    },
    /// With user and password both in files: the credentials of a NATS that is not ours.
    Files {
        /// The user.
        user: SecretFile,
        /// The password.
        password: SecretFile,
    },
}

impl Credentials {
    /// The user's own credentials when that directory is mounted, else the configured user with the node's secret.
    pub fn new(config: &BusConfig, secrets: Option<&Path>, own: &Path) -> Self {
        let BusConfig::Nats(nats) = config;
        match (&nats.user, secrets) {
            _ if own.join("username").exists() => Credentials::Files {
                user: SecretFile::new(own, "username", CREDENTIAL_BYTES),
                password: SecretFile::new(own, "password", CREDENTIAL_BYTES),
            },
            (Some(user), Some(dir)) => Credentials::Password {
                user: user.clone(),
                password: SecretFile::new(dir, "nats-password", CREDENTIAL_BYTES),
            },
            _ => Credentials::None,
        }
    }

    fn read(&self) -> Result<(String, String), SecretError> {
        match self {
            Credentials::None => Ok(Default::default()),
            Credentials::Password { user, password } => Ok((user.clone(), password.read()?)),
            Credentials::Files { user, password } => Ok((user.read()?, password.read()?)),
        }
    }
}

/// The node's identity on the bus.
#[derive(Debug)]
pub struct Identity {
    /// Name of the node.
    pub node_name: String,
    /// Random per process start.
    pub boot_id: u128,
}

/// What the bus shares with the rest of the node.
#[derive(Debug)]
pub struct Shared {
    /// Its state.
    pub state: Arc<BusState>,
    /// The nodes that are heard of.
    pub fleet: Arc<Mutex<fleet::Fleet>>,
    /// The nodes that shards may ask.
    pub peers: Arc<Peers>,
    /// Where questions and answers of the server API go.
    pub api: mpsc::Sender<Heard>,
}

/// The running bus.
#[derive(Debug)]
pub struct Bus {
    figures: mpsc::Sender<fleet::Figures>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Bus {
    /// Starts the bus of `config` on a thread of its own. `members` is what the shards know of their members. It
    /// connects in the background, for ever; when it fails or panics the process ends.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub fn start(
        runtime: Runtime,
        config: &NodeConfig,
        credentials: Credentials,
        identity: Identity,
        commands: BusReceiver,
        (shards, members): (Vec<ShardHandle>, Arc<Registry>),
        shared: Shared,
    ) -> io::Result<Option<Self>> {
        let Some(BusConfig::Nats(nats)) = config.fixed.bus.clone() else { return Ok(None) };
        let all_shards = shards.clone();
        let budget = config.limits.memory_budget.unwrap_or(u64::MAX);
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let link = link::Link {
            cluster: config.fixed.cluster.clone(),
            nats,
            credentials,
            node_name: identity.node_name,
            boot_id: identity.boot_id,
            started: Instant::now(),
            shards: inbound::Inbound::new(shards),
            members,
            state: shared.state,
            fleet: shared.fleet,
            peers: shared.peers,
            api: shared.api,
            ages: Mutex::default(),
            told_version: Mutex::default(),
            client_queue: count(ledger::client_queue(budget, config.limits.max_frame_bytes.into())),
            lingering: count(ledger::lingering(budget)),
            parts_bytes: count(ledger::parts_bytes(budget)),
        };
        let (figures, figures_out) = mpsc::channel(FIGURES_QUEUE);
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("bus".to_owned()).spawn(move || {
            // If the bus ended alone, shards would queue messages that nobody takes.
            guarded(&all_shards, || runtime.block_on(nats::run(link, commands, figures_out, stopped)));
            // It is not dropped: that would wait for a name resolution under way, which may take a minute.
            runtime.shutdown_background();
        })?;
        Ok(Some(Bus { figures, stop, thread }))
    }

    /// The queue for this node's figures, which the other nodes get.
    pub fn figures(&self) -> mpsc::Sender<fleet::Figures> {
        self.figures.clone()
    }

    /// Hands over the queued messages and ends. Blocks for two seconds at most when NATS does not answer.
    pub fn stop(self) {
        // When the bus has ended already, this changes nothing.
        self.stop.send(()).ok();
        if self.thread.join().is_err() {
            tracing::error!("the bus thread panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use node_core::config::Nats;

    use super::*;
    use crate::{failure::EXIT_FAILED, mailbox::bus_queue};

    fn start(url: &str, runtime: Runtime) -> Bus {
        let nats = Nats { urls: vec![url.to_owned()], user: None };
        let mut config = NodeConfig::dev();
        config.fixed.bus = Some(BusConfig::Nats(nats));
        let identity = Identity { node_name: "n".to_owned(), boot_id: 1 };
        let api = mpsc::channel(1).0;
        let shared = Shared { state: Arc::default(), fleet: Arc::default(), peers: Arc::default(), api };
        let none = (vec![], Arc::new(Registry::new([1, 2])));
        let bus = Bus::start(runtime, &config, Credentials::None, identity, bus_queue().1, none, shared);
        bus.expect("a thread").expect("a bus")
    }

    fn runtime() -> Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    /// The next test runs this one in a process of its own.
    #[test]
    #[ignore = "ends the process"]
    fn child_whose_bus_fails() {
        let bus = start("nats://[", runtime());
        bus.thread.join().ok();
        std::process::exit(0);
    }

    #[test]
    fn a_bus_that_fails_ends_the_process() {
        let status = Command::new(std::env::current_exe().expect("a path"))
            .args(["--ignored", "--exact", "bus::tests::child_whose_bus_fails"])
            .status()
            .expect("runs");
        assert_eq!(status.code(), Some(EXIT_FAILED), "{status}");
    }

    #[test]
    fn a_name_resolution_that_hangs_does_not_hold_up_the_end() {
        let runtime = runtime();
        let (answer, resolver) = std::sync::mpsc::channel::<()>();
        runtime.spawn_blocking(move || resolver.recv());
        let (ended, end) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            start("nats://127.0.0.1:1", runtime).stop();
            ended.send(()).ok();
        });
        let result = end.recv_timeout(Duration::from_secs(120));
        drop(answer);
        result.expect("the bus ended while the resolver hung");
    }
}
