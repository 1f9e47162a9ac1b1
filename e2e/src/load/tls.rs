//! TLS 1.3 between the sockets of a worker and their frames, by rustls: it shares no code with the node's own records.
//!
//! All connections ask for one suite and one group, so that every server does the same work, and bring no tickets unless they are
//! to resume.

use super::socket::End;
use anyhow::{Context, ensure};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore};
use std::io::{Read, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Servers whose tickets are kept.
const TICKETS_OF: usize = 256;

/// What all connections have in common. A server has to show a certificate of a CA in this file (PEM).
///
/// # Errors
/// When the file has no CA.
pub(super) fn client_config(ca: &Path, resume: bool) -> anyhow::Result<Arc<ClientConfig>> {
    let name = || format!("--tls-ca {}", ca.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).with_context(name)? {
        roots.add(certificate.with_context(name)?).with_context(name)?;
    }
    ensure!(!roots.is_empty(), "{}: no certificate in it", name());
    let provider = CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption =
        if resume { Resumption::in_memory_sessions(TICKETS_OF) } else { Resumption::disabled() };
    Ok(Arc::new(config))
}

/// The sessions of one worker.
pub(super) struct Sessions {
    config: Arc<ClientConfig>,
    /// By slot; a slot without a socket has none.
    sessions: Vec<Option<Box<ClientConnection>>>,
    /// The records of one read.
    records: Vec<u8>,
}

/// What the records of one read came to.
pub(super) struct Opened {
    /// Where their data ends.
    pub(super) end: usize,
    /// Whether rustls has something to say.
    pub(super) answers: bool,
    /// Whether a handshake has ended that made use of a ticket.
    pub(super) resumed: bool,
}

impl Sessions {
    pub(super) fn new(config: Arc<ClientConfig>, slots: usize) -> Sessions {
        let mut sessions = Vec::new();
        sessions.resize_with(slots, || None);
        Sessions { config, sessions, records: Vec::new() }
    }

    /// Begins the handshake of a slot with a server of this name. What is sealed meanwhile follows the handshake.
    pub(super) fn begin(&mut self, slot: u32, name: &ServerName<'static>) -> Result<(), rustls::Error> {
        let mut session = ClientConnection::new(Arc::clone(&self.config), name.clone())?;
        // The generator has its own bound for what a server does not take.
        session.set_buffer_limit(None);
        self.sessions[slot as usize] = Some(Box::new(session));
        Ok(())
    }

    /// Forgets the session of a slot.
    pub(super) fn end(&mut self, slot: u32) {
        self.sessions[slot as usize] = None;
    }

    /// Puts records in the place of their data, and with them what rustls has to say.
    pub(super) fn seal(&mut self, slot: u32, data: &mut Vec<u8>) -> std::io::Result<()> {
        let Some(session) = &mut self.sessions[slot as usize] else { return Ok(()) };
        session.writer().write_all(data)?;
        data.clear();
        while session.wants_write() {
            session.write_tls(data)?;
        }
        Ok(())
    }

    /// Puts the data of records in their place in the buffer, which grows if it has to.
    ///
    /// # Errors
    /// When the handshake fails, or a record is not what it has to be.
    pub(super) fn open(&mut self, slot: u32, buffer: &mut Vec<u8>, at: Range<usize>) -> Result<Opened, End> {
        let mut opened = Opened { end: at.start, answers: false, resumed: false };
        let Some(session) = &mut self.sessions[slot as usize] else { return Ok(opened) };
        let shook = session.is_handshaking();
        self.records.clear();
        self.records.extend_from_slice(&buffer[at]);
        let mut rest = &self.records[..];
        while !rest.is_empty() {
            // After the server's last record nothing more is taken.
            if session.read_tls(&mut rest).map_err(|error| broken(&error))? == 0 {
                break;
            }
            let size =
                session.process_new_packets().map_err(|error| broken(&error))?.plaintext_bytes_to_read();
            let end = opened.end + size;
            if buffer.len() < end {
                buffer.resize(end, 0);
            }
            session.reader().read_exact(&mut buffer[opened.end..end]).map_err(|error| broken(&error))?;
            opened.end = end;
        }
        opened.answers = session.wants_write();
        opened.resumed =
            shook && !session.is_handshaking() && session.handshake_kind() == Some(HandshakeKind::Resumed);
        Ok(opened)
    }
}

fn broken(error: &dyn std::error::Error) -> End {
    End::broken(format!("tls: {error}"))
}
