//! The certificate of the public port and its key: files of a mounted Secret, read at the start and again when they change.
//!
//! As with the configuration, the contents are compared. Connections that are open or shaking hands keep what they began
//! with; the next ones get what was read last.

use std::{
    hash::{BuildHasher, RandomState},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use node_core::tls::Validity;
use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};

use super::ticket_files::{TicketFiles, TicketsError};
use crate::{
    args::{ClientCertificates, TlsVersion},
    secrets::{SecretError, SecretFile},
};

/// The files, by their names in a Secret of type `kubernetes.io/tls`.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// Longest file in bytes: a chain of some certificates, or a key.
const FILE_BYTES: u64 = 64 * 1024;

/// The versions that there are.
static VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] SecretError),
    /// The files do not hold a certificate and its key.
    #[error("{}: {why}; it must hold {CERTIFICATE} and {KEY}, in PEM, as a Secret of type kubernetes.io/tls does", dir.display())]
    Wrong {
        /// The directory.
        dir: PathBuf,
        /// What is wrong. Nothing of the key is repeated.
        why: String,
    },
    /// The file does not hold CAs.
    #[error("the file {} of clients' CAs {why}; it must hold certificates in PEM", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// What the next handshake of any shard uses.
#[derive(Debug)]
pub struct Identity {
    config: ArcSwap<ServerConfig>,
    not_after: AtomicU64,
}

impl Identity {
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    /// The last second of the certificate, since 1970; 0 when it cannot be told.
    pub fn not_after(&self) -> u64 {
        self.not_after.load(Relaxed)
    }
}

/// What the files are made into, but for the tickets.
struct Made {
    config: ServerConfig,
    /// What a client that has a ticket has shown.
    context: Vec<u8>,
    validity: Option<Validity>,
}

/// Where the files of a node's TLS are, and which clients it takes.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The directory of the certificate and its key.
    pub certificate: PathBuf,
    /// The directory with the keys of tickets. Without it, or without the file, tickets are of this process alone.
    pub secrets: Option<PathBuf>,
    /// The file with the CAs of clients' certificates. Without it no client is asked for one.
    pub client_ca: Option<PathBuf>,
    /// Whether a client that is asked has to show one.
    pub client_certificates: ClientCertificates,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
}

/// What is in the files.
#[derive(Hash)]
struct Texts {
    certificate: String,
    key: String,
    client_ca: Option<String>,
}

/// Finds changes of the certificate and of what belongs to it.
#[derive(Debug)]
pub struct TlsWatch {
    files: TlsFiles,
    tickets: TicketFiles,
    identity: Arc<Identity>,
    /// A hash of the files as they were taken last, or found wrong. None: they are to be read anew.
    seen: Option<u64>,
    hasher: RandomState,
    /// The last error, so that it is told once.
    told: Option<String>,
    validity: Option<Validity>,
    /// The day since 1970 on which the end of the certificate was told last.
    told_day: u64,
}

impl TlsWatch {
    /// Reads the files, and watches for changes from then on.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn start(files: TlsFiles) -> Result<Self, TlsError> {
        let (texts, hasher) = (files.read()?, RandomState::new());
        let Made { mut config, context, validity } = files.server_config(&texts)?;
        let tickets = TicketFiles::start(files.secrets.clone(), context);
        config.ticketer = tickets.tickets();
        let not_after = validity.map_or(0, |validity| validity.to).into();
        let identity = Arc::new(Identity { config: ArcSwap::from_pointee(config), not_after });
        let seen = Some(hasher.hash_one(&texts));
        Ok(Self { files, tickets, identity, seen, hasher, told: None, validity, told_day: 0 })
    }

    /// The last second of the certificate, since 1970, when that is near at the time `now` in seconds; once a day.
    pub fn ending(&mut self, now: u64) -> Option<u64> {
        let day = now / 86_400;
        let validity =
            self.validity.filter(|validity| self.told_day != day && validity.is_nearly_over(now))?;
        self.told_day = day;
        Some(validity.to)
    }

    /// What the shards use. A change is in force there when [`TlsWatch::changed`] returns.
    #[must_use]
    pub const fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// Looks at the files, and tells whether another certificate is in force since the last call. The same error is
    /// reported once; the former certificate stays in force. Other keys of tickets are in force as well then, of which
    /// [`TlsWatch::tickets_changed`] tells.
    pub fn changed(&mut self) -> Option<Result<(), TlsError>> {
        match self.look() {
            Ok(None) => {
                self.look_at_tickets();
                None
            }
            Ok(Some(made)) => {
                self.take(made);
                self.told = None;
                Some(Ok(()))
            }
            Err(error) => {
                self.look_at_tickets();
                let text = error.to_string();
                let is_new = self.told.as_ref() != Some(&text);
                self.told = Some(text);
                is_new.then_some(Err(error))
            }
        }
    }

    /// Whether other keys of tickets are in force since the last call, or why they are not, as [`TlsWatch::start`] and
    /// [`TlsWatch::changed`] found. The same error is reported once.
    pub const fn tickets_changed(&mut self) -> Option<Result<(), TicketsError>> {
        self.tickets.news()
    }

    fn look(&mut self) -> Result<Option<Made>, TlsError> {
        let texts = self.files.read().inspect_err(|_| self.seen = None)?;
        let seen = Some(self.hasher.hash_one(&texts));
        if std::mem::replace(&mut self.seen, seen) == seen {
            return Ok(None);
        }
        self.files.server_config(&texts).map(Some)
    }

    fn take(&mut self, Made { mut config, context, validity }: Made) {
        self.tickets.look(Some(context));
        config.ticketer = self.tickets.tickets();
        self.identity.config.store(Arc::new(config));
        self.identity.not_after.store(validity.map_or(0, |validity| validity.to), Relaxed);
        (self.validity, self.told_day) = (validity, 0);
    }

    /// Takes other keys of tickets for the certificate that is in force.
    fn look_at_tickets(&mut self) {
        if self.tickets.look(None) {
            let mut config = ServerConfig::clone(&self.identity.config.load());
            config.ticketer = self.tickets.tickets();
            self.identity.config.store(Arc::new(config));
        }
    }
}

impl TlsFiles {
    /// A certificate and its key in a directory, and nothing else.
    pub const fn at(certificate: PathBuf) -> Self {
        Self {
            certificate,
            secrets: None,
            client_ca: None,
            client_certificates: ClientCertificates::Required,
            min_version: TlsVersion::Tls13,
        }
    }

    fn read(&self) -> Result<Texts, SecretError> {
        let read = |name| SecretFile::new(&self.certificate, name, FILE_BYTES).read();
        let client_ca = self.client_ca.as_ref().map(|file| SecretFile::at(file.clone(), FILE_BYTES).read());
        Ok(Texts { certificate: read(CERTIFICATE)?, key: read(KEY)?, client_ca: client_ca.transpose()? })
    }

    fn server_config(&self, texts: &Texts) -> Result<Made, TlsError> {
        let wrong = |why: String| TlsError::Wrong { dir: self.certificate.clone(), why };
        let chain = certificates(&texts.certificate).map_err(|why| wrong(format!("{CERTIFICATE} {why}")))?;
        let validity = chain.first().and_then(|certificate| Validity::of(certificate));
        let key = PrivateKeyDer::from_pem_slice(texts.key.as_bytes())
            .map_err(|_| wrong(format!("{KEY} has no private key that can be read")))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(match self.min_version {
                TlsVersion::Tls12 => &VERSIONS,
                TlsVersion::Tls13 => &VERSIONS[..1],
            })
            .map_err(|error| wrong(error.to_string()))?;
        let builder = match &texts.client_ca {
            None => builder.with_no_client_auth(),
            Some(text) => builder.with_client_cert_verifier(self.verifier(text, provider)?),
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| wrong(format!("the certificate and its key cannot be used: {error}")))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.enable_secret_extraction = true;
        // Of TLS 1.2: what is older than RFC 7627, of 2015, can be made to share a secret with another connection.
        config.require_ems = true;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // Each connection of a client resumes with a ticket of its own, and gets the next one.
        config.send_tls13_tickets = 1;
        // A client that resumes shows no certificate again: with other CAs it has to, and where it may have shown none before.
        let ca = texts.client_ca.as_ref().map_or(&[][..], String::as_bytes);
        let context = match self.client_certificates {
            ClientCertificates::Required => ca.to_vec(),
            ClientCertificates::Optional => [ca, b"optional"].concat(),
        };
        Ok(Made { config, context, validity })
    }

    fn verifier(
        &self,
        text: &str,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let path = self.client_ca.clone().unwrap_or_default();
        let wrong = |why: String| TlsError::ClientCa { path: path.clone(), why };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(text).map_err(|why| wrong(why.to_owned()))? {
            roots.add(certificate).map_err(|error| wrong(format!("has one that is no CA: {error}")))?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let builder = match self.client_certificates {
            ClientCertificates::Required => builder,
            ClientCertificates::Optional => builder.allow_unauthenticated(),
        };
        builder.build().map_err(|error| wrong(error.to_string()))
    }
}

/// The certificates in a text, which has one at least.
fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match found {
        Ok(found) if found.is_empty() => Err("has no certificate"),
        Ok(found) => Ok(found),
        Err(_) => Err("cannot be read"),
    }
}
