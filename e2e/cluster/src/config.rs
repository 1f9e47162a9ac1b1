//! Files that the components read: identities, certificates, and one configuration for each.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use base64::Engine;
use serde_json::{Value, json};

use crate::{Instance, instance::NODES, procs::write_whole, run, tools::hex};

/// Port of the API server.
pub(crate) const API_PORT: u16 = 6443;
/// The unsafe sysctl that the kubelet of [`UNSAFE_NODE`] allows.
const UNSAFE_SYSCTL: &str = "net.core.somaxconn";
/// Number of the only node whose kubelet allows an unsafe sysctl.
const UNSAFE_NODE: usize = NODES;
/// Days that a certificate is good for.
const CERTIFICATE_DAYS: &str = "3650";

/// Identities that log in with a token: (file, user, groups).
fn identities() -> Vec<(String, String, String)> {
    let mut all: Vec<(String, String, String)> = [
        ("admin", "admin", "system:masters"),
        ("controller-manager", "system:kube-controller-manager", ""),
        ("scheduler", "system:kube-scheduler", ""),
        ("proxy", "system:kube-proxy", ""),
    ]
    .into_iter()
    .map(|(file, user, group)| (file.into(), user.into(), group.into()))
    .collect();
    for node in 1..=NODES {
        all.push((format!("kubelet-{node}"), format!("system:node:node-{node}"), "system:nodes".into()));
    }
    all
}

impl Instance {
    /// Directory of keys and certificates.
    pub(crate) fn pki(&self) -> PathBuf {
        self.state().join("pki")
    }

    /// The API server's own certificate, which clients trust.
    pub(crate) fn api_certificate(&self) -> PathBuf {
        self.pki().join("apiserver.crt")
    }

    /// Kubeconfig of one identity.
    pub(crate) fn kubeconfig_of(&self, identity: &str) -> PathBuf {
        self.state().join(format!("{identity}.kubeconfig"))
    }

    /// Containerd's socket on a node.
    pub(crate) fn containerd_socket(&self, node: usize) -> PathBuf {
        self.node_dir(node).join("containerd.sock")
    }
}

/// Writes keys, tokens and the configuration of every node. The state directory is new.
pub(crate) fn write(instance: &Instance, pause_image: &str) -> Result<()> {
    let pki = instance.pki();
    fs::create_dir_all(&pki).with_context(|| format!("cannot create {}", pki.display()))?;
    // Tokens and keys are in it, so only root may look below.
    fs::set_permissions(instance.state(), fs::Permissions::from_mode(0o700))?;
    certificates(&pki)?;
    let mut tokens = String::new();
    for (file, user, groups) in identities() {
        let token = random_token()?;
        tokens.push_str(&format!("{token},{user},{user},\"{groups}\"\n"));
        write_whole(&instance.pki().join(format!("{file}.token")), token.as_bytes())?;
    }
    write_whole(&pki.join("tokens.csv"), tokens.as_bytes())?;
    for node in 1..=NODES {
        write_node(instance, node, pause_image)?;
    }
    Ok(())
}

/// Writes the kubeconfigs, once the API server has made its certificate.
pub(crate) fn write_kubeconfigs(instance: &Instance) -> Result<()> {
    let certificate = fs::read(instance.api_certificate()).context("the API server made no certificate")?;
    let authority = base64::engine::general_purpose::STANDARD.encode(certificate);
    for (file, user, _) in identities() {
        let token = fs::read_to_string(instance.pki().join(format!("{file}.token")))?;
        let context = format!("channelcluster-{}", instance.name());
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": context, "cluster": {
                "server": format!("https://{}:{API_PORT}", instance.api_address()),
                "certificate-authority-data": authority,
            }}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": context, "context": {"cluster": context, "user": user}}],
            "current-context": context,
        });
        write_whole(&instance.kubeconfig_of(&file), config.to_string().as_bytes())?;
    }
    Ok(())
}

/// The service-account key, and two small authorities: by one kubelets know the API server, by the other API servers that
/// it hands requests on to.
fn certificates(pki: &Path) -> Result<()> {
    openssl(pki, "genrsa -out service-account.key 2048")?;
    signed(pki, "kubelet-ca", "kubelet-client", "kube-apiserver")?;
    signed(pki, "front-proxy-ca", "front-proxy-client", "front-proxy-client")
}

fn openssl(pki: &Path, args: &str) -> Result<()> {
    run::output(Command::new("openssl").args(args.split(' ')).current_dir(pki)).map(drop)
}

/// An authority, and a client's certificate of it with this common name.
fn signed(pki: &Path, authority: &str, client: &str, name: &str) -> Result<()> {
    openssl(
        pki,
        &format!(
            "req -x509 -newkey rsa:2048 -nodes -days {CERTIFICATE_DAYS} -subj /CN={authority} -keyout {authority}.key \
             -out {authority}.crt"
        ),
    )?;
    openssl(
        pki,
        &format!("req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {client}.key -out {client}.csr"),
    )?;
    openssl(
        pki,
        &format!(
            "x509 -req -in {client}.csr -CA {authority}.crt -CAkey {authority}.key -CAcreateserial -days \
             {CERTIFICATE_DAYS} -out {client}.crt"
        ),
    )
}

fn random_token() -> Result<String> {
    let mut bytes = [0_u8; 16];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    Ok(hex(&bytes))
}

fn write_node(instance: &Instance, node: usize, pause_image: &str) -> Result<()> {
    let dir = instance.node_dir(node);
    let names = [
        "cni",
        "containerd/root",
        "containerd/state",
        "kubelet",
        "var-lib-kubelet",
        "run",
        "cni-cache",
        "container-logs",
        "opt",
    ];
    for name in names {
        let path = dir.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
    }
    write_whole(&dir.join("containerd.toml"), containerd(instance, node, pause_image).as_bytes())?;
    write_whole(&dir.join("cni/10-pods.conflist"), cni(instance, node).to_string().as_bytes())?;
    write_whole(&dir.join("kubelet.yaml"), kubelet(instance, node).to_string().as_bytes())
}

/// Each pod gets a link of its own to the namespace, routed and not bridged: Service addresses then
/// work between pods of one node without the kernel module br_netfilter.
fn cni(instance: &Instance, node: usize) -> Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [{
            "type": "ptp",
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "dataDir": instance.node_dir(node).join("addresses"),
                "ranges": [[{"subnet": instance.pod_network(node)}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }],
    })
}

fn containerd(instance: &Instance, node: usize, pause_image: &str) -> String {
    let dir = instance.node_dir(node);
    let dir = dir.display();
    let socket = instance.containerd_socket(node);
    let socket = socket.display();
    // restrict_oom_score_adj is needed because without CAP_SYS_RESOURCE no score may be lowered.
    format!(
        r#"version = 2
root = "{dir}/containerd/root"
state = "{dir}/containerd/state"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
path = "{dir}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause_image}"
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{dir}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"#
    )
}

fn kubelet(instance: &Instance, node: usize) -> Value {
    let dir = instance.node_dir(node);
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": instance.node_address(node),
        "healthzBindAddress": instance.node_address(node),
        "readOnlyPort": 0,
        // Only the API server has a certificate of this authority.
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": false},
            "x509": {"clientCAFile": instance.pki().join("kubelet-ca.crt")},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": format!("unix://{}", instance.containerd_socket(node).display()),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}/{}", instance.cgroup(), instance.node_name(node)),
        "enforceNodeAllocatable": ["pods"],
        // Debian 12 may still run v1, which Kubernetes 1.34 accepts when told so.
        "failCgroupV1": false,
        "failSwapOn": false,
        // With this gate the kubelet tolerates settings that a container without CAP_SYS_RESOURCE may not make.
        "featureGates": {"KubeletInUserNamespace": true},
        "clusterDNS": [instance.dns_address()],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "podLogsDir": dir.join("pod-logs"),
        "volumePluginDir": dir.join("volume-plugins"),
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        // Images come from no registry, so an image that was collected as garbage could not be pulled again.
        "imageGCHighThresholdPercent": 100,
        "serializeImagePulls": false,
        // One machine allows an unsafe sysctl and the others do not, as where pools are set up differently.
        "allowedUnsafeSysctls": if node == UNSAFE_NODE { &[UNSAFE_SYSCTL][..] } else { &[] },
        "nodeStatusUpdateFrequency": "5s",
    })
}
