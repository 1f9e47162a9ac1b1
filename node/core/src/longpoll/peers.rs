//! The nodes to which requests of long-poll can be carried. The bus writes the list, and shards read it when a token names
//! another node.

use std::{
    collections::HashSet,
    sync::{PoisonError, RwLock},
};

use crate::broadcast::NodeTag;

/// What is known about another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whereabouts {
    /// It was heard of lately.
    There,
    /// It was not, although the bus works: it has ended, or never was.
    Nowhere,
    /// The bus is away, or has come back a moment ago, so nothing is known.
    Unknown,
}

/// The nodes of the fleet; none while the bus cannot tell.
#[derive(Debug, Default)]
pub struct Peers(RwLock<Option<HashSet<NodeTag>>>);

impl Peers {
    /// Takes the nodes that were heard of lately; `None` when the bus cannot tell.
    pub fn set(&self, nodes: Option<HashSet<NodeTag>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = nodes;
    }

    /// Whether the bus has worked for so long that each node of the fleet must have been heard.
    #[must_use]
    pub fn are_known(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// What is known about a node.
    #[must_use]
    pub fn find(&self, node: NodeTag) -> Whereabouts {
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            None => Whereabouts::Unknown,
            Some(nodes) if nodes.contains(&node) => Whereabouts::There,
            Some(_) => Whereabouts::Nowhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_there_while_the_bus_says_so() {
        let (peers, node) = (Peers::default(), NodeTag::of(1 << 127));
        assert_eq!(peers.find(node), Whereabouts::Unknown);
        peers.set(Some(HashSet::from([node])));
        assert_eq!(
            [node, NodeTag::of(0)].map(|tag| peers.find(tag)),
            [Whereabouts::There, Whereabouts::Nowhere]
        );
        assert!(peers.are_known());
        peers.set(None);
        assert!(!peers.are_known());
        assert_eq!(peers.find(node), Whereabouts::Unknown);
    }
}
