//! What the derived schema needs before it is fit for a server.

use serde_json::Value;

/// Longest value of a label or a sysctl: the longest safe sysctl value has three numbers, labels end at 63.
const MAX_MAP_VALUE: u64 = 256;
/// Fields of `spec.nodes` whose types are Kubernetes' own: their documentation is Kubernetes' too, and 60 KB long.
const EMBEDDED: [&str; 3] = ["affinity", "resources", "tolerations"];
/// Maps of `spec` whose values rules read or pods repeat.
const BOUNDED_MAPS: [[&str; 2]; 3] =
    [["nodes", "nodeSelector"], ["nodes", "podLabels"], ["tuning", "sysctls"]];

/// Makes the schema of `version` plain and bounded.
pub(crate) fn finish(version: &mut Value) {
    let Some(root) = version.pointer_mut("/schema/openAPIV3Schema") else { return };
    drop_nullable(root);
    for field in EMBEDDED {
        let path = format!("/properties/spec/properties/nodes/properties/{field}");
        if let Some(Value::Object(schema)) = root.pointer_mut(&path) {
            schema.iter_mut().filter(|(key, _)| *key != "description").for_each(|(_, part)| strip(part));
        }
    }
    for [part, field] in BOUNDED_MAPS {
        let path = format!("/properties/spec/properties/{part}/properties/{field}/additionalProperties");
        if let Some(Value::Object(schema)) = root.pointer_mut(&path) {
            schema.insert("maxLength".to_owned(), MAX_MAP_VALUE.into());
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
