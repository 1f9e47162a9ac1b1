//! What the node is to servers that it asks by HTTP: its name, and whose certificates it believes.

use std::sync::Arc;

use tokio_rustls::rustls::{
    self, ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

/// How the node names itself.
pub(crate) const AGENT: &str = concat!("channel-node/", env!("CARGO_PKG_VERSION"));

/// The authorities of a file in PEM; none when it has none, or something else.
pub(crate) fn authorities(pem: &str) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.ok()?).ok()?;
    }
    (!roots.is_empty()).then_some(roots)
}

/// The settings of TLS with these authorities, or with those that browsers trust.
///
/// # Errors
/// When the provider of cryptography speaks no version of TLS.
pub(crate) fn tls(authorities: Option<RootCertStore>) -> Result<ClientConfig, rustls::Error> {
    let browsers = || RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(authorities.unwrap_or_else(browsers)).with_no_client_auth())
}
