//! What is read for a bundle. What cannot be read is said in the bundle, and everything else goes on.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, LogParams};
use kube::{Client, ResourceExt};
use operator_core::names::{ADMIN_PORT, CLUSTER_LABEL, Names};
use operator_core::redact::{Redactor, environment, secret_keys};
use serde_json::Value;

use super::Bundle;
use crate::args::Report;
use crate::connect::Place;
use crate::explain::Explanation;
use crate::fleet::{self, Fleet};
use crate::status::Story;

/// Lines of each log, the last ones.
pub const LOG_LINES: i64 = 5_000;
/// Most bytes of each log.
const LOG_BYTES: i64 = 4 << 20;
/// Pods whose logs and metrics are taken, at most; those that are not ready come first.
pub const MOST_PODS: usize = 50;
/// Objects that are asked for at a time.
const PAGE: u32 = 500;
/// Pages of one kind that are read, at most: a namespace may have very many Events.
pub const MOST_PAGES: usize = 40;
/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Keys of Secrets whose values are none, and would be hidden wherever their words stand.
const PUBLIC_KEYS: [&str; 3] = ["username", "ca.crt", "tls.crt"];
/// Label of the operator's pods.
const OPERATOR_LABEL: &str = "app.kubernetes.io/name=channel-operator";

/// Kinds of a fleet's objects: group, version, kind.
const KINDS: [(&str, &str, &str); 8] = [
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "ReplicaSet"),
    ("", "v1", "Pod"),
    ("", "v1", "Service"),
    ("", "v1", "ConfigMap"),
    ("", "v1", "ServiceAccount"),
    ("policy", "v1", "PodDisruptionBudget"),
    ("networking.k8s.io", "v1", "NetworkPolicy"),
];

/// Reads all that belongs to a fleet.
///
/// # Errors
/// When the ChannelCluster itself cannot be read.
pub async fn collect(place: &Place, wanted: &Report, now: u64) -> Result<Bundle> {
    let object = Box::pin(fleet::object(place, &wanted.name)).await?;
    let fleet = Fleet::read(&object);
    let (secrets, redactor) = Box::pin(secrets(place, &wanted.name, &object.data["spec"])).await;
    let mut bundle = Bundle::new(redactor);
    bundle.add_object("channelcluster.yaml", serde_json::to_value(&object)?);
    bundle.add("secrets.txt", &secrets);
    match &fleet {
        Ok(fleet) => texts(&mut bundle, fleet, now)?,
        Err(error) => bundle.miss("status.txt", &format!("{error:#}")),
    }
    let mut names: BTreeSet<String> = [wanted.name.clone()].into();
    for (group, version, kind) in KINDS {
        let selector = format!("{CLUSTER_LABEL}={}", wanted.name);
        Box::pin(objects(place, &mut bundle, &mut names, (group, version, kind), &selector)).await;
    }
    let services = Names::new(&wanted.name);
    let selector = format!("kubernetes.io/service-name in ({},{})", services.service(), services.headless());
    let slices = ("discovery.k8s.io", "v1", "EndpointSlice");
    Box::pin(objects(place, &mut bundle, &mut names, slices, &selector)).await;
    Box::pin(events(place, &mut bundle, &names)).await;
    let selector = format!("{CLUSTER_LABEL}={}", wanted.name);
    let pods = Box::pin(pods(&place.client, &place.namespace, &selector, &mut bundle)).await;
    for pod in &pods {
        Box::pin(logs(&place.client, &place.namespace, pod, "logs/nodes", &mut bundle)).await;
        if pod.labels().get("app.kubernetes.io/component").is_some_and(|part| part == "node") {
            Box::pin(metrics(place, &pod.name_any(), &mut bundle)).await;
        }
    }
    let operators = &wanted.operator_namespace;
    let pods = Box::pin(pods_of_operator(place, operators, &mut bundle)).await;
    for pod in &pods {
        bundle.add_object(format!("objects/operator-{}.yaml", pod.name_any()), serde_json::to_value(pod)?);
        Box::pin(logs(&place.client, operators, pod, "logs/operator", &mut bundle)).await;
    }
    match within(place.client.apiserver_version()).await {
        Ok(version) => bundle.add_object("server.yaml", serde_json::to_value(version)?),
        Err(why) => bundle.miss("server.yaml", &why),
    }
    Ok(bundle)
}

async fn pods_of_operator(place: &Place, namespace: &str, bundle: &mut Bundle) -> Vec<Pod> {
    let pods = Box::pin(pods(&place.client, namespace, OPERATOR_LABEL, bundle)).await;
    if pods.is_empty() {
        let what = format!("logs of the operator in namespace {namespace}");
        bundle.miss(&what, "no pod of it is seen there; --operator-namespace says where it runs");
    }
    pods
}

/// What the commands `status` and `explain` say.
fn texts(bundle: &mut Bundle, fleet: &Fleet, now: u64) -> Result<()> {
    let mut text = Vec::new();
    Story::of(fleet).write(now, &mut text)?;
    bundle.add("status.txt", &String::from_utf8_lossy(&text));
    let mut text = Vec::new();
    Explanation::of(fleet).write(now, &mut text)?;
    bundle.add("explain.txt", &String::from_utf8_lossy(&text));
    Ok(())
}

/// The names of the fleet's Secrets and of their keys, and what hides their values.
async fn secrets(place: &Place, name: &str, spec: &Value) -> (String, Redactor) {
    let api: Api<Secret> = Api::namespaced(place.client.clone(), &place.namespace);
    let (mut text, mut known) = (String::new(), values(place, name, spec));
    for secret in secret_names(name, spec) {
        let line = match within(api.get_opt(&secret)).await {
            Ok(None) => "is not there".to_owned(),
            Err(why) => {
                format!("cannot be read, so its values are hidden only where they look like secrets: {why}")
            }
            Ok(Some(object)) => {
                let data = object.data.iter().flatten();
                let values = data.filter(|(key, _)| !PUBLIC_KEYS.contains(&key.as_str()));
                known.extend(values.filter_map(|(_, value)| String::from_utf8(value.0.clone()).ok()));
                format!("keys {}", secret_keys(object.data.as_ref()).join(", "))
            }
        };
        text.push_str(&format!("{secret}: {line}\n"));
    }
    (text, Redactor::knowing(known))
}

/// The values of the environment variables that the spec gives, which may stand in logs and messages too. Those that are names
/// of what the bundle is about hide nothing.
fn values(place: &Place, name: &str, spec: &Value) -> Vec<String> {
    let mut values = environment(spec);
    values.retain(|value| value != name && *value != place.namespace);
    values
}

/// The fleet's own Secret, and those that the spec names: in fields `...SecretRef` with a name, or `...SecretName`.
fn secret_names(name: &str, spec: &Value) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = [Names::new(name).secret()].into();
    add_secret_names(spec, &mut names);
    names
}

fn add_secret_names(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let field = field.to_ascii_lowercase();
                let named = if field.ends_with("secretref") {
                    &value["name"]
                } else if field.ends_with("secretname") {
                    value
                } else {
                    &Value::Null
                };
                names.extend(named.as_str().map(str::to_owned));
                add_secret_names(value, names);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| add_secret_names(value, names)),
        _ => {}
    }
}

async fn objects(
    place: &Place,
    bundle: &mut Bundle,
    names: &mut BTreeSet<String>,
    (group, version, kind): (&str, &str, &str),
    selector: &str,
) {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let api: Api<DynamicObject> = Api::namespaced_with(place.client.clone(), &place.namespace, &resource);
    let (found, missing) = Box::pin(listed(&api, ListParams::default().labels(selector), |_| true)).await;
    if let Some(why) = missing {
        bundle.miss(&format!("objects of kind {kind}"), &why);
    }
    for object in found {
        let name = object.name_any();
        let path = format!("objects/{}-{name}.yaml", kind.to_lowercase());
        match serde_json::to_value(&object) {
            Ok(value) => bundle.add_object(path, value),
            Err(error) => bundle.miss(&path, &error.to_string()),
        }
        names.insert(name);
    }
}

/// The objects that are listed and `keep` takes, page by page; and why these are not all.
async fn listed(
    api: &Api<DynamicObject>,
    params: ListParams,
    keep: impl Fn(&DynamicObject) -> bool,
) -> (Vec<DynamicObject>, Option<String>) {
    let mut params = params.limit(PAGE);
    let mut found = Vec::new();
    for _ in 0..MOST_PAGES {
        match within(api.list(&params)).await {
            Err(why) => return (found, Some(why)),
            Ok(list) => {
                found.extend(list.items.into_iter().filter(|object| keep(object)));
                match list.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => params.continue_token = Some(token),
                    None => return (found, None),
                }
            }
        }
    }
    let most = MOST_PAGES * usize::try_from(PAGE).unwrap_or_default();
    (found, Some(format!("there are more than {most}, and only so many were looked at")))
}

/// The Events about any of these objects.
async fn events(place: &Place, bundle: &mut Bundle, names: &BTreeSet<String>) {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Event"));
    let api: Api<DynamicObject> = Api::namespaced_with(place.client.clone(), &place.namespace, &resource);
    let about = |event: &DynamicObject| {
        event.data["involvedObject"]["name"].as_str().is_some_and(|name| names.contains(name))
    };
    let (events, missing) = Box::pin(listed(&api, ListParams::default(), about)).await;
    if let Some(why) = missing {
        let what = if events.is_empty() { "events.yaml" } else { "some Events" };
        bundle.miss(what, &why);
        if events.is_empty() {
            return;
        }
    }
    match serde_json::to_value(events) {
        Ok(value) => bundle.add_object("events.yaml", value),
        Err(error) => bundle.miss("events.yaml", &error.to_string()),
    }
}

/// Pods with a label, those that are not ready first, at most [`MOST_PODS`].
async fn pods(client: &Client, namespace: &str, selector: &str, bundle: &mut Bundle) -> Vec<Pod> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    match within(api.list(&ListParams::default().labels(selector))).await {
        Err(why) => {
            bundle.miss(&format!("pods {selector} in namespace {namespace}"), &why);
            Vec::new()
        }
        Ok(list) => {
            let mut pods = list.items;
            pods.sort_by_key(|pod| (is_ready(pod), pod.name_any()));
            for pod in pods.iter().skip(MOST_PODS) {
                let why = format!("logs and metrics are those of {MOST_PODS} pods");
                bundle.miss(&format!("logs of pod {}", pod.name_any()), &why);
            }
            pods.truncate(MOST_PODS);
            pods
        }
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The last lines of each container, and of the process before it when it was restarted.
async fn logs(client: &Client, namespace: &str, pod: &Pod, directory: &str, bundle: &mut Bundle) {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let name = pod.name_any();
    let states: Vec<_> =
        pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten()).collect();
    for container in pod.spec.iter().flat_map(|spec| &spec.containers) {
        let restarted = states.iter().any(|state| state.name == container.name && state.restart_count > 0);
        for previous in [false, true].into_iter().filter(|previous| restarted || !previous) {
            let before = if previous { "-previous" } else { "" };
            let path = format!("{directory}/{name}-{}{before}.log", container.name);
            let params = LogParams {
                container: Some(container.name.clone()),
                tail_lines: Some(LOG_LINES),
                limit_bytes: Some(LOG_BYTES),
                timestamps: true,
                previous,
                ..LogParams::default()
            };
            match within(api.logs(&name, &params)).await {
                Ok(text) => bundle.add(path, &text),
                Err(why) => bundle.miss(&path, &why),
            }
        }
    }
}

/// A node's metrics through the API server.
async fn metrics(place: &Place, pod: &str, bundle: &mut Bundle) {
    let path = format!("metrics/{pod}.txt");
    let url = format!("/api/v1/namespaces/{}/pods/{pod}:{ADMIN_PORT}/proxy/metrics", place.namespace);
    let request = match http::Request::get(url).body(Vec::new()) {
        Ok(request) => request,
        Err(error) => return bundle.miss(&path, &error.to_string()),
    };
    match within(place.client.request_text(request)).await {
        Ok(text) => bundle.add(path, &text),
        Err(why) => bundle.miss(&path, &why),
    }
}

/// An answer within the time that is given to each, or why there is none.
async fn within<T>(answer: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, Box::pin(answer)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(status.message.clone()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}
