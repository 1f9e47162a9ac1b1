//! The server API: a fleet of two nodes with a real NATS between them, and one node alone.

use std::{collections::HashSet, io::Write, net::TcpStream};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    pages,
    support::{
        client::Client, forgery::shared_token, nats::NatsServer, port::Port, process::Process, wait::wait,
    },
    tokens::Mounts,
};

const ISSUER: &str = "auth:\n  anonymous: true\n  jwt: [{issuer: shared, audience: chat, algorithms: [HS256], keyFile: tokens/secret}]\n";
/// The admin token of [`Mounts`].
pub(crate) const ADMIN: &str = "token";

pub(crate) fn config(more: &str) -> String {
    format!("cluster: {{namespace: default, name: chat}}\nrooms: {{topics: [\"room:*\"]}}\n{ISSUER}{more}")
}

/// A file of API keys.
pub(crate) fn keys(of: &[(&str, &str, &str)]) -> String {
    let line = |(name, key, rest): &(&str, &str, &str)| {
        let digest: String = Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("- {{name: {name}, sha256: {digest}, {rest}}}\n")
    };
    of.iter().map(line).fold("keys:\n".to_owned(), |all, line| all + &line)
}

pub(crate) fn start(mounts: &Mounts, name: &str) -> Process {
    let mut command = mounts.command();
    command.args(["--shards", "2", "--node-name", name, "--api-keys"]).arg(mounts.path("keys.yaml"));
    Process::start(command)
}

pub(crate) fn call(node: &Process, key: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let (status, answer) = node.ask(method, path, Some(key), &text);
    (status, serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}")))
}

fn post(node: &Process, path: &str, body: &Value) -> Value {
    let (status, answer) = call(node, ADMIN, "POST", path, body);
    assert_eq!(status, 200, "{answer}");
    answer
}

pub(crate) fn get(node: &Process, path: &str) -> Value {
    let (status, answer) = call(node, ADMIN, "GET", path, &Value::Null);
    assert_eq!(status, 200, "{answer}");
    answer
}

pub(crate) fn user(node: &Process, name: &str) -> Client {
    let mut client = Client::connect(node.listen, Some(&shared_token(name))).expect("the token is good");
    assert_eq!(client.joined("room:1")["status"], "ok");
    client
}

/// The texts that a client hears up to the one that ends with a dot.
fn heard(client: &mut Client) -> Vec<String> {
    let mut texts = Vec::new();
    loop {
        let message = client.until(|message| message[3] == "said");
        let text = message[4]["text"].as_str().expect("a text").to_owned();
        texts.push(text);
        if texts.last().is_some_and(|text| text.ends_with('.')) {
            return texts;
        }
    }
}

struct Fleet {
    nodes: [Process; 2],
    bus: Option<NatsServer>,
    port: Port,
    _mounts: Mounts,
}

impl Fleet {
    fn start() -> Self {
        let port = Port::reserve();
        let bus = NatsServer::start(&port, &[]);
        let url = bus.url();
        let mounts = Mounts::new(&config(&format!("bus: {{nats: {{urls: [\"{url}\"]}}}}\n")));
        let nodes = ["a", "b"].map(|name| start(&mounts, name));
        let fleet = Self { nodes, bus: Some(bus), port, _mounts: mounts };
        for node in &fleet.nodes {
            wait("both to hear each other", || {
                node.ready() == 200 && {
                    let answer = get(node, "/v1/topics");
                    answer["partial"] == false && get(node, "/v1/fleet")["nodes"] == 2
                }
            });
            wait("both to answer", || post(node, "/v1/refresh", &json!({"user": "nobody"}))["nodes"] == 2);
        }
        fleet
    }
}

#[test]
fn a_backend_speaks_to_the_fleet_by_whichever_node_it_asks() {
    let fleet = Fleet::start();
    let [a, b] = &fleet.nodes;
    let (mut ann, mut ben, mut again) = (user(a, "ann"), user(b, "ben"), user(b, "ann"));
    let said = |text: &str| json!({"topic": "room:1", "event": "said", "payload": {"text": text}});
    wait("the interest of both to be known", || {
        get(a, "/v1/topics/room:1")["nodes"]
            == json!([{"node": "a", "members": 1}, {"node": "b", "members": 2}])
    });
    assert_eq!(
        post(a, "/v1/publish", &said("one")),
        json!({"topics": 1, "reach": "fleet", "repeated": false})
    );
    assert_eq!(
        get(b, "/v1/topics"),
        json!({"topics": [{"topic": "room:1", "members": 3, "nodes": 2}], "partial": false})
    );

    // Once for each key, whichever node is asked.
    let mut keyed = said("two");
    keyed["idempotencyKey"] = json!("k1");
    let results: Vec<_> =
        [a, b, a, b].map(|node| post(node, "/v1/publish", &keyed)["repeated"].clone()).into();
    assert_eq!(results, [json!(false), json!(true), json!(true), json!(true)]);
    keyed["payload"]["text"] = json!("other");
    let (status, answer) = call(b, ADMIN, "POST", "/v1/publish", &keyed);
    assert_eq!((status, &answer["type"]), (422, &json!("urn:channelcluster:problem:key-reused")), "{answer}");

    // All but a user, on both nodes; the user has a connection on each.
    let mut spared = said("not for ann");
    spared["except"] = json!({"user": "ann"});
    assert_eq!(post(b, "/v1/publish", &spared)["reach"], "fleet");
    let batch = json!({"publications": [said("three"), {"topic": "x", "event": "said", "payload": {}}, said("end.")]});
    let answer = post(b, "/v1/publish/batch", &batch);
    assert_eq!(answer["results"][0]["topics"], 1);
    assert_eq!(answer["results"][1]["problem"]["field"], "topic", "{answer}");
    let own: HashSet<_> = heard(&mut ann).into_iter().collect();
    assert!(
        !own.contains("not for ann") && own.is_superset(&["one", "two", "three"].map(str::to_owned).into()),
        "{own:?}"
    );
    assert!(!heard(&mut again).contains(&"not for ann".to_owned()));
    let texts = heard(&mut ben);
    assert_eq!(texts.iter().filter(|text| *text == "two").count(), 1, "{texts:?}");
    assert!(texts.contains(&"not for ann".to_owned()), "{texts:?}");
}

#[test]
fn connections_are_listed_and_closed_wherever_they_are() {
    let fleet = Fleet::start();
    let [a, b] = &fleet.nodes;
    let (mut ann, mut ben, mut again) = (user(a, "ann"), user(b, "ben"), user(b, "ann"));
    let list = get(a, "/v1/users/ann/connections");
    assert_eq!(
        (list["connections"].as_array().map(Vec::len), &list["more"], &list["partial"]),
        (Some(2), &json!(false), &json!(false)),
        "{list}"
    );
    let one = list["connections"][1]["connection"].as_str().expect("a connection");
    let about = get(b, &format!("/v1/connections/{one}"));
    assert_eq!((&about["user"], &about["topics"]), (&json!("ann"), &json!(["room:1"])), "{about}");

    // Out of the topic, the connection stays.
    let done = post(b, "/v1/kick", &json!({"topic": "room:1", "user": "ann"}));
    assert_eq!(done, json!({"connections": 2, "nodes": 2, "partial": false}));
    for client in [&mut ann, &mut again] {
        client.until(|message| message[3] == "phx_close" && message[2] == "room:1");
        assert_eq!(client.joined("room:1")["status"], "ok", "it may join again when its user asks");
    }

    let told = post(a, "/v1/refresh", &json!({"user": "ben", "withinMillis": 60_000}));
    assert_eq!(told["connections"], 1);
    let warning = ben.until(|message| message[3] == "token_expiring");
    assert_eq!(warning[4]["expires_in_ms"], 60_000);
    post(a, "/v1/refresh", &json!({"user": "ben", "withinMillis": 0}));
    assert_eq!(ben.closed(), 4001);

    let done = post(a, "/v1/disconnect", &json!({"connection": one, "code": 4_321, "reason": "out"}));
    assert_eq!(done["connections"], 1);
    assert_eq!(again.closed(), 4_321);
    let (status, answer) = call(a, ADMIN, "GET", &format!("/v1/connections/{one}"), &Value::Null);
    assert_eq!((status, &answer["type"]), (404, &json!("urn:channelcluster:problem:not-found")));
    assert_eq!(post(b, "/v1/disconnect", &json!({"topic": "room:1"}))["connections"], 1);
    assert_eq!(ann.closed(), 1008);
    assert_eq!(get(b, "/v1/topics/room:1")["members"], 0);
}

#[test]
fn the_rooms_that_are_said_most_are_those_of_the_fleet() {
    let fleet = Fleet::start();
    let [a, b] = &fleet.nodes;
    let (mut ann, mut ben) = (user(a, "ann"), user(b, "ben"));
    let _quiet = [a, b, b].map(|node| Client::join(node.listen, "room:2"));
    let push = |client: &mut Client, text: &str| {
        client.send(&json!(["1", "2", "room:1", "said", {"text": text}]));
    };
    let figures = |top: &Value, at: usize| {
        let line = &top["topics"][at];
        (line["topic"].clone(), line["members"].clone(), line["nodes"].clone())
    };
    // Half of the deliveries are on each node, whichever is asked and wherever it was said.
    for node in [b, a] {
        wait("both nodes to name the room", || {
            push(&mut ann, "here");
            push(&mut ben, "there");
            let top = get(node, "/v1/topics/top");
            let count = top["topics"].as_array().map(Vec::len);
            (&top["partial"], &top["unseen"], count) == (&json!(false), &json!(0), Some(1))
                && figures(&top, 0) == (json!("room:1"), json!(2), json!(2))
                && top["topics"][0]["bytesPerSecond"].as_u64() > top["topics"][0]["writesPerSecond"].as_u64()
        });
    }
    wait("both nodes to say their members", || {
        let members = get(a, "/v1/topics/top?by=members&limit=2");
        [figures(&members, 0), figures(&members, 1)]
            == [(json!("room:2"), json!(3), json!(2)), (json!("room:1"), json!(2), json!(2))]
    });
    assert_eq!(get(a, "/v1/topics/top?by=members&limit=1")["topics"].as_array().map(Vec::len), Some(1));
    wait("the room with the most bytes", || {
        push(&mut ann, "here");
        get(a, "/v1/topics/top?by=bytes")["topics"][0]["topic"] == "room:1"
    });
    for (query, status) in [("limit=0", 422), ("limit=101", 422), ("by=noise", 400), ("prefix=x", 400)] {
        let (found, answer) = call(a, ADMIN, "GET", &format!("/v1/topics/top?{query}"), &Value::Null);
        assert_eq!(found, status, "{answer}");
    }
    let (_, named) = call(a, ADMIN, "GET", "/v1/topics/%74op", &Value::Null);
    assert_eq!(named["field"], "topic", "a topic may have this name: {named}");
    b.signal(rustix::process::Signal::STOP);
    let top = get(a, "/v1/topics/top?by=members");
    b.signal(rustix::process::Signal::CONT);
    assert_eq!((&top["partial"], figures(&top, 0).2), (&json!(true), json!(1)), "{top}");
}

#[test]
fn an_answer_that_lacks_a_node_says_so() {
    let mut fleet = Fleet::start();
    let mut client = user(&fleet.nodes[0], "ann");
    fleet.bus = None;
    let [a, b] = &fleet.nodes;
    wait("the loss to be seen", || get(a, "/v1/topics/room:1")["partial"] == true);
    let said = json!({"topic": "room:1", "event": "said", "payload": {"text": "here."}});
    assert_eq!(post(a, "/v1/publish", &said)["reach"], "part");
    assert_eq!(heard(&mut client), ["here."]);
    assert_eq!(post(a, "/v1/kick", &json!({"topic": "room:1"}))["partial"], true);
    fleet.bus = Some(NatsServer::start(&fleet.port, &[]));
    for node in [a, b] {
        wait("both to be back", || post(node, "/v1/refresh", &json!({"user": "nobody"}))["nodes"] == 2);
    }
    b.signal(rustix::process::Signal::STOP);
    let kicked = post(a, "/v1/kick", &json!({"topic": "room:1"}));
    b.signal(rustix::process::Signal::CONT);
    assert_eq!((&kicked["nodes"], &kicked["partial"]), (&json!(1), &json!(true)), "{kicked}");
}

#[test]
fn a_key_is_good_for_its_scopes_and_topics_until_it_is_taken_away() {
    let mounts = Mounts::new(&config(""));
    let all = [
        ("chat", "the-key-of-the-chat-backend", "scopes: [publish], topics: [\"room:1\"]"),
        ("support", "the-key-of-support-people", "scopes: [read, manage]"),
        ("second", "the-key-of-the-second-room", "scopes: [read], topics: [\"room:2\"]"),
        ("old", "the-key-that-ended-in-2001", "scopes: [read], notAfter: \"2001-01-01T00:00:00Z\""),
    ];
    mounts.write("keys.yaml", &keys(&all));
    let node = start(&mounts, "a");
    let _members = ["room:1", "room:2"].map(|topic| Client::join(node.listen, topic));
    let (_, top) =
        call(&node, "the-key-of-the-second-room", "GET", "/v1/topics/top?by=members", &Value::Null);
    assert_eq!(
        (top["topics"].as_array().map(Vec::len), &top["topics"][0]["topic"]),
        (Some(1), &json!("room:2")),
        "{top}"
    );
    let said = |topic: &str| json!({"topic": topic, "event": "said", "payload": {}});
    let status = |key: &str, method: &str, path: &str, body: &Value| call(&node, key, method, path, body).0;
    for (key, topic, expected) in [
        ("the-key-of-the-chat-backend", "room:1", 200),
        ("the-key-of-the-chat-backend", "room:2", 403),
        ("the-key-of-support-people", "room:1", 403),
        ("the-key-that-ended-in-2001", "room:1", 401),
        ("key-that-nobody-knows", "room:1", 401),
        ("", "room:1", 401),
    ] {
        let (found, answer) = call(&node, key, "POST", "/v1/publish", &said(topic));
        assert_eq!(found, expected, "{key} {topic} {answer}");
        assert!(!answer.to_string().contains("the-key-of"), "{answer}");
    }
    assert_eq!(status("the-key-of-support-people", "GET", "/v1/topics", &Value::Null), 200);
    assert_eq!(status("the-key-of-the-chat-backend", "GET", "/v1/topics", &Value::Null), 403);
    assert_eq!(
        status("the-key-of-the-chat-backend", "GET", "/v1/stats", &Value::Null),
        401,
        "it is no admin token"
    );
    assert_eq!(status("the-key-of-support-people", "POST", "/v1/disconnect", &json!({"user": "ann"})), 200);
    for (method, path, body, expected) in [
        ("GET", "/v1/publish", Value::Null, 405),
        ("POST", "/v1/publish", json!([]), 422),
        ("POST", "/v1/publish", json!({"topic": "room:1", "event": "said", "payload": {}, "odd": 1}), 422),
        ("GET", "/v1/topics?limit=0", Value::Null, 422),
        ("GET", "/v1/topics?limit=x", Value::Null, 400),
        ("GET", "/v1/topics/%ff", Value::Null, 400),
        ("POST", "/v1/disconnect", json!({}), 422),
    ] {
        let (found, answer) = call(&node, ADMIN, method, path, &body);
        assert_eq!(found, expected, "{method} {path} {body} {answer}");
        assert!(answer["remedy"].is_string() && answer["status"] == expected, "{answer}");
    }
    mounts.write("keys.yaml", &keys(&[("new", "the-key-that-came-after-all", "scopes: [read]")]));
    wait("the keys to be replaced", || {
        status("the-key-that-came-after-all", "GET", "/v1/fleet", &Value::Null) == 200
    });
    assert_eq!(status("the-key-of-support-people", "GET", "/v1/fleet", &Value::Null), 401);
    mounts.write("keys.yaml", "keys: [{}]");
    wait("the bad file to be told", || node.has_logged("the new API keys are not used"));
    assert_eq!(status("the-key-that-came-after-all", "GET", "/v1/fleet", &Value::Null), 200);
}

/// The commands of the page, each block in a shell with the address of a node and its admin token.
#[test]
fn every_command_of_the_page_works() {
    let mounts = Mounts::new(&config(""));
    let node = start(&mounts, "a");
    let page = pages::page("docs/API.md");
    let blocks: Vec<_> = page.split("```sh\n").skip(1).filter_map(|rest| rest.split_once("```")).collect();
    assert_eq!(blocks.len(), 6);
    for (block, _) in blocks {
        let shell = std::process::Command::new("bash")
            .args(["-euo", "pipefail", "-c", block])
            .env("API", format!("http://{}", node.admin))
            .env("KEY", ADMIN)
            .output()
            .expect("bash runs");
        let said = String::from_utf8_lossy(&shell.stderr).into_owned();
        assert!(shell.status.success() && !shell.stdout.is_empty(), "{block}: {said}");
    }
    let secret = page.split("```yaml\n").nth(1).and_then(|rest| rest.split_once("```")).expect("a Secret").0;
    let secret: Value = serde_saphyr::from_str(secret).expect("YAML");
    mounts.write("keys.yaml", secret["stringData"]["keys.yaml"].as_str().expect("a file of keys"));
    wait("the file of the page to be read", || node.metric("channelcluster_node_api_keys") == Some(2.0));
    for sort in node::api::problem::Sort::ALL {
        let (name, status, _) = sort.parts();
        assert!(page.contains(&format!("| `{name}` | {} |", status.as_u16())), "docs/API.md lacks {name}");
    }
}

/// The description has the routes that there are, and no others.
#[test]
fn the_description_is_that_of_the_routes() {
    let description: Value = serde_json::from_str(node::api::document()).expect("JSON");
    assert_eq!(description["openapi"], "3.1.0");
    let paths = description["paths"].as_object().expect("paths");
    assert_eq!(paths.keys().map(String::as_str).collect::<HashSet<_>>(), node::api_counts::ROUTES.into());
    let mounts = Mounts::new(&config(""));
    let node = start(&mounts, "a");
    let (status, served) = node.ask("GET", "/v1/openapi.json", None, "");
    assert_eq!((status, served.as_str()), (200, node::api::document()));
    for (path, methods) in paths {
        let path = path.replace("{topic}", "room%3A1").replace("{user}", "ann").replace("{connection}", "x");
        // A stream that is good does not end.
        let path = path.replace("/v1/events", "/v1/events?types=none");
        for method in ["GET", "POST", "PUT", "DELETE"] {
            let is_there = methods.get(method.to_lowercase()).is_some();
            let (status, _) = node.ask(method, &path, Some(ADMIN), "{}");
            assert_eq!(status != 405, is_there, "{method} {path} {status}");
        }
    }
}

#[test]
fn a_client_of_http_2_is_served() {
    let mounts = Mounts::new(&config(""));
    let node = start(&mounts, "a");
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
        for _ in 0..3 {
            let request = hyper::Request::get(format!("http://{}/v1/fleet", node.admin))
                .header("authorization", "Bearer token")
                .body(http_body_util::Empty::<bytes::Bytes>::new())
                .expect("a request");
            let answer = sender.send_request(request).await.expect("an answer");
            assert_eq!((answer.status().as_u16(), answer.version()), (200, hyper::Version::HTTP_2));
        }
    });
    let mut stream = TcpStream::connect(node.admin).expect("the admin port");
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n garbage garbage garbage").expect("taken");
    assert_eq!(node.ready(), 200);
}
