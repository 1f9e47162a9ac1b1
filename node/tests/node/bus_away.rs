//! Whole nodes and a real NATS server that stands still, goes away, comes back elsewhere or also serves others.

use crate::pages;
use std::{fs, path::PathBuf, time::Duration};

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::process::{Process, command};
use crate::support::publisher::publish;
use crate::support::relay::relay;
use crate::support::wait::{HANG, wait};
use crate::support::{nats::NatsServer, port::Port};

/// The mounted files of a fleet's nodes; removed when dropped.
struct Mounts(PathBuf);

impl Mounts {
    fn new(port: u16, fleet: &str, more: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("channel-node-away-{:x}", rand::random::<u64>()));
        fs::create_dir(&dir).unwrap();
        let config = format!(
            "cluster: {{namespace: default, name: {fleet}}}\nauth: {{anonymous: true}}\nchatPage: true\nbus:\n  nats:\n    \
             urls: [\"nats://127.0.0.1:{port}\"]\ndrain: {{delayMillis: 0}}\n{more}\n"
        );
        fs::write(dir.join("node.yaml"), config).unwrap();
        fs::write(dir.join("admin-token"), "token").unwrap();
        Mounts(dir)
    }

    fn node(&self, name: &str) -> Process {
        let mut command = command();
        command.args(["--shards", "2", "--node-name", name]);
        command.arg("--secrets").arg(&self.0).arg("--config").arg(self.0.join("node.yaml"));
        command.arg("--nats-credentials").arg(self.0.join("nats"));
        let node = Process::start(command);
        wait("the node to be ready", || node.ready() == 200);
        node
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn stats(node: &Process) -> Value {
    let (status, body) = node.ask("GET", "/v1/stats", Some("token"), "");
    assert_eq!(status, 200);
    serde_json::from_str(&body).unwrap()
}

fn counter(node: &Process, name: &str) -> u64 {
    stats(node)["counters"][name].as_u64().unwrap()
}

fn say(client: &mut Client, text: &str) {
    client.send(&json!(["1", null, "room:1", "message", {"text": text}]));
}

fn hear(client: &mut Client, text: &str) {
    client.until(|message| message[3] == "message" && message[4]["text"] == text);
}

/// Says something on one node until another has it: from then on the way is open.
fn open_way(from: &mut Client, node: &Process, to: &mut Client) {
    let before = counter(node, "busReceived");
    wait("a message from the other node", || {
        say(from, "there?");
        counter(node, "busReceived") > before
    });
    say(from, "open");
    hear(to, "open");
}

fn freeze(bus: &NatsServer, frozen: bool) {
    let signal = if frozen { rustix::process::Signal::STOP } else { rustix::process::Signal::CONT };
    rustix::process::kill_process(bus.pid(), signal).unwrap();
}

#[test]
fn a_bus_that_stands_still_is_silent_within_seconds_and_what_it_delivers_late_is_counted_apart() {
    let port = Port::reserve();
    let bus = NatsServer::start(&port, &[]);
    let mounts = Mounts::new(port.number(), "chat", "limits: {busMessageAgeMillis: 4000}");
    let (a, b) = (mounts.node("a"), mounts.node("b"));
    let (mut ada, _) = Client::join(a.listen, "room:1");
    let (mut bob, _) = Client::join(b.listen, "room:1");
    open_way(&mut ada, &b, &mut bob);
    wait("a figure that shows b how fast a is", || stats(&b)["bus"]["roundTripMicros"].as_u64() > Some(0));
    assert_eq!((counter(&b, "busLate"), counter(&b, "lateWrites"), counter(&b, "busExpired")), (0, 0, 0));

    freeze(&bus, true);
    let spoke = stats(&a)["monotonicMillis"].as_u64().unwrap();
    say(&mut ada, "too old");
    wait("the silence to be seen", || {
        stats(&a)["busConnected"] == false && stats(&b)["busConnected"] == false
    });
    let seen = stats(&b);
    assert_eq!(seen["bus"]["connected"], false);
    println!("silent for {} ms when it was seen", seen["bus"]["silentMillis"]);
    assert_eq!((a.ready(), b.ready()), (200, 200), "a silent bus took a serving node out of service");
    let age = |since: u64| stats(&a)["monotonicMillis"].as_u64().unwrap() - since;
    wait("the first to be nearly too old", || age(spoke) > 3_000);
    let said = stats(&a)["monotonicMillis"].as_u64().unwrap();
    say(&mut ada, "late");
    // Until the second message is late, and the first too old.
    wait("a while", || age(said) > 1_500 && age(spoke) > 4_500);
    freeze(&bus, false);
    let first = bob.until(|message| message[3] == "message");
    assert_eq!(first[4]["text"], "late", "the one before was too old");
    wait("the connection to count again", || {
        stats(&a)["busConnected"] == true && stats(&b)["busConnected"] == true
    });
    assert_eq!((counter(&b, "busLate"), counter(&b, "lateWrites"), counter(&b, "busExpired")), (2, 1, 1));
    assert!(counter(&b, "busGaps") >= 1, "what was dropped for its age is a gap");
    assert!(b.metric("channelcluster_node_bus_silent_seconds").unwrap() < 3.0);
    open_way(&mut ada, &b, &mut bob);
    assert_eq!(counter(&b, "busLate"), 2);
}

/// A replaced pod leaves an address behind where connections are taken and nobody answers, or where packets are
/// dropped; the tests of `bus::connect` cover the second, and how long a look takes. This test shows that a node
/// looks before it logs in, and so gives up an address that hangs while it still hangs.
#[test]
fn a_new_bus_is_found_although_an_attempt_at_the_old_address_hangs() {
    let port = Port::reserve();
    let mut bus = Some(NatsServer::start(&port, &[]));
    let mounts = Mounts::new(port.number(), "chat", "");
    let a = mounts.node("a");
    let mut worst = Duration::ZERO;
    for round in 0..5 {
        drop(bus.take());
        let silent = std::net::TcpListener::bind(("127.0.0.1", port.number())).unwrap();
        // The connections are taken and never answered; they stay open until the test ends.
        let hung: Vec<_> = (0..2).map(|_| silent.accept().unwrap()).collect();
        wait("the loss to be seen", || stats(&a)["busConnected"] == false);
        // It is logged once in ten seconds, the first time at once.
        wait("the look to be given up", || a.has_logged("no connection or greeting within"));
        drop(silent);
        bus = Some(NatsServer::start(&port, &[]));
        let listening = std::time::Instant::now();
        wait("the node to be back", || stats(&a)["busConnected"] == true);
        worst = worst.max(listening.elapsed());
        drop(hung);
        println!("round {round}: back after {:?}", listening.elapsed());
    }
    println!("worst of 5: {worst:?}");
}

#[test]
fn what_drained_publishers_said_reaches_the_other_node_to_the_last() {
    let port = Port::reserve();
    let _bus = NatsServer::start(&port, &[]);
    let mounts = Mounts::new(port.number(), "chat", "");
    let (mut a, b) = (mounts.node("a"), mounts.node("b"));
    let address = relay(a.listen, Duration::from_millis(50));
    let (mut listener, _) = Client::join(b.listen, "room:1");
    for round in 0..=10 {
        wait("the node to take clients", || {
            let text = a.public("GET / HTTP/1.1\r\nhost: n\r\n\r\n");
            text.starts_with("HTTP/1.1 200")
        });
        let rates = [20, 200];
        let said = rates.map(|rate| publish(address, format!("{round}/{rate}"), rate));
        // From the first message that is heard of each publisher on, none may be missing.
        let mut next = [None; 2];
        let take = |listener: &mut Client, next: &mut [Option<u64>; 2]| {
            let message = listener.until(|message| message[3] == "message");
            let who = rates.map(|rate| json!(format!("{round}/{rate}")));
            let index = who.iter().position(|name| *name == message[4]["from"]).unwrap();
            let number = message[4]["number"].as_u64().unwrap();
            assert!(next[index].is_none_or(|next| next == number), "{message} instead of {next:?}");
            next[index] = Some(number + 1);
        };
        while next.contains(&None) {
            take(&mut listener, &mut next);
        }
        if round < 10 {
            let order = r#"{"version":1,"stage":"Close","connectionsPerSecond":1000}"#;
            assert_eq!(a.ask("POST", "/v1/drain", Some("token"), order).0, 200);
        } else {
            a.signal(rustix::process::Signal::TERM);
        }
        let counts = said.map(|publisher| publisher.join().unwrap());
        assert!(counts.iter().all(|(_, code)| *code == 1012));
        while next != counts.map(|(count, _)| Some(count)) {
            take(&mut listener, &mut next);
        }
        if round < 10 {
            assert_eq!(a.ask("DELETE", "/v1/drain", Some("token"), "").0, 200);
        }
    }
    assert_eq!(a.exited().code(), Some(0));
}

/// The server's configuration as OPERATIONS.md shows it, with two fleets.
#[test]
fn two_fleets_on_one_nats_with_permissions_of_their_own_cannot_read_each_other() {
    let text = pages::page("docs/OPERATIONS.md");
    let section = pages::section(&text, "### Fleets that share a NATS");
    let shown = section.split("```").nth(1).unwrap().strip_prefix("nats\n").unwrap();
    let file = std::env::temp_dir().join(format!("channel-node-nats-{:x}.conf", rand::random::<u64>()));
    fs::write(&file, shown).unwrap();
    let port = Port::reserve();
    let passwords = [("CHAT_PASSWORD", "chat-secret"), ("GAME_PASSWORD", "game-secret")];
    let _bus = NatsServer::start_with(&port, &["--config", file.to_str().unwrap()], &passwords);
    let fleets = [("chat", "chat-secret"), ("game", "game-secret")].map(|(fleet, password)| {
        let mounts = Mounts::new(port.number(), fleet, "");
        fs::create_dir(mounts.0.join("nats")).unwrap();
        fs::write(mounts.0.join("nats/username"), fleet).unwrap();
        fs::write(mounts.0.join("nats/password"), password).unwrap();
        (mounts.node("a"), mounts.node("b"), mounts)
    });
    for (a, b, _) in &fleets {
        let (mut ada, _) = Client::join(a.listen, "room:1");
        let (mut bob, _) = Client::join(b.listen, "room:1");
        open_way(&mut ada, b, &mut bob);
        wait("an answer of NATS", || stats(a)["bus"]["roundTripMicros"].as_u64() > Some(0));
        wait("the other's figures", || {
            let (mut watcher, _) = Client::join(a.listen, "$cluster");
            watcher.until(|message| message[3] == "stats")[4]["nodes"] == 2
        });
    }
    // With the user of one fleet the other's messages can be neither read nor forged, nor its figures.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (told, mut events) = tokio::sync::mpsc::unbounded_channel();
        let client = async_nats::ConnectOptions::with_user_and_password("game".into(), "game-secret".into())
            .event_callback(move |event| {
                told.send(event.to_string()).ok();
                std::future::ready(())
            })
            .connect(format!("nats://127.0.0.1:{}", port.number()))
            .await
            .unwrap();
        for subject in ["cc1.default.chat.>", "cc1.*.chat.t.*", "cc1.default.chat.c.stats", ">"] {
            let subscription = client.subscribe(subject).await.unwrap();
            refused(&mut events, "subscription").await;
            drop(subscription);
        }
        client.publish("cc1.default.chat.t.cm9vbToxx", "forged".into()).await.unwrap();
        refused(&mut events, "publish").await;
    });
    for (a, _, _) in &fleets {
        assert_eq!((stats(a)["busConnected"].clone(), counter(a, "busGaps")), (json!(true), 0));
    }
    fs::remove_file(&file).ok();
}

/// Waits until the server says that something is not allowed.
async fn refused(events: &mut tokio::sync::mpsc::UnboundedReceiver<String>, what: &str) {
    let event = tokio::time::timeout(HANG, async {
        loop {
            let event = events.recv().await.unwrap().to_lowercase();
            if event.contains("permissions violation") {
                return event;
            }
        }
    });
    let event = event.await.expect("the server refuses it");
    assert!(event.contains(what), "{event}");
}
