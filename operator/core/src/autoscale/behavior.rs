//! Stabilization and policies with the semantics of HorizontalPodAutoscaler v2
//! (`pkg/controller/podautoscaler/horizontal.go` of Kubernetes 1.34: `stabilizeRecommendationWithBehaviors`,
//! `calculateScaleUpLimitWithScalingRules`, `calculateScaleDownLimitWithBehaviors`).

use std::collections::VecDeque;
use std::time::Duration;

use crds::{PolicyType, SelectPolicy};

use crate::validate::{Pace, PacePolicy};

/// Most entries of a history: an hour (the longest window and the longest period) at one each 2 s.
const MAX_ENTRIES: usize = 1_800;

/// Adds an entry to a history that is kept for so many milliseconds: what nobody looks at any more would be most of the memory of
/// an operator with thousands of fleets.
pub(super) fn remember(history: &mut VecDeque<(u64, i32)>, kept: u64, entry: (u64, i32)) {
    while history.len() >= MAX_ENTRIES
        || history.front().is_some_and(|(at, _)| at.saturating_add(kept) < entry.0)
    {
        history.pop_front();
    }
    history.push_back(entry);
}

/// Milliseconds of a duration.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The lowest recommendation inside the window of growth and the highest inside the window of shrinking, the present
/// one not among them.
#[must_use]
pub fn extremes(
    recommendations: &VecDeque<(u64, i32)>,
    (up, down): (&Pace, &Pace),
    now: u64,
) -> (Option<i32>, Option<i32>) {
    let within = |pace: &Pace| {
        let since = now.saturating_sub(millis(pace.stabilization));
        recommendations.iter().filter(move |(at, _)| *at > since).map(|(_, nodes)| *nodes)
    };
    (within(up).min(), within(down).max())
}

/// The most cautious of `recommended` and the [`extremes`] before it.
#[must_use]
pub fn stabilize(current: i32, recommended: i32, (least, most): (Option<i32>, Option<i32>)) -> i32 {
    let least = least.map_or(recommended, |least| least.min(recommended));
    let most = most.map_or(recommended, |most| most.max(recommended));
    if current < least {
        least
    } else if current > most {
        most
    } else {
        current
    }
}

/// The highest and the lowest count that the policies allow now; none where they set no bound. `changes` are (when,
/// nodes added or removed).
#[must_use]
pub fn limits(
    current: i32,
    changes: &VecDeque<(u64, i32)>,
    (up, down): (&Pace, &Pace),
    now: u64,
) -> (Option<i32>, Option<i32>) {
    (limit_up(current, changes, up, now), limit_down(current, changes, down, now))
}

/// Limits a change to what [`limits`] says.
#[must_use]
pub fn pace(current: i32, desired: i32, (up, down): (Option<i32>, Option<i32>)) -> i32 {
    use std::cmp::Ordering::{Equal, Greater, Less};
    match desired.cmp(&current) {
        Equal => desired,
        Greater => up.map_or(desired, |limit| desired.min(limit)),
        Less => down.map_or(desired, |limit| desired.max(limit)),
    }
}

/// Nodes added and removed within a policy's period.
fn moved(changes: &VecDeque<(u64, i32)>, policy: &PacePolicy, now: u64) -> (i32, i32) {
    let since = now.saturating_sub(millis(policy.period));
    let within = || changes.iter().filter(move |(at, _)| *at > since).map(|(_, delta)| *delta);
    (within().filter(|d| *d > 0).sum(), -within().filter(|d| *d < 0).sum::<i32>())
}

fn limit_up(current: i32, changes: &VecDeque<(u64, i32)>, rules: &Pace, now: u64) -> Option<i32> {
    let limits = rules.policies.iter().map(|policy| {
        let (added, removed) = moved(changes, policy, now);
        let start = current - added + removed;
        match policy.kind {
            PolicyType::Pods => start.saturating_add(policy.value),
            PolicyType::Percent => percent(start, 100 + i64::from(policy.value), true),
        }
    });
    let limit = match rules.select {
        SelectPolicy::Disabled => return Some(current),
        SelectPolicy::Max => limits.max(),
        SelectPolicy::Min => limits.min(),
    };
    limit.map(|limit| limit.max(current))
}

fn limit_down(current: i32, changes: &VecDeque<(u64, i32)>, rules: &Pace, now: u64) -> Option<i32> {
    let limits = rules.policies.iter().map(|policy| {
        let (added, removed) = moved(changes, policy, now);
        let start = current - added + removed;
        match policy.kind {
            PolicyType::Pods => start.saturating_sub(policy.value),
            PolicyType::Percent => percent(start, 100 - i64::from(policy.value), false),
        }
    });
    let limit = match rules.select {
        SelectPolicy::Disabled => return Some(current),
        SelectPolicy::Max => limits.min(),
        SelectPolicy::Min => limits.max(),
    };
    limit.map(|limit| limit.min(current))
}

/// `percent` of `nodes`, rounded up when growing and down when shrinking, as the HorizontalPodAutoscaler does.
fn percent(nodes: i32, percent: i64, up: bool) -> i32 {
    let product = (i64::from(nodes) * percent).max(0);
    let rounded = if up { (product + 99) / 100 } else { product / 100 };
    i32::try_from(rounded).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crds::{PolicyType, SelectPolicy};

    use super::{extremes, limits, pace, stabilize};
    use crate::validate::{Pace, PacePolicy};

    fn rules(window: u64, policies: &[(PolicyType, i32, u64)], select: SelectPolicy) -> Pace {
        let policies = policies
            .iter()
            .map(|&(kind, value, period)| PacePolicy { kind, value, period: Duration::from_secs(period) })
            .collect();
        Pace { stabilization: Duration::from_secs(window), policies, select }
    }

    fn horizontal_up() -> Pace {
        rules(0, &[(PolicyType::Pods, 4, 15), (PolicyType::Percent, 100, 15)], SelectPolicy::Max)
    }

    fn default_down() -> Pace {
        rules(300, &[], SelectPolicy::Max)
    }

    fn stable(current: i32, wanted: i32, history: &[(u64, i32)], both: (&Pace, &Pace), now: u64) -> i32 {
        stabilize(current, wanted, extremes(&history.iter().copied().collect(), both, now))
    }

    fn paced(current: i32, wanted: i32, changes: &[(u64, i32)], both: (&Pace, &Pace), now: u64) -> i32 {
        pace(current, wanted, limits(current, &changes.iter().copied().collect(), both, now))
    }

    #[test]
    fn shrinking_waits_for_the_window_and_growing_does_not() {
        let both = (&horizontal_up(), &default_down());
        let history = [(1_000, 5), (200_000, 2)];
        assert_eq!(stable(5, 2, &history, both, 300_000), 5);
        assert_eq!(stable(5, 2, &history, both, 301_000), 2);
        assert_eq!(stable(5, 9, &history, both, 300_000), 9);
    }

    #[test]
    fn growing_waits_for_a_window_that_was_asked_for() {
        let up = rules(10, &[], SelectPolicy::Max);
        assert_eq!(stable(2, 6, &[(95_000, 3)], (&up, &default_down()), 100_000), 3);
    }

    #[test]
    fn the_pace_of_the_horizontal_pod_autoscaler_is_four_or_double() {
        let both = (&horizontal_up(), &default_down());
        assert_eq!(paced(2, 50, &[], both, 1_000), 6);
        assert_eq!(paced(20, 50, &[], both, 1_000), 40);
        assert_eq!(paced(6, 50, &[(1_000, 4)], both, 10_000), 6, "the period's start was 2");
        assert_eq!(paced(6, 50, &[(1_000, 4)], both, 16_001), 12);
        assert_eq!(paced(20, 1, &[], both, 1_000), 1);
    }

    #[test]
    fn select_policy_chooses() {
        let policies = [(PolicyType::Pods, 1, 60), (PolicyType::Percent, 50, 60)];
        let with = |select, current, changes: &[(u64, i32)], now| {
            paced(current, 1, changes, (&horizontal_up(), &rules(0, &policies, select)), now)
        };
        assert_eq!(with(SelectPolicy::Max, 10, &[], 0), 5);
        assert_eq!(with(SelectPolicy::Min, 10, &[], 0), 9);
        assert_eq!(with(SelectPolicy::Disabled, 10, &[], 0), 10);
        assert_eq!(with(SelectPolicy::Min, 9, &[(1_000, -1)], 60_000), 9, "one went in this period");
        assert_eq!(with(SelectPolicy::Min, 9, &[(1_000, -1)], 61_000), 8);
    }
}
