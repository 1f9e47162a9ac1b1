//! Command line of channel-operator. Each flag can be given as an environment variable.

use std::net::SocketAddr;

use clap::Parser;

/// Keeps a fleet of channel nodes for each ChannelCluster of a Kubernetes cluster.
#[derive(Clone, Debug, Parser)]
#[command(name = "channel-operator", version)]
pub struct Args {
    /// Node image of ChannelClusters that name none.
    #[arg(long, env = "NODE_IMAGE")]
    pub node_image: String,
    /// Image of the managed NATS.
    #[arg(long, env = "NATS_IMAGE")]
    pub nats_image: String,
    /// Image that ChannelClusters may name beside the two above, exact or with `*` at the end; may be repeated. None: all.
    #[arg(long = "allowed-image", env = "ALLOWED_IMAGES", value_delimiter = ',')]
    pub allowed_images: Vec<String>,
    /// The operator's own namespace, where its lease is.
    #[arg(long, env = "POD_NAMESPACE", default_value = "channelcluster-system")]
    pub namespace: String,
    /// Namespaces whose ChannelClusters are kept, separated by commas; unset: all.
    #[arg(long, env = "WATCH_NAMESPACES", value_delimiter = ',', value_name = "NAMESPACE")]
    pub watch_namespaces: Vec<String>,
    /// Name of this process among the operators; unset: a random one.
    #[arg(long, env = "POD_NAME")]
    pub identity: Option<String>,
    /// Where /metrics, /healthz and /readyz are served; the default is all addresses of IPv6 and IPv4.
    #[arg(long, env = "METRICS_ADDR", default_value = "[::]:9410")]
    pub metrics_addr: SocketAddr,
}
