//! Kubernetes Events about a ChannelCluster. The recorder turns repeats within minutes into a count of one Event; an
//! Event that cannot be written is logged and forgotten.

use crds::ChannelCluster;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use tracing::{info, warn};

/// Longest note, in bytes (`events.k8s.io` refuses more than 1 kB).
const MAX_NOTE: usize = 1_000;

/// Writes Events.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl Events {
    /// Events of the process called `identity`.
    #[must_use]
    pub fn new(client: Client, identity: String) -> Self {
        let reporter = Reporter { controller: "channel-operator".to_owned(), instance: Some(identity) };
        Self { recorder: Recorder::new(client, reporter) }
    }

    /// Writes one Event. Events of the same `reason` and `action` count as repeats of each other.
    pub async fn say(&self, cluster: &ChannelCluster, warning: bool, reason: &str, action: &str, note: &str) {
        self.say_of(&cluster.object_ref(&()), warning, reason, action, note).await;
    }

    /// The same about any object.
    pub async fn say_of(
        &self,
        about: &ObjectReference,
        warning: bool,
        reason: &str,
        action: &str,
        note: &str,
    ) {
        let name = about.name.as_deref().unwrap_or_default();
        let namespace = about.namespace.as_deref().unwrap_or_default();
        if warning {
            warn!(namespace, name, reason, "{note}");
        } else {
            info!(namespace, name, reason, "{note}");
        }
        let mut note = note.to_owned();
        if note.len() > MAX_NOTE {
            let cut = (0..=MAX_NOTE).rev().find(|at| note.is_char_boundary(*at)).unwrap_or(0);
            note.truncate(cut);
        }
        let event = Event {
            type_: if warning { EventType::Warning } else { EventType::Normal },
            reason: reason.to_owned(),
            note: Some(note),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, about).await {
            warn!(%error, reason, "cannot write an Event");
        }
    }
}
