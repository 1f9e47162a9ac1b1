//! The hash that tells the pod templates of a fleet's nodes apart.
//!
//! It is over what the manifest says and what was resolved for it, and never over how this version of the operator
//! writes a template. So a later version makes the same hash of the same manifest, finds the Deployment of that hash,
//! and leaves its pods alone.

use crds::{ChannelCluster, ChannelClusterSpec};
use node_core::config::Fixed;
use serde_json::{Value, json};

use super::value::{Bus, DrainLimits, Mounted, NodePod};
use crate::hash::short_hash;

/// Hexadecimal digits of the hash: 40 bits tell the few templates of one fleet apart, and names stay short.
const DIGITS: usize = 10;

/// What the template of a node pod depends on.
pub(super) struct Wish<'a> {
    pub(super) spec: &'a ChannelClusterSpec,
    pub(super) pod: &'a NodePod,
    pub(super) fixed: &'a Fixed,
    pub(super) bus: &'a Bus,
    pub(super) mounted: &'a Mounted,
    pub(super) drain: &'a DrainLimits,
}

/// The hash of a template.
pub(super) fn hash(wish: &Wish<'_>) -> String {
    let Wish { spec, pod, fixed, bus, mounted: Mounted { token_keys, tls, api, hooks }, drain } = wish;
    // What the manifest says about resources stands for the operator's own defaults. The sysctls are those of a table,
    // without the refused ones: a manifest that asks for a sysctl in vain has the hash of one that does not ask.
    let secret = match bus {
        Bus::External { credentials_secret } => credentials_secret.as_ref(),
        Bus::None | Bus::Managed { .. } => None,
    };
    let tls = tls.as_ref().map(|tls| {
        json!({
            "certificate": tls.certificate, "clientCa": tls.client_ca, "clientCertificates": tls.client_certificates,
            "minVersion": tls.min_version,
        })
    });
    let mut wish = json!({
        "image": pod.image, "fixed": fixed, "sysctls": pod.sysctls, "resources": spec.nodes.resources, "nodeSelector": pod.node_selector, "tolerations": pod.tolerations,
        "affinity": pod.affinity, "labels": pod.labels, "annotations": pod.annotations, "options": pod.options,
        "busSecret": secret, "tokenSecrets": token_keys, "tls": tls, "graceSeconds": drain.grace.as_secs(),
    });
    // Fleets of before these keys keep their hash: what has no value is not in it.
    if let Some(wish) = wish.as_object_mut() {
        wish.insert("apiSecret".to_owned(), json!(api.as_ref().map(|api| &api.secret)));
        wish.insert("hooksSecret".to_owned(), json!(hooks));
    }
    let mut text = String::new();
    canonical(&wish, &mut text);
    short_hash(text.as_bytes()).chars().take(DIGITS).collect()
}

/// The hash of the template that stands in for `wanted`, if that was given up.
fn rolled_back(cluster: &ChannelCluster, wanted: &str) -> Option<String> {
    let rollout = cluster.status.as_ref()?.rollout.as_ref()?;
    rollout.rolled_back.as_ref().filter(|back| back.from == wanted).map(|back| back.to.clone())
}

/// The template that was given up, and the one that stands in for it, if it is `wanted` or one of its variants.
pub(super) fn given_up<const N: usize>(
    cluster: &ChannelCluster,
    wanted: &str,
    variants: impl FnOnce() -> [String; N],
) -> Option<(String, String)> {
    // Most fleets gave nothing up, and need no variants.
    cluster.status.as_ref()?.rollout.as_ref()?.rolled_back.as_ref()?;
    let all = std::iter::once(wanted.to_owned()).chain(variants());
    all.into_iter().find_map(|from| rolled_back(cluster, &from).map(|to| (from, to)))
}

/// Writes a value so that equal values make equal texts: keys in order, and without those that have no value, which a
/// later version may have more of.
fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => {
            let mut fields: Vec<_> = map.iter().filter(|(_, value)| !value.is_null()).collect();
            fields.sort_by_key(|(key, _)| *key);
            text.push('{');
            for (key, value) in fields {
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                canonical(value, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for item in items {
                canonical(item, text);
                text.push(',');
            }
            text.push(']');
        }
        plain => text.push_str(&plain.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::canonical;
    use crate::fixtures::{cluster, env};
    use crate::validate::{Fetched, OperatorEnv, ValidatedCluster, validate};

    const PLAIN: &str = "{targetConnections: 1000, rooms: {maxMembers: 150}, auth: {anonymous: true}}";

    fn valid(spec: &str) -> ValidatedCluster {
        validate(&cluster(spec), &env(), &Fetched::default()).unwrap()
    }

    fn with(more: &str) -> String {
        valid(&PLAIN.replace("auth:", &format!("{more}, auth:"))).template
    }

    /// Another hash of the same manifest would replace every pod of every fleet when the operator is upgraded.
    #[test]
    fn the_same_manifest_has_the_same_hash_in_every_version() {
        assert_eq!(valid(PLAIN).template, "2e672c58ea");
        let shaped = "nodes: {image: 'a:1', nodeSelector: {pool: ws}, resources: {limits: {cpu: 1}}, env: [{name: A, value: b}], \
             podLabels: {team: a}}, drain: {delay: 7s, deadline: 2m}, tuning: {profile: None, nofile: 5000}";
        assert_eq!(with(shaped), "b809fbe819");
    }

    #[test]
    fn another_template_has_another_hash_and_what_nodes_reload_does_not_count() {
        let plain = valid(PLAIN).template;
        for reloaded in ["limits: {idleTimeout: 50s}", "nodes: {min: 3}", "expose: {chatPage: true}"] {
            assert_eq!(with(reloaded), plain, "{reloaded}");
        }
        let others = [
            "nodes: {image: 'a:1'}",
            "nodes: {podLabels: {a: b}}",
            "nodes: {podAnnotations: {a: b}}",
            "nodes: {nodeSelector: {a: b}}",
            "nodes: {resources: {}}",
            "nodes: {topologySpreadConstraints: []}",
            "nodes: {userIds: Assigned}",
            "nodes: {tolerations: [{operator: Exists}]}",
            "drain: {delay: 7s, deadline: 2m}",
            "tuning: {profile: None}",
            "backplane: {type: Nats, urls: ['nats://a:4222']}",
        ];
        let mut seen = vec![plain];
        for other in others {
            let hash = with(other);
            assert!(!seen.contains(&hash), "{other}");
            seen.push(hash);
        }
    }

    #[test]
    fn what_a_version_of_the_operator_adds_by_itself_does_not_count() {
        // The server was upgraded since the fleet was tuned.
        let later = OperatorEnv { server_minor: 99, ..env() };
        let fetched = Fetched { tuned_for: Some(valid(PLAIN).pod.tuned_for), ..Fetched::default() };
        let now = validate(&cluster(PLAIN), &later, &fetched).unwrap();
        assert_eq!(now.template, valid(PLAIN).template);
    }

    #[test]
    fn equal_values_make_equal_texts() {
        let text = |value| {
            let mut text = String::new();
            canonical(&value, &mut text);
            text
        };
        assert_eq!(text(json!({"b": [1, "x"], "a": null, "c": {}})), r#"{"b":[1,"x",],"c":{},}"#);
        assert_ne!(text(json!([["a"], "b"])), text(json!(["a", ["b"]])));
    }
}
