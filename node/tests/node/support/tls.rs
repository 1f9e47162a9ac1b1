//! TLS of clients, with the certificates of `node/tests/data/tls`.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, pem::PemObject},
    version::TLS13,
};

use super::wait::HANG;

pub(crate) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// A file of the test data.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls").join(name)
}

/// A directory as a mounted Secret with a certificate; removed when dropped.
pub(crate) struct Certificate(PathBuf);

impl Certificate {
    /// The certificate of this name in the test data.
    pub(crate) fn of(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("channel-node-tls-{:x}", rand::random::<u64>()));
        fs::create_dir_all(&dir).expect("a directory");
        let certificate = Certificate(dir);
        certificate.become_that_of(name);
        certificate
    }

    /// Another certificate takes its place.
    pub(crate) fn become_that_of(&self, name: &str) {
        for end in ["crt", "key"] {
            fs::copy(data(&format!("{name}.{end}")), self.0.join(format!("tls.{end}"))).expect("copied");
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// A client that trusts the CA of the test data.
pub(crate) fn client_config() -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(data("ca.crt")).expect("a CA")).expect("a root");
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// Connects and shakes hands.
pub(crate) fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> TlsStream {
    shake(TcpStream::connect(address).expect("the public port"), config)
}

/// Shakes hands on a connection.
pub(crate) fn shake(stream: TcpStream, config: &Arc<ClientConfig>) -> TlsStream {
    try_shake(stream, config).expect("a handshake")
}

/// The same where the node may drop the connection.
pub(crate) fn try_shake(stream: TcpStream, config: &Arc<ClientConfig>) -> std::io::Result<TlsStream> {
    stream.set_read_timeout(Some(HANG)).expect("a time-out");
    let name = "localhost".try_into().expect("a name");
    let client = ClientConnection::new(Arc::clone(config), name).expect("a client");
    let mut stream = StreamOwned::new(client, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}
