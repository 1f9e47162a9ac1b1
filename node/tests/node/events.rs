//! The stream of events of a real node.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, SystemTime},
};

use rustix::{
    net::{AddressFamily, SocketType, sockopt},
    process::Signal,
};
use serde_json::{Value, json};

use crate::{
    api::{ADMIN, call, config, get, keys, start, user},
    support::{
        client::Client,
        nats::NatsServer,
        port::Port,
        process::Process,
        wait::{HANG, wait},
    },
    tokens::Mounts,
};

const KEY: &str = "a-key-that-may-read-events";

/// One who listens, by HTTP/1.0, which has no chunks.
struct Listener(BufReader<TcpStream>);

/// An event.
#[derive(Debug, Clone, PartialEq)]
struct Event {
    id: Option<String>,
    name: String,
    data: Value,
}

impl Listener {
    /// Asks for a stream; the head of the answer.
    fn ask(node: &Process, key: &str, query: &str) -> (Self, String) {
        Self::ask_on(TcpStream::connect(node.admin).expect("the admin port"), key, query)
    }

    fn ask_on(mut stream: TcpStream, key: &str, query: &str) -> (Self, String) {
        stream.set_read_timeout(Some(HANG)).expect("a time-out");
        write!(
            stream,
            "GET /v1/events{query} HTTP/1.0\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n\r\n"
        )
        .expect("sent");
        let (mut reader, mut head) = (BufReader::new(stream), String::new());
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).expect("a head") > 0, "it ended: {head:?}");
        }
        (Self(reader), head.to_ascii_lowercase())
    }

    /// A stream that is open, and has said its first word.
    fn open(node: &Process, key: &str, query: &str) -> Self {
        let (mut listener, head) = Self::ask(node, key, query);
        assert!(head.contains(" 200 ") && head.contains("\ncontent-type: text/event-stream\r\n"), "{head}");
        assert!(head.contains("\ncache-control: no-store\r\n"), "{head}");
        listener.begin();
        listener
    }

    fn begin(&mut self) {
        let mut first = String::new();
        self.0.read_line(&mut first).expect("a line");
        self.0.read_line(&mut first).expect("a line");
        assert_eq!(first, "retry: 3000\n\n");
    }

    /// The next event; none when the stream has ended as an answer ends.
    fn next(&mut self) -> Option<Event> {
        let mut event = Event { id: None, name: String::new(), data: Value::Null };
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).expect("a line, or the end") == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                // A comment keeps the connection alive, and ends with a blank line as an event does.
                Some(("", _)) => {}
                None if event.name.is_empty() => {}
                None => return Some(event),
                Some(("id", id)) => event.id = Some(id.to_owned()),
                Some(("event", name)) => name.clone_into(&mut event.name),
                Some(("data", data)) => event.data = serde_json::from_str(data).expect("JSON"),
                Some(_) => panic!("{line}"),
            }
        }
    }

    fn expect(&mut self, name: &str) -> Value {
        let event = self.next().expect("an event");
        assert_eq!(event.name, name, "{event:?}");
        event.data
    }

    /// Hears so many events, told and lost, and how often some were lost.
    fn count(&mut self, events: u64) -> [u64; 3] {
        let [mut told, mut lost, mut times] = [0; 3];
        while told + lost < events {
            let event = self.next().expect("it is not ended");
            if event.name == "lost" {
                lost += event.data["count"].as_u64().expect("a count");
                times += 1;
            } else {
                told += 1;
            }
        }
        [told, lost, times]
    }

    /// The events up to the end.
    fn rest(mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// How it went on with what can be read of it.
    fn body(mut self) -> Value {
        let mut text = String::new();
        self.0.read_to_string(&mut text).expect("a body");
        serde_json::from_str(&text).expect("JSON")
    }
}

fn leave(client: &mut Client, topic: &str) {
    client.send(&json!(["1", "2", topic, "phx_leave", {}]));
    client.until(|message| message[3] == "phx_close");
}

fn node(mounts: &Mounts) -> Process {
    start(mounts, "a")
}

#[test]
fn what_happens_to_a_connection_is_told_as_the_api_names_it() {
    let mounts = Mounts::new(&config(""));
    let node = node(&mounts);
    let before = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_millis();
    let mut listener = Listener::open(&node, ADMIN, "");
    let mut ann = user(&node, "ann");
    let list = get(&node, "/v1/users/ann/connections");
    let connection = &list["connections"][0]["connection"];
    leave(&mut ann, "room:1");
    ann.close(4_002);
    let anonymous = Client::connect(node.listen, None).expect("it may");
    let told: Vec<_> = (0..5).map(|_| listener.next().expect("an event")).collect();
    let names: Vec<_> = told.iter().map(|event| &*event.name).collect();
    assert_eq!(names, ["connect", "join", "leave", "disconnect", "connect"]);
    for event in &told[..4] {
        assert_eq!(
            (&event.data["connection"], &event.data["user"]),
            (connection, &json!("ann")),
            "{event:?}"
        );
        assert_eq!(event.data["node"], "a");
        assert!(u128::from(event.data["atMillis"].as_u64().expect("a time")) + 1_000 >= before, "{event:?}");
    }
    assert_eq!((&told[0].data["transport"], &told[1].data["topic"]), (&json!("websocket"), &json!("room:1")));
    assert_eq!((&told[3].data["cause"], &told[3].data["code"]), (&json!("peer"), &json!(4_002)));
    assert!(told[4].data.get("user").is_none() && told[4].data["connection"] != *connection, "{:?}", told[4]);
    let mut ids: Vec<_> = told.iter().map(|event| event.id.clone().expect("an id")).collect();
    ids.dedup();
    assert_eq!(ids.len(), 5);
    assert!(connection.as_str().expect("a text").starts_with(ids[0].split('-').next().expect("a part")));

    assert_eq!(node.metric("channelcluster_node_api_event_streams"), Some(1.0));
    wait("all to be counted", || node.metric("channelcluster_node_api_events_total") == Some(5.0));
    drop(listener);
    wait("the stream to be forgotten", || node.metric("channelcluster_node_api_event_streams") == Some(0.0));
    drop(anonymous);
}

#[test]
fn a_stream_hears_what_it_asks_for_and_what_its_key_may_hear() {
    let mounts = Mounts::new(&config(""));
    let publisher = "a-key-that-may-publish-only";
    mounts.write(
        "keys.yaml",
        &keys(&[
            ("some", KEY, "scopes: [read], topics: [\"room:1*\"]"),
            ("publisher", publisher, "scopes: [publish]"),
        ]),
    );
    let node = node(&mounts);
    for (key, query, status) in [
        (KEY, "?types=connect", 403),
        (KEY, "?types=join,bus", 403),
        (publisher, "", 403),
        ("key-that-nobody-knows", "", 401),
        (ADMIN, "?types=joined", 422),
        (ADMIN, "?topic=", 422),
        (ADMIN, "?scope=fleet", 400),
    ] {
        let (listener, head) = Listener::ask(&node, key, query);
        assert!(head.contains(&format!(" {status} ")), "{key} {query} {head}");
        assert!(listener.body()["remedy"].is_string());
    }
    let mut by_type = Listener::open(&node, ADMIN, "?types=leave,drain");
    let mut by_topic = Listener::open(&node, ADMIN, "?topic=room:2");
    let mut by_user = Listener::open(&node, ADMIN, "?user=ben");
    let mut by_key = Listener::open(&node, KEY, "");
    let (mut ann, mut ben) = (user(&node, "ann"), user(&node, "ben"));
    for client in [&mut ann, &mut ben] {
        for topic in ["room:2", "room:22", "room:12"] {
            client.send(&json!(["1", "1", topic, "phx_join", {}]));
            client.until(|message| message[1] == "1");
        }
        leave(client, "room:2");
    }
    for who in ["ann", "ben"] {
        let left = by_type.expect("leave");
        assert_eq!((&left["topic"], &left["user"]), (&json!("room:2"), &json!(who)));
        for (name, topic) in [("join", "room:2"), ("join", "room:22"), ("leave", "room:2")] {
            let event = by_topic.expect(name);
            assert_eq!((&event["topic"], &event["user"]), (&json!(topic), &json!(who)));
        }
    }
    let names: Vec<_> = (0..6).map(|_| by_user.next().expect("an event")).map(|event| event.name).collect();
    assert_eq!(names, ["connect", "join", "join", "join", "join", "leave"]);
    let topics: Vec<_> = (0..4).map(|_| by_key.expect("join")["topic"].clone()).collect();
    assert_eq!(topics, ["room:1", "room:1", "room:12", "room:12"]);
}

#[test]
fn a_slow_reader_is_told_what_it_misses_and_holds_nobody_up() {
    const EVENTS: u64 = 4_000;
    const AT_ONCE: u64 = 50;
    let mounts = Mounts::new(&config("limits: {messagesPerSecond: 1000000, bytesPerSecond: 1000000000}\n"));
    let node = node(&mounts);
    let small = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    sockopt::set_socket_recv_buffer_size(&small, 4_096).expect("a small buffer");
    rustix::net::connect(&small, &node.admin).expect("the admin port");
    let (mut slow, head) = Listener::ask_on(small.into(), ADMIN, "?types=join,leave");
    assert!(head.contains(" 200 "), "{head}");
    let mut quick = Listener::open(&node, ADMIN, "?types=join,leave");
    let quick = std::thread::spawn(move || quick.count(EVENTS));
    // Each of these letters is six in JSON.
    let topic = format!("room:{}", "\u{1}".repeat(240));
    let mut client = user_of_no_room(&node);
    // Many at once: a stream of which nothing is taken for 30 s is ended.
    for _ in 0..EVENTS / 2 / AT_ONCE {
        for _ in 0..AT_ONCE {
            client.send(&json!(["1", "1", topic, "phx_join", {}]));
            client.send(&json!(["1", "2", topic, "phx_leave", {}]));
        }
        for _ in 0..AT_ONCE {
            client.until(|message| message[3] == "phx_close");
        }
    }
    let [told, lost, _] = quick.join().expect("it heard all");
    assert_eq!(told + lost, EVENTS, "{told} {lost}");
    assert!(node.metric("channelcluster_node_api_events_lost_total") > Some(0.0));
    slow.begin();
    let [told, lost, times] = slow.count(EVENTS);
    assert_eq!(told + lost, EVENTS, "{told} {lost}");
    assert!(lost > 0 && times < 20, "{lost} in {times}");
    client.joined("room:1");
    assert_eq!(slow.expect("join")["topic"], "room:1", "it goes on");
}

fn user_of_no_room(node: &Process) -> Client {
    Client::connect(node.listen, None).expect("it may")
}

#[test]
fn there_are_so_many_streams_and_no_more() {
    let mounts = Mounts::new(&config(""));
    let node = node(&mounts);
    let mut open: Vec<_> = (0..16).map(|_| Listener::open(&node, ADMIN, "?types=drain")).collect();
    let (refused, head) = Listener::ask(&node, ADMIN, "");
    assert!(head.contains(" 503 ") && head.contains("\nretry-after: "), "{head}");
    assert!(head.contains("\ncontent-type: application/problem+json"), "{head}");
    assert_eq!(refused.body()["type"], "urn:channelcluster:problem:busy");
    assert_eq!(get(&node, "/v1/topics")["partial"], false, "requests have other places");
    open.pop();
    wait("the place to be free", || Listener::ask(&node, ADMIN, "").1.contains(" 200 "));
}

#[test]
fn a_stream_ends_when_its_key_does() {
    let mounts = Mounts::new(&config(""));
    let (other, short) = ("another-key-that-may-read", "a-key-that-soon-comes-to-its-end");
    let (reads, late) = ("scopes: [read]", rfc3339(SystemTime::now() + Duration::from_secs(20)));
    let ends = format!("scopes: [read], notAfter: \"{late}\"");
    let all = [("a", KEY, reads), ("b", other, reads), ("c", short, &*ends)];
    mounts.write("keys.yaml", &keys(&all));
    let node = node(&mounts);
    let mut kept = Listener::open(&node, other, "?types=connect");
    let ended = Listener::open(&node, short, "?types=connect");
    assert!(ended.rest().is_empty(), "its time has come");
    let (removed, mut admin) =
        (Listener::open(&node, KEY, ""), Listener::open(&node, ADMIN, "?types=config"));
    mounts.write("keys.yaml", &keys(&all[1..]));
    // It may hear that the file was read.
    assert!(removed.rest().iter().all(|event| event.name == "config"));
    assert_eq!(admin.expect("config")["state"], "reloaded");
    mounts.write("admin-token", "another");
    assert!(admin.rest().is_empty());
    let _client = user_of_no_room(&node);
    kept.expect("connect");
    mounts.write("keys.yaml", &keys(&[("b", other, "scopes: [read], topics: [\"room:*\"]")]));
    assert!(kept.rest().is_empty(), "it may hear less now");
}

/// A time as RFC 3339 writes it.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs();
    let date = std::process::Command::new("date")
        .args(["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%SZ"])
        .output()
        .expect("date runs");
    String::from_utf8(date.stdout).expect("text").trim().to_owned()
}

#[test]
fn a_node_that_leaves_tells_it_to_the_end() {
    let mounts = Mounts::new(&config("drain: {delayMillis: 0, connectionsPerSecond: 1000}\n"));
    let mut node = node(&mounts);
    let listener = Listener::open(&node, ADMIN, "?types=disconnect,drain");
    let mut ann = user(&node, "ann");
    // The operator takes it out, and back.
    let drain = |method: &str, stage: &str| {
        let body =
            if stage.is_empty() { String::new() } else { json!({"version": 1, "stage": stage}).to_string() };
        assert_eq!(node.ask(method, "/v1/drain", Some(ADMIN), &body).0, 200);
    };
    let mut second = Listener::open(&node, ADMIN, "?types=drain");
    drain("POST", "Unready");
    assert_eq!(second.expect("drain")["state"], "begun");
    drain("DELETE", "");
    assert_eq!(second.expect("drain")["state"], "cancelled");
    drain("POST", "Close");
    assert_eq!(ann.closed(), 1012);
    drop(ann);
    let end = second.rest();
    let states: Vec<_> = end.iter().map(|event| (&event.data["state"], &event.data["connections"])).collect();
    assert_eq!(states.last(), Some(&(&json!("ended"), &json!(0))), "{end:?}");
    let told = listener.rest();
    let gone: Vec<_> = told.iter().filter(|event| event.name == "disconnect").collect();
    assert_eq!(gone.len(), 1, "{told:?}");
    assert_eq!((&gone[0].data["cause"], &gone[0].data["code"]), (&json!("drain"), &json!(1012)));

    drain("DELETE", "");
    wait("the node to serve", || node.ready() == 200);
    let last = Listener::open(&node, ADMIN, "?types=disconnect,drain");
    let mut ben = user(&node, "ben");
    node.signal(Signal::TERM);
    assert_eq!(ben.closed(), 1012);
    drop(ben);
    let told = last.rest();
    let words: Vec<_> =
        told.iter().map(|event| event.data["state"].as_str().unwrap_or("disconnect").to_owned()).collect();
    let mut sorted = words.clone();
    sorted.sort();
    assert_eq!(sorted, ["begun", "disconnect", "ended"]);
    assert_eq!(words.last().map(String::as_str), Some("ended"), "{words:?}");
    assert!(node.exited().success());
}

#[test]
fn limits_files_and_the_bus_are_told() {
    let port = Port::reserve();
    let bus = NatsServer::start(&port, &[]);
    let text = config(&format!("bus: {{nats: {{urls: [\"{}\"]}}}}\n", bus.url()));
    let text = text.replace("topics: [\"room:*\"]", "topics: [\"room:*\"], maxMembers: 1");
    let mounts = Mounts::new(&text);
    let node = node(&mounts);
    wait("the bus", || node.ready() == 200);
    let mut listener = Listener::open(&node, ADMIN, "?types=limit,config,bus");
    let _member = user(&node, "ann");
    let mut others: Vec<_> = (0..3).map(|_| user_of_no_room(&node)).collect();
    for client in &mut others {
        assert_eq!(client.joined("room:1")["status"], "error");
    }
    let mut count = 0;
    while count < 3 {
        let hit = listener.expect("limit");
        assert_eq!((&hit["limit"], &hit["key"]), (&json!("members"), &json!("rooms.maxMembers")));
        count += hit["count"].as_u64().expect("a count");
    }
    assert_eq!(count, 3);
    mounts.write("node.yaml", &(text.clone() + "chatPage: true\n"));
    let config = listener.expect("config");
    assert_eq!((&config["state"], &config["count"]), (&json!("reloaded"), &json!(1)));
    mounts.write("node.yaml", &(text + "odd: true\n"));
    assert_eq!(listener.expect("config")["state"], "refused");
    drop(bus);
    assert_eq!(listener.expect("bus")["state"], "lost");
    let _bus = NatsServer::start(&port, &[]);
    assert_eq!(listener.expect("bus")["state"], "back");
}

#[test]
fn a_stream_comes_by_http_2_as_well() {
    use http_body_util::BodyExt as _;

    let mounts = Mounts::new(&config(""));
    let node = node(&mounts);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(node.admin).await.expect("the admin port");
        let (mut sender, connection) = hyper::client::conn::http2::handshake(
            hyper_util::rt::TokioExecutor::new(),
            hyper_util::rt::TokioIo::new(stream),
        )
        .await
        .expect("a connection");
        tokio::spawn(connection);
        let request = hyper::Request::get(format!("http://{}/v1/events?types=connect", node.admin))
            .header("authorization", format!("Bearer {ADMIN}"))
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .expect("a request");
        let mut answer = sender.send_request(request).await.expect("an answer");
        assert_eq!((answer.status().as_u16(), answer.version()), (200, hyper::Version::HTTP_2));
        let mut text = String::new();
        let address: SocketAddr = node.listen;
        let client = std::thread::spawn(move || Client::connect(address, None));
        while !text.contains("event: connect\n") {
            let piece = answer.frame().await.expect("a piece").expect("no error").into_data().expect("data");
            text += std::str::from_utf8(&piece).expect("text");
        }
        assert!(text.starts_with("retry: 3000\n\n"), "{text}");
        drop(client.join());
    });
    drop(runtime);
    wait("the stream to be forgotten", || node.metric("channelcluster_node_api_event_streams") == Some(0.0));
    let (status, _) = call(&node, ADMIN, "GET", "/v1/node", &Value::Null);
    assert_eq!(status, 200);
}
