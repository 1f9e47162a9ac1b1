//! Metrics of the operator, all named `channelcluster_operator_*`. Labels come from closed sets and from the names of
//! ChannelClusters, never from error texts.

use std::sync::atomic::AtomicU64;

use crds::ChannelClusterStatus;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::pulses::Pulses;

/// One ChannelCluster.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ClusterLabels {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// How a reconcile ended.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ResultLabels {
    /// `applied`, `paused`, `invalid`, `conflict`, `fenced`, `foreign`, `unseen`, `refused` or `error`.
    pub result: &'static str,
}

/// The rule of a decision.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RuleLabels {
    /// The rule's CamelCase word.
    pub rule: &'static str,
}

/// The kind that a watch is about.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct KindLabels {
    /// The kind in plural, as Kubernetes calls it.
    pub kind: &'static str,
}

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Reconciles by how they ended.
    pub reconciles: Family<ResultLabels, Counter>,
    /// Node statistics asked for.
    pub scrapes: Counter,
    /// Node statistics that did not come.
    pub scrape_failures: Counter,
    /// Times that Prometheus servers were asked for the load of a fleet.
    pub queries: Counter,
    /// Of these, those that gave nothing.
    pub query_failures: Counter,
    /// Nodes wanted.
    pub desired: Family<ClusterLabels, Gauge>,
    /// Nodes ready.
    pub ready: Family<ClusterLabels, Gauge>,
    /// Writes/s seen.
    pub writes: Family<ClusterLabels, Gauge<f64, AtomicU64>>,
    /// Nodes that run and whose figures are unknown.
    pub unknown: Family<ClusterLabels, Gauge>,
    /// Changes of the node count by rule.
    pub decisions: Family<RuleLabels, Counter>,
    /// Scale-in steps entered.
    pub drain_steps: Counter,
    /// Status writes.
    pub status_writes: Counter,
    /// 1 while this process leads.
    pub leader: Gauge,
    /// Claims of other installations on what this one was told to watch.
    pub foreign_claims: Gauge,
    /// Namespaces that are to be watched and cannot be seen.
    pub lost_namespaces: Gauge,
    /// Seconds since a watch of the leader last showed a sign.
    pub watch_age: Family<KindLabels, Gauge<f64, AtomicU64>>,
    /// Lists and watches of this term that failed.
    pub watch_failures: Family<KindLabels, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("channelcluster_operator"),
            reconciles: Family::default(),
            scrapes: Counter::default(),
            scrape_failures: Counter::default(),
            queries: Counter::default(),
            query_failures: Counter::default(),
            desired: Family::default(),
            ready: Family::default(),
            writes: Family::default(),
            unknown: Family::default(),
            decisions: Family::default(),
            drain_steps: Counter::default(),
            status_writes: Counter::default(),
            leader: Gauge::default(),
            foreign_claims: Gauge::default(),
            lost_namespaces: Gauge::default(),
            watch_age: Family::default(),
            watch_failures: Family::default(),
        };
        let r = &mut metrics.registry;
        r.register("reconciles", "Reconciles by how they ended", metrics.reconciles.clone());
        r.register("scrapes", "Node statistics asked for", metrics.scrapes.clone());
        r.register("scrape_failures", "Node statistics that did not come", metrics.scrape_failures.clone());
        r.register(
            "source_queries",
            "Times that a Prometheus was asked for the load",
            metrics.queries.clone(),
        );
        r.register(
            "source_query_failures",
            "Of these, those that gave nothing",
            metrics.query_failures.clone(),
        );
        r.register("desired_nodes", "Nodes wanted", metrics.desired.clone());
        r.register("ready_nodes", "Nodes ready", metrics.ready.clone());
        r.register("writes_per_second", "Messages delivered to members per second", metrics.writes.clone());
        r.register("unknown_nodes", "Running nodes whose figures are unknown", metrics.unknown.clone());
        r.register("decisions", "Changes of the node count by rule", metrics.decisions.clone());
        r.register("drain_steps", "Steps of drains entered or left", metrics.drain_steps.clone());
        r.register("status_writes", "Writes of a status", metrics.status_writes.clone());
        r.register("leader", "1 while this process leads", metrics.leader.clone());
        let help = "Claims of other installations on what this one was told to watch";
        r.register("foreign_claims", help, metrics.foreign_claims.clone());
        let help = "Namespaces of watchNamespaces that cannot be seen: nothing is done there";
        r.register("lost_namespaces", help, metrics.lost_namespaces.clone());
        let help =
            "Seconds since the last list, event, bookmark or orderly end of a watch; none without a term";
        r.register("watch_age_seconds", help, metrics.watch_age.clone());
        let help = "Lists and watches of this term that failed";
        r.register("watch_failures", help, metrics.watch_failures.clone());
        metrics
    }
}

impl Metrics {
    /// Sets the figures of the watches of the present term.
    #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
    pub fn watches(&self, pulses: Option<&Pulses>) {
        self.watch_age.clear();
        self.watch_failures.clear();
        let lost = pulses.map_or(0, |pulses| pulses.lost().len());
        self.lost_namespaces.set(i64::try_from(lost).unwrap_or(i64::MAX));
        for pulse in pulses.iter().flat_map(|pulses| pulses.iter()) {
            let labels = KindLabels { kind: pulse.kind };
            let age = self.watch_age.get_or_create(&labels);
            // Where several namespaces are watched, the oldest watch counts.
            age.set(age.get().max(pulse.age() as f64 / 1_000.0));
            drop(age);
            let failures = i64::try_from(pulse.failures()).unwrap_or(i64::MAX);
            self.watch_failures.get_or_create(&labels).inc_by(failures);
        }
    }

    /// The text of `/metrics` (OpenMetrics).
    ///
    /// # Errors
    /// When a value cannot be formatted.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Sets the figures of a ChannelCluster. An unknown figure gets no sample: a series that is absent is not 0.
    pub fn tell(&self, labels: &ClusterLabels, status: &ChannelClusterStatus) {
        for (gauge, value) in [(&self.desired, status.desired_replicas), (&self.ready, status.ready_replicas)]
        {
            match value {
                Some(value) => drop(gauge.get_or_create(labels).set(value.into())),
                None => drop(gauge.remove(labels)),
            }
        }
        let totals = status.totals.as_ref();
        #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
        match totals.and_then(|totals| totals.writes_per_second) {
            Some(writes) => drop(self.writes.get_or_create(labels).set(writes as f64)),
            None => drop(self.writes.remove(labels)),
        }
        let unknown = totals.and_then(|totals| totals.unknown_nodes).unwrap_or_default();
        self.unknown.get_or_create(labels).set(unknown.into());
    }

    /// Forgets a ChannelCluster that is gone.
    pub fn forget(&self, labels: &ClusterLabels) {
        self.desired.remove(labels);
        self.ready.remove(labels);
        self.writes.remove(labels);
        self.unknown.remove(labels);
    }
}

#[cfg(test)]
mod tests {
    use crds::{ChannelClusterStatus, Totals};

    use super::{ClusterLabels, Metrics, RuleLabels};

    #[test]
    fn what_is_unknown_is_absent_and_not_zero() {
        let metrics = Metrics::default();
        let labels = ClusterLabels { namespace: "default".to_owned(), name: "chat".to_owned() };
        let totals = |writes_per_second| Some(Totals { writes_per_second, ..Totals::default() });
        let mut status = ChannelClusterStatus { totals: totals(Some(40)), ..ChannelClusterStatus::default() };
        metrics.tell(&labels, &status);
        let text = metrics.encode().unwrap();
        assert!(text.contains("writes_per_second{namespace=\"default\",name=\"chat\"} 40"), "{text}");
        assert!(!text.contains("desired_nodes{"), "{text}");
        status.totals = totals(None);
        metrics.tell(&labels, &status);
        assert!(!metrics.encode().unwrap().contains("writes_per_second{"));
    }

    #[test]
    fn names_carry_the_prefix_and_a_cluster_that_is_gone_leaves() {
        let metrics = Metrics::default();
        let labels = ClusterLabels { namespace: "default".to_owned(), name: "chat".to_owned() };
        metrics.desired.get_or_create(&labels).set(3);
        metrics.decisions.get_or_create(&RuleLabels { rule: "MaxNodes" }).inc();
        let text = metrics.encode().unwrap();
        assert!(
            text.contains(r#"channelcluster_operator_desired_nodes{namespace="default",name="chat"} 3"#),
            "{text}"
        );
        assert!(text.contains(r#"channelcluster_operator_decisions_total{rule="MaxNodes"} 1"#), "{text}");
        metrics.forget(&labels);
        assert!(!metrics.encode().unwrap().contains("chat"));
    }
}
