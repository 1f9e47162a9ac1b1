//! Who asks, and whether that one may.

use std::sync::Arc;

use axum::{
    body::HttpBody as _,
    extract::{FromRequestParts, Request, State},
    http::{Uri, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use node_core::{
    api::{
        keys::{self, Key, Refused, Scope},
        request::BODY_BYTES,
    },
    topic::TopicName,
};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Api, STEP_BYTES,
    problem::{Problem, Sort},
};
use crate::{secrets, sysinfo};

/// Who asks, with the place of the request.
#[derive(Debug)]
pub(super) struct Caller {
    key: Key,
    _permits: [OwnedSemaphorePermit; 2],
}

/// One who asks with a key that is good for publishing. These are found before a body is read.
pub(super) struct Publisher(pub(super) Arc<Caller>);
/// The same for reading.
pub(super) struct Reader(pub(super) Arc<Caller>);
/// The same for managing.
pub(super) struct Manager(pub(super) Arc<Caller>);

impl Caller {
    /// The key.
    pub(super) const fn key(&self) -> &Key {
        &self.key
    }

    fn of(parts: &Parts, scope: Scope) -> Result<Arc<Self>, Problem> {
        let caller = parts.extensions.get::<Arc<Self>>();
        let caller =
            caller.ok_or_else(|| Problem::new(Sort::Unauthorized, "the request has no key", REMEDY))?;
        needs(&caller.key, scope)?;
        Ok(Arc::clone(caller))
    }
}

impl<S: Sync> FromRequestParts<S> for Publisher {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Caller::of(parts, Scope::Publish).map(Self)
    }
}

impl<S: Sync> FromRequestParts<S> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Caller::of(parts, Scope::Read).map(Self)
    }
}

impl<S: Sync> FromRequestParts<S> for Manager {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Caller::of(parts, Scope::Manage).map(Self)
    }
}

/// What to do without a good key.
const REMEDY: &str = "send Authorization: Bearer and a key of the API, or the node's admin token";

/// Finds the key of a request, and gives the request a place.
pub(super) async fn authorize(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let key = match api.key(&request) {
        Ok(key) => key,
        Err(problem) => return problem.into_response(),
    };
    let body = steps(&request);
    let place = Arc::clone(&api.places).try_acquire_owned();
    let bytes = Arc::clone(&api.bodies).try_acquire_many_owned(body);
    let (Ok(place), Ok(bytes)) = (place, bytes) else {
        return Problem::busy("it answers as many requests as it may at a time").into_response();
    };
    // Work that goes on when the client has gone away keeps the place.
    request.extensions_mut().insert(Arc::new(Caller { key, _permits: [place, bytes] }));
    next.run(request).await
}

/// The place that the body of a request needs: what it says, or as much as one may have.
fn steps(request: &Request) -> u32 {
    let said = match request.body().size_hint().exact() {
        Some(bytes) => usize::try_from(bytes).unwrap_or(BODY_BYTES).min(BODY_BYTES),
        None => BODY_BYTES,
    };
    u32::try_from(said.div_ceil(STEP_BYTES)).unwrap_or(u32::MAX)
}

impl Api {
    fn key(&self, request: &Request) -> Result<Key, Problem> {
        let unknown = |detail: String| Problem::new(Sort::Unauthorized, detail, REMEDY);
        let Some(token) = &self.app.token else { return Ok(Key::admin()) };
        let given = secrets::bearer(request.headers());
        let given = given.ok_or_else(|| unknown("the request has no key".to_owned()))?;
        // A node whose own token cannot be read still knows the keys of the API.
        if token.read().is_ok_and(|secret| secrets::equal(given, secret.as_bytes())) {
            return Ok(Key::admin());
        }
        match self.app.api_keys.load().find(given, sysinfo::unix_millis()) {
            Ok(key) => Ok(key.clone()),
            Err(error @ (Refused::Unknown | Refused::Short)) => Err(unknown(error.to_string())),
            Err(error @ Refused::Ended) => Err(Problem::new(
                Sort::Unauthorized,
                error.to_string(),
                "take another key, or move its notAfter in the file of keys",
            )),
        }
    }

    /// Whether a key that a stream was opened with, and of which it knows the digest, is as good as it was then.
    pub(super) fn is_still_good(&self, key: &Key, digest: Option<&str>) -> bool {
        let Some(token) = &self.app.token else { return true };
        let Some(digest) = digest else { return false };
        if *key == Key::admin() {
            return token.read().is_ok_and(|secret| keys::digest(secret.as_bytes()) == digest);
        }
        self.app.api_keys.load().of_digest(digest, sysinfo::unix_millis()) == Ok(key)
    }
}

/// Checks that a key is good for something.
///
/// # Errors
/// When it is not.
fn needs(key: &Key, scope: Scope) -> Result<(), Problem> {
    if key.has(scope) {
        return Ok(());
    }
    Err(Problem::new(
        Sort::Forbidden,
        format!("the key {} does not have the scope {}", key.name, scope.name()),
        "give the scope to the key, or take another key",
    ))
}

/// Checks that a key is good for a topic.
///
/// # Errors
/// When it is not.
pub(super) fn needs_topic(key: &Key, topic: TopicName<'_>) -> Result<(), Problem> {
    if key.may_use(topic) {
        return Ok(());
    }
    Err(Problem::new(
        Sort::Forbidden,
        format!("the key {} is not good for the topic {:?}", key.name, topic.as_str()),
        "add the topic to the topics of the key, or take another key",
    ))
}

/// Checks that a key is good for what concerns all topics.
///
/// # Errors
/// When it is not.
pub(super) fn needs_all_topics(key: &Key) -> Result<(), Problem> {
    if key.is_for_all_topics() {
        return Ok(());
    }
    Err(Problem::new(
        Sort::Forbidden,
        format!("the key {} is good for some topics only", key.name),
        "name a topic of the key, or take a key without topics",
    ))
}

/// The answer to a method that a path does not have.
pub(super) async fn other_method(uri: Uri) -> Problem {
    Problem::new(Sort::Method, format!("{} has other methods", uri.path()), "see /v1/openapi.json")
}

/// The answer to a path that there is not.
pub(super) async fn no_such_path(uri: Uri) -> Problem {
    Problem::new(Sort::NotFound, format!("there is no {}", uri.path()), "see /v1/openapi.json")
}
