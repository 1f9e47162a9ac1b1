//! A second look at a fleet asks the API server only for what may differ, and writes only what does.

use crate::support::{NODES, Server, cluster, valid};
use operator::apply::{Trial, apply};
use operator::fetch::fetch;
use operator::shared::Shared;
use serde_json::{Value, json};

const SECRET: &str = "/api/v1/namespaces/default/secrets/chat-node";
const SERVICE: &str = "/api/v1/namespaces/default/services/chat";
const NATS: &str = "/apis/apps/v1/namespaces/default/deployments/chat-nats";

/// One reconcile of the ChannelCluster with `more` of a spec: what it read, and what it wrote.
async fn reconcile(server: &Server, shared: &Shared, more: &Value) -> (Vec<String>, Vec<String>) {
    let before = server.writes().len();
    server.reads();
    fetch(shared, &cluster(more)).await.unwrap();
    apply(shared, &valid(more), 2, Trial::Known).await.unwrap();
    let writes = server.writes().into_iter().skip(before).map(|write| write.path).collect();
    (server.reads(), writes)
}

/// A server with a fleet, and the memory of a process that wrote all of it and has seen it since.
async fn settled(more: &Value) -> (Server, Shared) {
    let server = Server::default();
    let mut shared = server.shared();
    for _ in 0..2 {
        reconcile(&server, &shared, more).await;
        server.show(&mut shared);
    }
    (server, shared)
}

#[tokio::test]
async fn a_fleet_that_nobody_touched_is_not_written_and_only_its_secret_is_read() {
    let none = json!({});
    let server = Server::default();
    let shared = server.shared();
    for _ in 0..2 {
        reconcile(&server, &shared, &none).await; // this server keeps a new Secret's `stringData` apart
    }
    let (reads, writes) = reconcile(&server, &shared, &none).await;
    assert_eq!((reads.len(), writes.len()), (14, 11), "a process that has seen nothing asks for everything");

    let own = json!({"backplane": {"type": "Nats", "urls": ["nats://nats.example:4222"]}});
    for more in [none, own] {
        let (server, shared) = settled(&more).await;
        let (reads, writes) = reconcile(&server, &shared, &more).await;
        assert_eq!(writes, [""; 0]);
        assert_eq!(reads, [SECRET]);
    }
}

#[tokio::test]
async fn what_somebody_touched_is_written_again_and_nothing_else() {
    let none = json!({});
    let (server, mut shared) = settled(&none).await;
    // Another process takes a field of ours.
    let taken = json!({"metadata": {"managedFields": [{
        "manager": "kubectl", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {"f:type": {}}},
    }]}});
    server.edit(SERVICE, &taken);
    let (_, writes) = reconcile(&server, &shared, &none).await;
    assert_eq!(writes, [""; 0], "the watch has not seen it yet");
    server.show(&mut shared);
    let (reads, writes) = reconcile(&server, &shared, &none).await;
    assert_eq!((reads, writes), (vec![SECRET.to_owned(), SERVICE.to_owned()], vec![SERVICE.to_owned()]));
    server.show(&mut shared);
    assert_eq!(reconcile(&server, &shared, &none).await.1, [""; 0]);

    // One object is deleted.
    server.remove(SERVICE);
    server.show(&mut shared);
    assert_eq!(reconcile(&server, &shared, &none).await.1, [SERVICE]);
    server.show(&mut shared);

    // The Deployment's controller writes its status, which changes no field of ours and not the spec.
    let version = server.get(&NODES)["metadata"]["resourceVersion"].clone();
    server.edit(&NODES, &json!({"metadata": {"generation": 1}, "status": {"replicas": 2}}));
    server.show(&mut shared);
    reconcile(&server, &shared, &none).await;
    server.show(&mut shared);
    server.edit(&NODES, &json!({"status": {"replicas": 3}}));
    server.show(&mut shared);
    assert_ne!(server.get(&NODES)["metadata"]["resourceVersion"], version);
    assert_eq!(reconcile(&server, &shared, &none).await.1, [""; 0]);
}

#[tokio::test]
async fn what_is_asked_for_anew_is_written_and_nothing_else() {
    let (server, mut shared) = settled(&json!({})).await;
    let other = json!({"expose": {"service": {"annotations": {"example.com/a": "b"}}}});
    let (reads, writes) = reconcile(&server, &shared, &other).await;
    assert_eq!((reads, writes), (vec![SECRET.to_owned(), SERVICE.to_owned()], vec![SERVICE.to_owned()]));
    server.show(&mut shared);
    assert_eq!(reconcile(&server, &shared, &other).await.1, [""; 0]);

    // NATS reads its password when it starts.
    server.edit(SECRET, &json!({"data": {"nats-password": "b3RoZXI="}}));
    assert_eq!(reconcile(&server, &shared, &other).await.1, [NATS]);
}

#[tokio::test]
async fn a_write_that_failed_is_made_again_though_the_object_is_as_it_was() {
    let (server, mut shared) = settled(&json!({})).await;
    let other = json!({"expose": {"service": {"annotations": {"example.com/a": "b"}}}});
    server.refuse("/services/chat");
    apply(&shared, &valid(&other), 2, Trial::Known).await.unwrap_err();
    server.refuse("");
    server.show(&mut shared);
    assert_eq!(reconcile(&server, &shared, &json!({})).await.1, [SERVICE], "what came of it is not known");
}
