//! Programs, the running instance and a place for logs, for the steps of `cargo xtask test`.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result};
use cluster::{
    Instance, Tool,
    run::{self, Progress},
};

use crate::{artifacts, install, schemas};

/// How long the API server may take to say that it is ready.
const ANSWER_LIMIT: &str = "10s";
/// Instance that the tests run on.
pub(crate) const INSTANCE: &str = "test";

/// The tools of the steps.
pub(crate) struct Tools {
    pub(crate) repository: PathBuf,
    pub(crate) instance: Instance,
    pub(crate) progress: Progress,
    /// A copy of this program: cargo replaces the original when a step builds the xtask with other features.
    program: PathBuf,
}

impl Tools {
    pub(crate) fn new() -> Result<Self> {
        let reports = artifacts::target().join("e2e");
        fs::create_dir_all(&reports).with_context(|| format!("cannot create {}", reports.display()))?;
        let program = reports.join("xtask");
        // An earlier copy may still run, for example as the relay of a demo.
        fs::remove_file(&program).ok();
        fs::copy("/proc/self/exe", &program)
            .with_context(|| format!("cannot write {}", program.display()))?;
        Ok(Self {
            repository: artifacts::repository(),
            instance: Instance::named(INSTANCE)?,
            progress: Progress::new(),
            program,
        })
    }

    /// Directory of reports and logs.
    pub(crate) fn reports(&self) -> PathBuf {
        artifacts::target().join("e2e")
    }

    /// The file with the output of a step.
    pub(crate) fn step_log(&self, step: &str) -> PathBuf {
        self.reports().join("steps").join(format!("{}.log", step.replace(' ', "-")))
    }

    /// A program that runs in the repository.
    pub(crate) fn program(&self, name: &str, args: &[&str]) -> Command {
        let mut command = run::tied(name);
        command.args(args).current_dir(&self.repository);
        command
    }

    /// `cargo test` for test programs by their names, in any package; without names for all.
    pub(crate) fn cargo_test(&self, feature: Option<&str>, tests: &[&str], words: &[&str]) -> Command {
        let features: Vec<_> = std::iter::once(artifacts::FEATURES).chain(feature).collect();
        let mut command = self.program("cargo", &["test", "--workspace", "--no-fail-fast"]);
        command.args(["--features", &features.join(",")]);
        for test in tests {
            command.args(["--test", test]);
        }
        command.args(words);
        command
    }

    /// This very program with other arguments, so that each run may become root by itself.
    pub(crate) fn xtask(&self, args: &[&str]) -> Command {
        let mut command = run::tied(&self.program);
        command.args(args).args(["--instance", self.instance.name()]).current_dir(&self.repository);
        command
    }

    /// Runs kubectl with the user's copy of the kubeconfig: only root sees the instance's own state.
    fn kubectl<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Result<String> {
        let mut command = run::tied(Tool::Kube.path()?);
        command.arg("kubectl").arg("--kubeconfig").arg(artifacts::kubeconfig(&self.instance));
        run::output(command.args(args))
    }

    pub(crate) fn cluster_answers(&self) -> Result<()> {
        self.kubectl(["get", "--raw", "/readyz", "--request-timeout", ANSWER_LIMIT]).map(drop)
    }

    /// The chart as Kubernetes objects, written to a file.
    pub(crate) fn rendered_chart(&self) -> Result<PathBuf> {
        let mut helm = cluster::helm(&self.progress)?;
        helm.args(["template", "channelcluster"])
            .arg(install::chart())
            .args(["--namespace", install::NAMESPACE]);
        for image in ["image", "nodeImage", "natsImage"] {
            helm.args([
                "--set-string",
                &format!("operator.{image}=channelcluster.io/{}:0", image.to_lowercase()),
            ]);
        }
        let path = self.reports().join("chart.yaml");
        fs::create_dir_all(self.reports())?;
        fs::write(&path, run::output(&mut helm)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Checks the rendered chart and the sample against the schemas that the API server publishes.
    pub(crate) fn check_schemas(&self) -> Result<()> {
        let chart = self.rendered_chart()?;
        let directory = self.reports().join("schemas");
        schemas::write(|path| self.kubectl(["get", "--raw", path]), &directory)?;
        let location = format!("{}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json", directory.display());
        let mut check = run::tied(Tool::Kubeconform.ready(&self.progress)?);
        check.args([
            "-strict",
            "-summary",
            "-skip",
            "CustomResourceDefinition",
            "-schema-location",
            &location,
        ]);
        check.arg(&chart).arg(self.repository.join("docs/samples"));
        run::output(&mut check)?;
        // The API server's own check also has the CEL rules. The namespace exists, because the chart is installed.
        let dry =
            ["apply", "--dry-run=server", "--server-side", "--force-conflicts", "--validate=strict", "-f"];
        for path in [chart, self.repository.join("docs/samples")] {
            let path = path.display().to_string();
            self.kubectl(dry.iter().copied().chain([path.as_str()]))?;
        }
        Ok(())
    }

    /// A program that cargo installs into the cache of the project, once per version.
    pub(crate) fn installed(
        &self,
        name: &str,
        version: &str,
        takes: &str,
        flags: &[&str],
    ) -> Result<PathBuf> {
        let root = cluster::cache()?.join(format!("{name}-{version}"));
        let binary = root.join("bin").join(name);
        if !binary.exists() {
            let mut install = self.program("cargo", &["install", "--locked", "--version", version, name]);
            install.args(flags).arg("--root");
            let log = self.reports().join(format!("steps/{name}.log"));
            let what = format!("installing {name} {version} (once, about {takes})");
            self.progress.long(&what, install.arg(&root), &log)?;
        }
        Ok(binary)
    }
}
