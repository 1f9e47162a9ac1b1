//! Whose an object is, and whose its fields are.
//!
//! Server-side apply removes a field when its last manager leaves it out, so a field that a second manager holds by
//! accident stays for ever. Here the records of managers (`metadata.managedFields`) are put right, as kubectl's
//! `csaupgrade` does when it moves from one kind of apply to the other.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta};
use serde_json::{Map, Value, json};

use crate::names::{APP, CLUSTER_LABEL, FIELD_MANAGER};

/// Field manager of the node count.
pub const SCALING_MANAGER: &str = "channel-operator-scaling";
/// Managers that write what nobody else may: they keep it.
const CONTROLLERS: [&str; 1] = ["kube-controller-manager"];

/// Whose an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This ChannelCluster's.
    Ours,
    /// It was made for a ChannelCluster of this name that is gone (deleted with its objects left, or restored from a backup
    /// under another UID), and nobody else owns it.
    Leftover,
    /// Somebody else's, in a few words.
    Another(String),
}

/// Whose the object is, seen from the ChannelCluster `name` with `uid` in the same namespace. `lives` says whether there is a
/// ChannelCluster of another name with a UID.
#[must_use]
pub fn owner(object: &ObjectMeta, name: &str, uid: &str, lives: impl Fn(&str, &str) -> bool) -> Owner {
    let owners = object.owner_references.as_deref().unwrap_or_default();
    if owners.iter().any(|owner| owner.uid == uid) {
        return Owner::Ours;
    }
    for owner in owners {
        let cluster = owner.kind == "ChannelCluster" && owner.api_version.starts_with(crds::GROUP);
        // Names are unique: whoever had ours before is gone.
        if !cluster || (owner.name != name && lives(&owner.name, &owner.uid)) {
            return Owner::Another(format!("{} {}", owner.kind, owner.name));
        }
    }
    let label = |key: &str| object.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    let made_by_us = label("app.kubernetes.io/managed-by") == Some(FIELD_MANAGER)
        && label("app.kubernetes.io/name") == Some(APP)
        && label(CLUSTER_LABEL) == Some(name);
    if made_by_us { Owner::Leftover } else { Owner::Another("somebody else".to_owned()) }
}

/// The records as they should be before an object is applied; none if they are. The node count of a `counted` object
/// belongs to [`SCALING_MANAGER`] alone, and everything else to [`FIELD_MANAGER`], also what an earlier attempt that did not
/// come to its end left in another record. In what is a leftover, whoever `restored` it gives up its content.
#[must_use]
pub fn repair(
    records: &[ManagedFieldsEntry],
    counted: bool,
    restored: bool,
) -> Option<Vec<ManagedFieldsEntry>> {
    let mut main = Value::Object(Map::new());
    let mut count = None;
    let mut others = Vec::new();
    let mut version = None;
    for record in records {
        let fields = record.fields_v1.clone().map_or_else(|| json!({}), |fields| fields.0);
        let plain = record.subresource.as_deref().unwrap_or_default().is_empty();
        let manager = record.manager.as_deref().unwrap_or_default();
        let applied = record.operation.as_deref() == Some("Apply");
        let mut fields = fields;
        if plain && (manager == FIELD_MANAGER || (counted && manager == SCALING_MANAGER && applied)) {
            if counted {
                count = take_count(&mut fields).or(count);
            }
            merge(&mut main, fields);
            version = version.or_else(|| record.api_version.clone());
        } else if plain && restored && !applied && !CONTROLLERS.contains(&manager) {
            merge(&mut main, take_content(&mut fields));
            if !is_empty(&fields) {
                let fields_v1 = Some(FieldsV1(fields));
                others.push(ManagedFieldsEntry { fields_v1, ..record.clone() });
            }
        } else {
            others.push(record.clone());
        }
    }
    let mut wanted = Vec::new();
    let ours = |manager: &str, fields: Value| ManagedFieldsEntry {
        manager: Some(manager.to_owned()),
        operation: Some("Apply".to_owned()),
        api_version: version.clone().or_else(|| records.first().and_then(|r| r.api_version.clone())),
        fields_type: Some("FieldsV1".to_owned()),
        fields_v1: Some(FieldsV1(fields)),
        subresource: None,
        time: records.iter().filter_map(|record| record.time.clone()).max(),
    };
    if !is_empty(&main) {
        wanted.push(ours(FIELD_MANAGER, main));
    }
    if let Some(count) = count {
        wanted.push(ours(SCALING_MANAGER, json!({"f:spec": {"f:replicas": count}})));
    }
    wanted.extend(others);
    differ(records, &wanted).then_some(wanted)
}

/// Whether they say different things of who manages what; order and times do not count.
fn differ(a: &[ManagedFieldsEntry], b: &[ManagedFieldsEntry]) -> bool {
    let key = |record: &ManagedFieldsEntry| {
        let fields = record.fields_v1.as_ref().map(|fields| fields.0.to_string());
        (record.manager.clone(), record.operation.clone(), record.subresource.clone(), fields)
    };
    let sorted = |records: &[ManagedFieldsEntry]| {
        let mut keys: Vec<_> = records.iter().map(key).collect();
        keys.sort();
        keys
    };
    sorted(a) != sorted(b)
}

/// Takes the node count out of a record.
fn take_count(fields: &mut Value) -> Option<Value> {
    let spec = fields.get_mut("f:spec")?.as_object_mut()?;
    let count = spec.remove("f:replicas");
    if spec.is_empty() {
        fields.as_object_mut()?.remove("f:spec");
    }
    count
}

/// Takes what an object consists of, its node count apart, out of a record.
fn take_content(fields: &mut Value) -> Value {
    let mut taken = Map::new();
    let Some(fields) = fields.as_object_mut() else { return Value::Object(taken) };
    for key in ["f:spec", "f:data", "f:automountServiceAccountToken"] {
        let Some(mut content) = fields.remove(key) else { continue };
        let count = content.as_object_mut().and_then(|spec| spec.remove("f:replicas"));
        if let Some(count) = count.filter(|_| key == "f:spec") {
            fields.insert(key.to_owned(), json!({"f:replicas": count}));
        }
        taken.insert(key.to_owned(), content);
    }
    Value::Object(taken)
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert_with(|| json!({})), value);
            }
        }
        (into, from) if !from.is_null() => *into = from,
        _ => {}
    }
}

fn is_empty(fields: &Value) -> bool {
    fields.as_object().is_none_or(Map::is_empty)
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "json!() makes values")]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
    use serde_json::{Value, json};

    use super::{Owner, owner, repair};

    fn record(manager: &str, operation: &str, fields: Value) -> ManagedFieldsEntry {
        let record = json!({
            "manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
            "fieldsV1": fields,
        });
        serde_json::from_value(record).unwrap()
    }

    fn told(records: &[ManagedFieldsEntry]) -> Vec<(String, String, Value)> {
        let one = |r: &ManagedFieldsEntry| {
            let fields = r.fields_v1.clone().unwrap().0;
            (r.manager.clone().unwrap(), r.operation.clone().unwrap(), fields)
        };
        records.iter().map(one).collect()
    }

    fn row(manager: &str, operation: &str, fields: Value) -> (String, String, Value) {
        (manager.to_owned(), operation.to_owned(), fields)
    }

    const MAIN: &str = "channel-operator";
    const SCALING: &str = "channel-operator-scaling";

    #[test]
    fn the_count_has_its_manager_and_the_rest_the_other_whatever_came_between() {
        let whole =
            json!({"f:metadata": {"f:labels": {}}, "f:spec": {"f:replicas": {}, "f:template": {"f:a": {}}}});
        let rest = json!({"f:metadata": {"f:labels": {}}, "f:spec": {"f:template": {"f:a": {}}}});
        let count = json!({"f:spec": {"f:replicas": {}}});
        let right = [row(MAIN, "Apply", rest.clone()), row(SCALING, "Apply", count.clone())];
        for wrong in [
            vec![record(MAIN, "Apply", whole.clone())],
            vec![record(SCALING, "Apply", whole.clone())],
            vec![record(SCALING, "Apply", whole.clone()), record(MAIN, "Apply", rest.clone())],
            vec![record(MAIN, "Apply", whole.clone()), record(SCALING, "Apply", count.clone())],
            vec![record(MAIN, "Update", whole), record(SCALING, "Apply", count.clone())],
        ] {
            assert_eq!(told(&repair(&wrong, true, false).unwrap()), right, "{wrong:?}");
        }
        let right = [record(SCALING, "Apply", count), record(MAIN, "Apply", rest)];
        assert_eq!(repair(&right, true, false), None, "nothing to do");
        assert_eq!(repair(&[], true, false), None);
        let nats = record(MAIN, "Apply", json!({"f:spec": {"f:replicas": {}}}));
        assert_eq!(repair(&[nats], false, false), None, "nobody scales it");
    }

    #[test]
    fn what_others_manage_stays_theirs_unless_it_was_restored() {
        let status = {
            let mut status =
                record("kube-controller-manager", "Update", json!({"f:status": {"f:replicas": {}}}));
            status.subresource = Some("status".to_owned());
            status
        };
        let scaled = record("kubectl", "Update", json!({"f:spec": {"f:replicas": {}}}));
        let main = record(MAIN, "Apply", json!({"f:spec": {"f:template": {}}}));
        assert_eq!(repair(&[main.clone(), status.clone(), scaled], true, false), None);
        let backup = record(
            "velero",
            "Update",
            json!({
                "f:metadata": {"f:labels": {"f:velero": {}}}, "f:spec": {"f:replicas": {}, "f:template": {"f:mounts": {}}},
            }),
        );
        let repaired = repair(&[backup, status.clone()], true, true).unwrap();
        let left = json!({"f:metadata": {"f:labels": {"f:velero": {}}}, "f:spec": {"f:replicas": {}}});
        assert_eq!(
            told(&repaired)[..2],
            [
                row(MAIN, "Apply", json!({"f:spec": {"f:template": {"f:mounts": {}}}})),
                row("velero", "Update", left),
            ]
        );
        assert_eq!(repaired[2], status);
    }

    fn object(owners: Value, labels: Value) -> ObjectMeta {
        serde_json::from_value(json!({"name": "chat-node", "ownerReferences": owners, "labels": labels}))
            .unwrap()
    }

    #[test]
    fn leftovers_of_our_name_are_known_and_what_anybody_else_owns_is_not_taken() {
        let of = |kind: &str, name: &str, uid: &str| {
            let version = if kind == "ChannelCluster" { "channelcluster.io/v1alpha1" } else { "apps/v1" };
            json!([{"apiVersion": version, "kind": kind, "name": name, "uid": uid}])
        };
        let labels = json!({
            "app.kubernetes.io/managed-by": MAIN, "app.kubernetes.io/name": "channelcluster", "channelcluster.io/cluster": "chat",
        });
        let lives = |name: &str, _: &str| name == "other";
        let whose =
            |owners: Value, labels: &Value| owner(&object(owners, labels.clone()), "chat", "now", lives);
        assert_eq!(whose(of("ChannelCluster", "chat", "now"), &json!({})), Owner::Ours);
        assert_eq!(whose(json!([]), &labels), Owner::Leftover);
        assert_eq!(whose(of("ChannelCluster", "chat", "before"), &labels), Owner::Leftover);
        assert_eq!(whose(of("ChannelCluster", "gone", "x"), &labels), Owner::Leftover);
        let another = |text: &str| Owner::Another(text.to_owned());
        assert_eq!(whose(of("ChannelCluster", "other", "x"), &labels), another("ChannelCluster other"));
        assert_eq!(whose(of("Deployment", "chat", "x"), &labels), another("Deployment chat"));
        assert_eq!(whose(json!([]), &json!({})), another("somebody else"));
        assert_eq!(whose(of("ChannelCluster", "chat", "before"), &json!({})), another("somebody else"));
    }
}
