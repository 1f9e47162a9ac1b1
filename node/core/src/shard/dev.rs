//! The rules of dev mode, which stands for the application behind a server of Phoenix: it shows what only channel code can
//! do, so that a client can be tried with it. No configuration file turns them on.

use super::{channel::End, state::Shard};
use crate::{
    protocol::{Payload, Vsn, encode},
    session::{id::Slot, side::Aside},
    topic::TopicName,
};

/// The topics whose joins are refused, and why.
const REFUSED: [(&str, &str); 2] = [("room:denied", "unauthorized"), ("room:crashjoin", "join crashed")];
/// The event that is pushed for a `push_me`.
const PUSHED: &str = "pushed";

/// What happens to a push instead of what the policy of its topic says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// The channel crashes.
    Crash,
    /// The server ends the channel for good.
    Stop,
    /// The server pushes the payload to the client.
    PushMe,
    /// An error reply with the payload.
    EchoError,
    /// A reply with what the client said about itself when it connected.
    WhoAmI,
}

/// Why a topic may not be joined, if it may not.
pub(super) fn refusal(topic: TopicName<'_>) -> Option<&'static str> {
    REFUSED.iter().find(|(refused, _)| topic.as_str() == *refused).map(|(_, reason)| *reason)
}

/// The rule for a push into a room; none for a push that its policy decides about.
pub(super) fn rule(event: &str, payload: Payload<'_>) -> Option<Rule> {
    Some(match event {
        "stop" => Rule::Stop,
        "whoami" => Rule::WhoAmI,
        "push_me" => Rule::PushMe,
        // Every value is a response.
        "echo" => return None,
        "echo_error" => Rule::EchoError,
        _ if !payload.is_object_or_bytes() => Rule::Crash,
        _ => return None,
    })
}

impl Shard {
    /// Does to a push what its rule says.
    pub(super) fn follow(
        &mut self,
        slot: Slot,
        rule: Rule,
        refs: (&str, &str),
        topic: &str,
        payload: Payload<'_>,
    ) {
        match rule {
            Rule::Crash => self.end_channel(slot, topic, End::Crashed),
            Rule::Stop => self.end_channel(slot, topic, End::Closed),
            // The serializers of Phoenix but V1 raise when they are to push another payload than a map or bytes.
            Rule::PushMe if self.sessions[slot].vsn() != Vsn::V1 && !payload.is_object_or_bytes() => {
                self.end_channel(slot, topic, End::Crashed);
            }
            Rule::PushMe => {
                if !self.push(slot, refs.0, topic, PUSHED, payload) {
                    self.reply_error(slot, refs, topic, "name too long");
                }
            }
            Rule::EchoError => self.reply_payload(slot, refs, topic, "error", payload),
            Rule::WhoAmI => self.tell_who(slot, refs, topic),
        }
    }

    fn tell_who(&mut self, slot: Slot, refs: (&str, &str), topic: &str) {
        let info = self.sessions.side().get(slot).and_then(Aside::connect_info);
        let info = info.cloned().unwrap_or_default();
        let about = serde_json::json!({ "user_id": info.user_id, "auth_token": info.auth_token });
        let vsn = self.sessions[slot].vsn();
        self.reply(slot, encode::reply(vsn, refs, topic, "ok", &about.to_string()));
    }
}
