//! Tools that are built from Go modules, pinned by their go.sum, into the user's cache.
//!
//! The directory's name has a hash of the module in it, so a changed pin is a new tool and an unchanged one is never
//! built twice; a rename makes a finished build visible.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::run::{self, Progress};

/// One lock for each tool, taken for a build: two threads of one process would build the same tool twice, in the same
/// place.
static BUILDING: [Mutex<()>; 9] = [const { Mutex::new(()) }; 9];

/// Module of KEDA.
const KEDA: &str = "github.com/kedacore/keda/v2";

/// One tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// All of Kubernetes, etcd and kubectl.
    Kube,
    /// The container that holds a pod's namespaces.
    Pause,
    /// The cluster's DNS server.
    CoreDns,
    /// The message bus between nodes.
    Nats,
    /// The package manager of the chart.
    Helm,
    /// Checks manifests against schemas.
    Kubeconform,
    /// Looks at objects as Argo CD and Flux do.
    GitOps,
    /// KEDA's operator, which makes a HorizontalPodAutoscaler of a ScaledObject and asks for its metrics.
    Keda,
    /// KEDA's server of external metrics.
    KedaAdapter,
}

/// How a tool is made.
struct Recipe {
    /// Name of the binary.
    name: &'static str,
    /// Directory of the module.
    directory: &'static str,
    /// Module whose version is the tool's.
    module: &'static str,
    /// Package to build; `.` is the module's own main.
    package: &'static str,
    /// How long the build takes, in words for a person.
    patience: &'static str,
}

impl Tool {
    /// The tools that a cluster is started with.
    pub const CLUSTER: [Self; 5] = [Self::Kube, Self::Pause, Self::CoreDns, Self::Nats, Self::Helm];

    fn recipe(self) -> Recipe {
        let recipe =
            |name, module, package, patience| Recipe { name, directory: name, module, package, patience };
        let keda =
            |name, package, patience| Recipe { directory: "keda", ..recipe(name, KEDA, package, patience) };
        match self {
            Self::Kube => {
                recipe("kube", "k8s.io/kubernetes", ".", "the first time about 6 minutes on two cores")
            }
            Self::Pause => recipe("pause", "", ".", "seconds"),
            Self::CoreDns => recipe("coredns", "github.com/coredns/coredns", ".", "about 2 minutes"),
            Self::Nats => {
                let module = "github.com/nats-io/nats-server/v2";
                recipe("nats-server", module, module, "about 1 minute")
            }
            Self::Helm => recipe("helm", "helm.sh/helm/v3", "helm.sh/helm/v3/cmd/helm", "about 2 minutes"),
            Self::Kubeconform => recipe(
                "kubeconform",
                "github.com/yannh/kubeconform",
                "github.com/yannh/kubeconform/cmd/kubeconform",
                "seconds",
            ),
            Self::GitOps => {
                recipe("gitops", "github.com/argoproj/argo-cd/gitops-engine", ".", "about 4 minutes")
            }
            Self::Keda => keda(
                "keda",
                "github.com/kedacore/keda/v2/cmd/operator",
                "the first time about 10 minutes on two cores",
            ),
            Self::KedaAdapter => {
                keda("keda-adapter", "github.com/kedacore/keda/v2/cmd/adapter", "about 1 minute")
            }
        }
    }

    fn module_dir(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("go").join(self.recipe().directory)
    }

    /// Directory of the module's sources, in Go's own cache, which gets them now when it does not have them.
    ///
    /// # Errors
    /// When they cannot be had.
    pub fn sources(self) -> Result<PathBuf> {
        let module = self.recipe().module;
        let mut download = run::tied("go");
        download.args(["mod", "download", "-json", module]).current_dir(self.module_dir());
        let said: serde_json::Value = serde_json::from_str(&run::output(&mut download)?)?;
        Ok(said["Dir"].as_str().with_context(|| format!("go names no directory of {module}: {said}"))?.into())
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.recipe().name
    }

    /// Its pinned version, or a word for a tool of our own.
    ///
    /// # Errors
    /// When its go.mod cannot be read or does not pin it.
    pub fn version(self) -> Result<String> {
        let recipe = self.recipe();
        if recipe.module.is_empty() {
            return Ok("own".into());
        }
        let path = self.module_dir().join("go.mod");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let pinned = text.lines().find_map(|line| {
            let line = line.trim().trim_start_matches("require ");
            line.strip_prefix(recipe.module)?.strip_prefix(' ')?.split(' ').next()
        });
        Ok(pinned.with_context(|| format!("{} pins no {}", path.display(), recipe.module))?.to_owned())
    }

    /// Where the finished binary is, whether or not it is built yet.
    ///
    /// # Errors
    /// When the module cannot be read or there is no cache directory.
    pub fn path(self) -> Result<PathBuf> {
        let version = self.version()?;
        let made_from = format!("{} {}", hash_of(&self.module_dir())?, self.linker_flags(&version)?);
        let hash = hex(&Sha256::digest(made_from));
        let directory = format!("{}-{version}-{}", self.name(), &hash[..12]);
        Ok(cache()?.join(directory).join(self.name()))
    }

    /// The binary, built now when the cache does not have it.
    ///
    /// # Errors
    /// When the build fails; quotes the compiler and says what may be missing.
    pub fn ready(self, progress: &Progress) -> Result<PathBuf> {
        let binary = self.path()?;
        let _building = BUILDING[self as usize].lock().unwrap_or_else(PoisonError::into_inner);
        if binary.exists() {
            return Ok(binary);
        }
        let directory = binary.parent().context("a binary is in a directory")?.to_owned();
        let part = directory.with_extension(format!("part-{}", std::process::id()));
        fs::create_dir_all(&part).with_context(|| format!("cannot create {}", part.display()))?;
        let version = self.version()?;
        let recipe = self.recipe();
        let what = format!("building {} {version} with Go ({})", recipe.name, recipe.patience);
        let mut build = run::tied("nice");
        build
            .args([
                "go",
                "build",
                "-trimpath",
                "-buildvcs=false",
                "-ldflags",
                &self.linker_flags(&version)?,
                "-o",
            ])
            .arg(part.join(recipe.name))
            .arg(recipe.package)
            .current_dir(self.module_dir())
            .env("CGO_ENABLED", "0");
        let log = cache()?.join(format!("{}.log", recipe.name));
        progress.long(&what, &mut build, &log).context(
            "the Go build failed; it needs Go 1.26 or later on PATH, and a module proxy the first time (go env GOPROXY)",
        )?;
        match fs::rename(&part, &directory) {
            Ok(()) => Ok(binary),
            // Another process finished the same build first.
            Err(_) if binary.exists() => fs::remove_dir_all(&part).map(|()| binary).map_err(Into::into),
            Err(error) => Err(error).with_context(|| format!("cannot create {}", directory.display())),
        }
    }

    /// Values that the linker writes into the binary. Without them Kubernetes calls itself v0.0.0, Helm takes every
    /// cluster that it cannot ask for a 1.20, and KEDA calls itself main.
    fn linker_flags(self, version: &str) -> Result<String> {
        let flags: &[&str] = match self {
            Self::Kube => &["k8s.io/component-base/version.git"],
            Self::Helm => {
                &["helm.sh/helm/v3/pkg/chartutil.k8sVersion", "helm.sh/helm/v3/pkg/lint/rules.k8sVersion"]
            }
            Self::Keda | Self::KedaAdapter => {
                return Ok(format!("-s -w -X {KEDA}/version.Version={version}"));
            }
            _ => return Ok("-s -w".into()),
        };
        let kubernetes = if self == Self::Kube { version.to_owned() } else { Self::Kube.version()? };
        let mut parts = kubernetes.trim_start_matches('v').split('.');
        let major = parts.next().context("a version has a major number")?;
        let minor = parts.next().context("a version has a minor number")?;
        let own = match self {
            Self::Kube => "k8s.io/component-base/version.gitVersion",
            _ => "helm.sh/helm/v3/internal/version.version",
        };
        let numbers = flags.iter().map(|at| format!(" -X {at}Major={major} -X {at}Minor={minor}"));
        Ok(format!("-s -w -X {own}={version}{}", numbers.collect::<String>()))
    }
}

/// Directory of finished tools.
///
/// # Errors
/// When neither `XDG_CACHE_HOME` nor `HOME` is set.
pub fn cache() -> Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME")
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    Ok(base.context("set HOME or XDG_CACHE_HOME: built tools are kept there")?.join("channelcluster"))
}

/// SHA-256 over the names and contents of a directory's files, in hexadecimal.
fn hash_of(dir: &Path) -> Result<String> {
    let read = || -> Result<String> {
        let mut paths: Vec<_> = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        paths.sort();
        let mut hash = Sha256::new();
        for path in paths.iter().filter(|path| path.is_file()) {
            let content = fs::read(path)?;
            hash.update(path.file_name().unwrap_or_default().as_encoded_bytes());
            hash.update((content.len() as u64).to_le_bytes());
            hash.update(content);
        }
        Ok(hex(&hash.finalize()))
    };
    read().with_context(|| format!("cannot read the Go module {}", dir.display()))
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Checks that Go is installed.
///
/// # Errors
/// When it is not; says what to install.
pub fn check_go() -> Result<()> {
    run::output(Command::new("go").arg("version"))
        .map(drop)
        .context("Go 1.26 or later is needed to build Kubernetes: install it from https://go.dev/dl/ and put it on PATH")
}

/// Helm with its files in our cache, not in the user's configuration.
///
/// # Errors
/// When it cannot be built or there is no cache directory.
pub fn helm(progress: &Progress) -> Result<Command> {
    let mut command = run::tied(Tool::Helm.ready(progress)?);
    let home = cache()?.join("helm-home");
    for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(name, home.join(name));
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_is_pinned() {
        for tool in
            [Tool::CLUSTER.as_slice(), &[Tool::Kubeconform, Tool::GitOps, Tool::Keda, Tool::KedaAdapter]]
                .concat()
        {
            let version = tool.version().expect("pinned");
            assert!(version == "own" || version.starts_with('v'), "{tool:?} {version}");
            assert!(tool.path().expect("path").ends_with(tool.name()));
        }
    }

    #[test]
    fn kubernetes_knows_its_version() {
        let flags = Tool::Kube.linker_flags("v1.34.4").expect("a version");
        assert!(flags.contains("gitVersion=v1.34.4") && flags.contains("gitMinor=34"), "{flags}");
        let helm = Tool::Helm.linker_flags("v3.1.2").expect("a version");
        assert!(
            helm.contains("version.version=v3.1.2") && helm.contains("chartutil.k8sVersionMinor=3"),
            "{helm}"
        );
    }

    #[test]
    fn a_changed_module_is_another_tool() {
        let dir = env::temp_dir().join(format!("hash-test-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("directory");
        fs::write(dir.join("go.mod"), "module a\n").expect("file");
        let before = hash_of(&dir).expect("hash");
        fs::write(dir.join("go.mod"), "module b\n").expect("file");
        assert_ne!(before, hash_of(&dir).expect("hash"));
        fs::remove_dir_all(dir).expect("removed");
    }
}
