//! The messages of a recorded exchange: what a line says that a client sends, and whether it hears what a line says.

use serde_json::Value;

use super::{
    tables,
    wire::{self, Heard},
};

/// A line with the random part of its topic. In the hexadecimal of a binary message it stands for its bytes.
pub(super) fn with_topic(line: &str, random: &str) -> String {
    if line.contains("< bin ") {
        let hex: String = random.bytes().map(|byte| format!("{byte:02x}")).collect();
        return line.replace('@', &hex);
    }
    line.replace('@', random)
}

/// The bytes that a client sends for the words of a line.
pub(super) fn said(name: &str, words: &str, random: &str) -> Vec<u8> {
    if let Some(bytes) = tables::raw(name, words) {
        return bytes;
    }
    if let Some(binary) = words.strip_prefix("bin kind=") {
        return wire::frame(0x82, &pushed(binary));
    }
    if words == "20 echoes in one write" {
        let echo = |number| format!(r#"["1","{number}","room:{random}","echo",{{"i":{number}}}]"#);
        return (0..20).flat_map(|number| wire::text(&echo(number))).collect();
    }
    if name.starts_with("bin/") && !words.starts_with('[') {
        return bytes(words);
    }
    wire::text(&whole(words))
}

/// A binary push: a kind, refs, topic and event in quotes, and data in hexadecimal.
fn pushed(words: &str) -> Vec<u8> {
    let mut parts = words.split('\'');
    let kind = parts.next().unwrap().trim().parse().unwrap();
    let names: Vec<_> = parts.clone().step_by(2).take(4).collect();
    let data = parts.next_back().unwrap().trim();
    let mut message = vec![kind];
    message.extend(names.iter().map(|name| u8::try_from(name.len()).unwrap()));
    message.extend(names.iter().flat_map(|name| name.bytes()));
    message.extend(bytes(data));
    message
}

/// The bytes of hexadecimal, in which blanks do not count.
pub(super) fn bytes(hex: &str) -> Vec<u8> {
    hex.replace(' ', "")
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// A text of which the recording has only the beginning and the length, `...(331)`: a topic of many `t`.
fn whole(words: &str) -> String {
    let Some((start, length)) = words.strip_suffix(')').and_then(|words| words.rsplit_once("...(")) else {
        return words.to_owned();
    };
    let end = if start.starts_with(r#"["1","1""#) { r#"","phx_join",{}]"# } else { r#"","echo",{}]"# };
    let start = start.trim_end_matches('t');
    let length: usize = length.parse().unwrap();
    format!("{start}{}{end}", "t".repeat(length - start.len() - end.len()))
}

/// Compares a message with the words of a line.
pub(super) fn heard(words: &str, got: &Heard) -> Result<(), String> {
    let (kind, value) = words.split_once(' ').unwrap_or((words, ""));
    let is_equal = match (kind, got) {
        ("text", Heard::Text(text)) => {
            let parsed = |text| serde_json::from_str::<Value>(text).map_err(|error| error.to_string());
            is_same(&parsed(value)?, &parsed(text)?)
        }
        ("bin", Heard::Binary(message)) => bytes(value) == *message,
        ("pong", Heard::Pong(payload)) => bytes(value) == *payload,
        ("close", Heard::Close(code)) => value == code.to_string(),
        ("EOF", Heard::End) => true,
        _ => false,
    };
    if is_equal { Ok(()) } else { Err(format!("{got:?}")) }
}

/// Whether two values are the same to a reader: numbers by their value, however they are written.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| is_same(a, b)))
        }
        (Value::Number(a), Value::Number(b)) => {
            a == b || (!a.is_u64() || !b.is_u64()) && a.as_f64() == b.as_f64()
        }
        _ => a == b,
    }
}
