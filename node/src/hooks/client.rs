//! One question and its answer by HTTP.
//!
//! Redirects are not followed, so nothing but what the manifest names is ever asked. What an answer holds is bounded before
//! it is kept, and is shown to nobody but the client that it is for.

use std::{
    fmt,
    future::Future,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::http::{HeaderValue, Request, StatusCode, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use node_core::{
    backend::{Decision, Inquiry, breaker::Outcome, sign::SigningKeys},
    config::{Hook, Hooks},
};
use rand::Rng;
use tokio::time::{sleep, timeout_at};

use super::body;
use crate::{
    as_client::{self, AGENT},
    hook_counts::Failure,
    secrets::SecretFile,
    sysinfo,
};

/// Bytes of an answer beside a payload.
const ANSWER_BYTES: usize = 16 * 1024;
/// How long a connection is kept without a question: less than servers keep one, which is 2 s and more, since a question that is
/// sent while the server ends the connection is lost.
const IDLE: Duration = Duration::from_millis(1_500);
/// How long a connection may take to be made, so that there is time to try once more.
const CONNECT: Duration = Duration::from_millis(600);
/// How often a connection of HTTP/2 is tried while nothing comes on it, and for how long: a machine that is gone says nothing.
const TRIES: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(2));
/// How long the files of the Secret count before they are read again.
const FILES_AGE: Duration = Duration::from_secs(5);
/// Longest file of authorities in bytes, and of signing keys.
const CA_BYTES: u64 = 256 * 1024;
const KEY_BYTES: u64 = 1_024;
/// The pause before a second try: between these, so that the clients of a backend that comes back are spread.
const PAUSE_MILLIS: std::ops::Range<u64> = 20..80;

/// Why there is no usable answer, in words that name no content.
#[derive(Debug)]
pub(super) struct Error {
    pub(super) failure: Failure,
    why: String,
    /// Whether the backend certainly did nothing.
    untouched: bool,
    /// Whether the backend says that it cannot.
    overloaded: bool,
}

impl Error {
    fn new(failure: Failure, why: impl fmt::Display) -> Self {
        Self { failure, why: why.to_string(), untouched: false, overloaded: false }
    }

    /// What it tells of the backend, apart from this question.
    pub(super) fn outcome(&self, inquiry: &Inquiry) -> Outcome {
        match self.failure {
            Failure::Connect => Outcome::Away,
            Failure::Status if self.overloaded => Outcome::Away,
            Failure::Timeout | Failure::Broken => Outcome::Silent(inquiry.connection),
            Failure::Status | Failure::Unusable => Outcome::There,
            Failure::Secret | Failure::Open => Outcome::Unasked,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

type Http = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Connections and the keys that sign.
struct Ready {
    http: Http,
    keys: SigningKeys,
}

/// Asks.
pub(super) struct Client {
    secrets: PathBuf,
    /// What was made of the files last, and of which texts.
    ready: Option<(Arc<Ready>, [Option<String>; 2])>,
    /// When they were read, and why they cannot be used.
    read: Option<(Instant, Option<String>)>,
}

impl Client {
    pub(super) const fn new(secrets: PathBuf) -> Self {
        Self { secrets, ready: None, read: None }
    }

    /// Asks and waits for the answer, which may have so many bytes of payload. The question was asked `at`.
    pub(super) fn ask(
        &mut self,
        hooks: &Hooks,
        payload_bytes: u32,
        at: Instant,
        inquiry: &Inquiry,
    ) -> impl Future<Output = Result<Decision, Error>> + use<> {
        let ready = self.ready();
        let within_millis = inquiry.within_millis;
        let deadline = at + Duration::from_millis(within_millis);
        let most = payload_bytes as usize + ANSWER_BYTES;
        let id = format!("{}.{}", inquiry.connection, inquiry.number);
        let (url, hook, body) = (hooks.url.parse::<Uri>(), inquiry.hook, body::of(inquiry));
        async move {
            let ready = ready?;
            let url = url.map_err(|_| Error::new(Failure::Connect, "hooks.url is no URL; correct it"))?;
            let body = body.ok_or_else(|| Error::new(Failure::Unusable, "a message cannot be read"))?;
            let question = Question { url, id, body: body.into(), most };
            let asked = with_retry(&ready, &question, hook);
            let late = || {
                Error::new(
                    Failure::Timeout,
                    format!("no answer within {within_millis} ms; look why it is slow"),
                )
            };
            timeout_at(deadline.into(), asked).await.unwrap_or_else(|_| Err(late()))
        }
    }

    /// The files of the Secret, read again when they are old. Connections are made anew when they changed. Bad ones are told, and
    /// the former stay.
    fn ready(&mut self) -> Result<Arc<Ready>, Error> {
        if self.read.as_ref().is_none_or(|(at, _)| at.elapsed() >= FILES_AGE) {
            let why = self.read_files().err();
            if let Some(why) = &why {
                let kept = self.ready.is_some();
                tracing::error!(former_stay = kept, "hooks: {why}");
            }
            self.read = Some((Instant::now(), why));
        }
        let why = || self.read.as_ref().and_then(|(_, why)| why.clone()).unwrap_or_default();
        self.ready
            .as_ref()
            .map(|(ready, _)| Arc::clone(ready))
            .ok_or_else(|| Error::new(Failure::Secret, why()))
    }

    fn read_files(&mut self) -> Result<(), String> {
        let read = |file: SecretFile| file.read().map_err(|error| error.to_string());
        let key = read(SecretFile::new(&self.secrets, "signing-key", KEY_BYTES))?;
        let ca = self.secrets.join("ca.crt");
        let ca = ca.exists().then(|| read(SecretFile::at(ca, CA_BYTES))).transpose()?;
        let texts = [Some(key), ca];
        if self.ready.as_ref().is_none_or(|(_, before)| *before != texts) {
            self.ready = Some((Arc::new(make(&texts)?), texts));
        }
        Ok(())
    }
}

fn make([key, ca]: &[Option<String>; 2]) -> Result<Ready, String> {
    let keys = SigningKeys::read(key.as_deref().unwrap_or_default());
    let keys = keys.map_err(|why| format!("signing-key of the Secret of hooks {why}; correct it"))?;
    let bad = "ca.crt of the Secret of hooks is no PEM of certificates; correct it";
    let authorities = ca.as_deref().map(|ca| as_client::authorities(ca).ok_or(bad)).transpose()?;
    let tls = as_client::tls(authorities).map_err(|error| format!("no TLS: {error}"))?;
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT));
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(http);
    let http = legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(TRIES.0)
        .http2_keep_alive_timeout(TRIES.1)
        .pool_idle_timeout(IDLE)
        .http1_max_buf_size(64 * 1024)
        .build(https);
    Ok(Ready { http, keys })
}

/// A question as it is sent.
struct Question {
    url: Uri,
    id: String,
    body: Bytes,
    most: usize,
}

/// Asks a second time where that cannot do anything twice: nothing was sent, or only a join is asked for, which a backend
/// may be asked again, and knows again by its id.
async fn with_retry(ready: &Ready, question: &Question, hook: Hook) -> Result<Decision, Error> {
    match exchange(ready, question).await {
        Err(error) if error.untouched || (hook == Hook::Join && error.failure == Failure::Broken) => {
            sleep(Duration::from_millis(rand::rng().random_range(PAUSE_MILLIS))).await;
            exchange(ready, question).await
        }
        answer => answer,
    }
}

async fn exchange(ready: &Ready, question: &Question) -> Result<Decision, Error> {
    let seconds = sysinfo::unix_millis() / 1_000;
    let signature = ready.keys.sign(&question.id, seconds, &question.body);
    let request = Request::post(question.url.clone())
        .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .header(header::ACCEPT, HeaderValue::from_static("application/json"))
        .header(header::USER_AGENT, AGENT)
        .header("webhook-id", &question.id)
        .header("webhook-timestamp", seconds)
        .header("webhook-signature", signature)
        .body(Full::new(question.body.clone()))
        .map_err(|error| Error::new(Failure::Connect, error))?;
    let response = ready.http.request(request).await.map_err(|error| {
        let (failure, untouched) =
            if error.is_connect() { (Failure::Connect, true) } else { (Failure::Broken, false) };
        // hyper's own words alone say little.
        let why = format!("{:#}", anyhow::Error::new(error));
        Error { untouched, ..Error::new(failure, why) }
    })?;
    read(response, question.most).await
}

async fn read(response: hyper::Response<Incoming>, most: usize) -> Result<Decision, Error> {
    let status = response.status();
    if !status.is_success() {
        let overloaded = matches!(status.as_u16(), 429 | 502..=504);
        let why = format!("it answers {status}; a question is answered by 200, redirects are not followed");
        return Err(Error { overloaded, ..Error::new(Failure::Status, why) });
    }
    let too_long = || Error::new(Failure::Unusable, format!("it answers with more than {most} bytes"));
    // A length that is said beforehand is not waited for.
    if response.body().size_hint().lower() > most as u64 {
        return Err(too_long());
    }
    let body = Limited::new(response.into_body(), most).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() { too_long() } else { Error::new(Failure::Broken, error) }
    })?;
    let body = body.to_bytes();
    if body.is_empty() && status == StatusCode::NO_CONTENT {
        return Ok(Decision::yes());
    }
    Decision::read(&body).map_err(|error| Error::new(Failure::Unusable, error))
}
