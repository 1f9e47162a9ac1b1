//! The bus between nodes over a real NATS server: shards are mailboxes held by the test.

use std::{
    fs,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::Instant,
};

use node::{
    bus::{
        Bus, BusState, Credentials, Identity,
        fleet::{Figures, Fleet},
    },
    mailbox::{BusSender, Mailbox, ShardHandle, Topic, bus_queue, mailbox},
};
use node_core::{
    broadcast::{Broadcast, Content, NodeTag, Origin},
    bus::Command,
    config::{Bus as BusConfig, ClusterId, Nats, NodeConfig},
    envelope::{Envelope, MAX_GAP},
    route::Registry,
    shard::Mail,
    topic::TopicName,
};

use crate::support::wait::wait;
use crate::support::{nats::NatsServer, port::Port};

struct Node {
    boot_id: u128,
    bus: Option<Bus>,
    state: Arc<BusState>,
    fleet: Arc<Mutex<Fleet>>,
    commands: BusSender,
    shards: Vec<Mailbox>,
    members: Arc<Registry>,
}

impl Node {
    fn start(name: &str, url: &str, credentials: Credentials) -> Self {
        Self::start_in(name, url, credentials, "chat")
    }

    fn start_in(name: &str, url: &str, credentials: Credentials, cluster: &str) -> Self {
        let mut config = NodeConfig::dev();
        config.fixed.cluster = ClusterId { namespace: "test".to_owned(), name: cluster.to_owned() };
        config.fixed.bus = Some(BusConfig::Nats(Nats { urls: vec![url.to_owned()], user: None }));
        let (handles, shards): (Vec<ShardHandle>, _) = (0..2).map(|index| mailbox(index).unwrap()).unzip();
        let (commands, from_shards) = bus_queue();
        let state = Arc::new(BusState::default());
        let fleet = Arc::new(Mutex::new(Fleet::default()));
        let boot_id = rand::random();
        let identity = Identity { node_name: name.to_owned(), boot_id };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let api = tokio::sync::mpsc::channel(1).0;
        let shared = node::bus::Shared {
            state: Arc::clone(&state),
            fleet: Arc::clone(&fleet),
            peers: Arc::default(),
            api,
        };
        let members = Arc::new(Registry::new([1, 2]));
        let all = (handles, Arc::clone(&members));
        let bus = Bus::start(runtime, &config, credentials, identity, from_shards, all, shared).unwrap();
        Node { boot_id, bus, state, fleet, commands, shards, members }
    }

    fn connected(name: &str, url: &str) -> Self {
        let node = Node::start(name, url, Credentials::None);
        wait("the connection", || node.state.connected());
        node
    }

    fn tell(&self, command: Command) {
        self.commands.push(command).expect("room in the queue");
        self.commands.ring();
    }

    fn join(&self, shard: u8, topic: &Topic) {
        drop(self.members.open(TopicName::parse(topic).unwrap(), shard, u32::MAX));
        self.tell(Command::Interest { topic: Arc::clone(topic) });
    }

    fn publish(&self, topic: &Topic, text: &str) {
        self.tell(Command::Publish { topic: Arc::clone(topic), broadcast: said(topic, text, "{}") });
    }

    /// Publishes until the other side hears it, which proves the subscription; then empties the other side's
    /// mailboxes.
    fn meet(&self, other: &Node, topic: &Topic) {
        wait("a first message", || {
            self.publish(topic, "hello?");
            !other.shards.iter().all(Mailbox::is_empty)
        });
        self.publish(topic, "met");
        let mut last = Vec::new();
        wait("the last greeting", || {
            last.extend(other.shards.iter().flat_map(texts));
            last.iter().any(|text| text == "met")
        });
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.bus.take().into_iter().for_each(Bus::stop);
    }
}

fn said(topic: &str, event: &str, json: &str) -> Broadcast {
    Broadcast::pack(&Content::json(topic, event, json)).unwrap()
}

fn heard(shard: &Mailbox) -> impl Iterator<Item = (String, Origin)> {
    std::iter::from_fn(|| shard.pop()).map(|mail| match mail {
        Mail::Remote { broadcast, origin } => (broadcast.unpack().unwrap().event.to_owned(), origin),
        other => panic!("{other:?}"),
    })
}

fn texts(shard: &Mailbox) -> Vec<String> {
    heard(shard).map(|(text, _)| text).collect()
}

#[test]
fn a_publish_reaches_the_shards_with_members_on_other_nodes_in_order_and_nobody_else() {
    let server = NatsServer::start(&Port::reserve(), &[]);
    let (a, b) = (Node::connected("a", &server.url()), Node::connected("b", &server.url()));
    let stranger = Node::start_in("s", &server.url(), Credentials::None, "other");
    let (topic, other): (Topic, Topic) = (Arc::from("room:ä .>*"), Arc::from("room:2"));
    a.join(0, &topic);
    b.join(1, &topic);
    b.join(0, &other);
    stranger.join(0, &topic);
    a.meet(&b, &topic);
    for n in 0..1_000 {
        a.publish(&topic, &n.to_string());
    }
    let mut got = Vec::new();
    wait("1000 messages", || {
        got.extend(heard(&b.shards[1]));
        got.len() >= 1_000
    });
    let (got, origins): (Vec<_>, Vec<_>) = got.into_iter().unzip();
    assert_eq!(got, (0..1_000).map(|n| n.to_string()).collect::<Vec<_>>());
    let from_a =
        |origin: &Origin| matches!(origin, Origin::Node { node, .. } if *node == NodeTag::of(a.boot_id));
    assert!(origins.iter().all(from_a), "{:?}", origins[0]);
    assert!(b.shards[0].is_empty(), "a shard without members got something");
    assert!(a.shards.iter().all(Mailbox::is_empty), "own messages came back");
    assert!(stranger.shards.iter().all(Mailbox::is_empty), "another cluster heard us");
    assert_eq!((b.state.counts.gaps.load(Relaxed), b.state.counts.malformed.load(Relaxed)), (0, 0));
}

#[test]
fn a_member_on_another_shard_hears_at_once_what_is_said_in_a_topic_that_is_subscribed() {
    let server = NatsServer::start(&Port::reserve(), &[]);
    let (a, b) = (Node::connected("a", &server.url()), Node::connected("b", &server.url()));
    let topic: Topic = Arc::from("room:1");
    b.join(0, &topic);
    a.meet(&b, &topic);
    // A shard's command to the bus may take long to arrive: here it never does.
    drop(b.members.open(TopicName::parse(&topic).unwrap(), 1, u32::MAX));
    a.publish(&topic, "both");
    let mut got = Vec::new();
    wait("the message", || {
        got.extend(texts(&b.shards[1]));
        !got.is_empty()
    });
    assert_eq!(got, ["both"]);
}

#[test]
fn a_server_that_comes_back_is_found_again_and_what_was_lost_meanwhile_is_counted() {
    let port = Port::reserve();
    let server = NatsServer::start(&port, &[]);
    let (a, b) = (Node::connected("a", &server.url()), Node::connected("b", &server.url()));
    let (topic, late): (Topic, Topic) = (Arc::from("room:1"), Arc::from("room:late"));
    a.join(0, &topic);
    b.join(0, &topic);
    a.meet(&b, &topic);
    drop(server);
    wait("the loss to be seen", || !a.state.connected() && !b.state.connected());
    assert!(a.state.ever_connected());
    b.join(0, &late);
    for _ in 0..5 {
        a.publish(&topic, "lost");
    }
    wait("5 drops", || a.state.counts.dropped_out.load(Relaxed) == 5);
    let server = NatsServer::start(&port, &[]);
    wait("both to be back", || a.state.connected() && b.state.connected());
    a.join(0, &late);
    a.meet(&b, &late);
    a.meet(&b, &topic);
    assert!(b.state.counts.gaps.load(Relaxed) >= 5, "gaps: {}", b.state.counts.gaps.load(Relaxed));
    drop(server);
}

#[test]
fn what_the_queue_of_the_sender_could_not_take_is_a_gap_for_the_receiver() {
    let server = NatsServer::start(&Port::reserve(), &[]);
    let (a, b) = (Node::connected("a", &server.url()), Node::connected("b", &server.url()));
    let topic: Topic = Arc::from("room:1");
    // A member of the sender's own keeps the numbers of the topic, however long the rest takes.
    a.join(0, &topic);
    b.join(0, &topic);
    a.meet(&b, &topic);
    assert_eq!(b.state.counts.gaps.load(Relaxed), 0);
    a.tell(Command::Skipped { topic: Arc::clone(&topic), count: 5 });
    a.meet(&b, &topic);
    assert_eq!(b.state.counts.gaps.load(Relaxed), 5);
}

#[test]
fn a_password_that_is_corrected_lets_the_node_in() {
    let server = NatsServer::start(&Port::reserve(), &["--user", "channel-node", "--pass", "right"]);
    let dir = std::env::temp_dir().join(format!("channel-node-bus-{:x}", rand::random::<u64>()));
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("nats-password"), "wrong").unwrap();
    let config = BusConfig::Nats(Nats { urls: vec![], user: Some("channel-node".to_owned()) });
    let credentials = Credentials::new(&config, Some(&dir), &dir.join("none"));
    let node = Node::start("n", &server.url(), credentials);
    // A node without credentials is refused as well. Two nodes stay out while a third gets in, which shows that the
    // server decides.
    let anonymous = Node::start("a", &server.url(), Credentials::None);
    fs::write(dir.join("nats-password"), "right\n").unwrap();
    wait("the right password to count", || node.state.connected());
    assert!(!anonymous.state.ever_connected());
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn nodes_hear_each_others_figures_and_survive_nonsense() {
    let server = NatsServer::start(&Port::reserve(), &[]);
    let (a, b) = (Node::connected("a", &server.url()), Node::connected("b", &server.url()));
    let boot_id = "0123456789abcdef".repeat(2);
    let figures = Figures { boot_id, node: "a".to_owned(), connections: 3, ..Figures::default() };
    let from_a = a.bus.as_ref().unwrap().figures();
    wait("the figures", || {
        from_a.try_send(figures.clone()).ok();
        b.fleet.lock().unwrap().sum(Instant::now()).connections == 3
    });
    let topic: Topic = Arc::from("room:1");
    b.join(0, &topic);
    a.meet(&b, &topic);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        for subject in ["cc1.test.chat.t.cm9vbTox", "cc1.test.chat.c.stats"] {
            client.publish(subject, "nonsense".into()).await.unwrap();
        }
        client.flush().await.unwrap();
    });
    wait("the nonsense to be counted", || b.state.counts.malformed.load(Relaxed) == 2);
    a.meet(&b, &topic);
}

/// Anybody who has the password of the bus can write to any subject.
#[test]
fn forged_messages_are_counted_and_given_to_nobody() {
    let server = NatsServer::start(&Port::reserve(), &[]);
    let (a, b) = (Node::connected("a", &server.url()), Node::connected("b", &server.url()));
    let topic: Topic = Arc::from("room:1");
    a.join(0, &topic);
    b.join(0, &topic);
    a.meet(&b, &topic);
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(NodeConfig::dev().limits.max_frame_bytes as usize));
    let forged = [
        said("room:1", "phx_close", "{}"),
        said("room:2", "said", "{}"),
        said("room:1", "said", r#"{"a":"\ud83d"}"#),
        said("room:1", "said", &long),
        said("room:1", "said", "hello"),
        Broadcast { topic_bytes: 200, ..said("room:1", "said", "{}") },
    ];
    let (count, runtime) = (forged.len() as u64, tokio::runtime::Runtime::new().unwrap());
    runtime.block_on(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        let send = |sequence, said: &Broadcast| {
            let packed = said.borrowed();
            let envelope = Envelope { origin: 666, sequence, sent_millis: 0, packed }.encode();
            client.publish("cc1.test.chat.t.cm9vbTox", envelope.into())
        };
        for said in &forged {
            send(u64::MAX, said).await.unwrap();
        }
        send(1, &said("room:1", "first", "{}")).await.unwrap();
        send(u64::MAX, &said("room:1", "second", "{}")).await.unwrap();
        client.flush().await.unwrap();
    });
    let mut got = Vec::new();
    wait("what is no forgery", || {
        got.extend(texts(&b.shards[0]));
        got.len() >= 2
    });
    assert_eq!(got, ["first", "second"]);
    assert_eq!((b.state.counts.malformed.load(Relaxed), b.state.counts.gaps.load(Relaxed)), (count, MAX_GAP));
}
