//! Objects of tests that differ in a part, here and in `e2e/apiserver`.

use serde_json::Value;

/// Lays `from` over `into`, field by field.
pub(crate) fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}
