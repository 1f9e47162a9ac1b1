//! ChannelClusters for tests, from the spec as it stands in a manifest.

use crds::{ChannelCluster, ChannelClusterSpec};

use crate::validate::OperatorEnv;

/// A ChannelCluster `chat` in namespace `default` with `spec` in YAML.
pub(crate) fn cluster(spec: &str) -> ChannelCluster {
    let spec: ChannelClusterSpec = serde_saphyr::from_str(spec).expect("a spec that reads");
    let mut cluster = ChannelCluster::new("chat", spec);
    cluster.metadata.namespace = Some("default".to_owned());
    cluster.metadata.uid = Some("6f1c0a4e-0000-4000-8000-000000000001".to_owned());
    cluster.metadata.generation = Some(1);
    cluster
}

/// An operator beside Kubernetes 1.34.
pub(crate) fn env() -> OperatorEnv {
    OperatorEnv {
        node_image: "channelcluster.io/channel-node:new".to_owned(),
        nats_image: "channelcluster.io/nats-server:new".to_owned(),
        server_minor: 34,
        namespace: "channelcluster-system".to_owned(),
        allowed_images: Vec::new(),
    }
}
