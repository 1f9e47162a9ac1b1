//! An API server in memory: it keeps what is written unless the write is meant for another version, tells which
//! requests came, and can leave requests without an answer.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, Mutex};

use crds::ChannelCluster;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DynamicObject;
use kube::client::{Body, ClientBuilder};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::Event;
use kube::{Client, Resource, ResourceExt};
use operator::claim::Claims;
use operator::client::Bounded;
use operator::events::Events;
use operator::lease::Fence;
use operator::metrics::Metrics;
use operator::pods::KeptPod;
use operator::pulses::Pulses;
use operator::scrape::Nodes;
use operator::shared::Shared;
use operator::shelf::{Place, Shelf};
use operator::standings::Standings;
use operator::watches::{Stores, cluster_uid, controller_uid, uid_of};
use operator_core::names::{Component, Names};
use operator_core::ownership;
use operator_core::validate::{Fetched, OperatorEnv, ValidatedCluster, validate};
use serde_json::{Value, json};
use tower_test::mock::SendResponse;

mod merge;
pub(crate) use merge::merge;

/// UID of the ChannelCluster of [`cluster`].
pub(crate) const UID: &str = "00000000-0000-0000-0000-000000000001";

/// One request that was not a read.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Value,
}

#[derive(Default)]
struct Contents {
    objects: BTreeMap<String, Value>,
    writes: Vec<Write>,
    reads: Vec<String>,
    version: u64,
    unanswered: u32,
    refused: Vec<String>,
    meddled: Option<(String, Value, u32)>,
    pending: Vec<SendResponse<Response<Body>>>,
}

impl Contents {
    /// A list of the Deployments of nodes at a path.
    fn nodes(&self, path: &str) -> Value {
        let below = format!("{path}/");
        let all = self.objects.iter().filter(|(path, _)| path.starts_with(&below));
        let nodes = all.filter(|(_, one)| one["metadata"]["labels"]["app.kubernetes.io/component"] == "node");
        let items: Vec<_> = nodes.map(|(_, one)| one.clone()).collect();
        let kind = "PartialObjectMetadataList";
        json!({"apiVersion": "meta.k8s.io/v1", "kind": kind, "metadata": {}, "items": items})
    }

    /// A version that no object of a test begins with.
    fn next_version(&mut self) -> Value {
        self.version += 1;
        json!(format!("1{:06}", self.version))
    }
}

/// The server's memory.
#[derive(Clone, Default)]
pub(crate) struct Server(Arc<Mutex<Contents>>);

impl Server {
    /// Puts an object there, as another writer would.
    pub(crate) fn put(&self, path: &str, object: Value) {
        self.0.lock().unwrap().objects.insert(path.to_owned(), object);
    }

    /// Carries the next `count` writes out and never answers them.
    pub(crate) fn swallow(&self, count: u32) {
        self.0.lock().unwrap().unanswered = count;
    }

    /// Writes that were not answered.
    pub(crate) fn swallowed(&self) -> usize {
        self.0.lock().unwrap().pending.len()
    }

    /// Takes an object away, as another writer would.
    pub(crate) fn remove(&self, path: &str) {
        self.0.lock().unwrap().objects.remove(path);
    }

    /// Refuses writes to paths with this end; an empty end stops that.
    pub(crate) fn refuse(&self, end: &str) {
        let mut contents = self.0.lock().unwrap();
        contents.refused.clear();
        contents.refused.extend((!end.is_empty()).then(|| end.to_owned()));
    }

    /// Changes the object at `path`, as another writer would, right before each of the next `count` writes to it.
    pub(crate) fn meddle(&self, path: &str, change: Value, count: u32) {
        self.0.lock().unwrap().meddled = Some((path.to_owned(), change, count));
    }

    /// Whether all changes that [`Server::meddle`] was told of are made.
    pub(crate) fn meddled(&self) -> bool {
        self.0.lock().unwrap().meddled.as_ref().is_none_or(|(.., left)| *left == 0)
    }

    /// Changes an object, as another writer would.
    pub(crate) fn edit(&self, path: &str, change: &Value) {
        let mut contents = self.0.lock().unwrap();
        let version = contents.next_version();
        let object = contents.objects.get_mut(path).unwrap();
        merge(object, change);
        object["metadata"]["resourceVersion"] = version;
    }

    /// The stored object.
    pub(crate) fn get(&self, path: &str) -> Value {
        self.0.lock().unwrap().objects[path].clone()
    }

    /// The paths that were read since the last call, in order.
    pub(crate) fn reads(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().reads)
    }

    /// Shows `shared` all Deployments and all objects that the operator applies, as its watches would have seen them.
    pub(crate) fn show(&self, shared: &mut Shared) {
        let contents = self.0.lock().unwrap();
        let mut standings: HashMap<String, Standings> = HashMap::new();
        let mut deployments = Vec::new();
        for (path, object) in &contents.objects {
            let Ok(partial) = serde_json::from_value::<DynamicObject>(object.clone()) else { continue };
            let kind = partial.types.as_ref().map_or("", |types| types.kind.as_str());
            let standing = ownership::standing(&partial.metadata);
            let mut placed = partial.metadata;
            placed.namespace = Some("default".to_owned());
            standings.entry(kind.to_owned()).or_default().put(Place::of(&placed), standing);
            if path.contains("/deployments/") {
                let mut deployment: Deployment = serde_json::from_value(object.clone()).unwrap();
                deployment.metadata.namespace = Some("default".to_owned());
                deployments.push(deployment);
            }
        }
        drop(contents);
        shared.stores.deployments = Shelf::of(deployments, cluster_uid, |deployment| deployment);
        shared.stores.standings = Arc::new(standings);
    }

    /// The writes, in order.
    pub(crate) fn writes(&self) -> Vec<Write> {
        self.0.lock().unwrap().writes.clone()
    }

    fn answer(&self, method: &Method, path: &str, query: &str, body: Value) -> (u16, Value) {
        let mut contents = self.0.lock().unwrap();
        let status = |code: u16, reason: &str| json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason, "reason": reason, "code": code});
        if method == Method::GET {
            contents.reads.push(path.to_owned());
            if path.ends_with("/deployments") {
                return (200, contents.nodes(path));
            }
            return match contents.objects.get(path) {
                Some(object) => (200, object.clone()),
                None => (404, status(404, "NotFound")),
            };
        }
        if let Some((_, change, left)) =
            contents.meddled.as_mut().filter(|(at, _, left)| at == path && *left > 0)
        {
            *left -= 1;
            let change = change.clone();
            let version = contents.next_version();
            let object = contents.objects.get_mut(path).unwrap();
            merge(object, &change);
            object["metadata"]["resourceVersion"] = version;
        }
        let meant = &body["metadata"]["resourceVersion"];
        let kept = contents.objects.get(path.trim_end_matches("/status"));
        if kept.is_some_and(|kept| !meant.is_null() && *meant != kept["metadata"]["resourceVersion"]) {
            return (409, status(409, "Conflict"));
        }
        let owned =
            query.contains("force=true") && kept.is_some_and(|kept| has_another_controller(kept, &body));
        if owned || contents.refused.iter().any(|end| path.ends_with(end)) {
            return (422, status(422, "it is invalid, since a test says so"));
        }
        if query.contains("dryRun=All") {
            let mut tried = kept.cloned().unwrap_or(Value::Null);
            merge(&mut tried, &body);
            return (200, tried);
        }
        let version = contents.next_version();
        contents.writes.push(Write {
            method: method.clone(),
            path: path.to_owned(),
            query: query.to_owned(),
            body: body.clone(),
        });
        let applied = body.clone();
        let mut stored = body;
        if *method == Method::POST {
            let name = stored["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            contents.objects.insert(format!("{path}/{name}"), stored.clone());
            return (201, stored);
        }
        if *method == Method::DELETE {
            contents.objects.remove(path);
            return (200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}));
        }
        let path = path.trim_end_matches("/status");
        if let Some(before) = contents.objects.get(path) {
            let mut merged = before.clone();
            merge(&mut merged, &stored);
            stored = merged;
        } else if stored["metadata"]["uid"].is_null() {
            stored["metadata"]["uid"] = json!(format!("uid-of-{version}"));
        }
        if query.contains("force=true") {
            let manager = query.split('&').find_map(|pair| pair.strip_prefix("fieldManager=")).unwrap();
            record(&mut stored, manager, &fields(&applied));
        }
        stored["metadata"]["resourceVersion"] = version;
        contents.objects.insert(path.to_owned(), stored.clone());
        (200, stored)
    }

    /// A client of this server.
    pub(crate) fn client(&self) -> Client {
        let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let server = self.clone();
        tokio::spawn(async move {
            while let Some((request, respond)) = handle.next_request().await {
                let (parts, body) = request.into_parts();
                let bytes = body.collect().await.unwrap().to_bytes();
                let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
                let query = parts.uri.query().unwrap_or_default();
                let (code, answer) = server.answer(&parts.method, parts.uri.path(), query, body);
                let mut contents = server.0.lock().unwrap();
                let watch = query.contains("watch=true");
                if watch || (contents.unanswered > 0 && parts.method != Method::GET) {
                    contents.unanswered -= u32::from(!watch);
                    contents.pending.push(respond); // it is kept: to drop it would answer with an error
                    continue;
                }
                drop(contents);
                let answer = Body::from(serde_json::to_vec(&answer).unwrap());
                respond.send_response(Response::builder().status(code).body(answer).unwrap());
            }
        });
        ClientBuilder::new(service, "default").with_layer(&Bounded::default()).build()
    }

    /// The handles of a reconcile, with a lease that is held.
    pub(crate) fn shared(&self) -> Shared {
        let client = self.client();
        let fence = Fence::default();
        fence.extend(operator::clock::now());
        Shared {
            events: Events::new(client.clone(), "test".to_owned()),
            client,
            fence: Arc::new(fence),
            env: Arc::new(env()),
            stores: Stores {
                clusters: reflector::store().0,
                deployments: Shelf::of(vec![node_deployment()], cluster_uid, |deployment| deployment),
                replica_sets: sets(vec![node_replica_set()]),
                pods: kept_pods(Vec::new()),
                endpoints: Shelf::empty(),
                machines: operator::machines::Machines::unseen(),
                standings: Arc::default(),
                pulses: Pulses::default(),
            },
            pending: Arc::default(),
            claims: Arc::new(Claims::alone()),
            nodes: Nodes::default(),
            contests: Arc::default(),
            written: Arc::default(),
            secrets: Arc::default(),
            metrics: Arc::new(Metrics::default()),
        }
    }
}

/// Whether server-side apply would give a live object a second controller: it keeps the owners that others set.
fn has_another_controller(live: &Value, applied: &Value) -> bool {
    let controller = |object: &Value| {
        let owners = object["metadata"]["ownerReferences"].as_array();
        let found = owners.into_iter().flatten().find(|owner| owner["controller"] == true);
        found.map(|owner| owner["uid"].clone())
    };
    controller(applied).is_some_and(|wanted| controller(live).is_some_and(|other| other != wanted))
}

/// The store of a watch that has seen these objects, and ended.
pub(crate) fn watched<K>(objects: Vec<K>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let (store, mut writer) = reflector::store();
    writer.apply_watcher_event(&Event::Init);
    for object in objects {
        writer.apply_watcher_event(&Event::InitApply(object));
    }
    writer.apply_watcher_event(&Event::InitDone);
    store
}

/// The ReplicaSets that a watch has seen.
pub(crate) fn sets(objects: Vec<PartialObjectMeta<ReplicaSet>>) -> Shelf<String> {
    Shelf::of(objects, controller_uid, uid_of)
}

/// The pods that a watch has seen.
pub(crate) fn kept_pods(objects: Vec<Pod>) -> Shelf<KeptPod> {
    Shelf::of(objects, controller_uid, KeptPod::of)
}

/// The fields of an applied object as server-side apply records them; a list counts as one field.
fn fields(applied: &Value) -> Value {
    let Some(map) = applied.as_object() else { return json!({}) };
    let known = |key: &String| {
        !["apiVersion", "kind", "name", "namespace", "resourceVersion", "uid"].contains(&key.as_str())
    };
    map.iter().filter(|(key, _)| known(key)).map(|(key, value)| (format!("f:{key}"), fields(value))).collect()
}

/// Records which manager has which field. No manager loses a field here: that needs a real API server.
fn record(object: &mut Value, manager: &str, fields: &Value) {
    let records = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let mut records: Vec<_> = records.into_iter().filter(|record| record["manager"] != manager).collect();
    records.push(json!({
        "manager": manager, "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields,
    }));
    object["metadata"]["managedFields"] = json!(records);
}

/// The path of the Deployment of the nodes of `default/chat` when it says nothing of them.
pub(crate) static NODES: LazyLock<String> = LazyLock::new(|| nodes(&valid(&json!({}))));

/// The path of the Deployment of the nodes that are made as this spec says.
pub(crate) fn nodes(cluster: &ValidatedCluster) -> String {
    let name = cluster.names.deployment(&cluster.template);
    format!("/apis/apps/v1/namespaces/default/deployments/{name}")
}

/// The Deployment of the nodes of `default/chat`, with only what its pods refer to.
fn node_deployment() -> Deployment {
    let owner = json!({"apiVersion": "channelcluster.io/v1alpha1", "kind": "ChannelCluster", "name": "chat", "uid": UID});
    let template = valid(&json!({})).template;
    let labels = json!({"channelcluster.io/template": template});
    let meta = json!({
        "name": format!("chat-node-{template}"), "namespace": "default", "uid": "deployment", "labels": labels,
        "ownerReferences": [owner],
    });
    serde_json::from_value(json!({"metadata": meta})).unwrap()
}

/// The ReplicaSet that makes [`node_pod`].
pub(crate) fn node_replica_set() -> PartialObjectMeta<ReplicaSet> {
    replica_set("replica-set", "deployment")
}

/// A ReplicaSet of the Deployment with a UID.
pub(crate) fn replica_set(uid: &str, deployment: &str) -> PartialObjectMeta<ReplicaSet> {
    let owner = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "name": "any", "uid": deployment, "controller": true,
    });
    let meta = json!({
        "name": format!("chat-node-{uid}"), "namespace": "default", "uid": uid, "ownerReferences": [owner],
    });
    serde_json::from_value(json!({"metadata": meta})).unwrap()
}

/// A node pod of the ReplicaSet with a UID.
pub(crate) fn pod_of(name: &str, set: &str, more: &Value) -> Pod {
    let mut pod = node_pod(name, more);
    pod.owner_references_mut()[0].uid = set.to_owned();
    pod
}

/// A node pod of `default/chat` with `more` in it.
pub(crate) fn node_pod(name: &str, more: &Value) -> Pod {
    let labels = Names::new("chat").selector_labels(Component::Node);
    let owner = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "chat-node-5d4f", "uid": "replica-set", "controller": true,
    });
    let mut object = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": labels, "ownerReferences": [owner]},
        "status": {"phase": "Running"},
    });
    merge(&mut object, more);
    serde_json::from_value(object).unwrap()
}

pub(crate) fn env() -> OperatorEnv {
    OperatorEnv {
        node_image: "node:1".to_owned(),
        nats_image: "nats:1".to_owned(),
        server_minor: 34,
        namespace: "channelcluster-system".to_owned(),
        allowed_images: Vec::new(),
    }
}

/// The ChannelCluster `default/chat`, with `more` of a spec.
pub(crate) fn cluster(more: &Value) -> ChannelCluster {
    let mut object = json!({
        "apiVersion": "channelcluster.io/v1alpha1", "kind": "ChannelCluster",
        "metadata": {"name": "chat", "namespace": "default", "uid": UID, "generation": 1, "resourceVersion": "1"},
        "spec": {"targetConnections": 100, "rooms": {"maxMembers": 10}, "auth": {"anonymous": true}},
    });
    merge(&mut object["spec"], more);
    serde_json::from_value(object).unwrap()
}

/// The same, checked.
pub(crate) fn valid(more: &Value) -> ValidatedCluster {
    validate(&cluster(more), &env(), &Fetched::default()).unwrap()
}
