//! The client of one Prometheus: instant queries by HTTP/1.1, with credentials of Secrets that are read by their names.
//!
//! Redirects are not followed, so the credentials go to the host that the manifest names and to no other. An answer is
//! bounded in time and in length, and no more of it is told than the words that Prometheus itself has for errors.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, HeaderValue, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::Api;
use operator_core::names::CREDENTIALS_LABEL;
use operator_core::source::{Answers, PrometheusSource, Vector, read};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// How the operator names itself.
const AGENT: &str = concat!("channel-operator/", env!("CARGO_PKG_VERSION"));
/// Longest answer that is read, in bytes: some 20,000 pods.
const MAX_QUERY_ANSWER: usize = 4 << 20;
/// How long Secrets are good that were read, before they are read again.
const SECRETS_AGE: Duration = Duration::from_secs(60);
/// Longest time for which a connection is kept that is not used: longer than the longest pause between two queries.
const IDLE: Duration = Duration::from_secs(30);

type Values = BTreeMap<String, ByteString>;

/// A Prometheus.
pub struct Prometheus {
    source: PrometheusSource,
    /// None before the first query, and after one that was refused.
    connection: Option<Connection>,
}

/// A client with the credentials as they were.
struct Connection {
    since: Instant,
    secrets: BTreeMap<String, Values>,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    authorization: Option<HeaderValue>,
}

impl Prometheus {
    /// A Prometheus that was not asked yet.
    #[must_use]
    pub fn new(source: PrometheusSource) -> Self {
        Self { source, connection: None }
    }

    /// Asks all queries at once. `api` is the client of the API server, by which Secrets of `namespace` are read.
    ///
    /// # Errors
    /// Why nothing is known, as a sentence about the server.
    pub async fn ask(&mut self, api: &kube::Client, namespace: &str) -> Result<Answers, String> {
        let old = self.connection.take();
        let connection = match old {
            Some(connection) if connection.since.elapsed() < SECRETS_AGE => connection,
            old => self.connect(api, namespace, old).await?,
        };
        let queries = &self.source.queries;
        let answers = tokio::join!(
            self.query(&connection, "query", &queries.writes),
            self.query(&connection, "connectionsQuery", &queries.connections),
            self.query(&connection, "timestampQuery", &queries.timestamps),
        );
        let refused = |answer: &Result<Vector, Failure>| matches!(answer, Err(Failure::Unauthorized(_)));
        if !refused(&answers.0) {
            self.connection = Some(connection);
        }
        let words = |failure: Failure| failure.to_string();
        Ok(Answers {
            writes: answers.0.map_err(words)?,
            connections: answers.1.map_err(words)?,
            timestamps: answers.2.map_err(words)?,
        })
    }

    /// Reads the Secrets, and makes a client unless they are the same as before.
    async fn connect(
        &self,
        api: &kube::Client,
        namespace: &str,
        old: Option<Connection>,
    ) -> Result<Connection, String> {
        let mut secrets = BTreeMap::new();
        for name in self.secret_names() {
            let secret = Api::<Secret>::namespaced(api.clone(), namespace).get_opt(name).await;
            let secret = secret.map_err(|error| format!("the Secret {name:?} cannot be read: {error}"))?;
            let labelled =
                |s: &Secret| s.labels().get(CREDENTIALS_LABEL).is_some_and(|value| value == "true");
            let secret = secret.filter(labelled).ok_or_else(|| {
                format!(
                    "the Secret {name:?} is gone, or has lost the label {CREDENTIALS_LABEL}=true: put it back"
                )
            })?;
            secrets.insert(name.to_owned(), secret.data.unwrap_or_default());
        }
        let since = Instant::now();
        if let Some(old) = old.filter(|old| old.secrets == secrets) {
            return Ok(Connection { since, ..old });
        }
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(Duration::from_millis(self.source.timeout_millis)));
        let tls = self.tls(&secrets)?;
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(3)
            .build(https.wrap_connector(http));
        let authorization = self.authorization(&secrets)?;
        Ok(Connection { since, secrets, client, authorization })
    }

    fn secret_names(&self) -> impl Iterator<Item = &str> {
        let (auth, tls) = (self.source.auth.as_ref(), self.source.tls.as_ref());
        let bearer = auth.and_then(|auth| auth.bearer_secret_ref.as_ref()).map(|secret| &*secret.name);
        let basic = auth.and_then(|auth| auth.basic_secret_ref.as_ref()).map(|secret| &*secret.name);
        let ca = tls.and_then(|tls| tls.ca_secret_ref.as_ref()).map(|secret| &*secret.name);
        let cert = tls.and_then(|tls| tls.cert_secret_ref.as_ref()).map(|secret| &*secret.name);
        [bearer, basic, ca, cert].into_iter().flatten()
    }

    fn authorization(&self, secrets: &BTreeMap<String, Values>) -> Result<Option<HeaderValue>, String> {
        let Some(auth) = &self.source.auth else { return Ok(None) };
        let text = |name: &str, key: &str| {
            let text = std::str::from_utf8(value(secrets, name, key)?).map(str::trim);
            text.map_err(|_| format!("the key {key} of the Secret {name:?} is no text: correct it"))
        };
        let (words, name) = match (&auth.bearer_secret_ref, &auth.basic_secret_ref) {
            (Some(bearer), _) => (format!("Bearer {}", text(&bearer.name, &bearer.key)?), &bearer.name),
            (None, Some(basic)) => {
                let (user, password) = (text(&basic.name, "username")?, text(&basic.name, "password")?);
                (format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))), &basic.name)
            }
            (None, None) => return Ok(None),
        };
        let mut header = HeaderValue::try_from(words)
            .map_err(|_| format!("the Secret {name:?} holds what cannot be a header: write one line"))?;
        header.set_sensitive(true);
        Ok(Some(header))
    }

    /// The authorities of the Secret, or those that browsers trust, and the operator's certificate if it has one.
    fn tls(&self, secrets: &BTreeMap<String, Values>) -> Result<ClientConfig, String> {
        let tls = self.source.tls.as_ref();
        let roots = match tls.and_then(|tls| tls.ca_secret_ref.as_ref()) {
            None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
            Some(ca) => {
                let none =
                    || format!("the key {} of the Secret {:?} holds no certificate in PEM", ca.key, ca.name);
                let mut roots = RootCertStore::empty();
                for certificate in certificates(value(secrets, &ca.name, &ca.key)?).map_err(|()| none())? {
                    roots.add(certificate).map_err(|_| none())?;
                }
                if roots.is_empty() {
                    return Err(none());
                }
                roots
            }
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("no TLS: {error}"))?
            .with_root_certificates(roots);
        let Some(own) = tls.and_then(|tls| tls.cert_secret_ref.as_ref()) else {
            return Ok(config.with_no_client_auth());
        };
        let wrong = || {
            format!(
                "the Secret {:?} holds no certificate with its key in PEM: correct tls.crt and tls.key",
                own.name
            )
        };
        let chain = certificates(value(secrets, &own.name, "tls.crt")?).map_err(|()| wrong())?;
        let key =
            PrivateKeyDer::from_pem_slice(value(secrets, &own.name, "tls.key")?).map_err(|_| wrong())?;
        config.with_client_auth_cert(chain, key).map_err(|_| wrong())
    }

    /// One query and its answer, within the time for it.
    async fn query(
        &self,
        connection: &Connection,
        field: &'static str,
        query: &str,
    ) -> Result<Vector, Failure> {
        let timeout = Duration::from_millis(self.source.timeout_millis);
        let answer = tokio::time::timeout(timeout, self.exchange(connection, field, query));
        answer.await.unwrap_or(Err(Failure::Slow(self.source.timeout_millis)))
    }

    async fn exchange(
        &self,
        connection: &Connection,
        field: &'static str,
        query: &str,
    ) -> Result<Vector, Failure> {
        let mut request = Request::get(format!("{}/api/v1/query?query={}", self.source.url, encoded(query)))
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, AGENT)
            .body(Empty::new())
            .map_err(|error| Failure::Unreachable(error.to_string()))?;
        if let Some(authorization) = &connection.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        let response = connection.client.request(request).await.map_err(|error| unreachable(&error))?;
        let status = response.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(Failure::Unauthorized(status.as_u16()));
        }
        let body = Limited::new(response.into_body(), MAX_QUERY_ANSWER).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Failure::Long(field)
            } else {
                Failure::Unreachable(error.to_string())
            }
        })?;
        read(status.as_u16(), &body.to_bytes()).map_err(|error| Failure::Answer(field, error.to_string()))
    }
}

/// Why a query gave nothing, as a sentence about the server.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no answer within {0} ms: raise timeout, or look why it is slow")]
    Slow(u64),
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    #[error("it answers {0}: correct the credentials of auth or tls")]
    Unauthorized(u16),
    #[error("its answer to {0} is longer than {most} bytes: write a query that gives one sample per pod of this fleet", most = MAX_QUERY_ANSWER)]
    Long(&'static str),
    #[error("{0}: {1}")]
    Answer(&'static str, String),
}

/// The innermost cause says what is wrong: a connection that was refused, a certificate that is not trusted.
fn unreachable(error: &(dyn std::error::Error + 'static)) -> Failure {
    let cause = std::iter::successors(Some(error), |error| error.source()).last();
    Failure::Unreachable(cause.unwrap_or(error).to_string())
}

fn value<'a>(secrets: &'a BTreeMap<String, Values>, name: &str, key: &str) -> Result<&'a [u8], String> {
    let value = secrets.get(name).and_then(|values| values.get(key)).map(|value| &*value.0);
    value.ok_or_else(|| format!("the Secret {name:?} has no key {key}: add it"))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ()> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| ())
}

/// A query as a part of a URL (RFC 3986).
fn encoded(query: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut text = String::with_capacity(query.len() * 2);
    for byte in query.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.extend([
                '%',
                char::from(HEX[usize::from(byte >> 4)]),
                char::from(HEX[usize::from(byte & 15)]),
            ]);
        }
    }
    text
}
