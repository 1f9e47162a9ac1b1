//! Which ChannelCluster an object belongs to, and which manager has which of its fields.
//!
//! Server-side apply removes a field when its last manager leaves it out, so a field that a second manager holds by
//! accident stays for ever. Here the records of managers (`metadata.managedFields`) are put right, as kubectl's
//! `csaupgrade` does when it moves from one kind of apply to the other.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta};
use serde_json::{Map, Value, json};

use crate::names::{APP, CLUSTER_LABEL, FIELD_MANAGER};

/// Field manager of the node count.
pub const SCALING_MANAGER: &str = "channel-operator-scaling";
/// Field manager of the keys of tickets, so that the time of the last write of anything else in their Secret stays known.
pub const TICKETS_MANAGER: &str = "channel-operator-tickets";
/// The path of the node count. Scaling writes it at its own times, so its removal by others is not looked for here.
const COUNT: &str = "spec.replicas";
/// Name for the manager that removed a field, if no record is left that could be its own.
const SOMEBODY: &str = "somebody";
/// Managers whose fields no other manager may write; their records are left as they are.
const CONTROLLERS: [&str; 1] = ["kube-controller-manager"];

/// The owner of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This ChannelCluster owns it.
    Ours,
    /// It was made for a ChannelCluster of this name that is gone (deleted with its objects left, or restored from a
    /// backup under another UID), and nothing else owns it.
    Leftover,
    /// The other owner, in a few words.
    Another(String),
}

/// The owner of an object, seen from the ChannelCluster `name` with `uid` in the same namespace. `lives` says whether
/// there is a ChannelCluster of another name with that UID.
#[must_use]
pub fn owner(object: &ObjectMeta, name: &str, uid: &str, lives: impl Fn(&str, &str) -> bool) -> Owner {
    let owners = object.owner_references.as_deref().unwrap_or_default();
    if owners.iter().any(|owner| owner.uid == uid) {
        return Owner::Ours;
    }
    for owner in owners {
        let cluster = owner.kind == "ChannelCluster" && owner.api_version.starts_with(crds::GROUP);
        // Names are unique, so the ChannelCluster that had this name before is gone.
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

/// The records of field managers as they should be before an object is applied; none if they are so already. The node
/// count of a `counted` object belongs to [`SCALING_MANAGER`] alone, and everything else to [`FIELD_MANAGER`], also
/// fields that an unfinished earlier attempt left in another record. With `restored`, which is said of a leftover,
/// the manager that restored the object gives up its content.
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

/// A field of ours that another writer had set or removed, until it was written again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Taken {
    /// The other field manager; of a field that was removed, the one that most likely removed it.
    pub manager: String,
    /// The field, as `spec.template.spec.containers[name=node].image`.
    pub field: String,
    /// Whether the field was removed.
    pub removed: bool,
}

/// Whether a record is one of this operator's.
fn is_ours(record: &&ManagedFieldsEntry) -> bool {
    [FIELD_MANAGER, SCALING_MANAGER].contains(&record.manager.as_deref().unwrap_or_default())
}

/// The fields that this operator manages.
fn ours(records: &[ManagedFieldsEntry]) -> BTreeSet<String> {
    records.iter().filter(is_ours).flat_map(paths).collect()
}

/// Whether this operator manages the field with this path, as `metadata.labels.a`.
#[must_use]
pub fn has(records: &[ManagedFieldsEntry], path: &str) -> bool {
    ours(records).contains(path)
}

/// A hash that differs when the set of our fields of an object does; the node count does not matter.
#[must_use]
pub fn mark(records: &[ManagedFieldsEntry]) -> u64 {
    let mut fields = ours(records);
    fields.remove(COUNT);
    let mut hasher = DefaultHasher::new();
    fields.hash(&mut hasher);
    hasher.finish()
}

/// A hash of everything about a live object that matters to the operator: its UID, whether it is being deleted, its
/// generation (its version, where the kind has none), and which of its fields are the operator's. A writer that sets
/// one of those fields to another value, or removes it, takes it from the operator's records, so every field of ours
/// is as it was applied for as long as this hash is the same.
#[must_use]
pub fn standing(object: &ObjectMeta) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&object.uid, object.deletion_timestamp.is_some(), object.generation).hash(&mut hasher);
    if object.generation.is_none() {
        object.resource_version.hash(&mut hasher);
    }
    let records = object.managed_fields.iter().flatten().filter(is_ours);
    let mut records: Vec<_> = records
        .map(|record| {
            let fields = record.fields_v1.as_ref().map(|fields| fields.0.to_string());
            (&record.manager, &record.operation, &record.subresource, fields)
        })
        .collect();
    records.sort();
    records.hash(&mut hasher);
    hasher.finish()
}

/// Whether an object is still as it was `before`: the same object, of the same generation, in which we have the same
/// fields. The node count does not matter, nor which of our managers has which field.
#[must_use]
pub fn is_as_before(before: &ObjectMeta, after: &ObjectMeta) -> bool {
    let fields = |meta: &ObjectMeta| mark(meta.managed_fields.as_deref().unwrap_or_default());
    (&before.uid, before.generation) == (&after.uid, after.generation) && fields(before) == fields(after)
}

/// The fields that others had taken of an object of ours, from its records before and after it was applied. A writer
/// that set a field to another value had it alone before, and has lost it now; when two writers set the same value,
/// both have the field.
///
/// A field that was removed is in no record. Removals are known only where the operator `had_it_all` after its last
/// write: every field that it has now.
#[must_use]
pub fn taken(before: &[ManagedFieldsEntry], after: &[ManagedFieldsEntry], had_it_all: bool) -> Vec<Taken> {
    let (had, has) = (ours(before), ours(after));
    if had.is_empty() {
        return Vec::new(); // the object was made or taken over just now
    }
    let others = |records: &[ManagedFieldsEntry]| -> BTreeSet<(String, String)> {
        let spec = records.iter().filter(|r| !is_ours(r) && r.subresource.as_deref() != Some("status"));
        let with = |record| {
            let manager = ManagedFieldsEntry::clone(record).manager.unwrap_or_default();
            paths(record).into_iter().map(move |path| (path, manager.clone()))
        };
        spec.flat_map(with).collect()
    };
    let (theirs, still) = (others(before), others(after));
    let new = |path: &String| has.contains(path) && !had.contains(path);
    let set = theirs.iter().filter(|one| new(&one.0) && !still.contains(one)).cloned();
    let set = set.map(|(field, manager)| Taken { manager, field, removed: false });
    let owned: BTreeSet<_> = theirs.iter().map(|(path, _)| path).collect();
    let nobodys = |path: &&String| had_it_all && new(path) && !owned.contains(path) && *path != COUNT;
    let gone = has.iter().filter(nobodys).cloned();
    let gone = gone.map(|field| Taken { manager: remover(before), field, removed: true });
    set.chain(gone).collect()
}

/// The manager that has most likely removed a field. A removal leaves no record, but its manager has mostly set other
/// fields before.
fn remover(records: &[ManagedFieldsEntry]) -> String {
    let may = |record: &&ManagedFieldsEntry| {
        let manager = record.manager.as_deref().unwrap_or_default();
        !is_ours(record)
            && record.operation.as_deref() == Some("Update")
            && record.subresource.as_deref().unwrap_or_default().is_empty()
            && !CONTROLLERS.contains(&manager)
    };
    let newest = records.iter().filter(may).max_by_key(|record| record.time.clone());
    newest.and_then(|record| record.manager.clone()).unwrap_or_else(|| SOMEBODY.to_owned())
}

/// The fields of a record.
fn paths(record: &ManagedFieldsEntry) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(fields) = &record.fields_v1 {
        walk(&fields.0, "", &mut all);
    }
    all
}

fn walk(fields: &Value, path: &str, all: &mut Vec<String>) {
    let Some(map) = fields.as_object().filter(|map| !map.is_empty()) else {
        all.push(path.to_owned());
        return;
    };
    for (key, inner) in map {
        match key.split_once(':') {
            None => all.push(path.to_owned()), // `.`: the item itself
            Some(("f", name)) if path.is_empty() => walk(inner, name, all),
            Some(("f", name)) => walk(inner, &format!("{path}.{name}"), all),
            Some((_, item)) => walk(inner, &format!("{path}[{}]", plain(item)), all),
        }
    }
}

/// `{"name":"node"}` as `name=node`.
fn plain(item: &str) -> String {
    item.chars().filter(|c| !"{}\"".contains(*c)).map(|c| if c == ':' { '=' } else { c }).collect()
}

/// Whether two lists of records give a field to different managers; order and times do not count.
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

/// Takes all fields of an object's content, except its node count, out of a record.
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
mod tests;
