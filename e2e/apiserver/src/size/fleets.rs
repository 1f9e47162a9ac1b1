//! The ChannelClusters, and what the controllers and kubelets of a cluster would make for them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use crds::ChannelCluster;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use operator_core::names::{Component, NODE_CONTAINER, Names};
use serde_json::{Value, json};

use super::{Wanted, each, namespace, nodes, patiently};

/// ChannelClusters in a namespace.
const PER_NAMESPACE: usize = 100;
/// Name of the first ChannelCluster of each namespace, and so on.
const NAME: &str = "chat";
/// The ChannelCluster that is changed while all others are made; it is made before them.
const CHANGED: usize = 0;
/// Longest wait for anything.
const LIMIT: Duration = Duration::from_secs(900);
/// Pause between looks at many objects.
const POLL: Duration = Duration::from_millis(500);
/// Pause between looks at one.
const SHORT_POLL: Duration = Duration::from_millis(20);
/// Pause between changes.
const PAUSE: Duration = Duration::from_millis(700);
/// Objects of an answer of the API server.
const PAGE: u32 = 500;

/// All ChannelClusters.
pub(super) struct Fleets {
    count: usize,
    nodes: usize,
}

fn place(number: usize) -> (String, String) {
    (format!("team-{}", number / PER_NAMESPACE), format!("{NAME}-{number}"))
}

/// Makes them, while there is no operator.
pub(super) async fn make(client: &Client, wanted: &Wanted) -> Result<Fleets> {
    for space in 0..wanted.fleets.div_ceil(PER_NAMESPACE) {
        namespace(client, &format!("team-{space}")).await?;
    }
    let nodes = wanted.nodes;
    each(0..wanted.fleets, |number| async move {
        let (space, name) = place(number);
        let cluster: ChannelCluster = serde_json::from_value(json!({
            "apiVersion": "channelcluster.io/v1alpha1", "kind": "ChannelCluster", "metadata": {"name": name},
            "spec": {
                "targetConnections": 1000, "rooms": {"maxMembers": 150}, "auth": {"anonymous": true},
                "nodes": {"min": nodes, "max": nodes + 5},
                "backplane": {"type": "Nats", "urls": ["nats://nats.bus.svc:4222"]},
            },
        }))?;
        let api = Api::namespaced(client.clone(), &space);
        patiently(|| async { api.create(&PostParams::default(), &cluster).await }).await?;
        Ok(())
    })
    .await?;
    Ok(Fleets { count: wanted.fleets, nodes })
}

impl Fleets {
    /// Waits until each has its Deployment and its status says so; says how long that took.
    pub(super) async fn wait_made(&self, client: &Client, since: Instant) -> Result<Duration> {
        let seen = |cluster: &Value| {
            let generation = &cluster["metadata"]["generation"];
            generation.is_i64() && cluster["status"]["observedGeneration"] == *generation
        };
        self.wait(client, since, "objects", seen).await
    }

    /// Waits until each says that it is ready.
    pub(super) async fn wait_ready(&self, client: &Client) -> Result<()> {
        let ready = |cluster: &Value| {
            let conditions = cluster["status"]["conditions"].as_array();
            conditions
                .is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
        };
        self.wait(client, Instant::now(), "condition Ready", ready).await.map(|_| ())
    }

    async fn wait(
        &self,
        client: &Client,
        since: Instant,
        what: &str,
        is_so: impl Fn(&Value) -> bool,
    ) -> Result<Duration> {
        let api: Api<ChannelCluster> = Api::all(client.clone());
        loop {
            let mut so = 0;
            let mut page = ListParams::default().limit(PAGE);
            loop {
                let list = api.list(&page).await?;
                for one in &list.items {
                    so += usize::from(is_so(&serde_json::to_value(one)?));
                }
                match list.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => page = page.continue_token(&token),
                    None => break,
                }
            }
            if so == self.count {
                return Ok(since.elapsed());
            }
            if since.elapsed() > LIMIT {
                bail!("{so} of {} have their {what} after {} s", self.count, LIMIT.as_secs());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Changes one of them again and again while the others get their objects, from when it has its own until all have;
    /// gives the time that each change took, shortest first.
    pub(super) async fn change_meanwhile(&self, client: &Client) -> Result<Vec<Duration>> {
        let (space, _) = place(CHANGED);
        let deployments: Api<Deployment> = Api::all(client.clone());
        let services: Api<Service> = Api::namespaced(client.clone(), &space);
        let since = Instant::now();
        while services.get_opt(&Names::new(&place(CHANGED).1).service()).await?.is_none() {
            anyhow::ensure!(since.elapsed() < LIMIT, "the first ChannelCluster has no Service");
            tokio::time::sleep(POLL).await;
        }
        let mut took = Vec::new();
        loop {
            took.push(change(client, &format!("meanwhile-{}", took.len())).await?);
            let list = deployments.list_metadata(&ListParams::default().limit(1)).await?;
            let left = list.metadata.remaining_item_count.unwrap_or_default();
            if usize::try_from(left)? + list.items.len() >= self.count {
                took.sort();
                return Ok(took);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Changes one of them so often; gives the time that each change took, shortest first.
    pub(super) async fn changes(&self, client: &Client, count: usize) -> Result<Vec<Duration>> {
        let mut took = Vec::new();
        for _ in 0..count {
            let word = format!("{:08x}", rand::random::<u32>());
            took.push(change(client, &word).await?);
            tokio::time::sleep(PAUSE).await;
        }
        took.sort();
        Ok(took)
    }

    /// Gives each its nodes: ReplicaSets, running pods, endpoints and the Deployments' status.
    pub(super) async fn give_nodes(&self, client: &Client) -> Result<()> {
        let nodes = self.nodes;
        each(0..self.count, |number| give_nodes(client, number, nodes)).await
    }
}

/// Changes the first ChannelCluster, and waits until its Service follows.
async fn change(client: &Client, word: &str) -> Result<Duration> {
    let (space, name) = place(CHANGED);
    let clusters: Api<ChannelCluster> = Api::namespaced(client.clone(), &space);
    let services: Api<Service> = Api::namespaced(client.clone(), &space);
    let patch = json!({"spec": {"expose": {"service": {"annotations": {"example.com/word": word}}}}});
    let began = Instant::now();
    clusters.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    let service = Names::new(&name).service();
    loop {
        let live = services.get(&service).await?;
        if live.annotations().get("example.com/word").is_some_and(|live| live == word) {
            return Ok(began.elapsed());
        }
        anyhow::ensure!(began.elapsed() < LIMIT, "the change to {word} never came");
        tokio::time::sleep(SHORT_POLL).await;
    }
}

async fn give_nodes(client: &Client, number: usize, nodes: usize) -> Result<()> {
    let (space, name) = place(number);
    let names = Names::new(&name);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &space);
    let of_nodes = ListParams::default().labels(&names.selector_string(Component::Node));
    let deployment = deployments.list(&of_nodes).await?.items.pop().context("no Deployment")?;
    let template = serde_json::to_value(&deployment.spec.as_ref().context("no spec")?.template)?;
    let owner = |kind: &str, name: String, uid: Option<String>| json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true}]);
    let set = format!("{}-0", deployment.name_any());
    let set: ReplicaSet = serde_json::from_value(json!({
        "metadata": {"name": set, "labels": template["metadata"]["labels"],
            "ownerReferences": owner("Deployment", deployment.name_any(), deployment.uid())},
        "spec": {"replicas": nodes, "selector": {"matchLabels": template["metadata"]["labels"]}, "template": template},
    }))?;
    let sets: Api<ReplicaSet> = Api::namespaced(client.clone(), &space);
    let set = patiently(|| async { sets.create(&PostParams::default(), &set).await }).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), &space);
    let mut endpoints = Vec::new();
    for node in 0..nodes {
        let mut pod = template.clone();
        pod["metadata"]["name"] = json!(format!("{}-{node}", set.name_any()));
        pod["metadata"]["ownerReferences"] = owner("ReplicaSet", set.name_any(), set.uid());
        pod["spec"]["nodeName"] = json!(format!("machine-{}", (number * nodes + node) / 30));
        let pod: Pod = serde_json::from_value(pod)?;
        let pod = patiently(|| async { pods.create(&PostParams::default(), &pod).await }).await?;
        let ip = nodes::address(number * nodes + node);
        let status = Patch::Merge(json!({"status": running(&ip)}));
        patiently(|| async { pods.patch_status(&pod.name_any(), &PatchParams::default(), &status).await })
            .await?;
        // The API server takes no loopback address as an endpoint, and the operator reads only which pod is ready.
        endpoints.push(json!({"addresses": ["node.example.com"], "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "name": pod.name_any(), "namespace": space, "uid": pod.uid()}}));
    }
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"name": format!("{}-0", names.service()),
            "labels": {"kubernetes.io/service-name": names.service()}},
        "addressType": "FQDN", "endpoints": endpoints, "ports": [{"name": "ws", "port": 4000}],
    }))?;
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), &space);
    patiently(|| async { slices.create(&PostParams::default(), &slice).await }).await?;
    let status = json!({"status": {"observedGeneration": deployment.metadata.generation, "replicas": nodes,
        "updatedReplicas": nodes, "readyReplicas": nodes, "availableReplicas": nodes}});
    let status = Patch::Merge(status);
    let name = deployment.name_any();
    patiently(|| async { deployments.patch_status(&name, &PatchParams::default(), &status).await }).await?;
    Ok(())
}

/// The status of a pod that a kubelet has started.
fn running(ip: &str) -> Value {
    let now = "2026-01-01T00:00:00Z";
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now});
    let conditions = ["Initialized", "PodScheduled", "ContainersReady", "Ready"].map(condition);
    json!({
        "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "startTime": now,
        "conditions": conditions,
        "containerStatuses": [{
            "name": NODE_CONTAINER, "image": "node:1", "imageID": "node:1", "ready": true, "started": true, "restartCount": 0,
            "state": {"running": {"startedAt": now}},
        }],
    })
}
