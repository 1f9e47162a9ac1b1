//! The CRD that the chart ships is the one that the types say, and small enough for every way to apply it.

#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

use serde_json::Value;

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/channelcluster/files/crd.yaml");
const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/samples/chat.yaml");
/// `kubectl apply` without `--server-side` keeps the whole object in an annotation, and those end at 256 KiB.
const ANNOTATION_BYTES: usize = 256 * 1024;

fn schema() -> Value {
    let crd = serde_json::to_value(crds::crd().unwrap()).unwrap();
    crd.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap().clone()
}

#[test]
fn the_shipped_file_is_what_the_types_say() {
    let shipped = std::fs::read_to_string(SHIPPED).unwrap();
    assert_eq!(
        shipped,
        crds::crd_yaml().unwrap(),
        "run: cargo run -p crds --bin crdgen > charts/channelcluster/files/crd.yaml"
    );
    assert!(shipped.contains("helm.sh/resource-policy: keep"));
    assert!(serde_json::to_vec(&crds::crd().unwrap()).unwrap().len() < ANNOTATION_BYTES);
}

#[test]
fn the_sample_reads_as_a_cluster_and_defaults_fill_the_rest() {
    let text = std::fs::read_to_string(SAMPLE).unwrap();
    let cluster: crds::ChannelCluster = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(cluster.spec.nodes.max, 4);
    assert_eq!(cluster.spec.drain, crds::Drain::default());
    assert!(cluster.spec.auth.unwrap().anonymous);
}

/// Visits every schema below `node` with its path.
fn walk(path: &str, node: &Value, visit: &mut dyn FnMut(&str, &Value)) {
    visit(path, node);
    for (name, property) in node["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), property, visit);
    }
    for inner in ["items", "additionalProperties"] {
        if node[inner].is_object() {
            walk(&format!("{path}[]"), &node[inner], visit);
        }
    }
}

#[test]
fn every_rule_has_a_sentence_and_no_field_is_nullable() {
    let mut rules = 0;
    walk("", &schema(), &mut |path, node| {
        assert!(node.get("nullable").is_none(), "{path} is nullable");
        for rule in node["x-kubernetes-validations"].as_array().into_iter().flatten() {
            rules += 1;
            let message = rule["message"].as_str().unwrap_or_default();
            let remedy = message.contains(": ") || message.contains("must");
            assert!(remedy && !message.contains('\n'), "{path}: {rule}");
        }
    });
    assert!(rules >= 25, "only {rules} rules");
}

#[test]
fn every_field_of_ours_is_described() {
    walk("", &schema(), &mut |path, node| {
        let embedded = ["affinity", "resources", "tolerations"]
            .iter()
            .any(|field| path.starts_with(&format!(".spec.nodes.{field}")));
        let named = !path.is_empty() && !path.ends_with("[]") && !embedded;
        let standard = path == ".apiVersion" || path == ".kind" || path == ".metadata";
        assert!(!named || standard || node["description"].is_string(), "{path} has no description");
    });
}
