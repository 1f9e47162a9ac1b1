//! The loop of one ChannelCluster: scrape -> decide -> record in the status -> act. It is the only writer of the status,
//! and ends when the ChannelCluster is gone.
//!
//! It looks each 2 s, and each 5 s when a large fleet is calm: at 15 s a burst could go unseen for longer than the time
//! in which it is to be answered, and a scrape of 5,000 nodes costs a fifth of a core at most.

mod refusal;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crds::{AutoscalingMode, ChannelCluster, ChannelClusterStatus};
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use operator_core::autoscale::{Decision, Inputs, Settings, State};
use operator_core::capacity::Sizing;
use operator_core::conditions::first_sight;
use operator_core::contest::Contest;
use operator_core::drain::{self, Note, Observed, PodView, Step};
use operator_core::hindrance::{self, Hindrance};
use operator_core::names::{ADMIN_TOKEN_KEY, Component, Names};
use operator_core::refused::Rejected;
use operator_core::samples::{Missed, NodeLoad, NodeSeries};
use operator_core::seen;
use operator_core::status::{NodeSeen, Outcome, View, compute};
use operator_core::validate::ValidatedCluster;
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::act::Target;
use crate::clock;
use crate::context::{Reconciled, Shared};
use crate::hindrances;
use crate::metrics::{ClusterLabels, RuleLabels};
use crate::observe::{self, SeenDeployment, SeenPod};
use crate::publish::{PublishError, Publisher};
use crate::scrape::{NodeError, Peer};
use crate::secrets;
use crate::store::Request;

/// Pace while there is something to see, and of small fleets always.
const FAST: Duration = Duration::from_secs(2);
/// Pace of large and calm fleets.
const SLOW: Duration = Duration::from_secs(5);
/// Fleets up to so many nodes are always looked at in the fast pace.
const SMALL_FLEET: usize = 32;
/// Part of the target utilization from which on a fleet is not calm, in percent of it.
const CALM_PERCENT: i32 = 50;

/// Whether the loop goes on.
enum Flow {
    /// After this pause.
    Again(Duration),
    /// The ChannelCluster is gone.
    End,
}

/// One ChannelCluster's loop.
pub struct Fleet {
    shared: Arc<Shared>,
    labels: ClusterLabels,
    names: Names,
    told: watch::Receiver<Reconciled>,
    publisher: Option<Publisher>,
    state: Option<State>,
    series: HashMap<String, NodeSeries>,
    token: Option<String>,
    /// Whether the last order to close reached its node; not known at first, since another operator may have given it.
    told_to_close: bool,
    secret: secrets::Watch,
    /// Since when what hinders has hindered.
    ages: hindrance::Ages,
    /// What was contested when an Event last said so.
    contested: Option<Contest>,
    /// What hindered when an Event last said so.
    hindered: Vec<(Component, hindrance::Reason)>,
}

/// What one tick saw.
struct Seen {
    deployment: Option<SeenDeployment>,
    pods: Vec<SeenPod>,
    nodes: Vec<NodeSeen>,
    rejected: Vec<Rejected>,
    hindrances: Vec<Hindrance>,
    contest: Option<Contest>,
}

/// What one tick decided.
struct Decided {
    /// Nodes that were there to stay before.
    current: i32,
    /// The node count.
    decision: Decision,
    /// The next step of a scale-in.
    step: Step,
}

impl Fleet {
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
            state: None,
            series: HashMap::new(),
            token: None,
            told_to_close: false,
            secret: secrets::Watch::default(),
            ages: hindrance::Ages::default(),
            contested: None,
            hindered: Vec::new(),
        }
    }

    /// Runs until the ChannelCluster is gone.
    pub async fn run(mut self) {
        self.shared.stores.ready().await;
        loop {
            let pause = match self.tick().await {
                Ok(Flow::Again(pause)) => pause,
                Ok(Flow::End) | Err(PublishError::Gone) => break,
                Err(error) => {
                    self.publisher = None; // whatever was written meanwhile, and by whom, is read again
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
            return Ok(Flow::Again(FAST)); // nothing is decided on what may be long gone, or is another's
        }
        self.greet(&told).await?;
        self.keep_secret(cluster, &told).await;
        let seen = self.look(&told.uid).await;
        let now = clock::now();
        if let Some(publisher) = &self.publisher {
            self.ages.look(now, &seen.hindrances, publisher.last());
        }
        let decided = self.decide(cluster, &told, &seen, now);
        let status = self.status(cluster, &told, &seen, decided.as_ref(), now);
        self.shared.metrics.tell(&self.labels, &status);
        let pace = pace(&status, cluster, seen.pods.len());
        self.refusal(cluster, &status).await;
        self.hindrance(cluster, &seen.hindrances).await;
        self.contest(cluster, seen.contest.as_ref()).await;
        let news = self.publish(status, now).await?;
        let (Some(Decided { decision, step, .. }), Some(deployment)) = (decided, &seen.deployment) else {
            return Ok(Flow::Again(pace));
        };
        let target = Target {
            shared: &self.shared,
            namespace: &self.labels.namespace,
            name: &self.labels.name,
            deployment_name: &self.names.deployment(),
            deployment,
            pods: &seen.pods,
            token: self.token.as_deref().unwrap_or_default(),
        };
        if let Some(waiting) = &step.waiting {
            debug!(name = self.labels.name, waiting, "the drain waits");
        }
        let told = target.act(step.actions).await;
        self.told_to_close = told.unwrap_or(self.told_to_close);
        self.say(cluster, &decision, &step.notes, news).await;
        Ok(Flow::Again(pace))
    }

    /// Has the reconcile write everything anew when somebody deleted or wrote the Secret, so that those who read it follow:
    /// it applies the spec as it is now, and tries again what fails.
    async fn keep_secret(&mut self, cluster: &ChannelCluster, told: &Reconciled) {
        let (shared, namespace) = (&self.shared, &self.labels.namespace);
        if told.outcome != Outcome::Applied || cluster.spec.paused {
            return; // the reconcile looks at it again by itself, or nothing is to be written
        }
        if !self.secret.changed(shared, namespace, &self.names, clock::now()).await {
            return;
        }
        self.token = None;
        shared.pending.push(Request::new(&self.labels.name).within(namespace));
    }

    /// Reads the status once, and says that the object was seen if nobody has yet.
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
    async fn look(&mut self, uid: &str) -> Seen {
        let namespace = &self.labels.namespace;
        let deployment = observe::deployment(&self.shared.stores, namespace, &self.names, uid);
        let mut pods = observe::pods(&self.shared.stores, namespace, &self.names);
        self.scrape(&pods).await;
        let now = clock::now();
        let uids: HashSet<_> = pods.iter().map(|p| p.view.uid.as_str()).collect();
        self.series.retain(|uid, _| uids.contains(uid.as_str()));
        let mut nodes = Vec::with_capacity(pods.len());
        for pod in &mut pods {
            let series = self.series.get(&pod.view.uid);
            pod.view.node = series.and_then(|s| seen::view(s, now));
            nodes.push(NodeSeen {
                pod: pod.view.clone(),
                stats: series.and_then(|s| s.fresh(now)).cloned(),
                rates: series.and_then(|s| s.rates(now)),
                hearing: series.and_then(|s| s.hearing(now)),
                last_at: series.and_then(NodeSeries::last_at),
                runs: seen::runs(&pod.view, series),
            });
        }
        let (shared, names) = (&self.shared, &self.names);
        let namespace = &self.labels.namespace;
        let mut rejected = observe::rejected(&shared.stores, namespace, names);
        rejected.extend(hindrances::refused_by_admission(shared, namespace, names, uid));
        let hindrances = hindrances::look(shared, namespace, names, uid, now).await;
        let contest = shared.contests.now(namespace, &self.labels.name);
        Seen { deployment, pods, nodes, rejected, hindrances, contest }
    }

    async fn scrape(&mut self, pods: &[SeenPod]) {
        for series in self.series.values_mut() {
            series.missed(Missed::Silent); // until it answers this time
        }
        let asked: Vec<_> = pods
            .iter()
            .filter(|p| !p.view.pending)
            .filter_map(|p| {
                let (name, ip) = (p.view.name.clone(), p.ip.clone()?);
                Some((p.view.uid.clone(), Peer { name, ip }))
            })
            .collect();
        if asked.is_empty() {
            return;
        }
        let Some(token) = self.token().await else { return };
        self.shared.metrics.scrapes.inc_by(asked.len() as u64);
        let answers = self.shared.nodes.stats(asked, &token).await;
        let pods: HashMap<_, _> = pods.iter().map(|p| (p.view.uid.as_str(), &p.view)).collect();
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
                        self.token = None; // read it again: somebody replaced the Secret
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

    /// The node count and the next step of a drain; none while there is nothing to decide on.
    fn decide(
        &mut self,
        cluster: &ChannelCluster,
        told: &Reconciled,
        seen: &Seen,
        now: u64,
    ) -> Option<Decided> {
        let (valid, deployment) = (told.cluster.as_ref()?, seen.deployment.as_ref()?);
        if cluster.spec.paused {
            return None;
        }
        let operation = self.publisher.as_ref()?.last().operation.clone();
        let pods: Vec<PodView> = seen.pods.iter().map(|p| p.view.clone()).collect();
        let current = drain::staying(operation.as_ref(), &pods, deployment.replicas);
        let load = |pod: &PodView| seen::load(pod, self.series.get(&pod.uid), now);
        let loads: Vec<NodeLoad> = pods.iter().map(load).collect();
        let state = self.state.get_or_insert_with(|| State::new(now, current));
        let inputs = Inputs { now, current, replicas: deployment.replicas, nodes: &loads };
        let decision = state.step(&Settings::of(valid), inputs);
        let step = drain::step(
            operation.as_ref(),
            &Observed {
                now,
                pods: &pods,
                replicas: deployment.replicas,
                existing: deployment.pods,
                settled: deployment.observed && !deployment.rolling,
                desired: decision.desired,
                quorum: decision.quorum,
                heard: decision.heard,
                connections_per_second: valid.drain.connections_per_second,
                told: self.told_to_close,
                deadline: u64::try_from(valid.drain.deadline.as_millis()).unwrap_or(u64::MAX),
            },
        );
        Some(Decided { current, decision, step })
    }

    fn status(
        &self,
        cluster: &ChannelCluster,
        told: &Reconciled,
        seen: &Seen,
        decided: Option<&Decided>,
        now: u64,
    ) -> ChannelClusterStatus {
        let nothing = ChannelClusterStatus::default();
        let previous = self.publisher.as_ref().map_or(&nothing, Publisher::last);
        // While paused an operation stays where it is.
        let operation = match decided {
            Some(decided) => decided.step.operation.as_ref(),
            None => previous.operation.as_ref(),
        };
        let current_generation = cluster.metadata.generation.unwrap_or_default();
        let outcome = if told.generation == current_generation { &told.outcome } else { &Outcome::Pending };
        let valid = told.cluster.as_deref();
        let replicas = seen.deployment.as_ref().map_or(0, |d| d.replicas);
        let empty = std::collections::BTreeMap::new();
        let refused = match valid.filter(|_| *outcome == Outcome::Applied) {
            Some(valid) => refusal::sysctls(cluster, valid, seen, previous),
            None => previous.refused_sysctls.clone(),
        };
        let refused_ids = self.refused_ids(cluster, told, outcome, previous);
        compute(&View {
            now,
            previous,
            generation: current_generation,
            outcome,
            paused: cluster.spec.paused,
            mode: cluster.spec.autoscaling.mode,
            min: least(cluster, valid),
            sizing: valid.map_or_else(|| sizing(cluster), Sizing::of),
            sysctls: valid.map_or(&empty, |v| &v.pod.sysctls),
            nofile: cluster.spec.tuning.nofile,
            nodes: &seen.nodes,
            settled: seen.deployment.as_ref().is_none_or(|d| !d.rolling),
            selector: &self.names.selector_string(Component::Node),
            node_image: seen.deployment.as_ref().and_then(|d| d.image.as_deref()),
            current: decided.map_or(replicas, |d| d.current),
            decision: decided.map(|d| &d.decision),
            operation,
            refused: refused.as_ref(),
            refused_ids: refused_ids.as_ref(),
            contest: seen.contest.as_ref(),
            hindrances: &seen.hindrances,
            hindered_since: self.ages.since(&seen.hindrances),
        })
    }

    /// Writes the status; gives the decision that is new in it.
    async fn publish(&mut self, status: ChannelClusterStatus, now: u64) -> Result<bool, PublishError> {
        let Some(publisher) = &mut self.publisher else { return Ok(false) };
        let decided = publisher.last().decisions.first() != status.decisions.first();
        let step = |s: &ChannelClusterStatus| s.operation.as_ref().map(|o| (o.pod_uid.clone(), o.step));
        let stepped = step(publisher.last()) != step(&status);
        publisher.publish(&self.shared, status, now).await?;
        self.shared.metrics.drain_steps.inc_by(u64::from(stepped));
        Ok(decided)
    }

    /// Says once of each thing that it hinders, and when nothing does any more.
    async fn hindrance(&mut self, cluster: &ChannelCluster, now: &[Hindrance]) {
        let events = &self.shared.events;
        // Of sysctls another Event tells, with what is done about them.
        let told = |h: &&Hindrance| {
            h.reason == hindrance::Reason::SysctlForbidden || self.hindered.contains(&(h.component, h.reason))
        };
        for new in now.iter().filter(|h| !told(h)) {
            events.say(cluster, true, new.reason.as_str(), "Start", &new.sentence()).await;
        }
        if now.is_empty() && !self.hindered.is_empty() {
            events
                .say(cluster, false, "NothingHinders", "Start", "nothing keeps pods from starting any more")
                .await;
        }
        self.hindered = now.iter().map(|h| (h.component, h.reason)).collect();
    }

    async fn say(&self, cluster: &ChannelCluster, decision: &Decision, notes: &[Note], decided: bool) {
        if decided {
            self.shared.metrics.decisions.get_or_create(&RuleLabels { rule: decision.rule.as_str() }).inc();
            let note = format!("{} nodes, {}: {}", decision.desired, decision.rule, decision.message);
            let action = format!("ScaleTo{}", decision.desired);
            self.shared.events.say(cluster, false, "Scaling", &action, &note).await;
        }
        for note in notes {
            self.shared.events.say(cluster, note.warning, note.reason, "Drain", &note.message).await;
        }
    }
}

/// Fewest nodes of a cluster that is as asked for.
fn least(cluster: &ChannelCluster, valid: Option<&ValidatedCluster>) -> i32 {
    let manual = valid.and_then(|v| v.bounds.replicas);
    match cluster.spec.autoscaling.mode {
        AutoscalingMode::Manual | AutoscalingMode::Observe => manual.unwrap_or(cluster.spec.nodes.min),
        AutoscalingMode::Auto => cluster.spec.nodes.min,
    }
}

#[allow(clippy::cast_precision_loss, reason = "bounded by the schema far below 2^52")]
fn sizing(cluster: &ChannelCluster) -> Sizing {
    let capacity = &cluster.spec.nodes.capacity;
    Sizing {
        writes_per_second: capacity.writes_per_second as f64,
        connections: capacity.connections as f64,
        target_percent: cluster.spec.autoscaling.target_utilization,
    }
}

fn pace(status: &ChannelClusterStatus, cluster: &ChannelCluster, nodes: usize) -> Duration {
    let target = i32::try_from(cluster.spec.autoscaling.target_utilization).unwrap_or(100);
    let utilization = status.totals.as_ref().and_then(|t| t.utilization_percent);
    // What is unknown is not calm.
    let low = utilization.is_some_and(|utilization| utilization * 100 < target * CALM_PERCENT);
    let calm = low && status.operation.is_none();
    if calm && nodes > SMALL_FLEET { SLOW } else { FAST }
}
