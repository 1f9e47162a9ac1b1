//! A Prometheus as the source of the load: what it is asked, how its answers are read, and what of them counts.
//!
//! Everything that is not certain is unknown, and unknown is never zero: a pod that an answer does not have, `NaN` and the
//! infinities, an answer with a warning (a part of the data was not there), and a sample that is older than two scrape
//! intervals. When the source is a Prometheus its figures alone count for the node count: the nodes' own answers, which
//! the operator needs for drains, are shown in the status and never fill a gap. Whether nodes hear each other is no
//! figure of load, nor whether a node is saturated: it is always the nodes that say so.

use std::collections::HashMap;

use crds::{PrometheusAuth, PrometheusTls};

use crate::backplane::Hearing;
use crate::names::Names;
use crate::pod::PodView;
use crate::samples::{FRESH_MILLIS, NodeLoad};

mod answer;
#[cfg(test)]
mod tests;

pub use answer::{AnswerError, Vector, read};

/// How often a Prometheus scrapes the nodes when the manifest does not say, in milliseconds.
pub const DEFAULT_SCRAPE_MILLIS: u64 = 30_000;
/// Longest wait for an answer when the manifest does not say, in milliseconds.
pub const DEFAULT_TIMEOUT_MILLIS: u64 = 5_000;
/// Shortest pause between two times of asking, in milliseconds: the pace at which the operator looks at a fleet.
const LEAST_PAUSE_MILLIS: u64 = 2_000;
/// Longest pause between two times of asking, in milliseconds: it is added to the age of each sample.
const MOST_PAUSE_MILLIS: u64 = 10_000;
/// A sample counts until it is older than so many scrape intervals: one that failed is normal, two are not.
const INTERVALS: u64 = 2;
/// The rate is made from the last two samples within so many scrape intervals.
const RATE_INTERVALS: u64 = 4;

/// A Prometheus, and what it is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct PrometheusSource {
    /// Where it answers, without a slash at the end.
    pub url: String,
    /// The queries.
    pub queries: Queries,
    /// How often it scrapes the nodes, in milliseconds.
    pub scrape_millis: u64,
    /// Longest wait for an answer, in milliseconds.
    pub timeout_millis: u64,
    /// How the operator shows who it is.
    pub auth: Option<PrometheusAuth>,
    /// TLS with other authorities, or with a certificate.
    pub tls: Option<PrometheusTls>,
}

/// The queries to a Prometheus; each gives a vector with one sample per label `pod`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queries {
    /// Writes/s.
    pub writes: String,
    /// Connections.
    pub connections: String,
    /// When the last sample was taken, in seconds since 1970.
    pub timestamps: String,
}

impl Queries {
    /// The queries over the nodes' own metrics. Of several samples of a pod, which two scrape configurations make, the
    /// largest counts. The rate is that between the last two samples: the operator averages over its windows by itself.
    #[must_use]
    pub fn own(namespace: &str, names: &Names, scrape_millis: u64) -> Self {
        let nodes = format!("{{namespace=\"{namespace}\",pod=~\"{}-.+\"}}", names.first_deployment());
        let window = scrape_millis * RATE_INTERVALS;
        Self {
            writes: format!("max by (pod) (irate(channelcluster_node_writes_total{nodes}[{window}ms]))"),
            connections: format!("max by (pod) (channelcluster_node_connections{nodes})"),
            timestamps: format!("max by (pod) (timestamp(channelcluster_node_writes_total{nodes}))"),
        }
    }
}

impl PrometheusSource {
    /// Pause between two times of asking, in milliseconds: a quarter of the scrape interval, so that a new sample is soon
    /// known.
    #[must_use]
    pub fn pause_millis(&self) -> u64 {
        (self.scrape_millis / 4).clamp(LEAST_PAUSE_MILLIS, MOST_PAUSE_MILLIS)
    }

    /// The host of the URL, to be named in sentences.
    #[must_use]
    pub fn host(&self) -> &str {
        let rest = self.url.split_once("://").map_or(&*self.url, |(_, rest)| rest);
        rest.split_once('/').map_or(rest, |(host, _)| host)
    }

    /// Until when figures count, after they were taken or had, in milliseconds.
    const fn fresh_millis(&self) -> u64 {
        let two = self.scrape_millis * INTERVALS;
        if two > FRESH_MILLIS { two } else { FRESH_MILLIS }
    }

    /// What the answers to the three queries, which came at `now` (milliseconds), say of each pod.
    #[must_use]
    pub fn figures(&self, answers: &Answers, now: u64) -> Figures {
        let fresh = self.fresh_millis();
        let pods = answers.timestamps.pods.iter().filter_map(|(pod, timestamp)| {
            // Both times are the server's, so that another clock does no harm.
            let age = (answers.timestamps.at - (*timestamp)?).max(0.0) * 1_000.0;
            let number = |vector: &Vector| vector.pods.get(pod).copied().flatten().filter(|n| *n >= 0.0);
            let figure = Figure {
                until: now.saturating_add(fresh).checked_sub(whole(age))?,
                writes: number(&answers.writes),
                connections: number(&answers.connections).map(whole),
            };
            Some((pod.clone(), figure))
        });
        Figures { host: self.host().to_owned(), pods: pods.collect(), had: Some(now), failure: None }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn whole(number: f64) -> u64 {
    number.round() as u64
}

/// The answers to the queries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers {
    /// Writes/s.
    pub writes: Vector,
    /// Connections.
    pub connections: Vector,
    /// Times of the last samples.
    pub timestamps: Vector,
}

/// What is known of one pod.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Figure {
    /// Until when it counts, in milliseconds.
    until: u64,
    writes: Option<f64>,
    connections: Option<u64>,
}

/// What a Prometheus said last, and why it says nothing since.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    host: String,
    pods: HashMap<String, Figure>,
    /// When they were had, in milliseconds; none while none were.
    had: Option<u64>,
    failure: Option<String>,
}

impl Figures {
    /// Of a source that was not asked yet.
    #[must_use]
    pub fn none(source: &PrometheusSource) -> Self {
        Self { host: source.host().to_owned(), ..Self::default() }
    }

    /// The same figures after a time of asking that failed, with why.
    #[must_use]
    pub fn after_failure(&self, why: impl Into<String>) -> Self {
        Self { failure: Some(why.into()), ..self.clone() }
    }

    /// Why nothing was had when it was asked last.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Whether writes/s and connections of a pod are known at `now`.
    #[must_use]
    pub fn knows(&self, pod: &str, now: u64) -> bool {
        self.of(pod, now).is_some_and(|figure| figure.writes.is_some() && figure.connections.is_some())
    }

    fn of(&self, pod: &str, now: u64) -> Option<Figure> {
        self.pods.get(pod).copied().filter(|figure| now <= figure.until)
    }

    /// Why pods are not known, and what to do, as a sentence that begins with the server.
    #[must_use]
    pub fn sentence(&self, missing: &[&str], of: usize) -> String {
        const NAMED: usize = 3;
        let named: Vec<_> = missing.iter().take(NAMED).copied().collect();
        let more = match missing.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let why = match (&self.failure, self.had) {
            (Some(why), _) => why.clone(),
            (None, None) => "it was not asked yet".to_owned(),
            (None, Some(_)) => {
                "no sample, or none of the last two scrape intervals: look whether it scrapes them, and whether the queries give the label pod".to_owned()
            }
        };
        format!(
            "Prometheus {} has no fresh figures of {} of {of} ready nodes ({}{more}): {why}",
            self.host,
            missing.len(),
            named.join(", ")
        )
    }
}

/// The load of a node for a decision. When the source is a Prometheus, the node's own answers say only how it hears the bus
/// and whether it is full.
/// `own` is what the node itself answers.
#[must_use]
pub fn load(own: NodeLoad, pod: &PodView, figures: Option<&Figures>, now: u64) -> NodeLoad {
    let Some(figures) = figures.filter(|_| own.ready || own.unready) else { return own };
    // What a node writes that does not hear the bus says nothing of the load.
    let figure = figures.of(&pod.name, now).filter(|_| own.hearing != Some(Hearing::Lost));
    NodeLoad {
        writes_before: None,
        connections_before: None,
        writes_per_second: figure.and_then(|figure| figure.writes),
        timely_per_second: figure.and_then(|figure| figure.writes),
        connections: figure.and_then(|figure| figure.connections),
        ..own
    }
}
