//! Machines whose kubelets are set up alike, as far as labels tell.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Node;

use crate::machine::MachineView;

/// Labels by which providers and provisioners name the pool of a machine; kubelets of one pool are set up alike. The first one
/// that a machine has counts.
pub const POOL_LABELS: [&str; 10] = [
    "karpenter.sh/nodepool",
    "cloud.google.com/gke-nodepool",
    "eks.amazonaws.com/nodegroup",
    "alpha.eksctl.io/nodegroup-name",
    "kubernetes.azure.com/agentpool",
    "doks.digitalocean.com/node-pool",
    "k8s.scaleway.com/pool-name",
    "lke.linode.com/pool-id",
    "oci.oraclecloud.com/node-pool-id",
    "kops.k8s.io/instancegroup",
];
/// Most pools that are tried: beyond so many the rest stand unproven, and a kubelet there refuses a node itself.
const MAX_POOLS: usize = 32;

/// A part of the machines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pool {
    /// Those with this label and value.
    Labelled(String, String),
    /// One that is of no pool.
    Machine(String),
    /// Whichever the scheduler takes: this installation does not see machines.
    Any,
}

impl Pool {
    /// How it is called in the status.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Labelled(key, value) => format!("{key}={value}"),
            Self::Machine(name) => format!("machine {name}"),
            Self::Any => "any machine".to_owned(),
        }
    }
}

/// The pools of the machines that take pods now.
pub fn pools<'a>(machines: impl Iterator<Item = &'a Node>) -> Vec<Pool> {
    let usable = machines.filter(|node| {
        let view = MachineView::of(node);
        !view.cordoned && view.lost_since.is_none() && view.notice.is_none()
    });
    let pools: BTreeSet<_> = usable.filter_map(of).collect();
    pools.into_iter().take(MAX_POOLS).collect()
}

fn of(node: &Node) -> Option<Pool> {
    let labels = node.metadata.labels.as_ref();
    let labelled = POOL_LABELS.iter().find_map(|key| Some((*key, labels?.get(*key)?)));
    match labelled {
        Some((key, value)) => Some(Pool::Labelled(key.to_owned(), value.clone())),
        None => node.metadata.name.clone().map(Pool::Machine),
    }
}
