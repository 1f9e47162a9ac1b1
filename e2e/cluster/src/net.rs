//! Network namespaces of an instance: one for the cluster, one for its clients, joined by veth pairs.
//!
//! Outside of them there is one interface and one route; all of the proxy's rules and all
//! connection tracking are inside.

use std::{path::Path, process::Command};

use anyhow::{Context, Result};

use crate::{Instance, instance::NODES, run};

/// Name of the cluster's end of the link to the host.
const HOST_LINK: &str = "host";
/// Name of the cluster's end of the link to the clients.
const CLIENT_LINK: &str = "clients";
/// Clients use few source addresses, so each may use nearly all of its ports.
const CLIENT_PORTS: &str = "1024 65535";

/// A command that runs inside a namespace.
///
/// `nsenter` and not `ip netns exec`: the latter mounts a new /sys, which hides the cgroups.
#[must_use]
pub(crate) fn inside(netns: &str) -> Command {
    let mut command = run::tied("nsenter");
    command.arg(format!("--net=/run/netns/{netns}")).arg("--");
    command
}

fn ip(args: &str) -> Result<String> {
    run::output(Command::new("ip").args(args.split(' ')))
}

fn exists(netns: &str) -> bool {
    Path::new("/run/netns").join(netns).exists()
}

fn set(netns: &str, key: &str, value: &str) -> Result<()> {
    let script = format!("echo '{value}' > /proc/sys/net/{key}");
    run::output(inside(netns).args(["sh", "-c", &script])).map(drop)
}

/// Makes both namespaces and the links, none of which may exist yet.
pub(crate) fn create(instance: &Instance) -> Result<()> {
    let (cluster, clients, veth) = (instance.netns(), instance.client_netns(), instance.veth());
    ip(&format!("netns add {cluster}"))?;
    ip(&format!("netns add {clients}"))?;
    ip(&format!("-n {cluster} link set lo up"))?;
    ip(&format!("-n {clients} link set lo up"))?;

    ip(&format!("link add {veth} type veth peer name {HOST_LINK} netns {cluster}"))?;
    ip(&format!("address add {}/30 dev {veth}", instance.host_address()))?;
    ip(&format!("-n {cluster} address add {}/30 dev {HOST_LINK}", instance.gateway_address()))?;
    ip(&format!("-n {cluster} link set {HOST_LINK} up"))?;
    ip(&format!("link set {veth} up"))?;
    ip(&format!("route add {} via {}", instance.network(), instance.gateway_address())).with_context(
        || {
            format!(
                "another route may use {}; remove it or its interface, then try again",
                instance.network()
            )
        },
    )?;
    ip(&format!("-n {cluster} route add default via {}", instance.host_address()))?;
    refuse_the_unknown(instance)?;

    ip(&format!("-n {cluster} link add {CLIENT_LINK} type veth peer name eth0 netns {clients}"))?;
    ip(&format!("-n {cluster} address add {}/20 dev {CLIENT_LINK}", instance.client_gateway()))?;
    ip(&format!("-n {cluster} link set {CLIENT_LINK} up"))?;
    for address in instance.client_addresses() {
        ip(&format!("-n {clients} address add {address}/20 dev eth0"))?;
    }
    ip(&format!("-n {clients} link set eth0 up"))?;
    ip(&format!("-n {clients} route add default via {}", instance.client_gateway()))?;
    set(&clients, "ipv4/ip_local_port_range", CLIENT_PORTS)?;

    // These are local addresses outside of the loopback block, because pods must reach them.
    let nodes = (1..=NODES).map(|node| instance.node_address(node));
    for address in nodes.chain([instance.api_address()]) {
        ip(&format!("-n {cluster} address add {address}/32 dev lo"))?;
    }
    set(&cluster, "ipv4/ip_forward", "1")
}

/// Answers packets to addresses of this instance that nobody has, instead of handing them to the host, where they end
/// without a word.
///
/// kube-proxy commits its filter rules before its translations: for 50 to 200 ms after a Service got its first endpoint
/// the address is neither refused nor translated. Connection tracking remembers a connection that began then as
/// untranslated, and each repetition of its SYN too, so without an answer such a client would wait until the kernel
/// gives up after two minutes. With one it fails at once, and the next attempt is a new connection.
fn refuse_the_unknown(instance: &Instance) -> Result<()> {
    let cluster = instance.netns();
    ip(&format!("-n {cluster} route add unreachable {}", instance.network()))?;
    // By default the kernel answers one address once a second.
    set(&cluster, "ipv4/icmp_ratelimit", "0")
}

/// Removes the namespaces and the link; it is no error when one does not exist.
pub(crate) fn remove(instance: &Instance) -> Result<()> {
    if Path::new("/sys/class/net").join(instance.veth()).exists() {
        ip(&format!("link delete {}", instance.veth()))?;
    }
    for netns in [instance.client_netns(), instance.netns()] {
        if exists(&netns) {
            ip(&format!("netns delete {netns}"))?;
        }
    }
    Ok(())
}

/// The names of the instance's namespaces and link that still exist.
pub(crate) fn remains(instance: &Instance) -> Vec<String> {
    let mut found: Vec<_> =
        [instance.netns(), instance.client_netns()].into_iter().filter(|name| exists(name)).collect();
    if Path::new("/sys/class/net").join(instance.veth()).exists() {
        found.push(format!("veth {}", instance.veth()));
    }
    found
}

/// Packets from one pod (optionally to one TCP port) that are dropped until this value is dropped.
pub struct Dropped {
    netns: String,
    rules: Vec<Vec<String>>,
}

impl Dropped {
    /// Starts to drop packets of `pod` to the TCP port `port`, also on open connections.
    ///
    /// # Errors
    /// When the rule cannot be set.
    pub fn new(instance: &Instance, pod: &str, port: u16) -> Result<Self> {
        let port = port.to_string();
        let from = ["-s", pod, "-p", "tcp", "--dport", &port, "-j", "DROP"];
        // FORWARD sees packets to other pods (each has a link of its own), INPUT those to a node.
        Self::with(instance, &[("FORWARD", &from), ("INPUT", &from)])
    }

    /// As [`Dropped::new`], but drops packets from that port to the pod, too.
    ///
    /// # Errors
    /// When a rule cannot be set.
    pub fn both_ways(instance: &Instance, pod: &str, port: u16) -> Result<Self> {
        let port = port.to_string();
        let from = ["-s", pod, "-p", "tcp", "--dport", &port, "-j", "DROP"];
        let back = ["-d", pod, "-p", "tcp", "--sport", &port, "-j", "DROP"];
        Self::with(instance, &[("FORWARD", &from), ("INPUT", &from), ("FORWARD", &back), ("OUTPUT", &back)])
    }

    fn with(instance: &Instance, rules: &[(&str, &[&str])]) -> Result<Self> {
        let mut dropped = Self { netns: instance.netns(), rules: Vec::new() };
        for (chain, words) in rules {
            let rule: Vec<_> = std::iter::once(chain).chain(*words).map(|word| (*word).to_owned()).collect();
            run::output(inside(&dropped.netns).args(["iptables", "--wait", "-I"]).args(&rule))?;
            dropped.rules.push(rule);
        }
        Ok(dropped)
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        for rule in &self.rules {
            let gone = run::output(inside(&self.netns).args(["iptables", "--wait", "-D"]).args(rule));
            if let Err(error) = gone {
                say::err!("a rule that drops packets stays until `down`: {error:#}");
            }
        }
    }
}
