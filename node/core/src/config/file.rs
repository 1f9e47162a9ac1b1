//! The keys in the order and form of the file: side by side, whether a running node can change them or not.
//!
//! Both conversions name every key, so one that is forgotten here does not compile.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::proxy::{ForwardedHeader, Proxies};

use super::{Auth, Bus, ClusterId, Compression, DrainSettings, Fixed, Hooks, Limits, NodeConfig, Rooms};

/// The file. A key that is missing in it has its default.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct File {
    version: u32,
    cluster: ClusterId,
    path: String,
    rooms: Rooms,
    limits: Limits,
    // Nodes older than these three keys refuse a file that has them, so they are left out while nobody set them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    trusted_proxies: Vec<String>,
    #[serde(skip_serializing_if = "is_usual")]
    forwarded_header: ForwardedHeader,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    proxy_protocol: bool,
    auth: Auth,
    drain: DrainSettings,
    chat_page: bool,
    // Nodes older than the key refuse a file that has it, so it is left out while it is off.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    long_poll: bool,
    // The same while it is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    compression: Option<Compression>,
    // The same while nobody is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    hooks: Option<Hooks>,
    bus: Option<Bus>,
    sysctls: BTreeMap<String, String>,
    nofile: Option<u64>,
}

impl Default for File {
    fn default() -> Self {
        NodeConfig::default().into()
    }
}

impl From<File> for NodeConfig {
    fn from(file: File) -> Self {
        let File {
            version,
            cluster,
            path,
            rooms,
            limits,
            trusted_proxies: trusted,
            forwarded_header: header,
            proxy_protocol: protocol,
            auth,
            drain,
            chat_page,
            long_poll,
            compression,
            hooks,
            bus,
            sysctls,
            nofile,
        } = file;
        let fixed = Fixed { version, cluster, path, bus, sysctls, nofile, dev: false };
        let proxies = Proxies { trusted, header, protocol };
        NodeConfig { fixed, rooms, limits, proxies, auth, drain, chat_page, long_poll, compression, hooks }
    }
}

impl From<NodeConfig> for File {
    fn from(config: NodeConfig) -> Self {
        let NodeConfig {
            fixed,
            rooms,
            limits,
            proxies,
            auth,
            drain,
            chat_page,
            long_poll,
            compression,
            hooks,
        } = config;
        let Proxies { trusted, header, protocol } = proxies;
        // Dev mode is a flag of the command line.
        let Fixed { version, cluster, path, bus, sysctls, nofile, dev: _ } = fixed;
        File {
            version,
            cluster,
            path,
            rooms,
            limits,
            trusted_proxies: trusted,
            forwarded_header: header,
            proxy_protocol: protocol,
            auth,
            drain,
            chat_page,
            long_poll,
            compression,
            hooks,
            bus,
            sysctls,
            nofile,
        }
    }
}

fn is_usual(header: &ForwardedHeader) -> bool {
    *header == ForwardedHeader::default()
}
