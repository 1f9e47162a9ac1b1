//! What a person asks of the operator beside the manifest, by annotations that `kubectl channels` writes: a GitOps tool may own
//! the spec, and puts back what another writes there. Annotations that its manifest does not name it leaves alone.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;

use crate::holds::is_set;

/// Annotation of a ChannelCluster with the time at which a person asked for one round of moving clients (RFC 3339).
pub const REBALANCE_ANNOTATION: &str = "channelcluster.io/rebalance";
/// Annotation of a ChannelCluster that pauses its rollout while it is set, as `rollout.pause` does.
pub const PAUSE_ROLLOUT_ANNOTATION: &str = "channelcluster.io/pause-rollout";
/// Annotation of a ChannelCluster with the hash of the template that a person gives up: the fleet goes back to the one before.
pub const UNDO_ROLLOUT_ANNOTATION: &str = "channelcluster.io/undo-rollout";
/// Annotation of a node's pod that is to go: another node takes its place, and it is drained and removed. The annotation goes
/// with the pod.
pub const DRAIN_ANNOTATION: &str = "channelcluster.io/drain";
/// A round that was asked for longer ago than this, in milliseconds, is not begun: whoever asked has gone, or the object came
/// back from a backup. The clocks of two machines may be so far apart too.
pub const PATIENCE_MILLIS: u64 = 600_000;

/// The wishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// When a round of moving clients was asked for, in milliseconds since 1970.
    pub rebalance: Option<u64>,
    /// The rollout is to pause.
    pub pause_rollout: bool,
    /// Hash of the template that is given up.
    pub undo: Option<String>,
}

impl Wishes {
    /// Reads the annotations. A time that is none asks for nothing.
    #[must_use]
    pub fn of(annotations: Option<&BTreeMap<String, String>>) -> Self {
        let value = |name| annotations.and_then(|all| all.get(name)).map(|value| value.trim());
        let time = |text: &str| {
            let time = text.parse::<Timestamp>().ok()?;
            u64::try_from(time.as_millisecond()).ok()
        };
        Self {
            rebalance: value(REBALANCE_ANNOTATION).and_then(time),
            pause_rollout: is_set(annotations, PAUSE_ROLLOUT_ANNOTATION),
            undo: value(UNDO_ROLLOUT_ANNOTATION).filter(|hash| !hash.is_empty()).map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PAUSE_ROLLOUT_ANNOTATION, REBALANCE_ANNOTATION, UNDO_ROLLOUT_ANNOTATION, Wishes};

    #[test]
    fn wishes_are_read_and_what_is_none_asks_for_nothing() {
        let of = |name: &str, value: &str| Wishes::of(Some(&[(name.to_owned(), value.to_owned())].into()));
        let at = |millis| Wishes { rebalance: Some(millis), ..Wishes::default() };
        assert_eq!(of(REBALANCE_ANNOTATION, "1970-01-01T00:01:00Z"), at(60_000));
        assert_eq!(of(REBALANCE_ANNOTATION, " 1970-01-01T01:01:00+01:00 "), at(60_000));
        for nothing in ["", "now", "true", "1969-12-31T00:00:00Z"] {
            assert_eq!(of(REBALANCE_ANNOTATION, nothing), Wishes::default(), "{nothing}");
        }
        assert!(of(PAUSE_ROLLOUT_ANNOTATION, "true").pause_rollout);
        assert!(!of(PAUSE_ROLLOUT_ANNOTATION, "false").pause_rollout);
        assert_eq!(of(UNDO_ROLLOUT_ANNOTATION, "2e672c58ea").undo.as_deref(), Some("2e672c58ea"));
        assert_eq!(of(UNDO_ROLLOUT_ANNOTATION, ""), Wishes::default());
        assert_eq!(Wishes::of(None), Wishes::default());
    }
}
