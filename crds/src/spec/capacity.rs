//! What one node carries: numbers, or words for what the operator finds out.

use std::fmt;
use std::str::FromStr;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::quantity::{read_text_or_number, text_or_number};
use crate::rules;

/// What one node carries at 100 % utilization.
#[derive(Clone, Debug, Default, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// Fan-out writes per second: messages delivered to members. A number, or `Learned`: what the nodes show by how busy they
    /// are with what they deliver; 40000 counts until they have shown enough.
    #[serde(default)]
    pub writes_per_second: WritesPerSecond,
    /// Connections held. A number, or `Derived`: what memory and open files of a node hold, by the memory limit and by what a
    /// connection of these nodes takes; 10000 counts where no memory limit is known.
    #[serde(default)]
    pub connections: Connections,
}

/// A number from 1 to `$most`, or the word `$word`.
macro_rules! number_or_word {
    ($(#[$about:meta])* $name:ident: 1 to $most:literal, usually $usual:literal, or $(#[$about_word:meta])* $word:ident by $rule:path) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            /// So many.
            Given(u64),
            $(#[$about_word])*
            $word,
        }

        impl $name {
            /// The most that can be given.
            const MOST: u64 = $most;
            /// The number that counts where nothing is given, and where nothing is known of the nodes.
            pub const USUAL: u64 = $usual;

            /// The number that counts while nothing is known of the nodes.
            #[must_use]
            pub const fn assumed(self) -> u64 {
                match self {
                    Self::Given(number) => number,
                    Self::$word => Self::USUAL,
                }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::Given(Self::USUAL)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Self::Given(number) => write!(f, "{number}"),
                    Self::$word => f.write_str(stringify!($word)),
                }
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let digits = text.bytes().all(|byte| byte.is_ascii_digit());
                let number = text.parse().ok().filter(|number| digits && (1..=Self::MOST).contains(number));
                match number {
                    Some(number) => Ok(Self::Given(number)),
                    None if text == stringify!($word) => Ok(Self::$word),
                    None => {
                        let (most, word) = (Self::MOST, stringify!($word));
                        Err(format!("{text:?} is neither a number from 1 to {most} nor {word}"))
                    }
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    Self::Given(number) => serializer.serialize_u64(*number),
                    Self::$word => serializer.serialize_str(stringify!($word)),
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                read_text_or_number(deserializer, Self::MOST, Self::Given)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let (rule, message) = $rule;
                text_or_number(MAX_TEXT, &serde_json::json!([{"rule": rule, "message": message}]))
            }
        }
    };
}

/// Longest text of [`WritesPerSecond`] and [`Connections`].
const MAX_TEXT: usize = 10;

number_or_word! {
    /// Messages that one node delivers per second at 100 % utilization.
    WritesPerSecond: 1 to 1_000_000_000, usually 40_000, or
    /// As many as the nodes show.
    Learned by rules::nodes::WRITES_PER_SECOND
}

number_or_word! {
    /// Connections that one node holds at 100 % utilization.
    Connections: 1 to 10_000_000, usually 10_000, or
    /// As many as memory and open files of a node hold.
    Derived by rules::nodes::CONNECTIONS
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Connections, WritesPerSecond};

    #[test]
    fn writes_per_second_are_a_number_or_learned() {
        let all =
            [(json!(40_000), WritesPerSecond::Given(40_000)), (json!("Learned"), WritesPerSecond::Learned)];
        for (value, writes) in all {
            assert_eq!(serde_json::from_value::<WritesPerSecond>(value.clone()).unwrap(), writes);
            assert_eq!(serde_json::to_value(writes).unwrap(), value);
            assert_eq!(writes.assumed(), 40_000);
        }
        let text = serde_json::from_value::<WritesPerSecond>(json!("5")).unwrap();
        assert_eq!(text, WritesPerSecond::Given(5));
        for bad in [
            json!(0),
            json!(1_000_000_001),
            json!(-1),
            json!("0"),
            json!("+1"),
            json!("learned"),
            json!("Derived"),
            Value::Null,
        ] {
            assert!(serde_json::from_value::<WritesPerSecond>(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn connections_are_a_number_or_derived() {
        let all =
            [(json!(10_000_000), Connections::Given(10_000_000)), (json!("Derived"), Connections::Derived)];
        for (value, connections) in all {
            assert_eq!(serde_json::from_value::<Connections>(value.clone()).unwrap(), connections);
            assert_eq!(serde_json::to_value(connections).unwrap(), value);
            assert_eq!(connections.to_string(), value.to_string().trim_matches('"'));
        }
        let text = serde_json::from_value::<Connections>(json!("5")).unwrap();
        assert_eq!((text, Connections::default()), (Connections::Given(5), Connections::Given(10_000)));
        for bad in [json!(0), json!(10_000_001), json!("derived"), json!("Learned"), Value::Null] {
            assert!(serde_json::from_value::<Connections>(bad.clone()).is_err(), "{bad}");
        }
    }
}
