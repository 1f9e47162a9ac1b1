//! Drops packets inside the network namespaces of processes, until the value is dropped.
//!
//! The rules are inside because other traffic outside may share the port: the kubelet's probes use the nodes' admin
//! port, too.

use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The packets to drop, as words for iptables.
type Rule = Vec<String>;

/// Rules in the network namespaces of some processes.
pub struct Cut {
    pids: Vec<i32>,
    rules: Vec<Rule>,
}

impl Cut {
    /// Drops what these processes send to a TCP port.
    ///
    /// # Errors
    /// When a rule cannot be set.
    pub fn to_port(pids: Vec<i32>, port: u16) -> Result<Self> {
        Self::new(pids, vec![rule("OUTPUT", "--dport", port)])
    }

    /// The same for packets to these addresses only.
    ///
    /// # Errors
    /// When a rule cannot be set.
    pub fn to_port_of(pids: Vec<i32>, port: u16, addresses: &[String]) -> Result<Self> {
        let to =
            |address: &String| [rule("OUTPUT", "--dport", port), vec!["-d".into(), address.clone()]].concat();
        Self::new(pids, addresses.iter().map(to).collect())
    }

    /// Drops what these processes send to a TCP port, and what comes back from it.
    ///
    /// # Errors
    /// When a rule cannot be set.
    pub fn from_server(pids: Vec<i32>, port: u16) -> Result<Self> {
        Self::new(pids, vec![rule("OUTPUT", "--dport", port), rule("INPUT", "--sport", port)])
    }

    /// Drops what others send to a TCP port of these processes, and the answers to it.
    ///
    /// # Errors
    /// When a rule cannot be set.
    pub fn from_clients(pids: Vec<i32>, port: u16) -> Result<Self> {
        Self::new(pids, vec![rule("INPUT", "--dport", port), rule("OUTPUT", "--sport", port)])
    }

    fn new(pids: Vec<i32>, rules: Vec<Rule>) -> Result<Self> {
        let cut = Self { pids, rules };
        cut.change("-I")?;
        Ok(cut)
    }

    fn change(&self, how: &str) -> Result<()> {
        for pid in &self.pids {
            for rule in &self.rules {
                let net = format!("--net=/proc/{pid}/ns/net");
                let mut command = Command::new("nsenter");
                command.args([&net, "iptables", "--wait", how]).args(rule);
                let status = command.status().context("cannot run nsenter")?;
                ensure!(status.success(), "iptables {how} in the namespace of {pid}: {status}");
            }
        }
        Ok(())
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        if let Err(error) = self.change("-D") {
            say::err!("packets go on being dropped: {error:#}");
        }
    }
}

fn rule(chain: &str, end: &str, port: u16) -> Rule {
    [chain, "-p", "tcp", end, &port.to_string(), "-j", "DROP"].map(str::to_owned).to_vec()
}
