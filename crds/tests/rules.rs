//! The CEL rules, evaluated here without a server on the same manifests that the end-to-end test applies.

#![expect(clippy::disallowed_methods, reason = "manifests are files")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code outside of test functions")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use crds::ChannelCluster;
use kube::core::cel::{CompiledSchema, compile_schema, validate_compiled};
use serde_json::Value;

const BAD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../e2e/manifests/bad");
const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/samples");
/// What the schema refuses before any rule is asked, or what cannot be read as the types say.
const SERVER_ONLY: [&str; 13] = [
    "capacity-neither-number-nor-derived",
    "capacity-neither-number-nor-learned",
    "compression-level",
    "duration-in-days",
    "duration-min",
    "duration-number-in-quotes",
    "duration-without-unit",
    "flush-window-without-unit",
    "jwt-algorithm-none",
    "rollout-surge-none",
    "rollout-surge-too-many",
    "rooms-missing",
    "unknown-field",
];

fn manifests(directory: &str) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "nothing in {directory}");
    paths
}

/// What the rules say of a manifest after its defaults are filled in.
fn verdict(path: &Path) -> Vec<String> {
    verdict_of(&fs::read_to_string(path).unwrap(), &path.display().to_string())
}

fn verdict_of(text: &str, called: &str) -> Vec<String> {
    // A sample may hold what the cluster needs beside it; the cluster comes last.
    let text = text.rsplit("\n---\n").next().unwrap();
    let cluster: ChannelCluster =
        serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{called}: {error}"));
    let object = serde_json::to_value(&cluster).unwrap();
    match validate_compiled(&RULES, &object, None) {
        Ok(()) => Vec::new(),
        Err(errors) => vec![errors.to_string()],
    }
}

/// The rules of the CRD.
static RULES: LazyLock<CompiledSchema> = LazyLock::new(|| rules_below(""));

/// The rules below a part of the schema. To compile all of them takes a second without optimizations.
fn rules_below(part: &str) -> CompiledSchema {
    let crd = serde_json::to_value(crds::crd().unwrap()).unwrap();
    let part = format!("/spec/versions/0/schema/openAPIV3Schema{part}");
    let mut schema = crd.pointer(&part).unwrap().clone();
    untyped(&mut schema);
    compile_schema(&schema)
}

/// This evaluator has no `type()`. What was read as a [`ChannelCluster`] has texts wherever a rule asks for one.
fn untyped(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::String(rule)) = map.get_mut("rule") {
                while let Some(start) = rule.find("type(") {
                    let end = start + rule[start..].find(" == string").unwrap() + " == string".len();
                    rule.replace_range(start..end, "true");
                }
            }
            map.values_mut().for_each(untyped);
        }
        Value::Array(list) => list.iter_mut().for_each(untyped),
        _ => {}
    }
}

#[test]
fn each_bad_manifest_is_refused_with_its_sentence() {
    let mut asked = 0;
    for path in manifests(BAD) {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if SERVER_ONLY.contains(&stem) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let phrase = text.lines().next().unwrap().strip_prefix("# expect: ").unwrap();
        let said = verdict(&path).join("\n");
        assert!(said.contains(phrase), "{stem}: wanted {phrase:?} in {said:?}");
        asked += 1;
    }
    assert!(asked >= 20, "only {asked} manifests reached a rule");
}

/// The sentences of all rules below a node of the schema.
fn sentences(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(map) => {
            let rules = map.get("x-kubernetes-validations").and_then(Value::as_array);
            found
                .extend(rules.into_iter().flatten().map(|rule| rule["message"].as_str().unwrap().to_owned()));
            map.values().for_each(|value| sentences(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| sentences(value, found)),
        _ => {}
    }
}

/// The rule that compares a manifest with the one before. A manifest alone cannot break it.
const OF_A_CHANGE: &str = "expose.service.loadBalancerClass must stay as it is";

#[test]
fn each_rule_has_a_manifest_that_it_refuses() {
    let crd = serde_json::to_value(crds::crd().unwrap()).unwrap();
    let mut rules = Vec::new();
    sentences(&crd, &mut rules);
    assert!(rules.len() > 100, "only {} rules: is the search broken?", rules.len());
    let first_line = |path| fs::read_to_string(path).unwrap().lines().next().unwrap().to_owned();
    let phrases: Vec<_> = manifests(BAD).into_iter().map(first_line).collect();
    for rule in rules.iter().filter(|rule| !rule.starts_with(OF_A_CHANGE)) {
        let is_tried = phrases.iter().any(|line| rule.contains(line.strip_prefix("# expect: ").unwrap()));
        assert!(is_tried, "write a manifest that breaks this into e2e/manifests/bad: {rule}");
    }
}

#[test]
fn the_samples_break_no_rule() {
    for path in manifests(SAMPLES) {
        assert_eq!(verdict(&path), Vec::<String>::new(), "{}", path.display());
    }
}

/// How many nodes connections need that are derived is not known when a manifest is applied.
#[test]
fn a_target_is_compared_with_numbers_only() {
    let path = format!("{BAD}/target-out-of-reach.yaml");
    let far = fs::read_to_string(&path).unwrap();
    for (connections, fits) in [("2000", false), ("'2000'", false), ("1000000", true), ("Derived", true)] {
        let text = far.replace("connections: 2000", &format!("connections: {connections}"));
        let said = verdict_of(&text, connections);
        assert_eq!(said.is_empty(), fits, "{connections}: {said:?}");
    }
}

/// Each key of the node that is a limit can be set in a manifest, with the unit in its value instead of its name, or the page
/// says why not.
#[test]
fn every_limit_of_the_node_is_one_of_the_manifest_or_is_listed() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/CONFIGURATION.md");
    let text = fs::read_to_string(page).unwrap();
    let crd = serde_json::to_value(crds::crd().unwrap()).unwrap();
    let limits = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/limits/properties";
    let in_manifest = crd.pointer(limits).unwrap();
    let mut listed = 0;
    for row in keys::rows() {
        let Some(name) = row.name.strip_prefix("limits.") else { continue };
        let has = in_manifest.get(name.strip_suffix("Millis").unwrap_or(name)).is_some();
        let is_listed = text.contains(&format!("\n| `{}` | ", row.name));
        assert!(has != is_listed, "{}: in the manifest: {has}, listed as absent: {is_listed}", row.name);
        listed += usize::from(is_listed);
    }
    assert!(listed > 0, "none is listed: is the search broken?");
}

/// Pieces of origins and hosts, good and bad.
const SCHEMES: [&str; 10] =
    ["https://", "HTTP://", "http:/", "file://", "tauri://", "wss://", "a+b.c-d://", "1a://", "", "://"];
const HOSTS: [&str; 34] = [
    "",
    "a",
    "*",
    "*.a",
    "*.example.org",
    "a.*.b",
    "*a",
    "example.org.",
    ".",
    "a..b",
    "-a_b-",
    "a b",
    "b\u{fc}cher.example",
    "xn--bcher-kva.example",
    "10.0.0.1",
    "256.0.0.1",
    "10.0.0",
    "01.0.0.1",
    "10.0.0.1.",
    "127.1",
    "1",
    "a.1",
    "a.0x1f",
    "0x",
    "1.a",
    "[::1]",
    "[::]",
    "[2001:DB8::1]",
    "[1:2:3:4:5:6:7:8]",
    "[1:2:3:4:5:6:7::]",
    "[1::2::3]",
    "[::1.2.3.4]",
    "[::1",
    "u@h",
];
const ENDS: [&str; 11] = ["", ":80", ":443", ":65535", ":65536", ":0", ":080", ":", "/", "?x", " "];

/// Whether the rules take `auth` with this entry in a list.
fn takes(rules: &CompiledSchema, list: &str, entry: &str) -> bool {
    let object = serde_json::json!({"anonymous": true, "allowedOrigins": [], list: [entry]});
    validate_compiled(rules, &object, None).is_ok()
}

/// The lists that a browser is judged by have one grammar, which stands in the CRD as rules and in the node as code.
#[test]
fn origins_and_hosts_are_judged_as_the_node_does() {
    let rules = rules_below("/properties/spec/properties/auth");
    let (mut good, mut bad) = (0, 0);
    for entry in ["*", "null", "NULL", "**", "http://[1:2:3:4:5:6:7:8:9]", "http://[12345::]"] {
        assert_eq!(
            takes(&rules, "allowedOrigins", entry),
            node_core::ws::entry::check_entry(entry).is_ok(),
            "{entry:?}"
        );
    }
    let served = |host: &str| {
        let mut config = node_core::config::NodeConfig::dev();
        config.auth.served_hosts = vec![host.to_owned()];
        config.validate().is_empty()
    };
    for host in HOSTS.iter().filter(|host| !host.is_empty()) {
        assert_eq!(takes(&rules, "servedHosts", host), served(host), "{host:?}");
    }
    assert!(!takes(&rules, "servedHosts", "a:80") && !served("a:80"));
    let ends = ENDS
        .iter()
        .flat_map(|end| ["https://a", "tauri://a", "file://"].map(|front| format!("{front}{end}")));
    let hosts =
        HOSTS.iter().flat_map(|host| ["https://", "tauri://"].map(|front| format!("{front}{host}:8080")));
    let schemes =
        SCHEMES.iter().flat_map(|front| ["", "a", "*.a", "[::1]"].map(|host| format!("{front}{host}")));
    for entry in ends.chain(hosts).chain(schemes).filter(|entry| !entry.is_empty()) {
        let is_good = node_core::ws::entry::check_entry(&entry).is_ok();
        (good, bad) = (good + u32::from(is_good), bad + u32::from(!is_good));
        assert_eq!(takes(&rules, "allowedOrigins", &entry), is_good, "{entry:?}");
    }
    assert!(good > 30 && bad > 60, "{good} good, {bad} bad");
}

/// Pieces of patterns of topics in which claims stand.
const TOPIC_PIECES: [&str; 11] =
    ["", "a:", "{sub}", "{a-b_9}", "{}", "{a b}", "{a.b}", "{", "}", "*", "\u{fc}"];

/// The grammar of such patterns stands in the CRD as a rule and in the node as code.
#[test]
fn topics_of_tokens_are_judged_as_the_node_does() {
    let rules = rules_below("/properties/spec/properties/auth/properties/jwt/items");
    let (mut good, mut bad) = (0, 0);
    let pairs = TOPIC_PIECES.iter().flat_map(|one| TOPIC_PIECES.map(|two| format!("{one}{two}")));
    let all = pairs.flat_map(|pair| TOPIC_PIECES.map(|three| format!("{pair}{three}")));
    for topic in
        all.chain(["phoenix", "$a", "phoenix:1", "$*"].map(str::to_owned)).filter(|topic| !topic.is_empty())
    {
        // Both lists have the same rules.
        let list = ["topics", "publish"][topic.len() % 2];
        let object = serde_json::json!({
            "algorithms": ["RS256"], "secretRef": {"name": "s", "key": "k"}, list: [topic],
        });
        let is_good = node_core::auth::Template::parse(&topic).is_ok();
        (good, bad) = (good + u32::from(is_good), bad + u32::from(!is_good));
        assert_eq!(validate_compiled(&rules, &object, None).is_ok(), is_good, "{topic:?}");
    }
    assert!(good > 50 && bad > 500, "{good} good, {bad} bad");
}

/// URLs of keys, good and bad.
fn urls() -> Vec<String> {
    let hosts = [
        "id.example.org",
        "ID",
        "10.0.0.1",
        "[::1]",
        "[fd00::1:2]",
        "[::ffff:1.2.3.4]",
        "[::g]",
        "localhost",
        "127.0.0.1",
        "127.0.0.2",
        "a.b.svc",
        "b.svc",
        "x.a.b.svc",
        "a.b.svc.cluster.local",
        "a.b.svc.example",
        "a..svc",
        "-a.b.svc",
        "a_b",
        "a.",
        "",
        "u@h",
        "\u{fc}",
    ];
    let ports = ["", ":1", ":443", ":65535", ":65536", ":0", ":01", ":", ":x"];
    let paths = ["", "/", "/k?a=%20&b", "?k", "/k#f", "/k k", "/k'", "\\k", "/k\n"];
    let mut all = Vec::new();
    for scheme in ["https://", "http://", "HTTPS://", "ftp://", ""] {
        for host in hosts {
            all.extend(ports.iter().flat_map(|port| paths.map(|path| format!("{scheme}{host}{port}{path}"))));
        }
    }
    all
}

/// The grammar of such URLs stands in the CRD as a rule and in the node as code.
#[test]
fn urls_of_keys_are_judged_as_the_node_does() {
    let rules = rules_below("/properties/spec/properties/auth/properties/jwt/items/properties/jwks");
    let (mut good, mut bad) = (0, 0);
    for url in urls().into_iter().filter(|url| !url.is_empty()) {
        let is_good = node_core::auth::Endpoint::parse(&url).is_ok();
        (good, bad) = (good + u32::from(is_good), bad + u32::from(!is_good));
        let object = serde_json::json!({"url": url});
        assert_eq!(validate_compiled(&rules, &object, None).is_ok(), is_good, "{url:?}");
    }
    assert!(good > 50 && bad > 500, "{good} good, {bad} bad");
}

/// The algorithms of the manifest are those of the node, by the same names.
#[test]
fn every_algorithm_of_the_manifest_is_one_of_the_node() {
    for algorithm in node_core::auth::Algorithm::ALL {
        let name = Value::from(algorithm.name());
        let written: crds::Algorithm = serde_json::from_value(name.clone()).unwrap();
        assert_eq!(serde_json::to_value(written).unwrap(), name);
    }
    let crd = serde_json::to_value(crds::crd().unwrap()).unwrap();
    let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/auth/properties/jwt/items/properties\
        /algorithms/items/enum";
    let listed = crd.pointer(path).unwrap().as_array().unwrap().len();
    assert_eq!(listed, node_core::auth::Algorithm::ALL.len());
}
