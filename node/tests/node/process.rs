//! The process as a whole: its arguments, its configuration file, and how it leaves.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;
use serde_json::json;

use crate::support::client::Client;
use crate::support::process::{Process, command};
use crate::support::wait::wait;

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/node.yaml");

/// A directory with the sample configuration and a token; removed when dropped.
struct Mounts(PathBuf);

impl Mounts {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("channel-node-process-{:x}", rand::random::<u64>()));
        fs::create_dir(&dir).unwrap();
        fs::copy(SAMPLE, dir.join("node.yaml")).unwrap();
        fs::write(dir.join("admin-token"), "token").unwrap();
        Mounts(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn command(&self) -> Command {
        let mut command = command();
        command
            .arg("--config")
            .arg(self.path("node.yaml"))
            .arg("--secrets")
            .arg(&self.0)
            .env("POD_NAME", "chat-node-1");
        command
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Exit code and standard error.
fn refused(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn check(file: &Path) -> (Option<i32>, String) {
    refused(Command::new(env!("CARGO_BIN_EXE_channel-node")).arg("--check-config").arg(file))
}

#[test]
fn what_is_wrong_is_told_in_one_line_with_exit_code_64() {
    let mounts = Mounts::new();
    assert_eq!(check(Path::new(SAMPLE)), (Some(0), String::new()));
    fs::write(mounts.path("bad.yaml"), "rooms: {maxMembers: 0}\npath: x\n").unwrap();
    let (code, text) = check(&mounts.path("bad.yaml"));
    assert_eq!((code, text.lines().count()), (Some(64), 1), "{text}");
    for part in ["rooms.maxMembers: 0", "path: \"x\"", "auth.anonymous"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    for (arguments, part) in [
        (&["--dev", "--path", "x/"][..], "path: \"x/\""),
        (&["--dev", "--log", "node=loud"], "--log"),
        (&["--config", "/nonexistent", "--secrets", "/"], "/nonexistent"),
        (&["--dev", "--shards", "many"], "--shards"),
    ] {
        let (code, text) = refused(command().args(arguments));
        assert!(
            code == Some(64) && text.contains(part) && text.lines().count() == 1,
            "{arguments:?}: {code:?} {text}"
        );
    }
}

#[test]
fn a_port_in_use_and_a_missing_token_are_named() {
    let mounts = Mounts::new();
    fs::remove_file(mounts.path("admin-token")).unwrap();
    let (code, text) = refused(&mut mounts.command());
    assert!(
        code == Some(1) && text.contains("admin-token") && text.contains("mount the Secret"),
        "{code:?} {text}"
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--admin"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_channel-node"));
        let other = if flag == "--listen" { "--admin" } else { "--listen" };
        let (code, text) = refused(command.args(["--dev", flag, &address, other, "127.0.0.1:0"]));
        assert!(code == Some(1) && text.contains(&address) && text.contains(flag), "{flag}: {code:?} {text}");
    }
}

#[test]
fn a_dev_node_serves_at_once_and_ctrl_c_closes_with_1012() {
    let mut dev = command();
    dev.arg("--dev");
    let mut node = Process::start(dev);
    assert_eq!((node.ready(), node.ask("GET", "/v1/stats", None, "").0), (200, 200));
    let (mut client, reply) = Client::join(node.listen, "room:1");
    assert_eq!(reply["status"], "ok");
    client.send(&json!(["1", "2", "room:1", "echo", {"a": 1}]));
    assert_eq!(client.until(|message| message[1] == "2")[4]["response"], json!({"a": 1}));
    node.signal(Signal::INT);
    assert_eq!(client.closed(), 1012);
    assert_eq!(node.exited().code(), Some(0));
}

/// Status line and rest of the answer to a raw request to a port.
fn raw(address: std::net::SocketAddr, request: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_page_whose_name_leads_to_a_dev_node_reaches_neither_of_its_ports() {
    let mut dev = command();
    dev.arg("--dev");
    let node = Process::start(dev);
    let handshake = |host: &str, origin: &str| {
        let request = format!(
            "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        // Where the handshake is good, two bytes that are no frame end the connection.
        raw(node.listen, &(request + "\u{8}\0")).lines().next().unwrap_or_default().to_owned()
    };
    assert!(handshake("evil.example:80", "http://evil.example").starts_with("HTTP/1.1 421 "));
    assert!(handshake("127.0.0.1:4000", "http://evil.example").starts_with("HTTP/1.1 403 "));
    assert!(handshake("127.0.0.1:4000", "http://localhost:5173").starts_with("HTTP/1.1 101 "));
    let admin = |line: &str, headers: &str| {
        let body = r#"{"version":1,"stage":"Unready"}"#;
        let answer = raw(
            node.admin,
            &format!(
                "{line} HTTP/1.1\r\n{headers}connection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ),
        );
        answer[9..12].parse::<u16>().unwrap()
    };
    for line in ["GET /v1/stats", "GET /metrics", "GET /v1/drain", "POST /v1/drain", "DELETE /v1/drain"] {
        for headers in
            ["host: evil.example:80\r\n", "host: 127.0.0.1:9400\r\norigin: http://evil.example\r\n"]
        {
            assert_eq!(admin(line, headers), 403, "{line} {headers}");
        }
    }
    assert_eq!(node.ready(), 200);
    assert_eq!(admin("POST /v1/drain", "host: [::1]:9400\r\norigin: http://localhost:9400\r\n"), 200);
    assert_eq!(node.ready(), 503);
}

#[test]
fn load_balancers_learn_on_the_public_port_what_the_kubelet_learns_on_the_other() {
    let mounts = Mounts::new();
    let node = Process::start(mounts.command());
    let health = || raw(node.listen, "GET /healthz HTTP/1.0\r\n\r\n")[9..12].to_owned();
    let drain = |method: &str, body: &str| node.ask(method, "/v1/drain", Some("token"), body).0;
    assert_eq!((health(), node.ready()), ("200".to_owned(), 200));
    assert_eq!(drain("POST", r#"{"version":1,"stage":"Unready"}"#), 200);
    assert_eq!((health(), node.ready()), ("503".to_owned(), 503));
    assert_eq!(drain("DELETE", ""), 200);
    assert_eq!((health(), node.ready()), ("200".to_owned(), 200));
    let refused = node.ask("GET", "/metrics", None, "").1;
    let line = refused.lines().find(|line| line.contains("refused_total{reason=\"not_found\"}")).unwrap();
    assert!(line.ends_with(" 0"), "to ask is no error: {line}");
}

#[test]
fn sigterm_turns_unready_and_goes_on_accepting_until_an_interrupt_closes_with_1012() {
    let mounts = Mounts::new();
    let sample = fs::read_to_string(SAMPLE).unwrap();
    // The delay is longer than anything that this test waits for: all of it is seen within the delay, and only the
    // signal ends it.
    fs::write(mounts.path("node.yaml"), sample.replace("delayMillis: 300", "delayMillis: 300000")).unwrap();
    let mut node = Process::start(mounts.command());
    let (mut early, _) = Client::join(node.listen, "room:1");
    node.signal(Signal::TERM);
    wait("the node to be unready", || node.ready() == 503);
    let (mut late, reply) = Client::join(node.listen, "room:1");
    assert_eq!(reply["status"], "ok", "a leaving node accepts until its delay is over");
    late.send(&json!(["1", "2", "room:1", "message", {"text": "still here"}]));
    assert_eq!(early.until(|message| message[3] == "message")[4]["text"], "still here");
    node.signal(Signal::INT);
    assert_eq!((early.closed(), late.closed()), (1012, 1012));
    assert_eq!(node.exited().code(), Some(0));
}

#[test]
fn the_delay_after_sigterm_ends_by_itself_and_closes_with_1012() {
    let mounts = Mounts::new();
    let mut node = Process::start(mounts.command());
    let (mut client, _) = Client::join(node.listen, "room:1");
    node.signal(Signal::TERM);
    assert_eq!(client.closed(), 1012);
    assert_eq!(node.exited().code(), Some(0));
}

#[test]
fn the_operators_drain_empties_the_node_and_can_be_taken_back() {
    let mounts = Mounts::new();
    let node = Process::start(mounts.command());
    let drain = |method: &str, body: &str| node.ask(method, "/v1/drain", Some("token"), body);
    assert_eq!(node.ask("POST", "/v1/drain", None, r#"{"version":1,"stage":"Unready"}"#).0, 401);
    let (mut client, _) = Client::join(node.listen, "room:1");
    assert_eq!(drain("POST", r#"{"version":1,"stage":"Unready"}"#).0, 200);
    assert_eq!(node.ready(), 503);
    let (status, text) = drain("POST", r#"{"version":1,"stage":"Close","connectionsPerSecond":100}"#);
    assert_eq!(status, 200, "{text}");
    assert_eq!(client.closed(), 1012);
    drop(client);
    wait("the node to be empty", || drain("GET", "").1.contains("Closed"));
    assert_eq!(drain("DELETE", "").0, 200);
    assert_eq!(node.ready(), 200);
    wait("the shards to accept again", || {
        let answer = std::net::TcpStream::connect(node.listen).and_then(|mut stream| {
            use std::io::{Read, Write};
            stream.write_all(b"GET / HTTP/1.1\r\nhost: n\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        });
        answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    });
    let (_client, reply) = Client::join(node.listen, "room:1");
    assert_eq!(reply["status"], "ok");
}

/// The clients come back at once: this node is the only one, and refuses nobody.
#[test]
fn the_operator_has_clients_moved_and_the_node_serves_on() {
    let mounts = Mounts::new();
    let mut node = Process::start(mounts.command());
    let ask =
        |node: &Process, method: &str, body: &str| node.ask(method, "/v1/rebalance", Some("token"), body);
    let order = |operation: &str, lease: u64| {
        json!({"version": 1, "operation": operation, "connections": 2, "connectionsPerSecond": 100,
            "leaseMillis": lease, "minAgeMillis": 0})
        .to_string()
    };
    let mut clients: Vec<_> = (0..3).map(|_| Client::join(node.listen, "room:1").0).collect();
    // A connection is moved when it is older than the operation, to half a second.
    let stats = |node: &Process| -> serde_json::Value {
        serde_json::from_str(&node.ask("GET", "/v1/stats", Some("token"), "").1).unwrap()
    };
    let begun = stats(&node)["monotonicMillis"].as_u64().unwrap();
    wait("the connections to be old enough", || {
        stats(&node)["monotonicMillis"].as_u64().unwrap() > begun + 1_000
    });
    let (status, text) = ask(&node, "POST", &order("a", 600_000));
    assert_eq!(status, 200, "{text}");
    assert_eq!(node.ready(), 503);
    let status =
        |node: &Process| -> serde_json::Value { serde_json::from_str(&ask(node, "GET", "").1).unwrap() };
    wait("the shards to be done", || status(&node)["done"] == true);
    assert_eq!(status(&node)["moved"], 2, "of three");
    assert_eq!(stats(&node)["rebalance"]["moved"], 2);
    assert_eq!((stats(&node)["phase"].clone(), node.ready()), (json!("Serving"), 503));
    for _ in 0..2 {
        // A repeated order goes on, and there is nothing left to do.
        assert_eq!(ask(&node, "POST", &order("a", 600_000)).0, 200);
    }
    let (_back, reply) = Client::join(node.listen, "room:1");
    assert_eq!(reply["status"], "ok", "nobody is refused");
    assert_eq!(status(&node)["moved"], 2);
    assert_eq!(ask(&node, "DELETE", "").0, 200);
    assert_eq!((node.ready(), stats(&node)["rebalance"].clone()), (200, json!(null)));
    let text = node.ask("GET", "/metrics", None, "").1;
    assert!(text.contains("channelcluster_node_closed_total{reason=\"moved\"} 2\n"), "{text}");
    // The two that were told 1012 close from their side too.
    let mut told = 0;
    for client in &mut clients {
        client.send(&json!([null, "9", "phoenix", "heartbeat", {}]));
        told += u32::from(client.closed_or(|message| message[1] == "9") == Some(1012));
    }
    assert_eq!(told, 2);
    assert_eq!(ask(&node, "POST", &order("b", 1_000)).0, 200);
    assert_eq!(node.ready(), 503);
    wait("the lease to end", || node.ready() == 200);
    assert_eq!(ask(&node, "POST", &order("c", 600_000)).0, 200);
    node.signal(Signal::TERM);
    wait("the drain to go first", || ask(&node, "POST", &order("c", 600_000)).0 == 409);
    node.signal(Signal::INT);
    assert_eq!(node.exited().code(), Some(0));
}

#[test]
fn a_changed_file_counts_without_a_restart_and_a_bad_one_does_not() {
    let mounts = Mounts::new();
    let node = Process::start(mounts.command());
    let sample = fs::read_to_string(SAMPLE).unwrap();
    fs::write(mounts.path("node.yaml"), "rooms: {maxMembers: none}").unwrap();
    wait("the bad file to be refused", || {
        node.metric("channelcluster_node_config_reload_failures_total") == Some(1.0)
    });
    let (_first, reply) = Client::join(node.listen, "room:1");
    assert_eq!(reply["status"], "ok");
    fs::write(mounts.path("node.yaml"), sample.replace("maxMembers: 150", "maxMembers: 1")).unwrap();
    wait("the new file to be taken", || node.metric("channelcluster_node_config_reloads_total") == Some(1.0));
    wait("the room to be full", || {
        let (_client, reply) = Client::join(node.listen, "room:1");
        reply["status"] == "error"
    });
}
