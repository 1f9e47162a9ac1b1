//! `status.operation`: what an operator has begun, in a form from which another one goes on with it.
//!
//! The types of operations are told apart by `type`, and share one flat schema: a server takes no alternatives whose fields
//! have types of their own. Before there was a `type` there were only scale-ins, so an operation without one is a scale-in.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Field that says of which type an operation is.
const TYPE: &str = "type";

/// Makes [`Operation`] of its types, so that none is left out of what is read or of the schema. The first type is that of
/// an operation which names none.
macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// What is under way in a fleet: one operation at a time.
        #[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
        #[serde(tag = "type", try_from = "Map<String, Value>")]
        pub enum Operation {
            $($(#[$doc])* $name($name)),+
        }

        impl Operation {
            /// What `type` may be.
            pub const TYPES: &'static [&'static str] = &[$(stringify!($name)),+];

            fn schemas(generator: &mut SchemaGenerator) -> Vec<Schema> {
                vec![$($name::json_schema(generator)),+]
            }
        }

        impl TryFrom<Map<String, Value>> for Operation {
            type Error = String;

            fn try_from(mut fields: Map<String, Value>) -> Result<Self, String> {
                let named = fields.remove(TYPE).unwrap_or_else(|| Self::TYPES[0].into());
                $(if named == stringify!($name) {
                    return match serde_json::from_value(fields.into()) {
                        Ok(operation) => Ok(Self::$name(operation)),
                        Err(error) => Err(format!("status.operation: {error}")),
                    };
                })+
                Err(format!("status.operation: this version knows no operation of type {named}"))
            }
        }
    };
}

operations! {
    /// A node is emptied and removed.
    ScaleIn,
}

impl JsonSchema for Operation {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Operation".into()
    }

    /// The fields of all types; required is what each of them requires. A field that two types have must mean the same.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut fields = Map::new();
        let mut required: Option<Vec<Value>> = None;
        for schema in Self::schemas(generator) {
            if let Some(own) = schema.get("properties").and_then(Value::as_object) {
                fields.extend(own.clone());
            }
            let own = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
            required = Some(match required {
                None => own,
                Some(before) => before.into_iter().filter(|field| own.contains(field)).collect(),
            });
        }
        let which = "What is under way; without one it is a scale-in.";
        fields.insert(
            TYPE.to_owned(),
            serde_json::json!({"type": "string", "description": which, "enum": Self::TYPES}),
        );
        json_schema!({"type": "object", "properties": fields, "required": required.unwrap_or_default()})
    }
}

/// A node on its way out, one step at a time.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ScaleIn {
    /// Pod that is to go.
    pub pod: String,
    /// Its UID, so that a namesake is never taken for it.
    pub pod_uid: String,
    /// The step reached.
    pub step: ScaleInStep,
    /// When the operation began.
    pub started_at: Time,
    /// When the step began.
    pub step_at: Time,
    /// Connections that the node still held when last seen; none when it never said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<i64>,
    /// Pace in connections per second that the node was last told to close at; none before it was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_per_second: Option<u32>,
}

/// Steps of a scale-in, in order.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq, PartialOrd, Ord)]
pub enum ScaleInStep {
    /// The node says that it is not ready; wait until its endpoint is out of the Service.
    Unready,
    /// The node closes its connections at the drain rate.
    Closing,
    /// The node is empty; replicas go down by one and that pod must be the one that goes.
    Removing,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Operation, ScaleInStep};

    /// As the versions without `type` stored it.
    fn stored() -> Value {
        json!({
            "pod": "chat-node-a", "podUid": "1", "step": "Closing", "startedAt": "2026-01-01T00:00:00Z",
            "stepAt": "2026-01-01T00:01:00Z", "connections": 7, "connectionsPerSecond": 500,
        })
    }

    #[test]
    fn an_operation_that_names_no_type_is_a_scale_in() {
        let operation: Operation = serde_json::from_value(stored()).unwrap();
        let Operation::ScaleIn(scale_in) = &operation;
        assert_eq!((scale_in.step, scale_in.connections_per_second), (ScaleInStep::Closing, Some(500)));
        // It is written as before, with its type beside it: the version before reads that too.
        let mut expected = stored();
        expected["type"] = json!("ScaleIn");
        let written = serde_json::to_value(&operation).unwrap();
        assert_eq!(written, expected);
        assert_eq!(serde_json::from_value::<Operation>(written).unwrap(), operation);
    }

    #[test]
    fn an_operation_of_a_later_version_is_taken_for_none_of_ours() {
        let mut later = stored();
        later["type"] = json!("Rebalance");
        let error = serde_json::from_value::<Operation>(later).unwrap_err().to_string();
        assert!(error.contains("Rebalance"), "{error}");
        let mut torn = stored();
        torn.as_object_mut().unwrap().remove("podUid");
        let error = serde_json::from_value::<Operation>(torn).unwrap_err().to_string();
        assert!(error.contains("status.operation") && error.contains("podUid"), "{error}");
    }
}
