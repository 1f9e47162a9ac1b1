//! The Deployments of a fleet's nodes: which there are, which of them the pods are to be in, and which may go.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use operator_core::build;
use operator_core::names::{Component, FIELD_MANAGER};
use operator_core::ownership::Owner;
use operator_core::templates::{self, Made, Target};
use operator_core::validate::ValidatedCluster;
use serde_json::Value;
use tracing::info;

use super::piece::Piece;
use super::{Applier, Trial, refusal};
use crate::observe;
use crate::ours::{ApplyError, failed, whose};

/// The Deployments of nodes that are there.
pub(super) struct Nodes {
    /// All of them.
    pub(super) made: Vec<Made>,
    /// Those of them that are to be taken over.
    pub(super) leftovers: Vec<ObjectMeta>,
}

impl Applier<'_> {
    /// Looks which Deployments of nodes there are. As long as this process has not applied the spec, the API server is
    /// asked: the watches do not see a Deployment that has lost its owner. So it is while they see none, since a second
    /// Deployment with all nodes must not be made beside one that is only not seen yet.
    pub(super) async fn nodes(&self, trial: Trial) -> Result<Nodes, ApplyError> {
        let mut nodes = Nodes { made: Vec::new(), leftovers: Vec::new() };
        if trial == Trial::Known {
            nodes.made = self.seen_nodes().iter().map(|seen| Made::of(&seen.metadata)).collect();
        }
        if !nodes.made.is_empty() {
            return Ok(nodes);
        }
        let names = &self.cluster.names;
        let ours = format!(
            "app.kubernetes.io/managed-by={FIELD_MANAGER},{}",
            names.selector_string(Component::Node)
        );
        let list = self.deployments().list_metadata(&ListParams::default().labels(&ours)).await;
        for object in list.map_err(|error| failed::<Deployment>("of the nodes", error))?.items {
            let made = Made::of(&object.metadata);
            let meta = object.metadata;
            if meta.deletion_timestamp.is_some() || !made.is_named(names) {
                continue;
            }
            match whose(self.shared, self.cluster, &meta) {
                Owner::Another(_) => continue,
                Owner::Leftover => nodes.leftovers.push(meta),
                Owner::Ours => {}
            }
            nodes.made.push(made);
        }
        Ok(nodes)
    }

    /// The Deployment that the pods of this spec are in, or are to be in, with `replicas` nodes if there is none of
    /// another template: those are replaced by and by.
    pub(super) async fn target(&self, nodes: &Nodes, replicas: i32) -> Result<Piece, ApplyError> {
        let ValidatedCluster { names, given_up, .. } = self.cluster;
        let back = given_up.is_some() && nodes.made.iter().any(|made| self.is_of_template(made));
        // The template to go back to may be gone.
        let template = given_up.as_ref().filter(|_| !back).unwrap_or(&self.cluster.template);
        let cluster = ValidatedCluster { template: template.clone(), ..self.cluster.clone() };
        let (first, own) = (names.first_deployment(), names.deployment(template));
        let name = match templates::target(&nodes.made, template, names) {
            Target::Named(name) => name,
            Target::PerhapsFirst if self.is_the_first().await? => first.clone(),
            Target::PerhapsFirst => own,
        };
        let replicas = if nodes.made.is_empty() { replicas } else { 0 };
        let deployment = if name == first {
            build::first_deployment(&cluster, replicas)
        } else {
            build::bundle(&cluster, replicas).deployment
        };
        let piece = Piece::of(&deployment)?.nodes(templates::revision(&nodes.made, &name));
        Ok(if back { piece.unchanged() } else { piece })
    }

    fn is_of_template(&self, made: &Made) -> bool {
        made.template.as_ref() == Some(&self.cluster.template)
    }

    /// Whether the pods of the first Deployment are as this spec asks for: the server tries what a version that knew
    /// one Deployment would have applied, and the template stays as it is. The owner is left out, since a Deployment that is
    /// to be taken over has another one, and no object has two controllers. When the server refuses, that is not known, and no
    /// second Deployment may be made.
    async fn is_the_first(&self) -> Result<bool, ApplyError> {
        let piece = Piece::of(&build::first_deployment(self.cluster, 0))?.nodes(0);
        let api = self.api(&piece);
        let Some(live) = api.get_opt(&piece.name).await.map_err(|error| piece.failed(error))? else {
            return Ok(false);
        };
        let params = PatchParams::apply(FIELD_MANAGER).force().dry_run();
        let mut body = piece.body_without_count();
        if let Some(meta) = body["metadata"].as_object_mut() {
            meta.remove("ownerReferences");
        }
        match api.patch(&piece.name, &params, &Patch::Apply(body)).await {
            Ok(tried) => Ok(template(&live.data) == template(&tried.data)),
            Err(error) => Err(ApplyError::Refused(refusal(piece.failed(error))?)),
        }
    }

    /// Removes the Deployments without nodes that are not kept.
    pub(super) async fn prune(&self, target: &str) -> Result<(), ApplyError> {
        let seen = self.seen_nodes();
        let idle = |seen: &&Arc<Deployment>| {
            let pods = seen.status.as_ref().and_then(|status| status.replicas).unwrap_or_default();
            let wanted = seen.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            seen.name_any() != target && wanted == 0 && pods == 0
        };
        let idle = seen.iter().filter(idle).map(|seen| Made::of(&seen.metadata)).collect();
        for made in templates::expendable(idle) {
            let Some(seen) = seen.iter().find(|seen| seen.name_any() == made.name) else { continue };
            self.shared.check()?;
            let (uid, resource_version) = (seen.uid(), seen.resource_version());
            let params = DeleteParams::background().preconditions(Preconditions { uid, resource_version });
            match self.deployments().delete(&made.name, &params).await {
                Ok(_) => {
                    info!(namespace = self.cluster.namespace, name = made.name, "an old template is gone");
                }
                // It is gone, or nodes of it are wanted again.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => return Err(failed::<Deployment>(&made.name, error)),
            }
        }
        Ok(())
    }

    /// Whether every node is one of this spec, as the live Deployment `nodes` and the pods tell. A node that leaves no
    /// longer counts in the Deployment's status but still uses the objects that it was made with.
    pub(super) fn moved(&self, nodes: &Deployment) -> bool {
        let status = nodes.status.clone().unwrap_or_default();
        let wanted = nodes.spec.as_ref().and_then(|spec| spec.replicas);
        let ValidatedCluster { namespace, names, uid, .. } = self.cluster;
        let name = nodes.name_any();
        let pods = observe::pods(&self.shared.stores, namespace, names, uid);
        let has_none = |other: &Arc<Deployment>| {
            other.spec.as_ref().and_then(|spec| spec.replicas) == Some(0) || other.name_any() == name
        };
        status.observed_generation >= nodes.metadata.generation
            && status.updated_replicas == wanted
            && status.replicas == wanted
            && self.seen_nodes().iter().all(has_none)
            && i32::try_from(pods.views.len()).ok() >= wanted
            && pods.views.iter().all(|view| view.deployment == name)
    }

    fn seen_nodes(&self) -> Vec<Arc<Deployment>> {
        let ValidatedCluster { namespace, names, uid, .. } = self.cluster;
        observe::node_deployments(&self.shared.stores, namespace, names, uid)
    }

    fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.shared.client.clone(), &self.cluster.namespace)
    }
}

fn template(object: &Value) -> Option<&Value> {
    object.pointer("/spec/template")
}
