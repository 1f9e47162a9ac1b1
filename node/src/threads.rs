//! The shard threads: in which order they start, how they end.
//!
//! The order is the one that lets each shard have a descriptor table of its own: first every runtime and eventfd of the
//! process exists, so that its number means the same in all tables; then, in the threads, tables would be split; only
//! then are sockets opened. A runtime built after the split wakes the wrong descriptor, or nothing at all.
//!
//! A shard that panics takes the process with it: half a node that looks alive is worse than one that is replaced.

use std::{
    io::Error,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use node_core::{
    config::NodeConfig,
    limits::MAX_SHARDS,
    route::Registry,
    shard::{Shard, ShardOptions},
};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use crate::{
    accept::{self, Listener},
    mailbox::{BusSender, Mailbox, ShardHandle, mailbox},
    outgoing::Outgoings,
    poller::Poller,
    shard_loop::ShardLoop,
    usage,
};

/// What the shards need besides the configuration.
#[derive(Debug, Clone)]
pub struct ShardSettings {
    /// Address of the public port. Port 0 asks the kernel; see [`Shards::local_addr`].
    pub listen: SocketAddr,
    /// Number of shards, 1 to [`MAX_SHARDS`].
    pub shards: u8,
    /// Name of this node, for join replies on `$cluster`.
    pub node_name: String,
    /// Version of this node, for join replies on `$cluster`.
    pub version: &'static str,
    /// Served at `/` when the configuration asks for the chat page.
    pub chat_page: &'static [u8],
}

/// The running shards.
#[derive(Debug)]
pub struct Shards {
    handles: Vec<ShardHandle>,
    threads: Vec<JoinHandle<()>>,
    local_addr: SocketAddr,
    topics: Arc<Registry>,
}

impl Shards {
    /// The topics with members on any shard.
    #[must_use]
    pub const fn topics(&self) -> &Arc<Registry> {
        &self.topics
    }

    /// One handle per shard, in the order of their index.
    #[must_use]
    pub fn handles(&self) -> &[ShardHandle] {
        &self.handles
    }

    /// The address that clients connect to.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Waits until every shard ended, which they do after [`crate::mailbox::ToShard::Shutdown`]. Blocks.
    pub fn join(self) {
        for thread in self.threads {
            // A panicking shard aborts the process, so there is no error to hand on.
            thread.join().ok();
        }
    }
}

/// Starts one thread per shard. The runtimes of all other threads (bus, admin) must exist before: see the module text.
///
/// # Errors
/// When the port cannot be bound or a thread or descriptor cannot be made.
pub fn start_shards(
    settings: &ShardSettings,
    config: &Arc<NodeConfig>,
    bus: Option<&BusSender>,
) -> std::io::Result<Shards> {
    let count = settings.shards.clamp(1, MAX_SHARDS);
    let (handles, mailboxes): (Vec<_>, Vec<_>) =
        (0..count).map(mailbox).collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    let registry = Arc::new(Registry::new(rand::random()));
    let places = Arc::default();
    let mut threads = Vec::new();
    let mut gates = Vec::new();
    for (mailbox, index) in mailboxes.into_iter().zip(0..) {
        let options = ShardOptions {
            index,
            has_bus: bus.is_some(),
            node_name: settings.node_name.clone(),
            version: settings.version,
            page: settings.chat_page,
            registry: Arc::clone(&registry),
            places: Arc::clone(&places),
        };
        let core = Shard::new(options, Arc::clone(config));
        let outgoing = Outgoings::new(index, handles.clone(), bus.cloned());
        let (gate, door) = gate();
        let thread = std::thread::Builder::new()
            .name(format!("shard-{index}"))
            .spawn(move || guarded(|| life(&door, core, mailbox, outgoing)))?;
        threads.push(thread);
        gates.push(gate);
    }
    gates.iter().try_for_each(Gate::wait)?;
    let (reservation, local_addr) = accept::reserve(settings.listen)?;
    gates.iter().try_for_each(|gate| gate.open(local_addr))?;
    gates.iter().try_for_each(Gate::wait)?;
    drop(reservation);
    Ok(Shards { handles, threads, local_addr, topics: registry })
}

/// What a starting shard and the one that starts it tell each other.
struct Gate {
    reports: mpsc::Receiver<std::io::Result<()>>,
    address: mpsc::SyncSender<SocketAddr>,
}

/// The shard's side of a [`Gate`].
struct Door {
    report: mpsc::SyncSender<std::io::Result<()>>,
    address: mpsc::Receiver<SocketAddr>,
}

fn gate() -> (Gate, Door) {
    let (report, reports) = mpsc::sync_channel(1);
    let (to_shard, address) = mpsc::sync_channel(1);
    (Gate { reports, address: to_shard }, Door { report, address })
}

impl Gate {
    /// Waits for the next step of the shard.
    fn wait(&self) -> std::io::Result<()> {
        self.reports.recv().map_err(|_| Error::other("a shard ended while it started"))?
    }

    fn open(&self, address: SocketAddr) -> std::io::Result<()> {
        self.address.send(address).map_err(|_| Error::other("a shard ended while it started"))
    }
}

/// Runs a thread's life and ends the process when it fails or panics.
pub(crate) fn guarded(life: impl FnOnce() -> std::io::Result<()>) {
    let name = std::thread::current().name().unwrap_or("a thread").to_owned();
    match catch_unwind(AssertUnwindSafe(life)) {
        Ok(Ok(())) => return,
        Ok(Err(error)) => tracing::error!("{name} failed, the node ends: {error}"),
        Err(_) => tracing::error!("{name} panicked, the node ends"),
    }
    std::process::abort();
}

/// From the runtime to the last connection. Errors of the start go to the one who starts the node, later ones are
/// returned.
fn life(door: &Door, core: Shard, mailbox: Mailbox, outgoing: Outgoings) -> std::io::Result<()> {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return report(door, Err(error)),
    };
    report(door, Ok(()))?;
    let Ok(address) = door.address.recv() else { return Ok(()) };
    let started = runtime.block_on(async {
        let listener = Listener::bind(address)?;
        Ok(ShardLoop::new(core, mailbox, Poller::new()?, listener, outgoing)?)
    });
    match started {
        Ok(shard) => {
            report(door, Ok(()))?;
            runtime.block_on(shard.run())
        }
        Err(error) => report(door, Err(error)),
    }
}

/// Nobody listens any more when another shard failed to start; then this one ends quietly.
fn report(door: &Door, step: std::io::Result<()>) -> std::io::Result<()> {
    door.report.send(step).ok();
    Ok(())
}

fn runtime() -> std::io::Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_all()
        .on_thread_park(usage::on_park)
        .on_thread_unpark(usage::on_unpark)
        .build_local(LocalOptions::default())
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::Command};

    use super::*;

    const SIGABRT: i32 = 6;

    /// Run by the next test in a process of its own.
    #[test]
    #[ignore = "ends the process"]
    fn child_with_a_panicking_shard() {
        let shard = std::thread::spawn(|| guarded(|| panic!("deliberate")));
        shard.join().ok();
        std::process::exit(0);
    }

    #[test]
    fn a_panic_of_a_shard_ends_the_process() {
        let status = Command::new(std::env::current_exe().expect("a path"))
            .args(["--ignored", "--exact", "threads::tests::child_with_a_panicking_shard"])
            .status()
            .expect("runs");
        assert_eq!(status.signal(), Some(SIGABRT), "{status}");
    }

    #[test]
    fn a_port_that_another_listens_on_is_refused() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let settings = ShardSettings {
            listen: taken.local_addr().expect("bound"),
            shards: 2,
            node_name: String::new(),
            version: "",
            chat_page: b"",
        };
        let error = start_shards(&settings, &Arc::new(NodeConfig::dev()), None).expect_err("in use");
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    }
}
