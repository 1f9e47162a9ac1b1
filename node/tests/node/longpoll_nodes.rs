//! Long-poll sessions of two nodes whose requests come to either of them, with a real NATS server in between.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::http::{Answer, Http};
use crate::support::process::{Process, command};
use crate::support::wait::wait;
use crate::support::{nats::NatsServer, port::Port};

const LINES: &str = "content-type: application/x-ndjson\r\n";
/// phoenix.js gives a request up after this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Two nodes that know of each other.
struct Fleet {
    nodes: [Process; 2],
    bus: NatsServer,
    dir: PathBuf,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.dir).ok();
    }
}

impl Fleet {
    fn start() -> Self {
        let port = Port::reserve();
        let bus = NatsServer::start(&port, &[]);
        let dir = std::env::temp_dir().join(format!("channel-node-polls-{:x}", rand::random::<u64>()));
        fs::create_dir(&dir).unwrap();
        let config = format!(
            "cluster: {{namespace: default, name: chat}}\nauth: {{anonymous: true}}\nlongPoll: true\nbus:\n  nats:\n    \
             urls: [\"{}\"]\n",
            bus.url()
        );
        fs::write(dir.join("node.yaml"), config).unwrap();
        fs::write(dir.join("admin-token"), "token").unwrap();
        let nodes = ["a", "b"].map(|name| {
            let mut command = command();
            command.args(["--shards", "2", "--node-name", name, "--secrets"]).arg(&dir);
            command.arg("--config").arg(dir.join("node.yaml"));
            Process::start(command)
        });
        let fleet = Self { nodes, bus, dir };
        fleet.wait_for_each_other();
        fleet
    }

    fn wait_for_each_other(&self) {
        wait("the nodes to know each other", || {
            self.nodes.iter().all(|node| node.metric("channelcluster_node_bus_nodes") == Some(2.0))
        });
    }

    fn signal_bus(&self, signal: Signal) {
        kill_process(self.bus.pid(), signal).unwrap();
    }

    fn counted(&self, node: usize, name: &str) -> f64 {
        self.nodes[node].metric(&format!("channelcluster_node_{name}_total")).unwrap()
    }

    fn send(&self, node: usize, method: &str, token: &str, body: &str) -> Http {
        let mut http = Http::connect(self.nodes[node].listen);
        let target = format!("/socket/longpoll?vsn=2.0.0&token={token}");
        http.send(method, &target, if method == "POST" { LINES } else { "" }, body);
        http
    }

    fn ask(&self, node: usize, method: &str, token: &str, body: &str) -> Answer {
        self.send(node, method, token, body).receive()
    }

    /// A session of a node whose client has joined a room by requests to the other one.
    fn open(&self, node: usize) -> String {
        let opened = self.ask(node, "GET", "", "");
        assert_eq!(opened.body["status"], 410);
        let token = opened.body["token"].as_str().unwrap().to_owned();
        let join = json!(["1", "1", "room:1", "phx_join", {}]).to_string();
        assert_eq!(self.ask(1 - node, "POST", &token, &join).body, json!({"status": 200}));
        let joined = messages(&self.ask(1 - node, "GET", &token, "").body);
        assert_eq!(joined[0][4]["status"], "ok");
        token
    }
}

/// The messages of a poll, each read as JSON.
fn messages(body: &Value) -> Vec<Value> {
    assert_eq!(body["status"], 200, "{body}");
    let list = body["messages"].as_array().unwrap();
    list.iter().map(|text| serde_json::from_str(text.as_str().unwrap()).unwrap()).collect()
}

fn say(client: &mut Client, n: usize) {
    client.send(&json!(["1", null, "room:1", "n", {"n": n}]));
}

#[test]
fn requests_by_turns_at_two_nodes_are_one_session_in_order() {
    let fleet = Fleet::start();
    let token = fleet.open(0);
    let (mut ada, _) = Client::join(fleet.nodes[0].listen, "room:1");
    let (mut heard, mut polls) = (0, 0);
    for n in 0..200 {
        say(&mut ada, n);
    }
    while heard < 200 {
        let answer = fleet.ask(polls % 2, "GET", &token, "");
        polls += 1;
        assert_eq!(answer.body["token"], token.as_str());
        for message in messages(&answer.body) {
            assert_eq!(message[4]["n"], heard, "{message}");
            heard += 1;
        }
    }
    // Bodies that are longer than what the bus carries at once, both ways.
    let text = "x".repeat(50_000);
    let beat = json!([null, "1", "phoenix", "heartbeat", {"x": text}]).to_string();
    assert_eq!(fleet.ask(1, "POST", &token, &vec![beat; 40].join("\n")).body, json!({"status": 200}));
    let mut replies = 0;
    while replies < 40 {
        replies += messages(&fleet.ask(1, "GET", &token, "").body).len();
    }
    for n in 0..4 {
        ada.send(&json!(["1", null, "room:1", "long", {"n": n, "x": text}]));
    }
    let mut long = 0;
    while long < 4 {
        for message in messages(&fleet.ask(1, "GET", &token, "").body) {
            assert_eq!((&message[4]["n"], message[4]["x"] == text), (&json!(long), true));
            long += 1;
        }
    }
    assert!(fleet.counted(1, "carried_out") >= 5.0);
}

#[test]
fn a_poll_whose_client_has_gone_costs_nothing_and_a_made_up_token_gets_nobody_elses_session() {
    let fleet = Fleet::start();
    let token = fleet.open(0);
    let (mut ada, _) = Client::join(fleet.nodes[0].listen, "room:1");
    for n in 0..20 {
        let before = fleet.counted(0, "carried_in");
        let poll = fleet.send(1, "GET", &token, "");
        wait("the poll to wait", || fleet.counted(0, "carried_in") > before);
        drop(poll);
        wait("the end to be seen", || fleet.nodes[1].metric("channelcluster_node_polling") == Some(0.0));
        say(&mut ada, n);
        let next = messages(&fleet.ask(n % 2, "GET", &token, "").body);
        assert_eq!(next.iter().map(|message| &message[4]["n"]).collect::<Vec<_>>(), [&json!(n)]);
    }
    for at in [0, 8, 20, 43] {
        let mut forged = token.clone().into_bytes();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).unwrap();
        assert_eq!(fleet.ask(1, "POST", &forged, "[]").body["status"], 410, "{at}");
        let other = fleet.ask(1, "GET", &forged, "").body;
        assert_eq!((&other["status"], &other["messages"]), (&json!(410), &json!([])), "another session");
    }
    say(&mut ada, 77);
    assert_eq!(messages(&fleet.ask(1, "GET", &token, "").body)[0][4]["n"], 77, "the session is as it was");
}

#[test]
fn the_end_of_the_node_of_a_session_is_told_to_its_client_well_before_it_gives_up() {
    let mut fleet = Fleet::start();
    let (waiting, idle) = (fleet.open(0), fleet.open(0));
    let before = fleet.counted(0, "carried_in");
    let mut poll = fleet.send(1, "GET", &waiting, "");
    wait("the poll to wait", || fleet.counted(0, "carried_in") > before);
    fleet.nodes[0].signal(Signal::KILL);
    fleet.nodes[0].exited();
    let start = Instant::now();
    assert_eq!(fleet.ask(1, "GET", &idle, "").body["status"], 500, "NATS tells that nobody is there");
    assert!(start.elapsed() < PATIENCE / 4, "{:?}", start.elapsed());
    assert_eq!(poll.receive().body["status"], 500);
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
    wait("the node to be forgotten", || fleet.nodes[1].metric("channelcluster_node_bus_nodes") == Some(1.0));
    assert_eq!(fleet.ask(1, "POST", &idle, "[]").body["status"], 410);
}

#[test]
fn a_node_that_leaves_says_so_to_the_clients_of_its_sessions_at_another_node() {
    let mut fleet = Fleet::start();
    let token = fleet.open(0);
    let before = fleet.counted(0, "carried_in");
    let mut poll = fleet.send(1, "GET", &token, "");
    wait("the poll to wait", || fleet.counted(0, "carried_in") > before);
    fleet.nodes[0].signal(Signal::TERM);
    let told = poll.receive().body;
    assert_eq!((&told["status"], &told["messages"]), (&json!(410), &json!([])));
    assert_ne!(told["token"], token.as_str(), "a session of the node that stays");
    assert_eq!(fleet.nodes[0].exited().code(), Some(0));
}

#[test]
fn without_the_bus_requests_for_other_nodes_are_refused_and_served_again_when_it_is_back() {
    let fleet = Fleet::start();
    let token = fleet.open(0);
    let before = fleet.counted(0, "carried_in");
    let mut poll = fleet.send(1, "GET", &token, "");
    wait("the poll to wait", || fleet.counted(0, "carried_in") > before);
    let start = Instant::now();
    fleet.signal_bus(Signal::STOP);
    let answer = poll.receive();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
    let start = Instant::now();
    assert_eq!(fleet.ask(1, "POST", &token, "[]").status, 503);
    assert!(start.elapsed() < PATIENCE / 10, "{:?}", start.elapsed());
    let beat = json!([null, "5", "phoenix", "heartbeat", {}]).to_string();
    assert_eq!(fleet.ask(0, "POST", &token, &beat).body, json!({"status": 200}), "its own node serves it");
    fleet.signal_bus(Signal::CONT);
    fleet.wait_for_each_other();
    assert_eq!(messages(&fleet.ask(1, "GET", &token, "").body)[0][1], "5");
}
