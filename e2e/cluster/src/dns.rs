//! CoreDNS as a Deployment: it answers for the names of Services, and for no name of the world outside.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::{
    Image, Instance,
    procs::write_whole,
    run::{Wait, wait_for},
};

/// The server runs as an unprivileged user, so it listens above the privileged ports.
const PORT: u16 = 1053;
const COREFILE: &str = "\
.:1053 {
    errors
    health
    ready
    kubernetes cluster.local in-addr.arpa {
        pods insecure
        ttl 5
    }
    cache 5
    loadbalance
}
";

/// Applies the server's objects.
pub(crate) fn install(instance: &Instance, image: &Image) -> Result<()> {
    instance.import(image)?;
    let file = instance.state().join("coredns.json");
    write_whole(&file, manifest(instance, &image.reference).to_string().as_bytes())?;
    let file = file.display().to_string();
    instance.kubectl(["apply", "--server-side", "--force-conflicts", "-f", &file]).map(drop)
}

/// Waits until it serves.
pub(crate) fn wait(instance: &Instance, limit: Duration, check: impl Fn() -> Result<()>) -> Result<()> {
    wait_for("CoreDNS", limit, || {
        check()?;
        let available = "jsonpath={.status.availableReplicas}";
        let got = instance.kubectl(["-n", "kube-system", "get", "deployment", "coredns", "-o", available])?;
        Ok(if got == "1" { Wait::Done } else { Wait::NotYet(format!("{got:?} available replicas")) })
    })
    .with_context(|| {
        format!("see `cargo xtask kubectl --instance {} -- -n kube-system describe pods`", instance.name())
    })
}

fn manifest(instance: &Instance, image: &str) -> serde_json::Value {
    let labels = json!({"k8s-app": "kube-dns"});
    let meta = json!({"name": "coredns", "namespace": "kube-system", "labels": labels});
    let ports = |target: Option<u16>| {
        let port = |name: &str, protocol: &str| match target {
            Some(number) => json!({"name": name, "containerPort": number, "protocol": protocol}),
            None => json!({"name": name, "port": 53, "targetPort": name, "protocol": protocol}),
        };
        json!([port("dns", "UDP"), port("dns-tcp", "TCP")])
    };
    let read = |group: &str, resources: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": ["list", "watch"]});
    let probe = |path: &str, port: u16| json!({"httpGet": {"path": path, "port": port}, "periodSeconds": 2});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "system:coredns"},
         "rules": [read("", &["endpoints", "services", "pods", "namespaces"]), read("discovery.k8s.io", &["endpointslices"])]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "system:coredns"},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"},
         "subjects": [{"kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system"}]},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"Corefile": COREFILE}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
         "spec": {"clusterIP": instance.dns_address(), "selector": labels, "ports": ports(None)}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {
                "serviceAccountName": "coredns",
                "priorityClassName": "system-cluster-critical",
                "dnsPolicy": "Default",
                "containers": [{
                    "name": "coredns",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "args": ["-conf", "/etc/coredns/Corefile"],
                    "ports": ports(Some(PORT)),
                    "livenessProbe": probe("/health", 8080),
                    "readinessProbe": probe("/ready", 8181),
                    "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns"}],
                }],
                "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
            }},
        }},
    ]})
}
