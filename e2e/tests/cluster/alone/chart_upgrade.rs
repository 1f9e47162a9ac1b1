//! (j) The chart is upgraded with other values, and rolled back: other operators run each time, and no client notices.

use std::path::Path;

use cluster::run;
use e2e::fleet::{
    Fleet,
    crowd::{Crowd, NODES, spec},
    eventually,
};
use e2e::scaling::{OPERATOR_NAMESPACE, leader, operators};

const RELEASE: &str = "channelcluster";
/// What the operators' Deployment takes at most until all of its pods are others.
const WAIT: &str = "5m";

/// Runs Helm on the instance; what it prints.
fn helm(fleet: &Fleet, args: &[&str]) -> String {
    let mut command = cluster::helm(&run::Progress::new()).unwrap();
    command.arg("--kubeconfig").arg(fleet.instance.kubeconfig()).args(["--namespace", OPERATOR_NAMESPACE]);
    run::output(command.args(args)).unwrap()
}

/// The revision of the release.
fn revision(fleet: &Fleet) -> u64 {
    let listed = helm(fleet, &["list", "--output", "json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let ours = listed.as_array().unwrap().iter().find(|release| release["name"] == RELEASE).unwrap();
    ours["revision"].as_str().unwrap().parse().unwrap()
}

/// The operators, once one of them leads.
fn led(fleet: &Fleet) -> Vec<String> {
    let (uids, _) = eventually("an operator leads", || {
        let all = operators(&fleet.instance)?;
        let leader = leader(&fleet.instance)?;
        let there = all.iter().any(|pod| pod.name == leader);
        Ok(there.then(|| all.into_iter().map(|pod| pod.uid).collect()))
    })
    .unwrap();
    uids
}

#[test]
fn an_upgrade_of_the_chart_and_its_rollback_keep_every_socket() {
    let fleet =
        Fleet::create_alone("chart-upgrade", &spec("podLabels: {release: first}", "deadline: 60s")).unwrap();
    let (nodes, _) = fleet.wait_ready(NODES).unwrap();
    let crowd = Crowd::join(&fleet, NODES).unwrap();
    let (first, operators) = (revision(&fleet), led(&fleet));

    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("charts").join(RELEASE);
    let values = [
        "--reuse-values",
        "--set",
        "operator.replicas=3,operator.log=debug,operator.podLabels.release=second",
    ];
    let upgrade = ["upgrade", RELEASE, chart.to_str().unwrap(), "--wait", "--timeout", WAIT];
    helm(&fleet, &[&upgrade[..], &values[..]].concat());
    let upgraded = led(&fleet);
    assert!(upgraded.len() == 3 && upgraded.iter().all(|uid| !operators.contains(uid)), "{upgraded:?}");
    assert_eq!(fleet.wait_ready(NODES).unwrap().0, nodes, "no pod is replaced");

    helm(&fleet, &["rollback", RELEASE, &first.to_string(), "--wait", "--timeout", WAIT]);
    let back = led(&fleet);
    assert!(back.len() == operators.len() && back.iter().all(|uid| !upgraded.contains(uid)), "{back:?}");
    assert_eq!(fleet.wait_ready(NODES).unwrap().0, nodes, "no pod is replaced");
    assert_eq!(revision(&fleet), first + 2, "an upgrade and a rollback");

    crowd.end("chart_upgrade").unwrap().assert_undisturbed();
}
