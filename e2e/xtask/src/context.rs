//! What `up --context` may touch in a cluster that is not ours: no object that others made there.

use anyhow::{Context, Result, bail, ensure};
use cluster::run::{self, Progress};
use serde_json::Value;

use crate::{
    artifacts,
    install::{CHART, MARK, NAMESPACE, Place, SAMPLE},
};

/// How long the API server of the context may take to answer.
const ANSWER_LIMIT: &str = "10s";

/// Finds out, before anything is built, whether the context exists, answers, and has room for the chart and the
/// sample.
///
/// # Errors
/// When it does not, or when others made a release or a ChannelCluster of that name; names the remedy.
pub(crate) fn check(place: &Place<'_>, name: &str, sample: bool, progress: &Progress) -> Result<()> {
    known(name, &place.kubectl(["config", "get-contexts", "-o", "name"])?)?;
    let words = place.kubectl_words();
    place
        .kubectl(["get", "--raw", "/version", "--request-timeout", ANSWER_LIMIT])
        .with_context(|| format!("the cluster does not answer; what says `{words} version`?"))?;
    let crd = "channelclusters.channelcluster.io";
    let crd = place.kubectl(["get", "customresourcedefinition", crd, "--ignore-not-found", "-o", "name"])?;
    if sample && !crd.trim().is_empty() {
        let found = place.kubectl(["get", "channelcluster", SAMPLE, "--ignore-not-found", "-o", "json"])?;
        sample_is_ours(&found, &words)?;
    }
    let list = |selector: &[&str]| -> Result<String> {
        let filter = format!("^{CHART}$");
        let mut helm = place.helm_command(progress)?;
        helm.args(["list", "--all", "--namespace", NAMESPACE, "--filter", &filter, "--output", "json"]);
        run::output(helm.args(selector))
    };
    let (key, value) = MARK;
    release_is_ours(&list(&[])?, &list(&["--selector", &format!("{key}={value}")])?, name)
}

/// Checks that the context is among `contexts`, the names that kubectl knows, one a line.
fn known(name: &str, contexts: &str) -> Result<()> {
    let contexts: Vec<_> = contexts.lines().collect();
    ensure!(!contexts.is_empty(), "no kubectl context {name:?}: the kubeconfig has none; set KUBECONFIG");
    if !contexts.contains(&name) {
        bail!("no kubectl context {name:?}: use one of {}", contexts.join(", "));
    }
    Ok(())
}

/// Checks that the sample is ours. `found` is the ChannelCluster of its name as JSON, empty when there is none.
fn sample_is_ours(found: &str, kubectl: &str) -> Result<()> {
    if found.trim().is_empty() {
        return Ok(());
    }
    let found: Value = serde_json::from_str(found).context("kubectl printed no JSON")?;
    let (key, value) = MARK;
    let namespace = found["metadata"]["namespace"].as_str().unwrap_or("default");
    ensure!(
        found["metadata"]["labels"][key] == value,
        "the ChannelCluster {SAMPLE} in namespace {namespace} is not from cargo xtask and stays as it is: leave the \
         sample out with --no-sample, or let it be replaced: {kubectl} -n {namespace} label channelcluster {SAMPLE} \
         {key}={value}"
    );
    Ok(())
}

/// Checks that the release is ours. `all` are the releases of our name, `ours` those with our label, both in Helm's
/// JSON.
fn release_is_ours(all: &str, ours: &str, context: &str) -> Result<()> {
    let parse = |text: &str| -> Result<Vec<Value>> {
        serde_json::from_str(text).with_context(|| format!("helm printed no list: {text}"))
    };
    let ours = parse(ours)?;
    let Some(other) = parse(all)?.into_iter().find(|release| {
        let chart = release["chart"].as_str().unwrap_or_default();
        let marked = ours.iter().any(|marked| marked["name"] == release["name"]);
        !(marked && chart.starts_with(&format!("{CHART}-")))
    }) else {
        return Ok(());
    };
    let chart = other["chart"].as_str().unwrap_or("an unknown chart");
    let helm = format!("helm --kube-context {context} --namespace {NAMESPACE}");
    let directory = artifacts::repository().join("charts").join(CHART);
    bail!(
        "the Helm release {CHART} in namespace {NAMESPACE} ({chart}) is not from cargo xtask and stays as it is: upgrade \
         it yourself ({helm} upgrade {CHART} {} --reuse-values), or remove it first ({helm} uninstall {CHART})",
        directory.display()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_context_lists_the_known() {
        assert!(known("kind-a", "kind-a\nprod\n").is_ok());
        let error = known("kind", "kind-a\nprod\n").unwrap_err().to_string();
        assert!(error.contains("\"kind\"") && error.contains("kind-a, prod"), "{error}");
        let error = known("kind", "").unwrap_err().to_string();
        assert!(error.contains("KUBECONFIG"), "{error}");
    }

    #[test]
    fn a_chat_of_the_users_own_is_refused() {
        let with = |labels: &str| {
            let object = format!(r#"{{"metadata": {{"name": "chat", "namespace": "web"{labels}}}}}"#);
            sample_is_ours(&object, "kubectl --context prod")
        };
        assert!(sample_is_ours("\n", "kubectl").is_ok(), "there is none");
        assert!(with(r#", "labels": {"channelcluster.io/made-by": "xtask"}"#).is_ok());
        for labels in ["", r#", "labels": {"channelcluster.io/made-by": "me"}"#] {
            let error = with(labels).unwrap_err().to_string();
            assert!(error.contains("namespace web") && error.contains("--no-sample"), "{error}");
        }
    }

    #[test]
    fn a_release_of_the_users_own_is_refused() {
        let release = |chart: &str| format!(r#"[{{"name": "channelcluster", "chart": "{chart}"}}]"#);
        let ours = release("channelcluster-0.1.0");
        assert!(release_is_ours("[]", "[]", "prod").is_ok(), "there is none");
        assert!(release_is_ours(&ours, &ours, "prod").is_ok());
        let error = release_is_ours(&ours, "[]", "prod").unwrap_err().to_string();
        assert!(error.contains("--reuse-values") && error.contains("uninstall"), "{error}");
        let other = release("nginx-2.0.0");
        let error = release_is_ours(&other, &other, "prod").unwrap_err().to_string();
        assert!(error.contains("nginx-2.0.0"), "{error}");
    }
}
