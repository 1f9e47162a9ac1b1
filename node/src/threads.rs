//! The shard threads: how many there are, and the order in which they start.
//!
//! The order decides. A waker writes to a descriptor *number* in the waking thread's table, so every runtime and eventfd of
//! the process exists before a table is split, and its number means the same in all of them; then the shards split their
//! tables, when the layout says so; only then are sockets opened. A runtime built after the split wakes the wrong
//! descriptor, or nothing at all, and a listener opened before it would go on listening in the tables of threads that
//! closed it.

use std::{
    io::Error,
    net::SocketAddr,
    os::fd::RawFd,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, atomic::AtomicBool, mpsc},
    thread::JoinHandle,
};

use node_core::{
    addresses::Addresses,
    broadcast::NodeTag,
    config::NodeConfig,
    layout::{Layout, connections_per_table},
    longpoll::{peers::Peers, token::TokenKey},
    route::Registry,
    shard::{Shard, ShardOptions},
    ws::handshake::Page,
};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use crate::{
    failure::guarded,
    handover::{Handover, handovers},
    inlets::Outlets,
    links::Links,
    mailbox::{BusSender, Mailbox, ShardHandle, mailbox},
    poller::Poller,
    shard_loop::ShardLoop,
    sys,
    transport::Settings,
    usage,
};

/// What the shards need besides the configuration.
#[derive(Debug, Clone)]
pub struct ShardSettings {
    /// The settings of the sockets for clients. [`Shards::local_addr`] has the port when these leave it to the kernel.
    pub transport: Settings,
    /// How many shards, and whose descriptor tables.
    pub layout: Layout,
    /// Soft limit of open files, per table.
    pub nofile: u64,
    /// The node's boot id, which tokens of long-poll sessions name.
    pub boot_id: u128,
    /// Name of this node, for join replies on `$cluster`.
    pub node_name: String,
    /// Version of this node, for join replies on `$cluster`.
    pub version: &'static str,
    /// Served at `/` when the configuration asks for the chat page.
    pub chat_page: Page<'static>,
    /// Time a client has to answer a close frame, or to read a refusal, in milliseconds.
    pub close_timeout_millis: u64,
}

/// The running shards.
#[derive(Debug)]
pub struct Shards {
    handles: Vec<ShardHandle>,
    threads: Vec<JoinHandle<()>>,
    transport: Settings,
    topics: Arc<Registry>,
    addresses: Arc<Addresses>,
    peers: Arc<Peers>,
    ready: Arc<AtomicBool>,
}

impl Shards {
    /// The topics with members on any shard.
    #[must_use]
    pub const fn topics(&self) -> &Arc<Registry> {
        &self.topics
    }

    /// The client addresses with connections on any shard that are counted.
    #[must_use]
    pub const fn addresses(&self) -> &Arc<Addresses> {
        &self.addresses
    }

    /// The nodes to which requests of long-poll can be carried: none at first.
    #[must_use]
    pub const fn peers(&self) -> &Arc<Peers> {
        &self.peers
    }

    /// What the public port tells load balancers: false at first.
    #[must_use]
    pub const fn ready(&self) -> &Arc<AtomicBool> {
        &self.ready
    }

    /// One handle per shard, in the order of their index.
    #[must_use]
    pub fn handles(&self) -> &[ShardHandle] {
        &self.handles
    }

    /// The first address that clients connect to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.transport.addresses()[0]
    }

    /// Waits until every shard ended, which they do after [`node_core::shard::Mail::Shutdown`]. Blocks.
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
/// When the port cannot be bound, a thread or descriptor cannot be made, or the kernel knows no split tables.
pub fn start_shards(
    settings: &ShardSettings,
    config: &Arc<NodeConfig>,
    bus: Option<&BusSender>,
    outlets: &Outlets,
) -> std::io::Result<Shards> {
    let Layout { shards: count, own_tables } = settings.layout;
    let (handles, mailboxes): (Vec<_>, Vec<_>) =
        (0..count).map(mailbox).collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    // A shared table tells by its numbers how full it is; in a table of its own a shard counts.
    let room = connections_per_table(settings.layout, settings.nofile);
    let capacity = if own_tables { u32::try_from(room).unwrap_or(u32::MAX) } else { u32::MAX };
    let ceiling = if own_tables { i32::MAX } else { i32::try_from(room).unwrap_or(i32::MAX) };
    let handovers = handovers(count, capacity)?;
    let registry = Arc::new(Registry::new(rand::random()));
    let addresses = Arc::new(Addresses::new(rand::random()));
    let poll_key = TokenKey::new(&rand::random(), NodeTag::of(settings.boot_id));
    let (places, peers, ready) = (Arc::default(), Arc::<Peers>::default(), Arc::<AtomicBool>::default());
    let mut threads = Vec::new();
    let mut gates = Vec::new();
    for ((mailbox, handover), index) in mailboxes.into_iter().zip(handovers).zip(0..) {
        let options = ShardOptions {
            index,
            has_bus: bus.is_some(),
            node_name: settings.node_name.clone(),
            version: settings.version,
            page: settings.chat_page,
            registry: Arc::clone(&registry),
            places: Arc::clone(&places),
            addresses: Arc::clone(&addresses),
            poll_key: poll_key.clone(),
            peers: Arc::clone(&peers),
            ready: Arc::clone(&ready),
            listening: Arc::clone(&outlets.listening),
            close_timeout_millis: settings.close_timeout_millis,
        };
        let core = Shard::new(options, Arc::clone(config));
        let links = Links::new(handles.clone(), bus.cloned(), outlets.clone());
        links.bound(config.limits.memory_budget);
        let parts = Parts { core, mailbox, handover, links, ceiling };
        let (gate, door) = gate();
        let all = handles.clone();
        let thread = std::thread::Builder::new()
            .name(format!("shard-{index}"))
            .spawn(move || guarded(&all, || life(&door, parts)))?;
        threads.push(thread);
        gates.push(gate);
    }
    let finished = || gates.iter().try_for_each(Gate::wait);
    finished()?;
    if own_tables {
        let first = first_free_descriptor()?;
        gates.iter().try_for_each(|gate| gate.order(Order::OwnTable(first)))?;
        finished()?;
    }
    let (reservation, transport) = settings.transport.reserve()?;
    gates.iter().try_for_each(|gate| gate.order(Order::Listen(transport.clone())))?;
    finished()?;
    drop(reservation);
    Ok(Shards { handles, threads, transport, topics: registry, addresses, peers, ready })
}

/// Whether the kernel lets a thread have a descriptor table of its own: a filter of system calls may not.
#[must_use]
pub fn can_split() -> bool {
    let tried =
        std::thread::Builder::new().name("tables".to_owned()).spawn(|| sys::own_descriptor_table(RawFd::MAX));
    tried.is_ok_and(|thread| thread.join().is_ok_and(|done| done.is_ok()))
}

/// The first number above all descriptors of the calling thread's table.
fn first_free_descriptor() -> std::io::Result<RawFd> {
    let mut first = 0;
    for entry in std::fs::read_dir("/proc/thread-self/fd")? {
        // The directory that is being read is among them, which costs one number.
        let number: Option<RawFd> = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        first = first.max(number.unwrap_or(0) + 1);
    }
    Ok(first)
}

/// What a shard starts with.
struct Parts {
    core: Shard,
    mailbox: Mailbox,
    handover: Handover,
    links: Links,
    /// Descriptors from here on are not for clients.
    ceiling: i32,
}

/// The next step of a starting shard.
enum Order {
    /// Take a descriptor table of your own, with copies of those below.
    OwnTable(RawFd),
    /// Listen with these settings, and serve.
    Listen(Settings),
}

/// What a starting shard and the one that starts it tell each other.
struct Gate {
    reports: mpsc::Receiver<std::io::Result<()>>,
    orders: mpsc::SyncSender<Order>,
}

/// The shard's side of a [`Gate`].
struct Door {
    report: mpsc::SyncSender<std::io::Result<()>>,
    orders: mpsc::Receiver<Order>,
}

fn gate() -> (Gate, Door) {
    let (report, reports) = mpsc::sync_channel(1);
    let (to_shard, orders) = mpsc::sync_channel(1);
    (Gate { reports, orders: to_shard }, Door { report, orders })
}

impl Gate {
    /// Waits for the next step of the shard.
    fn wait(&self) -> std::io::Result<()> {
        self.reports.recv().map_err(|_| Error::other("a shard ended while it started"))?
    }

    fn order(&self, order: Order) -> std::io::Result<()> {
        self.orders.send(order).map_err(|_| Error::other("a shard ended while it started"))
    }
}

impl Door {
    /// Nobody listens any more when another shard failed to start; then this one ends quietly.
    fn report(&self, step: std::io::Result<()>) {
        self.report.send(step).ok();
    }
}

/// From the runtime to the last connection. Errors of the start go to the caller that starts the node, later ones are
/// returned.
fn life(door: &Door, parts: Parts) -> std::io::Result<()> {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            door.report(Err(error));
            return Ok(());
        }
    };
    door.report(Ok(()));
    let transport = loop {
        match door.orders.recv() {
            Ok(Order::OwnTable(first)) => door.report(sys::own_descriptor_table(first)),
            Ok(Order::Listen(transport)) => break transport,
            Err(_) => return Ok(()),
        }
    };
    let Parts { core, mailbox, handover, links, ceiling } = parts;
    let started = runtime.block_on(async {
        let opened = transport.open(ceiling)?;
        Ok(ShardLoop::new(core, mailbox, Poller::new()?, opened, handover, links)?)
    });
    match started {
        Ok(shard) => {
            door.report(Ok(()));
            serve(&runtime, shard)
        }
        Err(error) => {
            door.report(Err(error));
            Ok(())
        }
    }
}

/// Runs a shard to its end. One that fails says farewell to its clients before it is mourned.
fn serve(runtime: &LocalRuntime, mut shard: ShardLoop) -> std::io::Result<()> {
    let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(shard.run())));
    if !matches!(outcome, Ok(Ok(()))) {
        // What a panic left behind may make this one panic too; it has done what it could by then.
        catch_unwind(AssertUnwindSafe(|| shard.farewell())).ok();
        // The process ends soon, and its sockets must not before.
        std::mem::forget(shard);
    }
    outcome.unwrap_or_else(|panic| resume_unwind(panic))
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
    use std::{
        io::{BufRead, BufReader, Read, Write},
        net::TcpStream,
        process::{Command, Stdio},
        time::Duration,
    };

    use node_core::limits::CLOSE_TIMEOUT_MILLIS;

    use super::*;
    use crate::failure::EXIT_FAILED;

    /// Joins a room, then reads to the end.
    const HELLO: &str = "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nhost: n\r\nupgrade: websocket\r\n\
        connection: upgrade\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";
    /// A pong that nobody asked for, masked with zeros.
    const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

    /// Whether a close frame with code 1012 is among these bytes.
    fn closes_with_restart(bytes: &[u8]) -> bool {
        bytes.windows(4).any(|head| head[0] == 0x88 && head[2..] == 1012u16.to_be_bytes())
    }

    /// Talks while it reads, until it is told that the node restarts or the connection is over. Returns what it read.
    fn last_words(mut client: TcpStream) -> Vec<u8> {
        client.set_read_timeout(Some(Duration::from_millis(1))).expect("set");
        let (mut said, mut buffer) = (Vec::new(), [0; 1_024]);
        while !closes_with_restart(&said) {
            match client.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => said.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    // Fails when the connection is over, which reading will show.
                    client.write_all(&PONG).ok();
                }
                Err(_) => break,
            }
        }
        said
    }

    fn settings(listen: SocketAddr) -> ShardSettings {
        ShardSettings {
            transport: Settings::at(vec![listen]),
            layout: Layout { shards: 2, own_tables: false },
            nofile: 1_024,
            boot_id: 1,
            node_name: String::new(),
            version: "",
            chat_page: Page::default(),
            close_timeout_millis: CLOSE_TIMEOUT_MILLIS,
        }
    }

    /// Where shards say what nobody asks for.
    fn unheard() -> Outlets {
        crate::inlets::ways().0
    }

    /// Run by the next test in a process of its own: a node of two shards, one of which panics when it is told.
    #[test]
    #[ignore = "ends the process"]
    fn child_with_a_panicking_shard() {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let shards =
            start_shards(&settings(address), &Arc::new(NodeConfig::dev()), None, &unheard()).expect("starts");
        println!("listening on {}", shards.local_addr());
        std::io::stdin().read_line(&mut String::new()).expect("a line");
        shards.handles()[0].fail();
        shards.join();
    }

    #[test]
    fn a_panic_of_a_shard_ends_the_process_and_closes_all_connections() {
        let mut child = Command::new(std::env::current_exe().expect("a path"))
            .args(["--ignored", "--exact", "threads::tests::child_with_a_panicking_shard", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let address = lines
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once("listening on ")?.1.to_owned()))
            .expect("it listens");
        let mut clients: Vec<_> = (0..20).map(|_| TcpStream::connect(&address).expect("connects")).collect();
        for client in &mut clients {
            client.write_all(HELLO.as_bytes()).expect("sends");
            let mut head = [0; 12];
            client.read_exact(&mut head).expect("an answer");
            assert_eq!(&head, b"HTTP/1.1 101");
        }
        // They go on talking, so that the shard has input that it will not read.
        let ends: Vec<_> =
            clients.into_iter().map(|client| std::thread::spawn(move || last_words(client))).collect();
        writeln!(child.stdin.take().expect("piped"), "now").expect("told");
        for end in ends {
            let said = end.join().expect("no panic");
            assert!(closes_with_restart(&said), "{:?}", String::from_utf8_lossy(&said));
        }
        assert_eq!(child.wait().expect("ends").code(), Some(EXIT_FAILED));
    }

    #[test]
    fn a_port_that_another_listens_on_is_refused() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let settings = settings(taken.local_addr().expect("bound"));
        let error =
            start_shards(&settings, &Arc::new(NodeConfig::dev()), None, &unheard()).expect_err("in use");
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    }
}
