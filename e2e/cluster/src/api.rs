//! Ways for tests and the xtask to use a running instance.

use std::{ffi::OsStr, fs, path::Path, process::Command};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    Instance,
    net::{self, Dropped},
    run, user,
};

impl Instance {
    /// A kubectl command of the administrator; it works from any namespace.
    ///
    /// # Errors
    /// When the instance was never started.
    pub fn kubectl_command(&self) -> Result<Command> {
        let mut command = run::tied(self.kube_binary()?);
        command.arg("kubectl").arg("--kubeconfig").arg(self.kubeconfig());
        Ok(command)
    }

    /// Runs kubectl and returns its standard output.
    ///
    /// # Errors
    /// When it fails; quotes it.
    pub fn kubectl<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<String> {
        run::output(self.kubectl_command()?.args(args))
    }

    /// Runs kubectl with `-o json` and parses what it prints.
    ///
    /// # Errors
    /// When it fails or prints something else.
    pub fn kubectl_json<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<Value> {
        let text = run::output(self.kubectl_command()?.args(args).args(["-o", "json"]))?;
        serde_json::from_str(&text).context("kubectl printed no JSON")
    }

    /// Applies a manifest given as text.
    ///
    /// # Errors
    /// When kubectl refuses it; quotes it.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        run::output_given(self.kubectl_command()?.args(["apply", "-f", "-"]), manifest)
    }

    /// A command that runs in the client namespace, from which Services and pods are reached.
    #[must_use]
    pub fn client_command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = net::inside(&self.client_netns());
        command.arg(program);
        command
    }

    /// The file of the client namespace, for a thread that enters it by itself.
    #[must_use]
    pub fn client_netns_path(&self) -> std::path::PathBuf {
        Path::new("/run/netns").join(self.client_netns())
    }

    /// Drops packets of a pod (by address) to a TCP port, until the value is dropped.
    ///
    /// # Errors
    /// When the rule cannot be set.
    pub fn drop_packets(&self, pod_address: &str, port: u16) -> Result<Dropped> {
        Dropped::new(self, pod_address, port)
    }

    /// Address of a Service.
    ///
    /// # Errors
    /// When there is no such Service.
    pub fn service_address(&self, namespace: &str, name: &str) -> Result<String> {
        self.kubectl(["-n", namespace, "get", "service", name, "-o", "jsonpath={.spec.clusterIP}"])
    }

    /// Copies the logs of all components and pods, and the state of all objects, below `directory`.
    ///
    /// It takes as much as it can get: a dead API server must not hide the components' logs. All files belong to the
    /// person behind sudo.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn collect_logs(&self, directory: &Path) -> Result<()> {
        user::create_dir_all(directory)?;
        let copied = self.copy_logs(directory);
        user::give(directory)?;
        copied
    }

    fn copy_logs(&self, directory: &Path) -> Result<()> {
        for entry in fs::read_dir(self.logs()).into_iter().flatten().flatten() {
            fs::copy(entry.path(), directory.join(entry.file_name()))?;
        }
        let save = |name: &str, args: &[&str]| -> Result<()> {
            let text = self.kubectl(args).unwrap_or_else(|error| format!("{error:#}\n"));
            fs::write(directory.join(name), text).map_err(Into::into)
        };
        save(
            "objects.txt",
            &["get", "all,channelclusters,endpointslices,configmaps,leases", "-A", "-o", "wide"],
        )?;
        save("channelclusters.yaml", &["get", "channelclusters", "-A", "-o", "yaml"])?;
        save("events.txt", &["get", "events", "-A", "--sort-by=.lastTimestamp"])?;
        save("pods.txt", &["describe", "pods", "-A"])?;
        let names = "jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name}{\"\\n\"}{end}";
        let pods = self.kubectl(["get", "pods", "-A", "-o", names]).unwrap_or_default();
        for (namespace, pod) in pods.lines().filter_map(|line| line.split_once('/')) {
            let log = ["-n", namespace, "logs", pod, "--all-containers", "--timestamps"];
            save(&format!("{namespace}.{pod}.log"), &log)?;
            let text = self.kubectl(log.iter().copied().chain(["--previous"]));
            if let Ok(text) = text {
                fs::write(directory.join(format!("{namespace}.{pod}.previous.log")), text)?;
            }
        }
        Ok(())
    }
}
