//! The chart is installed a second time: the second operator stands back and says so, and the fleets stay with the
//! first.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use cluster::{Instance, run};
use e2e::{
    fleet::{
        Fleet, eventually,
        pair::{PORT, Pair, spec},
    },
    report::record,
    scaling::OPERATOR_NAMESPACE,
};
use serde_json::Value;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/channelcluster");
const NAMESPACE: &str = "e2e-second-operator";
const PERIOD: Duration = Duration::from_millis(500);
/// Two operators that both led overwrote each other's objects three times a second, so this time shows it.
const WATCHED: Duration = Duration::from_secs(20);

/// A second release, which is removed when the value is dropped.
struct Second<'a>(&'a Instance);

impl<'a> Second<'a> {
    /// Installs two pods of the same images as the first release, without waiting: the release is not to become
    /// Ready.
    fn install(instance: &'a Instance) -> Result<Self> {
        let second = Self(instance);
        let first =
            instance.kubectl_json(["-n", OPERATOR_NAMESPACE, "get", "deployment", "channel-operator"])?;
        let image =
            first["spec"]["template"]["spec"]["containers"][0]["image"].as_str().context("no image")?;
        let image = format!("operator.image={image}");
        let mut helm = second.helm()?;
        helm.args(["install", "channelcluster", CHART, "--namespace", NAMESPACE, "--create-namespace"]);
        run::output(helm.args(["--set", "crds.install=false", "--set-string", &image]))?;
        Ok(second)
    }

    fn helm(&self) -> Result<Command> {
        let mut helm = cluster::helm(&run::Progress::new())?;
        helm.arg("--kubeconfig").arg(self.0.kubeconfig());
        Ok(helm)
    }

    fn remove(&self) -> Result<()> {
        run::output(self.helm()?.args(["uninstall", "channelcluster", "--namespace", NAMESPACE]))?;
        self.0.kubectl(["delete", "namespace", NAMESPACE, "--wait=true", "--timeout=120s"]).map(drop)
    }
}

impl Drop for Second<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("the second operator stays behind: {error:#}");
        }
    }
}

/// How often the objects of the fleet were written.
fn versions(fleet: &Fleet) -> Vec<Value> {
    let objects = ["networkpolicy", "deployment", "service", "configmap"];
    let list = |kind: &str| {
        fleet.instance.kubectl_json([
            "-n",
            &fleet.namespace,
            "get",
            kind,
            "-l",
            "channelcluster.io/cluster=chat",
        ])
    };
    let names = |list: Value| -> Vec<Value> {
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items.iter().map(|item| item["metadata"]["managedFields"].clone()).collect()
    };
    objects.iter().flat_map(|kind| names(list(kind).unwrap())).collect()
}

#[test]
fn a_second_installation_stands_back_and_says_so() {
    let pair = Pair::create_alone("two-operators").unwrap();
    let clients = pair.talk(&pair.node(), PERIOD, 1).unwrap();
    let fleet = &pair.fleet;

    let second = Second::install(&fleet.instance).unwrap();
    let (_, elapsed) = eventually("an Event says that the second stands back", || {
        let events = fleet.instance.kubectl_json(["-n", "kube-system", "get", "events"])?;
        let said = events["items"].as_array().context("no list")?;
        let said = said.iter().any(|event| {
            event["reason"] == "StandingBack"
                && event["message"].as_str().is_some_and(|text| text.contains(OPERATOR_NAMESPACE))
        });
        ensure!(said, "no Event StandingBack");
        Ok(Some(()))
    })
    .unwrap();
    record("two_installations", "installed_to_said", elapsed.as_secs_f64()).unwrap();

    let written = versions(fleet);
    assert!(!written.is_empty());
    let end = Instant::now() + WATCHED;
    while Instant::now() < end {
        assert_eq!(written, versions(fleet), "nobody writes what is as it is to be");
        std::thread::sleep(Duration::from_secs(1));
    }
    fleet.apply_spec(&spec(PORT + 1)).unwrap();
    pair.wait_port(PORT + 1).unwrap();
    let pods = fleet.instance.kubectl_json(["-n", NAMESPACE, "get", "pods"]).unwrap();
    let is_ready = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array().unwrap();
        conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    // The second pod waits for the lease of its own installation, as always.
    let ready = pods["items"].as_array().unwrap().iter().filter(|pod| is_ready(pod)).count();
    assert!(ready < 2, "who would lead and stands back is not Ready");
    drop(second);
    fleet.apply_spec(&spec(PORT + 2)).unwrap();
    pair.wait_port(PORT + 2).unwrap();
    pair.undisturbed(clients).unwrap();
}
