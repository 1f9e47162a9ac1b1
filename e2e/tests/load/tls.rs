//! The generator over TLS, against tokio-rustls.

use crate::support::{Double, tls_data};
use clap::Parser;
use e2e::load::{Options, Report, run};
use std::sync::atomic::AtomicBool;

async fn load(server: &Double, ca: &str, flags: &str) -> Report {
    let (url, ca) = (server.url(), tls_data(ca).display().to_string());
    let base = ["loadgen", "--url", &url, "--tls-ca", &ca, "--connections", "60", "--room-size", "20"];
    let options = Options::parse_from(base.into_iter().chain(flags.split_whitespace()));
    tokio::task::spawn_blocking(move || run(options, &AtomicBool::new(false), &mut |_| ()).unwrap())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_over_tls_are_all_accounted_for() {
    let server = Double::start_with_tls("one").await;
    // A payload that is longer than a record, and one that several fit in.
    for payload in ["40000", "128"] {
        let flags = format!("--rate 50 --duration 1 --workers 2 --heartbeat 0.5 --payload {payload}");
        let report = load(&server, "ca.crt", &flags).await;
        assert_eq!(report.failures, [""; 0], "{report}");
        let counters = &report.counters;
        assert_eq!((counters.joined, counters.received, counters.lost), (60, 50 * 20, 0), "{report}");
        assert!(counters.bytes_in > 50 * 20 * payload.parse::<u64>().unwrap(), "{report}");
        assert_eq!((counters.tls_resumed, server.resumed()), (0, 0), "without a flag each handshake is full");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_come_back_over_tls_and_resume_when_asked() {
    let server = Double::start_with_tls("one").await;
    let report = load(&server, "ca.crt", "--scenario storm --repeats 2 --duration 1").await;
    assert_eq!(report.failures, [""; 0], "{report}");
    assert_eq!((report.counters.rejoined, server.resumed()), (120, 0), "{report}");
    let flags = "--scenario churn --churn-rate 50 --duration 2 --tls-resume";
    let report = load(&server, "ca.crt", flags).await;
    assert_eq!(report.failures, [""; 0], "{report}");
    assert!(report.counters.cut > 50 && report.counters.tls_resumed > 50, "{report}");
    assert_eq!(report.counters.tls_resumed, server.resumed(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_the_ca_does_not_vouch_for_is_refused() {
    let server = Double::start_with_tls("one").await;
    let report = load(&server, "other-ca.crt", "--scenario idle --duration 0.2").await;
    assert_eq!((report.counters.failed_connects, report.counters.joined), (60, 0), "{report}");
    let (error, count) = report.errors.first_key_value().unwrap();
    assert!(error.contains("tls: ") && error.contains("UnknownIssuer") && *count == 60, "{report}");
}
