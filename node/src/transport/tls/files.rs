//! The certificate of the public port and its key: files of a mounted Secret, read at the start and again when they change.
//!
//! As with the configuration, the contents are compared. Connections that are open or shaking hands keep what they began
//! with; the next ones get what was read last.

use std::{
    hash::{BuildHasher, RandomState},
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::TLS13,
};

use crate::secrets::{SecretError, SecretFile};

/// The files, by their names in a Secret of type `kubernetes.io/tls`.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// Longest file in bytes: a chain of some certificates, or a key.
const FILE_BYTES: u64 = 64 * 1024;

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
}

/// What the next handshake of any shard uses.
#[derive(Debug)]
pub struct Identity(ArcSwap<ServerConfig>);

impl Identity {
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.0.load_full()
    }
}

/// Finds changes of the certificate.
#[derive(Debug)]
pub struct TlsWatch {
    dir: PathBuf,
    identity: Arc<Identity>,
    /// A hash of the files as they were taken last, or found wrong. None: they are to be read anew.
    seen: Option<u64>,
    hasher: RandomState,
    /// The last error, so that it is told once.
    told: Option<String>,
}

impl TlsWatch {
    /// Reads the certificate in a directory, and watches for changes from then on.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn start(dir: &Path) -> Result<Self, TlsError> {
        let (texts, hasher) = (texts(dir)?, RandomState::new());
        let identity = Arc::new(Identity(ArcSwap::from_pointee(server_config(dir, &texts)?)));
        let seen = Some(hasher.hash_one(&texts));
        Ok(Self { dir: dir.to_owned(), identity, seen, hasher, told: None })
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
        let texts = texts(&self.dir).inspect_err(|_| self.seen = None)?;
        let seen = Some(self.hasher.hash_one(&texts));
        if std::mem::replace(&mut self.seen, seen) == seen {
            return Ok(false);
        }
        self.identity.0.store(Arc::new(server_config(&self.dir, &texts)?));
        Ok(true)
    }
}

/// The texts of certificate and key.
fn texts(dir: &Path) -> Result<[String; 2], SecretError> {
    let read = |name| SecretFile::new(dir, name, FILE_BYTES).read();
    Ok([read(CERTIFICATE)?, read(KEY)?])
}

fn server_config(dir: &Path, [certificate, key]: &[String; 2]) -> Result<ServerConfig, TlsError> {
    let wrong = |why: String| TlsError::Wrong { dir: dir.to_owned(), why };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
    let chain = chain.map_err(|error| wrong(format!("{CERTIFICATE} cannot be read: {error}")))?;
    if chain.is_empty() {
        return Err(wrong(format!("{CERTIFICATE} has no certificate")));
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|_| wrong(format!("{KEY} has no private key that can be read")))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| wrong(error.to_string()))?;
    let mut config = builder
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| wrong(format!("the certificate and its key cannot be used: {error}")))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.enable_secret_extraction = true;
    // Each connection of a client resumes with a ticket of its own, and gets the next one.
    config.send_tls13_tickets = 1;
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| wrong(error.to_string()))?;
    Ok(config)
}
