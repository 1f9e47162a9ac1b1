//! The rules of dev mode.

use serde_json::{Value, json};

use super::harness::{Client, REQUEST, Sent, Sim, masked};
use crate::counters::JoinRefusal;

const TOKEN: &str = "Sec-WebSocket-Protocol: phoenix, base64url.bearer.phx.c2VjcmV0\r\n";

fn dev() -> Sim {
    Sim::new(1, false, |config| config.fixed.dev = true)
}

/// Connects with a query and with more headers.
fn connect(sim: &mut Sim, query: &str, headers: &str) -> (Client, String) {
    let client = sim.accept(0);
    let request = REQUEST.replace("?vsn=2.0.0", query).replace("Upgrade: w", &format!("{headers}Upgrade: w"));
    let response = sim.http(client, &request);
    (client, response)
}

/// A binary push of V2 with the refs 1 and 2 into `room:1`.
fn binary(event: &str, data: &[u8]) -> Vec<u8> {
    let names = format!("12room:1{event}");
    let head = [0, 1, 1, 6, event.len() as u8];
    masked(0x82, &[&head[..], names.as_bytes(), data].concat())
}

#[test]
fn two_rooms_are_refused_each_with_its_reason() {
    let mut sim = dev();
    let client = sim.connect();
    sim.text(client, r#"["1","1","room:denied","phx_join",{}]"#);
    assert_eq!(
        sim.texts(client),
        [r#"["1","1","room:denied","phx_reply",{"status":"error","response":{"reason":"unauthorized"}}]"#]
    );
    sim.text(client, r#"["2","2","room:crashjoin","phx_join",{}]"#);
    assert_eq!(
        sim.texts(client),
        [r#"["2","2","room:crashjoin","phx_reply",{"status":"error","response":{"reason":"join crashed"}}]"#]
    );
    assert_eq!(sim.counters().joins_refused[JoinRefusal::Unauthorized as usize], 2);
    let mut without = Sim::dev();
    let client = without.connect();
    without.join(client, "room:denied", "1");
    without.join(client, "room:crashjoin", "2");
}

#[test]
fn the_server_pushes_in_each_form() {
    let mut sim = dev();
    let client = sim.connect();
    sim.join(client, "room:1", "1");
    sim.text(client, r#"[null,"2","room:1","push_me",{"a":1}]"#);
    assert_eq!(sim.texts(client), [r#"["1",null,"room:1","pushed",{"a":1}]"#]);
    sim.bytes(client, &binary("push_me", b"abc"));
    assert_eq!(sim.sent(client), [Sent::Binary(b"\x00\x01\x06\x061room:1pushedabc".to_vec())]);
    let old = sim.connect_to(0, "1.0.0");
    sim.text(old, r#"{"topic":"room:1","event":"phx_join","payload":{},"ref":"1"}"#);
    sim.text(old, r#"{"topic":"room:1","event":"push_me","payload":{"a":1},"ref":"2"}"#);
    assert_eq!(sim.texts(old)[1], r#"{"topic":"room:1","event":"pushed","payload":{"a":1},"ref":null}"#);
}

#[test]
fn stop_ends_the_channel_for_good() {
    let mut sim = dev();
    let client = sim.connect();
    sim.join(client, "room:1", "1");
    sim.text(client, r#"["1","2","room:1","stop",null]"#);
    assert_eq!(sim.texts(client), [r#"["1","1","room:1","phx_close",{}]"#]);
    assert_eq!(sim.counters().memberships, 0);
}

#[test]
fn an_error_is_replied_with_the_payload() {
    let mut sim = dev();
    let client = sim.connect();
    sim.join(client, "room:1", "1");
    sim.text(client, r#"["1","2","room:1","echo_error",{"why":"x"}]"#);
    assert_eq!(
        sim.texts(client),
        [r#"["1","2","room:1","phx_reply",{"status":"error","response":{"why":"x"}}]"#]
    );
    sim.bytes(client, &binary("echo_error", b"abc"));
    assert_eq!(sim.sent(client), [Sent::Binary(b"\x01\x01\x01\x06\x0512room:1errorabc".to_vec())]);
}

/// As the serializers of Phoenix, which raise; a fleet refuses such a payload with a reply. Only a response may be any value,
/// and what is pushed to a client of V1.
#[test]
fn a_payload_that_is_no_object_crashes_the_channel_unless_it_is_a_response() {
    let mut sim = dev();
    let client = sim.connect();
    for event in ["m", "m_ack", "push_me"] {
        sim.join(client, "room:1", "1");
        sim.text(client, &format!(r#"["1","2","room:1","{event}",[1]]"#));
        assert_eq!(sim.texts(client), [r#"["1","1","room:1","phx_error",{"reason":"channel_crash"}]"#]);
    }
    sim.join(client, "room:1", "1");
    for (event, status) in [("echo", "ok"), ("echo_error", "error")] {
        for payload in ["[1]", "null", "\"x\""] {
            sim.text(client, &format!(r#"["1","2","room:1","{event}",{payload}]"#));
            let reply =
                format!(r#"["1","2","room:1","phx_reply",{{"status":"{status}","response":{payload}}}]"#);
            assert_eq!(sim.texts(client), [reply]);
        }
    }
    let old = sim.connect_to(0, "1.0.0");
    sim.text(old, r#"{"topic":"room:2","event":"phx_join","payload":{},"ref":"1"}"#);
    sim.text(old, r#"{"topic":"room:2","event":"push_me","payload":[1],"ref":"2"}"#);
    assert_eq!(sim.texts(old)[1], r#"{"topic":"room:2","event":"pushed","payload":[1],"ref":null}"#);
}

#[test]
fn a_client_is_told_what_it_said_about_itself_and_the_memory_of_it_goes_with_the_connection() {
    let mut sim = dev();
    let (client, response) = connect(&mut sim, "?vsn=2.0.0&user_id=a+%22n%22", TOKEN);
    assert!(response.ends_with("\r\nsec-websocket-protocol: phoenix\r\n\r\n"), "{response}");
    let (nobody, _) = connect(&mut sim, "?vsn=2.0.0&user_id[]=ann", "");
    for (client, told) in [
        (client, json!({ "user_id": "a \"n\"", "auth_token": "secret" })),
        (nobody, json!({ "user_id": null, "auth_token": null })),
    ] {
        sim.join(client, "room:1", "1");
        sim.text(client, r#"["1","2","room:1","whoami",{}]"#);
        let reply: Value = serde_json::from_str(&sim.texts(client)[0]).expect("JSON");
        let response = json!({ "status": "ok", "response": told });
        assert_eq!(reply, json!(["1", "2", "room:1", "phx_reply", response]));
    }
    sim.check_ledgers();
    assert_eq!(sim.shards[0].sessions.side().iter().count(), 1, "who says nothing has no entry");
    assert!(!format!("{:?}", sim.shards[0].sessions.side()).contains("secret"));
    assert!(sim.shards[0].sessions.memory().channels > 0);
    sim.lose(client);
    sim.lose(nobody);
    sim.check_ledgers();
    let sessions = &sim.shards[0].sessions;
    assert!(sessions.side().iter().next().is_none() && sessions.memory().channels == 0);
}

#[test]
fn without_dev_mode_nothing_is_kept_and_nobody_is_refused_by_a_parameter() {
    let mut sim = Sim::dev();
    let (client, response) = connect(&mut sim, "?vsn=2.0.0&user_id=ann&refuse=1", TOKEN);
    assert!(response.starts_with("HTTP/1.1 101 "), "{response}");
    assert!(sim.shards[0].sessions.side().iter().next().is_none());
    sim.join(client, "room:1", "1");
    sim.text(client, r#"["1","2","room:1","whoami",{}]"#);
    assert_eq!(sim.texts(client), [r#"[null,null,"room:1","whoami",{}]"#]);
    let mut sim = dev();
    let (_, response) = connect(&mut sim, "?vsn=2.0.0&refuse=1", "");
    assert!(response.starts_with("HTTP/1.1 403 "), "{response}");
}
