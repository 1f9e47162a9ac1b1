//! One object of a bundle, whatever its kind.

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ApiResource;
use kube::{Resource, ResourceExt};
use operator_core::names::{Component, MADE_WITH_ANNOTATION, REVISION_ANNOTATION, SECRET_MARK_ANNOTATION};
use operator_core::ownership;
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
    /// Hash of the body as this version makes it, if the live object keeps another template.
    made: Option<u64>,
    /// Whether its template is another one than that of the spec, so that only the live object has it.
    unchanged: bool,
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
            made: None,
            unchanged: false,
        })
    }

    /// The same as a Deployment of nodes with this number, and with a note of its template. Its node count belongs to
    /// another manager once it exists.
    pub(super) fn nodes(mut self, revision: u64) -> Self {
        let template = self.body["spec"]["template"].to_string();
        let annotations = &mut self.body["metadata"]["annotations"];
        annotations[REVISION_ANNOTATION] = json!(revision.to_string());
        annotations[MADE_WITH_ANNOTATION] = json!(template);
        Self { counted: true, ..self }
    }

    /// The same with the template that it has, whatever the spec says.
    pub(super) fn unchanged(self) -> Self {
        Self { unchanged: true, ..self }
    }

    /// Whether nobody knows its template any more.
    pub(super) fn is_lost(&self) -> bool {
        self.unchanged && self.left.is_none() && self.made.is_none()
    }

    /// Keeps the template that a live Deployment of nodes was made with, if nobody else has written the note of it since.
    /// The template is of the same hash as the one of this version, which must not replace pods for writing it otherwise.
    pub(super) fn keep(&mut self) {
        let Some(live) = self.live.as_ref().filter(|_| self.counted) else { return };
        let records = live.managed_fields.as_deref().unwrap_or_default();
        let note = live.annotations.as_ref().and_then(|all| all.get(MADE_WITH_ANNOTATION));
        let path = format!("metadata.annotations.{MADE_WITH_ANNOTATION}");
        let Some(note) = note.filter(|_| ownership::has(records, &path)).cloned() else { return };
        let Ok(template) = serde_json::from_str::<Value>(&note) else { return };
        self.made = Some(self.hash());
        self.body["spec"]["template"] = template;
        self.body["metadata"]["annotations"][MADE_WITH_ANNOTATION] = json!(note);
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
        if self.counted && self.live.is_some() { self.body_without_count() } else { self.body.clone() }
    }

    /// The body without the node count.
    pub(super) fn body_without_count(&self) -> Value {
        let mut body = self.body.clone();
        if let Some(spec) = body["spec"].as_object_mut() {
            spec.remove("replicas");
        }
        body
    }

    /// Hash of the body that this version makes of an object that exists.
    pub(super) fn hash(&self) -> u64 {
        if let Some(made) = self.made {
            return made;
        }
        let body = if self.counted { self.body_without_count() } else { self.body.clone() };
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

/// The part of a fleet that an object belongs to, as its label says.
fn component(body: &Value) -> Option<Component> {
    let label = body["metadata"]["labels"]["app.kubernetes.io/component"].as_str()?;
    [Component::Node, Component::Nats].into_iter().find(|component| component.as_str() == label)
}
