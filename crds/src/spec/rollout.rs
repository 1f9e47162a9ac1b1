//! How nodes are replaced.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::quantity::{read_text_or_number, text_or_number};
use crate::rules;

/// Longest text of a [`Surge`].
const MAX_TEXT: usize = 4;
/// Most nodes of a [`Surge`].
const MAX_NODES: u32 = 1_000;

/// How nodes are replaced when their pods are to be made otherwise: new ones come, clients of the old ones are moved at the
/// pace of `drain`, and the old ones go.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Nodes that may be there beyond the node count meanwhile: a number, or a percentage of the node count as `25%`, of
    /// which it is at least one. Unset: 25%.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<Surge>,
    /// Hold a rollout where it is: no node is added, and none is emptied that was not yet. Unset: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<bool>,
    /// Go back by itself when a rollout stops because the new nodes do worse than the old ones; without it the rollout stays
    /// where it stopped. Unset: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_rollback: Option<bool>,
}

/// Nodes beyond the node count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surge {
    /// So many.
    Nodes(u32),
    /// A percentage of the node count, rounded up.
    Percent(u32),
}

impl Default for Surge {
    fn default() -> Self {
        Self::Percent(25)
    }
}

impl Surge {
    /// So many nodes, at least one, where `count` are wanted.
    #[must_use]
    pub fn of(self, count: i32) -> i32 {
        let count = u64::try_from(count).unwrap_or_default();
        let nodes = match self {
            Self::Nodes(nodes) => u64::from(nodes),
            Self::Percent(percent) => count.saturating_mul(u64::from(percent)).div_ceil(100),
        };
        i32::try_from(nodes.max(1)).unwrap_or(i32::MAX)
    }
}

impl FromStr for Surge {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number =
            |text: &str| text.parse::<u32>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        let percent = text.strip_suffix('%').and_then(number).filter(|percent| (1..=100).contains(percent));
        percent.map(Self::Percent).ok_or_else(|| format!("{text:?} is no percentage from 1% to 100%"))
    }
}

impl fmt::Display for Surge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nodes(nodes) => write!(f, "{nodes}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Serialize for Surge {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nodes(nodes) => serializer.serialize_u32(*nodes),
            Self::Percent(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Surge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_text_or_number(deserializer, MAX_NODES, Self::Nodes)
    }
}

impl JsonSchema for Surge {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Surge".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let (rule, message) = rules::MAX_SURGE;
        text_or_number(MAX_TEXT, &serde_json::json!([{"rule": rule, "message": message}]))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Surge;

    #[test]
    fn a_surge_is_a_number_or_a_percentage() {
        for (value, surge) in [(json!(3), Surge::Nodes(3)), (json!("25%"), Surge::Percent(25))] {
            assert_eq!(serde_json::from_value::<Surge>(value.clone()).unwrap(), surge);
            assert_eq!(serde_json::to_value(surge).unwrap(), value);
        }
        for bad in [
            json!(0),
            json!(1_001),
            json!(-1),
            json!("25"),
            json!("0%"),
            json!("101%"),
            json!("+5%"),
            Value::Null,
        ] {
            assert!(serde_json::from_value::<Surge>(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_surge_is_at_least_one_node() {
        assert_eq!([0, 1, 4, 5, 40].map(|count| Surge::default().of(count)), [1, 1, 1, 2, 10]);
        assert_eq!((Surge::Nodes(3).of(1), Surge::Percent(100).of(i32::MAX)), (3, i32::MAX));
    }
}
