//! The names, addresses and paths of an instance, which are computed and never guessed.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Instances that exist, with the number that their addresses are made from. `scratch` belongs to
/// the test of `down`, which kills it on purpose.
const INSTANCES: [(&str, u8); 3] = [("demo", 1), ("test", 2), ("scratch", 3)];
/// Kubelets of an instance.
pub const NODES: usize = 2;
/// Source addresses of the client namespace: each has about 28,000 ports towards one Service.
pub const CLIENT_ADDRESSES: u8 = 8;
/// Environment variable that every process of an instance carries; `down` looks for it.
pub(crate) const MARK: &str = "CHANNELCLUSTER_INSTANCE";

/// One local cluster: its name decides every path, address and namespace name.
///
/// Addresses are from 198.18.0.0/15, set aside by RFC 2544 for tests, a /19 for each instance:
/// they collide with no real network. The first /20 holds the cluster, the second its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    name: String,
    /// Third octet of the first address.
    base: u8,
}

impl Instance {
    /// The instance of this name, running or not.
    ///
    /// # Errors
    /// When no such instance can exist; lists the names.
    pub fn named(name: &str) -> Result<Self> {
        let Some((_, number)) = INSTANCES.iter().find(|(known, _)| *known == name) else {
            let names: Vec<_> = INSTANCES.iter().map(|(known, _)| *known).collect();
            bail!("no instance {name:?}: use one of {}", names.join(", "));
        };
        Ok(Self { name: name.to_owned(), base: number * 32 })
    }

    /// Every instance that can exist.
    #[must_use]
    pub fn all() -> Vec<Self> {
        INSTANCES.iter().filter_map(|(name, _)| Self::named(name).ok()).collect()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Value of [`MARK`] in the environment of its processes: the state directory.
    #[must_use]
    pub fn mark(&self) -> String {
        self.state().display().to_string()
    }

    /// Directory of everything it writes.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        Path::new("/var/lib/channelcluster").join(&self.name)
    }

    /// Directory of the logs of its components.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.state().join("logs")
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.state().join("admin.kubeconfig")
    }

    /// Directory of one node; nodes count from 1.
    #[must_use]
    pub fn node_dir(&self, node: usize) -> PathBuf {
        self.state().join(self.node_name(node))
    }

    /// Name of one node; nodes count from 1.
    #[must_use]
    pub fn node_name(&self, node: usize) -> String {
        format!("node-{node}")
    }

    /// Names of all nodes.
    #[must_use]
    pub fn node_names(&self) -> Vec<String> {
        (1..=NODES).map(|node| self.node_name(node)).collect()
    }

    /// Network namespace of the cluster.
    #[must_use]
    pub fn netns(&self) -> String {
        format!("cc-{}", self.name)
    }

    /// Network namespace that clients and load generators run in.
    #[must_use]
    pub fn client_netns(&self) -> String {
        format!("cc-{}-client", self.name)
    }

    /// Its end of the veth pair in the host's namespace.
    #[must_use]
    pub fn veth(&self) -> String {
        format!("cc-{}", self.name)
    }

    /// Its cgroup, below the root of every hierarchy.
    #[must_use]
    pub fn cgroup(&self) -> String {
        format!("cc-{}", self.name)
    }

    fn address(&self, third: u8, fourth: u8) -> String {
        format!("198.18.{}.{fourth}", self.base + third)
    }

    /// Host's end of the veth pair, a /30.
    #[must_use]
    pub fn host_address(&self) -> String {
        self.address(0, 1)
    }

    /// Cluster's end of the veth pair, a /30.
    #[must_use]
    pub fn gateway_address(&self) -> String {
        self.address(0, 2)
    }

    /// Address of the API server; reachable from the host, from pods and from clients.
    #[must_use]
    pub fn api_address(&self) -> String {
        self.address(0, 16)
    }

    /// Address of a node; nodes count from 1.
    #[must_use]
    pub fn node_address(&self, node: usize) -> String {
        self.address(0, 16 + u8::try_from(node).unwrap_or(u8::MAX))
    }

    /// Everything of the instance, for the host's route.
    #[must_use]
    pub fn network(&self) -> String {
        format!("{}/19", self.address(0, 0))
    }

    /// Service addresses.
    #[must_use]
    pub fn service_network(&self) -> String {
        format!("{}/24", self.address(1, 0))
    }

    /// Service address of the cluster's DNS.
    #[must_use]
    pub fn dns_address(&self) -> String {
        self.address(1, 10)
    }

    /// Pod addresses of a node; nodes count from 1.
    #[must_use]
    pub fn pod_network(&self, node: usize) -> String {
        format!("{}/24", self.address(1 + u8::try_from(node).unwrap_or(u8::MAX), 0))
    }

    /// Cluster's end of the link to the client namespace.
    #[must_use]
    pub fn client_gateway(&self) -> String {
        self.address(16, 1)
    }

    /// Source addresses inside the client namespace, a /20.
    #[must_use]
    pub fn client_addresses(&self) -> Vec<String> {
        (0..CLIENT_ADDRESSES).map(|n| self.address(16, 2 + n)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_do_not_overlap() {
        let networks: std::collections::BTreeSet<_> = Instance::all().iter().map(Instance::network).collect();
        assert_eq!(networks.len(), INSTANCES.len());
        for instance in Instance::all() {
            assert!(instance.base % 32 == 0 && instance.veth().len() <= 15, "{instance:?}");
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known() {
        let error = Instance::named("prod").unwrap_err().to_string();
        assert!(error.contains("demo, test"), "{error}");
    }
}
