//! Takes whatever looks like a secret out of texts and objects that leave a cluster, such as a support bundle.
//!
//! Three nets, one behind the other: values that are known to be secret, whatever they look like; what stands behind a word
//! such as `password` or is told by its form (a JSON Web Token, a private key in PEM, user and password of a URL); and words
//! that look as if they had been drawn at random. Names, UIDs, digests and addresses stay: without them a bundle is of no
//! use.
//!
//! An object may hold another one as a text: a Deployment has its pod template in an annotation, and tools such as kapp keep
//! there what they applied. Such a text is read as the object that it is.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::words::{HIDDEN, is_telltale};

/// Shortest known value that is looked for, in bytes: a shorter one would take harmless words along.
const LEAST_KNOWN: usize = 6;
/// Shortest word that may count as drawn at random, in bytes. Generated secrets have 32.
const LEAST_RANDOM: usize = 20;
/// Fields of objects that repeat the rest of it, or are of no use to anybody who reads it.
const NOISE: [&str; 2] = ["managedFields", "kubectl.kubernetes.io/last-applied-configuration"];

/// Takes secrets out; knows the values of some.
#[derive(Clone, Default)]
pub struct Redactor {
    known: Vec<String>,
}

impl Redactor {
    /// One that also looks for these values, whole, by lines and by their long words.
    #[must_use]
    pub fn knowing(values: impl IntoIterator<Item = String>) -> Self {
        let mut known: Vec<String> = values
            .into_iter()
            .flat_map(|value| {
                let lines = value.lines().map(|line| line.trim().to_owned());
                let words =
                    value.split_whitespace().filter(|word| word.len() >= LEAST_RANDOM).map(str::to_owned);
                let parts: Vec<_> = lines.chain(words).collect();
                parts.into_iter().chain([value])
            })
            .filter(|value| value.len() >= LEAST_KNOWN)
            .collect();
        // A value that holds another one goes first.
        known.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        known.dedup();
        Self { known }
    }

    /// A text of several lines without secrets.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        let text = self.without_known(text.to_owned());
        let mut shown = String::with_capacity(text.len());
        let mut in_key = false;
        for line in text.split_inclusive('\n') {
            if line.contains("-----BEGIN") && line.contains("PRIVATE KEY") {
                in_key = !(line.contains("-----END"));
                shown.push_str(HIDDEN);
                shown.push('\n');
            } else if in_key {
                in_key = !line.contains("-----END");
            } else {
                line_without_secrets(line, &mut shown);
            }
        }
        shown
    }

    fn without_known(&self, mut text: String) -> String {
        for known in &self.known {
            if text.contains(known.as_str()) {
                text = text.replace(known.as_str(), HIDDEN);
            }
        }
        text
    }

    /// An object without secrets: values of keys that are called like one, values of environment variables, and what looks
    /// like one in any other text. Records of field managers are left out.
    pub fn value(&self, value: &mut Value) {
        match value {
            Value::Object(map) => self.object(map),
            Value::Array(list) => list.iter_mut().for_each(|value| self.value(value)),
            Value::String(text) => *text = self.text_of_an_object(text),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// A text of an object, which may be an object itself. Each parsing takes away a layer of quotes, so it ends.
    fn text_of_an_object(&self, text: &str) -> String {
        match serde_json::from_str(text) {
            Ok(mut inner @ (Value::Object(_) | Value::Array(_) | Value::String(_))) => {
                self.value(&mut inner);
                self.without_known(inner.to_string())
            }
            _ => self.text(text),
        }
    }

    fn object(&self, map: &mut Map<String, Value>) {
        map.retain(|key, _| !NOISE.contains(&key.as_str()));
        for (key, value) in map.iter_mut() {
            match value {
                Value::Array(variables) if key == "env" => {
                    for value in variables.iter_mut().filter_map(|variable| variable.get_mut("value")) {
                        *value = Value::String(HIDDEN.to_owned());
                    }
                }
                Value::String(text) if is_telltale(key) && !is_harmless(text) => HIDDEN.clone_into(text),
                Value::String(text) if key == "uid" || key.ends_with("Uid") => *text = text.trim().to_owned(),
                _ => self.value(value),
            }
        }
    }
}

/// The values of environment variables anywhere in an object. A person writes a password into one more often than they should.
#[must_use]
pub fn environment(object: &Value) -> Vec<String> {
    match object {
        Value::Object(map) => {
            let own = map.get("env").and_then(Value::as_array).into_iter().flatten();
            let own = own.filter_map(|variable| variable["value"].as_str().map(str::to_owned));
            own.chain(map.values().flat_map(environment)).collect()
        }
        Value::Array(list) => list.iter().flat_map(environment).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// The names of a Secret's keys, which is all of it that may be shown.
#[must_use]
pub fn secret_keys<T>(data: Option<&BTreeMap<String, T>>) -> Vec<String> {
    data.into_iter().flatten().map(|(key, _)| key.clone()).collect()
}

/// Whether the value of a key such as `tokenParam` or `secretName` is a name.
fn is_harmless(text: &str) -> bool {
    text.is_empty() || text == "true" || text == "false"
}

/// Appends a line of a text. White space stays as it is.
fn line_without_secrets(line: &str, shown: &mut String) {
    let mut hide = false;
    let mut rest = line;
    while !rest.is_empty() {
        let blank = rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len());
        shown.push_str(&rest[..blank]);
        rest = &rest[blank..];
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        if word.is_empty() {
            continue;
        }
        let next = word_without_secrets(word, hide, shown);
        // `Authorization: Bearer x` has two such words in a row.
        hide = next || (hide && is_telltale(word));
    }
}

/// Appends a word; whether the next one is a secret. Words of JSON and of `key=value` have several parts.
fn word_without_secrets(word: &str, hide: bool, shown: &mut String) -> bool {
    if hide {
        shown.push_str(HIDDEN);
        return false;
    }
    if let (Some(scheme), Some(at)) = (word.find("://"), word.rfind('@'))
        && scheme + 3 < at
        && !word[scheme + 3..at].contains(['/', '"'])
    {
        shown.push_str(&word[..scheme + 3]);
        shown.push_str(HIDDEN);
        shown.push_str(&word[at..]);
        return false;
    }
    let mut next = word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("basic");
    let mut secret = false;
    for part in word.split_inclusive([',', ';', '&', '?', '{', '}', '[', ']', '(', ')']) {
        let Some(sign) = part.find(['=', ':']) else {
            push_part(part, secret, shown);
            secret = false;
            continue;
        };
        let (key, value) = part.split_at(sign + 1);
        shown.push_str(key);
        let told = is_telltale(key);
        let bare = value.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        if told && bare.is_empty() {
            shown.push_str(value);
            next = true;
            secret = value.is_empty();
        } else {
            push_part(value, told, shown);
        }
    }
    next
}

/// Appends a part of a word, hidden when it is told to be or looks like a secret. Quotes and separators around it stay, so
/// that a line of JSON stays one.
fn push_part(part: &str, secret: bool, shown: &mut String) {
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || "-_.+/=".contains(c);
    let start = part.find(is_of_word).unwrap_or(part.len());
    let end = part.rfind(is_of_word).map_or(start, |at| at + 1);
    let inner = &part[start..end];
    if inner.is_empty() || !(secret || is_token(inner) || is_random(inner)) {
        shown.push_str(part);
        return;
    }
    shown.push_str(&part[..start]);
    shown.push_str(HIDDEN);
    shown.push_str(&part[end..]);
}

/// Whether it is a JSON Web Token (RFC 7519): three parts in base64url, the first of which is an object.
fn is_token(word: &str) -> bool {
    word.starts_with("eyJ") && word.split('.').count() >= 3
}

/// Whether a word looks as if it had been drawn at random: long, without the separators of names and paths, with letters of
/// both cases and digits, and with the cases changing more often than in CamelCase words. Digests and UIDs are of one case.
fn is_random(word: &str) -> bool {
    let longest = word.split(['-', '_', '.', '/', '=']).max_by_key(|part| part.len()).unwrap_or_default();
    if longest.len() < LEAST_RANDOM {
        return false;
    }
    let kind = |c: char| (c.is_ascii_lowercase(), c.is_ascii_uppercase(), c.is_ascii_digit());
    let has = |which: fn(&char) -> bool| longest.chars().any(|c| which(&c));
    let changes = longest.chars().zip(longest.chars().skip(1)).filter(|(a, b)| kind(*a) != kind(*b)).count();
    has(char::is_ascii_lowercase)
        && has(char::is_ascii_uppercase)
        && has(char::is_ascii_digit)
        && changes * 3 >= longest.len()
}

#[cfg(test)]
mod tests {
    use arbtest::arbtest;
    use serde_json::json;

    use super::{HIDDEN, Redactor, environment};

    /// As the operator draws them.
    const DRAWN: &str = "q7GfX2mLw9ZtRb4KpYs8Nc3VdHj6Ua1e";

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        let known = Redactor::knowing(["correct horse battery".to_owned(), "abc".to_owned()]);
        for text in [
            "nats: password=hunter2xx refused",
            "NATS_PASSWORD: hunter2xx\n",
            "{\"level\":\"info\",\"password\":\"hunter2xx\",\"n\":1}",
            "{\"token\": \"hunter2xx\", \"n\": 1}",
            "Authorization: Bearer hunter2xx",
            "GET /socket/websocket?token=hunter2xx&vsn=2.0.0",
            "cannot reach nats://user:hunter2xx@nats:4222",
            "--token=hunter2xx",
            "a correct horse battery staple",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJlLWh1bnRlcjJ4eA",
            "-----BEGIN EC PRIVATE KEY-----\nhunter2xx\n-----END EC PRIVATE KEY-----\n",
        ] {
            let shown = known.text(text);
            assert!(!shown.contains("hunter2xx") && !shown.contains("horse"), "{shown}");
            assert!(!shown.contains("c2lnbmF0dXJl") && shown.contains(HIDDEN), "{shown}");
        }
        assert_eq!(known.text("abc"), "abc", "too short to look for");
        let line = format!("admin said {DRAWN}, and left\n  indented\n");
        assert_eq!(known.text(&line), format!("admin said {HIDDEN}, and left\n  indented\n"));
    }

    #[test]
    fn names_digests_and_figures_stay() {
        let text = "\
2026-11-29T10:00:00.123456Z  INFO operator::fleet: chat: 3 nodes wanted, rule=WritesPerSecondBurst uid=6f1c0a4e-0000-4000-8000-000000000001
image channelcluster.io/channel-node@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
  pod chat-node-5d4f8c7b9-x2x4z at 10.244.1.7:9400 TargetConnectionsFloor TopologySpreadConstraints
channelcluster_node_closed_total{reason=\"full\"} 12
secret \"chat-node\" not found
";
        assert_eq!(Redactor::default().text(text), text);
    }

    #[test]
    fn objects_lose_values_and_keep_their_shape() {
        let mut object = json!({
            "metadata": {
                "name": "chat-node", "uid": "6f1c0a4e-0000-4000-8000-000000000001", "managedFields": [{"manager": "x"}],
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{\"password\":\"hunter2xx\"}", "note": "token=hunter2xx"},
            },
            "spec": {
                "adminPassword": "hunter2xx",
                "containers": [{"env": [{"name": "A", "value": "hunter2xx"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]}],
                "automountServiceAccountToken": false,
            },
        });
        Redactor::default().value(&mut object);
        let text = object.to_string();
        assert!(!text.contains("hunter2xx") && !text.contains("managedFields"), "{text}");
        assert_eq!(object["metadata"]["uid"], "6f1c0a4e-0000-4000-8000-000000000001");
        assert_eq!(object["spec"]["containers"][0]["env"][0]["name"], "A");
        assert_eq!(
            object["spec"]["containers"][0]["env"][1]["valueFrom"]["fieldRef"]["fieldPath"],
            "status.podIP"
        );
        assert_eq!(object["spec"]["automountServiceAccountToken"], false);
    }

    #[test]
    fn an_object_in_a_text_of_another_is_read_as_one() {
        let template = json!({
            "metadata": {"annotations": {"note": "kept"}},
            "spec": {"initContainers": [{"env": [{"name": "A", "value": "hunter2xx"}]}], "containers": [{"image": "x:1"}]},
        });
        let twice = json!({"template": template.to_string()}).to_string();
        let mut object = json!({"metadata": {"annotations": {
            "channelcluster.io/made-with": template.to_string(),
            "kapp.k14s.io/original": json!([twice]).to_string(),
            "quoted": json!(template.to_string()).to_string(),
            "number": "7",
        }}});
        Redactor::default().value(&mut object);
        assert!(!object.to_string().contains("hunter2xx"), "{object}");
        let annotations = &object["metadata"]["annotations"];
        assert_eq!(annotations["number"], "7");
        let shown: serde_json::Value =
            serde_json::from_str(annotations["channelcluster.io/made-with"].as_str().unwrap()).unwrap();
        assert_eq!(shown["spec"]["initContainers"][0]["env"][0], json!({"name": "A", "value": HIDDEN}));
        assert_eq!(shown["spec"]["containers"][0]["image"], "x:1");
    }

    #[test]
    fn the_values_of_environment_variables_are_found_at_any_depth() {
        let spec = json!({"nodes": {"env": [
            {"name": "A", "value": "hunter2xx"}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "b", "key": "b"}}},
        ]}});
        assert_eq!(environment(&json!({"spec": [spec]})), ["hunter2xx"]);
        let known = Redactor::knowing(environment(&spec));
        assert_eq!(known.text("KEY is hunter2xx."), format!("KEY is {HIDDEN}."));
    }

    /// A known secret never shows, wherever it was planted and whatever stands around it.
    #[test]
    fn a_known_secret_never_shows() {
        let redactor = Redactor::knowing([DRAWN.to_owned()]);
        arbtest(|u| {
            let before: String = u.arbitrary()?;
            let after: String = u.arbitrary()?;
            let text = format!("{before}{DRAWN}{after}");
            let shown = redactor.text(&text);
            assert!(!shown.contains(DRAWN), "{shown}");
            let mut object = json!({"a": [{"b": text}]});
            redactor.value(&mut object);
            assert!(!object.to_string().contains(DRAWN), "{object}");
            Ok(())
        });
    }
}
