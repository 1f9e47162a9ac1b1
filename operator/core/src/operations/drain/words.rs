//! What a drain says of itself.

use std::collections::BTreeSet;

use crds::{DrainOperation, DrainStep};

use crate::operations::plan::Running;

/// Most pods that the condition names.
const MOST_NAMED: usize = 5;

impl Running for DrainOperation {
    fn holds(&self, pod_uid: &str) -> bool {
        self.nodes.iter().any(|node| node.pod_uid == pod_uid && node.step != DrainStep::Replacing)
    }

    fn leaving(&self) -> usize {
        self.nodes.len()
    }

    fn places(&self) -> Vec<(&str, &'static str)> {
        self.nodes.iter().map(|node| (node.pod_uid.as_str(), name(node.step))).collect()
    }

    fn headline(&self) -> String {
        match &self.nodes[..] {
            [node] => format!("Draining {}", node.pod),
            nodes => format!("Draining {} nodes", nodes.len()),
        }
    }

    fn condition(&self) -> (&'static str, String) {
        // The reason is the step of the node that has the longest way to go; those that wait do so for one that closes.
        let first = self.nodes.iter().map(|node| node.step).min().unwrap_or(DrainStep::Removing);
        let reason = if first == DrainStep::Waiting { DrainStep::Closing } else { first };
        let steps = [
            DrainStep::Replacing,
            DrainStep::Unready,
            DrainStep::Waiting,
            DrainStep::Closing,
            DrainStep::Removing,
        ];
        let mut said: Vec<String> = steps.into_iter().filter_map(|step| at(self, step)).collect();
        let whys: BTreeSet<&str> = self.nodes.iter().filter_map(|node| node.why.as_deref()).collect();
        said.extend(whys.into_iter().take(MOST_NAMED).map(str::to_owned));
        (name(reason), said.join("; "))
    }

    fn clear_figures(&mut self) {
        for node in &mut self.nodes {
            (node.connections, node.connections_per_second) = (None, None);
        }
    }
}

/// What several and one node do at a step.
const fn does(step: DrainStep) -> (&'static str, &'static str) {
    match step {
        DrainStep::Replacing => ("serve until others are ready", "serves until others are ready"),
        DrainStep::Unready => ("are being taken out of the Service", "is being taken out of the Service"),
        DrainStep::Waiting => ("wait to close their connections", "waits to close its connections"),
        DrainStep::Closing => ("close their connections", "closes its connections"),
        DrainStep::Removing => ("are drained and being removed", "is drained and being removed"),
    }
}

/// What the nodes at a step do; none when there are none.
fn at(drain: &DrainOperation, step: DrainStep) -> Option<String> {
    let pods: Vec<&str> =
        drain.nodes.iter().filter(|node| node.step == step).map(|node| node.pod.as_str()).collect();
    let (many, one) = does(step);
    match pods.len() {
        0 => None,
        1 => Some(format!("{} {one}", pods[0])),
        all if all <= MOST_NAMED => Some(format!("{} {many}", pods.join(", "))),
        all => Some(format!("{all} nodes {many}")),
    }
}

/// The word for a step.
const fn name(step: DrainStep) -> &'static str {
    match step {
        DrainStep::Replacing => "Replacing",
        DrainStep::Unready => "Unready",
        DrainStep::Waiting => "Waiting",
        DrainStep::Closing => "Closing",
        DrainStep::Removing => "Removing",
    }
}
