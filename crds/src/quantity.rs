//! Quantities with a unit, as they stand in a manifest.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use crate::rules;

/// A span of time as Kubernetes users write it: `250ms`, `60s`, `5m`, `1h30m`, `1.5h`.
///
/// Kept in whole milliseconds, rounded up; printed in the largest units that are exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration {
    millis: u64,
}

/// Why a text is not a [`Duration`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration: write a number and a unit, as in 250ms, 60s, 5m or 1h30m")]
pub struct DurationError(String);

/// Most decimals of a number: those of an hour, times its milliseconds, stay below 2^64.
const FRACTION_DIGITS: usize = 9;
/// Most characters of a duration in a manifest: four units with nine digits each, without decimals, are 41.
const MAX_TEXT: usize = 41;
/// Units, largest first, with their length in milliseconds.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Duration {
    /// A span of `millis` milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self { millis }
    }

    /// A span of `secs` seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self { millis: secs * 1_000 }
    }

    /// The span in milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.millis
    }

    /// The span in whole seconds, rounded up.
    #[must_use]
    pub const fn as_secs_ceil(self) -> u64 {
        self.millis.div_ceil(1_000)
    }
}

impl From<Duration> for std::time::Duration {
    fn from(d: Duration) -> Self {
        Self::from_millis(d.millis)
    }
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let err = || DurationError(text.to_owned());
        let mut rest = text;
        let mut millis = 0u64;
        if rest.is_empty() {
            return Err(err());
        }
        while !rest.is_empty() {
            let (number, tail) = digits(rest);
            let number: u64 = number.parse().map_err(|_| err())?;
            let (fraction, tail) = match tail.strip_prefix('.').map(digits) {
                Some((fraction, tail)) if (1..=FRACTION_DIGITS).contains(&fraction.len()) => (fraction, tail),
                Some(_) => return Err(err()),
                None => ("", tail),
            };
            rest = tail;
            let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, tail) = rest.split_at(letters);
            let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(err)?;
            millis = number.checked_mul(*factor).and_then(|m| millis.checked_add(m)).ok_or_else(err)?;
            millis = millis.checked_add(part(fraction, *factor)).ok_or_else(err)?;
            rest = tail;
        }
        Ok(Self { millis })
    }
}

/// The digits that a text begins with, and what follows them.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// The decimals `fraction` of a unit of `factor` milliseconds, rounded up.
fn part(fraction: &str, factor: u64) -> u64 {
    let scale = 10u64.pow(u32::try_from(fraction.len()).unwrap_or_default());
    (fraction.parse().unwrap_or(0) * factor).div_ceil(scale)
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.millis;
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, factor) in UNITS {
            if rest >= factor {
                write!(f, "{}{unit}", rest / factor)?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    /// A number is let through by the type, so that the rule can say in words what is missing.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        text_or_number(MAX_TEXT, &form())
    }
}

impl Duration {
    /// The schema inside a list, where a rule on a text without a type costs older API servers more than they allow.
    pub(crate) fn text_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": MAX_TEXT, "x-kubernetes-validations": form()})
    }
}

/// The schema of a text of at most `longest` characters or a number, with the rules for both.
pub(crate) fn text_or_number(longest: usize, rules: &Value) -> Schema {
    json_schema!({"x-kubernetes-int-or-string": true, "maxLength": longest, "x-kubernetes-validations": rules})
}

/// Reads a number from 1 to `most`, of which `number` makes the value, or a text.
pub(crate) fn read_text_or_number<'de, D, N, T>(
    deserializer: D,
    most: N,
    number: impl FnOnce(N) -> T,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    N: Copy + Deserialize<'de> + PartialOrd + From<u8> + fmt::Display,
    T: FromStr<Err: fmt::Display>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either<N> {
        Number(N),
        Text(String),
    }
    match Either::deserialize(deserializer)? {
        Either::Number(given) if given >= N::from(1) && given <= most => Ok(number(given)),
        Either::Number(given) => Err(D::Error::custom(format!("{given} is not between 1 and {most}"))),
        Either::Text(text) => text.parse().map_err(D::Error::custom),
    }
}

fn form() -> Value {
    let (rule, message) = rules::DURATION_FORM;
    json!([{"rule": rule, "message": message}])
}

/// The schema of a map whose values are texts that may look like numbers, as those of sysctls do.
pub(crate) fn texts_or_numbers(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "additionalProperties": {"x-kubernetes-int-or-string": true}})
}

/// Reads such a map; a number means its digits.
pub(crate) fn numbers_as_text<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Scalar {
        Text(String),
        Number(i64),
    }
    let map = BTreeMap::<String, Scalar>::deserialize(deserializer)?;
    let text = |value| match value {
        Scalar::Text(text) => text,
        Scalar::Number(number) => number.to_string(),
    };
    Ok(map.into_iter().map(|(key, value)| (key, text(value))).collect())
}

/// An amount of memory as Kubernetes users write it: `256Mi`, `2Gi`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Memory {
    mebibytes: u64,
}

/// Why a text is not a [`Memory`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an amount of memory: write a whole number of Mi or Gi, as in 256Mi or 2Gi")]
pub struct MemoryError(String);

/// Mebibytes of a gibibyte.
const GIBIBYTE: u64 = 1_024;

impl Memory {
    /// The amount in bytes.
    #[must_use]
    pub const fn as_bytes(self) -> u64 {
        self.mebibytes << 20
    }
}

impl FromStr for Memory {
    type Err = MemoryError;

    fn from_str(text: &str) -> Result<Self, MemoryError> {
        let whole = text.strip_suffix("Gi").map(|number| (number, GIBIBYTE));
        let (number, factor) = whole.or_else(|| Some((text.strip_suffix("Mi")?, 1))).unwrap_or_default();
        let digits = (1..=7).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
        let number = number.parse::<u64>().ok().filter(|_| digits);
        let mebibytes = number.ok_or_else(|| MemoryError(text.to_owned()))? * factor;
        Ok(Self { mebibytes })
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mebibytes {
            whole if whole > 0 && whole.is_multiple_of(GIBIBYTE) => write!(f, "{}Gi", whole / GIBIBYTE),
            mebibytes => write!(f, "{mebibytes}Mi"),
        }
    }
}

impl Serialize for Memory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Memory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Memory {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Memory".into()
    }

    fn inline_schema() -> bool {
        true
    }

    /// As for [`Duration`].
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let (rule, message) = rules::MEMORY_BUDGET;
        text_or_number(MAX_TEXT, &serde_json::json!([{"rule": rule, "message": message}]))
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, Memory};

    #[test]
    fn memory_is_read_and_printed_and_anything_else_refused() {
        for (text, bytes) in
            [("16Mi", 16 << 20), ("256Mi", 256 << 20), ("2Gi", 2 << 30), ("9999999Gi", 9_999_999 << 30)]
        {
            let memory = text.parse::<Memory>().unwrap();
            assert_eq!((memory.as_bytes(), memory.to_string().as_str()), (bytes, text));
        }
        assert_eq!("2048Mi".parse::<Memory>().unwrap().to_string(), "2Gi");
        for text in ["", "5", "Mi", "64M", "64MB", "1.5Gi", "-1Gi", "12345678Mi", "+1Mi"] {
            assert!(text.parse::<Memory>().is_err(), "{text}");
        }
    }

    #[test]
    fn reads_and_prints_each_unit() {
        let given = [
            ("250ms", 250),
            ("60s", 60_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("0.05s", 50),
            ("0.0001s", 1),
        ];
        for (text, millis) in given {
            assert_eq!(text.parse::<Duration>().unwrap(), Duration::from_millis(millis));
        }
        assert_eq!(Duration::from_secs(60).to_string(), "1m");
        assert_eq!(Duration::from_millis(1_250).to_string(), "1s250ms");
        assert_eq!(Duration::default().to_string(), "0s");
    }

    #[test]
    fn refuses_what_has_no_unit() {
        for text in
            ["", "5", "s", "5 s", "-1s", "5d", "5min", "1.h", ".5h", "1.5.5h", "99999999999999999999h"]
        {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }
}
