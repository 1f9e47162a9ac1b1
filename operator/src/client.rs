//! The client of the API server: no request waits for ever, none outlives the term in which it was made, and a
//! connection on which nothing comes any more fails only one request.
//!
//! The client library waits for ever by default, and keeps finished connections for later: after a balancer has
//! forgotten them, each next request would take the next dead one. Here the first request that gets no answer makes
//! the client leave all of its connections.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use http_body::Body as HttpBody;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tower::{BoxError, Layer, Service};

use crate::lease::Fence;

/// Longest wait for a whole answer. Admission webhooks may take that long by themselves.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for the beginning of the answer to a read, which no webhook delays. Together with the longest pause
/// between attempts it bounds how long after the API server a watch is back.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(4);
/// Longest wait for an answer about a Lease. When the first answer does not come, a second attempt fits into the time
/// for which the lease is still held.
pub const LEASE_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest answer that is read, in bytes. One object has 1.5 MiB at most where it is stored, and up to six times that
/// as JSON.
pub const MAX_ANSWER: usize = 16 << 20;
/// Shortest time between two pools: while nothing answers, each request would make one.
const RENEW_PAUSE: Duration = Duration::from_secs(1);

/// The API server did not answer in time.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no answer within {} s", .0.as_secs_f32())]
pub struct NoAnswer(pub Duration);

/// The answer is longer than was asked for.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the answer is longer than {0} bytes")]
pub struct TooLong(pub usize);

/// Extension of a request: longest answer that is to be read, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct AnswerLimit(pub usize);

/// Extension of a request: it is to use none of the existing connections, since one of them died unnoticed.
#[derive(Clone, Copy, Debug)]
pub struct FreshConnection;

/// Whether an error says that the answer was longer than allowed.
#[must_use]
pub fn is_too_long(error: &kube::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if error.is::<TooLong>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// A client as kubeconfig or the pod's service account say. Writes end before the lease of `fence` does.
///
/// # Errors
/// When there is neither, or when what they say cannot work.
pub async fn connect(fence: Arc<Fence>) -> Result<Client, kube::Error> {
    let config = Config::infer().await.map_err(kube::Error::InferConfig)?;
    with_config(config, fence)
}

/// The same with a configuration that the caller has.
///
/// # Errors
/// When it cannot work.
pub fn with_config(mut config: Config, fence: Arc<Fence>) -> Result<Client, kube::Error> {
    // Each caller tries again at a pace of its own; the library's pauses grow beyond a minute.
    config.default_retry = false;
    config.connect_timeout = Some(HEAD_TIMEOUT);
    let namespace = config.default_namespace.clone();
    let pool = Pool::new(config)?;
    let bounded = Bounded { fence: Some(fence), pool: Some(pool.clone()) };
    Ok(ClientBuilder::new(pool, namespace).with_layer(&bounded).build())
}

/// The connections, which are replaced all together.
#[derive(Clone)]
pub struct Pool {
    config: Arc<Config>,
    current: Arc<Mutex<Current>>,
}

struct Current {
    client: Client,
    generation: u64,
    since: Instant,
}

impl Pool {
    fn new(config: Config) -> Result<Self, kube::Error> {
        let client = ClientBuilder::try_from(config.clone())?.build();
        let current = Current { client, generation: 0, since: Instant::now() };
        Ok(Self { config: Arc::new(config), current: Arc::new(Mutex::new(current)) })
    }

    fn generation(&self) -> u64 {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).generation
    }

    /// Opens new connections; requests under way keep those of `generation` until they end.
    fn renew(&self, generation: u64) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.generation != generation || current.since.elapsed() < RENEW_PAUSE {
            return;
        }
        match ClientBuilder::try_from((*self.config).clone()) {
            Ok(builder) => {
                let generation = generation + 1;
                *current = Current { client: builder.build(), generation, since: Instant::now() };
            }
            Err(error) => tracing::warn!(%error, "cannot renew the connections to the API server"),
        }
    }
}

impl Service<Request<Body>> for Pool {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let client = self.current.lock().unwrap_or_else(PoisonError::into_inner).client.clone();
        Box::pin(async move { client.send(request).await.map_err(Into::into) })
    }
}

/// Bounds the time and the length of every answer; of a watch, the time until it begins.
#[derive(Clone, Default)]
pub struct Bounded {
    /// The lease before whose end each write is over.
    pub fence: Option<Arc<Fence>>,
    /// The connections to replace when a request gets no answer.
    pub pool: Option<Pool>,
}

impl<S> Layer<S> for Bounded {
    type Service = BoundedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        BoundedService { inner, bounds: self.clone() }
    }
}

/// The service that [`Bounded`] wraps around another.
#[derive(Clone)]
pub struct BoundedService<S> {
    inner: S,
    bounds: Bounded,
}

/// Body of an answer.
type Answer = UnsyncBoxBody<Bytes, BoxError>;

/// Longest waits for an answer.
#[derive(Clone, Copy)]
struct Waits {
    head: Duration,
    /// None for an answer without an end.
    whole: Option<Duration>,
}

impl Bounded {
    fn waits<B>(&self, request: &Request<B>) -> Waits {
        if is_watch(request.uri().query()) {
            return Waits { head: HEAD_TIMEOUT, whole: None };
        }
        if request.uri().path().contains("/leases") {
            return Waits { head: LEASE_TIMEOUT, whole: Some(LEASE_TIMEOUT) };
        }
        if request.method() == Method::GET && is_list(request.uri().query()) {
            // The server may take long to make a page of thousands of objects; then it sends all of it at once.
            return Waits { head: REQUEST_TIMEOUT, whole: Some(REQUEST_TIMEOUT) };
        }
        if request.method() == Method::GET {
            return Waits { head: HEAD_TIMEOUT, whole: Some(REQUEST_TIMEOUT) };
        }
        let left = self.fence.as_ref().and_then(|fence| fence.request_time());
        let whole = left.map_or(REQUEST_TIMEOUT, |left| left.min(REQUEST_TIMEOUT));
        Waits { head: whole, whole: Some(whole) }
    }
}

impl<S, B> Service<Request<Body>> for BoundedService<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Answer>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let waits = self.bounds.waits(&request);
        let limit = request.extensions().get::<AnswerLimit>().map_or(MAX_ANSWER, |limit| limit.0);
        if request.extensions().get::<FreshConnection>().is_some()
            && let Some(pool) = &self.bounds.pool
        {
            pool.renew(pool.generation());
        }
        let pool = self.bounds.pool.clone().map(|pool| (pool.generation(), pool));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let head = async {
                let answer = tokio::time::timeout(waits.head, answer).await;
                answer.map_err(|_| NoAnswer(waits.head))?.map_err(Into::into)
            };
            let answered = match waits.whole {
                None => head.await.map(|answer| answer.map(|body| body.map_err(Into::into).boxed_unsync())),
                Some(whole) => {
                    let read = async { read(head.await?, limit).await };
                    tokio::time::timeout(whole, read).await.unwrap_or_else(|_| Err(NoAnswer(whole).into()))
                }
            };
            if let (Err(error), Some((generation, pool))) = (&answered, pool)
                && !error.is::<TooLong>()
            {
                pool.renew(generation);
            }
            answered
        })
    }
}

/// The answer with its whole body, of `limit` bytes at most.
async fn read<B>(answer: Response<B>, limit: usize) -> Result<Response<Answer>, BoxError>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (parts, body) = answer.into_parts();
    let mut body = std::pin::pin!(body);
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Into::into)?.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(TooLong(limit).into());
        }
        bytes.extend_from_slice(&data);
    }
    let body = Full::new(bytes.freeze()).map_err(|never| match never {}).boxed_unsync();
    Ok(Response::from_parts(parts, body))
}

fn is_watch(query: Option<&str>) -> bool {
    query.is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"))
}

/// Whether a request asks for a page of a list.
fn is_list(query: Option<&str>) -> bool {
    query.is_some_and(|query| query.split('&').any(|pair| pair.starts_with("limit=")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::{LEASE_DURATION, RENEW_DEADLINE};

    fn request(method: Method, path: &str) -> Request<()> {
        Request::builder().method(method).uri(path).body(()).unwrap()
    }

    #[test]
    fn what_begins_within_a_term_ends_before_anybody_else_may_lead() {
        let fence = Arc::new(Fence::default());
        let bounded = Bounded { fence: Some(fence.clone()), pool: None };
        let write = || bounded.waits(&request(Method::PATCH, "/api/v1/services/chat")).whole.unwrap();
        assert_eq!(write(), REQUEST_TIMEOUT, "an Event of a stand-by needs no lease");
        let renewed = crate::clock::now();
        fence.extend(renewed);
        assert_eq!(write(), REQUEST_TIMEOUT, "much of the lease is left");
        // The lease was renewed so long ago that it is held for one more second.
        let ago = u64::try_from(RENEW_DEADLINE.as_millis()).unwrap() - 1_000;
        fence.extend(renewed - ago);
        let ends = Duration::from_millis(ago) + write();
        assert!(fence.held() && ends < LEASE_DURATION, "{ends:?}");
        let lease =
            bounded.waits(&request(Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/a/leases/b"));
        assert_eq!(lease.whole, Some(LEASE_TIMEOUT));
        let watch = bounded.waits(&request(Method::GET, "/api/v1/pods?watch=true&timeoutSeconds=10"));
        assert!(watch.whole.is_none() && watch.head == HEAD_TIMEOUT);
        let page = bounded.waits(&request(Method::GET, "/api/v1/pods?&limit=500&labelSelector=a"));
        assert_eq!(page.head, REQUEST_TIMEOUT, "the server may take long to make a page");
        let one = bounded.waits(&request(Method::GET, "/api/v1/namespaces/a/secrets/b?"));
        assert_eq!(one.head, HEAD_TIMEOUT);
    }
}
