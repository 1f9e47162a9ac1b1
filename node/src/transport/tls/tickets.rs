//! Tickets of this node, by the keys that its fleet shares or by one of its own.
//!
//! Only sessions of TLS 1.3 get one. In TLS 1.2 a ticket would hold the secret that all traffic of its session is encrypted from,
//! and would be sent in the open: whoever got the key of tickets could decrypt what was recorded.

use node_core::tls::{TICKET_PERIOD_MILLIS, TicketKeys};
use rustls::server::ProducesTickets;

use crate::sysinfo::unix_millis;

/// Tickets as rustls asks for them.
#[derive(Debug)]
pub(super) struct Tickets(TicketKeys);

impl Tickets {
    pub(super) const fn new(keys: TicketKeys) -> Self {
        Self(keys)
    }
}

/// Whether what rustls wants to have in a ticket is a session of TLS 1.3. Its encoding begins with the name of the server, if the
/// client said one, and the version.
fn is_tls_1_3(session: &[u8]) -> bool {
    let rest = match session {
        [0, rest @ ..] => Some(rest),
        [1, length, rest @ ..] => rest.get(usize::from(*length)..),
        _ => None,
    };
    rest.is_some_and(|rest| rest.starts_with(&[3, 4]))
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        // 12 hours.
        (TICKET_PERIOD_MILLIS / 1_000) as u32
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        if is_tls_1_3(session) { self.0.seal(session, unix_millis(), rand::random()) } else { None }
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.0.open(ticket, unix_millis())
    }
}
