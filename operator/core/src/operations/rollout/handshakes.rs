//! How many handshakes nodes of a new template and others were unable to take in the same time.

use std::collections::HashMap;

use crate::view::NodeSeen;

/// After so long the count begins anew, in milliseconds: what goes wrong late shows beside what went well for hours.
const COUNTED_MILLIS: u64 = 300_000;
/// A rollout stops when new nodes were unable to take this much more of their handshakes than old ones, in percent of them...
const UNABLE_PERCENT: u64 = 5;
/// ... and at least so many.
const MIN_UNABLE: u64 = 20;

/// Handshakes that nodes of a kind took in, and those that they were unable to take.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    unable: u64,
    all: u64,
}

impl Tally {
    fn percent(self) -> u64 {
        self.unable * 100 / self.all.max(1)
    }
}

/// What a process had counted when it last answered.
#[derive(Clone, Debug)]
struct Counted {
    boot: String,
    tally: Tally,
}

/// The handshakes of the present count.
#[derive(Clone, Debug, Default)]
pub(super) struct Handshakes {
    /// When the count began, in milliseconds since 1970.
    since: u64,
    /// The last answers by the UIDs of pods.
    counted: HashMap<String, Counted>,
    new: Tally,
    old: Tally,
}

impl Handshakes {
    /// A count that begins at `now`.
    pub(super) fn begun(now: u64) -> Self {
        Self { since: now, ..Self::default() }
    }

    /// Takes in the last answers.
    pub(super) fn look(&mut self, new: &[&NodeSeen], old: &[&NodeSeen], now: u64) {
        if now.saturating_sub(self.since) > COUNTED_MILLIS {
            (self.since, self.new, self.old) = (now, Tally::default(), Tally::default());
        }
        let is_there = |uid: &String| new.iter().chain(old).any(|node| node.pod.uid == *uid);
        self.counted.retain(|uid, _| is_there(uid));
        for (nodes, is_new) in [(new, true), (old, false)] {
            for node in nodes {
                let more = self.more(node, now);
                let sum = if is_new { &mut self.new } else { &mut self.old };
                (sum.unable, sum.all) = (sum.unable + more.unable, sum.all + more.all);
            }
        }
    }

    /// What a node counted since its last answer. Of a process that is older than this count its first answer says nothing.
    fn more(&mut self, node: &NodeSeen, now: u64) -> Tally {
        let Some(stats) = &node.stats else { return Tally::default() };
        let unable = stats.counters.handshakes_unable;
        let tally = Tally { unable, all: unable + stats.counters.connections_opened };
        let counted = Counted { boot: stats.boot_id.clone(), tally };
        let before = self.counted.insert(node.pod.uid.clone(), counted);
        let base = match before.filter(|before| before.boot == stats.boot_id) {
            Some(before) => before.tally,
            None if stats.monotonic_millis <= now.saturating_sub(self.since) => Tally::default(),
            None => tally,
        };
        Tally { unable: tally.unable.saturating_sub(base.unable), all: tally.all.saturating_sub(base.all) }
    }

    /// A sentence if new nodes were unable to take handshakes where old ones were not.
    pub(super) fn regress(&self) -> Option<String> {
        let Self { new, old, .. } = self;
        let (now, before) = (new.percent(), old.percent());
        let worse = new.unable >= MIN_UNABLE && now > before + UNABLE_PERCENT;
        worse.then(|| {
            format!(
                "new nodes were unable to take {now} % of {} handshakes, nodes of the template before {before} % of {} in the same \
                 time",
                new.all, old.all
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use node_core::admin::{Counters, Stats};

    use super::{COUNTED_MILLIS, Handshakes};
    use crate::pod::PodView;
    use crate::view::NodeSeen;

    const NOW: u64 = 1_800_000_000_000;

    /// A node whose process began at `began` and answers at `now`.
    fn node(name: &str, began: u64, now: u64, opened: u64, unable: u64) -> NodeSeen {
        let counters = Counters {
            connections_opened: opened,
            handshakes_unable: unable,
            handshakes_refused: unable + 5_000,
            ..Counters::default()
        };
        let (boot_id, monotonic_millis) = (began.to_string(), now.saturating_sub(began));
        let stats = Some(Stats { boot_id, monotonic_millis, counters, ..Stats::default() });
        let pod = PodView { uid: name.to_owned(), ..PodView::default() };
        NodeSeen { pod, stats, ..NodeSeen::default() }
    }

    /// Looks at an old node and a new one, each as what it had opened and was unable to take; says whether the rollout stops.
    fn look(count: &mut Handshakes, at: u64, old: (u64, u64), new: (u64, u64)) -> bool {
        let now = NOW + at;
        let old = node("old", NOW - 9_000_000, now, old.0, old.1);
        let new = node("new", NOW + 1_000, now, new.0, new.1);
        count.look(&[&new], &[&old], now);
        count.regress().is_some()
    }

    #[test]
    fn only_what_was_counted_in_the_same_time_and_is_the_nodes_own_fault_counts() {
        let mut count = Handshakes::begun(NOW);
        // The old node had trouble long ago, and both refuse what they should.
        assert!(!look(&mut count, 2_000, (1_000, 900), (0, 0)));
        assert!(!look(&mut count, 4_000, (1_100, 900), (100, 4)), "4 % of 104");
        assert!(look(&mut count, 6_000, (1_200, 900), (150, 30)), "its trouble of before is no excuse");
        let said = count.regress().unwrap();
        assert!(said.contains("16 % of 180 handshakes") && said.contains("0 % of 200"), "{said}");
        let mut both = Handshakes::begun(NOW);
        look(&mut both, 2_000, (1_000, 0), (0, 0));
        assert!(!look(&mut both, 4_000, (1_100, 30), (100, 30)), "the old one as well");
        let mut few = Handshakes::begun(NOW);
        assert!(!look(&mut few, 2_000, (1_000, 0), (1, 19)), "too few to tell");
    }

    #[test]
    fn what_a_process_counted_before_says_nothing_and_late_trouble_shows() {
        let mut count = Handshakes::begun(NOW + 60_000);
        assert!(!look(&mut count, 60_000, (0, 0), (100, 90)), "it is older than this count");
        assert!(look(&mut count, 62_000, (0, 0), (100, 110)));
        let mut long = Handshakes::begun(NOW);
        assert!(!look(&mut long, 2_000, (0, 0), (1_000_000, 0)));
        assert!(!look(&mut long, COUNTED_MILLIS, (0, 0), (1_000_000, 20)));
        assert!(look(&mut long, COUNTED_MILLIS + 2_000, (0, 0), (1_000_010, 50)), "counted anew");
    }

    #[test]
    fn a_process_that_was_started_again_counts_from_its_start() {
        let mut count = Handshakes::begun(NOW);
        for (began, at) in [(1_000, 2_000), (3_000, 4_000)] {
            let now = NOW + at;
            let new = node("new", NOW + began, now, 0, 15);
            count.look(&[&new], &[], now);
        }
        assert!(count.regress().is_some_and(|said| said.contains("100 % of 30")));
    }
}
