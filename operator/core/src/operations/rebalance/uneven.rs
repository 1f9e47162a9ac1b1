//! Which nodes have too much.

use crds::Donor;

use crate::operations::plan::FleetView;
use crate::pod::PodView;

/// A node with too much.
pub(super) struct Uneven<'a> {
    pod: &'a PodView,
    /// Connections to move.
    pub(super) connections: i64,
    /// Writes/s to move; none when the number of connections alone counts.
    writes: Option<i64>,
    what: &'static str,
    /// Its load in parts of what a node carries.
    load: f64,
    mean: f64,
    /// Whether it is full.
    pub(super) hot: bool,
}

impl Uneven<'_> {
    /// What the operation records of it.
    pub(super) fn donor(&self) -> Donor {
        Donor {
            pod: self.pod.name.clone(),
            pod_uid: self.pod.uid.clone(),
            asked: self.connections,
            asked_writes: self.writes,
            moved: 0,
            asked_again: false,
        }
    }

    /// The words of a condition about it: they have no figures that change.
    pub(super) fn state(&self) -> String {
        format!("{} has more {} than its share", self.pod.name, self.what)
    }

    /// A sentence about it, and how many there are.
    pub(super) fn why(&self, all: usize) -> String {
        let what = self.what;
        let more = if all > 1 { format!(", and {} nodes more are above it", all - 1) } else { String::new() };
        format!(
            "{} has {:.0} % of the {what} that a node carries, the mean is {:.0} %{more}",
            self.pod.name,
            self.load * 100.0,
            self.mean * 100.0
        )
    }
}

/// One node's load and connections in parts of what a node carries.
struct Share<'a> {
    pod: &'a PodView,
    full: bool,
    load: f64,
    connections: f64,
    held: f64,
    writes: f64,
}

/// The nodes with too much, the fullest first; none when too little is known. `left` is a pod that is left alone, and
/// `asked` says that a person wants clients to be moved, also where no node is busy.
pub(super) fn donors<'a>(fleet: &FleetView<'a>, left: Option<&str>, asked: bool) -> Option<Vec<Uneven<'a>>> {
    let serving = fleet.pods.iter().filter(|pod| pod.ready && !pod.terminating);
    let shares: Vec<Share<'a>> = serving.clone().filter_map(|pod| share(pod, fleet)).collect();
    if shares.is_empty() || serving.count() != shares.len() {
        return None;
    }
    let busy = if asked { 0.0 } else { f64::from(fleet.sizing.target_percent) / 100.0 };
    let by_load = above(&shares, |share| share.load, busy, fleet, left);
    if !by_load.is_empty() {
        return Some(by_load.into_iter().map(|(share, mean)| by_writes(share, mean)).collect());
    }
    let by_connections = above(&shares, |share| share.connections, busy, fleet, left);
    Some(by_connections.into_iter().map(|(share, mean)| by_count(share, mean)).collect())
}

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn share<'a>(pod: &'a PodView, fleet: &FleetView<'_>) -> Option<Share<'a>> {
    let (node, bearing) = (pod.node.filter(|node| node.answers)?, pod.bearing.as_ref()?);
    let writes = node.writes_per_second?;
    let part = writes / fleet.sizing.writes_per_second;
    // A full node writes what it can, which may be less than the manifest says.
    let load = if bearing.full { part.max(1.0) } else { part };
    let held = node.connections as f64;
    Some(Share { pod, full: bearing.full, load, connections: held / fleet.sizing.connections, held, writes })
}

/// The nodes above the mean by the tolerance which are busy enough for it to matter, that is above `busy`, each with the mean;
/// none when nobody could take what they give.
fn above<'s, 'a>(
    shares: &'s [Share<'a>],
    of: impl Fn(&Share<'a>) -> f64,
    busy: f64,
    fleet: &FleetView<'_>,
    left: Option<&str>,
) -> Vec<(&'s Share<'a>, f64)> {
    let tolerance = f64::from(fleet.rebalance.tolerance_percent) / 100.0;
    let mean = shares.iter().map(&of).sum::<f64>() / shares.len() as f64;
    let most = (mean * (1.0 + tolerance)).max(busy);
    let mut above: Vec<_> = shares.iter().filter(|share| of(share) > most).collect();
    above.retain(|share| left != Some(share.pod.name.as_str()));
    above.sort_by(|a, b| of(b).total_cmp(&of(a)));
    above.truncate(super::MAX_DONORS);
    above.into_iter().map(|share| (share, mean)).collect()
}

#[allow(clippy::cast_possible_truncation, reason = "counts far below 2^52")]
fn by_writes<'a>(share: &Share<'a>, mean: f64) -> Uneven<'a> {
    let part = (share.load - mean) / share.load;
    Uneven {
        pod: share.pod,
        connections: (share.held * part).ceil() as i64,
        // What a full node would write is not known: the number of clients decides.
        writes: (!share.full).then(|| (share.writes * part).round() as i64),
        what: "load",
        load: share.load,
        mean,
        hot: share.full,
    }
}

#[allow(clippy::cast_possible_truncation, reason = "counts far below 2^52")]
fn by_count<'a>(share: &Share<'a>, mean: f64) -> Uneven<'a> {
    let connections = (share.held * (share.connections - mean) / share.connections).ceil() as i64;
    Uneven {
        pod: share.pod,
        connections,
        writes: None,
        what: "connections",
        load: share.connections,
        mean,
        hot: false,
    }
}

/// Bounds the clients of all of them together.
pub(super) fn bound(donors: &mut Vec<Uneven<'_>>, most: u64) {
    let mut left = i64::try_from(most).unwrap_or(i64::MAX);
    for donor in donors.iter_mut() {
        donor.connections = donor.connections.min(left);
        left -= donor.connections;
    }
    donors.retain(|donor| donor.connections > 0);
}
