//! The way from an operator to the API server breaks in every way that we know of: the operator hears of changes
//! again soon after it is mended.
//!
//! The test judges no time: a change that is not handled within the hang guard was never heard of. It prints how long
//! each one took.

use std::time::{Duration, Instant};

use apiserver::{ApiServer, Faults, Identity, OPERATOR_NAMESPACE, Operator, Proxy, Traffic};
use crds::ChannelCluster;
use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

/// A test that has not seen what it waits for by then has failed.
const HANG: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

async fn until<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) -> Duration {
    let started = Instant::now();
    while !look().await {
        assert!(started.elapsed() < HANG, "waited {} s for {what}", HANG.as_secs());
        tokio::time::sleep(POLL).await;
    }
    started.elapsed()
}

/// A server with a ChannelCluster.
struct Scene {
    server: ApiServer,
    port: i32,
}

impl Scene {
    async fn new() -> Self {
        let server = ApiServer::start().await.unwrap();
        let namespaces: Api<Namespace> = Api::all(server.client(Identity::Admin).unwrap());
        let own = serde_json::from_value(json!({"metadata": {"name": OPERATOR_NAMESPACE}})).unwrap();
        namespaces.create(&PostParams::default(), &own).await.unwrap();
        let scene = Self { server, port: 80 };
        let clusters: Api<ChannelCluster> = Api::default_namespaced(scene.client());
        let chat = json!({
            "apiVersion": "channelcluster.io/v1alpha1", "kind": "ChannelCluster", "metadata": {"name": "chat"},
            "spec": {"targetConnections": 100, "rooms": {"maxMembers": 10}, "auth": {"anonymous": true}},
        });
        clusters.create(&PostParams::default(), &serde_json::from_value(chat).unwrap()).await.unwrap();
        scene
    }

    fn client(&self) -> kube::Client {
        self.server.client(Identity::Admin).unwrap()
    }

    /// Asks for another port of the Service.
    async fn change(&mut self) {
        self.port += 1;
        let clusters: Api<ChannelCluster> = Api::default_namespaced(self.client());
        let patch = json!({"spec": {"expose": {"service": {"port": self.port}}}});
        clusters.patch("chat", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Waits until the new port is in the Service.
    async fn handled(&self) -> Duration {
        let services: Api<Service> = Api::default_namespaced(self.client());
        until("the Service to have the new port", || async {
            let service = services.get_opt("chat").await.ok().flatten();
            let ports = service.and_then(|service| service.spec?.ports).unwrap_or_default();
            ports.first().is_some_and(|port| port.port == self.port)
        })
        .await
    }
}

async fn operator(proxy: &Proxy) -> Operator {
    let kubeconfig = proxy.kubeconfig(Identity::Admin).unwrap();
    Operator::start(&kubeconfig, OPERATOR_NAMESPACE, &[]).await.unwrap()
}

async fn says(operator: &Operator, text: &str) -> bool {
    operator.get("/readyz").await.is_ok_and(|(_, said)| said.contains(text))
}

/// How long something is broken before it is mended.
fn outage() -> Duration {
    let seconds = std::env::var("OUTAGE_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(4))
}

#[tokio::test]
async fn whatever_breaks_a_change_is_handled_after_it() {
    let mut scene = Scene::new().await;
    let proxy = scene.server.proxy().await.unwrap();
    let _operator = operator(&proxy).await;
    scene.handled().await;

    proxy.reset();
    scene.change().await;
    println!("after a reset of all connections: {:?}", scene.handled().await);

    let answered = |status| Faults { answer: Some((Traffic::All, status)), ..Faults::default() };
    let silent = |traffic| Faults { silent: Some(traffic), ..Faults::default() };
    let slow = Faults { delay: Duration::from_secs(1), ..Faults::default() };
    let gone = Faults { answer: Some((Traffic::Watches, 410)), ..Faults::default() };
    for faults in [answered(500), answered(429), gone, slow, silent(Traffic::Watches), silent(Traffic::All)] {
        proxy.set(faults);
        if faults.silent.is_none() {
            proxy.reset(); // requests that are under way would hide the fault
        }
        scene.change().await;
        tokio::time::sleep(outage()).await;
        proxy.heal();
        println!("after {faults:?}: {:?}", scene.handled().await);
    }
}

#[tokio::test]
async fn an_api_server_that_was_killed_is_found_again() {
    let mut scene = Scene::new().await;
    let direct = scene.server.kubeconfig(Identity::Admin);
    let _operator = Operator::start(&direct, OPERATOR_NAMESPACE, &[]).await.unwrap();
    scene.handled().await;
    scene.server.kill().await.unwrap();
    tokio::time::sleep(outage()).await;
    scene.server.resume().await.unwrap();
    scene.change().await;
    println!("after a restart: {:?}", scene.handled().await);
}

#[tokio::test]
async fn an_operator_whose_watches_alone_stay_silent_lets_another_lead() {
    let mut scene = Scene::new().await;
    let proxy = scene.server.proxy().await.unwrap();
    let deaf = operator(&proxy).await;
    scene.handled().await;
    until("the first operator to lead", || says(&deaf, "leading")).await;
    let direct = scene.server.kubeconfig(Identity::Admin);
    let other = Operator::start(&direct, OPERATOR_NAMESPACE, &[]).await.unwrap();
    until("the second operator to stand by", || says(&other, "standing by")).await;

    proxy.set(Faults { silent: Some(Traffic::Watches), ..Faults::default() });
    scene.change().await;
    println!("with watches that stay silent: {:?}", scene.handled().await);
    until("the second operator to lead", || says(&other, "leading")).await;
    assert!(deaf.log().contains("a watch has seen nothing for too long"), "{}", deaf.log());
}
