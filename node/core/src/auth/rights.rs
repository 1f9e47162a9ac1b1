//! Which topics a token allows: patterns of the configuration with claims in them, and patterns in a claim.

use serde_json::{Map, Value};

use crate::{
    limits::MAX_TOPIC_BYTES,
    topic::{TopicKind, TopicName},
};

/// Most patterns of topics in a claim.
const MAX_TOPICS_IN_CLAIM: usize = 64;
/// Longest name of a claim in a pattern, in bytes.
const CLAIM_BYTES: usize = 64;

/// A part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// It is as it is written.
    Text(Box<str>),
    /// It is the value of the claim of this name.
    Claim(Box<str>),
}

/// A pattern of topics in which `{NAME}` stands for a claim, such as `user:{sub}:*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
    /// Whether it is the beginning of a topic, and not the whole one.
    prefix: bool,
}

impl Template {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it, to be put after the pattern.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (body, prefix) = text.strip_suffix('*').map_or((text, false), |body| (body, true));
        if text.is_empty() || text.len() > MAX_TOPIC_BYTES || body.contains('*') {
            return Err("is not a topic pattern; write a topic, or a prefix and * at its end");
        }
        if TopicName::parse(text).is_some_and(|name| name.kind() != TopicKind::Shared) {
            return Err("is reserved; choose a topic that is not phoenix and has no $ in front");
        }
        let mut pieces = Vec::new();
        let mut rest = body;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, left) = after.split_once('}').ok_or("has a { without its }; write {sub}")?;
            let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
            if name.is_empty()
                || name.len() > CLAIM_BYTES
                || !name.bytes().all(is_letter)
                || before.contains('}')
            {
                return Err("names no claim in its braces; write letters, digits, - and _, as in {sub}");
            }
            if before.is_empty() && matches!(pieces.last(), Some(Piece::Claim(_))) {
                return Err(
                    "has two claims side by side, of which nobody can tell the border; put a : between them",
                );
            }
            if !before.is_empty() {
                pieces.push(Piece::Text(before.into()));
            }
            pieces.push(Piece::Claim(name.into()));
            rest = left;
        }
        if rest.contains('}') {
            return Err("has a } without its {; write {sub}");
        }
        if prefix && rest.is_empty() && matches!(pieces.last(), Some(Piece::Claim(_))) {
            return Err(
                "has * right after a claim, so that the user 1 may join what is the user 10's; put a : between them",
            );
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.into()));
        }
        Ok(Self { pieces, prefix })
    }

    /// The topics that it means with these claims. `None` when a claim is missing or no text, or when its value holds
    /// the character that follows it in the pattern: two users' values could otherwise make the same topic.
    fn resolve(&self, claims: &Map<String, Value>) -> Option<Grant> {
        let mut text = String::new();
        for (index, piece) in self.pieces.iter().enumerate() {
            match piece {
                Piece::Text(own) => text.push_str(own),
                Piece::Claim(name) => {
                    let value = claim_text(claims, name)?;
                    if let Some(Piece::Text(next)) = self.pieces.get(index + 1)
                        && next.chars().next().is_some_and(|border| value.contains(border))
                    {
                        return None;
                    }
                    text.push_str(&value);
                }
            }
        }
        (text.len() <= MAX_TOPIC_BYTES).then(|| Grant { text: text.into(), prefix: self.prefix })
    }
}

/// The value of a claim as a text: a text that is not empty, or a whole number.
pub(super) fn claim_text(claims: &Map<String, Value>, name: &str) -> Option<String> {
    match claims.get(name)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        _ => None,
    }
}

/// What the configuration says about one right of an issuer's tokens.
#[derive(Debug)]
pub(super) struct Rights {
    templates: Option<Vec<Template>>,
    /// A claim with more patterns.
    claim: Option<String>,
}

/// The topics of a right; none is every topic.
pub(super) type Grants = Option<Box<[Grant]>>;

impl Rights {
    /// Reads the patterns.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub(super) fn read(patterns: Option<&[String]>, claim: Option<&str>) -> Result<Self, &'static str> {
        let read = |texts: &[String]| -> Result<Vec<Template>, &'static str> {
            texts.iter().map(|text| Template::parse(text)).collect()
        };
        Ok(Self { templates: patterns.map(read).transpose()?, claim: claim.map(str::to_owned) })
    }

    /// The topics that a token with these claims has. `None` when the claim with patterns has another form.
    pub(super) fn grants(&self, claims: &Map<String, Value>) -> Option<Grants> {
        if self.templates.is_none() && self.claim.is_none() {
            return Some(None);
        }
        let templates = self.templates.iter().flatten();
        let mut grants: Vec<_> = templates.filter_map(|template| template.resolve(claims)).collect();
        match self.claim.as_ref().and_then(|name| claims.get(name)) {
            None | Some(Value::Null) => {}
            Some(Value::Array(patterns)) if patterns.len() <= MAX_TOPICS_IN_CLAIM => {
                for pattern in patterns {
                    grants.push(pattern.as_str().and_then(Grant::parse)?);
                }
            }
            Some(_) => return None,
        }
        Some(Some(grants.into()))
    }
}

/// Whether a topic is among these.
pub(super) fn has(grants: &Grants, topic: &str) -> bool {
    grants.as_ref().is_none_or(|grants| grants.iter().any(|grant| grant.matches(topic)))
}

/// Memory in bytes.
pub(super) fn held_bytes(grants: &Grants) -> usize {
    let grants = grants.as_deref().unwrap_or_default();
    size_of_val(grants) + grants.iter().map(|grant| grant.text.len()).sum::<usize>()
}

/// Topics that the holder of a token has a right to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    text: Box<str>,
    prefix: bool,
}

impl Grant {
    /// Reads a pattern that stands in a token.
    fn parse(text: &str) -> Option<Self> {
        let (body, prefix) = text.strip_suffix('*').map_or((text, false), |body| (body, true));
        let good = !text.is_empty() && text.len() <= MAX_TOPIC_BYTES && !body.contains('*');
        good.then(|| Self { text: body.into(), prefix })
    }

    /// Whether the topic is among them.
    fn matches(&self, topic: &str) -> bool {
        if self.prefix { topic.starts_with(&*self.text) } else { topic == &*self.text }
    }
}
