//! Starts two Ready nodes with DNS from nothing, and does nothing when they are there already.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Image, Instance,
    cgroup::Layout,
    components::{Starter, recorded},
    config, dns,
    instance::NODES,
    net,
    procs::write_whole,
    run::{self, Progress, Wait, wait_for},
    tools::hex,
};

/// How long one component may take to answer.
const COMPONENT_LIMIT: Duration = Duration::from_secs(120);

/// The parts that a cluster is made of, besides the packages of the host.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The one binary of Kubernetes.
    pub kube: PathBuf,
    /// Image of the container that holds a pod's namespaces.
    pub pause: Image,
    /// Image of the DNS server.
    pub coredns: Image,
}

/// The record that is written last: an instance without it was interrupted while starting.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ready {
    /// The one binary of Kubernetes; it is kubectl too.
    kube: PathBuf,
    /// Hash of everything that a running cluster cannot take over.
    definition: String,
    /// Machine boot that it was started in.
    boot: String,
}

impl Ready {
    fn of(parts: &Parts) -> Result<Self> {
        let mut hash = Sha256::new();
        for source in [include_str!("components.rs"), include_str!("config.rs"), include_str!("net.rs")] {
            hash.update(source);
        }
        hash.update(&parts.pause.reference);
        Ok(Self { kube: parts.kube.clone(), definition: hex(&hash.finalize()), boot: boot()? })
    }

    fn path(instance: &Instance) -> PathBuf {
        instance.state().join("ready.json")
    }

    fn read(instance: &Instance) -> Option<Self> {
        serde_json::from_slice(&fs::read(Self::path(instance)).ok()?).ok()
    }
}

fn boot() -> Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// A lock that keeps off a second start or stop of the same instance; the kernel frees it with the process.
pub(crate) fn lock(instance: &Instance) -> Result<File> {
    let path = Path::new("/run/lock").join(format!("channelcluster-{}.lock", instance.name()));
    // A container may have an empty /run, so the directory may not exist.
    fs::create_dir_all("/run/lock").ok();
    let file = File::create(&path)
        .with_context(|| format!("cannot open {}: a local cluster needs root", path.display()))?;
    if file.try_lock().is_err() {
        say::err!("another `up` or `down` of {} is at work; waiting for it", instance.name());
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

impl Instance {
    /// A running instance.
    ///
    /// # Errors
    /// When no such instance can exist, or it does not run.
    pub fn attach(name: &str) -> Result<Self> {
        let instance = Self::named(name)?;
        if !instance.is_up() {
            bail!("instance {name} does not run: start it with `cargo xtask up --instance {name}`");
        }
        Ok(instance)
    }

    /// Whether it was started to the end and all of its components still run.
    #[must_use]
    pub fn is_up(&self) -> bool {
        let components = recorded(self);
        Ready::read(self).is_some_and(|ready| boot().is_ok_and(|boot| boot == ready.boot))
            && !components.is_empty()
            && components.iter().all(|started| started.name == "relay" || started.process.alive())
    }

    /// The binary of Kubernetes that the instance runs.
    pub(crate) fn kube_binary(&self) -> Result<PathBuf> {
        let marker = self.state().join("kube");
        fs::read_link(&marker).with_context(|| {
            let name = self.name();
            format!("instance {name} does not run: start it with `cargo xtask up --instance {name}`")
        })
    }

    /// Starts the cluster, or leaves one alone that is healthy and made from the same parts.
    ///
    /// Dead remains of an earlier one are cleared first.
    ///
    /// # Errors
    /// When a step fails; says which, why (with the component's log), and what helps.
    pub fn start(&self, parts: &Parts, progress: &Progress) -> Result<()> {
        let _lock = lock(self)?;
        let layout = Layout::detect()?;
        let ready = Ready::of(parts)?;
        if self.is_up() && Ready::read(self).as_ref() == Some(&ready) && self.answers() {
            progress.say(&format!("cluster {} runs already", self.name()));
            return dns::install(self, &parts.coredns);
        }
        self.clear(&layout)?;
        progress.say(&format!("starting cluster {} in network namespace {}", self.name(), self.netns()));
        fs::create_dir_all(self.state())
            .with_context(|| format!("cannot create {}", self.state().display()))?;
        config::write(self, &parts.pause.reference)?;
        std::os::unix::fs::symlink(&parts.kube, self.state().join("kube"))?;
        layout.create(&self.cgroup(), &self.node_names())?;
        net::create(self)?;
        let mut starter = Starter::new(self, &layout, parts.kube.clone());
        self.control_plane(&mut starter, progress)?;
        self.nodes(&mut starter, parts, progress)?;
        write_whole(&Ready::path(self), &serde_json::to_vec(&ready)?)?;
        progress.say(&format!("cluster {} is ready: {NODES} nodes, DNS answers", self.name()));
        Ok(())
    }

    fn control_plane(&self, starter: &mut Starter<'_>, progress: &Progress) -> Result<()> {
        starter.etcd()?;
        starter.apiserver()?;
        // Containerd needs no API server, so it comes up meanwhile.
        for node in 1..=NODES {
            starter.containerd(node)?;
        }
        wait_for("the API server's certificate", COMPONENT_LIMIT, || {
            starter.check()?;
            let there = fs::metadata(self.api_certificate()).is_ok_and(|meta| meta.len() > 0);
            Ok(if there { Wait::Done } else { Wait::NotYet("no file yet".into()) })
        })?;
        config::write_kubeconfigs(self)?;
        wait_for("the API server", COMPONENT_LIMIT, || {
            starter.check()?;
            Ok(match self.kubectl(["get", "--raw", "/readyz"]) {
                Ok(_) => Wait::Done,
                Err(error) => Wait::NotYet(error.to_string()),
            })
        })
        .with_context(|| format!("see {}", self.logs().join("kube-apiserver.log").display()))?;
        progress.say("API server answers");
        starter.controllers()?;
        starter.proxy()
    }

    fn nodes(&self, starter: &mut Starter<'_>, parts: &Parts, progress: &Progress) -> Result<()> {
        for node in 1..=NODES {
            let socket = self.containerd_socket(node);
            wait_for(&format!("containerd-{node}"), COMPONENT_LIMIT, || {
                starter.check()?;
                let asked = run::output(Command::new("ctr").arg("--address").arg(&socket).arg("version"));
                Ok(asked.map_or_else(|error| Wait::NotYet(error.to_string()), |_| Wait::Done))
            })?;
        }
        self.import(&parts.pause)?;
        self.import(&parts.coredns)?;
        for node in 1..=NODES {
            starter.kubelet(node)?;
        }
        progress.say("kubelets started");
        dns::install(self, &parts.coredns)?;
        wait_for("Ready nodes", COMPONENT_LIMIT, || {
            starter.check()?;
            let ready = "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
            let states = self.kubectl(["get", "nodes", "-o", ready])?;
            let ready = states.split_whitespace().filter(|state| *state == "True").count();
            Ok(if ready == NODES { Wait::Done } else { Wait::NotYet(format!("Ready: {states:?}")) })
        })
        .with_context(|| format!("see the kubelets' logs in {}", self.logs().display()))?;
        progress.say("nodes are Ready");
        dns::wait(self, COMPONENT_LIMIT, || starter.check())
    }

    fn answers(&self) -> bool {
        self.kubectl(["get", "--raw", "/readyz"]).is_ok()
    }

    /// Loads an image into every node that does not have it.
    ///
    /// # Errors
    /// When containerd refuses the archive.
    pub fn import(&self, image: &Image) -> Result<()> {
        for node in 1..=NODES {
            let ctr = || {
                let mut command = run::tied("ctr");
                command.arg("--address").arg(self.containerd_socket(node)).args(["-n", "k8s.io", "images"]);
                command
            };
            let have = run::output(ctr().args(["list", "--quiet"]))?;
            if !have.lines().any(|name| name == image.reference) {
                run::output(ctr().args(["import", "--no-unpack"]).arg(&image.archive)).with_context(
                    || format!("cannot load {} into {}", image.reference, self.node_name(node)),
                )?;
            }
        }
        Ok(())
    }

    /// Carries a port of the host's loopback to `address:port` inside the cluster; ends an earlier one.
    ///
    /// # Errors
    /// When another program has the port.
    pub fn relay(&self, port: u16, to: &str) -> Result<()> {
        let layout = Layout::detect()?;
        let mut starter = Starter::new(self, &layout, self.kube_binary()?);
        starter.stop("relay")?;
        wait_for(&format!("port {port} of 127.0.0.1"), Duration::from_secs(5), || {
            Ok(match std::net::TcpListener::bind(("127.0.0.1", port)) {
                Ok(_) => Wait::Done,
                Err(error) => Wait::NotYet(error.to_string()),
            })
        })
        .context("stop what listens there (ss -ltnp shows it), or choose another with --port")?;
        starter.relay(port, to)?;
        // The relay is reported only once it answers: the process becomes the relay in steps, and may fail to.
        wait_for(&format!("the relay at port {port} of 127.0.0.1"), Duration::from_secs(10), || {
            starter.check()?;
            Ok(match std::net::TcpStream::connect(("127.0.0.1", port)) {
                Ok(_) => Wait::Done,
                Err(error) => Wait::NotYet(error.to_string()),
            })
        })
    }
}
