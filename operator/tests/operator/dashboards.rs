//! The panels that show the operator's metrics, asked of a real Prometheus that scrapes them.

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::routing::get;
use operator::metrics::{ClusterLabels, Metrics, ResultLabels, RuleLabels};
use operator::pulses::{Pulse, Pulses};
use serde_json::json;

use crate::panels::{Prometheus, queries};

/// Metrics of a leader that keeps one fleet.
fn metrics() -> Metrics {
    let metrics = Metrics::default();
    let cluster = ClusterLabels { namespace: "default".to_owned(), name: "chat".to_owned() };
    metrics.reconciles.get_or_create(&ResultLabels { result: "applied" }).inc();
    metrics.desired.get_or_create(&cluster).set(3);
    metrics.ready.get_or_create(&cluster).set(2);
    metrics.writes.get_or_create(&cluster).set(1.0);
    metrics.unknown.get_or_create(&cluster).set(1);
    metrics.watches(Some(&Pulses::new(vec![Arc::new(Pulse::new("pods", None))])));
    metrics.decisions.get_or_create(&RuleLabels { rule: "MinNodes" }).inc();
    metrics.leader.set(1);
    metrics
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_about_the_operator_has_samples() {
    let metrics = Arc::new(metrics());
    let answer = move || async move {
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        ([(header::CONTENT_TYPE, kind)], metrics.encode().unwrap())
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/metrics", get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let mut all = queries("operator");
    assert!(all.iter().all(|query| query.expr.contains("channelcluster_operator_")));
    all.extend(queries("fleet").into_iter().filter(|query| query.expr.contains("channelcluster_operator_")));
    let asked = tokio::task::spawn_blocking(move || {
        let labels = json!({"namespace": "channelcluster-system", "pod": "channel-operator-0"});
        let prometheus = Prometheus::start("operator-panels", &[(address, labels)]);
        prometheus.until_all_have_samples(&all, &[]);
        // Labels of a sample that name a ChannelCluster are kept: the operator's own namespace takes none of their places.
        prometheus.query("channelcluster_operator_desired_nodes").unwrap()
    });
    let desired = asked.await.unwrap();
    assert_eq!(desired[0]["metric"]["namespace"], "default", "{desired:?}");
}
