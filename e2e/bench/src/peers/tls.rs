//! The certificate of all servers with TLS: an ECDSA key on P-256, from the test data of the node.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The certificate of 127.0.0.1, its key, and the CA that vouches for it.
const CERTIFICATE: &str = include_str!("../../../../node/tests/data/tls/one.crt");
const KEY: &str = include_str!("../../../../node/tests/data/tls/one.key");
const CA: &str = include_str!("../../../../node/tests/data/tls/ca.crt");

/// The files of a server, as in a Secret of type `kubernetes.io/tls`.
pub(crate) struct Files(PathBuf);

impl Files {
    /// The files of the server that has this directory.
    pub(crate) fn of(server: &Path) -> Self {
        Self(server.join("tls"))
    }

    /// Writes them.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn write(&self) -> Result<()> {
        fs::create_dir_all(&self.0).with_context(|| format!("cannot create {}", self.0.display()))?;
        for (path, text) in [(self.certificate(), CERTIFICATE), (self.key(), KEY), (self.ca(), CA)] {
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// Where they are.
    pub(crate) fn directory(&self) -> &Path {
        &self.0
    }

    /// The certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.0.join("tls.crt")
    }

    /// Its key.
    pub(crate) fn key(&self) -> PathBuf {
        self.0.join("tls.key")
    }

    /// The CA that clients trust.
    pub(crate) fn ca(&self) -> PathBuf {
        self.0.join("ca.crt")
    }
}
