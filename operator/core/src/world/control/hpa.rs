//! `HorizontalPodAutoscaler` v2 with its default behavior, as in `pkg/controller/podautoscaler` of Kubernetes 1.34
//! (`replica_calculator.go`, `horizontal.go`), and KEDA, which drives one with an external metric.

use std::collections::{HashMap, VecDeque};

use node_core::admin::NodePhase;

use super::Control;
use super::prometheus::Prometheus;
use crate::capacity::whole;
use crate::world::fleet::{World, count_of};
use crate::world::node::Node;

/// Seconds between two syncs, and their offset to the beginning.
const SYNC: u32 = 15;
const OFFSET: u32 = 7;
/// Ratio to the target within which nothing is done.
const TOLERANCE: f64 = 0.1;
/// `--horizontal-pod-autoscaler-cpu-initialization-period`, in seconds.
const CPU_INITIALIZATION: u32 = 300;
/// Window of the metrics server, in seconds: it scrapes the kubelets so often.
const RESOLUTION: u32 = 15;
/// Stabilization window of shrinking, in seconds.
const STABILIZATION: u32 = 300;
/// Period of the policies of growth, in seconds: 4 pods or 100 %.
const PERIOD: u32 = 15;

/// What it scales on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Metric {
    /// CPU as a percentage of what is requested.
    Cpu,
    /// Writes/s of each pod (type `Pods`).
    Pods,
    /// The sum of writes/s (type `External` with `AverageValue`).
    External,
}

/// A pod's CPU, as the metrics server has it.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    at: u32,
    busy: f64,
    /// Mean of the window before `at`; none before the second scrape.
    mean: Option<f64>,
}

/// The autoscaler.
pub(super) struct Hpa {
    metric: Metric,
    prometheus: Prometheus,
    usage: HashMap<String, Usage>,
    recommendations: VecDeque<(u32, i32)>,
    /// Pods added, with their second.
    added: VecDeque<(u32, i32)>,
}

/// The pods of one calculation.
#[derive(Debug, Default)]
struct Pods {
    /// Figures of pods that count, as a part of the target.
    known: Vec<f64>,
    missing: usize,
    unready: usize,
}

impl Hpa {
    fn new(metric: Metric) -> Self {
        Self {
            metric,
            prometheus: Prometheus::default(),
            usage: HashMap::new(),
            recommendations: VecDeque::new(),
            added: VecDeque::new(),
        }
    }

    pub(super) fn on_cpu() -> Self {
        Self::new(Metric::Cpu)
    }

    pub(super) fn on_pods() -> Self {
        Self::new(Metric::Pods)
    }

    pub(super) fn of_keda() -> Self {
        Self::new(Metric::External)
    }

    /// The metrics server's scrape.
    fn measure_cpu(&mut self, world: &World<'_>) {
        if !world.now.is_multiple_of(RESOLUTION) {
            return;
        }
        for node in world.nodes.iter().filter(|node| node.runs()) {
            let usage = self.usage.entry(node.name.clone()).or_default();
            let seconds = f64::from(world.now - usage.at);
            // After a restart of the container its counter begins anew, and the first window is left out.
            let whole = usage.at > 0 && node.busy >= usage.busy;
            *usage = Usage {
                at: world.now,
                busy: node.busy,
                mean: whole.then(|| (node.busy - usage.busy) / seconds),
            };
        }
        self.usage.retain(|name, _| world.nodes.iter().any(|node| node.name == *name));
    }

    /// `groupPods`.
    fn group(&self, world: &World<'_>) -> Pods {
        let mut pods = Pods::default();
        for node in &world.nodes {
            let figure = match self.metric {
                Metric::Cpu => self.usage.get(&node.name).and_then(|usage| usage.mean),
                _ => self.prometheus.rate(&node.name, world.now),
            };
            if node.phase == NodePhase::Starting && node.restarts == 0 {
                pods.unready += 1; // Pending
                continue;
            }
            let Some(figure) = figure else {
                pods.missing += 1;
                continue;
            };
            if self.metric == Metric::Cpu && self.is_unready(node, world.now) {
                pods.unready += 1;
                continue;
            }
            let target = match self.metric {
                Metric::Cpu => f64::from(world.sizing.target_percent) / 100.0,
                _ => world.sizing.target_writes(),
            };
            pods.known.push(figure / target);
        }
        pods
    }

    fn is_unready(&self, node: &Node, now: u32) -> bool {
        let measured_at = self.usage.get(&node.name).map_or(0, |usage| usage.at);
        let starts = now < node.made + CPU_INITIALIZATION;
        !node.in_service || (starts && node.made > 0 && measured_at < node.ready_at + RESOLUTION)
    }

    /// What the metric asks for; none when it is not known.
    fn proposal(&self, world: &World<'_>) -> Option<i32> {
        let current = count_of(world.nodes.len());
        if self.metric == Metric::External {
            // The scaler of KEDA gives 0 for an empty result (`ignoreNullValues` is true by default).
            let rates = world.nodes.iter().filter_map(|node| self.prometheus.rate(&node.name, world.now));
            let need = rates.sum::<f64>() / world.sizing.target_writes();
            let steady = (need / f64::from(current.max(1)) - 1.0).abs() <= TOLERANCE;
            return Some(if steady { current } else { whole(need) });
        }
        let mut pods = self.group(world);
        if pods.known.is_empty() {
            return None;
        }
        let mean = |known: &[f64]| known.iter().sum::<f64>() / known.len() as f64;
        let ratio = mean(&pods.known);
        let grows_beside_unready = pods.unready > 0 && ratio > 1.0;
        if !grows_beside_unready && pods.missing == 0 {
            let steady = (ratio - 1.0).abs() <= TOLERANCE;
            return Some(if steady { current } else { whole(ratio * pods.known.len() as f64) });
        }
        // Missing pods count as a whole request (CPU) or the target (others) when shrinking, as nothing when growing.
        let full =
            if self.metric == Metric::Cpu { 100.0 / f64::from(world.sizing.target_percent) } else { 1.0 };
        let presumed = if ratio < 1.0 { full } else { 0.0 };
        pods.known.extend(std::iter::repeat_n(presumed, pods.missing));
        if grows_beside_unready {
            pods.known.extend(std::iter::repeat_n(0.0, pods.unready));
        }
        let again = mean(&pods.known);
        let turned = (ratio < 1.0 && again > 1.0) || (ratio > 1.0 && again < 1.0);
        if (again - 1.0).abs() <= TOLERANCE || turned {
            return Some(current);
        }
        let wanted = whole(again * pods.known.len() as f64);
        let turned = (again < 1.0 && wanted > current) || (again > 1.0 && wanted < current);
        Some(if turned { current } else { wanted })
    }

    /// `normalizeDesiredReplicasWithBehaviors` with the default behavior.
    fn paced(&mut self, world: &World<'_>, current: i32, proposal: i32) -> i32 {
        let now = world.now;
        self.recommendations.push_back((now, proposal));
        self.recommendations.retain(|(at, _)| at + STABILIZATION > now);
        let most = self.recommendations.iter().map(|(_, wanted)| *wanted).max().unwrap_or(proposal);
        let stable = if proposal < current { most.min(current) } else { proposal };
        self.added.retain(|(at, _)| at + PERIOD > now);
        let begin = current - self.added.iter().map(|(_, added)| added).sum::<i32>();
        let allowed = (begin + 4).max(begin * 2).max(current);
        let limited = if stable > current { stable.min(allowed) } else { stable };
        limited.clamp(world.fewest(), world.bounds().max)
    }
}

impl Control for Hpa {
    fn look(&mut self, world: &mut World<'_>) {
        if self.metric == Metric::Cpu {
            self.measure_cpu(world);
        } else {
            self.prometheus.look(world);
        }
        let now = world.now;
        if now % SYNC != OFFSET {
            return;
        }
        let current = world.replicas;
        if self.recommendations.is_empty() {
            // `recordInitialRecommendation`
            self.recommendations.push_back((now, current));
        }
        let (fewest, most) = (world.fewest(), world.bounds().max);
        let wanted = if current > most {
            most
        } else if current < fewest {
            fewest
        } else {
            let Some(proposal) = self.proposal(world) else { return };
            self.paced(world, current, proposal)
        };
        if wanted != current {
            if wanted > current {
                self.added.push_back((now, wanted - current));
            }
            world.scale(wanted);
        }
    }
}
