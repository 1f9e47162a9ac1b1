//! What changes about the node as a whole: found once a second by comparing it with what it was, so that nothing is told, and
//! nothing is counted for it, while nobody listens.

use std::sync::atomic::Ordering::Relaxed;

use node_core::{
    admin::NodePhase,
    api::news::Sort,
    counters::{CloseReason, Counters, JoinRefusal, Limit, RefuseReason},
};

use super::line::Line;
use crate::app::App;

/// The node at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) phase: NodePhase,
    connections: u64,
    /// Whether the bus is connected, and how often it was.
    bus: Option<(bool, u64)>,
    reloads: u64,
    refused_reloads: u64,
    /// How often each limit was hit.
    hits: [u64; Limit::COUNT],
}

impl Seen {
    /// The node now.
    pub(super) fn of(app: &App) -> Self {
        let sum = app.counters();
        Self {
            phase: app.phase(),
            connections: sum.connections,
            bus: app.bus.as_ref().map(|bus| (bus.connected(), bus.counts.connects.load(Relaxed))),
            reloads: app.reloads.load(Relaxed),
            refused_reloads: app.reload_failures.load(Relaxed),
            hits: hits(&sum),
        }
    }
}

/// How often each limit was hit: something was refused, closed or slowed down for it.
fn hits(sum: &Counters) -> [u64; Limit::COUNT] {
    let mut hits = [0; Limit::COUNT];
    let mut add = |limit: Option<Limit>, count: u64| {
        if let Some(limit) = limit {
            hits[limit as usize] += count;
        }
    };
    RefuseReason::ALL.iter().for_each(|reason| add(of_refusal(*reason), sum.refused[*reason as usize]));
    JoinRefusal::ALL.iter().for_each(|reason| add(of_join(*reason), sum.joins_refused[*reason as usize]));
    CloseReason::ALL.iter().for_each(|reason| add(of_close(*reason), sum.closed[*reason as usize]));
    add(Some(Limit::Messages), sum.rate_limited);
    add(Some(Limit::Payload), sum.beyond_limit);
    hits
}

const fn of_refusal(reason: RefuseReason) -> Option<Limit> {
    match reason {
        RefuseReason::Full => Some(Limit::Connections),
        RefuseReason::AddressFull => Some(Limit::AddressConnections),
        RefuseReason::Rate => Some(Limit::Handshakes),
        RefuseReason::AddressRate => Some(Limit::AddressHandshakes),
        RefuseReason::Memory | RefuseReason::MemoryLow => Some(Limit::Memory),
        RefuseReason::HeaderTooLarge => Some(Limit::RequestHead),
        _ => None,
    }
}

const fn of_join(reason: JoinRefusal) -> Option<Limit> {
    match reason {
        JoinRefusal::RoomFull => Some(Limit::Members),
        JoinRefusal::TooManyChannels => Some(Limit::Channels),
        JoinRefusal::TooManyRooms => Some(Limit::Rooms),
        JoinRefusal::Memory => Some(Limit::Memory),
        JoinRefusal::TopicTooLong => Some(Limit::Topic),
        JoinRefusal::Rate => Some(Limit::Joins),
        JoinRefusal::AddressRate => Some(Limit::AddressJoins),
        JoinRefusal::Unmatched
        | JoinRefusal::Unauthorized
        | JoinRefusal::TokenExpired
        | JoinRefusal::Hook
        | JoinRefusal::HookFailed => None,
    }
}

const fn of_close(reason: CloseReason) -> Option<Limit> {
    match reason {
        CloseReason::TooBig => Some(Limit::Frame),
        CloseReason::SlowConsumer => Some(Limit::SendQueue),
        CloseReason::Memory | CloseReason::Full => Some(Limit::Memory),
        _ => None,
    }
}

/// What has changed, as events. Of each limit it is one, with how often it was hit.
pub(super) fn changes(before: &Seen, after: &Seen) -> Vec<(Sort, Line<'static>)> {
    let state = |sort, state| (sort, Line { state: Some(state), ..Line::default() });
    let mut changes = Vec::new();
    for limit in Limit::ALL {
        let count = after.hits[*limit as usize].saturating_sub(before.hits[*limit as usize]);
        if count > 0 {
            let (name, key) = (Some(limit.label()), Some(limit.key()));
            changes.push((Sort::Limit, Line { limit: name, key, count: Some(count), ..Line::default() }));
        }
    }
    for (was, is, word) in [
        (before.reloads, after.reloads, "reloaded"),
        (before.refused_reloads, after.refused_reloads, "refused"),
    ] {
        if is > was {
            let count = Some(is - was);
            changes.push((Sort::Config, Line { state: Some(word), count, ..Line::default() }));
        }
    }
    if let (Some((was, connects)), Some((is, again))) = (before.bus, after.bus) {
        if was && (!is || again > connects) {
            changes.push(state(Sort::Bus, "lost"));
        }
        if is && (!was || again > connects) {
            changes.push(state(Sort::Bus, "back"));
        }
    }
    let words = drain(before.phase, after.phase);
    let connections = Some(after.connections);
    changes
        .extend(words.map(|word| (Sort::Drain, Line { state: Some(word), connections, ..Line::default() })));
    changes
}

/// What has become of a drain.
fn drain(before: NodePhase, after: NodePhase) -> impl Iterator<Item = &'static str> {
    let leaves = |phase| matches!(phase, NodePhase::Unready | NodePhase::Closing | NodePhase::Closed);
    let begun = (!leaves(before) && leaves(after)).then_some("begun");
    let ended = (before != NodePhase::Closed && after == NodePhase::Closed).then_some("ended");
    let cancelled = (leaves(before) && !leaves(after)).then_some("cancelled");
    [begun, ended, cancelled].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Seen {
        Seen {
            phase: NodePhase::Serving,
            connections: 3,
            bus: Some((true, 1)),
            reloads: 2,
            refused_reloads: 0,
            hits: [0; Limit::COUNT],
        }
    }

    /// The changes in short.
    fn told(before: &Seen, after: &Seen) -> Vec<(&'static str, &'static str, Option<u64>)> {
        let changes = changes(before, after);
        changes
            .iter()
            .map(|(sort, line)| (sort.name(), line.state.or(line.limit).expect("a word"), line.count))
            .collect()
    }

    #[test]
    fn nothing_is_told_when_nothing_has_changed() {
        assert!(changes(&seen(), &seen()).is_empty());
        assert!(changes(&seen(), &Seen { connections: 9, ..seen() }).is_empty());
    }

    #[test]
    fn a_drain_begins_ends_and_is_taken_back() {
        let at = |phase| Seen { phase, ..seen() };
        let words = |before, after| -> Vec<_> {
            told(&at(before), &at(after)).into_iter().map(|(_, word, _)| word).collect()
        };
        use NodePhase::{Closed, Closing, Serving, Starting, Unready};
        assert_eq!(words(Serving, Unready), ["begun"]);
        assert_eq!(words(Serving, Closed), ["begun", "ended"]);
        assert!(words(Unready, Closing).is_empty() && words(Starting, Serving).is_empty());
        assert_eq!(words(Closing, Closed), ["ended"]);
        assert_eq!(words(Closed, Serving), ["cancelled"]);
        let (_, line) = &changes(&at(Closing), &at(Closed))[0];
        assert_eq!(line.connections, Some(3));
    }

    #[test]
    fn the_bus_is_lost_and_back_also_within_one_look() {
        let at = |bus| Seen { bus, ..seen() };
        let words = |before, after| -> Vec<_> {
            told(&at(before), &at(after)).into_iter().map(|(_, word, _)| word).collect()
        };
        assert_eq!(words(Some((true, 1)), Some((false, 1))), ["lost"]);
        assert_eq!(words(Some((false, 1)), Some((true, 2))), ["back"]);
        assert_eq!(words(Some((true, 1)), Some((true, 2))), ["lost", "back"]);
        assert_eq!(words(Some((true, 1)), Some((false, 2))), ["lost"]);
        assert!(words(Some((false, 1)), Some((false, 1))).is_empty() && words(None, None).is_empty());
    }

    #[test]
    fn files_and_limits_are_counted() {
        let mut after = Seen { reloads: 4, refused_reloads: 1, ..seen() };
        after.hits[Limit::Rooms as usize] = 7;
        assert_eq!(
            told(&seen(), &after),
            [("limit", "rooms", Some(7)), ("config", "reloaded", Some(2)), ("config", "refused", Some(1))]
        );
    }

    #[test]
    fn what_is_refused_closed_or_slowed_down_is_a_hit_of_its_limit() {
        let mut sum = Counters::ZERO;
        sum.count_refused(RefuseReason::Full);
        sum.count_refused(RefuseReason::Token);
        sum.count_join_refused(JoinRefusal::RoomFull);
        sum.count_join_refused(JoinRefusal::Unauthorized);
        sum.count_join_refused(JoinRefusal::Memory);
        sum.count_closed(CloseReason::SlowConsumer);
        sum.count_closed(CloseReason::Peer);
        sum.count_refused(RefuseReason::Memory);
        sum.rate_limited = 4;
        let hits = hits(&sum);
        let of = |limit: Limit| hits[limit as usize];
        assert_eq!(hits.iter().sum::<u64>(), 9);
        let some = [Limit::Connections, Limit::Members, Limit::Memory, Limit::SendQueue, Limit::Messages];
        assert_eq!(some.map(of), [1, 1, 2, 1, 4]);
    }
}
