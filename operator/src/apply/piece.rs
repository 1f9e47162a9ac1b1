//! One object of a bundle, whatever its kind.

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ApiResource;
use kube::{Resource, ResourceExt};
use operator_core::names::{Component, SECRET_MARK_ANNOTATION};
use serde::Serialize;
use serde_json::{Value, json};

use crate::ours::ApplyError;
use crate::secrets::KeptSecret;
use crate::written::Left;

/// One object that the operator wants to exist.
pub(super) struct Piece {
    pub(super) resource: ApiResource,
    pub(super) name: String,
    /// Whether its node count belongs to another manager once it exists.
    pub(super) counted: bool,
    /// Metadata of the live object.
    pub(super) live: Option<ObjectMeta>,
    /// The object's state after the last apply, if no other writer has touched it since.
    pub(super) left: Option<Box<Left>>,
    /// Whether the live object is to be taken over.
    pub(super) leftover: bool,
    /// Whether it depends on a change that no spec shows, such as another password.
    pub(super) follows: bool,
    body: Value,
}

impl Piece {
    pub(super) fn of<K>(object: &K) -> Result<Self, ApplyError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Serialize,
    {
        let resource = ApiResource::erase::<K>(&());
        let name = object.name_any();
        let body = serde_json::to_value(object).map_err(|error| ApplyError::Api {
            what: format!("{} {name}", resource.kind),
            source: kube::Error::SerdeError(error),
        })?;
        Ok(Self {
            resource,
            name,
            counted: false,
            live: None,
            left: None,
            leftover: false,
            follows: false,
            body,
        })
    }

    /// The same, with a node count that belongs to another manager once the object exists.
    pub(super) fn counted(self) -> Self {
        Self { counted: true, ..self }
    }

    pub(super) fn kind(&self) -> &str {
        &self.resource.kind
    }

    /// Kind and name.
    pub(super) fn object(&self) -> String {
        format!("{} {}", self.kind(), self.name)
    }

    /// The body to apply: without the node count, if the object exists.
    pub(super) fn body(&self) -> Value {
        let mut body = self.body.clone();
        if self.counted && self.live.is_some() {
            without_count(&mut body);
        }
        body
    }

    /// Hash of the body that is applied once the object exists.
    pub(super) fn hash(&self) -> u64 {
        let mut body = self.body.clone();
        if self.counted {
            without_count(&mut body);
        }
        let mut hasher = DefaultHasher::new();
        body.to_string().hash(&mut hasher);
        hasher.finish()
    }

    /// Whether the object is there and as it should be.
    pub(super) fn stays(&self) -> bool {
        self.left.as_ref().is_some_and(|left| left.body == self.hash())
    }

    /// Whether its pods mount or read another piece.
    pub(super) fn needs(&self, other: &Self) -> bool {
        let config = other.kind() == "ConfigMap" && component(&self.body) == component(&other.body);
        self.kind() == "Deployment" && (config || other.kind() == "ServiceAccount")
    }

    /// Makes NATS follow its password, which it reads when it starts. A server that was made before there were marks
    /// keeps running as long as the Secret is the one that it was made with.
    pub(super) fn mark(&mut self, secret: &KeptSecret) {
        if self.kind() != "Deployment" || component(&self.body) != Some(Component::Nats) {
            return;
        }
        let marked = |live: &ObjectMeta| {
            live.annotations.as_ref().is_some_and(|all| all.contains_key(SECRET_MARK_ANNOTATION))
        };
        let follows = |live: &ObjectMeta| marked(live) || secret.made > live.creation_timestamp;
        if self.live.as_ref().is_none_or(follows) {
            self.follows = secret.changed;
            let mark = json!(secret.mark);
            for path in ["/metadata", "/spec/template/metadata"] {
                if let Some(meta) = self.body.pointer_mut(path) {
                    meta["annotations"][SECRET_MARK_ANNOTATION] = mark.clone();
                }
            }
        }
    }

    pub(super) fn failed(&self, source: kube::Error) -> ApplyError {
        ApplyError::Api { what: self.object(), source }
    }
}

fn without_count(body: &mut Value) {
    if let Some(spec) = body["spec"].as_object_mut() {
        spec.remove("replicas");
    }
}

/// The part of a fleet that an object belongs to, as its label says.
fn component(body: &Value) -> Option<Component> {
    let label = body["metadata"]["labels"]["app.kubernetes.io/component"].as_str()?;
    [Component::Node, Component::Nats].into_iter().find(|component| component.as_str() == label)
}
