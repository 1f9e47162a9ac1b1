//! One watch: it lists, follows, and lists again. It has a task of its own and makes its own pauses.
//!
//! The library's own watch does not tell its reader that a bookmark came, so a quiet watch and a dead one look the
//! same. Here each watch runs for a few seconds only: the server sends a bookmark 2 s before it ends a watch, so
//! something comes at least that often, and when nothing comes the watch is dead. To end and go on costs one request
//! and transfers nothing twice.
//!
//! Objects of others are never kept whole: a page of a list has a bound in bytes, each object is cut to the fields
//! that are read before the next one is looked at, and an object that belongs to no ChannelCluster is dropped.

use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::TryStreamExt;
use kube::api::{ListParams, WatchParams};
use kube::core::{ObjectList, Request, WatchEvent};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tracing::{debug, info, warn};

use crate::client::{AnswerLimit, FreshConnection, MAX_ANSWER, is_too_long};
use crate::pulses::{Pulse, STALE_MILLIS};
use crate::store::{Fill, Filler};

/// How long one watch runs, in seconds. When a short break leaves a dead connection, only the missing signs show it,
/// so this and [`SILENCE`] bound for how long nothing is heard after the break. The price is one request per kind in
/// that time.
const WATCH_SECONDS: u32 = 6;
/// Longest silence of a watch: after that its connection must be dead, since the server would have ended the watch.
const SILENCE: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 2);
/// A watch that ends sooner counts as a failure: a server that ends each watch at once is not asked without a pause.
const SHORT: Duration = Duration::from_secs(1);
/// First and longest pause after a failure.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));
/// Longest pause before objects that may not be seen are asked for again: the right may be given at any time.
const FORBIDDEN: Duration = Duration::from_secs(60);
/// Objects in a page of a list.
const PAGE: u32 = 500;
/// Longest page, in bytes; when one is longer, smaller ones are asked for. A single object may have [`MAX_ANSWER`].
const PAGE_BYTES: usize = 4 << 20;
/// A page that was too long is made smaller by this factor.
const SHRINK: u32 = 4;

/// Why a watch has to begin anew.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error("cannot list: {0}")]
    List(#[source] kube::Error),
    #[error("cannot watch: {0}")]
    Watch(#[source] kube::Error),
    #[error("the server ended the watch: {0}")]
    Refused(String),
    #[error("nothing came for {} s", SILENCE.as_secs())]
    Silent,
    #[error("the watch ended as soon as it had begun")]
    Short,
    #[error("the version that was seen last is no longer known")]
    Gone,
    #[error("a list without a version")]
    NoVersion,
}

/// The objects that are watched: one kind, with a label, in one namespace or in all.
pub struct Source<K: Resource<DynamicType = ()> + Clone + 'static> {
    /// Client of the API server.
    pub client: Client,
    /// None: all namespaces.
    pub namespace: Option<String>,
    /// Label selector; empty: everything.
    pub labels: String,
    /// Whether the server is to send nothing but the metadata; `K` is a `PartialObjectMeta` then.
    pub metadata_only: bool,
    /// The store that the objects go into.
    pub filler: Arc<Mutex<Filler<K>>>,
    /// Number of this source among those of the filler.
    pub number: usize,
    /// Told of each sign that the watch lives.
    pub pulse: Arc<Pulse>,
    /// What the operator goes on without where it may not see these objects; none: it cannot go on.
    pub without: Option<&'static str>,
}

impl<K> Source<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    /// Watches until dropped.
    pub async fn run(self) {
        let mut version: Option<String> = None;
        let mut failures = 0_u32;
        loop {
            let error = match self.turn(&mut version, failures > 0).await {
                Ok(()) => {
                    if failures > 0 {
                        info!(kind = self.pulse.kind, failures, "the watch goes on");
                        failures = 0;
                    }
                    continue;
                }
                Err(error) => error,
            };
            if matches!(error, Interrupted::Gone) {
                debug!(kind = self.pulse.kind, %error, "listing again");
                version = None;
            }
            failures = failures.saturating_add(1);
            self.pulse.failed();
            if let Some(without) = self.without.filter(|_| is_forbidden(&error)) {
                if failures == 1 {
                    warn!(kind = self.pulse.kind, "no right to list these: going on without {without}");
                }
                tokio::time::sleep(FORBIDDEN.mul_f64(rand::random_range(0.5..1.0))).await;
                continue;
            }
            if failures == 1 {
                warn!(kind = self.pulse.kind, %error, "the watch was interrupted, trying again");
            } else {
                debug!(kind = self.pulse.kind, %error, failures, "the watch was interrupted, trying again");
            }
            self.leave_out(&error);
            tokio::time::sleep(pause(failures, rand::random_range(0.5..1.0))).await;
        }
    }

    /// Lets the tasks that wait for the first lists of several namespaces go on without one that is gone, may not be
    /// seen, or has not answered for too long. This watch keeps trying.
    fn leave_out(&self, error: &Interrupted) {
        if self.namespace.is_none() || self.pulse.synced() || self.pulse.left_out() {
            return;
        }
        let lost =
            matches!(error, Interrupted::List(kube::Error::Api(status)) if [403, 404].contains(&status.code));
        if lost || self.pulse.age() > STALE_MILLIS {
            warn!(kind = self.pulse.kind, namespace = self.namespace, %error, "going on without this namespace");
            self.pulse.leave_out(true);
            self.filler().replace(self.number, Fill::default());
        }
    }

    /// Lists if there is no version to go on from, and watches once.
    async fn turn(&self, version: &mut Option<String>, fresh: bool) -> Result<(), Interrupted> {
        let mut from = match version.take() {
            Some(from) => from,
            None => self.list(fresh).await?,
        };
        let followed = self.follow(&mut from, fresh).await;
        *version = Some(from);
        followed
    }

    fn request(&self) -> Request {
        Request::new(K::url_path(&(), self.namespace.as_deref()))
    }

    /// Lists everything, page by page.
    async fn list(&self, mut fresh: bool) -> Result<String, Interrupted> {
        let mut fill = Fill::default();
        let mut params =
            ListParams { label_selector: self.selector(), limit: Some(PAGE), ..ListParams::default() };
        loop {
            let page = match self.page(&params, std::mem::take(&mut fresh)).await {
                Ok(page) => page,
                Err(error) if is_too_long(&error) && params.limit.is_some_and(|limit| limit > 1) => {
                    params.limit = params.limit.map(|limit| (limit / SHRINK).max(1));
                    continue;
                }
                Err(kube::Error::Api(status)) if status.code == 410 => return Err(Interrupted::Gone),
                Err(error) => return Err(Interrupted::List(error)),
            };
            self.pulse.beat();
            self.filler().listed(&mut fill, page.items);
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                let version = page.metadata.resource_version.filter(|version| !version.is_empty());
                let version = version.ok_or(Interrupted::NoVersion)?;
                self.filler().replace(self.number, fill);
                self.pulse.sync();
                self.pulse.leave_out(false);
                self.pulse.beat();
                return Ok(version);
            }
        }
    }

    async fn page(&self, params: &ListParams, fresh: bool) -> Result<ObjectList<K>, kube::Error> {
        let request = self.request();
        let request = if self.metadata_only { request.list_metadata(params) } else { request.list(params) };
        let mut request = request.map_err(kube::Error::BuildRequest)?;
        let whole = params.limit == Some(1);
        request.extensions_mut().insert(AnswerLimit(if whole { MAX_ANSWER } else { PAGE_BYTES }));
        if fresh {
            request.extensions_mut().insert(FreshConnection);
        }
        self.client.request(request).await
    }

    /// Watches once from a version on, and moves the version.
    async fn follow(&self, version: &mut String, fresh: bool) -> Result<(), Interrupted> {
        let params = WatchParams {
            label_selector: self.selector(),
            timeout: Some(WATCH_SECONDS),
            bookmarks: true,
            ..WatchParams::default()
        };
        let request = self.request();
        let request = if self.metadata_only {
            request.watch_metadata(&params, version)
        } else {
            request.watch(&params, version)
        };
        let mut request = request.map_err(|error| Interrupted::Watch(kube::Error::BuildRequest(error)))?;
        if fresh {
            request.extensions_mut().insert(FreshConnection);
        }
        let events = self.client.request_events::<K>(request).await.map_err(refused)?;
        let began = std::time::Instant::now();
        let mut events = pin!(events);
        loop {
            let next = tokio::time::timeout(SILENCE, events.try_next()).await;
            let event = next.map_err(|_| Interrupted::Silent)?.map_err(refused)?;
            let Some(event) = event else {
                if began.elapsed() < SHORT {
                    return Err(Interrupted::Short);
                }
                self.pulse.beat();
                return Ok(());
            };
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    self.moved(version, &object)?;
                    self.filler().apply(self.number, object);
                }
                WatchEvent::Deleted(object) => {
                    self.moved(version, &object)?;
                    self.filler().delete(&object);
                }
                WatchEvent::Bookmark(bookmark) => *version = bookmark.metadata.resource_version,
                WatchEvent::Error(status) if status.code == 410 => return Err(Interrupted::Gone),
                WatchEvent::Error(status) => return Err(Interrupted::Refused(status.message)),
            }
            self.pulse.beat();
        }
    }

    fn moved(&self, version: &mut String, object: &K) -> Result<(), Interrupted> {
        *version = object.meta().resource_version.clone().ok_or(Interrupted::NoVersion)?;
        Ok(())
    }

    fn selector(&self) -> Option<String> {
        Some(self.labels.clone()).filter(|labels| !labels.is_empty())
    }

    fn filler(&self) -> std::sync::MutexGuard<'_, Filler<K>> {
        self.filler.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the API server says that these objects may not be seen.
fn is_forbidden(error: &Interrupted) -> bool {
    let (Interrupted::List(error) | Interrupted::Watch(error)) = error else { return false };
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

fn refused(error: kube::Error) -> Interrupted {
    match error {
        kube::Error::Api(status) if status.code == 410 => Interrupted::Gone,
        error => Interrupted::Watch(error),
    }
}

/// Doubles from 250 ms to 2 s, times a jitter in 0.5 to 1.
fn pause(failures: u32, jitter: f64) -> Duration {
    let (first, longest) = PAUSES;
    first.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(longest).mul_f64(jitter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::HEAD_TIMEOUT;

    #[test]
    fn a_watch_is_back_within_ten_seconds_of_the_server() {
        assert_eq!(pause(1, 1.0), Duration::from_millis(250));
        assert_eq!(pause(u32::MAX, 1.0), Duration::from_secs(2));
        // The server was away for a moment only, and the connection is dead.
        assert!(SILENCE + pause(1, 1.0) < Duration::from_secs(10));
        // The server was away for long: an attempt that began just before it came back hangs, and the next comes
        // after the longest pause.
        assert!(HEAD_TIMEOUT + pause(u32::MAX, 1.0) < Duration::from_secs(10));
    }
}
