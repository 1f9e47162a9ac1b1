//! A Prometheus is the source of the load: the fleet follows what it scraped. When it is gone the fleet is left as it is, and
//! the status says so; when it is back the fleet shrinks.

use std::time::{Duration, Instant};

use e2e::fleet::{Fleet, eventually};
use e2e::prometheus::Prometheus;
use e2e::report::record;
use e2e::scaling::{FOR_FOUR_NODES, Load, SMALL_STEPS, replicas, status};

/// Time between two scrapes.
const INTERVAL: &str = "5s";
/// As in [`super::metric_loss`], and two scrape intervals, for which the last figures count.
const WATCHED: Duration = Duration::from_secs(50);

#[test]
fn the_node_count_follows_a_prometheus_and_stays_when_it_is_gone() {
    // Another run may have left one.
    let port = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    // These go into the pods: were they set later, the nodes would be replaced while the test counts them.
    let drain = "drain: {delay: 1s, deadline: 30s}";
    let fleet = Fleet::create("prometheus-source", &format!("{{{SMALL_STEPS}, {drain}}}")).unwrap();
    fleet.wait_ready(2).unwrap();
    let start = || Prometheus::start(&fleet.instance, &fleet.namespace, port, INTERVAL).unwrap();
    let mut prometheus = start();
    let source = format!(
        "metrics: {{source: Prometheus, prometheus: {{url: '{}', scrapeInterval: {INTERVAL}}}}}",
        prometheus.url
    );
    let spec = SMALL_STEPS.replacen("autoscaling: {", &format!("autoscaling: {{{source}, "), 1);
    fleet.apply_spec(&format!("{{{spec}, {drain}}}")).unwrap();
    prometheus.ensure_runs().unwrap();
    let fresh = |wanted: &str| {
        eventually(&format!("MetricsFresh is {wanted}"), || {
            prometheus.tell(&fleet)?;
            let (fresh, message) = fleet.condition("MetricsFresh")?;
            anyhow::ensure!(fresh == wanted, "{fresh}: {message}");
            Ok(Some(message))
        })
        .unwrap()
    };
    fresh("True");

    let load = Load::start(&fleet, env!("CARGO_BIN_EXE_loadgen"), FOR_FOUR_NODES).unwrap();
    let begun = Instant::now();
    eventually("four nodes are Ready", || {
        prometheus.tell(&fleet)?;
        // A rollout's surge may be Ready too, so pods alone do not say that four were decided on.
        let decided = replicas(&fleet)?;
        let ready = fleet.node_pods()?.iter().filter(|pod| pod.ready).count();
        anyhow::ensure!((decided, ready) == (4, 4), "{ready} of {decided}; {}", status(&fleet)?["decisions"]);
        Ok(Some(()))
    })
    .unwrap();
    record("prometheus_source", "load_to_all_ready", begun.elapsed().as_secs_f64()).unwrap();
    fresh("True");

    let address = prometheus.url.replace("http://", "");
    drop(prometheus);
    load.stop().unwrap();
    let (message, elapsed) = eventually("the status says that the Prometheus is gone", || {
        let (fresh, message) = fleet.condition("MetricsFresh")?;
        anyhow::ensure!(fresh == "False", "{fresh}: {message}");
        Ok(Some(message))
    })
    .unwrap();
    assert!(message.contains(&address), "it names the server: {message}");
    record("prometheus_source", "gone_to_said", elapsed.as_secs_f64()).unwrap();
    let end = Instant::now() + WATCHED;
    while Instant::now() < end {
        assert_eq!(replicas(&fleet).unwrap(), 4, "{}", status(&fleet).unwrap());
        std::thread::sleep(Duration::from_millis(500));
    }

    let prometheus = start();
    let (_, elapsed) = eventually("the fleet is small again", || {
        prometheus.tell(&fleet)?;
        let now = replicas(&fleet)?;
        anyhow::ensure!(now == 2, "{now} replicas; {}", status(&fleet)?["decisions"]);
        Ok(Some(()))
    })
    .unwrap();
    record("prometheus_source", "back_to_two_replicas", elapsed.as_secs_f64()).unwrap();
}
