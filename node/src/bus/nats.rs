//! The NATS client: one connection, one subscription per topic with members here.
//!
//! Without a connection messages for other nodes are dropped, not kept: they are counted, their sequence numbers are
//! used up (so that receivers see the gap), and local members are served as ever. Kept messages would arrive minutes late
//! and in one burst. The client itself reconnects for ever and subscribes again.

use std::{
    fmt::Write,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use async_nats::{Auth, AuthError, Client, ConnectOptions, Event, Message, Subscriber, connection::State};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use node_core::{
    config::{ClusterId, Nats},
    envelope::{Envelope, Gaps},
    route::Registry,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    BusState, Credentials,
    fleet::{Figures, Fleet},
    inbound::Inbound,
    topics::Topics,
};
use crate::mailbox::{BusCommand, BusReceiver, Topic};

/// Commands that wait in the client for its connection, each a message or a subscription. The client counts no bytes: with
/// the default limit of a frame this is 64 MiB.
const CLIENT_QUEUE: usize = 1_024;
/// Messages of one topic that wait for this node. More are dropped by the client, which the sequence numbers show.
const TOPIC_QUEUE: usize = 8_192;
/// How long a full client queue is waited for. Longer means that NATS does not take our bytes.
const STALL: Duration = Duration::from_secs(1);
/// A silent server is noticed after two of these.
const PING: Duration = Duration::from_secs(10);
/// Longest pause between attempts to connect; each is random up to its bound, so that a fleet does not come back at once.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// Least time between two log lines about the same outage.
const COMPLAINT: Duration = Duration::from_secs(10);
/// A connection that ends before this counts as a failed attempt: a server that takes the login and then hangs up is not
/// asked without pause.
const SHORT_LIVED: Duration = Duration::from_secs(10);
/// Commands of shards, and messages of a topic, handled before others get their turn.
const BATCH: usize = 256;
/// How often left topics are looked at and missed subscriptions tried again.
const TICK: Duration = Duration::from_secs(1);

/// What the client needs.
pub(super) struct Link {
    pub(super) cluster: ClusterId,
    pub(super) nats: Nats,
    pub(super) credentials: Credentials,
    pub(super) node_name: String,
    pub(super) boot_id: u128,
    pub(super) shards: Inbound,
    pub(super) members: Arc<Registry>,
    pub(super) state: Arc<BusState>,
    pub(super) fleet: Arc<Mutex<Fleet>>,
}

/// A subscription is the task that reads it; it ends with its owner.
#[derive(Debug)]
struct Reading(JoinHandle<()>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Subject of a topic.
fn topic_subject(cluster: &ClusterId, topic: &str) -> String {
    let mut subject = format!("cc1.{}.{}.t.", cluster.namespace, cluster.name);
    URL_SAFE_NO_PAD.encode_string(topic, &mut subject);
    subject
}

/// Subject of the nodes' own figures.
fn figures_subject(cluster: &ClusterId) -> String {
    format!("cc1.{}.{}.c.stats", cluster.namespace, cluster.name)
}

/// Runs until `stop`, then hands over what is queued and returns.
///
/// # Errors
/// When an address cannot be read.
pub(super) async fn run(
    link: Link,
    commands: BusReceiver,
    mut figures: mpsc::Receiver<Figures>,
    mut stop: oneshot::Receiver<()>,
) -> io::Result<()> {
    let client = connect(&link).await.map_err(io::Error::other)?;
    let mut run = Run {
        topics: Topics::default(),
        behind: false,
        stalled: false,
        control: None,
        subject: figures_subject(&link.cluster),
        link: Arc::new(link),
        client,
    };
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            command = commands.recv() => run.batch(command, &commands).await,
            Some(figures) = figures.recv() => run.tell(&figures).await,
            _ = tick.tick() => run.tick().await,
            _ = &mut stop => break,
        }
    }
    while let Some(command) = commands.try_recv() {
        run.handle(command).await;
    }
    if run.connected() && timeout(STALL, run.client.flush()).await.is_err() {
        tracing::warn!("the bus did not take the last messages in time");
    }
    Ok(())
}

async fn connect(link: &Link) -> Result<Client, async_nats::ConnectError> {
    let credentials = link.credentials.clone();
    let state = Arc::clone(&link.state);
    let trouble = Arc::new(Mutex::new(Trouble::default()));
    let history = Arc::clone(&trouble);
    let options = match &link.credentials {
        Credentials::None => ConnectOptions::new(),
        _ => ConnectOptions::with_auth_callback(move |_| std::future::ready(auth(&credentials))),
    };
    options
        .name(&link.node_name)
        .no_echo()
        .retry_on_initial_connect()
        .ping_interval(PING)
        .client_capacity(CLIENT_QUEUE)
        .subscription_capacity(TOPIC_QUEUE)
        .reconnect_delay_callback(move |attempt| pause(attempt + lock(&history).short_lived))
        .event_callback(move |event| {
            note(&state, &mut lock(&trouble), &event, Instant::now());
            std::future::ready(())
        })
        .connect(link.nats.urls.clone())
        .await
}

/// Read at each attempt, so that a rotated password counts.
fn auth(credentials: &Credentials) -> Result<Auth, AuthError> {
    let (username, password) = credentials.read().map_err(|error| {
        tracing::error!(%error, "the bus cannot log in");
        AuthError::new(error)
    })?;
    let mut auth = Auth::new();
    auth.username = Some(username);
    auth.password = Some(password);
    Ok(auth)
}

/// Full jitter below a bound that doubles from 50 ms.
fn pause(attempt: usize) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(10);
    let bound = MAX_PAUSE.min(Duration::from_millis(50) * 2u32.pow(doublings));
    if attempt <= 1 { Duration::ZERO } else { bound.mul_f64(rand::random::<f64>()) }
}

/// What went wrong lately.
#[derive(Debug, Default)]
struct Trouble {
    connected: Option<Instant>,
    /// Connections in a row that did not last.
    short_lived: usize,
    told: Option<Instant>,
}

impl Trouble {
    fn lost(&mut self, now: Instant) {
        let lasted = self.connected.take().map(|at| now.saturating_duration_since(at));
        match lasted {
            Some(lasted) if lasted < SHORT_LIVED => self.short_lived += 1,
            Some(_) => self.short_lived = 0,
            None => {}
        }
    }

    /// What repeats is told once per [`COMPLAINT`].
    fn is_worth_telling(&mut self, now: Instant) -> bool {
        let worth = self.told.is_none_or(|at| now.saturating_duration_since(at) >= COMPLAINT);
        if worth {
            self.told = Some(now);
        }
        worth
    }
}

fn lock(trouble: &Mutex<Trouble>) -> MutexGuard<'_, Trouble> {
    trouble.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the state and tells changes.
fn note(state: &BusState, trouble: &mut Trouble, event: &Event, now: Instant) {
    match event {
        Event::Connected => {
            state.set_connected(true);
            trouble.connected = Some(now);
            if trouble.short_lived == 0 {
                tracing::info!("the bus is connected");
            }
        }
        Event::Disconnected | Event::Closed => {
            state.set_connected(false);
            trouble.lost(now);
            if trouble.short_lived <= 1 || trouble.is_worth_telling(now) {
                tracing::warn!(
                    "the bus is lost; local members are served on, and it is tried again for ever"
                );
            }
        }
        event if trouble.is_worth_telling(now) => tracing::warn!(%event, "the bus has trouble"),
        _ => {}
    }
}

struct Run {
    link: Arc<Link>,
    client: Client,
    topics: Topics<Reading>,
    /// Subscriptions are missing and wait for the next tick.
    behind: bool,
    /// The client's queue was full for so long that it is not waited for until it takes something.
    stalled: bool,
    control: Option<Reading>,
    subject: String,
}

impl Run {
    async fn batch(&mut self, first: BusCommand, commands: &BusReceiver) {
        self.handle(first).await;
        for _ in 1..BATCH {
            match commands.try_recv() {
                Some(command) => self.handle(command).await,
                None => break,
            }
        }
        self.link.state.topics.store(self.topics.len() as u64, Relaxed);
        // One thread runs this and the connection: let it write.
        tokio::task::yield_now().await;
    }

    async fn handle(&mut self, command: BusCommand) {
        match command {
            BusCommand::Join { shard, topic } if !topic.starts_with('$') => {
                self.topics.join(&topic, shard);
                if self.topics.is_unsubscribed(&topic) {
                    self.subscribe(topic).await;
                }
            }
            BusCommand::Leave { shard, topic } => self.topics.leave(&topic, shard, Instant::now()),
            BusCommand::Publish { topic, frame } if !topic.starts_with('$') => {
                self.publish(&topic, &frame).await;
            }
            BusCommand::Skipped { topic, count } if !topic.starts_with('$') => {
                self.topics.skip(&topic, count, Instant::now());
            }
            // Reserved topics are this node's own.
            BusCommand::Join { .. } | BusCommand::Publish { .. } | BusCommand::Skipped { .. } => {}
        }
    }

    async fn publish(&mut self, topic: &Topic, frame: &[u8]) {
        let sequence = self.topics.next_sequence(topic, Instant::now());
        let bytes = Envelope { origin: self.link.boot_id, sequence, frame }.encode();
        let subject = topic_subject(&self.link.cluster, topic);
        let client = self.client.clone();
        let sent = self.connected() && self.within(client.publish(subject, bytes.into())).await.is_some();
        let counter = if sent { &self.link.state.published } else { &self.link.state.dropped_out };
        counter.fetch_add(1, Relaxed);
    }

    /// Without a connection nothing is queued in the client: the tick after the reconnect catches up.
    async fn subscribe(&mut self, topic: Topic) {
        let client = self.client.clone();
        let subject = topic_subject(&self.link.cluster, &topic);
        let subscribed = match self.connected() {
            true => self.within(client.subscribe(subject)).await,
            false => None,
        };
        match subscribed {
            Some(subscriber) => {
                let reading = tokio::spawn(read(subscriber, Arc::clone(&topic), Arc::clone(&self.link)));
                self.topics.subscribed(&topic, Reading(reading));
            }
            None => self.behind = true,
        }
    }

    async fn tick(&mut self) {
        self.topics.expire(Instant::now());
        self.link.state.topics.store(self.topics.len() as u64, Relaxed);
        if !self.connected() {
            return;
        }
        if self.control.is_none() {
            let client = self.client.clone();
            if let Some(subscriber) = self.within(client.subscribe(self.subject.clone())).await {
                self.control = Some(Reading(tokio::spawn(hear(subscriber, Arc::clone(&self.link)))));
            }
        }
        if std::mem::take(&mut self.behind) {
            for topic in self.topics.missing() {
                self.subscribe(topic).await;
            }
        }
    }

    async fn tell(&mut self, figures: &Figures) {
        let Ok(json) = serde_json::to_vec(figures) else { return };
        let client = self.client.clone();
        if self.connected() {
            // The next second brings new figures.
            self.within(client.publish(self.subject.clone(), json.into())).await;
        }
    }

    fn connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Waits for the client's queue, but not while it is known to be stuck.
    async fn within<T, E>(&mut self, order: impl Future<Output = Result<T, E>>) -> Option<T> {
        let patience = if self.stalled { Duration::ZERO } else { STALL };
        let done = timeout(patience, order).await;
        self.stalled = done.is_err();
        done.ok()?.ok()
    }
}

/// Hands the messages of one topic to the shards that have members of it. These are known from the registry, where a
/// member is before its join is answered; what shards tell the bus may be on its way for long.
async fn read(subscriber: Subscriber, topic: Topic, link: Arc<Link>) {
    let mut gaps = Gaps::default();
    let mut batches = subscriber.ready_chunks(BATCH);
    while let Some(batch) = batches.next().await {
        let wanted = link.members.shards(&topic);
        for message in &batch {
            if let Some(frame) = open(message, &mut gaps, &link) {
                link.shards.deliver(&topic, &frame, wanted, &link.state).await;
            }
        }
        link.shards.ring(wanted);
        tokio::task::yield_now().await;
    }
}

/// The frame of a message from another node. It is copied: a slice would keep the connection's whole read buffer alive
/// for as long as one slow client has the frame queued.
fn open(message: &Message, gaps: &mut Gaps, link: &Link) -> Option<Bytes> {
    match Envelope::decode(&message.payload) {
        Ok(envelope) if envelope.origin == link.boot_id => None,
        Ok(envelope) => {
            link.state.received.fetch_add(1, Relaxed);
            link.state.gaps.fetch_add(gaps.note(envelope.origin, envelope.sequence), Relaxed);
            Some(Bytes::copy_from_slice(envelope.frame))
        }
        Err(error) => {
            link.state.malformed.fetch_add(1, Relaxed);
            tracing::debug!(%error, "a message on the bus cannot be read");
            None
        }
    }
}

/// Takes the figures of the other nodes.
async fn hear(mut messages: impl Stream<Item = Message> + Unpin, link: Arc<Link>) {
    let mut own = String::new();
    // Writing to a string does not fail.
    write!(own, "{:032x}", link.boot_id).ok();
    while let Some(message) = messages.next().await {
        match serde_json::from_slice::<Figures>(&message.payload) {
            Ok(figures) if figures.boot_id == own => {}
            Ok(figures) => {
                let mut fleet = link.fleet.lock().unwrap_or_else(PoisonError::into_inner);
                fleet.observe(figures, Instant::now());
            }
            Err(_) => {
                link.state.malformed.fetch_add(1, Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_single_tokens_whatever_the_topic() {
        let cluster = ClusterId { namespace: "ns".to_owned(), name: "chat".to_owned() };
        assert_eq!(topic_subject(&cluster, "room:lobby"), "cc1.ns.chat.t.cm9vbTpsb2JieQ");
        for topic in ["a.b.*.>", "\u{0}\r\n ", &"x".repeat(255)] {
            let subject = topic_subject(&cluster, topic);
            let token = subject.strip_prefix("cc1.ns.chat.t.").expect("the prefix");
            assert!(token.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'), "{subject}");
        }
        assert_eq!(figures_subject(&cluster), "cc1.ns.chat.c.stats");
    }

    #[test]
    fn pauses_stay_below_their_bound_and_the_first_attempt_is_at_once() {
        assert_eq!(pause(1), Duration::ZERO);
        for attempt in 2..100 {
            assert!(pause(attempt) <= MAX_PAUSE);
        }
        assert!(pause(usize::MAX) <= MAX_PAUSE);
    }

    #[test]
    fn a_server_that_hangs_up_after_the_login_is_asked_ever_less_often_and_told_rarely() {
        let state = BusState::default();
        let mut trouble = Trouble::default();
        let start = Instant::now();
        for _ in 0..5 {
            note(&state, &mut trouble, &Event::Connected, start);
            note(&state, &mut trouble, &Event::Disconnected, start);
        }
        assert_eq!((trouble.short_lived, state.connects.load(Relaxed)), (5, 5));
        let told = trouble.told;
        note(&state, &mut trouble, &Event::Connected, start);
        note(&state, &mut trouble, &Event::Disconnected, start + SHORT_LIVED / 2);
        assert_eq!((trouble.short_lived, trouble.told), (6, told));
        note(&state, &mut trouble, &Event::Connected, start);
        note(&state, &mut trouble, &Event::Disconnected, start + SHORT_LIVED);
        assert_eq!(trouble.short_lived, 0, "one that lasts is forgiven");
    }
}
