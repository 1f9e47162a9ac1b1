//! The keys of the nodes' TLS tickets in the Secret of a fleet, as the operator rotates them.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{Server, UID, cluster, env, kept_pods, node_pod, nodes, valid, watched};
use k8s_openapi::ByteString;
use kube::core::DeserializeGuard;
use operator::apply::{Trial, apply};
use operator::clock;
use operator::context::Context;
use operator::metrics::ClusterLabels;
use operator::ours::ApplyError;
use operator::remembered::{Remembered, Values};
use operator::secrets::SecretPoll;
use operator::shared::Reconciled;
use operator_core::names::Names;
use operator_core::validate::{Credentials, Fetched, ValidatedCluster, validate};
use operator_core::view::Outcome;
use serde_json::{Value, json};

const SECRET: &str = "/api/v1/namespaces/default/secrets/chat-node";
const HOUR: u64 = 3_600;

/// A part of a spec with which nodes speak TLS.
fn tls() -> Value {
    json!({"expose": {"tls": {"secretName": "chat-tls"}}})
}

/// The ChannelCluster whose nodes do so, checked.
fn with_tls() -> ValidatedCluster {
    let keys = ["tls.crt", "tls.key"].map(str::to_owned).into();
    let secret = Credentials { keys, labelled: true, servers: None };
    let fetched = Fetched { named_secrets: [("chat-tls".to_owned(), secret)].into(), ..Fetched::default() };
    validate(&cluster(&tls()), &env(), &fetched).unwrap()
}

/// What a reconcile tells when it has applied a spec.
fn applied(cluster: ValidatedCluster) -> Reconciled {
    let cluster = Some(Arc::new(cluster));
    Reconciled { uid: UID.to_owned(), generation: 1, outcome: Outcome::Applied, cluster, waiting: None }
}

fn bytes(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}

/// The value of a key in the stored Secret as text.
fn value(server: &Server, key: &str) -> String {
    let value: ByteString = serde_json::from_value(server.get(SECRET)["data"][key].clone()).unwrap();
    String::from_utf8(value.0).unwrap()
}

/// Puts a Secret of the fleet there with one more value.
fn put(server: &Server, key: &str, text: &str) {
    let owner = json!({"apiVersion": "channelcluster.io/v1alpha1", "kind": "ChannelCluster", "name": "chat", "uid": UID});
    // The last rotation was after anything else.
    let record = json!({
        "manager": "channel-operator-tickets", "operation": "Update", "apiVersion": "v1", "time": "2026-02-01T00:00:00Z",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:tls-ticket-keys": {}}},
    });
    let data: Values = [("admin-token", "t"), ("nats-password", "p"), (key, text)]
        .into_iter()
        .map(|(key, text)| (key.to_owned(), bytes(text)))
        .collect();
    server.put(
        SECRET,
        json!({
            "apiVersion": "v1", "kind": "Secret", "data": data,
            "metadata": {
                "name": "chat-node", "namespace": "default", "uid": "secret", "resourceVersion": "1",
                "creationTimestamp": "2026-01-01T00:00:00Z", "ownerReferences": [owner], "managedFields": [record],
            },
        }),
    );
}

/// What was written into the Secret, and by which manager.
fn writes(server: &Server) -> Vec<(String, Value)> {
    let writes = server.writes().into_iter().filter(|write| write.path == SECRET);
    writes.map(|write| (write.query, write.body["data"].clone())).collect()
}

#[tokio::test]
async fn the_one_key_of_before_becomes_the_first_of_a_list() {
    let server = Server::default();
    let shared = server.shared();
    put(&server, "tls-ticket-key", "old");
    for _ in 0..2 {
        apply(&shared, &with_tls(), 2, Trial::Known).await.unwrap();
        let written = writes(&server);
        assert_eq!(written.len(), 1, "{written:?}");
        assert!(written[0].0.contains("fieldManager=channel-operator-tickets"), "{written:?}");
        assert_eq!(written[0].1.as_object().unwrap().len(), 1);
    }
    assert!(value(&server, "tls-ticket-keys").ends_with(" old\n"));
    assert_eq!(value(&server, "tls-ticket-key"), "old", "nodes of before read it");
}

#[tokio::test]
async fn a_rotation_writes_the_list_and_touches_neither_nats_nor_pods() {
    let server = Server::default();
    let mut shared = server.shared();
    let old = json!({"metadata": {"creationTimestamp": "2026-01-02T00:00:00Z"}});
    shared.stores.pods = kept_pods(vec![node_pod("a", &old)]);
    let now = clock::now() / 1_000;
    put(&server, "tls-ticket-keys", &format!("{} a\n", now - HOUR));
    apply(&shared, &with_tls(), 2, Trial::Known).await.unwrap();
    assert_eq!(writes(&server), []);
    let nats = "/apis/apps/v1/namespaces/default/deployments/chat-nats";
    let before = server.get(nats)["spec"]["template"].clone();

    put(&server, "tls-ticket-keys", &format!("{} a\n", now - 6 * 24 * HOUR));
    apply(&shared, &with_tls(), 2, Trial::Known).await.unwrap();
    let list = value(&server, "tls-ticket-keys");
    let lines: Vec<_> = list.lines().map(|line| line.split_once(' ').unwrap()).collect();
    assert_eq!((lines.len(), lines[0].1, lines[1].1.len()), (2, "a", 32), "{list}");
    let ahead = lines[1].0.parse::<u64>().unwrap() - now;
    assert!((24 * HOUR..24 * HOUR + 600).contains(&ahead), "{ahead} s");
    assert_eq!((value(&server, "admin-token"), value(&server, "nats-password")), ("t".into(), "p".into()));
    assert_eq!(server.get(nats)["spec"]["template"], before);
    assert!(!server.writes().iter().any(|write| write.path.contains("/pods/")), "no kubelet is woken");
}

#[tokio::test]
async fn what_somebody_writes_at_that_moment_is_not_lost() {
    let server = Server::default();
    let shared = server.shared();
    put(&server, "tls-ticket-keys", "1 a\n");
    server.meddle(SECRET, json!({"data": {"nats-password": bytes("other")}}), 1);
    let error = apply(&shared, &with_tls(), 2, Trial::Known).await.unwrap_err();
    assert!(matches!(&error, ApplyError::Api { what, .. } if what == "Secret chat-node"), "{error}");
    assert_eq!(value(&server, "tls-ticket-keys"), "1 a\n");
    apply(&shared, &with_tls(), 2, Trial::Known).await.unwrap();
    assert!(value(&server, "tls-ticket-keys").starts_with("1 a\n"));
    assert_eq!((writes(&server).len(), value(&server, "nats-password")), (1, "other".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_fleet_whose_keys_are_due_is_reconciled() {
    let server = Server::default();
    let object = cluster(&tls());
    let path = "/apis/channelcluster.io/v1alpha1/namespaces/default/channelclusters/chat";
    server.put(path, serde_json::to_value(&object).unwrap());
    put(&server, "tls-ticket-keys", "1 a\n");
    let mut shared = server.shared();
    shared.stores.clusters = watched(vec![DeserializeGuard(Ok(object))]);
    shared.secrets.put(UID, &[("tls-ticket-keys".to_owned(), bytes("1 a\n"))].into(), None);
    let pending = shared.pending.clone();
    let context = Context::new(shared);
    let labels = ClusterLabels { namespace: "default".to_owned(), name: "chat".to_owned() };
    context.tell(&labels, applied(with_tls()));
    for _ in 0..1_000 {
        if pending.pop().is_some_and(|due| due.name == "chat") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("it never came");
}

#[tokio::test]
async fn a_refused_write_stops_nothing_and_is_tried_again_after_a_pause() {
    let server = Server::default();
    let shared = server.shared();
    put(&server, "tls-ticket-keys", "1 a\n");
    server.refuse("/secrets/chat-node");
    apply(&shared, &with_tls(), 2, Trial::Known).await.unwrap();
    server.get(&nodes(&with_tls()));
    assert_eq!(writes(&server), []);
    let (mut poll, names, now) = (SecretPoll::default(), Names::new("chat"), clock::now());
    let told = applied(with_tls());
    for second in [0, 6, 12] {
        let due = poll.is_due(&shared, ("default", &told), &names, now + second * 1_000).await;
        assert!(!due, "second {second}");
    }
    server.refuse("");
    apply(&shared, &with_tls(), 2, Trial::Known).await.unwrap();
    assert_eq!(writes(&server), [], "the pause goes on");
    assert!(poll.is_due(&shared, ("default", &told), &names, now + 610_000).await);
    shared.secrets.refuse_tickets(UID, "a pause that is over", 0);
    apply(&shared, &with_tls(), 2, Trial::Known).await.unwrap();
    assert_eq!(writes(&server).len(), 1);
}

#[test]
fn a_refusal_is_new_once() {
    let secrets = Remembered::default();
    let refused = |why| secrets.refuse_tickets(UID, why, 5);
    assert_eq!(["immutable", "immutable", "forbidden"].map(refused), [true, false, true]);
    assert_eq!((secrets.may_write_tickets(UID, 4), secrets.may_write_tickets(UID, 5)), (false, true));
    assert!(secrets.get(UID).is_none(), "no content is known by that");
    secrets.take_tickets(UID);
    assert!(secrets.may_write_tickets(UID, 4) && secrets.refuse_tickets(UID, "forbidden", 5));
}

#[tokio::test]
async fn what_a_rotation_writes_brings_no_further_reconcile_and_what_others_write_does() {
    let server = Server::default();
    let shared = server.shared();
    put(&server, "tls-ticket-keys", &format!("{} a\n", clock::now() / 1_000));
    let (mut poll, names, now) = (SecretPoll::default(), Names::new("chat"), clock::now());
    let told = applied(with_tls());
    apply(&shared, &with_tls(), 2, Trial::Known).await.unwrap();
    assert!(!poll.is_due(&shared, ("default", &told), &names, now).await);
    server.edit(SECRET, &json!({"data": {"tls-ticket-keys": bytes("new")}}));
    assert!(poll.is_due(&shared, ("default", &told), &names, now + 6_000).await);
    apply(&shared, &with_tls(), 2, Trial::Known).await.unwrap();
    assert_eq!(writes(&server).len(), 1, "the list is made anew");
    assert!(!value(&server, "tls-ticket-keys").contains(" a\n"));
    assert!(!poll.is_due(&shared, ("default", &told), &names, now + 12_000).await);
    server.edit(SECRET, &json!({"data": {"nats-password": bytes("other")}}));
    assert!(poll.is_due(&shared, ("default", &told), &names, now + 18_000).await);
}

#[tokio::test]
async fn nothing_is_written_for_nodes_that_do_not_speak_tls() {
    let server = Server::default();
    let shared = server.shared();
    for (key, text) in
        [("tls-ticket-keys", "1 a\n"), ("tls-ticket-keys", "broken"), ("tls-ticket-key", "old")]
    {
        put(&server, key, text);
        apply(&shared, &valid(&json!({})), 2, Trial::Known).await.unwrap();
        let told = applied(valid(&json!({})));
        let names = Names::new("chat");
        assert!(!SecretPoll::default().is_due(&shared, ("default", &told), &names, clock::now()).await);
    }
    assert_eq!(writes(&server), []);
}
