//! What one node can deliver, learned from how busy nodes are with what they deliver.
//!
//! A node that delivers `w` messages per second while its busiest shard works for the part `u` of its time can deliver about
//! `w / u`. Each such look is evidence with the weight `u` squared times the time that it stands for: a node that is hardly busy
//! is busy with something else. What nodes showed fades, so that messages of another size, or other rooms, are followed within
//! minutes. Nothing is remembered but what the status has.

use crds::{Confidence, LearnedCapacity};

use super::evidence::{self, DIFFER, MOST_MILLIS, Mean, OLD_ENOUGH_MILLIS};
use super::rounded;
use crate::heat::BUSY;
use crate::timestamp::time;
use crate::view::NodeSeen;

/// In this time half of the evidence is forgotten, in milliseconds.
const HALF_MILLIS: f64 = 300_000.0;
/// The same while messages or rooms are of another kind than those of the evidence.
const OTHER_HALF_MILLIS: f64 = 15_000.0;
/// A size of messages, or of rooms, is another from so many times the one of the evidence on, or such a part of it.
const OTHER: f64 = 1.3;
/// Evidence that counts as much as what is assumed, in milliseconds of a node that is fully busy.
const ASSUMED_MILLIS: f64 = 20_000.0;
/// Most that is learned, as a multiple of what is assumed; the least is the same part of it.
const BOUND: f64 = 10.0;
/// Nodes that are less busy tell nothing.
const LEAST_BUSY: f64 = 0.15;
/// Without a node that is as busy as this, the rest is far away.
const BUSY_ENOUGH: f64 = 0.3;

/// What one node showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shown {
    /// Messages delivered per second.
    pub writes: f64,
    /// Busy part of the busiest shard's time, 0 to 1.
    pub busy: f64,
    /// Age of its process in milliseconds.
    pub age: u64,
    /// Bytes of a message.
    pub message_bytes: f64,
    /// Members to whom a published message went.
    pub deliveries: f64,
}

impl Shown {
    /// What a node shows, if it serves and its figures are known.
    #[must_use]
    pub fn of(node: &NodeSeen) -> Option<Self> {
        let (stats, rates) = (node.stats.as_ref()?, node.rates?);
        (node.serves() && rates.writes > 0.0).then(|| Self {
            writes: rates.writes,
            busy: stats.gauges.utilization,
            age: stats.monotonic_millis,
            message_bytes: rates.sent_bytes / rates.writes,
            deliveries: rates.writes / rates.publishes.max(1.0),
        })
    }

    /// Whether it says something of what the node can do. A saturated node does not: what it is asked for may be anything.
    fn tells(&self) -> bool {
        self.age >= OLD_ENOUGH_MILLIS && (LEAST_BUSY..BUSY).contains(&self.busy)
    }
}

/// What the telling nodes show in the mean.
fn mean(all: &[Shown], figure: impl Fn(&Shown) -> f64) -> f64 {
    let each = |mean: Mean, shown: &Shown| mean.with(figure(shown), shown.busy * shown.busy);
    all.iter().fold(Mean::default(), each).value()
}

/// Learns from what nodes show at `now` (milliseconds since 1970). `assumed` is what counts without evidence.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "figures far below 2^52")]
pub fn learn(before: Option<&LearnedCapacity>, nodes: &[Shown], assumed: u64, now: u64) -> LearnedCapacity {
    let assumed = assumed as f64;
    let telling: Vec<Shown> = nodes.iter().copied().filter(Shown::tells).collect();
    let since = evidence::since(before.map(|before| &before.observed_at), now);
    let other = before.is_some_and(|before| is_other(before, &telling));
    let half = if other { OTHER_HALF_MILLIS } else { HALF_MILLIS };
    let old = before.map_or(0.0, |before| evidence::faded(before.weight_millis, since, half));
    let remembered = |of: fn(&LearnedCapacity) -> i64| {
        let figure = before.map_or(0.0, |before| of(before) as f64);
        Mean::default().with(figure, old)
    };
    let new = telling.iter().map(|shown| shown.busy * shown.busy).sum::<f64>() * since.min(MOST_MILLIS);
    let can = |shown: &Shown| (shown.writes / shown.busy).clamp(assumed / BOUND, assumed * BOUND);
    let learned = |of: fn(&LearnedCapacity) -> i64, figure: &dyn Fn(&Shown) -> f64| {
        let old = remembered(of);
        if telling.is_empty() { old } else { old.with(mean(&telling, figure), new) }
    };
    let evidence = learned(|before| before.evidence, &can);
    let estimate = evidence.with(assumed, ASSUMED_MILLIS).value();
    let (confidence, reason) = confidence(&telling, can, evidence.weight, other);
    LearnedCapacity {
        estimate: rounded(estimate).max(1),
        confidence,
        reason,
        evidence: rounded(evidence.value()),
        weight_millis: rounded(evidence.weight),
        observed_at: time(now),
        message_bytes: rounded(learned(|before| before.message_bytes, &|shown| shown.message_bytes).value()),
        deliveries: rounded(learned(|before| before.deliveries, &|shown| shown.deliveries).value()),
    }
}

/// Whether messages or rooms are of another kind than those of the evidence.
#[allow(clippy::cast_precision_loss, reason = "figures far below 2^52")]
fn is_other(before: &LearnedCapacity, telling: &[Shown]) -> bool {
    if telling.is_empty() || before.weight_millis == 0 {
        return false;
    }
    let differs = |old: i64, new: f64| {
        let old = (old as f64).max(1.0);
        new.max(1.0) / old > OTHER || old / new.max(1.0) > OTHER
    };
    differs(before.message_bytes, mean(telling, |shown| shown.message_bytes))
        || differs(before.deliveries, mean(telling, |shown| shown.deliveries))
}

fn confidence(
    telling: &[Shown],
    can: impl Fn(&Shown) -> f64,
    weight: f64,
    other: bool,
) -> (Confidence, String) {
    let seconds = weight / 1_000.0;
    if weight < ASSUMED_MILLIS {
        let why = if other { "messages or rooms are of another kind than before: " } else { "" };
        let words =
            format!("{why}evidence of {seconds:.0} s of a busy node is less than what is assumed weighs");
        return (Confidence::Low, words);
    }
    if telling.is_empty() {
        let words = format!("evidence of {seconds:.0} s of a busy node, and none at present");
        return (Confidence::Medium, words);
    }
    let busiest = telling.iter().map(|shown| shown.busy).fold(0.0, f64::max);
    let most = telling.iter().map(&can).fold(0.0, f64::max);
    let least = telling.iter().map(&can).fold(f64::INFINITY, f64::min);
    let (nodes, percent) = (telling.len(), busiest * 100.0);
    if most > DIFFER * least {
        let words = format!("nodes differ: one can deliver {least:.0} messages/s, another one {most:.0}");
        return (Confidence::Medium, words);
    }
    if busiest < BUSY_ENOUGH {
        let words =
            format!("no node is busier than {percent:.0} %: what it does when it is full is far away");
        return (Confidence::Medium, words);
    }
    let words =
        format!("evidence of {seconds:.0} s of a busy node; {nodes} nodes tell, up to {percent:.0} % busy");
    (evidence::undoubted(weight, ASSUMED_MILLIS), words)
}

#[cfg(test)]
mod tests {
    use crds::{Confidence, LearnedCapacity};

    use super::{Shown, learn};

    /// A node that can do `can` messages per second, at work for the part `busy`.
    fn shows(can: f64, busy: f64) -> Shown {
        Shown { writes: can * busy, busy, age: 600_000, message_bytes: 120.0, deliveries: 40.0 }
    }

    /// Looks each 2 s for so many seconds.
    fn watch(before: Option<LearnedCapacity>, nodes: &[Shown], from: u64, seconds: u64) -> LearnedCapacity {
        let looks = (from..from + seconds).step_by(2);
        let learned =
            looks.fold(before, |before, at| Some(learn(before.as_ref(), nodes, 40_000, at * 1_000)));
        learned.unwrap()
    }

    #[test]
    fn it_finds_what_nodes_can_do() {
        for can in [10_000.0, 20_000.0, 40_000.0, 80_000.0] {
            let few = watch(None, &[shows(can, 0.5)], 0, 20);
            assert_eq!(few.confidence, Confidence::Low, "{few:?}");
            let learned = watch(None, &[shows(can, 0.5), shows(can, 0.6), shows(can, 0.7)], 0, 600);
            assert_eq!(learned.confidence, Confidence::High, "{learned:?}");
            let off = learned.estimate as f64 / can - 1.0;
            assert!(off.abs() < 0.2, "{can}: {learned:?}");
        }
    }

    #[test]
    fn nodes_that_tell_nothing_change_nothing() {
        let node = shows(20_000.0, 0.5);
        let silent = [Shown { age: 59_999, ..node }, shows(20_000.0, 0.14), shows(20_000.0, 0.95)];
        let learned = watch(None, &silent, 0, 600);
        assert_eq!((learned.estimate, learned.weight_millis), (40_000, 0), "{learned:?}");
        let before = watch(None, &[node; 3], 0, 600);
        let hour = watch(Some(before.clone()), &[], 600, 3_600);
        assert_eq!((hour.confidence, hour.evidence), (Confidence::Low, before.evidence), "{hour:?}");
        assert!(hour.estimate > 39_000, "what was seen an hour ago is forgotten: {hour:?}");
    }

    #[test]
    fn other_messages_are_followed_within_minutes() {
        let before = watch(None, &[shows(40_000.0, 0.5); 4], 0, 3_600);
        let larger = Shown { message_bytes: 480.0, ..shows(15_000.0, 0.6) };
        let learned = watch(Some(before), &[larger; 4], 3_600, 180);
        assert!((14_000..18_000).contains(&learned.evidence), "{learned:?}");
        let rooms = Shown { deliveries: 400.0, ..shows(60_000.0, 0.6) };
        let learned = watch(Some(learned), &[rooms; 4], 3_780, 180);
        assert!((52_000..=61_000).contains(&learned.evidence), "{learned:?}");
    }

    #[test]
    fn nodes_that_differ_are_said_to() {
        let learned =
            watch(None, &[shows(20_000.0, 0.8), shows(40_000.0, 0.4), shows(40_000.0, 0.4)], 0, 600);
        assert_eq!(learned.confidence, Confidence::Medium);
        assert!(learned.reason.starts_with("nodes differ: one can deliver 20000"), "{learned:?}");
    }

    #[test]
    fn whatever_nodes_say_it_is_within_bounds() {
        arbtest::arbtest(|u| {
            let (mut learned, mut now) = (None, 1_000_000u64);
            for _ in 0..u.int_in_range(1..=40)? {
                now = now
                    .saturating_add(u.int_in_range(0..=9_000_000)?)
                    .saturating_sub(u.int_in_range(0..=1_000)?);
                let mut nodes = Vec::new();
                for _ in 0..u.int_in_range(0..=5)? {
                    let busy = f64::from(u.int_in_range(0..=120u32)?) / 100.0;
                    let writes = f64::from(u.arbitrary::<u32>()?);
                    let message_bytes = f64::from(u.arbitrary::<u32>()?);
                    let deliveries = f64::from(u.arbitrary::<u16>()?);
                    nodes.push(Shown { writes, busy, age: u.arbitrary()?, message_bytes, deliveries });
                }
                let next = learn(learned.as_ref(), &nodes, 40_000, now);
                assert!((4_000..=400_000).contains(&next.estimate), "{next:?} of {nodes:?}");
                assert!(next.weight_millis >= 0, "{next:?}");
                learned = Some(next);
            }
            Ok(())
        });
    }
}
