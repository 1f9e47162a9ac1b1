//! The client of the API server: no request waits for its answer for longer than [`REQUEST_TIMEOUT`].
//!
//! The client library waits for ever by default. A connection that died without a word would then freeze whoever asked,
//! while the lease, which has its own bound, is renewed over another one. An answer that is given up takes its connection
//! with it, and whoever asked tries again. Watches are answers without an end; the library bounds their silence itself.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body::Body as HttpBody;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tower::{BoxError, Layer, Service};

/// Longest wait for a whole answer. As long as a leader may act without renewing its lease: what takes longer than that
/// is over anyway.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The API server did not answer in time.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no answer within {} s", REQUEST_TIMEOUT.as_secs())]
pub struct NoAnswer;

/// A client as kubeconfig or the pod's service account say.
///
/// # Errors
/// When there is neither, or when what they say cannot work.
pub async fn connect() -> Result<Client, kube::Error> {
    let config = Config::infer().await.map_err(kube::Error::InferConfig)?;
    Ok(ClientBuilder::try_from(config)?.with_layer(&Bounded).build())
}

/// Bounds the time of every answer of a service but watches.
#[derive(Clone, Copy, Debug)]
pub struct Bounded;

impl<S> Layer<S> for Bounded {
    type Service = BoundedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        BoundedService { inner }
    }
}

/// What [`Bounded`] makes of a service.
#[derive(Clone, Debug)]
pub struct BoundedService<S> {
    inner: S,
}

/// Body of an answer.
type Answer = UnsyncBoxBody<Bytes, BoxError>;

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
        let watch = is_watch(request.uri().query());
        let answer = self.inner.call(request);
        Box::pin(async move {
            if watch {
                let answer = answer.await.map_err(Into::into)?;
                return Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()));
            }
            let whole = async {
                let (parts, body) = answer.await.map_err(Into::into)?.into_parts();
                let bytes = body.collect().await.map_err(Into::into)?.to_bytes();
                let body = Full::new(bytes).map_err(|never| match never {}).boxed_unsync();
                Ok(Response::from_parts(parts, body))
            };
            tokio::time::timeout(REQUEST_TIMEOUT, whole).await.map_err(|_| NoAnswer)?
        })
    }
}

fn is_watch(query: Option<&str>) -> bool {
    query.is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"))
}
