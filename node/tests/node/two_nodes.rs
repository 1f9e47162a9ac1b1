//! Two whole nodes and a real NATS server between them.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::process::{Process, command};
use crate::support::wait::wait;
use crate::support::{nats::NatsServer, port::Port};

const PASSWORD: &str = "not-for-logs";

/// The mounts of a node; removed when dropped.
struct Mounts(PathBuf);

impl Mounts {
    fn new(port: u16) -> Self {
        let dir = std::env::temp_dir().join(format!("channel-node-two-{:x}", rand::random::<u64>()));
        fs::create_dir(&dir).unwrap();
        let config = format!(
            "cluster: {{namespace: default, name: chat}}\nauth: {{anonymous: true}}\nchatPage: true\nbus:\n  nats:\n    \
             urls: [\"nats://127.0.0.1:{port}\"]\n    user: channel-node\n"
        );
        fs::write(dir.join("node.yaml"), config).unwrap();
        fs::write(dir.join("admin-token"), "token").unwrap();
        fs::write(dir.join("nats-password"), PASSWORD).unwrap();
        Mounts(dir)
    }

    fn node(&self, name: &str) -> Process {
        let mut command = command();
        let secrets = self.0.to_str().unwrap();
        let config = self.0.join("node.yaml");
        command.args(["--shards", "2", "--node-name", name, "--secrets", secrets, "--config"]).arg(config);
        Process::start(command)
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn server(port: &Port) -> NatsServer {
    NatsServer::start(port, &["--user", "channel-node", "--pass", PASSWORD])
}

fn say(client: &mut Client, text: &str) {
    client.send(&json!(["1", null, "room:1", "message", {"text": text}]));
}

fn hear(client: &mut Client, text: &str) {
    client.until(|message| message[3] == "message" && message[4]["text"] == text);
}

fn stats(node: &Process) -> Value {
    let (status, body) = node.ask("GET", "/v1/stats", Some("token"), "");
    assert_eq!(status, 200);
    serde_json::from_str(&body).unwrap()
}

/// Says numbered messages on one node until another node's client hears one: from then on the way is open.
fn open_way(from: &mut Client, node: &Process, to: &mut Client, name: &str) {
    let before = stats(node)["counters"]["busReceived"].as_u64().unwrap();
    let mut last = String::new();
    wait("a message from the other node", || {
        last = format!("{name} {}", last.len());
        say(from, &last);
        stats(node)["counters"]["busReceived"].as_u64().unwrap() > before
    });
    last = format!("{name} end");
    say(from, &last);
    hear(to, &last);
    hear(from, &last);
}

#[test]
fn two_nodes_are_one_room_and_losing_the_bus_takes_nobody_out_of_service() {
    let port = Port::reserve();
    let mounts = Mounts::new(port.number());
    let (a, b) = (mounts.node("a"), mounts.node("b"));
    assert_eq!((a.ready(), b.ready()), (503, 503), "ready without ever having seen the bus");
    let bus = server(&port);
    wait("both to be ready", || a.ready() == 200 && b.ready() == 200);
    let (mut ada, _) = Client::join(a.listen, "room:1");
    let (mut bob, _) = Client::join(b.listen, "room:1");
    open_way(&mut ada, &b, &mut bob, "there");
    open_way(&mut bob, &a, &mut ada, "back");
    for n in 0..200 {
        say(&mut ada, &n.to_string());
    }
    let mut heard = Vec::new();
    while heard.len() < 200 {
        heard.push(bob.until(|message| message[3] == "message")[4]["text"].clone());
    }
    assert_eq!(heard, (0..200).map(|n| json!(n.to_string())).collect::<Vec<_>>());

    let (mut watcher, _) = Client::join(a.listen, "$cluster");
    let sum = watcher.until(|message| message[3] == "stats" && message[4]["nodes"] == 2);
    assert_eq!(sum[4]["list"][1]["node"], "b");

    drop(bus);
    wait("the loss to be seen", || stats(&a)["busConnected"] == false && stats(&b)["busConnected"] == false);
    assert_eq!((a.ready(), b.ready()), (200, 200), "a lost bus made a serving node unready");
    say(&mut ada, "alone");
    hear(&mut ada, "alone");
    wait("the loss to be counted", || stats(&a)["counters"]["busDropped"].as_u64() > Some(0));

    let _bus = server(&port);
    wait("both to be back", || stats(&a)["busConnected"] == true && stats(&b)["busConnected"] == true);
    open_way(&mut ada, &b, &mut bob, "again");
    assert!(stats(&b)["counters"]["busGaps"].as_u64() > Some(0), "the lost message was not missed");
}
