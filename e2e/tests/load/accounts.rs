//! The generator's accounts against a server whose faults are known.

use crate::support::{Double, Faults};
use clap::Parser;
use e2e::load::{Options, Report, run};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn options(server: &Double, flags: &[&str]) -> Options {
    let url = server.url();
    let base = ["loadgen", "--url", &url, "--connections", "200", "--rooms", "8", "--rate", "400"];
    let more = ["--duration", "1.5", "--connect-rate", "2000", "--settle", "20"];
    Options::parse_from(base.into_iter().chain(more).chain(flags.iter().copied()))
}

async fn load(options: Options) -> Report {
    tokio::task::spawn_blocking(move || run(options, &AtomicBool::new(false), &mut |_| ()).unwrap())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_server_loses_nothing() {
    let server = Double::start(Faults::default()).await;
    for workers in ["1", "3"] {
        let report = load(options(&server, &["--workers", workers])).await;
        assert_eq!(report.failures, [""; 0], "{report}");
        assert_eq!(report.counters.joined, 200);
        assert_eq!(report.counters.published, 600);
        assert_eq!(report.expected, 600 * 25, "sender included: {report}");
        assert_eq!(report.counters.received, report.expected);
        assert_eq!(report.latency.count, report.expected);
        assert_eq!(report.counters.interrupted + report.counters.early, 0, "{report}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_room_is_shared_by_all_workers() {
    let server = Double::start(Faults::default()).await;
    let report = load(options(&server, &["--workers", "3", "--rooms", "1", "--rate", "100"])).await;
    assert_eq!(report.failures, [""; 0], "{report}");
    assert_eq!(report.counters.received, 150 * 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_lost_delivery_is_reported() {
    let server = Double::start(Faults { drop_every: Some(100), ..Faults::default() }).await;
    let report = load(options(&server, &["--settle", "5"])).await;
    assert_eq!(server.dropped(), 150);
    assert_eq!(report.counters.lost, 150, "{report}");
    assert_eq!(report.expected, report.counters.received + report.counters.lost);
    assert!(report.failures.iter().any(|failure| failure.contains("150 deliveries lost")), "{report}");
    let report = load(options(&server, &["--settle", "5", "--max-lost", "150"])).await;
    assert_eq!(report.failures, [""; 0], "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicates_are_reported() {
    // 900 does not divide the 15,000 deliveries, so the last one is not repeated: the run would not wait for that
    // repeat.
    let server = Double::start(Faults { repeat_every: Some(900), ..Faults::default() }).await;
    let report = load(options(&server, &[])).await;
    assert_eq!(report.counters.duplicates, 16, "{report}");
    assert_eq!(report.counters.lost, 0, "{report}");
    assert_eq!(report.failures, ["16 deliveries came twice"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_joins_and_connects_fail_the_run() {
    let server = Double::start(Faults { refuse_join_every: Some(50), ..Faults::default() }).await;
    let report = load(options(&server, &[])).await;
    assert_eq!(report.counters.failed_connects, 4, "{report}");
    assert_eq!(report.errors["join refused: room full"], 4, "{report}");
    assert!(!report.failures.is_empty());

    // The socket is bound and does not listen: connections are refused, and nobody else gets the port meanwhile.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = held.local_addr().unwrap();
    let mut to_nobody = options(&server, &["--settle", "0", "--duration", "0"]);
    to_nobody.url = vec![format!("ws://{nobody}/socket/websocket")];
    let report = load(to_nobody).await;
    assert_eq!(report.counters.failed_connects, 200, "{report}");
    assert_eq!(report.counters.joined, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_is_survived_and_accounted_for() {
    let server = Double::start(Faults::default()).await;
    let options = options(&server, &["--reconnect", "--duration", "4", "--workers", "2"]);
    let closer = server.clone();
    let report = tokio::task::spawn_blocking(move || {
        let mut closed = 0;
        let mut progress = |progress: &e2e::load::Progress| {
            if closed == 0 && progress.phase == "publish" && progress.counters.received > 0 {
                closed = closer.close_all(1012);
                assert_eq!(closed, 200);
            }
        };
        run(options, &AtomicBool::new(false), &mut progress).unwrap()
    })
    .await
    .unwrap();
    let counters = &report.counters;
    assert_eq!((counters.disconnects, counters.rejoined, report.stranded), (200, 200, 0), "{report}");
    assert_eq!(report.close_codes.get(&1012), Some(&200), "{report}");
    assert_eq!(report.reconnect.count, 200);
    assert_eq!(counters.owed, counters.received + counters.lost + counters.interrupted, "{report}");
    assert_eq!((counters.lost, counters.duplicates), (0, 0), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_the_run_with_a_report() {
    let server = Double::start(Faults::default()).await;
    let options = options(&server, &["--duration", "600"]);
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let report = tokio::task::spawn_blocking(move || {
        let mut progress = |progress: &e2e::load::Progress| {
            if progress.phase == "publish" {
                flag.store(true, Ordering::Relaxed);
            }
        };
        run(options, &stop, &mut progress).unwrap()
    })
    .await
    .unwrap();
    assert!(report.stopped_early);
    assert_eq!(report.failures, ["stopped before its end"], "{report}");
    assert!(report.counters.received > 0);
}
