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

use anyhow::{Context, Result};
use cluster::Instance;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::{ledger::Ledger, now};
use crate::client::{Channel, ChannelEvent, Socket, SocketEvent};

/// Pause after a first connection or join that failed.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a message may wait for the connection. Longer, and it counts as not sent.
const SEND_LIMIT: Duration = Duration::from_secs(5);
/// The one event of the soak.
const EVENT: &str = "say";

/// The ledger, shared by the clients and who breaks the fleet.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Ledger>>);

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Running clients; they end with the value.
pub(super) struct Clients {
    pub(super) ledger: Shared,
    /// Whether they say anything.
    talking: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Clients {
    /// Starts the ledger's clients against `url`, the socket mount with `/websocket`; each says something once a `period`.
    pub(super) fn start(instance: &Instance, url: &str, ledger: Ledger, period: Duration) -> Result<Self> {
        let count = ledger.clients();
        let ledger = Shared(Arc::new(Mutex::new(ledger)));
        let (talking, over) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let path = instance.client_netns_path();
        let namespace = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let (shared, talk, end, url) =
            (ledger.clone(), Arc::clone(&talking), Arc::clone(&over), url.to_owned());
        let thread = std::thread::spawn(move || {
            // Only this thread moves, and all sockets are made on it.
            rustix::thread::move_into_link_name_space(namespace.as_fd(), None)
                .context("cannot enter the client namespace")?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                for index in 0..count {
                    tokio::spawn(client(index, url.clone(), shared.clone(), Arc::clone(&talk), period));
                    sleep(period / u32::try_from(count).unwrap_or(u32::MAX)).await;
                }
                while !end.load(Ordering::Relaxed) {
                    sleep(Duration::from_millis(100)).await;
                }
            });
            Ok(())
        });
        Ok(Self { ledger, talking, over, thread: Some(thread) })
    }

    /// Clients in their room.
    pub(super) fn there(&self) -> usize {
        let ledger = self.ledger.lock();
        (0..ledger.clients()).filter(|client| ledger.is_there(*client)).count()
    }

    /// Nobody says anything any more; all stay and listen.
    pub(super) fn hush(&self) {
        self.talking.store(false, Ordering::Relaxed);
    }

    /// Ends the clients.
    pub(super) fn stop(mut self) -> Result<()> {
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

async fn client(index: usize, url: String, ledger: Shared, talking: Arc<AtomicBool>, period: Duration) {
    let mut socket = loop {
        match Socket::connect(&url).await {
            Ok(socket) => break socket,
            Err(_) => sleep(AGAIN).await,
        }
    };
    let mut me = Me { index, node: None, connected: true, ledger };
    // The reserved topic tells the node at each join. Both are joined again by themselves with each connection.
    let mut cluster = joined(&socket, "$cluster").await;
    let topic = format!("room:soak-{}", me.ledger.lock().room(index));
    let mut room = joined(&socket, &topic).await;
    let mut turn = interval(period);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // What happened to the connection is known before what happened on it.
            biased;
            event = socket.next() => match event {
                Some(event) => me.on_socket(&event),
                None => return,
            },
            event = cluster.next() => match event {
                Some(event) => me.on_cluster(&event),
                None => return,
            },
            _ = turn.tick(), if talking.load(Ordering::Relaxed) => me.say(&room).await,
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
