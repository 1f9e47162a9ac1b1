//! The Pusher protocol, version 7, with client events: they need a private channel, and all members but the sender
//! get them.

use super::{Channel, Control, Publish, base, parameter};
use crate::load::stamp::{append, payload};
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;

/// An application's credentials.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    /// The public key, which stands in the path.
    pub(crate) key: String,
    /// The secret, which signs subscriptions.
    pub(crate) secret: String,
}

pub(super) fn path(out: &mut Vec<u8>, given: &str, keys: &Keys) {
    base(out, given, &format!("/app/{}", keys.key));
    parameter(out, format_args!("protocol=7&client=js&version=8.0"));
}

/// A channel's name has no colons.
pub(super) fn channel(prefix: &str, room: u32) -> String {
    format!("private-{}{room}", prefix.replace(':', "-"))
}

pub(super) fn publish(out: &mut Vec<u8>, publish: &Publish<'_>) {
    append(out, format_args!(r#"{{"event":"client-load","channel":"{}","data":"#, publish.channel.topic));
    payload(out, &publish.stamp, publish.size);
    out.push(b'}');
}

pub(super) fn control(
    message: &[u8],
    channel: &Channel<'_>,
    keys: &Keys,
    answer: &mut Vec<u8>,
) -> Result<Control, &'static str> {
    let message: Value = serde_json::from_slice(message).map_err(|_| "not a Pusher message")?;
    // Data is an object inside a string in most messages, and an object in some.
    let data = match &message["data"] {
        Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
        other => other.clone(),
    };
    let said = || data["message"].as_str().or(data["error"].as_str()).unwrap_or("no reason").to_owned();
    Ok(match message["event"].as_str().unwrap_or_default() {
        "pusher:connection_established" => {
            let socket = data["socket_id"].as_str().ok_or("no socket_id")?;
            let topic = channel.topic;
            let (key, signature) = (&keys.key, sign(&keys.secret, socket, topic)?);
            append(
                answer,
                format_args!(
                    r#"{{"event":"pusher:subscribe","data":{{"auth":"{key}:{signature}","channel":"{topic}"}}}}"#
                ),
            );
            Control::Other
        }
        "pusher_internal:subscription_succeeded" => Control::Joined,
        "pusher:subscription_error" => Control::Refused(said()),
        "pusher:error" => Control::Rejected(said()),
        "pusher:ping" => {
            answer.extend_from_slice(br#"{"event":"pusher:pong","data":{}}"#);
            Control::Other
        }
        _ => Control::Other,
    })
}

/// The signature of a subscription in lower-case hexadecimal (Pusher: "Generating the authentication string").
fn sign(secret: &str, socket: &str, channel: &str) -> Result<String, &'static str> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(|_| "unusable Pusher secret")?;
    mac.update(format!("{socket}:{channel}").as_bytes());
    Ok(mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_pushers_documentation() {
        // pusher.com/docs/channels/library_auth_reference/auth-signatures, "Private channel".
        assert_eq!(
            sign("7ad3773142a6692b25b8", "1234.1234", "private-foobar"),
            Ok("58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4".to_owned())
        );
    }

    #[test]
    fn a_client_gets_in_step_by_step() {
        let keys = Keys { key: "278d425bdf160c739803".into(), secret: "7ad3773142a6692b25b8".into() };
        let channel = Channel { topic: "private-foobar", join: 1 };
        let ask = |message: &str| {
            let mut answer = Vec::new();
            let meaning = control(message.as_bytes(), &channel, &keys, &mut answer);
            (meaning, String::from_utf8(answer).unwrap())
        };
        let (meaning, said) = ask(
            r#"{"event":"pusher:connection_established","data":"{\"socket_id\":\"1234.1234\",\"activity_timeout\":120}"}"#,
        );
        assert_eq!(meaning, Ok(Control::Other));
        assert_eq!(
            said,
            r#"{"event":"pusher:subscribe","data":{"auth":"278d425bdf160c739803:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4","channel":"private-foobar"}}"#
        );
        let joined =
            r#"{"event":"pusher_internal:subscription_succeeded","channel":"private-foobar","data":"{}"}"#;
        assert_eq!(ask(joined), (Ok(Control::Joined), String::new()));
        let refused = r#"{"event":"pusher:subscription_error","data":{"error":"no","status":401}}"#;
        assert_eq!(ask(refused).0, Ok(Control::Refused("no".into())));
        let rejected = r#"{"event":"pusher:error","data":{"message":"too fast","code":4301}}"#;
        assert_eq!(ask(rejected).0, Ok(Control::Rejected("too fast".into())));
        assert_eq!(ask(r#"{"event":"pusher:ping"}"#).1, r#"{"event":"pusher:pong","data":{}}"#);
        assert!(ask("hello").0.is_err());
        let mut out = Vec::new();
        publish(&mut out, &super::super::tests::publish("private-foobar"));
        let text = super::super::tests::TEXT;
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!(r#"{{"event":"client-load","channel":"private-foobar","data":{text}}}"#)
        );
    }
}
