//! The CRD that the chart ships is the one that the types say, and small enough for every way to apply it.

#![expect(clippy::disallowed_methods, reason = "what is shipped are files")]
#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

use serde_json::Value;

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/channelcluster/files/crd.yaml");
const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/samples/chat.yaml");
const OPERATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/OPERATIONS.md");
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

/// A person who finds an operation in a status looks its words up in the page.
#[test]
fn every_type_and_step_of_an_operation_is_explained() {
    let page = std::fs::read_to_string(OPERATIONS).unwrap();
    let explained: Vec<_> = page.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let mut words = 0;
    walk("", &schema(), &mut |path, node| {
        for word in node["enum"].as_array().into_iter().flatten() {
            if path.starts_with(".status.operation.") {
                words += 1;
                let word = word.as_str().unwrap();
                assert!(explained.contains(&word), "docs/OPERATIONS.md does not explain {word} of {path}");
            }
        }
    });
    assert!(words > crds::Operation::TYPES.len(), "only {words}: where are the steps?");
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
        let fields = [
            "affinity",
            "podSecurityContext",
            "resources",
            "securityContext",
            "tolerations",
            "topologySpread",
        ];
        let sources = ["fieldRef.", "resourceFieldRef."];
        let embedded = [".spec.nodes.", ".spec.backplane."].iter().any(|part| {
            path.strip_prefix(part).is_some_and(|rest| {
                fields.iter().any(|field| rest.starts_with(field))
                    || sources.iter().any(|source| rest.contains(source))
            })
        });
        let named = !path.is_empty() && !path.ends_with("[]") && !embedded;
        let standard = path == ".apiVersion" || path == ".kind" || path == ".metadata";
        assert!(!named || standard || node["description"].is_string(), "{path} has no description");
    });
}

/// A tool that compares a manifest with the object takes a list as a whole: what the server adds to an item is a
/// difference for ever.
#[test]
fn no_list_and_no_map_has_items_with_defaults() {
    let mut items = 0;
    walk("", &schema(), &mut |path, node| {
        let inside = path.contains("[]");
        items += usize::from(inside);
        assert!(!inside || node.get("default").is_none(), "{path} has a default");
    });
    assert!(items > 50, "only {items} schemas in lists and maps: is the search broken?");
}

/// YAML 1.1, which kubectl reads, takes such words without quotes for something else than a text.
#[test]
fn no_word_of_an_enum_is_a_boolean_or_nothing_in_yaml() {
    let other = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "~"];
    let mut words = 0;
    walk("", &schema(), &mut |path, node| {
        for word in node["enum"].as_array().into_iter().flatten() {
            words += 1;
            let word = word.as_str().unwrap();
            // `Off` was the first word for `Manual` and is still taken in quotes.
            let paths = [".spec.autoscaling.mode", ".status.decisions[].inputs.mode"];
            let kept = paths.contains(&path) && word == "Off";
            assert!(kept || !other.contains(&word.to_lowercase().as_str()), "{path}: {word}");
        }
    });
    assert!(words > 20, "only {words}");
}

/// `kubectl delete all --all` deletes every kind of the category `all`, so fleets are not in that category.
#[test]
fn fleets_are_not_among_all() {
    let crd = crds::crd().unwrap();
    assert_eq!(crd.spec.names.categories, None);
}

/// When a regular expression of the schema refuses a text, the answer does not say what to write instead; that of a
/// rule does.
#[test]
fn nothing_is_refused_by_a_bare_pattern() {
    walk("", &schema(), &mut |path, node| assert!(node.get("pattern").is_none(), "{path} has a pattern"));
}

#[test]
fn the_words_of_the_rule_on_env_are_those_that_the_operator_sets() {
    let mut rules = 0;
    walk("", &schema(), &mut |path, node| {
        for rule in node["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let text = rule["rule"].as_str().unwrap();
            if path.ends_with(".env[]") && text.contains(" in [") {
                rules += 1;
                let named: Vec<_> = text.split('\'').skip(1).step_by(2).collect();
                assert_eq!(named, crds::RESERVED_ENV);
            }
        }
    });
    assert_eq!(rules, 2, "nodes and NATS");
}

/// Fields that a manifest must have. If the CRD required another one, it would refuse every manifest that was written
/// before.
#[test]
fn no_field_is_required_that_was_not() {
    let mut required = std::collections::BTreeSet::new();
    walk("", &schema(), &mut |path, node| {
        if path.starts_with(".spec") && !path.contains("ffinity") && !path.contains("opologySpread") {
            for name in node["required"].as_array().into_iter().flatten() {
                required.insert(format!("{path}.{}", name.as_str().unwrap()));
            }
        }
    });
    let own: Vec<_> = required
        .iter()
        .map(String::as_str)
        .filter(|path| {
            !path.contains("ecurityContext") && !path.contains("resources") && !path.contains("From")
        })
        .collect();
    let expected = [
        ".spec.auth.jwt[].algorithms",
        ".spec.auth.jwt[].jwks.caSecretRef.key",
        ".spec.auth.jwt[].jwks.caSecretRef.name",
        ".spec.auth.jwt[].jwks.url",
        ".spec.auth.jwt[].secretRef.key",
        ".spec.auth.jwt[].secretRef.name",
        ".spec.autoscaling.behavior.scaleDown.policies[].periodSeconds",
        ".spec.autoscaling.behavior.scaleDown.policies[].type",
        ".spec.autoscaling.behavior.scaleDown.policies[].value",
        ".spec.autoscaling.behavior.scaleUp.policies[].periodSeconds",
        ".spec.autoscaling.behavior.scaleUp.policies[].type",
        ".spec.autoscaling.behavior.scaleUp.policies[].value",
        ".spec.autoscaling.metrics.prometheus.auth.basicSecretRef.name",
        ".spec.autoscaling.metrics.prometheus.auth.bearerSecretRef.key",
        ".spec.autoscaling.metrics.prometheus.auth.bearerSecretRef.name",
        ".spec.autoscaling.metrics.prometheus.tls.caSecretRef.key",
        ".spec.autoscaling.metrics.prometheus.tls.caSecretRef.name",
        ".spec.autoscaling.metrics.prometheus.tls.certSecretRef.name",
        ".spec.autoscaling.metrics.prometheus.url",
        ".spec.autoscaling.schedule[].cron",
        ".spec.autoscaling.schedule[].duration",
        ".spec.autoscaling.schedule[].minNodes",
        ".spec.backplane.credentialsSecretRef.name",
        ".spec.backplane.env[].name",
        ".spec.backplane.imagePullSecrets[].name",
        ".spec.expose.api.secretName",
        ".spec.expose.tls.secretName",
        ".spec.hooks.secretName",
        ".spec.hooks.url",
        ".spec.nodes.env[].name",
        ".spec.nodes.imagePullSecrets[].name",
        ".spec.rooms",
        ".spec.rooms.maxMembers",
        ".spec.rooms.policies[].topics",
        ".spec.targetConnections",
    ];
    assert_eq!(own, expected);
}

/// The table of LIMITS.md about a fleet, where it says a range in numbers.
#[test]
fn every_range_of_the_page_is_that_of_the_schema() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/LIMITS.md");
    let text = std::fs::read_to_string(page).unwrap().replace(',', "");
    let mut ranges = std::collections::BTreeMap::new();
    walk("", &schema(), &mut |path, node| {
        let bound = |names: [&str; 2]| names.iter().find_map(|name| node[*name].as_f64());
        let least = bound(["minimum", "minItems"]).unwrap_or(0.0);
        if let Some(most) = bound(["maximum", "maxItems"]) {
            ranges.insert(path.trim_start_matches('.').to_owned(), format!("{least} to {most}"));
        }
    });
    let mut seen = 0;
    for row in text.lines().filter(|line| line.starts_with("| `spec.")) {
        let cells: Vec<_> = row.split(" | ").collect();
        let numbers = cells[3].split(" to ").all(|number| number.parse::<u64>().is_ok());
        for field in cells[0].split('`').skip(1).step_by(2).filter(|_| numbers) {
            assert_eq!(ranges.get(field).map(String::as_str), Some(cells[3]), "{field}");
            seen += 1;
        }
    }
    assert!(seen > 10, "only {seen} ranges: is the search broken?");
}
