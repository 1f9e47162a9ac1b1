//! The NATS client: one connection, one subscription per topic with members here.
//!
//! Without a connection messages for other nodes are dropped, not kept. They are counted, their sequence numbers are
//! used up (so that receivers see the gap), and local members are served as ever. If messages were kept, they would
//! arrive minutes late and in one burst. The client itself reconnects for ever and subscribes again.

use std::{
    collections::HashSet,
    fmt::Write,
    io,
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use async_nats::{Client, Message, Request, RequestErrorKind, Subscriber, connection::State};
use futures::{Stream, StreamExt};
use node_core::{
    broadcast::{Broadcast, NodeTag, Origin},
    bus::{Command, Letter, topics::Topics},
    envelope::{Envelope, EnvelopeError, Gaps},
    limits::BUS_LATE_MILLIS,
    longpoll::{Ask, Carried, What, parcel::parcels},
    protocol::foreign,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{carry, connect, fleet::Figures, link::Link, post, subjects};
use crate::mailbox::{BusReceiver, Topic};

/// How long to wait for room in the client's queue. When it takes longer, NATS does not take our bytes.
const STALL: Duration = Duration::from_secs(1);
/// Least time between two log lines about messages that were too old.
const COMPLAINT: Duration = Duration::from_secs(10);
/// How long to wait for the answer to a ping. The next ping follows at once, so a connection that was made anew is
/// soon asked.
const PING_PATIENCE: Duration = Duration::from_secs(1);
/// Most commands of shards, and most messages of a topic, that are handled before others get their turn.
const BATCH: usize = 256;
/// How often topics without members are looked at, failed subscriptions tried again and the bus asked for a sign of
/// life.
const TICK: Duration = Duration::from_secs(1);

/// After so many ticks with a bus that works a node has heard of each other one, which speaks once a second.
const STEADY_TICKS: u32 = 3;

/// A subscription: the task that reads it, which ends when this is dropped.
#[derive(Debug)]
struct Reading(JoinHandle<()>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs until `stop`, then hands over the queued messages and returns.
///
/// # Errors
/// When an address cannot be read.
pub(super) async fn run(
    link: Link,
    commands: BusReceiver,
    mut figures: mpsc::Receiver<Figures>,
    mut stop: oneshot::Receiver<()>,
) -> io::Result<()> {
    let client = connect::connect(&link).await.map_err(io::Error::other)?;
    let mut run = Run {
        topics: Topics::new(link.lingering),
        behind: false,
        stalled: false,
        control: None,
        carried: None,
        questions: None,
        steady_ticks: 0,
        subject: subjects::figures(&link.cluster),
        ping: None,
        bytes: 0,
        expired: (0, None),
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
    run.settle().await;
    Ok(())
}

/// Asks NATS for a sign of life. Returns whether one came. Nobody listens on that subject, so NATS itself answers.
async fn ping(client: Client, link: Arc<Link>) -> bool {
    let asked = Instant::now();
    // The inbox is one of its own, so its subscription ends with the question, also when no answer ever comes.
    let inbox = subjects::inbox(&link.cluster, link.boot_id);
    let request = Request::new().inbox(inbox).timeout(Some(PING_PATIENCE));
    let answered = match client.send_request(subjects::ping(&link.cluster), request).await {
        Ok(_) => true,
        Err(error) => error.kind() == RequestErrorKind::NoResponders,
    };
    if answered {
        link.state.heard(Some(asked.elapsed()));
    }
    answered
}

struct Run {
    link: Arc<Link>,
    client: Client,
    topics: Topics<Reading>,
    /// Whether subscriptions are missing and wait for the next tick.
    behind: bool,
    /// Whether the client's queue was full for so long that nothing waits for it until it takes something again.
    stalled: bool,
    control: Option<Reading>,
    /// Long-poll requests and answers of other nodes.
    carried: Option<Reading>,
    /// Questions of the server API for all nodes.
    questions: Option<Reading>,
    /// How many ticks the bus has worked without a break.
    steady_ticks: u32,
    subject: String,
    /// A ping under way.
    ping: Option<JoinHandle<bool>>,
    /// Bytes from the server so far.
    bytes: u64,
    /// Messages that were too old, as of the last log line about them, and when that was.
    expired: (u64, Option<Instant>),
}

impl Run {
    async fn batch(&mut self, first: Command, commands: &BusReceiver) {
        self.handle(first).await;
        for _ in 1..BATCH {
            match commands.try_recv() {
                Some(command) => self.handle(command).await,
                None => break,
            }
        }
        self.link.state.counts.topics.store(self.topics.len() as u64, Relaxed);
        // One thread runs this and the connection, so this yields to let the connection write.
        tokio::task::yield_now().await;
    }

    async fn handle(&mut self, command: Command) {
        match command {
            Command::Interest { topic } => {
                let wanted = !self.link.members.shards(&topic).is_empty();
                if self.topics.note(&topic, wanted, self.link.state.clock_millis()) {
                    self.subscribe(topic).await;
                }
            }
            Command::Publish { topic, broadcast } => self.publish(&topic, &broadcast).await,
            Command::Carry(carried) => self.carry(*carried).await,
            Command::Post(letter) => self.post(*letter).await,
            Command::Skipped { topic, count } => {
                self.topics.skip(&topic, count, self.link.state.clock_millis());
            }
        }
    }

    async fn publish(&mut self, topic: &Topic, broadcast: &Broadcast) {
        let sequence = self.topics.next_sequence(topic, self.link.state.clock_millis());
        let (origin, sent_millis) = (self.link.boot_id, self.link.state.clock_millis());
        let bytes = Envelope { origin, sequence, sent_millis, packed: broadcast.borrowed() }.encode();
        let subject = subjects::topic(&self.link.cluster, topic);
        let client = self.client.clone();
        let sent = self.connected() && self.within(client.publish(subject, bytes.into())).await.is_ok();
        let counter =
            if sent { &self.link.state.counts.published } else { &self.link.state.counts.dropped_out };
        counter.fetch_add(1, Relaxed);
    }

    /// Sends something to another node, in parts where it is long.
    async fn carry(&mut self, carried: Carried) {
        let link = Arc::clone(&self.link);
        let Some(node) = carried.to() else { return };
        let subject = subjects::carried(&link.cluster, node);
        let mut reply = match &carried {
            Carried::Ask(Ask { from, what: What::Poll | What::Post(_), .. }) => {
                Some(subjects::nobody(&link.cluster, NodeTag::of(link.boot_id), from))
            }
            Carried::Ask(_) | Carried::Answer(_) => None,
        };
        let from = (link.boot_id, link.state.clock_millis());
        let most = link.state.max_frame_bytes().min(carry::PART_BYTES);
        let mut is_sent = true;
        for bytes in parcels(&carried, from, most) {
            // A bus from which nothing is heard would bring it too late.
            is_sent = self.connected() && link.state.connected() && {
                let (client, subject, reply) = (self.client.clone(), subject.clone(), reply.take());
                let publish = async move {
                    match reply {
                        Some(reply) => client.publish_with_reply(subject, reply, bytes.into()).await,
                        None => client.publish(subject, bytes.into()).await,
                    }
                };
                self.within(publish).await.is_ok()
            };
            if !is_sent {
                break;
            }
        }
        if !is_sent {
            carry::give_back(carried, &link).await;
        }
    }

    /// Sends a question or an answer of the server API. One that cannot be sent is dropped: who asks waits for a bounded time.
    async fn post(&mut self, letter: Letter) {
        let (client, subject) = (self.client.clone(), post::subject(&letter, &self.link));
        let is_sent = post::fits(&letter)
            && self.connected()
            && self.within(client.publish(subject, letter.bytes.into())).await.is_ok();
        if !is_sent {
            tracing::debug!("a message of the server API was not sent to other nodes");
        }
    }

    /// Without a connection nothing is queued in the client: the tick after the reconnect subscribes to what is
    /// missing.
    async fn subscribe(&mut self, topic: Topic) {
        let client = self.client.clone();
        let subject = subjects::topic(&self.link.cluster, &topic);
        if !self.connected() {
            self.behind = true;
            return;
        }
        match self.within(client.subscribe(subject)).await {
            Ok(subscriber) => {
                let reading = tokio::spawn(read(subscriber, Arc::clone(&topic), Arc::clone(&self.link)));
                self.topics.subscribed(&topic, Reading(reading));
                return;
            }
            Err(Missed::Refused(_) | Missed::Late) => self.behind = true,
        }
        self.link.state.counts.subscribe_failures.fetch_add(1, Relaxed);
    }

    async fn tick(&mut self) {
        self.topics.expire(self.link.state.clock_millis());
        self.link.state.counts.topics.store(self.topics.len() as u64, Relaxed);
        self.tell_expired();
        self.tell_peers();
        if !self.connected() {
            return;
        }
        self.listen_for_life();
        if self.control.is_none() {
            let client = self.client.clone();
            if let Ok(subscriber) = self.within(client.subscribe(self.subject.clone())).await {
                self.control = Some(Reading(tokio::spawn(hear(subscriber, Arc::clone(&self.link)))));
            }
        }
        if self.carried.is_none() {
            let client = self.client.clone();
            let subject = subjects::all_of_node(&self.link.cluster, NodeTag::of(self.link.boot_id));
            if let Ok(subscriber) = self.within(client.subscribe(subject)).await {
                let hearing = tokio::spawn(carry::hear(subscriber, Arc::clone(&self.link)));
                self.carried = Some(Reading(hearing));
            }
        }
        if self.questions.is_none() {
            let (client, subject) = (self.client.clone(), subjects::questions(&self.link.cluster));
            if let Ok(subscriber) = self.within(client.subscribe(subject)).await {
                self.questions = Some(Reading(tokio::spawn(post::hear(subscriber, Arc::clone(&self.link)))));
            }
        }
        if std::mem::take(&mut self.behind) {
            for topic in self.topics.missing() {
                self.subscribe(topic).await;
            }
        }
    }

    /// Tells the shards which nodes there are, once the bus has worked for so long that each must have been heard.
    fn tell_peers(&mut self) {
        let is_steady = self.link.state.connected();
        self.steady_ticks = if is_steady { self.steady_ticks.saturating_add(1) } else { 0 };
        let nodes = (self.steady_ticks >= STEADY_TICKS).then(|| {
            let fleet = self.link.fleet.lock().unwrap_or_else(PoisonError::into_inner);
            fleet.tags(Instant::now())
        });
        let count = nodes.as_ref().map_or(0, HashSet::len);
        self.link.state.counts.nodes.store(count as u64, Relaxed);
        self.link.peers.set(nodes);
    }

    async fn tell(&mut self, figures: &Figures) {
        let Ok(json) = serde_json::to_vec(figures) else { return };
        let client = self.client.clone();
        if self.connected() {
            // A failure is no matter: the next second brings new figures.
            self.within(client.publish(self.subject.clone(), json.into())).await.ok();
        }
    }

    /// Counts anything that comes from the server as a sign of life, and asks the server so that something comes.
    fn listen_for_life(&mut self) {
        let bytes = self.client.statistics().in_bytes.load(Relaxed);
        if bytes != self.bytes {
            self.bytes = bytes;
            self.link.state.heard(None);
        }
        if self.ping.as_ref().is_none_or(JoinHandle::is_finished) {
            self.ping = Some(tokio::spawn(ping(self.client.clone(), Arc::clone(&self.link))));
        }
    }

    fn tell_expired(&mut self) {
        let (told, at) = self.expired;
        let expired = self.link.state.counts.expired.load(Relaxed);
        if expired > told && at.is_none_or(|at| at.elapsed() >= COMPLAINT) {
            self.expired = (expired, Some(Instant::now()));
            tracing::warn!(
                messages = expired - told,
                "messages of other nodes came too late and were dropped"
            );
        }
    }

    /// Waits, within bounds, until NATS has all messages that it was given. Messages that are only in the socket's
    /// buffer might be lost with it.
    async fn settle(&mut self) {
        if !self.connected() {
            return;
        }
        let taken = timeout(STALL, self.client.flush()).await.is_ok_and(|flushed| flushed.is_ok());
        // NATS handles what one client sends in order: when it answers, it has handled everything that was sent
        // before.
        if !taken || !ping(self.client.clone(), Arc::clone(&self.link)).await {
            tracing::warn!("the bus did not take the last messages in time");
        }
    }

    fn connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Waits for the client's queue, but not while the queue is known to be stuck.
    async fn within<T, E>(&mut self, order: impl Future<Output = Result<T, E>>) -> Result<T, Missed<E>> {
        let patience = if self.stalled { Duration::ZERO } else { STALL };
        let done = timeout(patience, order).await;
        self.stalled = done.is_err();
        done.map_err(|_| Missed::Late)?.map_err(Missed::Refused)
    }
}

/// Why the client did not take a command.
#[derive(Debug)]
enum Missed<E> {
    /// Its queue stayed full.
    Late,
    /// The client refused.
    Refused(E),
}

/// Hands the messages of one topic to the shards that have members of it. The registry tells which shards these are:
/// a member is there before its join is answered, whereas a shard's command to the bus may take long to arrive.
async fn read(subscriber: Subscriber, topic: Topic, link: Arc<Link>) {
    let mut gaps = Gaps::default();
    let mut batches = subscriber.ready_chunks(BATCH);
    while let Some(batch) = batches.next().await {
        let wanted = link.members.shards(&topic);
        let now = link.started.elapsed().as_secs();
        for message in &batch {
            if let Some((broadcast, origin)) = open(&message.payload, (&topic, now), &mut gaps, &link) {
                link.shards.deliver(&broadcast, origin, wanted, &link.state).await;
            }
        }
        link.shards.ring(wanted);
        tokio::task::yield_now().await;
    }
}

/// Another node's message, which node that is and whether the message is late; none when members may not be given it or
/// it is too old to be of use. It is copied: a slice would keep the connection's whole read buffer alive for as long as
/// one slow client has it queued.
fn open(
    payload: &[u8],
    (topic, now): (&str, u64),
    gaps: &mut Gaps,
    link: &Link,
) -> Option<(Broadcast, Origin)> {
    let state = &link.state;
    let malformed = |error: &dyn std::fmt::Display| {
        state.counts.malformed.fetch_add(1, Relaxed);
        tracing::debug!(%error, "a message on the bus is given to nobody");
    };
    let envelope = match Envelope::decode(payload) {
        Ok(envelope) => envelope,
        Err(error) => {
            match error {
                // Newer nodes may send other kinds of messages; these leave no gap among the broadcasts.
                EnvelopeError::Kind { origin, sequence, .. } => {
                    state.counts.gaps.fetch_add(gaps.note(origin, sequence, now), Relaxed);
                }
                EnvelopeError::Version(version) => link.tell_version(version),
                EnvelopeError::Short(_) | EnvelopeError::Header(_) => {}
            }
            malformed(&error);
            return None;
        }
    };
    if envelope.origin == link.boot_id {
        return None;
    }
    // This comes before the sequence number is taken into account.
    foreign::check(&envelope.packed, topic, state.max_frame_bytes())
        .map_err(|error| malformed(&error))
        .ok()?;
    state.counts.received.fetch_add(1, Relaxed);
    state.counts.gaps.fetch_add(gaps.note(envelope.origin, envelope.sequence, now), Relaxed);
    let age = link.age(envelope.origin, envelope.sent_millis);
    let late = age > BUS_LATE_MILLIS;
    state.counts.late.fetch_add(late.into(), Relaxed);
    if age > state.most_millis.load(Relaxed) {
        state.counts.expired.fetch_add(1, Relaxed);
        state.counts.gaps.fetch_add(1, Relaxed);
        return None;
    }
    Some((envelope.packed.copied(), Origin::Node { node: NodeTag::of(envelope.origin), late }))
}

/// Takes the figures of the other nodes.
async fn hear(mut messages: impl Stream<Item = Message> + Unpin, link: Arc<Link>) {
    let mut own = String::new();
    // Writing to a string does not fail.
    write!(own, "{:032x}", link.boot_id).ok();
    while let Some(message) = messages.next().await {
        let taken = match Figures::read(&message.payload) {
            Some(figures) if figures.boot_id == own => true,
            Some(figures) => {
                // Figures come each second, so that even the first message of a node that speaks rarely can be
                // compared with something.
                if let (Ok(origin), Some(sent)) =
                    (u128::from_str_radix(&figures.boot_id, 16), figures.sent_millis)
                {
                    link.age(origin, sent);
                }
                let mut fleet = link.fleet.lock().unwrap_or_else(PoisonError::into_inner);
                fleet.observe(figures, Instant::now())
            }
            None => false,
        };
        link.state.counts.malformed.fetch_add(u64::from(!taken), Relaxed);
    }
}
