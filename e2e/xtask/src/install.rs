//! Installs chart and sample on a cluster: an instance of ours, or the cluster of a kubectl context.

use std::{ffi::OsStr, path::PathBuf, process::Command};

use anyhow::{Context, Result};
use cluster::{
    Instance, Tool,
    run::{self, Progress},
};

use crate::artifacts::{self, Product};

/// Namespace of the operator.
pub(crate) const NAMESPACE: &str = "channelcluster-system";
/// Name of the chart and of its release.
pub(crate) const CHART: &str = "channelcluster";
/// Name of the sample's ChannelCluster.
pub(crate) const SAMPLE: &str = "chat";
/// Label of the release and of the sample: a release or a sample without it belongs to others and stays as it is.
pub(crate) const MARK: (&str, &str) = ("channelcluster.io/made-by", "xtask");
/// How long the operator, and then the sample, may take to be ready.
const READY_LIMIT: &str = "180s";
/// Lines of the operator's log that an error quotes.
const QUOTED_LINES: &str = "--tail=30";

/// The cluster to install into.
pub(crate) enum Place<'a> {
    /// An instance of ours.
    Local(&'a Instance),
    /// The user's own.
    Context(String),
}

impl Place<'_> {
    pub(crate) fn kubectl_command(&self) -> Result<Command> {
        match self {
            Self::Local(instance) => instance.kubectl_command(),
            Self::Context(name) => {
                let mut command = run::tied(Tool::Kube.path()?);
                command.args(["kubectl", "--context", name]);
                Ok(command)
            }
        }
    }

    pub(crate) fn kubectl<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<String> {
        run::output(self.kubectl_command()?.args(args))
    }

    pub(crate) fn helm_command(&self, progress: &Progress) -> Result<Command> {
        let mut command = cluster::helm(progress)?;
        match self {
            Self::Local(instance) => command.arg("--kubeconfig").arg(instance.kubeconfig()),
            Self::Context(name) => command.args(["--kube-context", name]),
        };
        Ok(command)
    }

    /// How a person types kubectl for this cluster.
    pub(crate) fn kubectl_words(&self) -> String {
        match self {
            Self::Local(instance) if instance.name() == "demo" => "cargo xtask kubectl --".into(),
            Self::Local(instance) => format!("cargo xtask kubectl --instance {} --", instance.name()),
            Self::Context(name) => format!("kubectl --context {name}"),
        }
    }
}

/// Directory of the chart.
pub(crate) fn chart() -> PathBuf {
    artifacts::repository().join("charts").join(CHART)
}

/// Installs or upgrades the chart and waits for the operator.
pub(crate) fn chart_onto(place: &Place<'_>, product: &Product, progress: &Progress) -> Result<()> {
    progress.say(&format!("installing the chart into namespace {NAMESPACE}"));
    let mut helm = place.helm_command(progress)?;
    helm.args(["upgrade", "--install", CHART]).arg(chart());
    helm.args(["--namespace", NAMESPACE, "--create-namespace", "--wait", "--timeout", READY_LIMIT]);
    helm.args(["--labels", &format!("{}={}", MARK.0, MARK.1)]);
    let images = [("image", &product.operator), ("nodeImage", &product.node), ("natsImage", &product.nats)];
    for (value, image) in images {
        helm.args(["--set-string", &format!("operator.{value}={}", image.reference)]);
    }
    run::output(&mut helm).map(drop).with_context(|| {
        let words = place.kubectl_words();
        format!(
            "{}\nmore: {words} -n {NAMESPACE} describe pods\nthe chart was not installed",
            operator_log(place)
        )
    })
}

/// Applies the sample and waits until it is Ready.
pub(crate) fn sample_onto(place: &Place<'_>, progress: &Progress) -> Result<()> {
    let sample = artifacts::repository().join("docs/samples/chat.yaml");
    progress.say("applying docs/samples/chat.yaml");
    let mark = format!("{}={}", MARK.0, MARK.1);
    let mut marked = place.kubectl_command()?;
    let marked = run::output(marked.args(["label", "--local", &mark, "-o", "json", "-f"]).arg(sample))?;
    run::output_given(place.kubectl_command()?.args(["apply", "-f", "-"]), &marked)?;
    progress.say("waiting until the ChannelCluster is Ready");
    let sample = format!("channelcluster/{SAMPLE}");
    let condition = ["wait", "--for=condition=Ready", &sample, "--timeout", READY_LIMIT];
    place.kubectl(condition).map(drop).with_context(|| {
        let words = place.kubectl_words();
        let state = place.kubectl(["get", "channelclusters,pods"]).unwrap_or_default();
        format!(
            "{state}\n{}\nmore: {words} describe {sample}; {words} describe pods\nthe sample did not become \
             Ready",
            operator_log(place)
        )
    })
}

fn operator_log(place: &Place<'_>) -> String {
    let pods = place.kubectl(["-n", NAMESPACE, "get", "pods", "-o", "name"]).unwrap_or_default();
    let mut text = String::new();
    for pod in pods.lines() {
        let log = place.kubectl(["-n", NAMESPACE, "logs", pod, QUOTED_LINES]);
        text.push_str(&format!("--- {pod}\n{}\n", log.unwrap_or_else(|error| format!("{error:#}"))));
    }
    text
}
