//! Hooks: nodes that ask a backend. The backend is the program of docs/HOOKS.md, or one that does everything wrong.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    pages,
    support::{client::Client, forgery::shared_token, http::Http, process::Process, wait::wait},
    tokens::Mounts,
};

const KEY: &str = "whsec_Q2hhbmdlIHRoaXMgZXhhbXBsZSBrZXkgbm93ISE=";
/// For tests in which the backend answers: on a busy machine a program in Python may take its time.
const PATIENT: &str = "timeoutMillis: 10000";
const POLICY: &str = "policies: [{topics: \"room:*\", hooks: [Join, Publish]}]";

/// A node that asks a backend at this port.
struct Asking {
    node: Process,
    mounts: Mounts,
}

fn config(port: u16, more: &str) -> String {
    format!(
        "rooms: {{topics: [\"room:*\", \"free:*\"], {POLICY}}}\n\
         auth: {{anonymous: true, jwt: [{{issuer: shared, audience: chat, algorithms: [HS256], keyFile: tokens/secret}}]}}\n\
         longPoll: true\nhooks: {{url: \"http://127.0.0.1:{port}/hooks\", {more}}}\n"
    )
}

fn start(port: u16, more: &str) -> Asking {
    let mounts = Mounts::new(&config(port, more));
    mounts.write("signing-key", KEY);
    let mut command = mounts.command();
    command.args(["--shards", "2", "--hook-secrets"]).arg(mounts.path("."));
    Asking { node: Process::start(command), mounts }
}

impl Asking {
    fn user(&self, name: &str) -> Client {
        Client::connect(self.node.listen, Some(&shared_token(name))).expect("the token is good")
    }

    fn requests(&self, result: &str) -> f64 {
        let name = format!("channelcluster_node_hook_requests_total{{result=\"{result}\"}}");
        self.node.metric(&name).expect("the metric")
    }
}

/// The program of the page.
struct Sample(Child);

impl Sample {
    fn start(key: &str) -> (Self, u16) {
        let page = pages::page("docs/HOOKS.md");
        let program = page.split_once("```python\n").and_then(|(_, rest)| rest.split_once("```"));
        let (program, _) = program.expect("a program");
        let mut child = Command::new("python3")
            .args(["-c", program, "0"])
            .env("SIGNING_KEY", key)
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let port = line.trim().rsplit(' ').next().and_then(|port| port.parse().ok());
        (Self(child), port.unwrap_or_else(|| panic!("{line}")))
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn push(client: &mut Client, reference: &str, topic: &str, event: &str, payload: &Value) {
    client.send(&json!(["1", reference, topic, event, payload]));
}

/// The reply to what was said with this ref.
fn reply(client: &mut Client, reference: &str) -> Value {
    client.until(|message| message[1] == reference && message[3] == "phx_reply")[4].clone()
}

#[test]
fn the_backend_of_the_page_decides() {
    let (_sample, port) = Sample::start(KEY);
    let asking = start(port, PATIENT);
    let [mut ann, mut ben, mut mute] = ["ann", "ben", "mute"].map(|name| asking.user(name));
    assert_eq!(ann.joined("room:staff"), json!({"status": "ok", "response": {"hello": "ann"}}));
    let staff = json!({"status": "error", "response": {"reason": "staff only"}});
    assert_eq!(ben.joined("room:staff"), staff);
    for client in [&mut ann, &mut ben, &mut mute] {
        assert_eq!(client.joined("room:lobby")["status"], "ok");
    }
    push(&mut ben, "2", "room:lobby", "new_msg", &json!({"text": "darn it"}));
    for client in [&mut ann, &mut ben] {
        let heard = client.until(|message| message[3] == "new_msg");
        assert_eq!(heard[4], json!({"text": "**** it"}));
    }
    push(&mut mute, "2", "room:lobby", "new_msg", &json!({"text": "hello"}));
    assert_eq!(reply(&mut mute, "2"), json!({"status": "error", "response": {"reason": "muted"}}));
    push(&mut ben, "3", "room:lobby", "time", &json!({}));
    assert!(reply(&mut ben, "3")["response"]["unix"].is_u64());
    let answered = asking.requests("answered");
    assert_eq!(answered, 8.0);
    assert!(asking.node.metric("channelcluster_node_hook_answered_seconds_total") > Some(0.0));
}

#[test]
fn keys_are_exchanged_without_a_refusal_and_a_wrong_one_is_one() {
    let other = "whsec_QW5vdGhlciBleGFtcGxlIGtleSBmb3IgaG9va3MhISE=";
    let (_sample, port) = Sample::start(other);
    let asking = start(port, PATIENT);
    let mut client = asking.user("ann");
    assert_eq!(client.joined("room:1")["response"]["reason"], "backend unavailable");
    assert_eq!(asking.requests("status"), 1.0);
    asking.mounts.write("signing-key", &format!("{KEY}\n{other}\n"));
    wait("the keys to be read", || client.joined("room:1")["status"] == "ok");
    asking.mounts.write("signing-key", "no key");
    wait("the bad file to be seen, and the former keys to stay", || {
        assert_eq!(client.joined("room:1")["status"], "ok");
        asking.node.has_logged("signing-key of the Secret of hooks")
    });
    assert!(!asking.node.has_logged("no key"), "no secret is ever logged");
}

/// What a bad backend does with a connection on which a request has come.
#[derive(Clone, Copy, Debug)]
enum Bad {
    Silent,
    Garbage,
    Endless,
    Huge,
    Redirects,
    ClosesMidAnswer,
    Fails,
    Trickles,
}

/// A backend that does everything wrong, and the requests that it got.
fn bad(how: Bad) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let count = Arc::clone(&count);
            thread::spawn(move || misbehave(how, stream, port, &count));
        }
    });
    (port, requests)
}

fn misbehave(how: Bad, mut stream: TcpStream, port: u16, count: &AtomicUsize) -> Option<()> {
    let mut taken = [0; 4096];
    loop {
        if stream.read(&mut taken).ok()? == 0 {
            return None;
        }
        count.fetch_add(1, SeqCst);
        let ok = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
        match how {
            Bad::Silent => continue,
            Bad::Garbage => stream.write_all(b"\x16\x03\x01 this is no HTTP\r\n\r\n").ok()?,
            Bad::Endless => {
                stream.write_all(format!("{ok}transfer-encoding: chunked\r\n\r\n").as_bytes()).ok()?;
                let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
                loop {
                    stream.write_all(chunk.as_bytes()).ok()?;
                }
            }
            Bad::Huge => {
                stream
                    .write_all(format!("{ok}content-length: 1073741824\r\n\r\n{{\"allow\"").as_bytes())
                    .ok()?;
            }
            Bad::Redirects => {
                let to =
                    format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:{port}/other\r\n");
                stream.write_all(format!("{to}content-length: 0\r\n\r\n").as_bytes()).ok()?;
            }
            Bad::ClosesMidAnswer => {
                stream.write_all(format!("{ok}content-length: 15\r\n\r\n{{\"allow\"").as_bytes()).ok()?;
                return None;
            }
            Bad::Fails => {
                let failed = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(failed.as_bytes()).ok()?;
            }
            Bad::Trickles => {
                for byte in format!("{ok}content-length: 14\r\n\r\n{{\"allow\":true}}").bytes() {
                    stream.write_all(&[byte]).ok()?;
                    thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }
}

#[test]
fn whatever_a_backend_does_counts_as_declared_and_other_rooms_go_on() {
    let kinds = [
        (Bad::Silent, "timeout"),
        (Bad::Garbage, "broken"),
        (Bad::Endless, "unusable"),
        (Bad::Huge, "unusable"),
        (Bad::Redirects, "status"),
        (Bad::ClosesMidAnswer, "broken"),
        (Bad::Fails, "status"),
        (Bad::Trickles, "timeout"),
    ];
    for (how, result) in kinds {
        let (port, requests) = bad(how);
        let asking = start(port, "timeoutMillis: 1000, onFailure: Refuse");
        let (mut free, joined) = Client::join(asking.node.listen, "free:1");
        assert_eq!(joined["status"], "ok", "{how:?}");
        let mut client = asking.user("ann");
        client.send(&json!(["1", "1", "room:1", "phx_join", {}]));
        push(&mut free, "2", "free:1", "new_msg", &json!({"n": 1}));
        free.until(|message| message[3] == "new_msg");
        assert_eq!(reply(&mut client, "1")["response"]["reason"], "backend unavailable", "{how:?}");
        // On a busy machine the time may be over first.
        wait(&format!("{how:?} to be counted as {result}"), || {
            asking.requests(result) >= 1.0 || client.joined("room:1")["status"] == "ok"
        });
        assert!(requests.load(SeqCst) >= 1, "{how:?}");
        // Ten in a row of several connections open the breaker where the backend is not there: then nobody waits.
        let mut all: Vec<_> = (0..12).map(|_| asking.user("ann")).collect();
        for client in &mut all {
            assert_eq!(client.joined("room:1")["response"]["reason"], "backend unavailable", "{how:?}");
        }
        let is_open = asking.node.metric("channelcluster_node_hook_open") == Some(1.0);
        assert_eq!(is_open, matches!(result, "timeout" | "broken"), "{how:?} answers, or does not");
        wait("nobody to wait", || asking.node.metric("channelcluster_node_hooks_waiting") == Some(0.0));
        asking.mounts.write("node.yaml", &config(port, "timeoutMillis: 1000, onFailure: Allow"));
        asking.node.signal(rustix::process::Signal::HUP);
        wait("the other answer", || client.joined("room:1")["status"] == "ok");
    }
}

#[test]
fn a_backend_that_is_gone_and_comes_back_is_asked_again() {
    let (sample, port) = Sample::start(KEY);
    let asking = start(port, PATIENT);
    let mut client = asking.user("ann");
    assert_eq!(client.joined("room:1")["status"], "ok");
    drop(sample);
    for _ in 0..12 {
        assert_eq!(client.joined("room:1")["response"]["reason"], "backend unavailable");
    }
    wait("it to be left alone", || {
        client.joined("room:1")["status"] == "error" && asking.requests("open") >= 1.0
    });
    assert!(asking.requests("connect") + asking.requests("broken") >= 10.0);
    // The same port, as a Service has it.
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address).expect("the port is free");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut taken = [0; 4096];
                while stream.read(&mut taken).is_ok_and(|bytes| bytes > 0) {
                    if stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_err() {
                        return;
                    }
                }
            });
        }
    });
    wait("it to be asked again", || client.joined("room:1")["status"] == "ok");
    assert_eq!(asking.node.metric("channelcluster_node_hook_open"), Some(0.0));
}

#[test]
fn a_session_of_long_poll_waits_as_well() {
    let (_sample, port) = Sample::start(KEY);
    let asking = start(port, PATIENT);
    let listen = asking.node.listen;
    let mut http = Http::connect(listen);
    let opened = http.ask("GET", "/socket/longpoll?vsn=2.0.0", "", "");
    let token = opened.body["token"].as_str().expect("a token");
    let path = format!("/socket/longpoll?vsn=2.0.0&token={token}");
    let join = json!(["1", "1", "room:1", "phx_join", {}]).to_string();
    assert_eq!(http.ask("POST", &path, "", &join).body["status"], 200);
    let said = http.ask("GET", &path, "", "").body["messages"].to_string();
    assert!(said.contains("phx_reply") && said.contains("hello"), "{said}");
}

#[test]
fn hooks_that_are_written_into_the_file_count_from_the_first_join_on() {
    let (_sample, port) = Sample::start(KEY);
    let asking = start(port, PATIENT);
    let with = config(port, "timeoutMillis: 10000, onFailure: Allow");
    let without: String = with
        .lines()
        .filter(|line| !line.starts_with("hooks:"))
        .map(|line| line.replace(&format!(", {POLICY}"), "") + "\n")
        .collect();
    let reload = |text: &str| {
        let before = asking.node.metric("channelcluster_node_config_reloads_total").unwrap_or_default();
        asking.mounts.write("node.yaml", text);
        asking.node.signal(rustix::process::Signal::HUP);
        let count = || asking.node.metric("channelcluster_node_config_reloads_total");
        wait("the file to be read", || count().is_some_and(|count| count > before));
    };
    reload(&without);
    let mut ben = asking.user("ben");
    wait("nobody to be asked", || ben.joined("room:staff") == json!({"status": "ok", "response": {}}));
    reload(&with);
    wait("the shards to have it", || ben.joined("room:lobby")["response"]["hello"] == "ben");
    assert_eq!(ben.joined("room:staff")["response"]["reason"], "staff only", "it is asked, not allowed");
    assert_eq!(asking.node.metric("channelcluster_node_hooks_failed_total"), Some(0.0));
}
