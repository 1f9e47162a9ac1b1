//! The clients of a soak: all in one thread, inside the client namespace, with phoenix.js' habits.

use std::{
    fs::File,
    os::fd::AsFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use cluster::Instance;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::{Millis, ledger::Ledger, now};
use crate::{
    client::{Channel, ChannelEvent, Socket, SocketEvent},
    fleet::eventually,
    relay,
};

/// Pause after a first connection or join that failed.
const AGAIN: Duration = Duration::from_secs(1);
/// Clients begin this far apart.
const PACE: Duration = Duration::from_millis(5);
/// How long a message may wait for the connection. After that it counts as not sent.
const SEND_LIMIT: Duration = Duration::from_secs(5);
/// Whether all clients hear all messages is told by messages of such an age that they must have come, and over such a
/// time, in milliseconds.
const SETTLED: Millis = 1_000;
const LOOKED_AT: Millis = 3_000;
/// The only event of the soak.
const EVENT: &str = "say";

/// Where clients connect to, and how.
#[derive(Debug, Clone)]
pub struct Place {
    /// Address and port of a node or Service.
    pub address: String,
    /// How much longer a round trip takes than on this machine; none: no longer.
    pub round_trip: Option<Duration>,
}

/// The ledger, shared by the clients and by the thread that breaks the fleet.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Mutex<Ledger>>);

impl Shared {
    /// The ledger, locked while the value exists.
    pub fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Running clients; they end when the value is dropped.
pub struct Clients {
    /// The record of what they did and heard so far.
    pub ledger: Shared,
    /// Whether they say anything.
    talking: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Clients {
    /// Starts the ledger's clients. `periods` are their times between two messages, by client; a client without one
    /// only listens.
    ///
    /// # Errors
    /// When the instance has no client namespace.
    ///
    /// # Panics
    /// When there are not as many periods as clients.
    pub fn start(
        instance: &Instance,
        place: Place,
        ledger: Ledger,
        periods: Vec<Option<Duration>>,
    ) -> Result<Self> {
        assert_eq!(ledger.clients(), periods.len(), "one period for each client");
        let ledger = Shared(Arc::new(Mutex::new(ledger)));
        let (talking, over) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let path = instance.client_netns_path();
        let namespace = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let (shared, talk, end) = (ledger.clone(), Arc::clone(&talking), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            // Only this thread changes its namespace, and all sockets are made on it.
            rustix::thread::move_into_link_name_space(namespace.as_fd(), None)
                .context("cannot enter the client namespace")?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let address = match place.round_trip {
                    Some(round_trip) => relay::start(place.address, round_trip).await?.to_string(),
                    None => place.address,
                };
                let url = format!("ws://{address}/socket/websocket");
                for (index, period) in periods.into_iter().enumerate() {
                    tokio::spawn(client(index, url.clone(), shared.clone(), Arc::clone(&talk), period));
                    sleep(PACE).await;
                }
                while !end.load(Ordering::Relaxed) {
                    sleep(Duration::from_millis(100)).await;
                }
                Ok(())
            })
        });
        Ok(Self { ledger, talking, over, thread: Some(thread) })
    }

    /// Waits until all clients are in their rooms and know on which nodes. The nodes must have `$cluster`.
    ///
    /// # Errors
    /// When that does not come within the hang guard.
    pub fn wait_there(&self) -> Result<()> {
        eventually("all clients are in their rooms", || {
            let ledger = self.ledger.lock();
            let (away, found) = (ledger.away(), ledger.nodes());
            ensure!(away.is_empty(), "{away:?} are not in their rooms, the others are on {found:?}");
            Ok((0..ledger.clients()).all(|client| ledger.node(client).is_some()).then_some(()))
        })
        .map(drop)
    }

    /// Waits until all clients are in their rooms and have heard every message for some seconds.
    ///
    /// # Errors
    /// When that does not come within the hang guard.
    pub fn wait_whole(&self) -> Result<Duration> {
        let begun = now();
        let whole = || self.is_whole(begun).map(Some);
        eventually("everybody hears everything", whole).map(|(_, elapsed)| elapsed)
    }

    /// Whether all clients are in their rooms and have heard every message for some seconds, without messages from
    /// before `since`.
    ///
    /// # Errors
    /// When this is not so; the error says what is missing.
    pub fn is_whole(&self, since: Millis) -> Result<()> {
        let ledger = self.ledger.lock();
        if let Some((client, away)) = ledger.longest_away(now()) {
            anyhow::bail!("client {client} is away for {:.1} s", away as f64 / 1e3);
        }
        let until = now().saturating_sub(SETTLED);
        let from = until.saturating_sub(LOOKED_AT);
        ensure!(from >= since, "what was said since then may still be on its way");
        ensure!(ledger.is_busy(from, until), "nobody says anything");
        let misses = ledger.misses(from, until);
        ensure!(misses.is_empty(), "{} messages did not come, as {:?}", misses.len(), misses[0]);
        Ok(())
    }

    /// Stops all messages; the clients stay and listen.
    pub fn hush(&self) {
        self.talking.store(false, Ordering::Relaxed);
    }

    /// Ends the clients.
    ///
    /// # Errors
    /// When their thread could not run.
    pub fn stop(mut self) -> Result<()> {
        self.over.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => anyhow::bail!("the clients' thread panicked"),
            None => Ok(()),
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

async fn client(
    index: usize,
    url: String,
    ledger: Shared,
    talking: Arc<AtomicBool>,
    period: Option<Duration>,
) {
    let step = |step| ledger.lock().step(index, step);
    step("connects");
    let mut socket = loop {
        match Socket::connect(&url).await {
            Ok(socket) => break socket,
            Err(_) => sleep(AGAIN).await,
        }
    };
    step("joins the reserved topic");
    // A join of the reserved topic tells the node's name each time. Both channels are joined again by themselves with
    // each connection.
    let mut cluster = joined(&socket, "$cluster").await;
    let topic = format!("room:soak-{}", ledger.lock().room(index));
    step("joins its room");
    let mut room = joined(&socket, &topic).await;
    step("was in its room");
    let mut me = Me { index, node: None, connected: true, ledger };
    let mut turn = interval(period.unwrap_or(Duration::MAX));
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let says = || period.is_some() && talking.load(Ordering::Relaxed);
    loop {
        tokio::select! {
            // Events of the connection are taken before events of its channels.
            biased;
            event = socket.next() => match event {
                Some(event) => me.on_socket(&event),
                None => return,
            },
            event = cluster.next() => match event {
                Some(event) => me.on_cluster(&event),
                None => return,
            },
            _ = turn.tick(), if says() => me.say(&room).await,
            event = room.next() => match event {
                Some(event) => me.on_room(event),
                None => return,
            },
        }
    }
}

async fn joined(socket: &Socket, topic: &str) -> Channel {
    loop {
        match socket.join(topic, json!({})).await {
            Ok(channel) => return channel,
            Err(_) => sleep(AGAIN).await,
        }
    }
}

struct Me {
    index: usize,
    node: Option<String>,
    connected: bool,
    ledger: Shared,
}

impl Me {
    fn on_socket(&mut self, event: &SocketEvent) {
        match event {
            SocketEvent::Open => {
                self.connected = true;
                self.node = None;
            }
            SocketEvent::Closed(code) => {
                self.connected = false;
                self.ledger.lock().ended(self.index, *code, now());
            }
            SocketEvent::Failed(_) => {}
        }
    }

    fn on_cluster(&mut self, event: &ChannelEvent) {
        if let ChannelEvent::Joined(response) = event
            && self.connected
            && let Some(node) = response["node"].as_str()
        {
            self.node = Some(node.to_owned());
            self.ledger.lock().on_node(self.index, node);
        }
    }

    fn on_room(&mut self, event: ChannelEvent) {
        let mut ledger = self.ledger.lock();
        match event {
            ChannelEvent::Joined(_) => {
                if self.connected {
                    ledger.joined(self.index, self.node.as_deref(), now());
                }
            }
            ChannelEvent::Message { event, payload } if event == EVENT => {
                let number =
                    |key: &str| payload[key].as_u64().and_then(|number| usize::try_from(number).ok());
                if let (Some(publisher), Some(number)) = (number("from"), number("n")) {
                    ledger.hears(self.index, publisher, number, now());
                }
            }
            ChannelEvent::Message { .. } => {}
            ChannelEvent::Ended(_) => ledger.ended(self.index, 0, now()),
        }
    }

    async fn say(&self, room: &Channel) {
        let Some(number) = self.ledger.lock().says(self.index, now()) else { return };
        let payload: Value = json!({ "from": self.index, "n": number });
        let sent = timeout(SEND_LIMIT, room.cast(EVENT, payload)).await;
        if !matches!(sent, Ok(Ok(()))) {
            self.ledger.lock().unsaid(self.index, number);
        }
    }
}
