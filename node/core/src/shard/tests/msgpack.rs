//! Members that speak MessagePack, beside others.

use super::harness::{Client, Sent, Sim, masked};
use crate::{
    counters::CloseReason,
    protocol::msgpack::{from_json, to_json},
};

const VSN: &str = "2.0.0%2Bmsgpack";

fn say(sim: &mut Sim, client: Client, json: &str) {
    sim.bytes(client, &masked(0x82, &from_json(json)));
}

/// What was sent, as JSON; a message with bytes is shown as it is.
fn heard(sim: &mut Sim, client: Client) -> Vec<Result<String, Vec<u8>>> {
    let json = |sent| match sent {
        Sent::Binary(bytes) => to_json(&bytes, usize::MAX).map_err(|_| bytes),
        other => panic!("{other:?}"),
    };
    sim.sent(client).into_iter().map(json).collect()
}

fn join(sim: &mut Sim, client: Client) {
    say(sim, client, r#"["1","1","room:1","phx_join",{}]"#);
    let ok = r#"["1","1","room:1","phx_reply",{"status":"ok","response":{}}]"#;
    assert_eq!(heard(sim, client), [Ok(ok.to_owned())]);
}

#[test]
fn members_of_each_serializer_hear_each_other_on_every_shard() {
    let mut sim = Sim::new(2, false, |_| {});
    let members: Vec<_> = (0..2)
        .map(|shard| {
            let (packed, text) = (sim.connect_to(shard, VSN), sim.connect_to(shard, "2.0.0"));
            join(&mut sim, packed);
            sim.join(text, "room:1", "1");
            (packed, text)
        })
        .collect();
    let payload = r#"{"a":[1,-2,0.5,18446744073709551615,null,true],"é\n":{"":"\\"}}"#;
    let said = format!(r#"[null,null,"room:1","m",{payload}]"#);
    for speaker in 0..2 {
        let (packed, text) = members[speaker];
        let message = format!(r#"["1","2","room:1","m",{payload}]"#);
        if speaker == 0 {
            say(&mut sim, packed, &message);
        } else {
            sim.text(text, &message);
        }
        for (packed, text) in &members {
            assert_eq!(heard(&mut sim, *packed), [Ok(said.clone())]);
            assert_eq!(sim.texts(*text), std::slice::from_ref(&said));
        }
    }
    // Bytes are of a type of their own on either side.
    let (packed, text) = members[0];
    let bytes = masked(0x82, b"\x95\xc0\xa12\xa6room:1\xa1m\xc4\x02\xff\x00");
    sim.bytes(packed, &bytes);
    sim.bytes(text, &masked(0x82, b"\0\x01\x01\x06\x0112room:1m\xff\0"));
    let broadcast = b"\x95\xc0\xc0\xa6room:1\xa1m\xc4\x02\xff\x00".to_vec();
    for (packed, text) in &members {
        assert_eq!(heard(&mut sim, *packed), [Err(broadcast.clone()), Err(broadcast.clone())]);
        assert_eq!(
            sim.sent(*text),
            [
                Sent::Binary(b"\x02\x06\x01room:1m\xff\0".to_vec()),
                Sent::Binary(b"\x02\x06\x01room:1m\xff\0".to_vec())
            ]
        );
    }
    let counters = sim.counters();
    assert_eq!((counters.publishes, counters.writes, counters.unencodable_writes), (4, 16, 0));
    sim.check_ledgers();
}

#[test]
fn each_answer_comes_in_the_form_of_the_question() {
    let mut sim = Sim::new(1, false, |config| config.fixed.dev = true);
    let client = sim.connect_to(0, VSN);
    let told = |sim: &mut Sim, message: &str| {
        say(sim, client, message);
        heard(sim, client).into_iter().map(|said| said.expect("JSON")).collect::<Vec<_>>()
    };
    for (message, answers) in [
        (
            r#"[null,5,"phoenix","heartbeat",{}]"#,
            &[r#"[null,5,"phoenix","phx_reply",{"status":"ok","response":{}}]"#][..],
        ),
        (
            r#"["1","1","elsewhere","phx_join",{}]"#,
            &[
                r#"[null,"1","elsewhere","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#,
            ],
        ),
        (
            r#"["1","1","room:1","phx_join",{}]"#,
            &[r#"["1","1","room:1","phx_reply",{"status":"ok","response":{}}]"#],
        ),
        (
            r#"["1","2","room:1","echo",{"a":[1.0,{"b":null}]}]"#,
            &[r#"["1","2","room:1","phx_reply",{"status":"ok","response":{"a":[1.0,{"b":null}]}}]"#],
        ),
        (r#"["1","2","room:1","push_me",{"a":1}]"#, &[r#"["1",null,"room:1","pushed",{"a":1}]"#]),
        (r#"["0","2","room:1","echo",{}]"#, &[]),
        (
            r#"["1","3","room:1","phx_leave",{}]"#,
            &[
                r#"["1","3","room:1","phx_reply",{"status":"ok","response":{}}]"#,
                r#"["1","1","room:1","phx_close",{}]"#,
            ],
        ),
    ] {
        assert_eq!(told(&mut sim, message), answers, "{message}");
    }
    join(&mut sim, client);
    sim.bytes(client, &masked(0x82, b"\x95\xa11\xa12\xa6room:1\xa4echo\xc4\x01\xff"));
    let reply = b"\x95\xa11\xa12\xa6room:1\xa9phx_reply\x82\xa6status\xa2ok\xa8response\xc4\x01\xff".to_vec();
    assert_eq!(heard(&mut sim, client), [Err(reply)]);
}

#[test]
fn messages_that_become_too_long_or_are_none_end_the_connection() {
    let mut sim = Sim::new(1, false, |config| config.limits.max_frame_bytes = 1_024);
    let message = |values: usize| {
        let mut bytes = b"\x95\xc0\xc0\xa6room:1\xa1m\x81\xa1a\xdc".to_vec();
        bytes.extend_from_slice(&(values as u16).to_be_bytes());
        bytes.extend(vec![0xc2; values]);
        masked(0x82, &bytes)
    };
    // `room:1`, `m`, `{"a":[` and `]}`, and a `false` and a comma for each value but the last.
    let fits = (1_024 - 7 - 8 + 1) / 6;
    let (client, other) = (sim.connect_to(0, VSN), sim.connect());
    join(&mut sim, client);
    sim.join(other, "room:1", "1");
    sim.bytes(client, &message(fits));
    assert_eq!((heard(&mut sim, client).len(), sim.texts(other).len()), (1, 1));
    sim.bytes(client, &message(fits + 1));
    assert_eq!((sim.sent(client), sim.sent(other)), (vec![Sent::Close(1009)], vec![]));
    for bytes in [
        &b"\x95\xc0\xc0\xa6room:1\xa1m\x81\xa1a\xc4\0"[..],
        b"\x95\xc0\xc0\xa6room:1\xa1m\xd6\xff\0\0\0\0",
        b"\x95\xc0\xc0\xa6room:1\xa1m\x81\x01\x01",
        b"\x95\xc0\xc0\xa6room:1\xa1m\xdd\xff\xff\xff\xff",
        b"",
    ] {
        let client = sim.connect_to(0, VSN);
        sim.bytes(client, &masked(0x82, bytes));
        assert_eq!(sim.sent(client), [Sent::Close(1011)], "{bytes:x?}");
    }
    let client = sim.connect_to(0, VSN);
    sim.text(client, r#"[null,"1","phoenix","heartbeat",{}]"#);
    assert_eq!(sim.sent(client), [Sent::Close(1011)], "text is no form of this serializer");
    let counters = sim.counters();
    assert_eq!(counters.closed[CloseReason::TooBig as usize], 1);
    assert_eq!(counters.closed[CloseReason::Malformed as usize], 6);
}
