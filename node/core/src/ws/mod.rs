//! The server side of RFC 6455 on byte slices.
//!
//! An own codec, because fan-out wants frames encoded once and shared, and because a library's reader keeps a buffer
//! per connection: here a connection owns memory only while a frame or message is incomplete. It is checked against
//! tungstenite by a differential property test.

pub mod close;
pub mod frame;
pub mod handshake;
pub mod host;
pub mod origin;
pub mod reader;
mod target;

pub use close::CloseCode;
pub use frame::{Opcode, WsError};
pub use reader::{Event, Flow, Reader};
