//! The way to the API server, and sentences for what goes wrong on it.

use anyhow::{Context, Error, Result, anyhow};
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::args::Target;

/// An API server and a namespace there.
#[derive(Clone)]
pub struct Place {
    /// The client.
    pub client: Client,
    /// The namespace of commands that name none.
    pub namespace: String,
}

/// Connects as the flags and the kubeconfig say.
///
/// # Errors
/// When there is no kubeconfig, or it does not have the context.
pub async fn connect(target: &Target) -> Result<Place> {
    let mut config = config(target).await?;
    if let Some(user) = &target.impersonated {
        config.auth_info.impersonate = Some(user.clone());
    }
    let namespace = target.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let builder = ClientBuilder::try_from(config).context("this kubeconfig cannot be used")?;
    Ok(Place { client: builder.build(), namespace })
}

async fn config(target: &Target) -> Result<Config> {
    let options = KubeConfigOptions { context: target.context.clone(), ..KubeConfigOptions::default() };
    let known = match &target.kubeconfig {
        Some(path) => Kubeconfig::read_from(path)
            .with_context(|| format!("--kubeconfig: cannot read {}", path.display()))?,
        None => match Kubeconfig::read() {
            Ok(known) => known,
            // A pod has none, and a service account instead.
            Err(error) if target.context.is_none() => {
                return Config::incluster().map_err(|_| {
                    anyhow!(error).context("no kubeconfig: give --kubeconfig FILE, or set KUBECONFIG")
                });
            }
            Err(error) => {
                return Err(error).context("no kubeconfig: give --kubeconfig FILE, or set KUBECONFIG");
            }
        },
    };
    let contexts: Vec<_> = known.contexts.iter().map(|context| context.name.clone()).collect();
    if let Some(name) = &target.context
        && !contexts.contains(name)
    {
        return Err(anyhow!("--context: no context {name:?}: use one of {}", contexts.join(", ")));
    }
    let config = Config::from_custom_kubeconfig(known, &options);
    config.await.context("this kubeconfig cannot be used: give --context NAME or set a current context in it")
}

/// What went wrong, in a sentence that names the thing and what to do about it. `what` is the thing, such as
/// `ChannelCluster "chat" in namespace "default"`; `verb` what was to be done with it.
pub fn failed(verb: &str, what: &str, error: kube::Error) -> Error {
    let kube::Error::Api(status) = &error else {
        return Error::new(error).context(format!(
            "cannot {verb} {what}: the API server does not answer as it should; is it the right --context?"
        ));
    };
    let message = &status.message;
    let no_such_kind = ["could not find the requested resource", "page not found"];
    match status.code {
        404 if no_such_kind.iter().any(|words| message.contains(words)) => {
            anyhow!("this cluster knows no ChannelClusters: install the chart, or choose another --context")
        }
        404 => anyhow!(
            "there is no {what}: `kubectl channels status --all-namespaces` lists all ChannelClusters"
        ),
        403 => {
            anyhow!(
                "you may not {verb} {what} ({message}): ask for that right, or use another --context or --as"
            )
        }
        401 => anyhow!("the API server does not know you: log in again, or use another --context"),
        _ => anyhow!("cannot {verb} {what}: {message}"),
    }
}
