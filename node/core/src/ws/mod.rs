//! The server side of RFC 6455 on byte slices.
//!
//! The codec is our own, because fan-out wants frames that are encoded once and shared, and because a library's
//! reader keeps a buffer per connection: here a connection owns memory only while a frame or message is incomplete. A
//! differential property test checks it against tungstenite.

pub(crate) mod base64;
pub(crate) mod bearer;
pub mod close;
mod connect_info;
pub mod deflate;
pub mod entry;
pub(crate) mod extension;
pub mod frame;
pub mod handshake;
pub(crate) mod headers;
pub mod host;
mod opening;
pub mod origin;
pub(crate) mod query;
pub mod reader;
mod subprotocol;
pub(crate) mod target;
mod utf8;

pub use close::CloseCode;
pub use connect_info::ConnectInfo;
pub use extension::Agreed;
pub use frame::{Opcode, WsError};
pub use opening::Opening;
pub use reader::{Event, Flow, Reader};
