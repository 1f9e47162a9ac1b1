//! A ChannelCluster on a real API server, and the handles that the operator's functions need for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use apiserver::{ApiServer, Identity, OPERATOR_NAMESPACE, Operator};
use crds::ChannelCluster;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::Event;
use kube::{Client, Resource, ResourceExt};
use operator::claim::Claims;
use operator::events::Events;
use operator::lease::Fence;
use operator::metrics::Metrics;
use operator::pulses::Pulses;
use operator::scrape::Nodes;
use operator::shared::Shared;
use operator::shelf::Shelf;
use operator::watches::Stores;
use operator_core::templates::Made;
use operator_core::validate::{Credentials, Fetched, OperatorEnv, ValidatedCluster, validate};
use serde_json::{Value, json};

#[path = "../../../../../operator/tests/operator/support/merge.rs"]
mod merge;
use merge::merge;

/// Makes a namespace with these labels.
pub(crate) async fn namespace(server: &ApiServer, prefix: &str, labels: Value) -> String {
    let name = server.namespace(prefix).await.unwrap();
    let api: Api<Namespace> = Api::all(server.client(Identity::Admin).unwrap());
    let patch = json!({"metadata": {"labels": labels}});
    api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    name
}

/// A test that has not seen what it waits for by then has failed.
const HANG: Duration = Duration::from_secs(120);

/// Waits for something that happens sooner or later.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < HANG, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// An operator that may do everything, in its usual namespace.
pub(crate) async fn operator(server: &ApiServer) -> Operator {
    server.kubectl(&["create", "namespace", OPERATOR_NAMESPACE], "").await.unwrap();
    Operator::start(&server.kubeconfig(Identity::Admin), OPERATOR_NAMESPACE, &[]).await.unwrap()
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

fn empty<K: Resource<DynamicType = ()> + Clone + 'static>() -> Store<K> {
    let (store, mut writer) = reflector::store();
    writer.apply_watcher_event(&Event::Init);
    writer.apply_watcher_event(&Event::InitDone);
    store
}

/// The handles of a reconcile, with a lease that is held and stores that have seen nothing.
pub(crate) fn shared(client: Client) -> Shared {
    let fence = Fence::default();
    fence.extend(operator::clock::now() + 3_600_000);
    Shared {
        events: Events::new(client.clone(), "test".to_owned()),
        client,
        fence: Arc::new(fence),
        env: Arc::new(env()),
        stores: Stores {
            clusters: empty(),
            deployments: Shelf::empty(),
            replica_sets: Shelf::empty(),
            pods: Shelf::empty(),
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

/// Makes the ChannelCluster `chat` with `more` of a spec, and gives it as the API server returns it.
pub(crate) async fn cluster(client: &Client, namespace: &str, more: &Value) -> ChannelCluster {
    let mut spec = json!({
        "targetConnections": 100, "rooms": {"maxMembers": 10}, "auth": {"anonymous": true}, "nodes": {"min": 2, "max": 3},
    });
    merge(&mut spec, more);
    let object = json!({
        "apiVersion": "channelcluster.io/v1alpha1", "kind": "ChannelCluster",
        "metadata": {"name": "chat", "namespace": namespace}, "spec": spec,
    });
    let api: Api<ChannelCluster> = Api::namespaced(client.clone(), namespace);
    let params = PatchParams::apply("user").force();
    api.patch("chat", &params, &Patch::Apply(object)).await.unwrap()
}

/// The Deployment that the nodes are in, or came to be in last.
pub(crate) async fn nodes(client: &Client, namespace: &str) -> Option<Deployment> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let all = api.list(&ListParams::default().labels("app.kubernetes.io/component=node")).await.unwrap();
    all.items.into_iter().max_by_key(|one| Made::of(&one.metadata).rank())
}

/// Its name, once it is there.
pub(crate) async fn nodes_name(client: &Client, namespace: &str) -> String {
    until("the Deployment of the nodes", async || nodes(client, namespace).await).await.name_any()
}

/// The same, checked, with credentials for NATS and a certificate in `chat-tls`.
pub(crate) fn valid(cluster: &ChannelCluster) -> ValidatedCluster {
    let secret =
        |keys: [&str; 2]| Credentials { keys: keys.map(str::to_owned).into(), labelled: true, servers: None };
    let fetched = Fetched {
        credentials: Some(secret(["username", "password"])),
        named_secrets: [("chat-tls".to_owned(), secret(["tls.crt", "tls.key"]))].into(),
        ..Fetched::default()
    };
    validate(cluster, &env(), &fetched).unwrap()
}
