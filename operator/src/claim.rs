//! Keeps one installation for each namespace. Each installation elects its leader by a Lease of its own, so two
//! installations that watch the same namespaces would both lead; a leader therefore claims what it watches by a Lease
//! where all installations look: in each of the namespaces that it was told to watch, or in [`CLUSTER_SCOPE`] when it
//! watches all. The narrower claim counts: an operator for all namespaces leaves alone each namespace that another
//! one was told to watch.
//!
//! A claim belongs to an installation (its namespace), not to a process, and is never given back: it outlives each
//! change of the leader and ends by itself a minute after the installation is gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, ResourceExt};
use tracing::{info, warn};

use crate::clock;
use crate::events::Events;
use crate::lease::LeaseSeen;

/// Name of every claim.
pub const CLAIM_NAME: &str = "channelcluster-operator";
/// Namespace of the claim on all namespaces.
pub const CLUSTER_SCOPE: &str = "kube-system";
/// Label of every claim, and its value.
const LABEL: (&str, &str) = ("channelcluster.io/claim", "operator");
/// How long others leave a claim alone after they last saw it renewed, in seconds: longer than another leader takes
/// to take over.
const DURATION_SECONDS: u8 = 60;
/// How long its holder relies on a claim after it last renewed it (milliseconds).
const VALID_MILLIS: u64 = 30_000;
/// Pause between two looks.
const PERIOD: Duration = Duration::from_secs(5);
/// How long a new claim on one namespace waits until it counts (milliseconds): an operator for all namespaces looks
/// twice meanwhile, and leaves the namespace.
const SETTLE_MILLIS: u64 = 12_000;
/// Claims in a page of a list.
const CLAIMS_PAGE: u32 = 500;
/// Most claims of others that are read and kept: one per namespace, of which clusters have 10,000 at most.
const MOST_CLAIMS: usize = 10_000;

/// Our claims and those of others.
#[derive(Debug)]
pub struct Claims {
    installation: String,
    /// None for an installation that needs no claim and may act everywhere.
    watched: Option<Watched>,
    state: Mutex<State>,
}

/// What an operator was told to watch.
#[derive(Debug)]
enum Watched {
    Everything,
    Some(Vec<String>),
}

#[derive(Debug, Default)]
struct State {
    /// Our claims, by the namespace of the Lease.
    ours: BTreeMap<String, Ours>,
    /// Claims of others on single namespaces, as they were last seen.
    others: BTreeMap<String, LeaseSeen>,
    /// Whether it was logged that claims may not be written.
    said_forbidden: bool,
    /// Whether it was logged that claims of others may not be read.
    said_unseen: bool,
}

#[derive(Debug, Default)]
struct Ours {
    seen: LeaseSeen,
    /// The claim counts between these times.
    from: u64,
    until: u64,
    /// The other installation that has the claim.
    foreign: Option<String>,
}

impl Claims {
    /// The claims of an installation that watches `namespaces`; none: all.
    #[must_use]
    pub fn new(installation: &str, namespaces: &[String]) -> Self {
        let watched = match namespaces {
            [] => Watched::Everything,
            some => Watched::Some(some.to_vec()),
        };
        Self { installation: installation.to_owned(), watched: Some(watched), state: Mutex::default() }
    }

    /// The claims of an installation that is the only one.
    #[must_use]
    pub fn alone() -> Self {
        Self { installation: String::new(), watched: None, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this installation may act in a namespace.
    #[must_use]
    pub fn holds(&self, namespace: &str) -> bool {
        self.holds_at(namespace, clock::now())
    }

    fn holds_at(&self, namespace: &str, now: u64) -> bool {
        let state = self.state();
        let valid = |scope: &str| state.ours.get(scope).is_some_and(|own| own.from <= now && now < own.until);
        match &self.watched {
            None => true,
            Some(Watched::Some(_)) => valid(namespace),
            Some(Watched::Everything) => {
                let taken = state
                    .others
                    .get(namespace)
                    .and_then(|seen| seen.held_by_another(&self.installation, now));
                valid(CLUSTER_SCOPE) && taken.is_none()
            }
        }
    }

    /// The claims of other installations on what this one was told to watch: namespace and installation.
    #[must_use]
    pub fn foreign(&self) -> Vec<(String, String)> {
        let (state, now) = (self.state(), clock::now());
        let ours = state.ours.iter().filter_map(|(scope, own)| Some((scope.clone(), own.foreign.clone()?)));
        let others = state.others.iter().filter_map(|(namespace, seen)| {
            Some((namespace.clone(), seen.held_by_another(&self.installation, now)?.to_owned()))
        });
        ours.chain(others).collect()
    }

    /// The reason why nothing at all is done here, when that is because of other installations.
    #[must_use]
    pub fn stands_back(&self) -> Option<String> {
        let (state, now) = (self.state(), clock::now());
        let mut own = state.ours.iter();
        let (scope, holder) = own.find_map(|(scope, own)| Some((scope, own.foreign.as_ref()?)))?;
        if state.ours.values().any(|own| now < own.until) {
            return None;
        }
        Some(match &self.watched {
            Some(Watched::Some(_)) => {
                format!("the operator installed in namespace {holder} keeps namespace {scope}")
            }
            _ => format!("the operator installed in namespace {holder} keeps all namespaces"),
        })
    }

    /// Looks until dropped.
    pub async fn run(&self, client: &Client, events: &Events) {
        loop {
            tokio::time::sleep(PERIOD.mul_f64(rand::random_range(0.9..1.1))).await;
            self.look(client, events).await;
        }
    }

    /// Renews our claims, claims what is free, and reads the claims of others.
    pub async fn look(&self, client: &Client, events: &Events) {
        let scopes: &[String] = match &self.watched {
            None => return,
            Some(Watched::Everything) => {
                if let Err(error) = self.look_at_others(client).await
                    && !self.may_go_on_unseeing(&error)
                {
                    // The claims of others are not known, so our own claim ends unless the next look comes in time.
                    return;
                }
                &[CLUSTER_SCOPE.to_owned()]
            }
            Some(Watched::Some(some)) => some,
        };
        for scope in scopes {
            let before = self.state().ours.get(scope).and_then(|own| own.foreign.clone());
            if let Err(error) = self.claim(client, scope).await {
                self.failed(scope, &error);
            }
            let after = self.state().ours.get(scope).and_then(|own| own.foreign.clone());
            if before != after {
                say(events, scope, after.as_deref()).await;
            }
        }
    }

    async fn claim(&self, client: &Client, scope: &str) -> Result<(), kube::Error> {
        let api: Api<Lease> = Api::namespaced(client.clone(), scope);
        let started = clock::now();
        let live = api.get_opt(CLAIM_NAME).await?;
        let spec = live.as_ref().and_then(|lease| lease.spec.clone());
        {
            let mut state = self.state();
            let own = state.ours.entry(scope.to_owned()).or_default();
            own.seen.look(spec.as_ref(), started);
            if live.is_some() && !own.seen.free_for(&self.installation, started) {
                own.foreign = spec.and_then(|spec| spec.holder_identity);
                own.until = 0;
                return Ok(());
            }
        }
        let had = spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()) == Some(&self.installation);
        let written = match live {
            Some(lease) => {
                let claim = Lease { spec: Some(self.record(spec.as_ref())), ..lease };
                api.replace(CLAIM_NAME, &PostParams::default(), &claim).await
            }
            None => {
                let labels = [(LABEL.0.to_owned(), LABEL.1.to_owned())].into();
                let metadata = ObjectMeta {
                    name: Some(CLAIM_NAME.to_owned()),
                    labels: Some(labels),
                    ..ObjectMeta::default()
                };
                let claim = Lease { metadata, spec: Some(self.record(None)) };
                api.create(&PostParams::default(), &claim).await
            }
        };
        match written {
            Ok(_) => {}
            // Another process wrote first: the next look shows which.
            Err(kube::Error::Api(status)) if status.code == 409 => return Ok(()),
            Err(error) => return Err(error),
        }
        let settles = !had && matches!(self.watched, Some(Watched::Some(_)));
        self.claimed(scope, started, if settles { SETTLE_MILLIS } else { 0 });
        Ok(())
    }

    fn claimed(&self, scope: &str, at: u64, settle: u64) {
        let mut state = self.state();
        let own = state.ours.entry(scope.to_owned()).or_default();
        if own.until == 0 {
            own.from = at + settle;
        }
        own.until = at + VALID_MILLIS;
        own.foreign = None;
    }

    /// Without the right to write claims the operator acts all the same, and logs that nothing keeps a second one
    /// away.
    fn failed(&self, scope: &str, error: &kube::Error) {
        if !matches!(error, kube::Error::Api(status) if status.code == 403) {
            warn!(scope, %error, "cannot renew the claim on what is watched");
            return;
        }
        if !std::mem::replace(&mut self.state().said_forbidden, true) {
            warn!(scope, %error, "may not claim what is watched: nothing keeps a second installation from acting too");
        }
        self.claimed(scope, clock::now(), 0);
    }

    /// Reads all claims of others.
    async fn look_at_others(&self, client: &Client) -> Result<(), kube::Error> {
        let labels = format!("{}={}", LABEL.0, LABEL.1);
        let mut params = ListParams::default().labels(&labels).limit(CLAIMS_PAGE);
        let mut leases = Vec::new();
        loop {
            let page = Api::<Lease>::all(client.clone()).list(&params).await?;
            let next = page.metadata.continue_.filter(|token| !token.is_empty());
            leases.extend(page.items);
            let Some(next) = next else { break };
            if leases.len() >= MOST_CLAIMS {
                warn!(
                    most = MOST_CLAIMS,
                    "more claims than are read: those of the last namespaces are not known"
                );
                break;
            }
            params.continue_token = Some(next);
        }
        let now = clock::now();
        let mut state = self.state();
        let mut before = std::mem::take(&mut state.others);
        for lease in leases {
            let namespace = lease.namespace().unwrap_or_default();
            if lease.name_any() == CLAIM_NAME && namespace != CLUSTER_SCOPE {
                let mut seen = before.remove(&namespace).unwrap_or_default();
                seen.look(lease.spec.as_ref(), now);
                state.others.insert(namespace, seen);
            }
        }
        Ok(())
    }

    /// Whether to claim without having seen the claims of others: only when the right to see them is missing, which
    /// is logged once.
    fn may_go_on_unseeing(&self, error: &kube::Error) -> bool {
        if !matches!(error, kube::Error::Api(status) if status.code == 403) {
            warn!(%error, "cannot see which namespaces other installations keep: not renewing the claim");
            return false;
        }
        if !std::mem::replace(&mut self.state().said_unseen, true) {
            warn!(%error, "may not see which namespaces other installations keep");
        }
        true
    }

    fn record(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        let ours = before.filter(|spec| spec.holder_identity.as_deref() == Some(&self.installation));
        LeaseSpec {
            holder_identity: Some(self.installation.clone()),
            lease_duration_seconds: Some(i32::from(DURATION_SECONDS)),
            acquire_time: ours.map_or_else(|| now.clone(), |spec| spec.acquire_time.clone()),
            renew_time: now,
            ..LeaseSpec::default()
        }
    }
}

/// Says that another installation holds a claim, or no longer does.
async fn say(events: &Events, scope: &str, foreign: Option<&str>) {
    let about = ObjectReference {
        api_version: Some("coordination.k8s.io/v1".to_owned()),
        kind: Some("Lease".to_owned()),
        name: Some(CLAIM_NAME.to_owned()),
        namespace: Some(scope.to_owned()),
        ..ObjectReference::default()
    };
    match foreign {
        Some(holder) => {
            let note = format!(
                "the operator installed in namespace {holder} keeps what this one was told to watch: uninstall one of them, or give each its own namespaces (watchNamespaces)"
            );
            events.say_of(&about, true, "StandingBack", "Claim", &note).await;
        }
        None => info!(scope, "no other installation claims this any more"),
    }
}

/// Claims that several tasks share.
pub type SharedClaims = Arc<Claims>;

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(namespaces: &[&str]) -> Claims {
        let namespaces: Vec<_> = namespaces.iter().map(|name| (*name).to_owned()).collect();
        Claims::new("here", &namespaces)
    }

    fn held_by(holder: &str) -> LeaseSpec {
        let lease_duration_seconds = Some(i32::from(DURATION_SECONDS));
        LeaseSpec { holder_identity: Some(holder.to_owned()), lease_duration_seconds, ..LeaseSpec::default() }
    }

    #[test]
    fn a_claim_counts_for_its_time_only() {
        let all = claims(&[]);
        assert!(!all.holds_at("a", 1_000), "nothing was claimed yet");
        all.claimed(CLUSTER_SCOPE, 1_000, 0);
        assert!(all.holds_at("a", 1_000) && all.holds_at("b", 30_999) && !all.holds_at("a", 31_000));
    }

    #[test]
    fn the_narrower_claim_counts_and_settles_first() {
        let (all, some) = (claims(&[]), claims(&["a"]));
        all.claimed(CLUSTER_SCOPE, 1_000, 0);
        some.claimed("a", 1_000, SETTLE_MILLIS);
        assert!(!some.holds_at("a", 12_999) && some.holds_at("a", 13_000) && !some.holds_at("b", 13_000));
        let mut seen = LeaseSeen::default();
        seen.look(Some(&held_by("there")), 2_000);
        all.state().others.insert("a".to_owned(), seen);
        assert!(!all.holds_at("a", 3_000) && all.holds_at("b", 3_000));
        all.claimed(CLUSTER_SCOPE, 60_000, 0);
        assert!(all.holds_at("a", 62_001), "it was not renewed for a minute");
    }
}
