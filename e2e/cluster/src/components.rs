//! The programs of an instance, their flags, and how each is started so that it outlives `up` and
//! is found again by `down`.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{
    Instance,
    cgroup::Layout,
    config::API_PORT,
    instance::MARK,
    procs::{Process, write_whole},
    run,
};

/// Directories in which programs are looked for: sudo may pass on a shorter PATH.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A started component, as recorded in the state directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Started {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) process: Process,
}

/// Starts components and keeps the record of them.
pub(crate) struct Starter<'a> {
    instance: &'a Instance,
    layout: &'a Layout,
    kube: PathBuf,
    started: Vec<Started>,
}

/// Components that the last start recorded, even if it was interrupted.
pub(crate) fn recorded(instance: &Instance) -> Vec<Started> {
    let text = fs::read(record(instance)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn record(instance: &Instance) -> PathBuf {
    instance.state().join("components.json")
}

impl<'a> Starter<'a> {
    pub(crate) fn new(instance: &'a Instance, layout: &'a Layout, kube: PathBuf) -> Self {
        Self { instance, layout, kube, started: recorded(instance) }
    }

    /// Starts a program as a daemon, with its own session and log, in the instance's group.
    ///
    /// Each program of the chain replaces itself with the next, so the number stays the same.
    fn spawn(&mut self, name: &str, enter: &[OsString], program: &[OsString]) -> Result<Process> {
        let log = self.instance.logs().join(format!("{name}.log"));
        fs::create_dir_all(self.instance.logs())?;
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        let script = script(&self.layout.component_files(&self.instance.cgroup()));
        let child = Command::new("setsid")
            .args(["sh", "-c", &script, "sh"])
            .args(enter)
            .args(program)
            .current_dir("/")
            .env_clear()
            .env("PATH", PATH)
            .env(MARK, self.instance.mark())
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name}: is the package util-linux installed?"))?;
        let process = Process::of(child.id()).with_context(|| self.death(name))?;
        self.started.retain(|other| other.name != name);
        self.started.push(Started { name: name.to_owned(), process: process.clone() });
        write_whole(&record(self.instance), &serde_json::to_vec(&self.started)?)?;
        Ok(process)
    }

    /// Fails with the log of the first component that has ended.
    pub(crate) fn check(&self) -> Result<()> {
        for started in &self.started {
            if !started.process.alive() {
                bail!(self.death(&started.name));
            }
        }
        Ok(())
    }

    fn death(&self, name: &str) -> String {
        let log = self.instance.logs().join(format!("{name}.log"));
        format!("{name} has ended; {} says:\n{}", log.display(), run::tail(&log))
    }

    fn in_cluster(&self) -> Vec<OsString> {
        enter(&self.instance.netns(), None)
    }

    fn kube(&mut self, name: &str, enter: &[OsString], component: &str, flags: &[String]) -> Result<()> {
        let mut program: Vec<OsString> = vec![self.kube.clone().into(), component.into()];
        program.extend(flags.iter().map(OsString::from));
        self.spawn(name, enter, &program).map(drop)
    }

    pub(crate) fn etcd(&mut self) -> Result<()> {
        let data = self.instance.state().join("etcd");
        let flags = [
            format!("--data-dir={}", data.display()),
            "--listen-client-urls=http://127.0.0.1:2379".into(),
            "--advertise-client-urls=http://127.0.0.1:2379".into(),
            "--listen-peer-urls=http://127.0.0.1:2380".into(),
            "--initial-advertise-peer-urls=http://127.0.0.1:2380".into(),
            "--initial-cluster=default=http://127.0.0.1:2380".into(),
            // The data is thrown away with the cluster, so a disk flush would be for nothing.
            "--unsafe-no-fsync".into(),
            "--log-level=warn".into(),
        ];
        self.kube("etcd", &self.in_cluster(), "etcd", &flags)
    }

    pub(crate) fn apiserver(&mut self) -> Result<()> {
        let pki = self.instance.pki();
        let pki = pki.display();
        let address = self.instance.api_address();
        let flags = [
            "--etcd-servers=http://127.0.0.1:2379".into(),
            format!("--bind-address={address}"),
            format!("--advertise-address={address}"),
            format!("--secure-port={API_PORT}"),
            // The API server makes apiserver.crt there by itself.
            format!("--cert-dir={pki}"),
            format!("--token-auth-file={pki}/tokens.csv"),
            "--authorization-mode=Node,RBAC".into(),
            "--enable-admission-plugins=NodeRestriction".into(),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--service-account-key-file={pki}/service-account.key"),
            format!("--service-account-signing-key-file={pki}/service-account.key"),
            format!("--service-cluster-ip-range={}", self.instance.service_network()),
            format!("--kubelet-client-certificate={pki}/kubelet-client.crt"),
            format!("--kubelet-client-key={pki}/kubelet-client.key"),
            // By these another API server, one of external metrics for example, knows whose request it is.
            format!("--proxy-client-cert-file={pki}/front-proxy-client.crt"),
            format!("--proxy-client-key-file={pki}/front-proxy-client.key"),
            format!("--requestheader-client-ca-file={pki}/front-proxy-ca.crt"),
            "--requestheader-allowed-names=front-proxy-client".into(),
            "--requestheader-username-headers=X-Remote-User".into(),
            "--requestheader-group-headers=X-Remote-Group".into(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
            // It speaks to their pods: addresses of Services are translated for pods and clients alone, see `net`.
            "--enable-aggregator-routing=true".into(),
            "--kubelet-preferred-address-types=InternalIP".into(),
            "--allow-privileged=true".into(),
            "--profiling=false".into(),
        ];
        self.kube("kube-apiserver", &self.in_cluster(), "kube-apiserver", &flags)
    }

    pub(crate) fn controllers(&mut self) -> Result<()> {
        let pki = self.instance.pki();
        let flags = [
            format!("--kubeconfig={}", self.instance.kubeconfig_of("controller-manager").display()),
            "--bind-address=127.0.0.1".into(),
            "--leader-elect=false".into(),
            "--use-service-account-credentials=true".into(),
            format!("--service-account-private-key-file={}/service-account.key", pki.display()),
            format!("--root-ca-file={}", self.instance.api_certificate().display()),
        ];
        self.kube("kube-controller-manager", &self.in_cluster(), "kube-controller-manager", &flags)?;
        let flags = [
            format!("--kubeconfig={}", self.instance.kubeconfig_of("scheduler").display()),
            "--bind-address=127.0.0.1".into(),
            "--leader-elect=false".into(),
        ];
        self.kube("kube-scheduler", &self.in_cluster(), "kube-scheduler", &flags)
    }

    /// There is one proxy: the nodes share one network namespace, and two proxies would write the same rules.
    pub(crate) fn proxy(&mut self) -> Result<()> {
        let flags = [
            format!("--kubeconfig={}", self.instance.kubeconfig_of("proxy").display()),
            format!("--hostname-override={}", self.instance.node_name(1)),
            "--proxy-mode=iptables".into(),
            // The limits of connection tracking are the host's and cannot be set from here.
            "--conntrack-max-per-core=0".into(),
            "--conntrack-tcp-timeout-established=0".into(),
            "--conntrack-tcp-timeout-close-wait=0".into(),
            "--metrics-bind-address=127.0.0.1:10249".into(),
            "--healthz-bind-address=127.0.0.1:10256".into(),
        ];
        self.kube("kube-proxy", &self.in_cluster(), "kube-proxy", &flags)
    }

    /// Starts a node's containerd in a mount namespace of its own, so that no mount of a container
    /// is ever seen outside, nor outlives the node's processes.
    pub(crate) fn containerd(&mut self, node: usize) -> Result<()> {
        let dir = self.instance.node_dir(node);
        let here = dir.display();
        // Paths that containerd, its shims and the kubelet have fixed in their code are covered by the node's own
        // directories. A kubelet empties /var/lib/kubelet/device-plugins: without the cover, the host's own kubelet
        // would lose its plugins.
        let script = format!(
            "set -e
            mkdir -p /run/containerd /run/netns /var/lib/cni /var/lib/kubelet /var/log/containers
            mount --bind {here}/run /run/containerd
            mount -t tmpfs node-netns /run/netns
            mount --bind {here}/cni-cache /var/lib/cni
            mount --bind {here}/var-lib-kubelet /var/lib/kubelet
            mount --bind {here}/container-logs /var/log/containers
            mount --bind {here}/kubelet {here}/kubelet
            mount --make-rshared {here}/kubelet
            exec containerd --config {here}/containerd.toml"
        );
        let mut enter = self.in_cluster();
        enter.extend(["unshare", "--mount", "--propagation", "slave"].map(Into::into));
        let program = ["sh".into(), "-c".into(), script.into()];
        self.spawn(&format!("containerd-{node}"), &enter, &program).map(drop)
    }

    pub(crate) fn kubelet(&mut self, node: usize) -> Result<()> {
        let name = format!("containerd-{node}");
        let containerd = self.started.iter().find(|started| started.name == name);
        let containerd = containerd.with_context(|| format!("{name} was not started"))?;
        let mounts = format!("/proc/{}/ns/mnt", containerd.process.pid);
        let dir = self.instance.node_dir(node);
        let flags = [
            format!("--config={}", dir.join("kubelet.yaml").display()),
            format!("--root-dir={}", dir.join("kubelet").display()),
            format!("--kubeconfig={}", self.instance.kubeconfig_of(&format!("kubelet-{node}")).display()),
            format!("--hostname-override={}", self.instance.node_name(node)),
            format!("--node-ip={}", self.instance.node_address(node)),
        ];
        let enter = enter(&self.instance.netns(), Some(&mounts));
        self.kube(&format!("kubelet-{node}"), &enter, "kubelet", &flags)
    }

    /// Carries a port of the host's loopback to an address inside the cluster.
    pub(crate) fn relay(&mut self, port: u16, to: &str) -> Result<()> {
        // It starts one small process for each connection, which is enough for people and their browsers.
        let listen = format!("TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,max-children=256");
        let program = ["socat".into(), listen.into(), format!("TCP:{to}").into()];
        self.spawn("relay", &[], &program).map(drop)
    }

    pub(crate) fn stop(&mut self, name: &str) -> Result<()> {
        if let Some(started) = self.started.iter().find(|started| started.name == name) {
            started.process.signal(rustix::process::Signal::TERM)?;
        }
        self.started.retain(|started| started.name != name);
        write_whole(&record(self.instance), &serde_json::to_vec(&self.started)?)
    }
}

/// The script that becomes a component: it joins its groups, and closes the descriptors that it inherits from the
/// process that starts it. A component with the descriptor of a `flock` would keep the lock for as long as it runs. A
/// sh knows descriptors of one digit only.
fn script(groups: &[PathBuf]) -> String {
    // When a group is gone the script ends, so that a late start cannot survive `down`.
    let join: Vec<_> = groups.iter().map(|file| format!("echo $$ > {}; ", file.display())).collect();
    let close: Vec<_> = (3..10).map(|fd| format!("{fd}>&-")).collect();
    format!("set -e; {}exec {}; exec \"$@\"", join.join(""), close.join(" "))
}

fn enter(netns: &str, mounts: Option<&str>) -> Vec<OsString> {
    let net = Path::new("/run/netns").join(netns);
    let mut words: Vec<OsString> = vec!["nsenter".into(), format!("--net={}", net.display()).into()];
    words.extend(mounts.map(|file| format!("--mount={file}").into()));
    words.push("--".into());
    words
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::script;

    #[test]
    fn a_component_joins_its_groups_and_keeps_no_descriptor_of_its_starter() {
        let group = std::env::temp_dir().join(format!("components-{}", std::process::id()));
        // `flock FILE up`, and a shell with `9>FILE`, leave such descriptors.
        let starter = "exec 3</dev/null 9</dev/null; exec sh -c \"$0\" sh \"$@\"";
        let look = "for fd in 1 3 4 9; do [ ! -e /proc/$$/fd/$fd ] || echo $fd; done; echo $$";
        let script = script(std::slice::from_ref(&group));
        let said = Command::new("sh").args(["-c", starter, &script, "sh", "-c", look]).output().unwrap();
        let joined = std::fs::read_to_string(&group).unwrap();
        std::fs::remove_file(&group).unwrap();
        assert_eq!(String::from_utf8(said.stdout).unwrap(), format!("1\n{joined}"), "{:?}", said.stderr);
        assert!(!joined.trim().is_empty());
    }
}
