//! The record layer of TLS 1.3 (RFC 8446, section 5) and TLS 1.2 (RFC 5246, section 6), for connections whose handshake is done.
//!
//! rustls shakes hands and then gives its secrets away, as it would to a kernel with kTLS. A [`Session`] is what remains of
//! the connection: two keys, two nonces and two sequence numbers. It seals and opens records in the caller's buffers and
//! owns none. Why not rustls to the end, and what speaks for the safety of this, is in `docs/decisions`.

mod certificate;
mod cipher;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod forge;
mod keys;
mod session;
#[cfg(test)]
mod tests;
mod ticket;
mod v12;
mod v13;
mod wire;

pub use certificate::Validity;
pub use cipher::{Secrets, Suite, Version};
pub use keys::{DatedKey, KeyList};
pub use session::{ALERT_BYTES, OVERHEAD_BYTES, Opened, Session, Worn};
pub use ticket::{PERIOD_MILLIS as TICKET_PERIOD_MILLIS, TicketKeys};
pub use wire::{Alert, Content, End, HEADER_BYTES, MAX_PLAINTEXT_BYTES, MAX_RECORD_BYTES, Next, next_record};
