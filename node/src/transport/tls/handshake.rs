//! The handshake, which rustls does. It gets one record at a time and no more, so that everything behind the client's
//! Finished is left for the session that follows.

use std::{os::fd::BorrowedFd, sync::Arc};

use node_core::{
    counters::RefuseReason,
    tls::{MAX_RECORD_BYTES, Next, Secrets, Session, Suite, Version, next_record},
};
use rustls::{ConnectionTrafficSecrets, ExtractedSecrets, ProtocolVersion, ServerConfig, ServerConnection};

use super::{
    super::{Taken, plain},
    unsent::{Sending, Unsent},
};

/// Most bytes that a client says in its handshake: a hello is 2 kB at most, and a chain of certificates of the client some
/// more.
const MAX_SAID_BYTES: usize = 32 * 1024;
/// Memory in bytes that is counted for a handshake from the client's hello on. With rustls and AWS-LC 9 kB were measured; a
/// longer chain of certificates takes more.
pub(super) const SHAKING_BYTES: usize = 16 * 1024;
/// The first byte of a connection that speaks TLS: a record with a handshake message.
const HANDSHAKE: u8 = 22;
/// The answer to a request that comes without TLS.
const PLAIN_REQUEST: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 53\r\nconnection: close\r\n\r\n\
    This port speaks TLS: connect to https:// or wss://.\n";

/// A connection whose handshake is under way.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    /// Made when the first record is whole.
    server: Option<Box<ServerConnection>>,
    /// The beginning of a record.
    input: Vec<u8>,
    unsent: Unsent,
    said: usize,
}

/// How far a read brought a handshake.
pub(super) enum Shaken {
    /// It goes on. So many records were worked at.
    On(Taken, usize),
    /// It is done. From `used` up to `total` of the buffer there are records of the session; `full` says that the socket may
    /// have more.
    Done { session: Box<Session>, unsent: Unsent, used: usize, total: usize, full: bool },
    /// It cannot go on.
    Failed(RefuseReason),
}

/// What rustls or its rules refuse.
struct Refused;

impl Handshake {
    /// Memory in bytes of the record that is not complete, and of all that the handshake has.
    pub(super) fn weight(&self) -> (usize, usize) {
        let input = self.input.capacity();
        let server = if self.server.is_some() { SHAKING_BYTES } else { 0 };
        (input, size_of::<Self>() + server + input + self.unsent.held_bytes())
    }

    /// Whether rustls is at work.
    pub(super) const fn has_begun(&self) -> bool {
        self.server.is_some()
    }

    /// Reads once, and does what the records ask for that are whole. A handshake that has not begun fails when
    /// `refuses` says why.
    pub(super) fn read(
        &mut self,
        fd: BorrowedFd<'_>,
        buffer: &mut [u8],
        config: &Arc<ServerConfig>,
        refuses: Option<RefuseReason>,
    ) -> Shaken {
        let kept = self.input.len();
        let count = match plain::read(fd, &mut buffer[kept..]) {
            Taken::Bytes(count) => count,
            other => return Shaken::On(other, 0),
        };
        buffer[..kept].copy_from_slice(&self.input);
        let (total, full) = (kept + count, kept + count == buffer.len());
        let bytes = &buffer[..total];
        if self.server.is_none() && bytes[0] != HANDSHAKE {
            return self.refuse_plain(fd, bytes);
        }
        if self.server.is_none()
            && let Some(reason) = refuses
            && matches!(next_record(bytes), Next::Whole(_))
        {
            return Shaken::Failed(reason);
        }
        let taken = self.take(bytes, config);
        let sending = self.unsent.send(fd);
        match taken {
            Err(Refused) => Shaken::Failed(RefuseReason::Tls),
            Ok(_) if sending == Sending::Failed => Shaken::On(Taken::Ended, 0),
            Ok((used, Some(session))) => {
                let unsent = std::mem::take(&mut self.unsent);
                Shaken::Done { session: Box::new(session), unsent, used, total, full }
            }
            Ok((used, None)) => {
                self.input = bytes[used..].to_vec();
                Shaken::On(Taken::Again, usize::from(used > 0))
            }
        }
    }

    /// Drops a record that is not complete; the handshake cannot go on after it.
    pub(super) fn forget_input(&mut self) {
        self.input = Vec::new();
    }

    /// Goes on sending what the socket did not take.
    pub(super) fn send_unsent(&mut self, fd: BorrowedFd<'_>) -> Sending {
        self.unsent.send(fd)
    }

    /// Gives whole records to rustls, one at a time, and collects its answers. Returns how many bytes these were, and the
    /// session once the handshake is done.
    fn take(
        &mut self,
        bytes: &[u8],
        config: &Arc<ServerConfig>,
    ) -> Result<(usize, Option<Session>), Refused> {
        let mut used = 0;
        loop {
            let length = match next_record(&bytes[used..]) {
                Next::Incomplete => return Ok((used, None)),
                Next::TooLong => return Err(Refused),
                Next::Whole(length) => length,
            };
            self.said += length;
            if self.said > MAX_SAID_BYTES {
                return Err(Refused);
            }
            let mut server = match self.server.take() {
                Some(server) => server,
                None => Box::new(ServerConnection::new(Arc::clone(config)).map_err(|_| Refused)?),
            };
            let fed = feed(&mut server, &bytes[used..used + length]);
            while server.wants_write() {
                // Writing to a vector does not fail.
                server.write_tls(&mut self.unsent.bytes).map_err(|_| Refused)?;
            }
            fed?;
            used += length;
            if !server.is_handshaking() {
                return Ok((used, Some(extract(*server).ok_or(Refused)?)));
            }
            self.server = Some(server);
        }
    }

    /// Tells a client that speaks HTTP without TLS what to do.
    fn refuse_plain(&self, fd: BorrowedFd<'_>, bytes: &[u8]) -> Shaken {
        if bytes[0].is_ascii_uppercase() {
            plain::say_last(fd, PLAIN_REQUEST);
        }
        Shaken::Failed(RefuseReason::Tls)
    }
}

fn feed(server: &mut ServerConnection, mut record: &[u8]) -> Result<(), Refused> {
    while !record.is_empty() {
        if server.read_tls(&mut record).map_err(|_| Refused)? == 0 {
            return Err(Refused);
        }
    }
    server.process_new_packets().map(drop).map_err(|_| Refused)
}

/// The session of a finished handshake. Everything that rustls had to say is taken from it by now.
fn extract(server: ServerConnection) -> Option<Session> {
    let version = match server.protocol_version()? {
        ProtocolVersion::TLSv1_3 => Version::Tls13,
        ProtocolVersion::TLSv1_2 => Version::Tls12,
        _ => return None,
    };
    let ExtractedSecrets { tx, rx } = server.dangerous_extract_secrets().ok()?;
    let ((suite, sealing), (other, opening)) = (secrets(&tx)?, secrets(&rx)?);
    if suite == other { Session::new(version, suite, &sealing, &opening, rand::random()) } else { None }
}

pub(super) fn secrets((sequence, secrets): &(u64, ConnectionTrafficSecrets)) -> Option<(Suite, Secrets<'_>)> {
    let (suite, key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Suite::Aes128Gcm, key, iv),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Suite::Aes256Gcm, key, iv),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (Suite::ChaCha20Poly1305, key, iv),
        _ => return None,
    };
    Some((suite, Secrets { sequence: *sequence, key: key.as_ref(), iv: iv.as_ref() }))
}

const _: () = assert!(MAX_SAID_BYTES > MAX_RECORD_BYTES);
