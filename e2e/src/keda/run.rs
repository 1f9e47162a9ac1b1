//! One scale-out and one scale-in that KEDA asks for, while stock clients talk.

use std::{
    collections::BTreeSet,
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use cluster::Instance;

use super::{
    install::{Keda, Source},
    with,
};
use crate::{
    fleet::{Fleet, NodePod, eventually},
    prometheus::Prometheus,
    report,
    scaling::{Load, events, status},
    stock::StockClients,
};

/// Nodes without load and with it: `minReplicaCount` and `maxReplicaCount` of the ScaledObject.
const FEW: usize = 2;
const MANY: usize = 4;
/// Publishes per second, each to 50 members: 3.3 times [`THRESHOLD`].
const RATE: u32 = 40;
/// Writes/s of one node. Clients that come back write less than a tenth of it.
const THRESHOLD: &str = "\"600\"";
/// Stock clients, and how many of them are in a room.
const CLIENTS: usize = 60;
const ROOM: usize = 10;
/// Port of the Prometheus in the client namespace, which nothing else uses.
const PORT: u16 = 9090;
/// Name of the figures in the report.
const NAME: &str = "keda";
/// The manifest of the pages.
const SCALED_OBJECT: &str = include_str!("../../../docs/keda/scaledobject.yaml");
const SPEC: &str = "{targetConnections: 400, rooms: {maxMembers: 150}, auth: {anonymous: true}, \
    nodes: {min: 2, max: 4, replicas: 2, capacity: {connections: 2000, writesPerSecond: 1000}}, \
    autoscaling: {mode: Manual}, drain: {delay: 1s, deadline: 60s, connectionsPerSecond: 50}, \
    expose: {chatPage: true}}";

/// What a run is made from.
#[derive(Debug, Clone)]
pub struct Options {
    /// The running instance.
    pub instance: Instance,
    /// KEDA.
    pub source: Source,
    /// Path of the load generator.
    pub loadgen: String,
}

/// Tells a person what happens.
pub type Say<'a> = &'a dyn Fn(&str);

/// Installs KEDA, lets it scale a fleet out and in again, and removes it.
///
/// # Errors
/// When KEDA does not get the fleet there, or a client was treated otherwise than by a scale-in of the operator's own. All
/// logs are kept then.
pub fn run(options: &Options, say: Say<'_>) -> Result<()> {
    let (keda, took) = timed(|| Keda::install(&options.instance, &options.source))?;
    say(&format!("KEDA serves external metrics after {} s", took.as_secs()));
    let fleet = Fleet::create_on(options.instance.clone(), NAME, SPEC)?;
    let done = drive(&fleet, &options.loadgen, say);
    if done.is_err() {
        let logs = report::directory().join("logs").join(&fleet.namespace);
        options.instance.collect_logs(&logs)?;
        say(&format!("the logs of this failure are in {}", logs.display()));
    }
    // A ScaledObject is deleted with its namespace, which waits until KEDA has let it go.
    drop(fleet);
    drop(keda);
    done
}

fn timed<T>(of: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    Ok((of()?, start.elapsed()))
}

/// Records a figure and says it.
fn figure(say: Say<'_>, key: &str, what: &str, value: Duration) -> Result<()> {
    say(&format!("{:>7.1} s  {what}", value.as_secs_f64()));
    report::record(NAME, key, value.as_secs_f64())
}

fn drive(fleet: &Fleet, loadgen: &str, say: Say<'_>) -> Result<()> {
    fleet.wait_ready(FEW)?;
    let prometheus = &Prometheus::start(&fleet.instance, &fleet.namespace, PORT, "1s")?;
    thread::scope(|scope| {
        let (stop, stopped) = channel();
        scope.spawn(move || prometheus.follow(fleet, &stopped));
        let done = scale(fleet, prometheus, loadgen, say);
        drop(stop);
        done
    })
}

/// Lets KEDA scale the fleet by what the Prometheus has.
fn scale(fleet: &Fleet, prometheus: &Prometheus, loadgen: &str, say: Say<'_>) -> Result<()> {
    let manifest = scaled_object(&fleet.namespace, &prometheus.url)?;
    let (_, took) = eventually("the Prometheus has the writes/s of the nodes", || {
        prometheus.value(&query(&manifest)?).map(Some)
    })?;
    say(&format!("the Prometheus has the writes/s of the nodes after {} s", took.as_secs()));
    fleet.instance.apply(&manifest)?;
    let (_, took) = eventually("the HPA of KEDA follows the metric", || follows(fleet))?;
    figure(say, "applied_to_following", "from the ScaledObject to its HPA that has the metric", took)?;
    let load = scale_out(fleet, loadgen, say)?;
    scale_in(fleet, prometheus, load, say)
}

/// The ScaledObject of the pages, for this fleet and with shorter times.
fn scaled_object(namespace: &str, url: &str) -> Result<String> {
    with(
        SCALED_OBJECT,
        &[
            ("namespace: default", &format!("namespace: {namespace}")),
            ("namespace=\"default\"", &format!("namespace=\"{namespace}\"")),
            ("http://prometheus.monitoring.svc:9090", url),
            ("maxReplicaCount: 10 ", &format!("maxReplicaCount: {MANY} ")),
            ("pollingInterval: 15", "pollingInterval: 5"),
            ("[1m]", "[10s]"),
            ("\"24000\"", THRESHOLD),
            ("stabilizationWindowSeconds: 300", "stabilizationWindowSeconds: 15"),
        ],
    )
}

/// The query of a ScaledObject.
fn query(manifest: &str) -> Result<String> {
    let line = manifest.lines().find_map(|line| line.trim().strip_prefix("query: "));
    line.map(str::to_owned).context("the ScaledObject has a query")
}

fn follows(fleet: &Fleet) -> Result<Option<()>> {
    let hpa = fleet.instance.kubectl_json(["-n", &fleet.namespace, "get", "hpa", "keda-hpa-chat"])?;
    let conditions = hpa["status"]["conditions"].as_array().context("no conditions yet")?;
    for wanted in ["AbleToScale", "ScalingActive"] {
        let found = conditions.iter().find(|condition| condition["type"] == wanted);
        ensure!(found.is_some_and(|found| found["status"] == "True"), "{wanted} in {conditions:?}");
    }
    Ok(Some(()))
}

/// What the HPA has written: `spec.nodes.replicas`.
fn asked(fleet: &Fleet) -> Result<usize> {
    let count =
        fleet.object()?["spec"]["nodes"]["replicas"].as_u64().context("nodes.replicas is a number")?;
    Ok(count.try_into()?)
}

/// The load rises while clients talk: the HPA asks for more nodes, and no client notices.
fn scale_out(fleet: &Fleet, loadgen: &str, say: Say<'_>) -> Result<Load> {
    let mut clients = StockClients::spread(&fleet.instance, &fleet.socket_url()?, CLIENTS, ROOM, FEW)?;
    let (load, began) = (Load::start(fleet, loadgen, RATE)?, Instant::now());
    eventually("the HPA asks for more nodes", || Ok((asked(fleet)? > FEW).then_some(())))?;
    figure(say, "load_to_more_asked", "from the load to more nodes that the HPA asks for", began.elapsed())?;
    fleet.wait_ready(MANY)?;
    figure(say, "load_to_all_ready", &format!("from the load to {MANY} ready nodes"), began.elapsed())?;
    let summary = clients.summary()?;
    ensure!(summary.all_back() && summary.codes().is_empty(), "the scale-out ended connections: {summary:?}");
    clients.stop()?;
    Ok(load)
}

/// The load ends: the HPA asks for fewer nodes, and the operator drains those that go.
fn scale_in(fleet: &Fleet, prometheus: &Prometheus, load: Load, say: Say<'_>) -> Result<()> {
    let mut clients = StockClients::spread(&fleet.instance, &fleet.socket_url()?, CLIENTS, ROOM, MANY)?;
    let (before, _) = fleet.wait_ready(MANY)?;
    let ended = Instant::now();
    load.stop()?;
    eventually("the HPA asks for fewer nodes", || Ok((asked(fleet)? < MANY).then_some(())))?;
    figure(
        say,
        "load_end_to_fewer_asked",
        "from the end of the load to fewer nodes asked for",
        ended.elapsed(),
    )?;
    let (mut watched, began) = (Watched::default(), Instant::now());
    eventually(&format!("{FEW} nodes are left"), || watched.look(fleet, &before))?;
    figure(say, "fewer_asked_to_gone", "from there to the last drained node that is gone", began.elapsed())?;
    watched.holds(fleet, prometheus, &before)?;

    let summary = clients.wait_back()?;
    say(&format!(
        "{} of {} clients were on nodes that went, closed with {:?}; each is back in its room",
        summary.reconnects,
        summary.clients,
        summary.codes()
    ));
    ensure!(summary.reconnects > 0, "nobody was on a node that went: {summary:?}");
    ensure!(summary.codes() == ["1012"], "another close code than that of a drain: {summary:?}");
    let times = watched.asked.len();
    ensure!(
        usize::try_from(summary.most_closes)? <= times,
        "a client moved twice within a scale-in: {summary:?}"
    );
    for (key, what, millis) in [
        ("reconnect_p99", "from a close to being back in the room, 99 of 100", summary.p99_millis),
        ("reconnect_max", "the longest of these", summary.max_millis),
    ] {
        let millis = millis.context("clients that came back have times")?;
        figure(say, key, what, Duration::from_secs_f64(millis / 1_000.0))?;
    }
    clients.stop().map(drop)
}

/// What was seen while nodes went.
#[derive(Default)]
struct Watched {
    /// Pods of the operation that drains.
    drained: BTreeSet<String>,
    /// Node counts below [`MANY`] that the HPA asked for: one for each scale-in.
    asked: BTreeSet<usize>,
    /// Pods that were on their way out before they were drained.
    early: BTreeSet<String>,
}

impl Watched {
    /// Looks once, first at the operation and then at the pods: whatever goes has been in an operation before.
    fn look(&mut self, fleet: &Fleet, before: &[NodePod]) -> Result<Option<()>> {
        self.asked.insert(asked(fleet)?);
        let status = status(fleet)?;
        let leaving = status["operation"]["nodes"].as_array().cloned().unwrap_or_default();
        self.drained.extend(leaving.iter().filter_map(|node| node["pod"].as_str().map(str::to_owned)));
        let pods = fleet.node_pods()?;
        let stays = |one: &NodePod| pods.iter().any(|pod| pod.uid == one.uid && !pod.terminating);
        let gone = before.iter().filter(|pod| !stays(pod)).map(|pod| pod.name.clone());
        self.early.extend(gone.filter(|name| !self.drained.contains(name)));
        ensure!(pods.len() == FEW, "{} pods; {}", pods.len(), status["reason"]);
        Ok(Some(()))
    }

    /// Whether every node that went was drained first, and had no connection left.
    fn holds(&self, fleet: &Fleet, prometheus: &Prometheus, before: &[NodePod]) -> Result<()> {
        ensure!(self.early.is_empty(), "these went before they were drained: {:?}", self.early);
        let left: BTreeSet<_> = fleet.node_pods()?.into_iter().map(|pod| pod.name).collect();
        let names = before.iter().map(|pod| pod.name.clone());
        let gone: BTreeSet<_> = names.filter(|name| !left.contains(name)).collect();
        ensure!(gone == self.drained, "gone: {gone:?}, drained: {:?}", self.drained);
        for reason in ["DrainStarted", "DrainClosing", "DrainEmpty"] {
            ensure!(!events(fleet, reason)?.is_empty(), "no Event {reason}");
        }
        for reason in ["DrainDeadline", "DrainReplanned", "DrainedNodeGone"] {
            let found = events(fleet, reason)?;
            ensure!(found.is_empty(), "Event {reason}: {found:?}");
        }
        for pod in gone {
            let last = format!("last_over_time(channelcluster_node_connections{{pod=\"{pod}\"}}[10m])");
            let connections = prometheus.value(&last)?;
            ensure!(connections < 1.0, "{pod} went with {connections} connections");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_of_the_pages_becomes_one_for_the_test() {
        let manifest = scaled_object("e2e-keda", "http://198.18.0.1:9090").unwrap();
        assert!(
            manifest.contains("namespace: e2e-keda")
                && manifest.contains("serverAddress: http://198.18.0.1:9090")
        );
        assert!(
            query(&manifest)
                .unwrap()
                .starts_with("sum(irate(channelcluster_node_writes_total{namespace=\"e2e-keda\"")
        );
    }
}
