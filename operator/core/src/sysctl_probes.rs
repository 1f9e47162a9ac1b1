//! Pods that try whether kubelets take the unsafe sysctls of a fleet, before any node asks for them.
//!
//! A kubelet that refuses a sysctl fails the pod, and the ReplicaSet makes the next one at once ([`crate::refused`]). So for each
//! pool of machines one pod that does nothing asks for the sysctls first. What a pool answered is recorded in the status,
//! where any later leader finds it. Until all pools have answered a changed spec is not applied; a pool that does not answer
//! in time is no yes, and nodes are made without the sysctls until it has said so.

use std::collections::{BTreeMap, BTreeSet};

use crds::{ChannelClusterStatus, ProbeVerdict, ProbedPool, SysctlProbes};

use crate::hash::short_hash;
use crate::refused::Rejected;
use crate::timestamp::{millis, time};

mod pod;
mod pool;
#[cfg(test)]
mod tests;

pub(crate) use pod::POOL_ANNOTATION;
pub use pod::{Answer, PROBE_LABEL, ProbePod, key};
pub use pool::{POOL_LABELS, Pool, pools};

/// How long a round of probes lasts, in milliseconds: a pod has its network within a few seconds of being made, and this is also
/// for machines that pull images meanwhile.
pub const ROUND_MILLIS: u64 = 60_000;
/// How long a pod may wait for a machine of its pool before the pool counts as one where nothing is placed, in milliseconds.
const PLACE_MILLIS: u64 = 10_000;
/// Pause between the beginnings of two rounds while some pool has not answered, in milliseconds.
const AGAIN_MILLIS: u64 = 600_000;
/// Most pools in a record, those that are away for a while among them.
const MOST_RECORDED: usize = 64;
/// Most characters of somebody's words in the status.
const MAX_WORDS: usize = 160;

/// How it stands with the unsafe sysctls that a spec asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// Each is allowed, or nodes have it already; or there is none.
    #[default]
    Given,
    /// Pools are still to answer.
    Awaited,
    /// Some pool did not answer in time: nodes are made without them.
    Missing,
}

/// How it stands with the sysctls `unsafe_ones`, of which nodes have those in `kept`. `tuning` identifies the `spec.tuning`
/// ([`crate::refused::key`]).
#[must_use]
pub fn proof(
    status: Option<&ChannelClusterStatus>,
    tuning: &str,
    unsafe_ones: &BTreeMap<String, String>,
    kept: &BTreeSet<String>,
) -> Proof {
    if unsafe_ones.keys().all(|name| kept.contains(name)) {
        return Proof::Given;
    }
    let record = status.and_then(|status| status.sysctl_probes.as_ref());
    match record.filter(|record| is_about(record, tuning, unsafe_ones.keys())) {
        None => Proof::Awaited,
        Some(record) if record.pools.iter().any(|pool| pool.verdict == ProbeVerdict::Pending) => {
            Proof::Awaited
        }
        // A refusal that left nothing out is no permission.
        Some(record)
            if is_settled(record)
                && record.pools.iter().all(|pool| pool.verdict != ProbeVerdict::Forbidden) =>
        {
            Proof::Given
        }
        Some(_) => Proof::Missing,
    }
}

/// What is to be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish<'a> {
    /// What identifies the `spec.tuning`.
    pub tuning: &'a str,
    /// Names of the unsafe sysctls that it asks for.
    pub names: Vec<String>,
    /// Whether nodes lack one of them.
    pub lacks: bool,
}

impl Wish<'_> {
    /// What identifies it ([`key`]).
    #[must_use]
    pub fn key(&self) -> String {
        key(self.tuning, &self.names)
    }
}

/// What is to be done about a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Make one.
    Make(Pool),
    /// Delete the one of this name.
    Delete(String),
}

/// What is to be recorded, and done about the pods once it is.
#[must_use]
pub fn step(
    previous: Option<&SysctlProbes>,
    wish: Option<&Wish<'_>>,
    pools: &[Pool],
    pods: &[ProbePod],
    now: u64,
) -> (Option<SysctlProbes>, Vec<Order>) {
    let delete = |pod: &ProbePod| pod.name.clone().map(Order::Delete);
    let known = |wish: &&Wish<'_>| previous.filter(|record| is_about(record, wish.tuning, wish.names.iter()));
    let Some((wish, known)) =
        wish.map(|wish| (wish, known(&wish))).filter(|(wish, known)| wish.lacks || known.is_some())
    else {
        return (None, pods.iter().filter_map(delete).collect());
    };
    let mut record = known.cloned().unwrap_or_else(|| SysctlProbes {
        tuning: wish.tuning.to_owned(),
        names: wish.names.clone(),
        since: time(now),
        pools: Vec::new(),
    });
    let pools = follow(&mut record, pools, now);
    let key = key(&record.tuning, &record.names);
    let of_pool = |name: &str| pods.iter().find(|pod| pod.key == key && pod.pool == name);
    let open = age(&record, now) < ROUND_MILLIS;
    for pool in record.pools.iter_mut().filter(|pool| !is_final(pool.verdict)) {
        judge(pool, of_pool(&pool.name), open, now);
    }
    // A pod that waits for a place longer than it takes to find one would have an autoscaler buy a machine.
    let tries = |pool: &ProbedPool| matches!(pool.verdict, ProbeVerdict::Pending | ProbeVerdict::Unanswered);
    let wanted = |name: &str| open && record.pools.iter().any(|pool| pool.name == name && tries(pool));
    let ended = |pod: &ProbePod| matches!(pod.answer, Answer::Ended(_));
    let stale = pods.iter().filter(|pod| pod.key != key || !wanted(&pod.pool) || ended(pod));
    let missing = pools.into_iter().filter(|pool| wanted(&pool.name()) && of_pool(&pool.name()).is_none());
    let orders = stale.filter_map(delete).chain(missing.map(Order::Make)).collect();
    (Some(record), orders)
}

/// Brings the pools of a record up to those that there are, and begins another round where that is due. Gives the pools that
/// the record speaks of.
fn follow(record: &mut SysctlProbes, pools: &[Pool], now: u64) -> Vec<Pool> {
    // Where machines are not seen for a while, what was found about them stays.
    let unseen = pools == [Pool::Any] && record.pools.iter().any(|pool| pool.name != Pool::Any.name());
    let pools = if unseen { &[] } else { pools };
    // What a pool answered stays though its only machine is away for a while.
    if !pools.is_empty() {
        let there = |pool: &ProbedPool| pools.iter().any(|there| there.name() == pool.name);
        record.pools.retain(|pool| there(pool) || is_final(pool.verdict));
        while record.pools.len() > MOST_RECORDED
            && let Some(gone) = record.pools.iter().position(|pool| !there(pool))
        {
            record.pools.remove(gone);
        }
    }
    let first = record.pools.is_empty();
    let awaited = record.pools.iter().any(|pool| pool.verdict == ProbeVerdict::Pending);
    // A fleet that goes on without the sysctls waits for no pool that comes later.
    let verdict =
        if first || awaited || is_settled(record) { ProbeVerdict::Pending } else { ProbeVerdict::Unanswered };
    for pool in pools {
        if record.pools.iter().all(|known| known.name != pool.name()) {
            record.pools.push(ProbedPool { name: pool.name(), verdict, message: String::new() });
            // A round that somebody waits for has one end, whatever comes meanwhile.
            if first || !awaited {
                record.since = time(now);
            }
        }
    }
    let due = age(record, now) >= AGAIN_MILLIS;
    if due && !is_settled(record) {
        record.since = time(now);
        let full = record.pools.iter_mut().filter(|pool| pool.verdict == ProbeVerdict::NotPlaced);
        full.for_each(|pool| pool.verdict = ProbeVerdict::Unanswered);
    }
    pools.to_vec()
}

/// Takes in how the pod of a pool does. While a round lasts, a pool that did not answer in an earlier one is not taken back to
/// [`ProbeVerdict::Pending`]: nothing waits for it any more.
fn judge(pool: &mut ProbedPool, pod: Option<&ProbePod>, open: bool, now: u64) {
    let age = pod.map_or(0, |pod| now.saturating_sub(pod.created));
    let (verdict, words) = match pod.map(|pod| &pod.answer) {
        Some(Answer::Taken) => (ProbeVerdict::Allowed, ""),
        Some(Answer::Forbidden(words)) => (ProbeVerdict::Forbidden, words.as_str()),
        Some(Answer::Unplaced(words)) if age >= PLACE_MILLIS => (ProbeVerdict::NotPlaced, words.as_str()),
        Some(Answer::Unplaced(words) | Answer::Waits(words) | Answer::Ended(words)) => {
            (pool.verdict, words.as_str())
        }
        None => (pool.verdict, pool.message.as_str()),
    };
    let late = verdict == ProbeVerdict::Pending && !open;
    let verdict = if late { ProbeVerdict::Unanswered } else { verdict };
    let message = words.chars().take(MAX_WORDS).collect();
    *pool = ProbedPool { name: std::mem::take(&mut pool.name), verdict, message };
}

/// Milliseconds since the last round began.
fn age(record: &SysctlProbes, now: u64) -> u64 {
    now.saturating_sub(millis(&record.since))
}

fn is_final(verdict: ProbeVerdict) -> bool {
    matches!(verdict, ProbeVerdict::Allowed | ProbeVerdict::Forbidden)
}

/// Whether every pool has answered that the fleet's pods can be placed in, and there is one.
fn is_settled(record: &SysctlProbes) -> bool {
    let mut placed = record.pools.iter().filter(|pool| pool.verdict != ProbeVerdict::NotPlaced).peekable();
    placed.peek().is_some() && placed.all(|pool| is_final(pool.verdict))
}

fn is_about<'a>(record: &SysctlProbes, tuning: &str, names: impl Iterator<Item = &'a String>) -> bool {
    record.tuning == tuning && names.eq(&record.names)
}

/// Whether the pods of a fleet's probes have to be looked at.
#[must_use]
pub fn are_watched(record: Option<&SysctlProbes>, wish: Option<&Wish<'_>>, now: u64) -> bool {
    match (record, wish) {
        (None, None) => false,
        (None, Some(wish)) => wish.lacks,
        (Some(_), None) => true,
        (Some(record), Some(wish)) => {
            let open = age(record, now) < ROUND_MILLIS * 2;
            open || !is_about(record, wish.tuning, wish.names.iter())
        }
    }
}

/// The refusals among the pods that try what is asked for now, as those of a node's pod from the template with this hash.
#[must_use]
pub fn rejected(wish: &Wish<'_>, pods: &[ProbePod], template: &str) -> Vec<Rejected> {
    let key = wish.key();
    let refused = |pod: &ProbePod| match &pod.answer {
        Answer::Forbidden(message) if pod.key == key => Some(Rejected {
            created: pod.created,
            template: Some(template.to_owned()),
            message: message.clone(),
            sysctls: wish.names.clone(),
        }),
        _ => None,
    };
    pods.iter().filter_map(refused).collect()
}

/// What a condition says while some pool has not answered: its status, its reason and a sentence. None when all have.
#[must_use]
pub fn sentence(record: &SysctlProbes) -> Option<(&'static str, &'static str, String)> {
    let names = record.names.join(", ");
    let waiting: Vec<_> = record.pools.iter().filter(|pool| pool.verdict == ProbeVerdict::Pending).collect();
    if !waiting.is_empty() {
        let pools = named(&waiting);
        return Some((
            "Unknown",
            "SysctlProbing",
            format!("a pod on {pools} tries {names} before nodes ask for it"),
        ));
    }
    if is_settled(record) {
        return None;
    }
    let silent: Vec<_> = record.pools.iter().filter(|pool| !is_final(pool.verdict)).collect();
    let words = silent.iter().map(|pool| pool.message.as_str()).find(|words| !words.is_empty());
    let words = words.map_or_else(String::new, |words| format!(" ({words})"));
    let pools = if silent.is_empty() { "any machine".to_owned() } else { named(&silent) };
    Some((
        "False",
        "SysctlUnproven",
        format!(
            "no pod that tries {names} came to run on {pools}{words}: nodes are made without it, and it is tried again each 10 \
             minutes; make room there, or keep the nodes elsewhere with nodes.nodeSelector"
        ),
    ))
}

/// A few of these pools.
fn named(pools: &[&ProbedPool]) -> String {
    const FEW: usize = 3;
    let few: Vec<_> = pools.iter().take(FEW).map(|pool| pool.name.as_str()).collect();
    match pools.len().saturating_sub(FEW) {
        0 => few.join(", "),
        more => format!("{} and {more} more", few.join(", ")),
    }
}

/// The name of the probe of a pool.
pub(crate) fn pod_name(cluster: &str, key: &str, pool: &Pool) -> String {
    format!("{cluster}-sysctls-{}", short_hash(format!("{key} {}", pool.name()).as_bytes()))
}
