//! Which proxies stand before the node, as the configuration says it.

use super::ForwardedHeader;

/// The proxies before the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// Their addresses: networks such as `10.0.0.0/8`, or single addresses. Without any no proxy is believed.
    pub trusted: Vec<String>,
    /// The header in which they name the client.
    pub header: ForwardedHeader,
    /// Every connection begins with a header of the PROXY protocol.
    pub protocol: bool,
}
