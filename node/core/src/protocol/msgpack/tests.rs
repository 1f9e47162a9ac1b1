use proptest::prelude::*;
use rmpv::Value;

use super::*;
use crate::{
    limits::MAX_JSON_DEPTH,
    protocol::{RawRef, Vsn, decode_binary},
    ws::frame::split_server_frame,
};

fn json_of(bytes: &[u8]) -> Result<String, Unreadable> {
    to_json(bytes, usize::MAX)
}

/// What another program writes for a value.
fn written(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    rmpv::encode::write_value(&mut out, value).expect("a vector takes all");
    out
}

/// What another program reads.
fn read(mut bytes: &[u8]) -> Value {
    let value = rmpv::decode::read_value(&mut bytes).expect("MessagePack");
    assert!(bytes.is_empty(), "{bytes:?}");
    value
}

/// The JSON that another program makes of the values that JSON has a form for.
fn expected(value: &Value) -> serde_json::Value {
    match value {
        Value::Nil => serde_json::Value::Null,
        Value::Boolean(value) => (*value).into(),
        Value::Integer(number) => match number.as_u64() {
            Some(number) => number.into(),
            None => number.as_i64().expect("64 bits").into(),
        },
        Value::F32(number) => f64::from(*number).into(),
        Value::F64(number) => (*number).into(),
        Value::String(text) => text.as_str().expect("UTF-8").into(),
        Value::Array(values) => values.iter().map(expected).collect(),
        Value::Map(pairs) => {
            let pairs =
                pairs.iter().map(|(key, value)| (key.as_str().expect("a text").to_owned(), expected(value)));
            serde_json::Value::Object(pairs.collect())
        }
        Value::Binary(_) | Value::Ext(..) => panic!("JSON has no form for {value}"),
    }
}

/// Values that JSON has a form for, with few floats that need all of their digits: `serde_json` is not exact about them.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-40_000..70_000_i64).prop_map(Value::from),
        any::<i32>().prop_map(|number| Value::F64(f64::from(number) / 8.0)),
        any::<i16>().prop_map(|number| Value::F32(f32::from(number) / 4.0)),
        any::<String>().prop_map(Value::from),
        "[\\x00-\\x7f]{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 96, 20, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..20).prop_map(Value::Array),
            proptest::collection::btree_map(any::<String>(), inner, 0..20).prop_map(|pairs| {
                Value::Map(pairs.into_iter().map(|(key, value)| (key.into(), value)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn what_another_program_writes_is_read_without_loss(value in values()) {
        let json = json_of(&written(&value)).expect("valid");
        let parsed: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        prop_assert_eq!(parsed, expected(&value));
        // And back: floats may take fewer bytes, and are the same numbers.
        prop_assert_eq!(expected(&read(&from_json(&json))), expected(&value));
        prop_assert_eq!(json_of(&from_json(&json)), Ok(json));
    }

    #[test]
    fn json_of_any_form_is_written_without_loss(value in values(), pretty: bool) {
        let value = expected(&value);
        let json = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        prop_assert_eq!(expected(&read(&from_json(&json.expect("a tree is JSON")))), value);
    }

    #[test]
    fn floats_keep_every_bit(bits: u64) {
        let number = f64::from_bits(bits);
        let json = json_of(&written(&Value::F64(number)));
        if number.is_finite() {
            let json = json.expect("a number");
            let bits_again = match read(&from_json(&json)) {
                Value::F64(again) => again.to_bits(),
                Value::F32(again) => f64::from(again).to_bits(),
                other => panic!("{other}"),
            };
            prop_assert_eq!((bits_again, json.parse::<f64>().map(f64::to_bits)), (bits, Ok(bits)));
        } else {
            prop_assert_eq!(json, Err(Unreadable::Malformed));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused_within_the_bound(bytes: Vec<u8>, most in 0..64_usize) {
        let whole = json_of(&bytes);
        match to_json(&bytes, most) {
            Ok(json) => prop_assert!(json.len() <= most && whole == Ok(json)),
            Err(Unreadable::TooBig) => prop_assert!(whole.map_or(true, |json| json.len() > most)),
            Err(error) => prop_assert_eq!(whole, Err(error)),
        }
    }
}

#[test]
fn each_form_of_a_value_is_read_and_the_shortest_written() {
    let long = "x".repeat(70_000);
    for (value, json) in [
        (Value::from(127), "127"),
        (Value::from(128), "128"),
        (Value::from(-32), "-32"),
        (Value::from(-33), "-33"),
        (Value::from(65_535), "65535"),
        (Value::from(i64::from(i32::MIN) - 1), "-2147483649"),
        (Value::from(u64::MAX), "18446744073709551615"),
        (Value::from(i64::MIN), "-9223372036854775808"),
        (Value::F32(-0.0), "-0.0"),
        (Value::F32(5.0), "5.0"),
        (Value::F64(0.1), "0.1"),
        (Value::F64(1e300), "1e300"),
        (Value::from("\"\\\n\u{1}\u{7f}é"), "\"\\\"\\\\\\n\\u0001\u{7f}é\""),
        (Value::from("x".repeat(32)), &format!("\"{}\"", &long[..32])),
        (Value::from("x".repeat(256)), &format!("\"{}\"", &long[..256])),
        (Value::from(&*long), &format!("\"{long}\"")),
        (Value::Array(vec![Value::Nil; 16]), &format!("[{}null]", "null,".repeat(15))),
        (Value::Array(vec![Value::Nil; 65_536]), &format!("[{}null]", "null,".repeat(65_535))),
        (Value::Map(vec![(Value::from("a"), Value::Array(vec![]))]), r#"{"a":[]}"#),
    ] {
        let bytes = written(&value);
        assert_eq!(json_of(&bytes).as_deref(), Ok(json), "{json:.60}");
        assert!(from_json(json) == bytes, "{json:.60}");
    }
    // Longer forms than needed are read as well, and numbers of JSON beyond 64 bits become floats.
    for (bytes, json) in [
        (&b"\xd3\0\0\0\0\0\0\0\x07"[..], "7"),
        (b"\xcf\0\0\0\0\0\0\0\x07", "7"),
        (b"\xdb\0\0\0\x01a", r#""a""#),
        (b"\xdf\0\0\0\x01\xda\0\x01a\xdd\0\0\0\0", r#"{"a":[]}"#),
    ] {
        assert_eq!(json_of(bytes).as_deref(), Ok(json));
    }
    assert_eq!(read(&from_json("100000000000000000000")), Value::F64(1e20));
    assert_eq!(read(&from_json("-0")), Value::F32(-0.0));
    assert_eq!(read(&from_json(" { \"\\u0061\" : [ 1 , true ] } ")).to_string(), r#"{"a": [1, true]}"#);
}

#[test]
fn what_json_has_no_form_for_is_malformed() {
    for bytes in [
        &b""[..],
        b"\xc1",
        b"\xc4\x01a",
        b"\x91\xc4\0",
        b"\xd4\x01a",
        b"\xc7\x01\x01a",
        b"\xd6\xff\0\0\0\0",
        b"\x81\x01\x02",
        b"\x81\xc0\x02",
        b"\x81\xc4\x01a\x02",
        b"\xa1\xff",
        b"\xa3\xed\xa0\x80",
        b"\x81\xa1\xff\x02",
        b"\xcb\x7f\xf0\0\0\0\0\0\0",
        b"\xca\x7f\xc0\0\0",
        b"\x92\x01",
        b"\x01\x01",
        b"\xdd\xff\xff\xff\xff\xc0",
        b"\xdf\x7f\xff\xff\xff\xa0\xc0",
        b"\xdb\xff\xff\xff\xffa",
        b"\xc6\xff\xff\xff\xffa",
    ] {
        assert_eq!(json_of(bytes), Err(Unreadable::Malformed), "{bytes:x?}");
    }
    let nested = |depth| [vec![0x91; depth], vec![0xc0]].concat();
    assert!(json_of(&nested(MAX_JSON_DEPTH)).is_ok());
    assert_eq!(json_of(&nested(MAX_JSON_DEPTH + 1)), Err(Unreadable::TooDeep));
    let maps = [b"\x81\xa1a".repeat(MAX_JSON_DEPTH + 1), vec![0xc0]].concat();
    assert_eq!(json_of(&maps), Err(Unreadable::TooDeep));
    assert_eq!(json_of(&vec![0x91; 60_000]), Err(Unreadable::TooDeep));
}

fn decoded<'a>(bytes: &'a [u8], json: &'a mut String, most_bytes: usize) -> Result<Message<'a>, Unreadable> {
    decode_binary(Vsn::MessagePack, bytes, Translation { json, most_bytes })
}

#[test]
fn messages_are_read() {
    let mut json = String::new();
    let message = decoded(b"\x95\xa11\x07\xa1t\xa1e\x81\xa1a\x92\x01\xc0", &mut json, 16).expect("valid");
    assert_eq!((&*message.join_ref, &*message.reference), ("\"1\"", "7"));
    assert_eq!((&*message.topic, &*message.event), ("t", "e"));
    assert_eq!(message.payload, Payload::Json(r#"{"a":[1,null]}"#));
    let mut json = String::new();
    let message = decoded(b"\x95\xc0\xc0\xa1t\xa1e\xc4\x02\xff\0", &mut json, 0).expect("valid");
    assert_eq!((&*message.join_ref, &*message.reference), (NULL, NULL));
    assert_eq!(message.payload, Payload::Binary(b"\xff\0"));
    assert_eq!(json.capacity(), 0);
}

#[test]
fn topic_event_and_json_are_bounded_together() {
    let bytes = b"\x95\xc0\xc0\xa1t\xa1e\x81\xa1a\xc2";
    let longest = "te".len() + r#"{"a":false}"#.len();
    let mut json = String::new();
    assert!(decoded(bytes, &mut json, longest).is_ok());
    for most in 0..longest {
        let mut json = String::new();
        assert_eq!(decoded(bytes, &mut json, most), Err(Unreadable::TooBig));
        assert!(json.len() <= most);
    }
}

#[test]
fn other_messages_are_malformed() {
    let long_ref = [&b"\x95\xd9\x3f"[..], &[b'r'; 63], b"\xc0\xa1t\xa1e\x80"].concat();
    for bytes in [
        &b""[..],
        b"\x94\xc0\xc0\xa1t\xa1e",
        b"\x96\xc0\xc0\xa1t\xa1e\x80\xc0",
        b"\x95\xc0\xc0\xc0\xa1e\x80",
        b"\x95\xc0\xc0\xa1t\x05\x80",
        b"\x95\xc0\xc0\xa1t\xa1e\x80\xc0",
        b"\x95\xc0\xc4\x01a\xa1t\xa1e\x80",
        b"\x95\xc0\xc0\xa1t\xa1e",
        b"\x95\xc0\xc0\xa1t\xa1e\xc5\xff\xff\0",
        b"[null,null,\"t\",\"e\",{}]",
        &long_ref,
    ] {
        assert_eq!(decoded(bytes, &mut String::new(), 1_000), Err(Unreadable::Malformed), "{bytes:x?}");
    }
    assert_eq!(crate::protocol::decode_text(Vsn::MessagePack, r#"[null,null,"t","e",{}]"#), Err(Malformed));
    assert_eq!(crate::protocol::decode_odd(Vsn::MessagePack, r#"[null,null,null,"e",{}]"#), None);
}

/// The one message in a frame, as another program reads it.
fn said(frame: &Bytes) -> String {
    let (first, body) = split_server_frame(frame).expect("one frame");
    assert_eq!(first, FIN_BINARY);
    read(body).to_string()
}

#[test]
fn messages_are_written() {
    let refs = ("\"1\"", "7");
    let vsn = Vsn::MessagePack;
    assert_eq!(
        said(&encode::reply(vsn, refs, "t", "ok", r#"{"a":1.5}"#)),
        r#"["1", 7, "t", "phx_reply", {"status": "ok", "response": {"a": 1.5}}]"#
    );
    assert_eq!(
        said(&encode::error(vsn, (NULL, "7"), "t", "why")),
        r#"[nil, 7, "t", "phx_reply", {"status": "error", "response": {"reason": "why"}}]"#
    );
    assert_eq!(
        said(&encode::phx_close(vsn, RawRef::new("\"1\"").as_str(), "t")),
        r#"["1", "1", "t", "phx_close", {}]"#
    );
    let bytes = Payload::Binary(b"\x01");
    let frames = [
        encode::payload_reply(vsn, refs, "t", "ok", bytes).expect("it carries bytes"),
        encode::push(vsn, refs.0, "t", "e", bytes).expect("it carries bytes"),
        encode::push(vsn, refs.0, "t", "e", Payload::Json("[]")).expect("it carries JSON"),
        encode::broadcasts(vsn, &[Content { topic: "t", event: "e", payload: bytes }]).0,
        encode::broadcasts(vsn, &[Content::json("t", "e", "{}")]).0,
        encode::broadcasts(vsn, &[Content { topic: "t", event: "e", payload: Payload::UserJson("[1]") }]).0,
        encode::broadcasts(vsn, &[Content { topic: "t", event: "e", payload: Payload::UserBinary(b"\x01") }])
            .0,
    ];
    let bytes = Value::Binary(vec![1]);
    for (frame, expected) in frames.iter().zip([
        format!(r#"["1", 7, "t", "phx_reply", {{"status": "ok", "response": {bytes}}}]"#),
        format!(r#"["1", nil, "t", "e", {bytes}]"#),
        r#"["1", nil, "t", "e", []]"#.to_owned(),
        format!(r#"[nil, nil, "t", "e", {bytes}]"#),
        r#"[nil, nil, "t", "e", {}]"#.to_owned(),
        r#"[nil, nil, "t", "broadcast", {"type": "broadcast", "event": "e", "payload": [1]}]"#.to_owned(),
        format!(r#"[nil, nil, "t", "broadcast", {{"type": "broadcast", "event": "e", "payload": {bytes}}}]"#),
    ]) {
        assert_eq!(said(frame), expected);
    }
}
