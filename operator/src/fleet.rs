//! The loop of one ChannelCluster: scrape -> decide -> record in the status -> act. It is the only writer of the
//! status, and ends when the ChannelCluster is gone.
//!
//! It looks each 2 s, and each 5 s when a fleet is calm that is large, or one of very many. With 15 s between looks the operator could miss a
//! burst for longer than the time within which it should answer it; a scrape of 5,000 nodes costs a fifth of a core
//! at most.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crds::{ChannelCluster, ChannelClusterStatus};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use operator_core::asked::Asked;
use operator_core::conditions::first_sight;
use operator_core::contest::Contest;
use operator_core::hindrance::Hindrance;
use operator_core::names::{ADMIN_TOKEN_KEY, Names};
use operator_core::observation::{DeploymentView, Observation, Probing};
use operator_core::operations::arbiter::{self, running};
use operator_core::refused::{self, Rejected};
use operator_core::samples::{Missed, NodeSeries};
use operator_core::seen;
use operator_core::sysctl_probes::{self, Pool, ProbePod};
use operator_core::tick::{Memory, Saying, Tick, tick};
use operator_core::validate::ValidatedCluster;
use operator_core::view::Outcome;
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::act::Target;
use crate::clock;
use crate::hindrances;
use crate::metrics::{ClusterLabels, RuleLabels};
use crate::observe::{self, SeenDeployment, SeenPods};
use crate::pending::{Cause, Request};
use crate::publish::{PublishError, Publisher};
use crate::scrape::{NodeError, Peer};
use crate::secrets;
use crate::shared::{Reconciled, Shared};
use crate::source::Source;
use crate::sysctl_probes::Probes;

/// Pace under load or during an operation, and always for small fleets.
const FAST: Duration = Duration::from_secs(2);
/// Pace while nodes of machines that go are replaced: pods are evicted then, and one that is made in the stead of an evicted pod,
/// though another one is there already, is to go before clients come to it.
const QUICK: Duration = Duration::from_millis(500);
/// Pace of large and calm fleets.
const SLOW: Duration = Duration::from_secs(5);
/// Fleets of up to so many nodes are always looked at in the fast pace by an operator that has few pods in all.
const SMALL_FLEET: usize = 32;
/// An operator with more pods than this, of all its fleets, looks at calm ones in the slow pace: asking 10,000 nodes each 2 s would
/// take most of a core.
const MANY_PODS: usize = 1_000;

/// Whether the loop goes on.
enum Flow {
    /// It goes on after this pause.
    Again(Duration),
    /// It ends: the ChannelCluster is gone.
    End,
}

/// One ChannelCluster's loop.
pub struct FleetLoop {
    shared: Arc<Shared>,
    labels: ClusterLabels,
    names: Names,
    told: watch::Receiver<Reconciled>,
    publisher: Option<Publisher>,
    memory: Memory,
    series: HashMap<String, NodeSeries>,
    token: Option<String>,
    secret: secrets::SecretPoll,
    source: Source,
    probes: Probes,
}

/// The observations of one tick.
struct Sighting {
    deployments: Vec<SeenDeployment>,
    node_deployment: Option<Arc<Deployment>>,
    nats_deployment: Option<Arc<Deployment>>,
    pods: SeenPods,
    rejected: Vec<Rejected>,
    hindrances: Vec<Hindrance>,
    contest: Option<Contest>,
    pools: Vec<Pool>,
    probes: Vec<ProbePod>,
}

impl FleetLoop {
    /// A loop for the ChannelCluster that `told` speaks of.
    #[must_use]
    pub fn new(shared: Arc<Shared>, labels: ClusterLabels, told: watch::Receiver<Reconciled>) -> Self {
        let names = Names::new(&labels.name);
        Self {
            shared,
            labels,
            names,
            told,
            publisher: None,
            memory: Memory::default(),
            series: HashMap::new(),
            token: None,
            secret: secrets::SecretPoll::default(),
            source: Source::default(),
            probes: Probes::default(),
        }
    }

    /// Runs until the ChannelCluster is gone.
    pub async fn run(mut self) {
        self.shared.stores.ready().await;
        loop {
            // What a tick needs meanwhile is put on the heap: between two ticks thousands of loops would keep room for it.
            let pause = match Box::pin(self.tick()).await {
                Ok(Flow::Again(pause)) => pause,
                Ok(Flow::End) | Err(PublishError::Gone) => break,
                Err(error) => {
                    self.publisher = None; // another operator may have written the status meanwhile: it is read again
                    warn!(namespace = self.labels.namespace, name = self.labels.name, %error, "trying again");
                    FAST.mul_f64(rand::random_range(1.0..2.0))
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                changed = self.told.changed() => if changed.is_err() { break },
            }
        }
        debug!(namespace = self.labels.namespace, name = self.labels.name, "loop ended");
        self.shared.metrics.forget(&self.labels);
    }

    async fn tick(&mut self) -> Result<Flow, PublishError> {
        let told = self.told.borrow_and_update().clone();
        let guarded = self.shared.stores.cluster(&self.labels.namespace, &self.labels.name);
        let Some(cluster) = guarded.as_ref().and_then(|g| g.0.as_ref().ok()) else { return Ok(Flow::End) };
        if cluster.metadata.uid.as_deref() != Some(&told.uid) || cluster.metadata.deletion_timestamp.is_some()
        {
            return Ok(Flow::End);
        }
        if !self.shared.acts_in(&self.labels.namespace) {
            return Ok(Flow::Again(FAST)); // the namespace is not seen, or another installation has it
        }
        self.greet(&told).await?;
        self.keep_secret(cluster, &told).await;
        let prometheus = told.cluster.as_ref().and_then(|valid| valid.prometheus.as_ref());
        self.source.want(&self.shared, &self.labels.namespace, prometheus);
        let seen = self.look(&told).await;
        let (now, decided) = (clock::now(), Instant::now());
        let Some(Tick { status, actions, probes, found, done, rule, steps, waiting, calm, decision: _ }) =
            self.decide(cluster, &told, &seen, now)
        else {
            return Ok(Flow::Again(FAST));
        };
        let quick = arbiter::replaces(status.operation.as_ref());
        self.shared.metrics.tell(&self.labels, &status);
        self.say(cluster, &found).await;
        if let Some(publisher) = &mut self.publisher {
            publisher.publish(&self.shared, status, now).await?;
        }
        self.probes.act(&self.shared, told.tried(), &self.labels.namespace, probes).await;
        self.shared.metrics.drain_steps.inc_by(steps);
        if let Some(rule) = rule {
            self.shared.metrics.decisions.get_or_create(&RuleLabels { rule }).inc();
        }
        if let Some(waiting) = waiting {
            debug!(name = self.labels.name, waiting, "the drain waits");
        }
        let target = Target {
            shared: &self.shared,
            namespace: &self.labels.namespace,
            name: &self.labels.name,
            deployments: &seen.deployments,
            pods: &seen.pods,
            token: self.token.as_deref().unwrap_or_default(),
            decided,
        };
        for (action, reached) in target.act(actions).await {
            self.memory.note(&action, reached);
        }
        self.say(cluster, &done).await;
        let many = self.shared.stores.pods.len() > MANY_PODS;
        let slow = calm && (many || seen.pods.views.len() > SMALL_FLEET);
        Ok(Flow::Again(match quick {
            true => QUICK,
            false if slow => SLOW,
            false => FAST,
        }))
    }

    /// Gives the observations to the core; none before the status was read.
    fn decide(
        &mut self,
        cluster: &ChannelCluster,
        told: &Reconciled,
        seen: &Sighting,
        now: u64,
    ) -> Option<Tick> {
        let previous = self.publisher.as_ref()?.last();
        let figures = self.source.figures();
        let deployments: Vec<DeploymentView> =
            seen.deployments.iter().map(|deployment| deployment.view.clone()).collect();
        let observation = Observation {
            now,
            asked: &Asked::of(cluster),
            generation: told.generation,
            outcome: &told.outcome,
            valid: told.cluster.as_deref(),
            previous,
            deployments: &deployments,
            node_deployment: seen.node_deployment.as_deref(),
            nats_deployment: seen.nats_deployment.as_deref(),
            pods: &seen.pods.views,
            series: &self.series,
            rejected: &seen.rejected,
            figures: figures.as_deref(),
            hindrances: &seen.hindrances,
            contest: seen.contest.as_ref(),
            probing: Probing { waiting: told.waiting.as_deref(), pools: &seen.pools, pods: &seen.probes },
        };
        Some(tick(&mut self.memory, &observation))
    }

    async fn say(&self, cluster: &ChannelCluster, sayings: &[Saying]) {
        for Saying { warning, reason, action, message } in sayings {
            self.shared.events.say(cluster, *warning, reason, action, message).await;
        }
    }

    /// Makes the reconcile write everything anew when the Secret was deleted or written, so that the pods that read
    /// it follow, and when its keys of tickets are to change. The reconcile applies the present spec and tries again after a
    /// failure.
    async fn keep_secret(&mut self, cluster: &ChannelCluster, told: &Reconciled) {
        let (shared, namespace) = (&self.shared, &self.labels.namespace);
        if told.outcome != Outcome::Applied || cluster.spec.paused {
            return; // the reconcile looks at the Secret again by itself, or nothing is to be written
        }
        if !self.secret.is_due(shared, (namespace, told), &self.names, clock::now()).await {
            return;
        }
        self.token = None;
        shared.pending.push(Request::new(&self.labels.name).within(namespace), Cause::Change);
    }

    /// Reads the status once, and writes a first condition if the status has none yet.
    async fn greet(&mut self, told: &Reconciled) -> Result<(), PublishError> {
        if self.publisher.is_some() {
            return Ok(());
        }
        let mut publisher = Publisher::load(self.shared.client.clone(), &self.labels, &told.uid).await?;
        if publisher.last().conditions.is_empty() {
            let now = clock::now();
            let status = ChannelClusterStatus {
                conditions: first_sight(told.generation, now),
                ..publisher.last().clone()
            };
            publisher.publish(&self.shared, status, now).await?;
        }
        self.publisher = Some(publisher);
        Ok(())
    }

    /// Looks at the objects and asks the nodes.
    async fn look(&mut self, told: &Reconciled) -> Sighting {
        let uid = told.uid.as_str();
        let (pools, probes) = self.probed(told).await;
        let namespace = &self.labels.namespace;
        let deployments = observe::deployments(&self.shared.stores, namespace, &self.names, uid);
        let pods = observe::pods(&self.shared.stores, namespace, &self.names, uid);
        self.scrape(&pods).await;
        let uids: HashSet<_> = pods.views.iter().map(|view| view.uid.as_str()).collect();
        self.series.retain(|uid, _| uids.contains(uid.as_str()));
        let operation = self.publisher.as_ref().and_then(|publisher| publisher.last().operation.as_ref());
        let places = operation.map(|operation| running(operation).places()).unwrap_or_default();
        let leaving: HashSet<String> = places.into_iter().map(|(uid, _)| uid.to_owned()).collect();
        let (shared, names, namespace) = (&self.shared, &self.names, &self.labels.namespace);
        let node_deployment = observe::current(&shared.stores, namespace, names, uid);
        let mut rejected = observe::rejected(&shared.stores, namespace, names, uid);
        rejected.extend(node_deployment.as_deref().and_then(refused::by_admission));
        Sighting {
            deployments,
            node_deployment,
            nats_deployment: hindrances::deployment(shared, namespace, &names.nats(), uid),
            pods,
            rejected,
            hindrances: hindrances::look(shared, namespace, names, uid, &leaving, clock::now()).await,
            contest: shared.contests.now(namespace, &self.labels.name),
            pools,
            probes,
        }
    }

    /// The pools of machines and the pods that try sysctls, where they matter.
    async fn probed(&mut self, told: &Reconciled) -> (Vec<Pool>, Vec<ProbePod>) {
        let wish = told.tried().and_then(ValidatedCluster::sysctl_wish);
        let record = self.publisher.as_ref().and_then(|publisher| publisher.last().sysctl_probes.as_ref());
        let pools = match wish {
            Some(_) => self.shared.stores.machines.pools(),
            None => Vec::new(),
        };
        let left = record.is_some() && !self.probes.are_known();
        if !left && !sysctl_probes::are_watched(record, wish.as_ref(), clock::now()) {
            return (pools, Vec::new());
        }
        let (shared, namespace) = (&self.shared, &self.labels.namespace);
        (pools, self.probes.look(shared, namespace, &self.names, &told.uid).await)
    }

    async fn scrape(&mut self, pods: &SeenPods) {
        for series in self.series.values_mut() {
            series.missed(Missed::Silent); // until the node answers this time
        }
        let asked: Vec<_> = pods
            .addressed()
            .filter(|(view, _)| !view.pending)
            .filter_map(|(view, ip)| {
                let (name, ip) = (view.name.clone(), ip?.to_owned());
                Some((view.uid.clone(), Peer { name, ip }))
            })
            .collect();
        if asked.is_empty() {
            return;
        }
        let Some(token) = self.token().await else { return };
        self.shared.metrics.scrapes.inc_by(asked.len() as u64);
        let answers = self.shared.nodes.stats(asked, &token).await;
        let pods: HashMap<_, _> = pods.views.iter().map(|view| (view.uid.as_str(), view)).collect();
        for (uid, at, answer) in answers {
            let Some(pod) = pods.get(uid.as_str()) else { continue };
            let series = self.series.entry(uid.clone()).or_default();
            match answer {
                Ok(stats) => {
                    series.push(stats, at);
                    series.of_process(pod.restarts);
                }
                Err(error) => {
                    series.missed(seen::missed(pod, series, matches!(error, NodeError::Refused)));
                    self.shared.metrics.scrape_failures.inc();
                    debug!(name = self.labels.name, uid, %error, "no statistics");
                    if matches!(error, NodeError::Unauthorized) {
                        self.token = None; // the Secret was replaced: the token is read again
                    }
                }
            }
        }
    }

    async fn token(&mut self) -> Option<String> {
        if self.token.is_none() {
            let api: Api<Secret> = Api::namespaced(self.shared.client.clone(), &self.labels.namespace);
            match api.get_opt(&self.names.secret()).await {
                Ok(secret) => {
                    let bytes = secret.and_then(|s| s.data?.remove(ADMIN_TOKEN_KEY));
                    self.token = bytes.and_then(|b| String::from_utf8(b.0).ok()).map(|t| t.trim().to_owned());
                }
                Err(error) => warn!(name = self.labels.name, %error, "cannot read the admin token"),
            }
        }
        self.token.clone()
    }
}
