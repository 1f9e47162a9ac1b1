//! Debian's Prometheus in the client namespace of an instance, which scrapes the nodes of a fleet. It is built
//! without the discovery of pods, so it reads from a file which nodes there are.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use cluster::{Instance, run};
use serde_json::{Value, json};

use crate::fleet::{Fleet, NodePod};

/// Port on which a node says its figures.
const ADMIN_PORT: u16 = 9400;
/// Pause between two looks at which nodes there are.
const LOOK: Duration = Duration::from_secs(1);

/// A running Prometheus; it ends when the value is dropped.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    directory: PathBuf,
    instance: Instance,
    /// Where it answers, for pods too.
    pub url: String,
}

impl Prometheus {
    /// Starts it for the fleet in this namespace; it scrapes what [`Self::tell`] tells it, as often as `interval` says (`5s`).
    ///
    /// # Errors
    /// When it cannot be started. That its port is taken shows later, see [`Self::ensure_runs`].
    pub fn start(instance: &Instance, namespace: &str, port: u16, interval: &str) -> Result<Self> {
        let addresses = instance.client_addresses();
        let address = format!("{}:{port}", addresses.first().context("an instance has client addresses")?);
        let directory = std::env::temp_dir().join(format!("{namespace}-prometheus-{}", std::process::id()));
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let path = directory.join("prometheus.yaml");
        fs::write(&path, config(&targets_in(&directory), interval).to_string())?;
        let child = instance
            .client_command("prometheus")
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(directory.join("log"))?)
            .spawn()
            .context("cannot start prometheus; install Debian's package of that name")?;
        Ok(Self { child, directory, instance: instance.clone(), url: format!("http://{address}") })
    }

    /// Checks that it has not ended.
    ///
    /// # Errors
    /// When it has; quotes its log.
    pub fn ensure_runs(&mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "the Prometheus ended: {}", run::tail(&self.directory.join("log")));
        Ok(())
    }

    /// Tells it which nodes there are, until the other end of the channel is dropped.
    pub(crate) fn follow(&self, fleet: &Fleet, stopped: &Receiver<()>) {
        while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            if let Err(error) = self.tell(fleet) {
                say::err!("the Prometheus keeps the nodes that it had: {error:#}");
            }
        }
    }

    /// Tells it which nodes there are now.
    ///
    /// # Errors
    /// When the API server does not answer, or the file cannot be written.
    pub fn tell(&self, fleet: &Fleet) -> Result<()> {
        let beside = self.directory.join("targets.new");
        fs::write(&beside, targets(&fleet.namespace, &fleet.node_pods()?).to_string())?;
        // The file is replaced as a whole, so that it is never read half-written.
        fs::rename(&beside, targets_in(&self.directory)).map_err(Into::into)
    }

    /// The only value that a query has now.
    pub(crate) fn value(&self, query: &str) -> Result<f64> {
        let mut ask = self.instance.client_command("promtool");
        let said = run::output(ask.args(["query", "--format=json", "instant", &self.url, query]))
            .with_context(|| run::tail(&self.directory.join("log")))?;
        value_in(&said).with_context(|| format!("{query} has not one value: {said}"))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            say::err!("{} stays behind: {error}", self.directory.display());
        }
    }
}

fn targets_in(directory: &Path) -> PathBuf {
    directory.join("targets.json")
}

/// A configuration file; JSON is YAML too.
fn config(targets: &Path, interval: &str) -> Value {
    json!({
        "global": {"scrape_interval": interval},
        "scrape_configs": [{"job_name": "nodes", "file_sd_configs": [{"files": [targets]}]}],
    })
}

/// The nodes with the labels that a PodMonitor would give them.
fn targets(namespace: &str, pods: &[NodePod]) -> Value {
    let with_address = pods.iter().filter(|pod| !pod.address.is_empty());
    let target = |pod: &NodePod| {
        let labels = json!({"namespace": namespace, "pod": pod.name});
        json!({"targets": [format!("{}:{ADMIN_PORT}", pod.address)], "labels": labels})
    };
    with_address.map(target).collect()
}

fn value_in(said: &str) -> Result<f64> {
    let samples: Vec<Value> = serde_json::from_str(said)?;
    ensure!(samples.len() == 1, "{} samples", samples.len());
    Ok(samples[0]["value"][1].as_str().context("a sample has a value")?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::value_in;

    #[test]
    fn one_sample_has_one_value_and_none_is_no_zero() {
        let said = r#"[{"metric":{"pod":"a"},"value":[1700000000.123,"2000.5"]}]"#;
        assert!((value_in(said).unwrap() - 2000.5).abs() < 1e-9);
        assert!(value_in("[]").is_err());
    }
}
