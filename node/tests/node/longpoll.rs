//! Long-poll over real connections: the exchanges that were recorded with Phoenix 1.8.12 and Bandit 1.12.5, and what a
//! client lives through. A request may come to any shard.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::http::{Answer, Http};
use crate::support::process::{Process, command};
use crate::support::wait::wait;
use crate::transcripts::exchanges;

const LINES: &str = "content-type: application/x-ndjson\r\n";

fn dev(shards: u8) -> Process {
    let mut command = command();
    command.args(["--dev", "--shards", &shards.to_string()]);
    Process::start(command)
}

/// A client that opens a connection for each request.
struct Session<'a> {
    node: &'a Process,
    token: String,
    vsn: &'static str,
}

impl<'a> Session<'a> {
    fn open(node: &'a Process, vsn: &'static str) -> Self {
        let mut session = Session { node, token: String::new(), vsn };
        let opened = session.ask("GET", "", "");
        assert_eq!((&opened["status"], &opened["messages"]), (&json!(410), &json!([])));
        session.token = opened["token"].as_str().unwrap().to_owned();
        session
    }

    fn target(&self) -> String {
        format!("/socket/longpoll?vsn={}&token={}", self.vsn, self.token)
    }

    fn answer(&self, method: &str, headers: &str, body: &str) -> Answer {
        let answer = Http::connect(self.node.listen).ask(method, &self.target(), headers, body);
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        answer
    }

    fn ask(&self, method: &str, headers: &str, body: &str) -> Value {
        let answer = self.answer(method, headers, body);
        assert_eq!(answer.status, 200, "{}", answer.head);
        answer.body
    }

    fn post(&self, lines: &[Value]) {
        let body: Vec<_> = lines.iter().map(Value::to_string).collect();
        assert_eq!(self.ask("POST", LINES, &body.join("\n")), json!({"status": 200}));
    }

    /// The messages of a poll, each read as JSON.
    fn poll(&self) -> Vec<Value> {
        let polled = self.ask("GET", "", "");
        assert_eq!((&polled["status"], &polled["token"]), (&json!(200), &json!(self.token)));
        let list = polled["messages"].as_array().unwrap();
        list.iter().map(|text| serde_json::from_str(text.as_str().unwrap()).unwrap()).collect()
    }

    fn join(&self, topic: &str) {
        self.post(&[json!(["1", "1", topic, "phx_join", {}])]);
        let reply = json!(["1", "1", topic, "phx_reply", {"response": {}, "status": "ok"}]);
        assert_eq!(self.poll(), [reply]);
    }
}

/// A request of a recorded exchange.
struct Asked {
    method: &'static str,
    target: String,
    headers: String,
    body: String,
}

/// The requests of an exchange; its answers are recorded. Those before it, which opened a session, are not.
fn requests(name: &str, node: &Process, random: &str) -> Vec<Asked> {
    let mut session =
        Session { node, token: String::new(), vsn: if name == "lp/v1" { "1.0.0" } else { "2.0.0" } };
    let asks = |session: &Session<'_>, method, headers: &str, body: &str| {
        let (target, headers, body) = (session.target(), headers.to_owned(), body.to_owned());
        Asked { method, target, headers, body }
    };
    let get = |session: &Session<'_>| asks(session, "GET", "", "");
    let post = |session: &Session<'_>, body: &str| asks(session, "POST", LINES, body);
    match name {
        "lp/open" => return vec![get(&session)],
        "lp/refused" => return vec![Asked { target: session.target() + "&refuse=1", ..get(&session) }],
        "lp/origin_ok" => return vec![asks(&session, "GET", "origin: http://localhost:3000\r\n", "")],
        "lp/bad_token_post" => {
            let bad = Session { node, token: "bad".to_owned(), vsn: "2.0.0" };
            return vec![post(&bad, "[]"), post(&session, "[]")];
        }
        _ => session = Session::open(node, session.vsn),
    }
    let join = format!(r#"["1","1","room:{random}","phx_join",{{}}]"#);
    let echo = |i: u8| format!(r#"["1","{i}","room:{random}","echo",{{"i":{i}}}]"#);
    let new = format!(r#"["1","6","room:{random}","new_msg",{{"b":1}}]"#);
    match name {
        "lp/join_echo_broadcast" => {
            let echoes = [2, 3, 4, 5].map(echo).join("\n");
            [join, echoes, new].iter().flat_map(|body| [post(&session, body), get(&session)]).collect()
        }
        "lp/options" => {
            let headers =
                "access-control-request-headers: content-type\r\naccess-control-request-method: POST\r\n";
            vec![asks(&session, "OPTIONS", headers, "")]
        }
        "lp/put" => vec![asks(&session, "PUT", "", "")],
        "lp/malformed_post" => vec![post(&session, "[malformed"), get(&session)],
        "lp/empty_post" => vec![post(&session, "")],
        "lp/v1" => {
            let join = format!(r#"{{"topic":"room:{random}","event":"phx_join","payload":{{}},"ref":"1"}}"#);
            vec![asks(&session, "POST", "content-type: application/json\r\n", &join), get(&session)]
        }
        "lp/204_after_window" => vec![get(&session)],
        other => panic!("nobody knows what was asked in {other}"),
    }
}

/// Compares an answer with what is recorded of it: the status, the headers that begin with `access-control-`, and the body,
/// whose messages are texts of JSON, or bytes as a text. An error says what is different.
pub(crate) fn compare(recorded: &str, answer: &Answer) -> Result<(), String> {
    let (head, body) = recorded.split_once(" {").map_or((recorded, None), |(head, body)| (head, Some(body)));
    let (status, headers) = head.split_once(' ').unwrap_or((head, ""));
    if answer.status.to_string() != status {
        return Err(answer.status.to_string());
    }
    let header = |line: &str| {
        let (key, value) = line.trim().split_once('=').unwrap();
        (key.to_owned(), value.to_owned())
    };
    let expected: BTreeMap<_, _> =
        headers.split("access-control-").filter(|line| !line.is_empty()).map(header).collect();
    let got = answer.head.lines().filter_map(|line| line.strip_prefix("access-control-")?.split_once(": "));
    let got: BTreeMap<_, _> = got.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    if got != expected {
        return Err(format!("{got:?}"));
    }
    let read = |mut body: Value| {
        if let Some(token) = body.get_mut("token") {
            *token = json!("TOKEN");
        }
        for message in body.get_mut("messages").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Ok(json) = serde_json::from_str(message.as_str().unwrap()) {
                *message = json;
            }
        }
        body
    };
    let expected = body.map_or(Value::Null, |body| serde_json::from_str(&format!("{{{body}")).unwrap());
    let got = read(answer.body.clone());
    if got == read(expected) { Ok(()) } else { Err(got.to_string()) }
}

#[test]
fn the_recorded_exchanges_are_the_same() {
    let node = dev(2);
    let mut compared = 0;
    for (name, lines) in exchanges().iter().filter(|(name, _)| name.starts_with("lp/")) {
        let random = name.replace('/', "-");
        let lines = lines.iter().map(|line| line.replace('@', &random));
        let recorded: Vec<_> = lines.filter_map(|line| Some(line.split_once(" -> ")?.1.to_owned())).collect();
        let requests = requests(name, &node, &random);
        assert_eq!(recorded.len(), requests.len(), "{name}");
        let begun = Instant::now();
        for (recorded, Asked { method, target, headers, body }) in recorded.iter().zip(requests) {
            let answer = Http::connect(node.listen).ask(method, &target, &headers, &body);
            assert_eq!(compare(recorded, &answer), Ok(()), "{name}: {recorded}");
            compared += 1;
        }
        let waits = name == "lp/204_after_window";
        assert_eq!((9..12).contains(&begun.elapsed().as_secs()), waits, "{name}: {:?}", begun.elapsed());
    }
    assert!(compared > 15, "only {compared} answers were compared");
}

#[test]
fn what_cannot_be_read_is_refused_and_the_session_goes_on() {
    let node = dev(2);
    let session = Session::open(&node, "2.0.0");
    let origin = "origin: http://evil.example\r\n";
    assert_eq!(session.ask("GET", origin, ""), json!({"status": 403}));
    let unknown = Session { node: &node, token: String::new(), vsn: "7.0.0" };
    assert_eq!(unknown.ask("GET", "", ""), json!({"status": 403}));
    assert_eq!(session.answer("POST", LINES, "no base64!").status, 400);
    session.join("room:after");
}

#[test]
fn a_session_is_reached_by_connections_of_every_shard_and_hears_who_is_on_any() {
    let node = dev(3);
    let sessions: Vec<_> = (0..4).map(|_| Session::open(&node, "2.0.0")).collect();
    sessions.iter().for_each(|session| session.join("room:all"));
    let (mut socket, _) = Client::join(node.listen, "room:all");
    let waiting: Vec<_> = sessions
        .iter()
        .map(|session| {
            let mut http = Http::connect(node.listen);
            http.send("GET", &session.target(), "", "");
            http
        })
        .collect();
    for round in 0..10 {
        sessions[round % 4].post(&[json!(["1", null, "room:all", "m", {"round": round}])]);
        socket.until(|message| message[3] == "m" && message[4]["round"] == round);
    }
    for (session, mut http) in sessions.iter().zip(waiting) {
        let mut rounds = Vec::new();
        let mut answer = http.receive().body;
        loop {
            for text in answer["messages"].as_array().unwrap() {
                let message: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
                rounds.push(message[4]["round"].as_u64().unwrap());
            }
            if rounds.len() == 10 {
                break;
            }
            answer = http.ask("GET", &session.target(), "", "").body;
        }
        assert_eq!(rounds, (0..10).collect::<Vec<_>>(), "in their order, each once");
    }
    assert_eq!(node.metric("channelcluster_node_poll_sessions"), Some(4.0));
    assert_eq!(node.metric("channelcluster_node_posts_total"), Some(14.0));
}

#[test]
fn a_session_survives_a_request_that_is_lost_and_ends_when_nobody_polls() {
    let node = dev(2);
    let session = Session::open(&node, "2.0.0");
    session.join("room:lost");
    let mut lost = Http::connect(node.listen);
    lost.send("GET", &session.target(), "", "");
    wait("the poll to wait", || node.metric("channelcluster_node_polls_total") == Some(3.0));
    drop(lost);
    wait("the loss to be seen", || node.metric("channelcluster_node_polling") == Some(0.0));
    let (mut socket, _) = Client::join(node.listen, "room:lost");
    socket.send(&json!(["1", null, "room:lost", "m", {"n": 1}]));
    assert_eq!(session.poll(), [json!([null, null, "room:lost", "m", {"n": 1}])]);
    let begun = Instant::now();
    wait("its end", || node.metric("channelcluster_node_poll_sessions") == Some(0.0));
    assert!(
        (Duration::from_secs(13)..Duration::from_secs(20)).contains(&begun.elapsed()),
        "{:?}",
        begun.elapsed()
    );
    let gone = session.ask("GET", "", "");
    assert_eq!(gone["status"], 410);
    assert_ne!(gone["token"], session.token.as_str());
}

#[test]
fn requests_share_a_connection_until_one_of_them_ends_it() {
    let node = dev(2);
    let mut http = Http::connect(node.listen);
    let opened = http.ask("GET", "/socket/longpoll?vsn=2.0.0", "", "");
    let token = format!("x-phoenix-longpoll-token: {}\r\n", opened.body["token"].as_str().unwrap());
    let target = "/socket/longpoll?vsn=2.0.0&token=older";
    let beat = json!([null, "1", "phoenix", "heartbeat", {}]).to_string();
    for round in 0..3 {
        assert_eq!(http.ask("POST", target, &token, &beat).body["status"], 200, "{round}");
        assert_eq!(http.ask("GET", target, &token, "").body["messages"].as_array().unwrap().len(), 1);
    }
    assert_eq!(node.metric("channelcluster_node_polling"), Some(1.0));
    let last = http.ask("POST", target, &format!("{token}connection: close\r\n"), &beat);
    assert_eq!((last.header("connection"), last.body["status"].as_u64()), (Some("close"), Some(200)));
    assert!(http.has_ended());
    let old = node.public("GET /socket/longpoll HTTP/1.0\r\nhost: localhost\r\n\r\n");
    assert!(old.contains("\r\nconnection: close\r\n") && old.contains("\"status\":410"), "{old}");
}

#[test]
fn large_bodies_pass_and_too_large_ones_do_not() {
    let node = dev(2);
    let session = Session::open(&node, "2.0.0");
    let text = "x".repeat(60_000);
    let message = json!([null, "1", "phoenix", "heartbeat", {"x": text}]).to_string();
    let lines = vec![message; 100].join("\n");
    let mut replies = 0;
    assert_eq!(session.ask("POST", LINES, &lines), json!({"status": 200}));
    while replies < 100 {
        replies += session.poll().iter().filter(|message| message[1] == "1").count();
    }
    let answer = session.answer("POST", "", &"x".repeat(8_000_001));
    assert_eq!(answer.status, 413);
    assert_eq!(node.metric("channelcluster_node_poll_sessions"), Some(1.0));
}

#[test]
fn a_node_that_ends_tells_those_who_wait() {
    let mut node = dev(2);
    let session = Session::open(&node, "2.0.0");
    let mut http = Http::connect(node.listen);
    http.send("GET", &session.target(), "", "");
    wait("the poll to wait", || node.metric("channelcluster_node_polls_total") == Some(2.0));
    node.signal(Signal::TERM);
    assert_eq!(http.receive().body["status"], 410);
    assert_eq!(node.exited().code(), Some(0));
}
