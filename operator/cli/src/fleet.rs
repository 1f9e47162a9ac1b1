//! A ChannelCluster as this program reads it: leniently, since an operator of a later version may write what this one does not
//! know, and what it knows is worth showing all the same.

use anyhow::{Context, Result};
use crds::{ChannelCluster, ChannelClusterSpec, ChannelClusterStatus, DecisionInputs};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, ListParams};
use serde_json::Value;

use crate::connect::{Place, failed};

/// A fleet.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Generation of its spec.
    pub generation: Option<i64>,
    /// When it was made.
    pub made: Option<Time>,
    /// Its spec as it is stored.
    pub spec: Value,
    /// Its status without the operation; none when no operator has written one.
    pub status: Option<ChannelClusterStatus>,
    /// What is under way, as it is stored.
    pub operation: Option<Value>,
    /// What each decision of the status was made from, in the order of those; none where this version cannot read it.
    pub inputs: Vec<Option<DecisionInputs>>,
}

impl Fleet {
    /// Reads an object.
    ///
    /// # Errors
    /// When its status has a field of another type than this version knows.
    pub fn read(object: &DynamicObject) -> Result<Self> {
        let meta = &object.metadata;
        let mut status = object.data.get("status").cloned().unwrap_or_default();
        let operation = status.as_object_mut().and_then(|status| status.remove("operation"));
        let decisions = status.get_mut("decisions").and_then(Value::as_array_mut);
        let inputs = decisions.into_iter().flatten().map(|decision| {
            let inputs = decision.as_object_mut().and_then(|decision| decision.remove("inputs"));
            inputs.and_then(|inputs| serde_json::from_value(inputs).ok())
        });
        let inputs = inputs.collect();
        let name = meta.name.clone().unwrap_or_default();
        let status = match status {
            Value::Null => None,
            status => Some(serde_json::from_value(status).with_context(|| {
                format!("the status of {name} is of another version: use the kubectl-channels of the operator's release")
            })?),
        };
        Ok(Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name,
            uid: meta.uid.clone().unwrap_or_default(),
            generation: meta.generation,
            made: meta.creation_timestamp.clone(),
            spec: object.data.get("spec").cloned().unwrap_or_default(),
            status,
            operation: operation.filter(|operation| !operation.is_null()),
            inputs,
        })
    }

    /// Its spec, when this version can read it.
    #[must_use]
    pub fn typed_spec(&self) -> Option<ChannelClusterSpec> {
        serde_json::from_value(self.spec.clone()).ok()
    }

    /// Why nothing that is asked of the operator is done now; none when it is.
    #[must_use]
    pub fn nothing_is_done(&self) -> Option<String> {
        let paused = self.spec["paused"].as_bool().unwrap_or_default();
        paused.then(|| {
            format!("spec.paused of {} is set: nothing is done about it until that is not.", self.name)
        })
    }

    /// One of its conditions.
    #[must_use]
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == kind)
    }
}

/// The kind, for requests that read it leniently.
#[must_use]
pub fn resource() -> ApiResource {
    ApiResource::erase::<ChannelCluster>(&())
}

/// How a fleet is called in sentences.
#[must_use]
pub fn called(place: &Place, name: &str) -> String {
    format!("ChannelCluster {name:?} in namespace {:?}", place.namespace)
}

/// The object of one fleet.
///
/// # Errors
/// When it is not there, may not be read, or the API server does not answer.
pub async fn object(place: &Place, name: &str) -> Result<DynamicObject> {
    let api: Api<DynamicObject> = Api::namespaced_with(place.client.clone(), &place.namespace, &resource());
    api.get(name).await.map_err(|error| failed("get", &called(place, name), error))
}

/// One fleet.
///
/// # Errors
/// As [`object`], and when it cannot be read.
pub async fn get(place: &Place, name: &str) -> Result<Fleet> {
    Fleet::read(&Box::pin(object(place, name)).await?)
}

/// The fleets of the namespace, or of all, by namespace and name.
///
/// # Errors
/// When they may not be read, or the API server does not answer.
pub async fn list(place: &Place, all_namespaces: bool) -> Result<Vec<Fleet>> {
    let api: Api<DynamicObject> = if all_namespaces {
        Api::all_with(place.client.clone(), &resource())
    } else {
        Api::namespaced_with(place.client.clone(), &place.namespace, &resource())
    };
    let what = if all_namespaces {
        "ChannelClusters in all namespaces".to_owned()
    } else {
        format!("ChannelClusters in namespace {:?}", place.namespace)
    };
    let listed = api.list(&ListParams::default()).await.map_err(|error| failed("list", &what, error))?;
    let mut fleets = listed.items.iter().map(Fleet::read).collect::<Result<Vec<_>>>()?;
    fleets.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(fleets)
}

/// The one that is named, or all of the namespace, or of all.
///
/// # Errors
/// As [`get`] and [`list`].
pub async fn wanted(place: &Place, name: Option<&str>, all_namespaces: bool) -> Result<Vec<Fleet>> {
    match name {
        Some(name) => Ok(vec![Box::pin(get(place, name)).await?]),
        None => Box::pin(list(place, all_namespaces)).await,
    }
}
