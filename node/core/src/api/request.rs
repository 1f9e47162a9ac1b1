//! What a backend asks for, as JSON, and what may be wrong with it.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::order::{Goodbye, Who};
use crate::{
    broadcast::{Broadcast, Content, Payload},
    config::{Dialect, NodeConfig},
    limits::{MAX_EVENT_BYTES, MAX_TOPIC_BYTES},
    protocol::foreign::{self, NotABroadcast},
    topic::{TopicKind, TopicName},
};

/// Most topics of one publication.
pub const MAX_TOPICS: usize = 100;
/// Most publications of a batch.
pub const MAX_BATCH: usize = 1_000;
/// Longest body of a request in bytes.
pub const BODY_BYTES: usize = 8 << 20;
/// Longest idempotency key in bytes.
pub const IDEMPOTENCY_KEY_BYTES: usize = 255;
/// Longest name of a user in bytes.
pub const USER_BYTES: usize = 1_024;
/// Most entries of a page.
pub const PAGE: usize = 1_000;
/// Entries of a page for which no number was asked.
pub const USUAL_PAGE: usize = 100;
/// Longest reason of a close frame in bytes (RFC 6455, section 5.5: control frames carry 125 bytes, of which the code takes two).
pub const REASON_BYTES: usize = 123;
/// The code of a close frame when none is asked for: the client did something that it may not (RFC 6455, section 7.4.1).
pub const USUAL_CODE: u16 = 1008;
/// Longest time in milliseconds that the clients of a user may have for new tokens.
pub const MAX_REFRESH_MILLIS: u32 = 600_000;
/// The same when none is asked for.
pub const USUAL_REFRESH_MILLIS: u32 = 30_000;

/// Something for the members of topics.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Publication {
    /// The topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Or several topics.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
    /// The event.
    pub event: String,
    /// JSON for the members: an object, or any JSON where a policy has the dialect Realtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Box<RawValue>>,
    /// Or bytes for them, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary: Option<String>,
    /// Connections that do not get it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub except: Option<Who>,
    /// Within five minutes a second publication with this key does nothing, and has the answer of the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// Several publications, in their order.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Batch {
    /// The publications, at most [`MAX_BATCH`].
    #[serde(deserialize_with = "bounded")]
    pub publications: Vec<Publication>,
}

/// Reads no more publications than a batch may have, so that short ones do not take many times the memory of the body.
fn bounded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Publication>, D::Error> {
    struct Reading;
    impl<'de> Visitor<'de> for Reading {
        type Value = Vec<Publication>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX_BATCH} publications")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some(publication) = list.next_element()? {
                if all.len() == MAX_BATCH {
                    return Err(A::Error::custom(format_args!("more than {MAX_BATCH} publications")));
                }
                all.push(publication);
            }
            Ok(all)
        }
    }
    deserializer.deserialize_seq(Reading)
}

/// Connections that are to be closed.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Disconnect {
    /// Those of this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Or this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// Only members of this topic; without user and connection all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The code of the close frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// Its reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Members that are to leave a topic.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kick {
    /// The topic.
    pub topic: String,
    /// Of this user; without user and connection all members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Or this connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
}

/// A user whose clients are to come with new tokens.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Refresh {
    /// The user.
    pub user: String,
    /// How long they have for it in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_millis: Option<u32>,
}

/// What is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The field, as it is written in JSON.
    pub field: &'static str,
    /// What is wrong with it.
    pub detail: String,
    /// What to do about it.
    pub remedy: String,
}

impl Wrong {
    /// A fault of a field.
    pub fn new(field: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { field, detail: detail.into(), remedy: remedy.into() }
    }
}

/// A publication that may go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sayable {
    /// What each topic is told.
    pub broadcasts: Vec<Broadcast>,
    /// Who does not get it.
    pub except: Option<Who>,
}

/// Reads the name of a topic that clients can join with this configuration.
///
/// # Errors
/// When it is none.
pub fn topic<'a>(text: &'a str, config: &NodeConfig) -> Result<TopicName<'a>, Wrong> {
    let most = (config.limits.max_topic_bytes as usize).min(MAX_TOPIC_BYTES);
    let name = TopicName::parse(text).filter(|_| text.len() <= most).ok_or_else(|| {
        Wrong::new("topic", format!("a topic has 1 to {most} bytes"), "write the topic as clients join it")
    })?;
    if name.kind() != TopicKind::Shared {
        return Err(Wrong::new(
            "topic",
            format!("{text:?} is a topic of the server itself"),
            "choose a topic that is not phoenix and has no $ in front",
        ));
    }
    if config.rooms.find(name).is_none() {
        return Err(Wrong::new(
            "topic",
            format!("no policy serves {text:?}, so no client can have joined it"),
            "add it to rooms.topics, or write it as clients join it",
        ));
    }
    Ok(name)
}

impl Publication {
    /// What the topics are told, if it may be said.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn read(&self, config: &NodeConfig) -> Result<Sayable, Wrong> {
        let topics: Vec<&str> = self.topic.iter().chain(&self.topics).map(String::as_str).collect();
        if self.topic.is_some() != self.topics.is_empty() || topics.len() > MAX_TOPICS {
            return Err(Wrong::new(
                "topics",
                format!("it is for {} topics", topics.len()),
                format!("write one topic, or a list topics of 1 to {MAX_TOPICS}"),
            ));
        }
        if let Some(Who::User(user)) = &self.except {
            self::user("except.user", user)?;
        }
        if let Some(key) = &self.idempotency_key
            && !(1..=IDEMPOTENCY_KEY_BYTES).contains(&key.len())
        {
            return Err(Wrong::new(
                "idempotencyKey",
                format!("it has {} bytes", key.len()),
                format!("write 1 to {IDEMPOTENCY_KEY_BYTES} bytes, such as a UUID"),
            ));
        }
        let binary = self.bytes()?;
        let most_event = (config.limits.max_event_bytes as usize).min(MAX_EVENT_BYTES);
        if !(1..=most_event).contains(&self.event.len()) {
            return Err(Wrong::new(
                "event",
                format!("it has {} bytes", self.event.len()),
                format!("write 1 to {most_event} bytes"),
            ));
        }
        let each = topics.into_iter().map(|topic| self.said(topic, binary.as_deref(), config));
        Ok(Sayable { broadcasts: each.collect::<Result<_, _>>()?, except: self.except.clone() })
    }

    fn bytes(&self) -> Result<Option<Vec<u8>>, Wrong> {
        if self.payload.is_some() == self.binary.is_some() {
            return Err(Wrong::new(
                "payload",
                "it has both or none of payload and binary",
                "write one of them",
            ));
        }
        let decoded = self.binary.as_ref().map(|text| STANDARD.decode(text)).transpose();
        decoded.map_err(|_| {
            Wrong::new(
                "binary",
                "it is no base64",
                "encode the bytes as RFC 4648 says, section 4, with padding",
            )
        })
    }

    /// What the members of a topic are told.
    fn said(&self, topic: &str, binary: Option<&[u8]>, config: &NodeConfig) -> Result<Broadcast, Wrong> {
        let name = self::topic(topic, config)?;
        let found = config.rooms.find(name).map(|found| config.rooms.policy(found));
        let is_realtime = found.is_some_and(|policy| policy.dialect == Dialect::Realtime);
        let json = self.payload.as_deref().map_or("", RawValue::get);
        let payload = match (binary, is_realtime) {
            (Some(bytes), false) => Payload::Binary(bytes),
            (Some(bytes), true) => Payload::UserBinary(bytes),
            (None, false) => Payload::Json(json),
            (None, true) => Payload::UserJson(json),
        };
        let content = Content { topic, event: &self.event, payload };
        let packed = Broadcast::pack(&content).ok_or_else(|| unfit(NotABroadcast::Shape, config))?;
        let most = config.limits.max_frame_bytes as usize;
        foreign::check(&packed.borrowed(), topic, most).map_err(|error| unfit(error, config))?;
        Ok(packed)
    }
}

/// Why something cannot be said.
fn unfit(error: NotABroadcast, config: &NodeConfig) -> Wrong {
    match error {
        NotABroadcast::TooBig => {
            let most = config.limits.max_frame_bytes;
            Wrong::new(
                "payload",
                format!("with its names it is longer than {most} bytes"),
                "send less, or raise limits.maxFrameBytes",
            )
        }
        NotABroadcast::Event => Wrong::new(
            "event",
            "events of the protocol cannot be published",
            "choose a name that does not begin with phx_ and is neither presence_state, presence_diff nor access_token",
        ),
        NotABroadcast::Shape | NotABroadcast::Topic => Wrong::new(
            "payload",
            "it is no JSON object that every client reads",
            "write an object, with text that is valid Unicode and numbers that a double holds",
        ),
    }
}

/// Checks the name of a user.
///
/// # Errors
/// When it is empty or too long.
pub fn user(field: &'static str, user: &str) -> Result<(), Wrong> {
    if (1..=USER_BYTES).contains(&user.len()) {
        return Ok(());
    }
    let remedy = format!("write the user as tokens name it, in 1 to {USER_BYTES} bytes");
    Err(Wrong::new(field, format!("it has {} bytes", user.len()), remedy))
}

/// Who is meant by these two fields; none when both are missing.
///
/// # Errors
/// When both are there, or one cannot be read.
pub fn who(user: Option<&str>, connection: Option<&str>) -> Result<Option<Who>, Wrong> {
    match (user, connection) {
        (Some(_), Some(_)) => {
            Err(Wrong::new("user", "there are both a user and a connection", "name one of them"))
        }
        (Some(user), None) => {
            self::user("user", user)?;
            Ok(Some(Who::User(user.to_owned())))
        }
        (None, Some(text)) => {
            let found = text.parse().map_err(|error| {
                Wrong::new("connection", format!("{text:?} {error}"), "list the connections of its user")
            })?;
            Ok(Some(Who::Connection(found)))
        }
        (None, None) => Ok(None),
    }
}

impl Disconnect {
    /// The words of the close frame.
    ///
    /// # Errors
    /// When an endpoint may not send the code (RFC 6455, section 7.4), or the reason is too long.
    pub fn goodbye(&self) -> Result<Goodbye, Wrong> {
        let code = self.code.unwrap_or(USUAL_CODE);
        if !matches!(code, 1000 | 1001 | 1008 | 1011..=1013 | 3000..=4999) {
            return Err(Wrong::new(
                "code",
                format!("{code} is no code that a server may close with"),
                "take 1000 if clients shall not come back, 1008, 1012, 1013, or one of 3000 to 4999",
            ));
        }
        let reason = self.reason.clone().unwrap_or_default();
        if reason.len() > REASON_BYTES {
            let remedy = format!("write {REASON_BYTES} bytes at most");
            return Err(Wrong::new("reason", format!("it has {} bytes", reason.len()), remedy));
        }
        Ok(Goodbye { code, reason })
    }
}

impl Refresh {
    /// How long clients have in milliseconds.
    ///
    /// # Errors
    /// When that is too long.
    pub fn within(&self) -> Result<u32, Wrong> {
        let within = self.within_millis.unwrap_or(USUAL_REFRESH_MILLIS);
        if within <= MAX_REFRESH_MILLIS {
            return Ok(within);
        }
        Err(Wrong::new(
            "withinMillis",
            format!("{within} ms are too long"),
            format!("write {MAX_REFRESH_MILLIS} at most"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::broadcast::Kind;

    fn read(json: &Value) -> Result<Sayable, Wrong> {
        let publication: Publication = serde_json::from_value(json.clone()).expect("a publication");
        publication.read(&NodeConfig::dev())
    }

    #[test]
    fn a_publication_is_what_members_are_told() {
        let said = read(&json!({"topic": "room:1", "event": "said", "payload": {"a": [1]}})).unwrap();
        let [broadcast] = &*said.broadcasts else { panic!("{said:?}") };
        assert_eq!(broadcast.unpack(), Some(Content::json("room:1", "said", r#"{"a":[1]}"#)));
        let said =
            read(&json!({"topics": ["room:1", "realtime:2"], "event": "x", "binary": "AP8="})).unwrap();
        let kinds: Vec<_> = said.broadcasts.iter().map(|one| one.kind).collect();
        assert_eq!(kinds, [Kind::Binary, Kind::UserBinary]);
        assert_eq!(said.broadcasts[0].unpack().map(|content| content.data().to_vec()), Some(vec![0, 255]));
        let said = read(&json!({"topic": "realtime:2", "event": "phx_close", "payload": [1]})).unwrap();
        assert_eq!(said.broadcasts[0].kind, Kind::UserJson);
    }

    #[test]
    fn what_cannot_be_said_is_named_with_a_remedy() {
        let long = "x".repeat(70_000);
        for (json, field) in [
            (json!({"event": "a", "payload": {}}), "topics"),
            (json!({"topic": "room:1", "topics": ["room:1"], "event": "a", "payload": {}}), "topics"),
            (json!({"topics": vec!["room:1"; 101], "event": "a", "payload": {}}), "topics"),
            (json!({"topic": "", "event": "a", "payload": {}}), "topic"),
            (json!({"topic": "$cluster", "event": "a", "payload": {}}), "topic"),
            (json!({"topic": "phoenix", "event": "a", "payload": {}}), "topic"),
            (json!({"topic": "other:1", "event": "a", "payload": {}}), "topic"),
            (json!({"topic": "room:1", "event": "", "payload": {}}), "event"),
            (json!({"topic": "room:1", "event": "phx_close", "payload": {}}), "event"),
            (json!({"topic": "room:1", "event": "a"}), "payload"),
            (json!({"topic": "room:1", "event": "a", "payload": {}, "binary": ""}), "payload"),
            (json!({"topic": "room:1", "event": "a", "payload": [1]}), "payload"),
            (json!({"topic": "room:1", "event": "a", "payload": {"long": long}}), "payload"),
            (json!({"topic": "room:1", "event": "a", "binary": "?"}), "binary"),
            (json!({"topic": "room:1", "event": "a", "payload": {}, "idempotencyKey": ""}), "idempotencyKey"),
            (json!({"topic": "room:1", "event": "a", "payload": {}, "except": {"user": ""}}), "except.user"),
        ] {
            let wrong = read(&json).unwrap_err();
            assert_eq!(wrong.field, field, "{json} {wrong:?}");
            assert!(!wrong.remedy.is_empty());
        }
    }

    #[test]
    fn codes_that_no_server_sends_are_refused() {
        let goodbye = |code, reason: &str| {
            serde_json::from_value::<Disconnect>(json!({"code": code, "reason": reason})).unwrap().goodbye()
        };
        assert_eq!(goodbye(Some(4_123), "out"), Ok(Goodbye { code: 4_123, reason: "out".to_owned() }));
        assert_eq!(goodbye(None, "").map(|goodbye| goodbye.code), Ok(USUAL_CODE));
        for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
            assert_eq!(goodbye(Some(code), "").unwrap_err().field, "code", "{code}");
        }
        assert_eq!(goodbye(None, &"x".repeat(124)).unwrap_err().field, "reason");
    }

    #[test]
    fn a_batch_has_no_more_publications_than_it_may() {
        let batch = |count: usize| {
            let one = json!({"topic": "room:1", "event": "said", "payload": {}});
            serde_json::from_value::<Batch>(json!({"publications": vec![one; count]}))
        };
        assert_eq!(batch(MAX_BATCH).map(|batch| batch.publications.len()).ok(), Some(MAX_BATCH));
        assert!(batch(MAX_BATCH + 1).is_err() && batch(0).is_ok());
    }

    #[test]
    fn who_is_meant_is_one_of_two() {
        assert_eq!(who(None, None), Ok(None));
        assert_eq!(who(Some("ann"), None), Ok(Some(Who::User("ann".to_owned()))));
        assert_eq!(who(Some("ann"), Some("x")).unwrap_err().field, "user");
        assert_eq!(who(None, Some("x")).unwrap_err().field, "connection");
        assert_eq!(who(Some(""), None).unwrap_err().field, "user");
        let within = |millis| Refresh { user: "ann".to_owned(), within_millis: millis }.within();
        assert_eq!(
            (within(None), within(Some(1)), within(Some(600_001)).is_err()),
            (Ok(30_000), Ok(1), true)
        );
    }
}
