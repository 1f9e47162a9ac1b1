//! Each scenario of the generator against a server in this process.

use crate::support::{Double, Faults};
use clap::Parser;
use e2e::load::{Options, Report, run};
use std::sync::atomic::AtomicBool;

async fn load(server: &Double, flags: &str) -> Report {
    let url = server.url();
    let base = ["loadgen", "--url", &url, "--connections", "200", "--room-size", "25", "--settle", "20"];
    let rate = ["--connect-rate", "2000"];
    let options = Options::parse_from(base.into_iter().chain(rate).chain(flags.split_whitespace()));
    tokio::task::spawn_blocking(move || run(options, &AtomicBool::new(false), &mut |_| ()).unwrap())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_are_held() {
    let server = Double::start(Faults::default()).await;
    let own = std::process::id();
    let flags = format!("--scenario idle --duration 1 --heartbeat 0.5 --server-pid {own}");
    let report = load(&server, &flags).await;
    assert_eq!(report.failures, [""; 0], "{report}");
    assert_eq!((report.counters.joined_at_end, report.counters.published), (200, 0));
    assert!(server.heartbeats() >= 200, "{report}");
    let memory = report.server.unwrap();
    assert!(memory.before.unwrap().pss_bytes > 0 && memory.ramped.unwrap().descriptors > 0);
    assert!(memory.pss_bytes_per_connection.is_some() && memory.cpu_us_per_connect.unwrap() > 0.0);
    let bounded = load(&server, &format!("{flags} --max-bytes-per-connection=-1000000000")).await;
    assert_eq!(bounded.failures.len(), 1, "{bounded}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_highest_rate_is_searched_on_one_set_of_connections() {
    let server = Double::start(Faults::default()).await;
    let flags = "--scenario max --rate 20 --max-rate 80 --step 0.3 --max-p99-ms 60000 --settle 60";
    let report = load(&server, flags).await;
    assert_eq!(report.failures, [""; 0], "{report}");
    let best = report.max.clone().unwrap();
    assert!(best.passed && best.deliveries_per_second > 0.0, "{report}");
    assert!(report.steps.iter().all(|step| step.owed >= 6 * 25), "{report}");
    assert_eq!(best.publishes_per_second, 80.0, "{report}");
    assert_eq!(report.connect.count, 200, "nobody connects again: {report}");
    assert_eq!(report.counters.owed, report.counters.received + report.counters.lost, "{report}");
    // No server can keep this bound.
    let report = load(&server, &format!("{flags} --max-p99-ms 0.0001 --rate 2")).await;
    assert_eq!(report.failures, ["no rate passed"], "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_waits_for_the_last_receiver() {
    let server = Double::start(Faults::default()).await;
    for workers in [1, 3] {
        let report = load(&server, &format!("--scenario burst --repeats 3 --workers {workers}")).await;
        assert_eq!(report.failures, [""; 0], "{report}");
        let bursts = report.bursts.unwrap();
        assert_eq!(bursts.each.len(), 3);
        assert!(bursts.each.iter().all(|burst| (burst.owed, burst.received) == (200, 200)), "{bursts:?}");
        assert!(bursts.each.iter().all(|burst| burst.p50_ms <= burst.last_ms), "{bursts:?}");
    }
    let server = Double::start(Faults { drop_every: Some(150), ..Faults::default() }).await;
    let report = load(&server, "--scenario burst --repeats 1 --settle 1 --max-lost 9").await;
    assert_eq!(report.failures, ["1 bursts did not reach everybody in time"], "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn churn_loses_nothing_that_is_owed() {
    let server = Double::start(Faults::default()).await;
    let report = load(&server, "--scenario churn --churn-rate 100 --duration 2 --workers 2").await;
    let counters = &report.counters;
    assert_eq!(report.failures, [""; 0], "{report}");
    assert!(counters.cut >= 150 && counters.rejoined == counters.cut, "{report}");
    assert_eq!((counters.disconnects, report.stranded), (0, 0), "{report}");
    assert_eq!(counters.owed, counters.received + counters.interrupted, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warm_up_is_counted_but_not_measured() {
    let server = Double::start(Faults::default()).await;
    let own = std::process::id();
    let flags = format!("--rate 100 --warmup 1.5 --duration 0.5 --workers 2 --server-pid {own}");
    let report = load(&server, &flags).await;
    assert_eq!(report.failures, [""; 0], "{report}");
    assert_eq!((report.counters.published, report.counters.received), (200, 200 * 25), "{report}");
    assert_eq!((report.latency.count, report.generator_lag.count), (50 * 25, 50), "{report}");
    assert!(report.timeline.iter().any(|second| second.phase == "warmup"), "{:?}", report.timeline);
    let burst = load(&server, "--scenario burst --rate 20 --warmup 0.5 --repeats 2").await;
    assert_eq!(burst.failures, [""; 0], "{burst}");
    assert!(burst.bursts.unwrap().each.iter().all(|burst| burst.owed == 200), "its room only");
    let usage = report.server.unwrap().usage.unwrap();
    let each = report.cpu_us_per_delivery.unwrap();
    assert!((each - usage.cpu_seconds * 1e6 / (50.0 * 25.0)).abs() < 1e-6, "{each} {usage:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_connections_do_not_count_among_the_healthy() {
    let server = Double::start(Faults::default()).await;
    let report = load(&server, "--scenario slow --slow-fraction 0.2 --duration 1").await;
    let counters = &report.counters;
    assert_eq!(report.failures, [""; 0], "{report}");
    assert_eq!((counters.joined, counters.slow_joined), (160, 40), "{report}");
    assert_eq!(counters.received, 100 * 20, "{report}");
    assert_eq!(counters.slow_received, 100 * 5, "once they read again: {report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_come_back_after_a_storm() {
    let server = Double::start(Faults::default()).await;
    let report = load(&server, "--scenario storm --duration 1 --repeats 2 --workers 2").await;
    assert_eq!(report.failures, [""; 0], "{report}");
    assert_eq!((report.counters.cut, report.counters.rejoined), (400, 400), "{report}");
    assert_eq!(report.storms.len(), 2);
    assert!(report.storms.iter().all(|storm| storm.away == 0 && storm.back_seconds > 0.0), "{report}");
    assert_eq!(report.counters.received, 10 * 25, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guide_takes_samples() {
    let server = Double::start(Faults::default()).await;
    let own = std::process::id();
    let report = load(
        &server,
        &format!(
            "--scenario guide --batch 50 --batch-pause 0.1 --hold 0.03 --sample-interval 0.4 --server-pid {own}"
        ),
    )
    .await;
    assert_eq!(report.failures, [""; 0], "{report}");
    assert_eq!(report.asked.rate, 8.0, "a delivery per second and connection");
    assert!(report.samples.len() >= 4, "{:?}", report.samples);
    let last = report.samples.last().unwrap();
    assert_eq!(last.joined, 200);
    assert!(last.server.unwrap().pss_bytes > 0 && last.available_bytes > 0);
    assert_eq!(report.samples.iter().map(|sample| sample.deliveries).sum::<u64>(), report.counters.received);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_sends_its_publishes_together() {
    let server = Double::start(Faults::default()).await;
    let report = load(&server, "--burst-size 4 --rate 200 --duration 1").await;
    assert_eq!(report.failures, [""; 0], "{report}");
    assert_eq!(report.counters.published, 200);
    assert_eq!(report.counters.received, 200 * 25);
}
