//! Objects that were stored under another version of the CRD and cannot be read. The operator says so in the status
//! and touches nothing else of the object. What the status says of an operation under way is still true, so it stays.

use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::error_boundary::InvalidObject;
use operator_core::timestamp::time;
use serde_json::{Value, json};
use tracing::warn;

use crate::clock;
use crate::context::Context;
use crate::metrics::ClusterLabels;
use crate::publish::STATUS_MANAGER;

/// The reason in the conditions.
const REASON: &str = "Unreadable";

/// Writes this into the status.
pub async fn unreadable(context: &Context, labels: &ClusterLabels, invalid: &InvalidObject) {
    let ClusterLabels { namespace, name } = labels;
    warn!(namespace, name, error = invalid.error, "cannot read this ChannelCluster");
    if context.shared.check().is_err() {
        return;
    }
    if let Err(error) = say(context, labels, &invalid.error).await {
        warn!(namespace, name, %error, "cannot write the status of an unreadable ChannelCluster");
    }
}

async fn say(context: &Context, labels: &ClusterLabels, error: &str) -> Result<(), kube::Error> {
    let kind = ApiResource::erase::<crds::ChannelCluster>(&());
    let client = context.shared.client.clone();
    let api: Api<DynamicObject> = Api::namespaced_with(client, &labels.namespace, &kind);
    let Some(live) = api.get_opt(&labels.name).await? else { return Ok(()) };
    let before = &live.data["status"];
    let now = serde_json::to_value(time(clock::now())).unwrap_or_default();
    let after = with_error(before, error, &now);
    if *before == after {
        return Ok(());
    }
    // The patch has all fields: a field that our manager leaves out is removed by the server.
    let patch = json!({
        "apiVersion": kind.api_version, "kind": kind.kind,
        "metadata": {"name": labels.name, "resourceVersion": live.metadata.resource_version},
        "status": after,
    });
    let params = PatchParams::apply(STATUS_MANAGER).force();
    api.patch_status(&labels.name, &params, &Patch::Apply(patch)).await.map(drop)
}

/// The status with this error and otherwise as it was.
fn with_error(before: &Value, error: &str, now: &Value) -> Value {
    let mut status = if before.is_object() { before.clone() } else { json!({}) };
    let mut conditions = before["conditions"].as_array().cloned().unwrap_or_default();
    let message = format!("the spec cannot be read: {error}");
    for (kind, truth) in [("Ready", "False"), ("Stalled", "True")] {
        let at = conditions.iter().position(|condition| condition["type"] == kind);
        let since = at.map(|at| conditions[at].clone()).filter(|condition| condition["status"] == truth);
        let since = since.map_or_else(|| now.clone(), |condition| condition["lastTransitionTime"].clone());
        let condition = json!({
            "type": kind, "status": truth, "reason": REASON, "message": message, "lastTransitionTime": since,
        });
        match at {
            Some(at) => conditions[at] = condition,
            None => conditions.push(condition),
        }
    }
    status["conditions"] = Value::Array(conditions);
    status["reason"] = json!(REASON);
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_status_says_beside_stays() {
        let before = json!({
            "operation": {"type": "ScaleIn", "pod": "a"}, "refusedSysctls": {"names": ["b"]},
            "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "then"},
                {"type": "Stalled", "status": "True", "lastTransitionTime": "then"},
                {"type": "Available", "status": "True", "lastTransitionTime": "then"},
            ],
        });
        let after = with_error(&before, "unknown field", &json!("now"));
        assert_eq!(
            (&after["operation"], &after["refusedSysctls"]),
            (&before["operation"], &before["refusedSysctls"])
        );
        assert_eq!(after["conditions"][2], before["conditions"][2]);
        assert_eq!(after["conditions"][0]["lastTransitionTime"], "now");
        assert_eq!(after["conditions"][1]["lastTransitionTime"], "then", "it was stalled before");
        assert_eq!(with_error(&after, "unknown field", &json!("later")), after, "said once");
        assert_eq!(with_error(&Value::Null, "e", &json!("now"))["conditions"].as_array().unwrap().len(), 2);
    }
}
