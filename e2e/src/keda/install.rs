//! KEDA on a running instance, from the files of its own module and images of its own programs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use cluster::Instance;

use super::with;
use crate::fleet::eventually;

/// Both of KEDA's parts as pods.
const PODS: &str = include_str!("../../manifests/keda.yaml");
/// Namespace of KEDA in its own files.
const NAMESPACE: &str = "keda";
/// KEDA's files that are applied as they are, from its directory `config`; in this order each finds what it needs.
const FILES: [&str; 10] = [
    "general/namespace.yaml",
    "crd/bases",
    "service_account/service_account.yaml",
    "rbac/role.yaml",
    "rbac/role_binding.yaml",
    "metrics-server/role.yaml",
    "metrics-server/role_binding.yaml",
    "manager/service.yaml",
    "metrics-server/service.yaml",
    "metrics-server/api_service.yaml",
];
/// How the API server calls KEDA's part of it.
const API_SERVICE: &str = "v1beta1.external.metrics.k8s.io";

/// What KEDA is installed from.
#[derive(Debug, Clone)]
pub struct Source {
    /// Directory of the sources of KEDA's module.
    pub sources: PathBuf,
    /// Name of the image of KEDA's operator, which the nodes of the instance have.
    pub operator: String,
    /// Name of the image of KEDA's server of metrics, which they have too.
    pub adapter: String,
}

/// An installed KEDA; it is removed when the value is dropped.
pub(super) struct Keda {
    instance: Instance,
    files: Vec<String>,
}

impl Keda {
    /// Installs KEDA, and waits until its server of metrics is a part of the API server.
    pub(super) fn install(instance: &Instance, source: &Source) -> Result<Self> {
        let file = |name: &&str| source.sources.join("config").join(name).display().to_string();
        let keda = Self { instance: instance.clone(), files: FILES.iter().map(file).collect() };
        for file in &keda.files {
            ensure!(Path::new(file).exists(), "this version of KEDA has no {file}");
            instance.kubectl(["apply", "--server-side", "--force-conflicts", "-f", file])?;
        }
        let images = [("OPERATOR_IMAGE\n", &source.operator), ("ADAPTER_IMAGE\n", &source.adapter)];
        let lines = images.map(|(word, image)| (word, format!("{image}\n")));
        instance.apply(&with(PODS, &lines.each_ref().map(|(word, line)| (*word, line.as_str())))?)?;
        // KEDA's operator makes certificates first, and its kubelet mounts them late.
        for part in ["keda-operator", "keda-metrics-apiserver"] {
            eventually(&format!("{part} is available"), || keda.available(part))?;
        }
        eventually("the API server has external metrics", || keda.serves())?;
        Ok(keda)
    }

    fn available(&self, part: &str) -> Result<Option<()>> {
        let ready = "jsonpath={.status.availableReplicas}";
        let count = self.instance.kubectl(["-n", NAMESPACE, "get", "deployment", part, "-o", ready])?;
        ensure!(count == "1", "{}", self.instance.kubectl(["-n", NAMESPACE, "get", "pods"])?);
        Ok(Some(()))
    }

    fn serves(&self) -> Result<Option<()>> {
        let service = self.instance.kubectl_json(["get", "apiservice", API_SERVICE])?;
        let conditions = service["status"]["conditions"].as_array().context("no conditions yet")?;
        let has = |condition: &&serde_json::Value| condition["type"] == "Available";
        let available = conditions.iter().find(has).context("no condition Available yet")?;
        ensure!(available["status"] == "True", "{available}");
        Ok(Some(()))
    }
}

impl Drop for Keda {
    fn drop(&mut self) {
        // The APIService goes first: while it has nobody behind it no namespace can be deleted.
        for file in self.files.iter().rev() {
            let delete = ["delete", "--ignore-not-found", "--wait=true", "--timeout=120s", "-f", file];
            if let Err(error) = self.instance.kubectl(delete) {
                say::err!("a part of KEDA stays until `cargo xtask down`: {error:#}");
            }
        }
    }
}
