//! Changes that the derived schema needs before an API server takes it.

use serde_json::Value;

/// Longest value of a label or a sysctl: the longest safe sysctl value has three numbers, labels end at 63.
const MAX_MAP_VALUE: u64 = 256;
/// Parts of `spec` that describe pods.
const PODS: [&str; 2] = ["nodes", "backplane"];
/// Fields of these parts whose types are Kubernetes' own. Their documentation, which is Kubernetes' too, is 60 KB
/// long.
const EMBEDDED: [&str; 6] = [
    "affinity",
    "podSecurityContext",
    "resources",
    "securityContext",
    "tolerations",
    "topologySpreadConstraints",
];
/// Fields that those types have and a fleet does not: `tuning.sysctls` stands for the first, and nodes run on Linux.
const LEFT_OUT: [&str; 2] = ["sysctls", "windowsOptions"];
/// Maps of `spec` whose values rules read or pods repeat.
const BOUNDED_MAPS: [[&str; 2]; 5] = [
    ["nodes", "nodeSelector"],
    ["nodes", "podLabels"],
    ["backplane", "nodeSelector"],
    ["backplane", "podLabels"],
    ["tuning", "sysctls"],
];

/// Most kinds of resources that a container asks for: cpu, memory, storage, two sizes of huge pages, two devices.
/// With a higher bound the API server would refuse the rule about resources, because it could cost too much.
const MAX_RESOURCES: u64 = 7;
/// Longest texts of a toleration: a label key with its domain, and a label value.
const TOLERATION_TEXTS: [(&str, u64); 4] = [("key", 317), ("operator", 32), ("value", 63), ("effect", 32)];

/// Makes the schema of `version` plain and bounded.
pub(crate) fn finish(version: &mut Value) {
    let Some(root) = version.pointer_mut("/schema/openAPIV3Schema") else { return };
    drop_nullable(root);
    drop_defaults(root, false);
    for (part, field) in PODS.into_iter().flat_map(|part| EMBEDDED.map(|field| (part, field))) {
        let path = format!("/properties/spec/properties/{part}/properties/{field}");
        if let Some(Value::Object(schema)) = root.pointer_mut(&path) {
            schema.iter_mut().filter(|(key, _)| *key != "description").for_each(|(_, part)| strip(part));
            if let Some(Value::Object(fields)) = schema.get_mut("properties") {
                fields.retain(|name, _| !LEFT_OUT.contains(&name.as_str()));
            }
        }
    }
    for part in PODS {
        let path = format!(
            "/properties/spec/properties/{part}/properties/env/items/properties/valueFrom/properties"
        );
        if let Some(Value::Object(sources)) = root.pointer_mut(&path) {
            sources.values_mut().for_each(|source| {
                if let Some(fields) = source.get_mut("properties") {
                    strip(fields);
                }
            });
        }
    }
    for part in PODS {
        bound(root, part);
    }
    for [part, field] in BOUNDED_MAPS {
        let path = format!("/properties/spec/properties/{part}/properties/{field}/additionalProperties");
        if let Some(Value::Object(schema)) = root.pointer_mut(&path) {
            schema.insert("maxLength".to_owned(), MAX_MAP_VALUE.into());
        }
    }
}

/// Bounds what the rules on the pods of `part` read.
fn bound(root: &mut Value, part: &str) {
    let part = format!("/properties/spec/properties/{part}/properties");
    for field in ["requests", "limits"] {
        let path = format!("{part}/resources/properties/{field}");
        if let Some(Value::Object(schema)) = root.pointer_mut(&path) {
            schema.insert("maxProperties".to_owned(), MAX_RESOURCES.into());
        }
    }
    for (field, most) in TOLERATION_TEXTS {
        let path = format!("{part}/tolerations/items/properties/{field}");
        if let Some(Value::Object(schema)) = root.pointer_mut(&path) {
            schema.insert("maxLength".to_owned(), most.into());
        }
    }
}

/// Without `nullable` the server takes `field: null` (a Helm value left empty) as the field left out; with it, rules
/// would have to know a third state.
fn drop_nullable(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.retain(|key, value| !(key == "nullable" && value.is_boolean()));
            map.values_mut().for_each(drop_nullable);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nullable),
        _ => {}
    }
}

/// Removes defaults from the items of lists and maps. Tools that compare a manifest with the object know that a
/// server adds fields to objects, but they compare a list as a whole: an item that the server completed would differ
/// for ever.
fn drop_defaults(schema: &mut Value, inside: bool) {
    let Value::Object(map) = schema else { return };
    if inside {
        map.remove("default");
    }
    for (key, part) in map.iter_mut() {
        match (key.as_str(), part) {
            ("properties", Value::Object(fields)) => {
                fields.values_mut().for_each(|field| drop_defaults(field, inside));
            }
            ("items" | "additionalProperties", part) => drop_defaults(part, true),
            _ => {}
        }
    }
}

/// Removes descriptions; a property that has this name itself is an object and stays.
fn strip(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.retain(|key, value| !(key == "description" && value.is_string()));
            map.values_mut().for_each(strip);
        }
        Value::Array(list) => list.iter_mut().for_each(strip),
        _ => {}
    }
}
