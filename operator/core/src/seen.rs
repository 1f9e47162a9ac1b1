//! Combines a look at a node's pod with the node's own answers.
//!
//! Both sources can be late: the watch says only after a moment that a process ended, and a missing answer says at
//! once that something is wrong, but not what. Together they tell a node that is gone, and carries nothing, from one
//! that is not heard, and may carry everything.

use crate::machine::MachineView;
use crate::pod::{Bearing, NodeView, PodView};
use crate::samples::{Missed, NodeLoad, NodeSeries};

/// What a failed request means for the process that answered before. `refused`: nothing listens on the admin port.
#[must_use]
pub fn missed(pod: &PodView, series: &NodeSeries, refused: bool) -> Missed {
    if pod.terminating && series.drained() {
        return Missed::Silent; // its last answer, that it is empty, stays true
    }
    let restarted = series.restarts().is_some_and(|restarts| restarts != pod.restarts);
    if refused || pod.terminating || pod.dead || restarted { Missed::Ended } else { Missed::Silent }
}

/// Whether a process may have connections: it runs, as far as Kubernetes knows or as its own answers show, and is not
/// a drained one that is about to end.
#[must_use]
pub fn runs(pod: &PodView, series: Option<&NodeSeries>) -> bool {
    let answers = series.is_some_and(NodeSeries::answers);
    let ends_empty = pod.terminating && series.is_some_and(NodeSeries::drained);
    !pod.pending && (!pod.dead || answers) && !ends_empty
}

/// The load of a node for a decision.
#[must_use]
pub fn load(pod: &PodView, series: Option<&NodeSeries>, now: u64) -> NodeLoad {
    if !runs(pod, series) {
        return NodeLoad::default();
    }
    let moves = series.and_then(|s| s.fresh(now)).is_some_and(|stats| stats.rebalance.is_some());
    let ready = (pod.ready || moves) && !pod.terminating;
    let rates = series.and_then(|s| s.load(now));
    let strain = series.and_then(|s| s.strain(now));
    NodeLoad {
        ready,
        unready: !ready,
        writes_per_second: rates.map(|r| r.writes),
        timely_per_second: rates.map(|r| r.timely),
        writes_before: series.and_then(NodeSeries::writes_before),
        connections: series.and_then(|s| s.fresh(now)).map(|s| s.gauges.connections),
        connections_before: series.and_then(NodeSeries::connections_before),
        hearing: series.and_then(|s| s.hearing(now)),
        bytes_per_second: rates.map(|r| r.sent_bytes),
        queued_bytes: strain.map(|s| s.queued_bytes),
        oldest_queued_millis: strain.map(|s| s.oldest_queued_millis),
        utilization: strain.map(|s| s.utilization),
        memory: strain.and_then(|s| s.memory),
        saturated: series.and_then(|s| s.saturated(now)),
        asked_per_second: series.and_then(|s| s.asked(now)),
    }
}

/// The node's last answer, for the choice of a node and its drain.
#[must_use]
pub fn view(series: &NodeSeries, now: u64) -> Option<NodeView> {
    let stats = series.fresh(now)?;
    Some(NodeView {
        phase: stats.phase,
        connections: stats.gauges.connections,
        writes_per_second: series.rates(now).map(|r| r.writes),
        answers: series.answers(),
    })
}

/// How the node bears its load, for the choice of nodes that move clients to others. `refused_per_second` is the field of that
/// name.
#[must_use]
pub fn bearing(series: &NodeSeries, refused_per_second: Option<f64>, now: u64) -> Option<Bearing> {
    let stats = series.fresh(now)?;
    Some(Bearing {
        full: series.saturated(now).is_some(),
        handshake_p99_millis: stats.gauges.handshake_p99_millis,
        refused_per_second,
        rebalance: stats.rebalance.clone(),
    })
}

/// Sets what becomes of the machine of each pod. `machine` gives what is known of one by its name.
pub fn judge(
    pods: &mut [PodView],
    machine: impl Fn(&str) -> Option<MachineView>,
    many_lost: impl Fn() -> bool,
    now: u64,
) {
    let evicted = pods.iter().filter(|pod| pod.evicted).filter_map(|pod| pod.machine.clone());
    let drained: Vec<String> = evicted.collect();
    for pod in pods {
        let Some(name) = &pod.machine else { continue };
        let Some(seen) = machine(name) else { continue };
        pod.fate = seen.fate(name, &pod.tolerations, drained.contains(name), &many_lost, now);
    }
}

#[cfg(test)]
mod tests {
    use node_core::admin::{Counters, Gauges, NodePhase, Stats};

    use super::{judge, load, missed, runs, view};
    use crate::capacity::Sizing;
    use crate::machine::{Fate, MachineView};
    use crate::pod::PodView;
    use crate::samples::{FleetPoint, Missed, NodeLoad, NodeSeries};

    fn pod() -> PodView {
        PodView { name: "a".to_owned(), ready: true, ..PodView::default() }
    }

    fn answered(phase: NodePhase, connections: u64) -> NodeSeries {
        let mut series = NodeSeries::default();
        for second in 1..=2u64 {
            let gauges = Gauges { connections, ..Gauges::default() };
            let counters = Counters { writes: second * 100, ..Counters::default() };
            let stats =
                Stats { phase, monotonic_millis: second * 1_000, gauges, counters, ..Stats::default() };
            series.push(stats, second * 1_000);
            series.of_process(0);
        }
        series
    }

    #[test]
    fn figures_end_with_the_process_and_not_with_a_lost_answer() {
        let series = answered(NodePhase::Serving, 151);
        assert_eq!(missed(&pod(), &series, false), Missed::Silent);
        assert_eq!(missed(&pod(), &series, true), Missed::Ended, "nobody listens");
        let gone = [
            PodView { dead: true, ..pod() },
            PodView { restarts: 1, ..pod() },
            PodView { terminating: true, ..pod() },
        ];
        for pod in gone {
            assert_eq!(missed(&pod, &series, false), Missed::Ended, "{pod:?}");
        }
        let mut series = answered(NodePhase::Serving, 151);
        series.missed(Missed::Silent);
        assert_eq!(view(&series, 3_000).map(|v| (v.connections, v.answers)), Some((151, false)));
        series.missed(Missed::Ended);
        assert_eq!((view(&series, 3_000), series.last_at()), (None, Some(2_000)));
    }

    #[test]
    fn clients_that_came_back_elsewhere_are_counted_once() {
        // There are 300 clients on two nodes; one node dies, and its 151 clients come back on the other.
        let (mut dies, lives) = (answered(NodePhase::Serving, 151), answered(NodePhase::Serving, 300));
        dies.missed(missed(&pod(), &dies.clone(), true));
        let sizing = Sizing { writes_per_second: 5_000.0, connections: 2_000.0, target_percent: 60 };
        let loads = [load(&pod(), Some(&dies), 2_000), load(&pod(), Some(&lives), 2_000)];
        let point = FleetPoint::of(&loads, &sizing, 2_000);
        assert!((point.connections - 300.0).abs() < 1e-9 && point.unknown_connections == 1, "{point:?}");
    }

    #[test]
    fn a_leaving_node_counts_until_it_is_known_to_be_empty() {
        let leaves = PodView { terminating: true, ..pod() };
        let unknown = NodeLoad { unready: true, ..NodeLoad::default() };
        assert_eq!(load(&leaves, None, 2_000), unknown, "it may carry everything");
        let mut drained = answered(NodePhase::Closed, 0);
        assert_eq!(missed(&leaves, &drained, true), Missed::Silent, "that it is empty stays true");
        drained.missed(Missed::Silent);
        assert_eq!(load(&leaves, Some(&drained), 60_000), NodeLoad::default(), "it stays empty");
        let dead = PodView { dead: true, ready: false, ..pod() };
        assert_eq!(load(&dead, None, 2_000), NodeLoad::default(), "nobody is on a process that does not run");
        assert!(runs(&dead, Some(&answered(NodePhase::Serving, 1))), "it answers: the watch is late");
    }

    #[test]
    fn a_cordon_counts_once_a_node_of_the_fleet_is_evicted() {
        let cordoned = MachineView { cordoned: true, ..MachineView::default() };
        let there = || PodView { machine: Some("m".to_owned()), ..pod() };
        let mut pods = vec![there(), there(), pod()];
        let look = |pods: &mut Vec<PodView>| judge(pods, |_| Some(cordoned.clone()), || false, 1);
        look(&mut pods);
        let fates: Vec<_> = pods.iter().map(|pod| pod.fate.clone()).collect();
        assert_eq!(fates, [Fate::MayGo, Fate::MayGo, Fate::Unknown]);
        (pods[0].terminating, pods[0].evicted) = (true, true);
        look(&mut pods);
        assert!(matches!(&pods[1].fate, Fate::Goes(doom) if doom.why.contains("evicted")), "{pods:?}");
        let mut unseen = vec![there()];
        judge(&mut unseen, |_| None, || false, 1);
        assert_eq!(unseen[0].fate, Fate::Unknown);
    }
}
