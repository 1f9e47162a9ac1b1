//! `drain` and `undrain`: nodes go that a person names, or stay after all.
//!
//! The operator drains. This program only names the nodes, by an annotation of their pods: whoever lowered the replicas or deleted
//! the pod beside the operator would cut off clients, and the operator would bring the node back.

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::{Result, anyhow, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};
use operator_core::names::{CLUSTER_LABEL, Component};
use operator_core::wishes::DRAIN_ANNOTATION;

use crate::args::{Drain, Undrain};
use crate::change::{self, Annotations, Done};
use crate::connect::{Place, failed};
use crate::{FINE, fleet};

/// Label that tells a node from NATS.
const COMPONENT_LABEL: &str = "app.kubernetes.io/component";

/// Runs `drain`; gives the exit code.
///
/// # Errors
/// When one of the pods is no node, or may not be changed; then none is changed that comes after it.
pub async fn drain(place: &Place, wanted: &Drain, out: &mut dyn Write) -> Result<u8> {
    let fleets = Box::pin(fleets(place, &wanted.nodes)).await?;
    let mut sentences = vec![format!(
        "{} {}: another node comes first for each, then it leaves the Service, closes its connections at the fleet's pace and is \
         removed. kubectl channels status shows how far it is, and kubectl channels undrain keeps it.",
        wanted.nodes.join(", "),
        if wanted.nodes.len() == 1 { "goes" } else { "go" }
    )];
    sentences.extend(Box::pin(paused(place, &fleets)).await?);
    let annotations: Annotations = [(DRAIN_ANNOTATION, Some("true".to_owned()))].into();
    let done = Box::pin(annotate(place, &wanted.nodes, annotations, sentences)).await?;
    done.write(wanted.form, out)?;
    Ok(FINE)
}

/// Runs `undrain`; gives the exit code.
///
/// # Errors
/// As [`drain`].
pub async fn undrain(place: &Place, wanted: &Undrain, out: &mut dyn Write) -> Result<u8> {
    let fleets = Box::pin(fleets(place, &wanted.nodes)).await?;
    let mut sentences = vec![format!(
        "{} may stay. A node that Kubernetes was told to remove already goes all the same.",
        wanted.nodes.join(", ")
    )];
    sentences.extend(Box::pin(paused(place, &fleets)).await?);
    // Without the annotation the very same node might go again, being the emptiest, since there is one more than is needed.
    let annotations: Annotations = [(DRAIN_ANNOTATION, Some("false".to_owned()))].into();
    let done = Box::pin(annotate(place, &wanted.nodes, annotations, sentences)).await?;
    done.write(wanted.form, out)?;
    Ok(FINE)
}

/// The fleets that the pods are nodes of. All are looked at before one is changed.
async fn fleets(place: &Place, nodes: &[String]) -> Result<BTreeSet<String>> {
    let api: Api<Pod> = Api::namespaced(place.client.clone(), &place.namespace);
    let mut fleets = BTreeSet::new();
    for node in nodes {
        let pod = api.get(node).await.map_err(|error| match error {
            kube::Error::Api(status) if status.code == 404 => anyhow!(
                "there is no {}: `kubectl channels status NAME` lists the nodes of a fleet",
                called(place, node)
            ),
            other => failed("get", &called(place, node), other),
        })?;
        let is_node = pod.labels().get(COMPONENT_LABEL).is_some_and(|is| is == Component::Node.as_str());
        match pod.labels().get(CLUSTER_LABEL).filter(|_| is_node) {
            Some(fleet) => fleets.insert(fleet.clone()),
            None => {
                bail!("{} is no node of a ChannelCluster: kubectl delete removes it", called(place, node))
            }
        };
    }
    Ok(fleets)
}

/// Says of which fleets nothing is done at the moment.
async fn paused(place: &Place, fleets: &BTreeSet<String>) -> Result<Vec<String>> {
    let mut sentences = Vec::new();
    for name in fleets {
        sentences.extend(Box::pin(fleet::get(place, name)).await?.nothing_is_done());
    }
    Ok(sentences)
}

async fn annotate(
    place: &Place,
    nodes: &[String],
    annotations: Annotations,
    sentences: Vec<String>,
) -> Result<Done> {
    let api: Api<Pod> = Api::namespaced(place.client.clone(), &place.namespace);
    for node in nodes {
        Box::pin(change::write(&api, node, &annotations, &called(place, node))).await?;
    }
    Ok(Done { namespace: place.namespace.clone(), names: nodes.to_vec(), annotations, sentences })
}

fn called(place: &Place, node: &str) -> String {
    format!("pod {node:?} in namespace {:?}", place.namespace)
}
