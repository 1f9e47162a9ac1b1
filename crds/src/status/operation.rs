//! `status.operation`: what an operator has begun, in a form from which another one goes on with it.
//!
//! The types of operations are told apart by `type`, and share one flat schema: a server takes no alternatives whose fields
//! have types of their own. Versions before stored one type for a single node, and at first none at all: both are read as the
//! type that took its place.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Field that says of which type an operation is.
const TYPE: &str = "type";

/// Makes [`Operation`] of its types, so that none is left out of what is read or of the schema. After `before` stand types
/// of earlier versions, which are read and not written, with the type that each is read as; the first of them is also that of
/// an operation which names none.
macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident($fields:ident)),+; before $($old:ident as $new:ident),+ $(,)?) => {
        /// What is under way in a fleet: one operation at a time.
        #[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
        #[serde(tag = "type", try_from = "Map<String, Value>")]
        pub enum Operation {
            $($(#[$doc])* $name($fields)),+
        }

        impl Operation {
            /// What `type` may be.
            pub const TYPES: &'static [&'static str] = &[$(stringify!($name)),+];
            /// What it was in earlier versions.
            const BEFORE: &'static [&'static str] = &[$(stringify!($old)),+];

            fn schemas(generator: &mut SchemaGenerator) -> Vec<Schema> {
                vec![$($fields::json_schema(generator)),+, $($old::json_schema(generator)),+]
            }
        }

        impl TryFrom<Map<String, Value>> for Operation {
            type Error = String;

            fn try_from(mut fields: Map<String, Value>) -> Result<Self, String> {
                let named = fields.remove(TYPE).unwrap_or_else(|| Self::BEFORE[0].into());
                let torn = |error: serde_json::Error| format!("status.operation: {error}");
                $(if named == stringify!($name) {
                    return serde_json::from_value(fields.into()).map(Self::$name).map_err(torn);
                })+
                $(if named == stringify!($old) {
                    let old = serde_json::from_value::<$old>(fields.into()).map_err(torn)?;
                    return Ok(Self::$new(old.into()));
                })+
                Err(format!("status.operation: this version knows no operation of type {named}"))
            }
        }
    };
}

operations! {
    /// Nodes are emptied and removed.
    Drain(DrainOperation),
    /// Clients are moved from nodes that have too much to others.
    Rebalance(RebalanceOperation);
    before ScaleIn as Drain
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
        let which = "What is under way.";
        let types = [Self::TYPES, Self::BEFORE].concat();
        fields.insert(
            TYPE.to_owned(),
            serde_json::json!({"type": "string", "description": which, "enum": types}),
        );
        json_schema!({"type": "object", "properties": fields, "required": required.unwrap_or_default()})
    }
}

/// Most nodes that are on their way out at a time: so many that the status stays an object that can be written.
pub const MAX_LEAVING_NODES: usize = 200;

/// Nodes on their way out.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DrainOperation {
    /// When the operation began.
    pub started_at: Time,
    /// The nodes, at most 200.
    pub nodes: Vec<LeavingNode>,
}

/// A node on its way out, one step at a time.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LeavingNode {
    /// Pod that is to go.
    pub pod: String,
    /// Its UID, so that a namesake is never taken for it.
    pub pod_uid: String,
    /// Why it is to go.
    pub cause: LeaveCause,
    /// What says that its machine is about to go; none for another cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The step reached.
    pub step: DrainStep,
    /// When the step began.
    pub step_at: Time,
    /// Connections that the node still held when last seen; none when it never said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<i64>,
    /// Pace in connections per second that the node was last told to close at; none while it is told none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_per_second: Option<u32>,
}

/// Why a node is to go.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeaveCause {
    /// Fewer nodes are wanted.
    ScaleIn,
    /// Its pod was made from a template that is not wanted any more.
    Rollout,
    /// Its machine is about to go.
    Machine,
    /// A person named it.
    Asked,
}

/// Steps of a node on its way out, in order.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrainStep {
    /// The node serves until there are enough others, since its machine is about to go.
    Replacing,
    /// The node says that it is not ready; wait until its endpoint is out of the Service.
    Unready,
    /// The node is out of the Service and waits until it may close its connections.
    Waiting,
    /// The node closes its connections at a pace.
    Closing,
    /// The node is empty; the replicas of its Deployment go down by one and that pod must be the one that goes.
    Removing,
}

/// A round of moving clients.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RebalanceOperation {
    /// A word by which the nodes know the round.
    pub id: String,
    /// When the operation began.
    pub started_at: Time,
    /// Whether a person asked for it by an annotation: it goes on in every mode.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asked: bool,
    /// Since when too little is known of the fleet to go on; only then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown_since: Option<Time>,
    /// The nodes that give clients away, at most 50.
    pub donors: Vec<Donor>,
}

/// A node that gives clients away.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Donor {
    /// Its pod.
    pub pod: String,
    /// The UID of that.
    pub pod_uid: String,
    /// Most clients that it is asked to move.
    pub asked: i64,
    /// Writes/s that it is asked to get rid of; none when the number of clients alone counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_writes: Option<i64>,
    /// Clients that it has moved.
    pub moved: i64,
    /// Whether it did not know the round in the last look, and was asked once more. An operator that begins to lead finds it so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asked_again: bool,
}

/// One node on its way out, as earlier versions stored it.
#[derive(Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
struct ScaleIn {
    /// Pod that is to go, in an operation of an earlier version.
    pod: String,
    /// Its UID.
    pod_uid: String,
    /// The step reached.
    step: ScaleInStep,
    /// When the operation began.
    started_at: Time,
    /// When the step began.
    step_at: Time,
    /// Connections that the node still held when last seen; none when it never said.
    connections: Option<i64>,
    /// Pace in connections per second that the node was last told to close at; none before it was told.
    connections_per_second: Option<u32>,
}

/// Steps of such an operation.
#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
enum ScaleInStep {
    Unready,
    Closing,
    Removing,
}

impl From<ScaleIn> for DrainOperation {
    fn from(old: ScaleIn) -> Self {
        let step = match old.step {
            ScaleInStep::Unready => DrainStep::Unready,
            ScaleInStep::Closing => DrainStep::Closing,
            ScaleInStep::Removing => DrainStep::Removing,
        };
        let node = LeavingNode {
            pod: old.pod,
            pod_uid: old.pod_uid,
            cause: LeaveCause::ScaleIn,
            why: None,
            step,
            step_at: old.step_at,
            connections: old.connections,
            connections_per_second: old.connections_per_second,
        };
        Self { started_at: old.started_at, nodes: vec![node] }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{DrainStep, LeaveCause, Operation};

    /// As the versions without `type` stored it.
    fn stored() -> Value {
        json!({
            "pod": "chat-node-a", "podUid": "1", "step": "Closing", "startedAt": "2026-01-01T00:00:00Z",
            "stepAt": "2026-01-01T00:01:00Z", "connections": 7, "connectionsPerSecond": 500,
        })
    }

    #[test]
    fn a_scale_in_of_earlier_versions_is_a_drain_of_one_node() {
        let mut typed = stored();
        typed["type"] = json!("ScaleIn");
        for earlier in [stored(), typed] {
            let operation: Operation = serde_json::from_value(earlier).unwrap();
            let Operation::Drain(drain) = &operation else { panic!("{operation:?}") };
            let [node] = &drain.nodes[..] else { panic!("{drain:?}") };
            assert_eq!((node.pod_uid.as_str(), node.cause), ("1", LeaveCause::ScaleIn));
            assert_eq!((node.step, node.connections), (DrainStep::Closing, Some(7)));
            assert_eq!(node.connections_per_second, Some(500));
            let written = serde_json::to_value(&operation).unwrap();
            assert_eq!(
                (&written["type"], &written["nodes"][0]["stepAt"]),
                (&json!("Drain"), &stored()["stepAt"])
            );
            assert_eq!(written.get("pod"), None);
            assert_eq!(serde_json::from_value::<Operation>(written).unwrap(), operation);
        }
    }

    #[test]
    fn an_operation_of_a_later_version_is_taken_for_none_of_ours() {
        let mut later = stored();
        later["type"] = json!("Teleport");
        let error = serde_json::from_value::<Operation>(later).unwrap_err().to_string();
        assert!(error.contains("Teleport"), "{error}");
        let mut torn = stored();
        torn.as_object_mut().unwrap().remove("podUid");
        let error = serde_json::from_value::<Operation>(torn).unwrap_err().to_string();
        assert!(error.contains("status.operation") && error.contains("podUid"), "{error}");
    }
}
