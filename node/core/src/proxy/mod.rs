//! The address of a client whose connection came through proxies.
//!
//! A node sees the address of the proxy that connected to it. The proxy says whom it speaks for, in a header of the
//! request ([`forwarded`]) or before the first byte of it ([`header`]). Anyone can say so, so a proxy is believed only
//! when it is in one of the networks that the configuration trusts.

pub mod forwarded;
pub mod header;
pub mod network;
mod settings;

pub use forwarded::ForwardedHeader;
pub use network::{Network, Networks};
pub use settings::Proxies;
