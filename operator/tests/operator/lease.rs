//! Another writer changes the Lease, against an API server in memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::Server;
use operator::lease::{Elector, Fence};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/system/leases/channel-operator";
/// A test that has not seen what it waits for by then has failed.
const HANG: Duration = Duration::from_secs(120);

async fn until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < HANG, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A leader `a` whose lease is there, and which tries to renew it now.
struct Leader {
    server: Server,
    fence: Arc<Fence>,
    /// Ends when it loses the lease, even for a moment.
    lost: AbortOnDropHandle<()>,
    _elector: AbortOnDropHandle<()>,
}

/// Starts one that finds its Lease changed by `change` right before each of its first `count` writes.
fn leader(change: Value, count: u32) -> Leader {
    let server = Server::default();
    let spec = json!({
        "holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z", "leaseTransitions": 3,
    });
    server.put(
        LEASE,
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": spec,
            "metadata": {"name": "channel-operator", "namespace": "system", "resourceVersion": "1"},
        }),
    );
    server.meddle(LEASE, change, count);
    let fence = Arc::new(Fence::default());
    fence.extend(operator::clock::now() + 3_600_000);
    let watched = fence.clone();
    let lost = AbortOnDropHandle::new(tokio::spawn(async move { watched.lost().await }));
    let elector = Elector::new(server.client(), "system", "a".to_owned(), fence.clone());
    let elector = AbortOnDropHandle::new(tokio::spawn(elector.run(CancellationToken::new())));
    Leader { server, fence, lost, _elector: elector }
}

fn label() -> Value {
    json!({"metadata": {"labels": {"somebody": "was here"}}})
}

#[tokio::test]
async fn a_conflict_with_somebody_elses_label_is_no_reason_to_give_the_lease_up() {
    // The Lease changes once, or at each look of one attempt: the lease counts for the time that is left, and the
    // next attempt renews it.
    for count in [1, 3] {
        let leader = leader(label(), count);
        until("the conflicts", || leader.server.meddled()).await;
        until("a renewal", || !leader.server.writes().is_empty()).await;
        assert!(!leader.lost.is_finished() && leader.fence.held(), "{count}");
        let lease = leader.server.get(LEASE);
        assert_eq!(lease["spec"]["leaseTransitions"], 3, "nobody took it over");
        assert_ne!(lease["spec"]["renewTime"], "2026-01-01T00:00:00.000000Z");
        assert_eq!(lease["metadata"]["labels"]["somebody"], "was here", "which stays");
    }
}

#[tokio::test]
async fn a_conflict_with_another_holder_ends_the_term_at_once() {
    let leader = leader(json!({"spec": {"holderIdentity": "b"}}), 1);
    until("the end of the term", || leader.lost.is_finished()).await;
    assert!(!leader.fence.held());
    assert_eq!(leader.server.get(LEASE)["spec"]["holderIdentity"], "b");
    assert!(leader.server.writes().is_empty(), "nothing was written over it");
}

#[tokio::test]
async fn a_lease_that_is_free_is_taken_and_given_back_at_the_end() {
    let given_back = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "channel-operator", "namespace": "system", "resourceVersion": "1"},
        "spec": {"holderIdentity": "", "leaseDurationSeconds": 1, "leaseTransitions": 3},
    });
    // Either nobody ever held the lease, or its last holder gave it back.
    for (before, transitions) in [(None, 0), (Some(given_back), 4)] {
        let server = Server::default();
        if let Some(lease) = before {
            server.put(LEASE, lease);
        }
        let (fence, stop) = (Arc::new(Fence::default()), CancellationToken::new());
        let elector = Elector::new(server.client(), "system", "a".to_owned(), fence.clone());
        let elector = tokio::spawn(elector.run(stop.clone()));
        until("the lease", || fence.held()).await;
        let lease = server.get(LEASE);
        assert_eq!(lease["spec"]["holderIdentity"], "a");
        assert_eq!(lease["spec"]["leaseTransitions"], transitions);
        stop.cancel();
        elector.await.unwrap();
        assert!(!fence.held());
        assert_eq!(server.get(LEASE)["spec"]["holderIdentity"], "", "the next one need not wait");
    }
}

#[tokio::test]
async fn a_lease_of_another_is_left_alone() {
    let server = Server::default();
    let spec = json!({"holderIdentity": "b", "leaseDurationSeconds": 15, "leaseTransitions": 3});
    let meta = json!({"name": "channel-operator", "namespace": "system", "resourceVersion": "1"});
    server.put(
        LEASE,
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}),
    );
    let (fence, stop) = (Arc::new(Fence::default()), CancellationToken::new());
    let elector = Elector::new(server.client(), "system", "a".to_owned(), fence.clone());
    let elector = tokio::spawn(elector.run(stop.clone()));
    let mut asked = 0;
    let started = Instant::now();
    while asked < 2 {
        assert!(started.elapsed() < HANG, "it looks again and again");
        tokio::time::sleep(Duration::from_millis(5)).await;
        asked += server.reads().len();
    }
    stop.cancel();
    elector.await.unwrap();
    assert!(!fence.held() && server.writes().is_empty());
}
