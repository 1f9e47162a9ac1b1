//! Faults of the control plane of a running instance, which tests make.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::{
    Instance,
    cgroup::Layout,
    components::{Starter, recorded},
    config::API_PORT,
    net::{Dropped, inside},
    procs::Process,
    run::{self, Wait, wait_for},
};

/// Name of the API server among the components.
const API_SERVER: &str = "kube-apiserver";
/// How long a killed process may take to go, and a started one to answer.
const LIMIT: Duration = Duration::from_secs(120);

impl Instance {
    /// Kills the API server and waits until it is gone.
    ///
    /// # Errors
    /// When it does not run, or does not go.
    pub fn kill_api_server(&self) -> Result<()> {
        let server = self.api_server()?;
        server.signal(Signal::KILL)?;
        wait_for("the end of the API server", LIMIT, || {
            Ok(if server.alive() { Wait::NotYet("it lives".into()) } else { Wait::Done })
        })
    }

    /// Starts the API server again and waits until it answers.
    ///
    /// # Errors
    /// When it cannot be started, or does not answer.
    pub fn start_api_server(&self) -> Result<()> {
        let layout = Layout::detect()?;
        Starter::new(self, &layout, self.kube_binary()?).apiserver()?;
        wait_for("the API server", LIMIT, || {
            Ok(match self.kubectl(["get", "--raw", "/readyz", "--request-timeout", "5s"]) {
                Ok(_) => Wait::Done,
                Err(error) => Wait::NotYet(error.to_string()),
            })
        })
        .with_context(|| format!("see {}", self.logs().join("kube-apiserver.log").display()))
    }

    /// Drops all packets between a pod (by address) and the API server, in both directions and without telling
    /// either, until the value is dropped.
    ///
    /// # Errors
    /// When a rule cannot be set.
    pub fn black_hole_api(&self, pod_address: &str) -> Result<Dropped> {
        Dropped::both_ways(self, pod_address, API_PORT)
    }

    /// Ends all connections between a pod (by address) and the API server with a reset.
    ///
    /// # Errors
    /// When this machine's kernel cannot do that.
    pub fn reset_api_connections(&self, pod_address: &str) -> Result<()> {
        let of_pod = |words: &[&str]| {
            let port = format!(":{API_PORT}");
            let mut command = inside(&self.netns());
            command.args(["ss", "--no-header", "--tcp", "--numeric"]).args(words);
            run::output(command.args([
                "state",
                "established",
                "sport",
                "=",
                &port,
                "and",
                "dst",
                pod_address,
            ]))
        };
        let before = of_pod(&[])?;
        of_pod(&["--kill"])?;
        let after = of_pod(&[])?;
        // The connections of before are gone; new ones have other ports.
        let peer = |line: &str| line.split_whitespace().last().map(str::to_owned);
        let left: Vec<_> =
            before.lines().filter_map(peer).filter(|peer| after.contains(peer.as_str())).collect();
        ensure!(left.is_empty(), "the kernel resets no connections (INET_DIAG_DESTROY): {left:?} live on");
        Ok(())
    }

    fn api_server(&self) -> Result<Process> {
        let started = recorded(self).into_iter().find(|started| started.name == API_SERVER);
        started.map(|started| started.process).with_context(|| format!("{API_SERVER} was not started"))
    }
}
