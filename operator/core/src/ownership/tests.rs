#![allow(clippy::needless_pass_by_value, reason = "json!() makes values")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use serde_json::{Value, json};

use super::{Owner, Taken, is_as_before, mark, owner, repair, taken};

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
        let mut status = record("kube-controller-manager", "Update", json!({"f:status": {"f:replicas": {}}}));
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
    serde_json::from_value(json!({"name": "chat-node", "ownerReferences": owners, "labels": labels})).unwrap()
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
    let whose = |owners: Value, labels: &Value| owner(&object(owners, labels.clone()), "chat", "now", lives);
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

#[test]
fn who_sets_a_field_of_ours_to_another_value_is_known_when_it_is_taken_back() {
    let taken = |before: &[ManagedFieldsEntry], after: &[ManagedFieldsEntry]| taken(before, after, false);
    let template = |fields: Value| json!({"f:spec": {"f:template": {"f:spec": fields}}});
    let ours = record(
        MAIN,
        "Apply",
        template(json!({"f:grace": {}, "f:containers": {"k:{\"name\":\"node\"}": {".": {}, "f:image": {}}}})),
    );
    let less = record(
        MAIN,
        "Apply",
        template(json!({"f:grace": {}, "f:containers": {"k:{\"name\":\"node\"}": {".": {}}}})),
    );
    let image = template(json!({"f:containers": {"k:{\"name\":\"node\"}": {"f:image": {}}}}));
    let argo = record("argocd", "Update", image.clone());
    let field = "spec.template.spec.containers[name=node].image".to_owned();
    let found = [Taken { manager: "argocd".to_owned(), field, removed: false }];
    assert_eq!(taken(&[less.clone(), argo.clone()], std::slice::from_ref(&ours)), found);
    assert_eq!(taken(&[less.clone(), argo.clone()], &[ours.clone(), argo.clone()]), [], "both say the same");
    assert_eq!(taken(std::slice::from_ref(&argo), std::slice::from_ref(&ours)), [], "it was taken over");
    assert_eq!(
        taken(&[ours.clone(), argo.clone()], std::slice::from_ref(&ours)),
        [],
        "it was ours all the time"
    );
    let mut status = argo;
    status.subresource = Some("status".to_owned());
    assert_eq!(taken(&[less, status], &[ours]), [], "a status is nobody's but its controller's");
    let mut scaled = record("kubectl", "Update", json!({"f:spec": {"f:replicas": {}}}));
    scaled.subresource = Some("scale".to_owned());
    let count = record(SCALING, "Apply", json!({"f:spec": {"f:replicas": {}}}));
    let main = record(MAIN, "Apply", template(json!({"f:grace": {}})));
    let found = [Taken { manager: "kubectl".to_owned(), field: "spec.replicas".to_owned(), removed: false }];
    assert_eq!(taken(&[main.clone(), scaled], &[main, count]), found);
}

#[test]
fn who_removes_a_field_of_ours_is_guessed_where_it_was_ours_before() {
    let at = |time: &str, mut record: ManagedFieldsEntry| {
        record.time = Some(serde_json::from_value(json!(time)).unwrap());
        record
    };
    let ours = record(MAIN, "Apply", json!({"f:spec": {"f:selector": {}, "f:ports": {}}}));
    let less = record(MAIN, "Apply", json!({"f:spec": {"f:selector": {}}}));
    let count = record(SCALING, "Apply", json!({"f:spec": {"f:replicas": {}}}));
    let note = |manager: &str| record(manager, "Update", json!({"f:metadata": {"f:labels": {}}}));
    let kubectl = at("2026-01-01T00:00:00Z", note("kubectl-edit"));
    let argo = at("2026-01-02T00:00:00Z", note("argocd"));
    let mut status = at("2026-01-04T00:00:00Z", note("a-controller"));
    status.subresource = Some("status".to_owned());
    let controller = at("2026-01-05T00:00:00Z", note("kube-controller-manager"));
    let applier =
        at("2026-01-06T00:00:00Z", record("flux", "Apply", json!({"f:metadata": {"f:labels": {}}})));
    let others = [argo.clone(), kubectl, status, controller, applier];
    let with = |first: &ManagedFieldsEntry| [std::slice::from_ref(first), &others].concat();
    let found = |manager: &str| {
        let (manager, field) = (manager.to_owned(), "spec.ports".to_owned());
        [Taken { manager, field, removed: true }]
    };
    assert_eq!(taken(&with(&less), &with(&ours), true), found("argocd"), "the newest that can have done it");
    let after = std::slice::from_ref(&ours);
    assert_eq!(taken(std::slice::from_ref(&less), after, true), found("somebody"));
    assert_eq!(taken(&with(&less), &with(&ours), false), [], "the spec may have asked for it just now");
    assert_eq!(taken(after, after, true), []);
    let set = record("argocd", "Update", json!({"f:spec": {"f:ports": {}}}));
    let [mut one] = found("argocd");
    one.removed = false;
    assert_eq!(taken(&[less.clone(), set], after, true), [one], "it is another's, so it was set");
    let counted = [ours.clone(), count];
    assert_eq!(taken(after, &counted, true), [], "the count is written at its own time");
    assert_eq!(mark(&counted), mark(after), "and does not tell a spec from another");
    assert_ne!(mark(&with(&less)), mark(after));
    assert_eq!(mark(&with(&ours)), mark(after));
}

#[test]
fn an_object_is_as_before_only_if_nobody_else_came_between() {
    let meta = |generation: i64, records: Vec<ManagedFieldsEntry>| ObjectMeta {
        uid: Some("u".to_owned()),
        generation: Some(generation),
        managed_fields: Some(records),
        ..ObjectMeta::default()
    };
    let both = json!({"f:spec": {"f:replicas": {}, "f:a": {}}});
    let (count, rest) = (json!({"f:spec": {"f:replicas": {}}}), json!({"f:spec": {"f:a": {}}}));
    let before = meta(1, vec![record(MAIN, "Apply", both)]);
    let right = vec![record(MAIN, "Apply", rest), record(SCALING, "Apply", count.clone())];
    assert!(is_as_before(&before, &meta(1, right.clone())), "only its records were put right");
    assert!(!is_as_before(&before, &meta(2, right.clone())), "its spec is another one");
    assert!(!is_as_before(&before, &meta(1, vec![record(SCALING, "Apply", count)])), "a field was taken");
    let other = ObjectMeta { uid: Some("v".to_owned()), ..meta(1, right) };
    assert!(!is_as_before(&before, &other));
}
