//! What the tests share: a node as a process, clients and publishers, a relay that fails, NATS.

pub(crate) mod client;
pub(crate) mod forgery;
pub(crate) mod frame;
pub(crate) mod http;
pub(crate) mod issuer;
#[cfg(feature = "nats-server")]
pub(crate) mod nats;
#[cfg(feature = "nats-server")]
pub(crate) mod port;
pub(crate) mod process;
pub(crate) mod promtool;
#[cfg(feature = "nats-server")]
pub(crate) mod proxy;
pub(crate) mod publisher;
pub(crate) mod relay;
pub(crate) mod tls;
pub(crate) mod wait;
