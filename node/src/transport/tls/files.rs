//! The certificate of the public port and its key, and the secret of tickets: files of mounted Secrets, read at the start and
//! again when they change.
//!
//! As with the configuration, the contents are compared. Connections that are open or shaking hands keep what they began
//! with; the next ones get what was read last.

use std::{
    hash::{BuildHasher, RandomState},
    path::PathBuf,
    sync::Arc,
};

use arc_swap::ArcSwap;
use node_core::tls::TicketKey;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    version::TLS13,
};

use super::tickets::Tickets;
use crate::secrets::{CREDENTIAL_BYTES, SecretError, SecretFile};

/// The files, by their names in a Secret of type `kubernetes.io/tls`.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// Longest file in bytes: a chain of some certificates, or a key.
const FILE_BYTES: u64 = 64 * 1024;
/// The secret of tickets, by its name in the Secret of the fleet.
const TICKET_KEY: &str = "tls-ticket-key";

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
pub struct Identity(ArcSwap<ServerConfig>);

impl Identity {
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.0.load_full()
    }
}

/// Where the files of a node's TLS are.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The directory of the certificate and its key.
    pub certificate: PathBuf,
    /// The directory with the secret of tickets. Without it, or without the file, tickets are of this process alone.
    pub secrets: Option<PathBuf>,
    /// The file with the CAs of clients' certificates. With it a client has to show one.
    pub client_ca: Option<PathBuf>,
}

/// What is in the files.
#[derive(Hash)]
struct Texts {
    certificate: String,
    key: String,
    ticket_key: Option<String>,
    client_ca: Option<String>,
}

/// Finds changes of the certificate and of what belongs to it.
#[derive(Debug)]
pub struct TlsWatch {
    files: TlsFiles,
    own: OwnSecret,
    identity: Arc<Identity>,
    /// A hash of the files as they were taken last, or found wrong. None: they are to be read anew.
    seen: Option<u64>,
    hasher: RandomState,
    /// The last error, so that it is told once.
    told: Option<String>,
}

/// The secret of tickets of a process that is given none. It is not shown.
struct OwnSecret([u8; 32]);

impl std::fmt::Debug for OwnSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OwnSecret")
    }
}

impl TlsWatch {
    /// Reads the files, and watches for changes from then on.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn start(files: TlsFiles) -> Result<Self, TlsError> {
        let (texts, own, hasher) = (files.read()?, OwnSecret(rand::random()), RandomState::new());
        let identity = Arc::new(Identity(ArcSwap::from_pointee(files.server_config(&texts, &own)?)));
        let seen = Some(hasher.hash_one(&texts));
        Ok(Self { files, own, identity, seen, hasher, told: None })
    }

    /// What the shards use. A change is in force there when [`TlsWatch::changed`] returns.
    #[must_use]
    pub const fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// Looks at the files, and tells whether another certificate is in force since the last call. The same error is
    /// reported once; the former certificate stays in force.
    pub fn changed(&mut self) -> Option<Result<(), TlsError>> {
        match self.look() {
            Ok(false) => None,
            Ok(true) => {
                self.told = None;
                Some(Ok(()))
            }
            Err(error) => {
                let text = error.to_string();
                let is_new = self.told.as_ref() != Some(&text);
                self.told = Some(text);
                is_new.then_some(Err(error))
            }
        }
    }

    fn look(&mut self) -> Result<bool, TlsError> {
        let texts = self.files.read().inspect_err(|_| self.seen = None)?;
        let seen = Some(self.hasher.hash_one(&texts));
        if std::mem::replace(&mut self.seen, seen) == seen {
            return Ok(false);
        }
        self.identity.0.store(Arc::new(self.files.server_config(&texts, &self.own)?));
        Ok(true)
    }
}

impl TlsFiles {
    fn read(&self) -> Result<Texts, SecretError> {
        let read = |name| SecretFile::new(&self.certificate, name, FILE_BYTES).read();
        let ticket_key = self.secrets.as_ref().map(|dir| SecretFile::new(dir, TICKET_KEY, CREDENTIAL_BYTES));
        let client_ca = self.client_ca.as_ref().map(|file| SecretFile::at(file.clone(), FILE_BYTES).read());
        Ok(Texts {
            certificate: read(CERTIFICATE)?,
            key: read(KEY)?,
            // An operator that knows nothing of tickets makes no secret for them; clients then shake hands in full elsewhere.
            ticket_key: ticket_key.and_then(|file| file.read().ok()),
            client_ca: client_ca.transpose()?,
        })
    }

    fn server_config(&self, texts: &Texts, own: &OwnSecret) -> Result<ServerConfig, TlsError> {
        let wrong = |why: String| TlsError::Wrong { dir: self.certificate.clone(), why };
        let chain = certificates(&texts.certificate).map_err(|why| wrong(format!("{CERTIFICATE} {why}")))?;
        let key = PrivateKeyDer::from_pem_slice(texts.key.as_bytes())
            .map_err(|_| wrong(format!("{KEY} has no private key that can be read")))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
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
        // Each connection of a client resumes with a ticket of its own, and gets the next one.
        config.send_tls13_tickets = 1;
        let secret = texts.ticket_key.as_ref().map_or(&own.0[..], String::as_bytes);
        // A client that resumes shows no certificate again: with other CAs it has to.
        let secret = [secret, texts.client_ca.as_ref().map_or(&[], String::as_bytes)].concat();
        let key = TicketKey::new(&secret).ok_or_else(|| wrong(format!("{TICKET_KEY} cannot be used")))?;
        config.ticketer = Arc::new(Tickets::new(key));
        Ok(config)
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
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        verifier.map_err(|error| wrong(error.to_string()))
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
