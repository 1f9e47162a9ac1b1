//! Phoenix Channels v2: messages are JSON arrays `[join_ref, ref, topic, event, payload]`.

use super::{Channel, Control, Publish, base, parameter};
use crate::load::stamp::{append, payload};
use serde_json::value::RawValue;

/// Event name of the generator's publishes.
const EVENT: &str = "load";

pub(super) fn path(out: &mut Vec<u8>, given: &str) {
    base(out, given, "/socket/websocket");
    parameter(out, format_args!("vsn=2.0.0"));
}

pub(super) fn join(out: &mut Vec<u8>, Channel { topic, join }: &Channel<'_>) {
    append(out, format_args!(r#"["{join}","{join}","{topic}","phx_join",{{}}]"#));
}

pub(super) fn heartbeat(out: &mut Vec<u8>, reference: u32) {
    append(out, format_args!(r#"[null,"{reference}","phoenix","heartbeat",{{}}]"#));
}

pub(super) fn publish(out: &mut Vec<u8>, publish: &Publish<'_>) {
    let Publish { channel: Channel { topic, join }, reference, stamp, size } = publish;
    append(out, format_args!(r#"["{join}","{reference}","{topic}","{EVENT}","#));
    payload(out, stamp, *size);
    out.push(b']');
}

pub(super) fn control(message: &[u8], channel: &Channel<'_>) -> Result<Control, &'static str> {
    type Message<'a> = (Option<&'a str>, Option<&'a str>, &'a str, &'a str, &'a RawValue);
    let (_, reference, topic, event, payload): Message<'_> =
        serde_json::from_slice(message).map_err(|_| "not a Phoenix v2 message")?;
    Ok(match event {
        "phx_reply" if topic == "phoenix" => Control::Alive,
        "phx_reply" => {
            let reply: serde_json::Value = serde_json::from_str(payload.get()).unwrap_or_default();
            let of_join = reference.and_then(|reference| reference.parse().ok()) == Some(channel.join);
            let reason = || reply["response"]["reason"].as_str().unwrap_or("no reason").to_owned();
            match (of_join, reply["status"] == "ok") {
                (true, true) => Control::Joined,
                (true, false) => Control::Refused(reason()),
                (false, true) => Control::Other,
                (false, false) => Control::Rejected(reason()),
            }
        }
        "phx_error" | "phx_close" => Control::Ended(event.to_owned()),
        _ => Control::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_phoenix_js_writes_them() {
        let channel = Channel { topic: "room:2", join: 5 };
        let mut out = Vec::new();
        join(&mut out, &channel);
        heartbeat(&mut out, 6);
        assert_eq!(out, br#"["5","5","room:2","phx_join",{}][null,"6","phoenix","heartbeat",{}]"#);
        out.clear();
        publish(&mut out, &super::super::tests::publish("room:2"));
        let text = super::super::tests::TEXT;
        assert_eq!(String::from_utf8(out).unwrap(), format!(r#"["3","9","room:2","load",{text}]"#));
    }

    #[test]
    fn control_messages_are_told_apart() {
        let control = |message: &str| control(message.as_bytes(), &Channel { topic: "room:1", join: 1 });
        let reply = |topic: &str, reference: u32, status: &str| {
            format!(
                r#"["1","{reference}","{topic}","phx_reply",{{"status":"{status}","response":{{"reason":"full"}}}}]"#
            )
        };
        assert_eq!(control(&reply("room:1", 1, "ok")), Ok(Control::Joined));
        assert_eq!(control(&reply("room:1", 1, "error")), Ok(Control::Refused("full".into())));
        assert_eq!(control(&reply("room:1", 2, "ok")), Ok(Control::Other));
        assert_eq!(control(&reply("room:1", 2, "error")), Ok(Control::Rejected("full".into())));
        assert_eq!(control(&reply("phoenix", 1, "ok")), Ok(Control::Alive));
        let ended = r#"["1","1","room:1","phx_error",{}]"#;
        assert_eq!(control(ended), Ok(Control::Ended("phx_error".into())));
        assert_eq!(control(r#"[null,null,"room:1","hello",{"a":1}]"#), Ok(Control::Other));
        assert!(control("{}").is_err());
    }
}
