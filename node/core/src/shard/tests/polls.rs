//! Long-poll: sessions without a socket, whose requests come on connections of any shard.

use super::harness::{Client, REQUEST, Sent, Sim, drain};
use crate::{
    counters::{CloseReason, RefuseReason},
    limits::{POLL_WINDOW_MILLIS, SESSION_LIFETIME_MILLIS},
    shard::{Event, Mail},
};

/// A session of a client, and where its requests go.
#[derive(Debug, Clone)]
struct Poller {
    http: Client,
    token: String,
}

/// The text of a request.
pub(super) fn text(method: &str, token: &str, headers: &str, body: &str) -> String {
    format!(
        "{method} /socket/longpoll?vsn=2.0.0&token={token} HTTP/1.1\r\nHost: h\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Splits what was sent on an HTTP connection into its responses: each with its head and body.
pub(super) fn responses(mut sent: &str) -> Vec<(String, serde_json::Value)> {
    let mut all = Vec::new();
    while let Some((head, rest)) = sent.split_once("\r\n\r\n") {
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        let length: usize = length.expect("a length").parse().expect("a number");
        let (body, after) = rest.split_at(length);
        all.push((head.to_owned(), serde_json::from_str(body).unwrap_or_default()));
        sent = after;
    }
    assert_eq!(sent, "");
    all
}

/// Sends a request and returns the bodies of all responses that came since the last call.
fn ask(sim: &mut Sim, client: Client, request: &str) -> Vec<serde_json::Value> {
    responses(&sim.http(client, request)).into_iter().map(|(_, body)| body).collect()
}

fn open(sim: &mut Sim, shard: usize) -> Poller {
    let http = sim.accept(shard);
    let opened = ask(sim, http, &text("GET", "", "", ""));
    assert_eq!((status(&opened[0]), &opened[0]["messages"]), (410, &serde_json::json!([])));
    Poller { http, token: opened[0]["token"].as_str().expect("a token").to_owned() }
}

impl Poller {
    fn poll(&self, sim: &mut Sim) -> Vec<serde_json::Value> {
        self.poll_on(sim, self.http)
    }

    fn poll_on(&self, sim: &mut Sim, client: Client) -> Vec<serde_json::Value> {
        ask(sim, client, &text("GET", &self.token, "", ""))
    }

    fn post_on(&self, sim: &mut Sim, client: Client, body: &str) -> Vec<serde_json::Value> {
        let headers = "content-type: application/x-ndjson\r\n";
        ask(sim, client, &text("POST", &self.token, headers, body))
    }

    fn post(&self, sim: &mut Sim, body: &str) {
        assert_eq!(self.post_on(sim, self.http, body), [serde_json::json!({"status": 200})]);
    }

    /// Joins a topic.
    fn join(&self, sim: &mut Sim, topic: &str) {
        self.post(sim, &format!(r#"["1","1","{topic}","phx_join",{{}}]"#));
        let said = self.said(sim);
        assert!(said.len() == 1 && said[0].contains(r#""status":"ok""#), "{said:?}");
    }

    /// Polls for messages that are there.
    fn said(&self, sim: &mut Sim) -> Vec<String> {
        messages(&self.poll(sim))
    }
}

fn messages(bodies: &[serde_json::Value]) -> Vec<String> {
    let [body] = bodies else { panic!("{bodies:?}") };
    assert_eq!(body["status"], 200, "{body}");
    let list = body["messages"].as_array().expect("a list");
    list.iter().map(|text| text.as_str().expect("a text").to_owned()).collect()
}

fn status(body: &serde_json::Value) -> u64 {
    body["status"].as_u64().expect("a status")
}

#[test]
fn a_session_joins_says_and_hears_on_one_connection_and_on_several_of_any_shard() {
    for shards in [1, 3] {
        let mut sim = Sim::new(shards, false, |_| {});
        let last = usize::from(shards) - 1;
        let poller = open(&mut sim, 0);
        poller.join(&mut sim, "room:1");
        let socket = sim.connect_to(last, "2.0.0");
        sim.join(socket, "room:1", "1");
        let (polls, posts) = (sim.accept(last), sim.accept(last));
        assert!(poller.poll_on(&mut sim, polls).is_empty(), "it waits");
        sim.text(socket, r#"["1",null,"room:1","m",{"n":1}]"#);
        let heard = responses(&sim.http(polls, ""));
        assert_eq!(heard[0].1["messages"][0], r#"[null,null,"room:1","m",{"n":1}]"#);
        let said = poller.post_on(
            &mut sim,
            posts,
            "[\"1\",\"2\",\"room:1\",\"m\",{\"n\":2}]\n[\"1\",\"3\",\"room:1\",\"echo\",{}]",
        );
        assert_eq!(said, [serde_json::json!({"status": 200})]);
        let both = messages(&poller.poll_on(&mut sim, polls));
        assert!(both[0].contains(r#"{"n":2}"#) && both[1].contains(r#""3""#) && both.len() == 2, "{both:?}");
        assert_eq!(sim.texts(socket)[1], r#"[null,null,"room:1","m",{"n":2}]"#);
        let counters = sim.counters();
        assert_eq!((counters.connections, counters.poll_sessions, counters.polling), (2, 1, 3));
        assert_eq!((counters.polls, counters.posts, counters.handshaking), (4, 2, 0));
        sim.check_ledgers();
    }
}

#[test]
fn a_poll_without_messages_ends_after_its_window_and_a_session_without_polls_after_its_lifetime() {
    for shard in [0, 1] {
        let mut sim = Sim::new(2, false, |_| {});
        let mut poller = open(&mut sim, 0);
        poller.http = sim.accept(shard);
        assert!(poller.poll(&mut sim).is_empty());
        sim.pass(POLL_WINDOW_MILLIS - 100);
        assert_eq!(sim.http(poller.http, ""), "");
        sim.pass(200);
        let ended = responses(&sim.http(poller.http, ""));
        assert_eq!(status(&ended[0].1), 204);
        assert_eq!(ended[0].1["token"], poller.token.as_str());
        sim.pass(SESSION_LIFETIME_MILLIS - 500);
        assert_eq!(sim.counters().poll_sessions, 1);
        assert!(poller.poll(&mut sim).is_empty(), "it is still there");
        sim.pass(POLL_WINDOW_MILLIS + SESSION_LIFETIME_MILLIS + 500);
        assert_eq!(status(&responses(&sim.http(poller.http, ""))[0].1), 204);
        let counters = sim.counters();
        assert_eq!((counters.poll_sessions, counters.closed[CloseReason::Lost as usize]), (0, 1));
        assert_eq!(status(&poller.post_on(&mut sim, poller.http, "[]")[0]), 410);
        let again = &poller.poll(&mut sim)[0];
        assert_eq!(status(again), 410);
        assert_ne!(again["token"], poller.token.as_str(), "as Phoenix, it gives another session");
        assert_eq!(sim.counters().poll_sessions, 1);
        sim.check_ledgers();
    }
}

#[test]
fn what_is_said_between_polls_waits_within_the_bounds_of_a_queue() {
    let mut sim = Sim::new(1, false, |config| config.limits.send_queue_frames = 5);
    let poller = open(&mut sim, 0);
    poller.join(&mut sim, "room:1");
    let socket = sim.connect();
    sim.join(socket, "room:1", "1");
    for said in 1..=5 {
        sim.text(socket, &format!(r#"["1",null,"room:1","m",{{"n":{said}}}]"#));
    }
    assert_eq!(poller.said(&mut sim).len(), 5);
    for _ in 0..6 {
        sim.text(socket, r#"["1",null,"room:1","m",{}]"#);
    }
    assert_eq!(sim.counters().closed[CloseReason::SlowConsumer as usize], 1);
    assert_eq!(status(&poller.poll(&mut sim)[0]), 410, "it is told that it missed something");
    sim.check_ledgers();
}

#[test]
fn a_session_survives_a_lost_request_and_ends_with_an_answer_that_was_not_sent() {
    for shard in [0, 1] {
        let mut sim = Sim::new(2, false, |_| {});
        let poller = open(&mut sim, 0);
        poller.join(&mut sim, "room:1");
        let lost = sim.accept(shard);
        assert!(poller.poll_on(&mut sim, lost).is_empty());
        sim.lose(lost);
        let socket = sim.connect();
        sim.join(socket, "room:1", "1");
        sim.text(socket, r#"["1",null,"room:1","m",{}]"#);
        assert_eq!(poller.said(&mut sim).len(), 1, "nothing was lost");
        let stuck = sim.accept(shard);
        assert!(poller.poll_on(&mut sim, stuck).is_empty());
        sim.limit(stuck, Some(0));
        sim.text(socket, r#"["1",null,"room:1","m",{}]"#);
        sim.lose(stuck);
        let beat = r#"[null,"9","phoenix","heartbeat",{}]"#;
        let told =
            if shard == 0 { poller.poll(&mut sim) } else { poller.post_on(&mut sim, poller.http, beat) };
        assert_eq!(status(&told[0]), 500, "each stock client joins again by this status");
        assert_eq!(status(&poller.poll(&mut sim)[0]), 410);
        sim.check_ledgers();
    }
}

#[test]
fn a_poll_that_waits_is_told_that_an_answer_before_was_not_sent() {
    let mut sim = Sim::new(2, false, |_| {});
    let poller = open(&mut sim, 0);
    poller.join(&mut sim, "room:1");
    let socket = sim.connect();
    sim.join(socket, "room:1", "1");
    let stuck = sim.accept(1);
    assert!(poller.poll_on(&mut sim, stuck).is_empty());
    sim.limit(stuck, Some(0));
    sim.text(socket, r#"["1",null,"room:1","m",{}]"#);
    assert!(poller.poll(&mut sim).is_empty());
    sim.lose(stuck);
    assert_eq!(status(&responses(&sim.http(poller.http, ""))[0].1), 500);
    sim.check_ledgers();
}

#[test]
fn a_newer_poll_ends_the_one_before() {
    let mut sim = Sim::dev();
    let poller = open(&mut sim, 0);
    assert!(poller.poll(&mut sim).is_empty());
    let newer = sim.accept(0);
    assert!(poller.poll_on(&mut sim, newer).is_empty());
    assert_eq!(status(&responses(&sim.http(poller.http, ""))[0].1), 204);
    poller.post(&mut sim, r#"[null,"9","phoenix","heartbeat",{}]"#);
    let answer = responses(&sim.http(newer, ""));
    assert_eq!(answer[0].1["messages"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_post_is_taken_at_the_rate_of_its_session_and_answered_then() {
    let mut sim = Sim::new(1, false, |config| config.limits.messages_per_second = 20);
    let poller = open(&mut sim, 0);
    let beats = |count| vec![r#"[null,"9","phoenix","heartbeat",{}]"#; count].join("\n");
    poller.post(&mut sim, &beats(60));
    assert_eq!(poller.post_on(&mut sim, poller.http, &beats(100)).len(), 0, "it waits");
    let other = sim.accept(0);
    assert_eq!(status(&poller.post_on(&mut sim, other, &beats(1))[0]), 408, "one at a time");
    sim.pass(1_000);
    assert_eq!(sim.http(poller.http, ""), "");
    sim.pass(2_000);
    assert_eq!(status(&responses(&sim.http(poller.http, ""))[0].1), 200);
    let said = poller.said(&mut sim);
    assert!(said.len() == 161 && said.iter().any(|text| text.contains("rate limited")), "{}", said.len());
    assert_eq!(sim.counters().heartbeats, 160);
}

#[test]
fn a_post_that_is_not_taken_in_its_window_is_told_so() {
    let mut sim = Sim::new(1, false, |config| config.limits.messages_per_second = 1);
    let poller = open(&mut sim, 0);
    let beats = [r#"[null,"9","phoenix","heartbeat",{}]"#; 50].join("\n");
    assert!(poller.post_on(&mut sim, poller.http, &beats).is_empty());
    sim.pass(POLL_WINDOW_MILLIS + 100);
    assert_eq!(status(&responses(&sim.http(poller.http, ""))[0].1), 408);
    assert!(!poller.said(&mut sim).is_empty());
}

#[test]
fn v1_and_binary_messages_pass() {
    let mut sim = Sim::dev();
    let http = sim.accept(0);
    let request = "GET /socket/longpoll HTTP/1.1\r\nHost: h\r\n\r\n";
    let token = ask(&mut sim, http, request)[0]["token"].as_str().expect("a token").to_owned();
    let join = r#"{"topic":"room:1","event":"phx_join","payload":{},"ref":"1"}"#;
    let poller = Poller { http, token };
    let taken = ask(&mut sim, http, &text("POST", &poller.token, "content-type: text/plain\r\n", join));
    assert_eq!(status(&taken[0]), 200);
    let reply = r#"{"topic":"room:1","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"1"}"#;
    assert_eq!(poller.said(&mut sim), [reply]);
    let second = open(&mut sim, 0);
    second.join(&mut sim, "room:1");
    // The push of a stock client: kind 0, then the lengths of join_ref, ref, topic and event.
    second.post(&mut sim, "AAEBBgExMnJvb206MW3//g==");
    assert_eq!(second.said(&mut sim), ["AgYBcm9vbToxbf/+"], "kind 2, in base64");
    second.post(&mut sim, "AAEBBgQxMnJvb206MWVjaG9hYg==");
    assert_eq!(
        second.said(&mut sim),
        ["\u{1}\u{1}\u{1}\u{6}\u{2}12room:1okab"],
        "kind 1, as Phoenix writes it"
    );
    assert_eq!(sim.counters().unencodable_writes, 1);
}

#[test]
fn requests_come_in_parts_and_several_at_once() {
    let mut sim = Sim::new(2, false, |_| {});
    let poller = open(&mut sim, 0);
    let http = sim.accept(1);
    let beat = r#"[null,"9","phoenix","heartbeat",{}]"#;
    let post = text("POST", &poller.token, "", beat);
    for byte in post.bytes() {
        assert_eq!(sim.http(http, ""), "");
        sim.bytes(http, &[byte]);
        sim.check_ledgers();
    }
    assert_eq!(status(&responses(&sim.http(http, ""))[0].1), 200);
    let three = [post.clone(), text("GET", &poller.token, "", ""), text("OPTIONS", "", "", "")].concat();
    let answers = ask(&mut sim, http, &three);
    assert_eq!(answers.len(), 3, "{answers:?}");
    assert_eq!((status(&answers[0]), messages(&answers[1..2]).len()), (200, 2));
    sim.check_ledgers();
}

#[test]
fn a_kept_connection_may_become_a_websocket() {
    let mut sim = Sim::dev();
    let poller = open(&mut sim, 0);
    let response = sim.http(poller.http, REQUEST);
    assert!(response.starts_with("HTTP/1.1 101 "), "{response}");
    sim.join(poller.http, "room:1", "1");
    let counters = sim.counters();
    assert_eq!((counters.connections, counters.polling, counters.handshaking), (2, 0, 0));
}

#[test]
fn a_drain_tells_a_poll_that_waits_and_takes_posts_that_are_under_way() {
    let mut sim = Sim::new(2, false, |_| {});
    let poller = open(&mut sim, 0);
    poller.join(&mut sim, "room:1");
    let socket = sim.connect_to(1, "2.0.0");
    sim.join(socket, "room:1", "1");
    let http = sim.accept(1);
    assert!(poller.poll_on(&mut sim, http).is_empty());
    sim.shards[0].handle(drain(1_000));
    sim.settle();
    assert_eq!(status(&responses(&sim.http(http, ""))[0].1), 410);
    assert_eq!(status(&poller.post_on(&mut sim, http, r#"["1",null,"room:1","m",{}]"#)[0]), 200);
    assert_eq!(sim.texts(socket).len(), 1);
    assert_eq!(status(&poller.poll_on(&mut sim, http)[0]), 410);
    assert_eq!(sim.counters().closed[CloseReason::Drain as usize], 1);
    sim.pass(4_000);
    assert_eq!(sim.shards[0].connections(), 0);
}

#[test]
fn the_end_of_the_node_leaves_nothing() {
    let mut sim = Sim::new(2, false, |_| {});
    let pollers: Vec<_> = (0..4).map(|index| open(&mut sim, index % 2)).collect();
    let waiting: Vec<_> = (0..4).map(|index| sim.accept((index / 2) % 2)).collect();
    for (poller, http) in pollers.iter().zip(&waiting) {
        assert!(poller.poll_on(&mut sim, *http).is_empty());
    }
    sim.shards.iter_mut().for_each(|shard| shard.handle(Event::Mail(Mail::Shutdown)));
    sim.settle();
    sim.pass(100);
    for http in waiting {
        let (head, body) = responses(&sim.http(http, "")).remove(0);
        assert!(head.contains("connection: close") && status(&body) == 410, "{head}");
    }
    sim.pass(6_000);
    assert!(sim.shards.iter().all(|shard| shard.connections() == 0));
    sim.check_ledgers();
}

#[test]
fn refusals() {
    let bytes =
        crate::longpoll::body::most_bytes(crate::config::NodeConfig::dev().limits.max_frame_bytes) + 1;
    let long = format!("content-length: {bytes}\r\n");
    let chunked = "transfer-encoding: chunked\r\n";
    for (method, extra, code, said) in [
        ("PUT", "", "400", None),
        ("HEAD", "", "400", None),
        ("DELETE", "", "400", None),
        ("GET", "content-length: 1\r\n", "400", None),
        ("POST", chunked, "411", None),
        ("POST", "content-length: 1\r\ncontent-length: 1\r\n", "400", None),
        ("POST", "content-length: 1\r\ntransfer-encoding: chunked\r\n", "400", None),
        ("POST", "content-length: +1\r\n", "400", None),
        ("POST", &long, "413", None),
        ("POST", "content-length: 99999999999999999999999\r\n", "413", None),
        ("POST", "x-phoenix-longpoll-token: x\r\n", "200", Some(410)),
        ("GET", "origin: http://evil.example\r\n", "200", Some(403)),
        ("OPTIONS", "origin: http://evil.example\r\n", "200", Some(403)),
    ] {
        let mut sim = Sim::dev();
        let poller = open(&mut sim, 0);
        let target = format!("/socket/longpoll?vsn=2.0.0&token={}", poller.token);
        let request = format!("{method} {target} HTTP/1.1\r\nHost: h\r\n{extra}\r\n");
        let (head, body) = responses(&sim.http(poller.http, &request)).remove(0);
        assert!(head.starts_with(&format!("HTTP/1.1 {code} ")), "{method} {extra}: {head}");
        assert!(head.contains("\r\naccess-control-allow-origin: *") && head.contains("connection: close"));
        assert_eq!(body.get("status").and_then(serde_json::Value::as_u64), said, "{method} {extra}");
        assert!(sim.output_ended(poller.http));
        sim.check_ledgers();
    }
}

#[test]
fn a_client_that_may_not_have_a_session_is_told_so() {
    let mut sim = Sim::new(1, false, |config| config.limits.max_connections = 1);
    let http = sim.accept(0);
    let versions = "GET /socket/longpoll?vsn=9.0.0 HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(status(&ask(&mut sim, http, versions)[0]), 403);
    open(&mut sim, 0);
    let full = sim.accept(0);
    assert!(sim.http(full, &text("GET", "", "", "")).starts_with("HTTP/1.1 503 "));
    let counters = sim.counters();
    assert_eq!(counters.refused[RefuseReason::Version as usize], 1);
    assert_eq!(counters.refused[RefuseReason::Full as usize], 1);
    let mut off = Sim::new(1, false, |config| config.long_poll = false);
    let http = off.accept(0);
    assert!(off.http(http, &text("GET", "", "", "")).starts_with("HTTP/1.1 404 "));
}

#[test]
fn what_is_malformed_or_too_long_ends_no_other_session() {
    let mut sim = Sim::new(1, false, |config| config.limits.max_frame_bytes = 1_000);
    let poller = open(&mut sim, 0);
    assert_eq!(status(&poller.post_on(&mut sim, poller.http, "[nonsense")[0]), 408);
    assert_eq!(sim.counters().closed[CloseReason::Malformed as usize], 1);
    assert_eq!(status(&poller.poll(&mut sim)[0]), 410);
    let poller = open(&mut sim, 0);
    let long = format!(r#"[null,"9","phoenix","heartbeat",{{"x":"{}"}}]"#, "x".repeat(1_000));
    assert_eq!(status(&poller.post_on(&mut sim, poller.http, &long)[0]), 408);
    assert_eq!(sim.counters().closed[CloseReason::TooBig as usize], 1);
    assert_eq!(status(&poller.poll(&mut sim)[0]), 410);
    let other = open(&mut sim, 0);
    let http = sim.accept(0);
    assert!(
        sim.http(http, &text("POST", &other.token, "content-type: application/x-ndjson\r\n", "*"))
            .starts_with("HTTP/1.1 400 ")
    );
    assert!(other.poll(&mut sim).is_empty(), "the session goes on");
}

#[test]
fn a_client_that_reads_no_answers_gets_one() {
    let mut sim = Sim::dev();
    let http = sim.accept(0);
    sim.limit(http, Some(0));
    sim.bytes(http, text("GET", "", "", "").repeat(100).as_bytes());
    let counters = sim.counters();
    assert_eq!((counters.poll_sessions, counters.polls), (1, 1));
    sim.limit(http, None);
    assert_eq!(sim.counters().poll_sessions, 100);
    sim.limit(http, Some(0));
    sim.bytes(http, text("GET", "", "", "").repeat(1_000).as_bytes());
    sim.bytes(http, b"GET ");
    assert_eq!(sim.closed, [http], "it says more than is kept");
}

#[test]
fn bodies_that_do_not_come_stay_within_the_budget() {
    const BUDGET: u64 = 1 << 20;
    let mut sim = Sim::new(1, false, |config| config.limits.memory_budget = Some(BUDGET));
    let poller = open(&mut sim, 0);
    let whole = text("POST", &poller.token, "", &"x".repeat(100_000));
    for _ in 0..60 {
        let http = sim.accept(0);
        for part in whole.as_bytes()[..70_000].chunks(20_000) {
            if !sim.closed.contains(&http) {
                sim.bytes(http, part);
            }
            let shard = &sim.shards[0];
            assert!(shard.held() < BUDGET, "{}", shard.held());
        }
        sim.check_ledgers();
    }
    let refused = sim.counters().refused[RefuseReason::Memory as usize];
    assert!(refused > 0, "{refused}");
    assert_eq!(sim.counters().poll_sessions, 1);
}

#[test]
fn a_socket_that_hears_what_a_session_says_hears_it_as_from_any_other() {
    let mut sim = Sim::new(2, false, |_| {});
    let poller = open(&mut sim, 0);
    poller.join(&mut sim, "room:1");
    let socket = sim.connect_to(1, "2.0.0");
    sim.join(socket, "room:1", "1");
    poller.post(&mut sim, r#"["1","2","room:1","m_ack",{}]"#);
    assert_eq!(sim.sent(socket), [Sent::Text(r#"[null,null,"room:1","m",{}]"#.to_owned())]);
    assert_eq!(poller.said(&mut sim).len(), 2);
    poller.post(&mut sim, r#"["1","3","room:1","phx_leave",{}]"#);
    assert_eq!(poller.said(&mut sim).len(), 2);
    assert_eq!(sim.counters().memberships, 1);
}
