//! Annotations, which is all that this program ever writes: the spec may belong to a GitOps tool, which puts back what another
//! writes there, and leaves annotations alone that its manifest does not name.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Write;

use anyhow::Result;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::args::Form;
use crate::connect::{Place, failed};
use crate::fleet::{called, resource};
use crate::output;

/// Name under which the API server records the annotations.
const FIELD_MANAGER: &str = "kubectl-channels";

/// Annotations with their values; one without a value is taken away.
pub type Annotations = BTreeMap<&'static str, Option<String>>;

/// What was written, and what comes of it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    /// The namespace.
    pub namespace: String,
    /// The ChannelCluster or the pods that were annotated.
    pub names: Vec<String>,
    /// The annotations; null where one was taken away.
    pub annotations: Annotations,
    /// Sentences about what the operator does now, and what it does not.
    pub sentences: Vec<String>,
}

impl Done {
    /// Writes it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, form: Form, out: &mut dyn Write) -> Result<()> {
        if let Some(format) = form.output {
            return output::write(self, format, out);
        }
        for sentence in &self.sentences {
            writeln!(out, "{sentence}")?;
        }
        Ok(())
    }
}

/// Annotates a ChannelCluster.
///
/// # Errors
/// When it is not there, or may not be changed.
pub async fn fleet(
    place: &Place,
    name: &str,
    annotations: Annotations,
    sentences: Vec<String>,
) -> Result<Done> {
    let api: Api<DynamicObject> = Api::namespaced_with(place.client.clone(), &place.namespace, &resource());
    Box::pin(write(&api, name, &annotations, &called(place, name))).await?;
    let (namespace, names) = (place.namespace.clone(), vec![name.to_owned()]);
    Ok(Done { namespace, names, annotations, sentences })
}

/// Annotates an object, which is called so in sentences.
///
/// # Errors
/// When it is not there, or may not be changed.
pub async fn write<K: Clone + DeserializeOwned + Debug>(
    api: &Api<K>,
    name: &str,
    annotations: &Annotations,
    called: &str,
) -> Result<()> {
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let changed = api.patch(name, &params, &patch).await;
    changed.map(drop).map_err(|error| failed("change", called, error))
}
