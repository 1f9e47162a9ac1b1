//! The annotations of a ChannelCluster that hold its node count in one direction, as those of KEDA do
//! (`autoscaling.keda.sh/paused-scale-in`, `-out`): what the load and the schedule ask for waits, and `nodes.min`,
//! `nodes.max` and the floor of `targetConnections` still count. A drain that is under way goes on.

use std::collections::BTreeMap;

/// Holds scale-in while it is set.
pub const PAUSE_SCALE_IN_ANNOTATION: &str = "channelcluster.io/pause-scale-in";
/// Holds scale-out while it is set.
pub const PAUSE_SCALE_OUT_ANNOTATION: &str = "channelcluster.io/pause-scale-out";

/// The directions in which the node count is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    /// No fewer nodes.
    pub scale_in: bool,
    /// No more nodes.
    pub scale_out: bool,
}

impl Holds {
    /// Reads the annotations. A value other than `false` holds: who writes `yes` means it.
    #[must_use]
    pub fn of(annotations: Option<&BTreeMap<String, String>>) -> Self {
        let set = |name| is_set(annotations, name);
        Self { scale_in: set(PAUSE_SCALE_IN_ANNOTATION), scale_out: set(PAUSE_SCALE_OUT_ANNOTATION) }
    }
}

/// Whether an annotation has a value other than `false`.
pub(crate) fn is_set(annotations: Option<&BTreeMap<String, String>>, name: &str) -> bool {
    let value = annotations.and_then(|all| all.get(name)).map(|value| value.trim());
    value.is_some_and(|value| !value.is_empty() && !value.eq_ignore_ascii_case("false"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Holds, PAUSE_SCALE_IN_ANNOTATION, PAUSE_SCALE_OUT_ANNOTATION};

    #[test]
    fn any_value_but_false_holds() {
        let of = |value: &str| {
            let both = [PAUSE_SCALE_IN_ANNOTATION, "channelcluster.io/other"];
            let all: BTreeMap<_, _> = both.map(|name| (name.to_owned(), value.to_owned())).into();
            Holds::of(Some(&all))
        };
        assert_eq!(of("true"), Holds { scale_in: true, scale_out: false });
        assert!(of("True").scale_in && of("yes").scale_in);
        assert!(!of("false").scale_in && !of("False").scale_in && !of("").scale_in);
        assert_eq!(Holds::of(None), Holds::default());
        let out = [(PAUSE_SCALE_OUT_ANNOTATION.to_owned(), "1".to_owned())].into();
        assert!(Holds::of(Some(&out)).scale_out);
    }
}
