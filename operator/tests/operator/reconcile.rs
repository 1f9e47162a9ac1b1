//! How a reconcile ends, and which objects it leaves alone, against an API server in memory.

use crate::support;
use std::sync::Arc;

use crate::support::{NODES, Server, UID, cluster, watched};
use crds::ChannelCluster;
use kube::core::DeserializeGuard;
use operator::context::Context;
use operator::metrics::{ClusterLabels, ResultLabels};
use operator::pulses::{Pulse, Pulses, STALE_MILLIS};
use operator::reconcile::reconcile;
use operator::shared::Shared;
use serde_json::{Value, json};

fn labels() -> ClusterLabels {
    ClusterLabels { namespace: "default".to_owned(), name: "chat".to_owned() }
}

/// A process that sees `cluster` and nothing else; `more` changes its handles.
fn process(server: &Server, cluster: ChannelCluster, more: impl FnOnce(&mut Shared)) -> Arc<Context> {
    let mut shared = server.shared();
    shared.stores.clusters = watched(vec![DeserializeGuard(Ok(cluster))]);
    more(&mut shared);
    Arc::new(Context::new(shared))
}

/// One reconcile of `cluster`, which has to end with `result`.
async fn ends(context: &Arc<Context>, cluster: ChannelCluster, result: &'static str) {
    reconcile(Arc::new(DeserializeGuard(Ok(cluster))), context.clone()).await.unwrap();
    let count = context.shared.metrics.reconciles.get_or_create(&ResultLabels { result }).get();
    assert_eq!(count, 1, "{result}");
}

/// Paths of the objects that were written, without statuses and Events.
fn objects(server: &Server) -> Vec<String> {
    let writes = server.writes().into_iter().map(|write| write.path);
    writes.filter(|path| !path.ends_with("/status") && !path.contains("/events")).collect()
}

#[tokio::test]
async fn a_spec_that_works_is_applied_and_the_fleet_goes_by_it() {
    let server = Server::default();
    let context = process(&server, cluster(&json!({})), |_| {});
    ends(&context, cluster(&json!({})), "applied").await;
    assert!(objects(&server).contains(&*NODES));
    assert!(
        context.last_valid(&labels(), UID).is_some() && context.last_valid(&labels(), "another").is_none()
    );
}

#[tokio::test]
async fn a_paused_fleet_is_checked_and_nothing_of_it_is_written() {
    let server = Server::default();
    let paused = || cluster(&json!({"paused": true}));
    let context = process(&server, paused(), |_| {});
    ends(&context, paused(), "paused").await;
    assert_eq!(objects(&server), [""; 0]);
    assert!(context.last_valid(&labels(), UID).unwrap().paused);
}

#[tokio::test]
async fn a_spec_that_cannot_work_is_told_of_and_the_last_one_stays() {
    let server = Server::default();
    let context = process(&server, cluster(&json!({})), |_| {});
    ends(&context, cluster(&json!({})), "applied").await;
    let before = objects(&server).len();
    let mut bad = cluster(&json!({"nodes": {"min": 3, "max": 2}}));
    bad.metadata.generation = Some(2);
    ends(&context, bad, "invalid").await;
    assert_eq!(objects(&server).len(), before, "nothing of it is written");
    assert_eq!(context.last_valid(&labels(), UID).unwrap().generation, 1);
    let told =
        |write: &support::Write| write.path.contains("/events") && reason(&write.body) == "InvalidNodeRange";
    assert!(server.writes().iter().any(told));
}

fn reason(event: &Value) -> &str {
    event["reason"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn where_nothing_is_seen_nothing_is_asked() {
    let server = Server::default();
    let pulse = Arc::new(Pulse::new("pods", Some("default")));
    pulse.set_age(STALE_MILLIS + 5_000);
    let context =
        process(&server, cluster(&json!({})), |shared| shared.stores.pulses = Pulses::new(vec![pulse]));
    ends(&context, cluster(&json!({})), "unseen").await;
    assert_eq!((server.reads().len(), server.writes().len()), (0, 0));
    assert!(context.last_valid(&labels(), UID).is_none(), "no loop runs");
}

#[tokio::test]
async fn a_fleet_that_goes_is_let_go() {
    let server = Server::default();
    let context = process(&server, cluster(&json!({})), |_| {});
    ends(&context, cluster(&json!({})), "applied").await;
    let before = objects(&server).len();
    let mut going = cluster(&json!({}));
    going.metadata.deletion_timestamp = Some(operator_core::timestamp::time(1_800_000_000_000));
    reconcile(Arc::new(DeserializeGuard(Ok(going))), context.clone()).await.unwrap();
    assert!(context.last_valid(&labels(), UID).is_none(), "its loop has ended");
    assert_eq!(objects(&server).len(), before);
}
