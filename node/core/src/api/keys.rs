//! The keys that backends have for the server API: what each may do, and until when.
//!
//! A file holds no key, only the SHA-256 of each: who reads it can do nothing with it. A key has at least 128 random bits, so a
//! digest without salt and iterations is enough (NIST SP 800-63B, section 5.1.2.2).

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{config::TopicPattern, topic::TopicName};

/// Most keys in a file.
pub const MAX_KEYS: usize = 1_000;
/// Longest file of keys in bytes.
pub const FILE_BYTES: u64 = 512 << 10;
/// Least length of a key in characters: 22 characters of base64 have 132 bits.
pub const LEAST_KEY_BYTES: usize = 22;
/// Longest name of a key in bytes.
const NAME_BYTES: usize = 63;

/// What a key is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// To publish.
    Publish,
    /// To list topics, members, connections and figures.
    Read,
    /// To close connections, end channels and ask for new tokens.
    Manage,
}

impl Scope {
    /// Its name in a file of keys.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Read => "read",
            Self::Manage => "manage",
        }
    }
}

/// A file of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyFile {
    /// The keys. Two may have one scope, so that one can be replaced while the other is in use.
    pub keys: Vec<Entry>,
}

/// One key in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    /// Its name, for logs and metrics.
    pub name: String,
    /// The SHA-256 of the key as 64 hexadecimal digits.
    pub sha256: String,
    /// What it is good for.
    pub scopes: Vec<Scope>,
    /// The topics that it is good for; none is all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<TopicPattern>,
    /// When it ends, as RFC 3339 writes a time; none is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
}

/// A key that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: String,
    scopes: Vec<Scope>,
    topics: Vec<TopicPattern>,
    not_after_millis: u64,
}

impl Key {
    /// The key of whoever runs the node: the admin token. It may do everything.
    #[must_use]
    pub fn admin() -> Self {
        Self {
            name: "admin".to_owned(),
            scopes: vec![Scope::Publish, Scope::Read, Scope::Manage],
            topics: Vec::new(),
            not_after_millis: u64::MAX,
        }
    }

    /// Whether it is good for this.
    #[must_use]
    pub fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// Whether it is good for a topic.
    #[must_use]
    pub fn may_use(&self, topic: TopicName<'_>) -> bool {
        self.topics.is_empty() || self.topics.iter().any(|pattern| pattern.matches(topic))
    }

    /// The topics that it is good for; none is all.
    #[must_use]
    pub fn topics(&self) -> &[TopicPattern] {
        &self.topics
    }

    /// Whether it is good for what concerns topics that are not named.
    #[must_use]
    pub fn is_for_all_topics(&self) -> bool {
        self.topics.is_empty()
    }
}

/// Why a key is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nobody knows it.
    #[error("the key is not known")]
    Unknown,
    /// It has so few characters that its digest would tell it to whoever reads the file.
    #[error("a key has at least {LEAST_KEY_BYTES} characters")]
    Short,
    /// Its time is over.
    #[error("the key has ended")]
    Ended,
}

/// The digest of a key as a file has it.
#[must_use]
pub fn digest(key: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(key).iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// The keys of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys(HashMap<String, Key>);

impl Keys {
    /// Reads a file.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with a remedy.
    pub fn read(file: KeyFile) -> Result<Self, String> {
        let mut errors = Vec::new();
        if file.keys.len() > MAX_KEYS {
            errors.push(format!("keys: has {} entries; list {MAX_KEYS} at most", file.keys.len()));
        }
        let mut keys = HashMap::new();
        for (index, entry) in file.keys.into_iter().enumerate() {
            let at = format!("keys[{index}]");
            let digest = entry.sha256.to_ascii_lowercase();
            match entry.check(&at) {
                Ok(key) if keys.values().any(|other: &Key| other.name == key.name) => {
                    errors.push(format!("{at}.name: {:?} is there twice; choose another name", key.name));
                }
                Ok(key) => {
                    if keys.insert(digest, key).is_some() {
                        errors.push(format!("{at}.sha256: is there twice; make a key for each name"));
                    }
                }
                Err(wrong) => errors.push(wrong),
            }
        }
        if errors.is_empty() { Ok(Self(keys)) } else { Err(errors.join(". ")) }
    }

    /// The key that a backend has given, at a time in milliseconds since 1970. What is compared is a digest, of which nobody can
    /// choose the bytes, so the time that it takes tells nothing about a key.
    ///
    /// # Errors
    /// When it is not good.
    pub fn find(&self, given: &[u8], unix_millis: u64) -> Result<&Key, Refused> {
        let digest = digest(given);
        if given.len() < LEAST_KEY_BYTES && self.0.contains_key(&digest) {
            return Err(Refused::Short);
        }
        self.of_digest(&digest, unix_millis)
    }

    /// The key with this digest, at a time in milliseconds since 1970: of one that was given before.
    ///
    /// # Errors
    /// When it is not good any more.
    pub fn of_digest(&self, digest: &str, unix_millis: u64) -> Result<&Key, Refused> {
        let key = self.0.get(digest).ok_or(Refused::Unknown)?;
        if unix_millis < key.not_after_millis { Ok(key) } else { Err(Refused::Ended) }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Entry {
    fn check(self, at: &str) -> Result<Key, String> {
        let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=NAME_BYTES).contains(&self.name.len()) || !self.name.bytes().all(is_letter) {
            return Err(format!("{at}.name: write 1 to {NAME_BYTES} of a-z, 0-9 and -, not {:?}", self.name));
        }
        if self.name == "admin" {
            return Err(format!("{at}.name: admin is the node's own token; choose another name"));
        }
        if self.sha256.len() != 64 || !self.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!(
                "{at}.sha256: is not 64 hexadecimal digits; write what `printf %s \"$KEY\" | sha256sum` says"
            ));
        }
        if self.scopes.is_empty() {
            return Err(format!("{at}.scopes: is empty; list some of publish, read and manage"));
        }
        let not_after_millis = match &self.not_after {
            None => u64::MAX,
            Some(text) => text
                .parse::<jiff::Timestamp>()
                .ok()
                .and_then(|time| u64::try_from(time.as_millisecond()).ok())
                .ok_or_else(|| {
                    format!("{at}.notAfter: {text:?} is no time; write one like 2027-01-31T00:00:00Z")
                })?,
        };
        Ok(Key { name: self.name, scopes: self.scopes, topics: self.topics, not_after_millis })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ONE: &str = "one-key-of-a-good-length";
    const TWO: &str = "two-key-of-a-good-length";

    fn read(keys: &Value) -> Result<Keys, String> {
        Keys::read(serde_json::from_value(json!({"keys": keys})).expect("a file"))
    }

    fn entry(name: &str, key: &str) -> Value {
        json!({"name": name, "sha256": digest(key.as_bytes()), "scopes": ["publish"]})
    }

    #[test]
    fn a_key_is_good_for_what_the_file_says_and_until_then() {
        let mut first = entry("a", ONE);
        first["topics"] = json!(["room:*"]);
        first["notAfter"] = json!("1970-01-01T00:00:01Z");
        let mut second = entry("b", TWO);
        second["sha256"] = json!(digest(TWO.as_bytes()).to_uppercase());
        second["scopes"] = json!(["read", "manage"]);
        let keys = read(&json!([first, second])).unwrap();
        let one = keys.find(ONE.as_bytes(), 999).unwrap();
        let name = |text: &'static str| TopicName::parse(text).unwrap();
        assert!(one.has(Scope::Publish) && !one.has(Scope::Read) && !one.is_for_all_topics());
        assert!(one.may_use(name("room:1")) && !one.may_use(name("other:1")));
        assert_eq!(keys.find(ONE.as_bytes(), 1_000), Err(Refused::Ended));
        let two = keys.find(TWO.as_bytes(), u64::MAX - 1).unwrap();
        assert!(two.has(Scope::Manage) && !two.has(Scope::Publish) && two.may_use(name("other:1")));
        for unknown in ["", "three", &digest(ONE.as_bytes())] {
            assert_eq!(keys.find(unknown.as_bytes(), 0), Err(Refused::Unknown));
        }
        let short = read(&json!([entry("a", "short")])).unwrap();
        assert_eq!(short.find(b"short", 0), Err(Refused::Short));
        assert!(Key::admin().has(Scope::Manage) && Key::admin().is_for_all_topics());
    }

    #[test]
    fn what_is_wrong_with_a_file_is_named_with_a_remedy() {
        for (change, field) in [
            (json!({"name": ""}), "name"),
            (json!({"name": "A"}), "name"),
            (json!({"name": "admin"}), "name"),
            (json!({"sha256": "00"}), "sha256"),
            (json!({"sha256": "x".repeat(64)}), "sha256"),
            (json!({"scopes": []}), "scopes"),
            (json!({"notAfter": "soon"}), "notAfter"),
        ] {
            let mut bad = entry("a", ONE);
            bad.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let error = read(&json!([entry("b", TWO), bad])).unwrap_err();
            assert!(error.starts_with(&format!("keys[1].{field}: ")), "{error}");
        }
        assert!(read(&json!([entry("a", ONE), entry("a", TWO)])).unwrap_err().contains("twice"));
        assert!(read(&json!([entry("a", ONE), entry("b", ONE)])).unwrap_err().contains("twice"));
        let many: Vec<_> =
            (0..=MAX_KEYS).map(|number| entry(&format!("k{number}"), &number.to_string())).collect();
        assert!(read(&json!(many)).unwrap_err().contains("1000 at most"));
        assert!(read(&json!([])).unwrap().is_empty());
    }
}
