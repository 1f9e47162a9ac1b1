//! When each hindrance was first seen. The transition time of a condition does not tell that: it is kept while the
//! reason changes and the status does not.

use std::collections::HashMap;

use crds::ChannelClusterStatus;

use super::reason::{Hindrance, Reason};
use crate::names::Component;

/// For how long a hindrance is remembered after it was last seen, in milliseconds: a process that ends again and
/// again runs for a while in between, and two hindrances may take turns.
const REMEMBERED_MILLIS: u64 = 60_000;

/// When something was first and last seen, in milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: u64,
    last: u64,
}

/// What hindered lately; one entry for each component and reason at most.
#[derive(Debug, Default)]
pub struct Ages {
    spans: HashMap<(Component, Reason), Span>,
    looked: bool,
}

impl Ages {
    /// Takes what hinders at `now` (milliseconds since 1970). At the first look a reason that stands in a condition
    /// of `previous`, the status that another operator may have written, has hindered since that condition's
    /// transition.
    pub fn look(&mut self, now: u64, hindrances: &[Hindrance], previous: &ChannelClusterStatus) {
        let looked = std::mem::replace(&mut self.looked, true);
        for hindrance in hindrances {
            let first =
                if looked { now } else { told(previous, hindrance.reason).map_or(now, |at| at.min(now)) };
            let key = (hindrance.component, hindrance.reason);
            self.spans.entry(key).or_insert(Span { first, last: now }).last = now;
        }
        self.spans.retain(|_, span| now.saturating_sub(span.last) < REMEMBERED_MILLIS);
    }

    /// When the oldest of these hindrances was first seen, in milliseconds since 1970.
    #[must_use]
    pub fn since(&self, hindrances: &[Hindrance]) -> Option<u64> {
        let spans = hindrances.iter().filter_map(|h| self.spans.get(&(h.component, h.reason)));
        spans.map(|span| span.first).min()
    }
}

/// Since when a condition of a status has had this reason.
fn told(status: &ChannelClusterStatus, reason: Reason) -> Option<u64> {
    let bad = [("Ready", "False"), ("Reconciling", "True")];
    let conditions = status.conditions.iter().filter(|c| c.reason == reason.as_str());
    let bad = conditions.filter(|c| bad.contains(&(c.type_.as_str(), c.status.as_str())));
    bad.map(|c| u64::try_from(c.last_transition_time.0.as_millisecond()).unwrap_or_default()).min()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

    use super::*;

    fn hindrance(reason: Reason) -> Hindrance {
        let words = String::new();
        Hindrance { component: Component::Node, reason, pod: None, words, remedy: "" }
    }

    fn status(reason: &str) -> ChannelClusterStatus {
        let ready = Condition {
            type_: "Ready".to_owned(),
            status: "False".to_owned(),
            reason: reason.to_owned(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: crate::timestamp::time(10_000),
        };
        ChannelClusterStatus { conditions: vec![ready], ..ChannelClusterStatus::default() }
    }

    #[test]
    fn each_has_its_own_age_and_a_short_break_does_not_end_it() {
        let (mut ages, crash, quota) =
            (Ages::default(), [hindrance(Reason::CrashLoop)], [hindrance(Reason::QuotaExceeded)]);
        let nothing = status("NodesNotReady");
        ages.look(200_000, &crash, &nothing);
        assert_eq!(ages.since(&crash), Some(200_000), "the condition is about something else");
        ages.look(230_000, &[], &nothing);
        ages.look(250_000, &quota, &nothing);
        assert_eq!((ages.since(&crash), ages.since(&quota)), (Some(200_000), Some(250_000)));
        ages.look(300_000, &quota, &nothing);
        ages.look(310_000, &crash, &nothing);
        assert_eq!(ages.since(&crash), Some(310_000), "it had been gone for long");
    }

    #[test]
    fn a_new_leader_takes_over_what_the_status_says_of_it() {
        let (mut ages, crash) = (Ages::default(), [hindrance(Reason::CrashLoop)]);
        ages.look(200_000, &crash, &status("CrashLoop"));
        assert_eq!(ages.since(&crash), Some(10_000));
    }
}
