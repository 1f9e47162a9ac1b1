//! The record layer of TLS 1.3 (RFC 8446, section 5), for connections whose handshake is done.
//!
//! rustls shakes hands and then gives its secrets away, as it would to a kernel with kTLS. A [`Session`] is what remains of
//! the connection: two keys, two nonces and two sequence numbers. It seals and opens records in the caller's buffers and
//! owns none. Why not rustls to the end, and what speaks for the safety of this, is in `docs/decisions`.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod forge;
mod session;
#[cfg(test)]
mod tests;
mod ticket;
mod wire;

pub use session::{End, Opened, Secrets, Session, Suite, Worn};
pub use ticket::{PERIOD_MILLIS as TICKET_PERIOD_MILLIS, TicketKey};
pub use wire::{
    Alert, Content, HEADER_BYTES, MAX_PLAINTEXT_BYTES, MAX_RECORD_BYTES, Next, OVERHEAD_BYTES, next_record,
};
