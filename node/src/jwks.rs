//! The keys of issuers that are fetched by their URL: one task for each, which fetches them again and again.
//!
//! A set that cannot be had, or that cannot be read, changes nothing: the keys that came before go on. When they are
//! fetched is decided by `node_core::auth::Schedule`. A token with a name of a key that nobody knows brings the next fetch
//! forward; the task looks for that by itself four times a second, so that a shard only has to set a flag.

use std::{
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use node_core::auth::{Algorithm, Freshness, Issuer, Jwks, Jwt, LEAST_REFRESH_MILLIS, Outcome, Schedule};
use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{Instant, sleep_until},
};

use crate::{
    jwks::request::{Answer, Request},
    sysinfo::unix_millis,
};

mod request;

/// How often a task looks whether a token has named a key that is not known.
const LOOK: Duration = Duration::from_millis(250);

/// The keys of one issuer.
#[derive(Debug)]
pub struct Source {
    jwks: Jwks,
    algorithms: Vec<Algorithm>,
    dir: PathBuf,
    /// The last set that was good.
    set: Mutex<Option<Arc<str>>>,
    freshness: Arc<Freshness>,
    since_millis: u64,
    fetches: AtomicU64,
    failures: AtomicU64,
}

/// What a source shows of itself.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Time in milliseconds since its keys were fetched; since it was declared when they never were.
    pub age_millis: u64,
    /// Fetches that were tried.
    pub fetches: u64,
    /// Of these, those that failed.
    pub failures: u64,
}

impl Source {
    fn new(jwt: &Jwt, jwks: &Jwks, dir: &Path) -> Self {
        Self {
            jwks: jwks.clone(),
            algorithms: jwt.algorithms.clone(),
            dir: dir.to_owned(),
            set: Mutex::default(),
            freshness: Arc::default(),
            since_millis: unix_millis(),
            fetches: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// Whether it has the keys of this issuer. What else the configuration says about the issuer does not matter.
    fn is_of(&self, jwt: &Jwt) -> bool {
        jwt.jwks.as_ref() == Some(&self.jwks) && jwt.algorithms == self.algorithms
    }

    /// The last set that was good.
    fn set(&self) -> Option<Arc<str>> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it shows of itself.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let fetched_at = self.freshness.fetched_at_millis();
        let since = if fetched_at > 0 { fetched_at } else { self.since_millis };
        Figures {
            age_millis: unix_millis().saturating_sub(since),
            fetches: self.fetches.load(Relaxed),
            failures: self.failures.load(Relaxed),
        }
    }

    /// Fetches the keys for ever. `changed` is told when there are others.
    async fn keep(self: Arc<Self>, changed: Arc<Notify>) {
        let mut schedule = Schedule::new(self.jwks.refresh());
        let (mut tag, mut told) = (None, None);
        loop {
            self.freshness.take_wanted();
            let outcome = self.fetch(&mut tag, &changed).await;
            let outcome = match outcome {
                Ok(fresh_seconds) => {
                    told = None;
                    Outcome::Fetched(fresh_seconds)
                }
                Err(why) => {
                    self.failures.fetch_add(1, Relaxed);
                    if told.as_ref() != Some(&why) {
                        tracing::error!("{why}; the keys that are known go on");
                    }
                    told = Some(why);
                    Outcome::Failed
                }
            };
            let pause = Duration::from_millis(schedule.pause(outcome, rand::random()));
            self.pause(pause, matches!(outcome, Outcome::Fetched(_))).await;
        }
    }

    /// One fetch; returns for how many seconds the keys are fresh if the issuer says it.
    async fn fetch(&self, tag: &mut Option<String>, changed: &Notify) -> Result<Option<u64>, String> {
        self.fetches.fetch_add(1, Relaxed);
        let request = Request::new(&self.jwks, &self.dir, tag.as_deref());
        let fresh_seconds = match request.send().await.map_err(|error| error.to_string())? {
            Answer::Unchanged { fresh_seconds } => fresh_seconds,
            Answer::Set { text, tag: new, fresh_seconds } => {
                Issuer::check_fetched(&self.algorithms, &text)
                    .map_err(|why| format!("what {} gives as keys of auth.jwt {why}", self.host()))?;
                *tag = new;
                let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
                if set.as_deref() != Some(&*text) {
                    *set = Some(text.into());
                    tracing::info!("{} has new keys of auth.jwt", self.host());
                    changed.notify_one();
                }
                fresh_seconds
            }
        };
        self.freshness.set_fetched(unix_millis());
        Ok(fresh_seconds)
    }

    fn host(&self) -> String {
        request::host(&self.jwks)
    }

    /// Waits until the next fetch, which a token may bring forward unless the last one failed.
    async fn pause(&self, pause: Duration, may_be_early: bool) {
        let now = Instant::now();
        let (end, early) = (now + pause, now + Duration::from_millis(LEAST_REFRESH_MILLIS));
        if !may_be_early || early >= end {
            return sleep_until(end).await;
        }
        sleep_until(early).await;
        while Instant::now() < end && !self.freshness.take_wanted() {
            sleep_until(end.min(Instant::now() + LOOK)).await;
        }
    }
}

/// The source of each entry of `auth.jwt` that has one, with the number of the entry.
pub type Listed = Vec<(usize, Arc<Source>)>;

/// All sources of the configuration, and the tasks that fetch.
#[derive(Debug)]
pub struct Sources {
    dir: PathBuf,
    listed: Arc<ArcSwap<Listed>>,
    tasks: Vec<(Arc<Source>, AbortHandle)>,
    changed: Arc<Notify>,
}

/// A set that was fetched, or none so far.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    set: Option<Arc<str>>,
    freshness: Arc<Freshness>,
}

impl Hash for Fetched {
    /// Two are the same when they have the same set of the same source.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.set.hash(state);
        Arc::as_ptr(&self.freshness).hash(state);
    }
}

impl Fetched {
    /// The issuer with these keys.
    pub(crate) fn issuer(&self, jwt: &Jwt) -> Result<Issuer, String> {
        Issuer::fetched(jwt, self.set.as_deref(), Arc::clone(&self.freshness))
    }
}

impl Sources {
    /// No sources; files of authorities are below `dir`.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), listed: Arc::default(), tasks: Vec::new(), changed: Arc::default() }
    }

    /// The sources, whatever they are at a time.
    pub(crate) fn listed(&self) -> Arc<ArcSwap<Listed>> {
        Arc::clone(&self.listed)
    }

    /// From now on these issuers count. A source that was there before keeps its keys.
    pub(crate) fn want(&mut self, issuers: &[Jwt]) {
        let old = self.listed.load_full();
        let of = |(index, jwt): (usize, &Jwt)| {
            let jwks = jwt.jwks.as_ref()?;
            let known =
                old.iter().find(|(_, source)| source.is_of(jwt)).map(|(_, source)| Arc::clone(source));
            Some((index, known.unwrap_or_else(|| Arc::new(Source::new(jwt, jwks, &self.dir)))))
        };
        let new: Listed = issuers.iter().enumerate().filter_map(of).collect();
        self.tasks.retain(|(source, task)| {
            let stays = new.iter().any(|(_, other)| Arc::ptr_eq(source, other));
            if !stays {
                task.abort();
            }
            stays
        });
        self.listed.store(Arc::new(new));
    }

    /// Starts the tasks that are missing, on the runtime of the caller.
    pub(crate) fn run(&mut self) {
        for (_, source) in &**self.listed.load() {
            if !self.tasks.iter().any(|(running, _)| Arc::ptr_eq(running, source)) {
                let task = tokio::spawn(Arc::clone(source).keep(Arc::clone(&self.changed)));
                self.tasks.push((Arc::clone(source), task.abort_handle()));
            }
        }
    }

    /// Waits until a source has other keys.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What was fetched for an issuer.
    pub(crate) fn fetched(&self, jwt: &Jwt) -> Option<Fetched> {
        let listed = self.listed.load();
        let (_, source) = listed.iter().find(|(_, source)| source.is_of(jwt))?;
        Some(Fetched { set: source.set(), freshness: Arc::clone(&source.freshness) })
    }
}
