//! Many fleets at a time: what they cost the operator, and how long it takes.
//!
//! The API server is real. The nodes' ReplicaSets, pods and EndpointSlices are made directly, as the controllers and kubelets
//! of a large cluster would leave them, and one server answers for all nodes on loopback addresses of their own: see
//! [`fleets`] and [`nodes`]. So the operator does all of its work, and nothing else takes the machine's time but the
//! API server with its etcd and the nodes' answers.

mod fleets;
mod foreign;
mod nodes;
mod usage;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cluster::run::Progress;
use kube::Client;

use crate::{ApiServer, Identity, OPERATOR_NAMESPACE, Operator};
use usage::Sample;
pub use usage::Usage;

/// Time for the operator to become quiet after something was done to it.
const CALM: Duration = Duration::from_secs(30);
/// Requests to the API server at a time.
const CONCURRENCY: usize = 24;

/// How large it is to be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The operator's program; none: the one of the tests, which is built.
    pub operator: Option<PathBuf>,
    /// ChannelClusters.
    pub fleets: usize,
    /// Nodes of each.
    pub nodes: usize,
    /// Pods, and as many Secrets, that are nobody's.
    pub foreign: usize,
    /// How long the operator is looked at when nothing happens.
    pub rest: Duration,
    /// Changes of one ChannelCluster that are timed, each time.
    pub changes: usize,
}

/// What was seen.
#[derive(Debug)]
pub struct Report {
    /// From the operator's start until the objects of every ChannelCluster were there.
    pub first: Duration,
    /// From the change of one ChannelCluster to that of its Service, during the former, shortest first.
    pub meanwhile: Vec<Duration>,
    /// The same at rest.
    pub at_rest: Vec<Duration>,
    /// The same with foreign objects beside.
    pub beside_foreign: Vec<Duration>,
    /// The operator without a change of anything.
    pub rest: Usage,
    /// The same with foreign objects beside.
    pub foreign: Usage,
    /// Most memory that the operator had at any time, in bytes of resident pages.
    pub most_memory: u64,
    /// Statistics of nodes that the operator asked for per second at rest.
    pub scrapes: f64,
    /// Writes of a status per second at rest.
    pub status_writes: f64,
}

/// Runs all of it.
///
/// # Errors
/// When the API server or the operator does not do as it should.
pub async fn run(wanted: &Wanted, progress: &Progress) -> Result<Report> {
    usage::raise_nofile()?;
    let server = ApiServer::start().await?;
    server.kubectl(&["create", "namespace", OPERATOR_NAMESPACE], "").await?;
    let client = server.client(Identity::Admin)?;
    let _nodes = nodes::serve().await?;
    progress.say(&format!("making {} ChannelClusters", wanted.fleets));
    let fleets = fleets::make(&client, wanted).await?;

    progress.say("starting the operator");
    let started = Instant::now();
    let kubeconfig = server.kubeconfig(Identity::Admin);
    let operator = match &wanted.operator {
        Some(program) => Operator::start_program(program, &kubeconfig, OPERATOR_NAMESPACE, &[])?,
        None => Operator::start(&kubeconfig, OPERATOR_NAMESPACE, &[]).await?,
    };
    let changing = fleets.change_meanwhile(&client);
    let (first, meanwhile) = tokio::try_join!(fleets.wait_made(&client, started), changing)?;
    progress.say(&format!("every ChannelCluster has its objects after {:.1} s", first.as_secs_f64()));

    progress.say(&format!("making {} pods", wanted.fleets * wanted.nodes));
    fleets.give_nodes(&client).await?;
    fleets.wait_ready(&client).await?;
    progress.say("every fleet is ready; waiting until nothing changes");
    tokio::time::sleep(CALM).await;
    let (rest, scrapes, status_writes) = look(&operator, wanted.rest).await?;
    let at_rest = fleets.changes(&client, wanted.changes).await?;

    progress.say(&format!("making {0} foreign pods and {0} Secrets", wanted.foreign));
    foreign::make(&client, wanted.foreign).await?;
    tokio::time::sleep(CALM).await;
    let (foreign, ..) = look(&operator, wanted.rest).await?;
    let beside_foreign = fleets.changes(&client, wanted.changes).await?;
    let most_memory = usage::most_memory(operator.pid())?;
    Ok(Report {
        first,
        meanwhile,
        at_rest,
        beside_foreign,
        rest,
        foreign,
        most_memory,
        scrapes,
        status_writes,
    })
}

/// The operator's use of the machine over some time, and how many nodes it asked and how many status it wrote per second.
async fn look(operator: &Operator, time: Duration) -> Result<(Usage, f64, f64)> {
    let counters = async || -> Result<(f64, f64)> {
        let (_, text) = operator.get("/metrics").await?;
        let value = |name: &str| -> Result<f64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).context("no such metric")?;
            Ok(line.trim().parse()?)
        };
        Ok((
            value("channelcluster_operator_scrapes_total ")?,
            value("channelcluster_operator_status_writes_total ")?,
        ))
    };
    let (scrapes, writes) = counters().await?;
    let before = Sample::of(operator.pid())?;
    tokio::time::sleep(time).await;
    let usage = Sample::of(operator.pid())?.since(&before);
    let (scrapes_after, writes_after) = counters().await?;
    let per_second = |count: f64| count / usage.time.as_secs_f64();
    Ok((usage, per_second(scrapes_after - scrapes), per_second(writes_after - writes)))
}

/// Does something for each of many, some at a time.
async fn each<T, F: Future<Output = Result<()>>>(
    all: impl IntoIterator<Item = T>,
    act: impl FnMut(T) -> F,
) -> Result<()> {
    use futures::{StreamExt, TryStreamExt};
    futures::stream::iter(all).map(act).buffer_unordered(CONCURRENCY).try_collect().await
}

/// Runs until the API server takes it: it may answer that it is too busy.
async fn patiently<T, F: Future<Output = kube::Result<T>>>(mut act: impl FnMut() -> F) -> Result<T> {
    for _ in 0..20 {
        match act().await {
            Err(kube::Error::Api(status)) if status.code == 429 => {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            other => return Ok(other?),
        }
    }
    anyhow::bail!("the API server is too busy for 10 s")
}

/// Makes a namespace, and says its client.
async fn namespace(client: &Client, name: &str) -> Result<()> {
    let namespace = serde_json::from_value(serde_json::json!({"metadata": {"name": name}}))?;
    let api = kube::Api::<k8s_openapi::api::core::v1::Namespace>::all(client.clone());
    patiently(|| async { api.create(&kube::api::PostParams::default(), &namespace).await }).await?;
    Ok(())
}
