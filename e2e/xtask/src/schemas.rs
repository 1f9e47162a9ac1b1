//! Makes JSON schemas for kubeconform from the documents of a running API server at `/openapi/v3`: nothing is
//! downloaded, and the CRDs that are installed there are included.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

/// API groups whose kinds the chart and the samples use.
const GROUPS: [&str; 8] = [
    "api/v1",
    "apis/apps/v1",
    "apis/batch/v1",
    "apis/coordination.k8s.io/v1",
    "apis/networking.k8s.io/v1",
    "apis/policy/v1",
    "apis/rbac.authorization.k8s.io/v1",
    "apis/channelcluster.io/v1alpha1",
];

/// Writes one file for each kind, named as kubeconform looks for it.
pub(crate) fn write(get: impl Fn(&str) -> Result<String>, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    for group in GROUPS {
        let text = get(&format!("/openapi/v3/{group}"))?;
        let document: Value = serde_json::from_str(&text).context("the API server's OpenAPI is no JSON")?;
        for (name, schema) in of_group(document) {
            let path = directory.join(name);
            fs::write(&path, schema.to_string())
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}

/// File name and schema of each kind of one group's document.
fn of_group(mut document: Value) -> Vec<(String, Value)> {
    let mut definitions = document["components"]["schemas"].take();
    strict(&mut definitions);
    let Some(all) = definitions.as_object() else { return Vec::new() };
    let kinds = all.iter().flat_map(|(name, schema)| {
        let kinds = schema["x-kubernetes-group-version-kind"].as_array().cloned().unwrap_or_default();
        kinds.into_iter().map(move |kind| (name.clone(), kind))
    });
    kinds
        .filter_map(|(name, kind)| {
            let (group, version, kind) =
                (kind["group"].as_str()?, kind["version"].as_str()?, kind["kind"].as_str()?);
            let group = group.split('.').next().filter(|label| !label.is_empty());
            let parts: Vec<_> = [Some(kind), group, Some(version)].into_iter().flatten().collect();
            let file = format!("{}.json", parts.join("-").to_lowercase());
            Some((file, json!({"$ref": format!("#/definitions/{name}"), "definitions": definitions})))
        })
        .collect()
}

/// Turns OpenAPI 3.0 into JSON Schema, and refuses fields that are not declared.
fn strict(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(strict),
        Value::Object(object) => {
            strict_object(object);
            object.values_mut().for_each(strict);
        }
        _ => {}
    }
}

fn strict_object(object: &mut Map<String, Value>) {
    if let Some(Value::String(reference)) = object.get_mut("$ref") {
        *reference = reference.replace("#/components/schemas/", "#/definitions/");
    }
    // A schema's properties are an object; a property may itself be called "properties".
    if object.get("properties").is_some_and(Value::is_object) && object.get("type") == Some(&json!("object"))
    {
        object.entry("additionalProperties").or_insert(json!(false));
    }
    let is_schema = object.get("type").is_some_and(Value::is_string);
    if is_schema {
        object.remove("default");
    }
    if object.get("format") == Some(&json!("int-or-string"))
        || object.get("x-kubernetes-int-or-string") == Some(&json!(true))
    {
        object.remove("type");
        object.remove("format");
        object.insert("oneOf".into(), json!([{"type": "string"}, {"type": "integer"}]));
        object.remove("anyOf");
    }
    if object.get("nullable") == Some(&json!(true)) {
        object.remove("nullable");
        if let Some(kind) = object.get("type").cloned() {
            object.insert("type".into(), json!([kind, "null"]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Value {
        json!({"components": {"schemas": {
            "io.Deployment": {
                "type": "object",
                "x-kubernetes-group-version-kind": [{"group": "apps", "version": "v1", "kind": "Deployment"}],
                "properties": {
                    "port": {"format": "int-or-string", "type": "string", "default": 0},
                    "spec": {"allOf": [{"$ref": "#/components/schemas/io.Spec"}]},
                    "note": {"type": "string", "nullable": true},
                },
            },
            "io.Spec": {"type": "object", "properties": {"type": {"type": "string"}}},
        }}})
    }

    #[test]
    fn a_kind_becomes_a_file_that_stands_alone() {
        let files = of_group(document());
        assert_eq!(files.len(), 1);
        let (name, schema) = &files[0];
        assert_eq!(name, "deployment-apps-v1.json");
        let kind = &schema["definitions"]["io.Deployment"];
        assert_eq!(schema["$ref"], "#/definitions/io.Deployment");
        assert_eq!(kind["additionalProperties"], false);
        assert_eq!(kind["properties"]["spec"]["allOf"][0]["$ref"], "#/definitions/io.Spec");
        assert_eq!(kind["properties"]["note"]["type"], json!(["string", "null"]));
        assert_eq!(kind["properties"]["port"], json!({"oneOf": [{"type": "string"}, {"type": "integer"}]}));
        assert_eq!(schema["definitions"]["io.Spec"]["properties"]["type"]["type"], "string");
    }
}
