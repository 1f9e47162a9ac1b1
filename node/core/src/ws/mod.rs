//! The server side of RFC 6455 on byte slices.
//!
//! The codec is our own, because fan-out wants frames that are encoded once and shared, and because a library's
//! reader keeps a buffer per connection: here a connection owns memory only while a frame or message is incomplete. A
//! differential property test checks it against tungstenite.

pub mod close;
pub mod entry;
pub mod frame;
pub mod handshake;
pub mod host;
pub mod origin;
pub mod reader;
mod target;

pub use close::CloseCode;
pub use frame::{Opcode, WsError};
pub use reader::{Event, Flow, Reader};
