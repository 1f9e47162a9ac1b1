//! One leader among the operators, by a Lease, as client-go's leader election does it: a lease of 15 s, renewed each
//! 2 s, given up by its holder when it could not be renewed for 10 s. Another holder's record counts as expired 15 s
//! after *we* last saw it change, so clocks of different machines are never compared.
//!
//! The ready-made crate for this keeps calling itself the leader while the API server cannot be reached, however long
//! that lasts; here [`Fence::held`] depends on time alone and is asked before each write.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock;

/// Name of the Lease.
pub const LEASE_NAME: &str = "channel-operator";
/// How long others leave a lease alone after they last saw it renewed.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// How long its holder relies on a lease after it last renewed it.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Pause between attempts; one attempt may take twice that.
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// How long before the end of the lease the last write of its holder is over.
const REQUEST_MARGIN: Duration = Duration::from_secs(1);
/// How long an operator that sees too little leaves the lease to others: longer than they need to take it.
const STAND_BACK: Duration = Duration::from_secs(30);
/// Looks at a lease within one attempt: each after a conflict with another writer's change of it.
const LOOKS: usize = 3;

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Whether this process leads now.
#[derive(Debug)]
pub struct Fence {
    until: AtomicU64,
    /// Until when this process does not want to lead.
    back_until: AtomicU64,
    changed: watch::Sender<()>,
}

impl Default for Fence {
    fn default() -> Self {
        Self { until: AtomicU64::new(0), back_until: AtomicU64::new(0), changed: watch::Sender::new(()) }
    }
}

impl Fence {
    /// Whether the lease was renewed within the last 10 s.
    #[must_use]
    pub fn held(&self) -> bool {
        clock::now() < self.until.load(Ordering::Acquire)
    }

    /// Lets the lease count as held for [`RENEW_DEADLINE`] from `since` (milliseconds).
    pub fn extend(&self, since: u64) {
        self.until.store(since + millis(RENEW_DEADLINE), Ordering::Release);
        self.changed.send_replace(());
    }

    /// How long a write that begins now may take, so that it is over before another process may lead; none while this
    /// process does not lead.
    #[must_use]
    pub fn request_time(&self) -> Option<Duration> {
        let held = self.until.load(Ordering::Acquire).checked_sub(clock::now())?;
        let beyond = LEASE_DURATION.saturating_sub(RENEW_DEADLINE).saturating_sub(REQUEST_MARGIN);
        Some(Duration::from_millis(held) + beyond)
    }

    /// Gives the lease up, and leaves it to others for a while: this process sees too little to lead.
    pub fn stand_back(&self) {
        self.back_until.store(clock::now() + millis(STAND_BACK), Ordering::Release);
        self.give_up();
    }

    /// Whether this process leaves the lease to others now.
    #[must_use]
    pub fn stands_back(&self) -> bool {
        clock::now() < self.back_until.load(Ordering::Acquire)
    }

    fn give_up(&self) {
        self.until.store(0, Ordering::Release);
        self.changed.send_replace(());
    }

    /// Returns when this process leads.
    pub async fn acquired(&self) {
        let mut changed = self.changed.subscribe();
        while !self.held() {
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Returns when this process no longer leads.
    pub async fn lost(&self) {
        let mut changed = self.changed.subscribe();
        while self.held() {
            let left = self.until.load(Ordering::Acquire).saturating_sub(clock::now());
            tokio::select! {
                _ = changed.changed() => {}
                () = tokio::time::sleep(Duration::from_millis(left + 1)) => {}
            }
        }
    }
}

/// How a term of leadership ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TermEnd {
    /// This process was asked to stop: the lease is given back, not lost.
    Stopped,
    /// The lease could not be renewed in time, or another process took it.
    Lost,
    /// The work ended by itself.
    Ended,
}

/// Does `work` while the lease is held and until `stop`. Whatever `work` does ends when it is dropped.
pub async fn term(fence: &Fence, stop: &CancellationToken, work: impl Future<Output = ()>) -> TermEnd {
    tokio::select! {
        biased;
        () = stop.cancelled() => TermEnd::Stopped,
        () = fence.lost() => TermEnd::Lost,
        () = work => TermEnd::Ended,
    }
}

/// A lease record as it was last seen, and when it was first seen like that.
#[derive(Clone, Debug, Default)]
pub(crate) struct LeaseSeen {
    spec: Option<LeaseSpec>,
    at: u64,
}

impl LeaseSeen {
    pub(crate) fn look(&mut self, spec: Option<&LeaseSpec>, now: u64) {
        if self.spec.as_ref() != spec || self.spec.is_none() {
            *self = Self { spec: spec.cloned(), at: now };
        }
    }

    /// The other process that has the lease, if one does.
    pub(crate) fn held_by_another(&self, identity: &str, now: u64) -> Option<&str> {
        let holder = self.spec.as_ref()?.holder_identity.as_deref()?;
        (!self.free_for(identity, now)).then_some(holder)
    }

    /// Whether `identity` may take the lease.
    pub(crate) fn free_for(&self, identity: &str, now: u64) -> bool {
        let Some(spec) = &self.spec else { return true };
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let seconds = u64::from(spec.lease_duration_seconds.unwrap_or_default().unsigned_abs());
        holder.is_empty() || holder == identity || now > self.at + seconds * 1_000
    }
}

/// Tries to lead until `stop`, then gives the lease back.
pub struct Elector {
    api: Api<Lease>,
    identity: String,
    fence: Arc<Fence>,
    seen: LeaseSeen,
}

impl Elector {
    /// An elector for the Lease of `namespace`.
    #[must_use]
    pub fn new(client: Client, namespace: &str, identity: String, fence: Arc<Fence>) -> Self {
        Self { api: Api::namespaced(client, namespace), identity, fence, seen: LeaseSeen::default() }
    }

    /// Runs until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut led = false;
        while !stop.is_cancelled() {
            if self.fence.stands_back() {
                if std::mem::take(&mut led) {
                    self.give_back().await;
                }
            } else {
                let started = clock::now();
                match tokio::time::timeout(RETRY_PERIOD * 2, self.attempt(started)).await {
                    // Meanwhile this process may have begun to leave the lease to others.
                    Ok(Ok(true)) if self.fence.stands_back() => led = true,
                    Ok(Ok(true)) => {
                        led = true;
                        self.fence.extend(started);
                    }
                    Ok(Ok(false)) => {
                        led = false;
                        self.fence.give_up();
                    }
                    Ok(Err(error)) => warn!(%error, "cannot renew the lease"),
                    Err(_) => warn!("the API server did not answer a lease request in time"),
                }
            }
            let pause = RETRY_PERIOD.mul_f64(rand::random_range(0.9..1.1));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
        if self.fence.held() {
            self.fence.give_up();
            self.give_back().await;
        }
    }

    async fn give_back(&self) {
        match tokio::time::timeout(RETRY_PERIOD, self.release()).await {
            Ok(Ok(())) => info!("gave the lease back"),
            Ok(Err(error)) => warn!(%error, "cannot give the lease back"),
            Err(_) => warn!("the API server did not take the lease back in time"),
        }
    }

    /// Whether the lease is ours after this attempt. When another writer changed the object, for example a label,
    /// that is a conflict and no reason to give up: only another holder is.
    async fn attempt(&mut self, now: u64) -> Result<bool, kube::Error> {
        for _ in 0..LOOKS {
            let written = match self.api.get_opt(LEASE_NAME).await? {
                None => {
                    let metadata = ObjectMeta { name: Some(LEASE_NAME.to_owned()), ..ObjectMeta::default() };
                    let lease = Lease { metadata, spec: Some(self.claim(None)) };
                    self.api.create(&PostParams::default(), &lease).await
                }
                Some(lease) => {
                    self.seen.look(lease.spec.as_ref(), now);
                    if !self.seen.free_for(&self.identity, now) {
                        return Ok(false);
                    }
                    let claim = Lease { spec: Some(self.claim(lease.spec.as_ref())), ..lease };
                    self.api.replace(LEASE_NAME, &PostParams::default(), &claim).await
                }
            };
            if conflict_is_false(written)? {
                return Ok(true);
            }
        }
        // The lease was not renewed, and no other process has it: it counts as held for the time that is left of it.
        Err(kube::Error::Service("the lease changed under each attempt".into()))
    }

    fn claim(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        let ours = before.is_some_and(|b| b.holder_identity.as_deref() == Some(&self.identity));
        let transitions = before.and_then(|b| b.lease_transitions).unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            acquire_time: if ours { before.and_then(|b| b.acquire_time.clone()) } else { now.clone() },
            renew_time: now,
            lease_transitions: Some(if ours || before.is_none() { transitions } else { transitions + 1 }),
            ..LeaseSpec::default()
        }
    }

    async fn release(&self) -> Result<(), kube::Error> {
        let Some(mut lease) = self.api.get_opt(LEASE_NAME).await? else { return Ok(()) };
        let Some(spec) = lease.spec.as_mut().filter(|s| s.holder_identity.as_deref() == Some(&self.identity))
        else {
            return Ok(());
        };
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        conflict_is_false(self.api.replace(LEASE_NAME, &PostParams::default(), &lease).await).map(|_| ())
    }
}

fn conflict_is_false(result: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::{Fence, LeaseSeen, LeaseSpec, TermEnd, term};

    fn held_by(holder: &str, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn anothers_lease_is_free_when_it_did_not_change_for_its_duration() {
        let mut seen = LeaseSeen::default();
        seen.look(Some(&held_by("a", 0)), 1_000);
        seen.look(Some(&held_by("a", 0)), 9_000);
        assert!(seen.free_for("a", 9_000) && !seen.free_for("b", 16_000) && seen.free_for("b", 16_001));
        seen.look(Some(&held_by("a", 1)), 16_001);
        assert!(!seen.free_for("b", 16_001), "it was renewed");
    }

    #[test]
    fn a_lease_given_back_or_never_made_is_free() {
        let mut seen = LeaseSeen::default();
        seen.look(None, 1);
        assert!(seen.free_for("b", 1));
        seen.look(Some(&held_by("", 3)), 2);
        assert!(seen.free_for("b", 2));
    }

    #[tokio::test]
    async fn a_process_that_is_asked_to_stop_did_not_lose_its_lease() {
        let (fence, stop) = (Fence::default(), tokio_util::sync::CancellationToken::new());
        fence.extend(crate::clock::now());
        stop.cancel();
        fence.give_up(); // as an elector does that gives the lease back
        for _ in 0..64 {
            // All three futures are ready, so the outcome must not depend on the order in which they are looked at.
            assert_eq!(term(&fence, &stop, std::future::ready(())).await, TermEnd::Stopped);
        }
        let goes_on = tokio_util::sync::CancellationToken::new();
        assert_eq!(term(&fence, &goes_on, std::future::pending()).await, TermEnd::Lost);
    }
}
