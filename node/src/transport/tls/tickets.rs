//! Tickets of this node, by the secret that its fleet shares or by one of its own.

use std::time::{SystemTime, UNIX_EPOCH};

use node_core::tls::{TICKET_PERIOD_MILLIS, TicketKey};
use rustls::server::ProducesTickets;

/// Tickets as rustls asks for them.
#[derive(Debug)]
pub(super) struct Tickets(TicketKey);

impl Tickets {
    pub(super) const fn new(key: TicketKey) -> Self {
        Self(key)
    }
}

/// Milliseconds since 1970; none before.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
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
        self.0.seal(session, now(), rand::random())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.0.open(ticket, now())
    }
}
