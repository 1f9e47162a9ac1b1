//! One request for the keys of an issuer: a GET by HTTP/1.1 on a connection of its own, with a bound on everything.
//!
//! Redirects are not followed, so nothing but what the manifest names is ever asked, and an answer is shown to nobody.

use std::{
    convert::Infallible,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::http::{
    HeaderMap, StatusCode,
    header::{ACCEPT, AGE, CACHE_CONTROL, CONNECTION, ETAG, HOST, HeaderName, IF_NONE_MATCH, USER_AGENT},
};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use node_core::auth::{Endpoint, Jwks, fresh_seconds};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{self, ClientConfig, RootCertStore, pki_types::ServerName},
};

use crate::{
    as_client::{self, AGENT},
    secrets::{SecretError, SecretFile},
};

/// Longest time for a fetch, from looking up the name to the last byte.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest set in bytes: 32 keys as large identity providers publish them, with their certificates.
const SET_BYTES: usize = 256 * 1024;
/// Longest head of an answer in bytes.
const HEAD_BYTES: usize = 64 * 1024;
/// Longest tag of a set in bytes; a longer one is not sent back.
const TAG_BYTES: usize = 1_024;
/// Longest file of authorities in bytes.
const CA_FILE_BYTES: u64 = 256 * 1024;

/// Why keys were not fetched. Names the host, and nothing else of the URL or of the answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("the url of auth.jwt[].jwks {0}")]
    Url(&'static str),
    #[error(transparent)]
    Authorities(#[from] SecretError),
    #[error("the file {} of auth.jwt[].jwks holds no certificate of an authority; write it in PEM", path.display())]
    NoAuthority { path: PathBuf },
    #[error(
        "{host} cannot be reached for the keys of auth.jwt: {source}; correct jwks.url, or let nodes connect to it"
    )]
    Connect { host: String, source: io::Error },
    #[error(
        "TLS with {host}, which has keys of auth.jwt, failed: {source}; use a certificate that jwks.caFile, or a browser, trusts"
    )]
    Tls { host: String, source: io::Error },
    #[error("no TLS: {0}; report it")]
    Provider(#[from] rustls::Error),
    #[error("{host} does not answer with HTTP as to keys of auth.jwt: {source}; correct jwks.url")]
    Http { host: String, source: hyper::Error },
    #[error(
        "{host} answers {status} when asked for the keys of auth.jwt; correct jwks.url, redirects are not followed"
    )]
    Status { host: String, status: StatusCode },
    #[error("{host} gives more than {SET_BYTES} bytes as keys of auth.jwt; correct jwks.url")]
    TooLong { host: String },
    #[error(
        "{host} breaks off while it gives the keys of auth.jwt: {source}; look why it does, they are asked for again"
    )]
    Broken { host: String, source: io::Error },
    #[error("{host} gives what is no text as keys of auth.jwt; correct jwks.url")]
    NoText { host: String },
    #[error("{host} took more than {} s for the keys of auth.jwt; correct jwks.url, or look why it is slow", FETCH_TIMEOUT.as_secs())]
    Slow { host: String },
}

/// What an issuer answered. `fresh_seconds` is for how long, if it says so.
#[derive(Debug)]
pub(super) enum Answer {
    /// The set is the one with the tag that was sent.
    Unchanged { fresh_seconds: Option<u64> },
    /// A set, with the tag by which it can be asked for.
    Set { text: String, tag: Option<String>, fresh_seconds: Option<u64> },
}

/// A request for the keys of an issuer.
#[derive(Debug)]
pub(super) struct Request<'a> {
    jwks: &'a Jwks,
    dir: &'a Path,
    tag: Option<&'a str>,
}

/// The host of a URL, to be named in errors.
pub(super) fn host(jwks: &Jwks) -> String {
    Endpoint::parse(&jwks.url).map_or_else(|_| "the issuer".to_owned(), |endpoint| endpoint.authority)
}

impl<'a> Request<'a> {
    /// A request; files of authorities are below `dir`, and a set with this tag is known.
    pub(super) const fn new(jwks: &'a Jwks, dir: &'a Path, tag: Option<&'a str>) -> Self {
        Self { jwks, dir, tag }
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub(super) async fn send(&self) -> Result<Answer, FetchError> {
        let endpoint = Endpoint::parse(&self.jwks.url).map_err(FetchError::Url)?;
        let slow = |_| FetchError::Slow { host: endpoint.authority.clone() };
        timeout(FETCH_TIMEOUT, self.send_to(&endpoint)).await.map_err(slow)?
    }

    async fn send_to(&self, endpoint: &Endpoint) -> Result<Answer, FetchError> {
        let at = |source| FetchError::Connect { host: endpoint.authority.clone(), source };
        let stream = TcpStream::connect((&*endpoint.host, endpoint.port)).await.map_err(at)?;
        if !endpoint.https {
            return self.exchange(stream, endpoint).await;
        }
        let tls = |source| FetchError::Tls { host: endpoint.authority.clone(), source };
        let name =
            ServerName::try_from(endpoint.host.clone()).map_err(|error| tls(io::Error::other(error)))?;
        let stream = TlsConnector::from(self.tls()?).connect(name, stream).await.map_err(tls)?;
        self.exchange(stream, endpoint).await
    }

    /// The settings of TLS: the authorities of the file, which is read anew so that they may be replaced, or those that
    /// browsers trust.
    fn tls(&self) -> Result<Arc<ClientConfig>, FetchError> {
        let authorities = self.jwks.ca_file.as_deref().map(|file| self.authorities(file)).transpose()?;
        Ok(Arc::new(as_client::tls(authorities)?))
    }

    fn authorities(&self, file: &str) -> Result<RootCertStore, FetchError> {
        let text = SecretFile::new(self.dir, file, CA_FILE_BYTES).read()?;
        as_client::authorities(&text).ok_or_else(|| FetchError::NoAuthority { path: self.dir.join(file) })
    }

    /// One request and its answer on a connection.
    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        endpoint: &Endpoint,
    ) -> Result<Answer, FetchError> {
        let at = |source| FetchError::Http { host: endpoint.authority.clone(), source };
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES);
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(at)?;
        let exchange = async {
            let mut request = hyper::Request::new(Empty::<&[u8]>::new());
            let mut set = |name: HeaderName, value: &str| {
                // What could not be a header passed no check.
                value.parse().map(|value| request.headers_mut().insert(name, value)).ok();
            };
            set(HOST, &endpoint.authority);
            set(ACCEPT, "application/jwk-set+json, application/json");
            set(USER_AGENT, AGENT);
            set(CONNECTION, "close");
            if let Some(tag) = self.tag {
                set(IF_NONE_MATCH, tag);
            }
            *request.uri_mut() = endpoint.target.parse().map_err(|_| FetchError::Url("has no path"))?;
            self.read(sender.send_request(request).await.map_err(at)?, endpoint).await
        };
        // The connection does its work while the exchange waits, and its end shows there.
        let work = async {
            connection.await.ok();
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            answer = exchange => answer,
            never = work => match never {},
        }
    }

    async fn read(
        &self,
        response: hyper::Response<Incoming>,
        endpoint: &Endpoint,
    ) -> Result<Answer, FetchError> {
        let host = || endpoint.authority.clone();
        let (head, body) = response.into_parts();
        let fresh_seconds = fresh_seconds(text(&head.headers, &CACHE_CONTROL), text(&head.headers, &AGE));
        match head.status {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if self.tag.is_some() => return Ok(Answer::Unchanged { fresh_seconds }),
            status => return Err(FetchError::Status { host: host(), status }),
        }
        let body = Limited::new(body, SET_BYTES).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                return FetchError::TooLong { host: host() };
            }
            FetchError::Broken { host: host(), source: io::Error::other(error) }
        })?;
        let set =
            String::from_utf8(body.to_bytes().into()).map_err(|_| FetchError::NoText { host: host() })?;
        let tag = text(&head.headers, &ETAG).filter(|tag| tag.len() <= TAG_BYTES).map(str::to_owned);
        Ok(Answer::Set { text: set, tag, fresh_seconds })
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
