//! The ways to break a fleet, and the misses that each of them explains.

use std::{collections::BTreeSet, str::FromStr};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::{
    Millis,
    ledger::{Disorder, MARGIN, Miss},
};

/// A way to break a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A node pod is deleted: it drains. It explains no miss.
    DeletePod,
    /// A node's process is killed.
    KillNode,
    /// A node's process stands still for a while.
    FreezeNode,
    /// The pod of NATS is deleted.
    DeleteNats,
    /// NATS stands still for a while.
    FreezeNats,
    /// The API server is killed and started again. It explains no miss.
    KillApi,
    /// The leading operator's process is killed. It explains no miss.
    KillOperator,
    /// The least number of nodes changes: nodes come, or are drained and go. It explains no miss.
    Scale,
    /// A node's packets to NATS are dropped for a while.
    CutBus,
    /// A node's packets to and from clients are dropped for a while.
    CutClients,
    /// The operators' packets to the nodes' admin port are dropped for a while. It explains no miss.
    CutAdmin,
}

/// All kinds by their names.
pub const KINDS: [(&str, Kind); 11] = [
    ("delete-pod", Kind::DeletePod),
    ("kill-node", Kind::KillNode),
    ("freeze-node", Kind::FreezeNode),
    ("delete-nats", Kind::DeleteNats),
    ("freeze-nats", Kind::FreezeNats),
    ("kill-api", Kind::KillApi),
    ("kill-operator", Kind::KillOperator),
    ("scale", Kind::Scale),
    ("cut-bus", Kind::CutBus),
    ("cut-clients", Kind::CutClients),
    ("cut-admin", Kind::CutAdmin),
];

impl Kind {
    /// Its name, as in `--faults`.
    #[must_use]
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        KINDS.iter().find(|(name, _)| *name == text).map(|(_, kind)| *kind).ok_or_else(|| {
            let names: Vec<_> = KINDS.iter().map(|(name, _)| *name).collect();
            format!("no fault {text:?}; there are {}", names.join(", "))
        })
    }
}

/// A planned fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Time after the fleet has recovered from the previous fault, in milliseconds.
    pub pause: Millis,
    /// The kind.
    pub kind: Kind,
    /// How long it lasts, in milliseconds, if it is one that lasts.
    pub lasts: Millis,
    /// Chooses one of the possible targets.
    pub choice: usize,
}

/// Draws faults one after the other; the same seed draws the same faults.
#[derive(Debug)]
pub struct Plan {
    random: StdRng,
    kinds: Vec<Kind>,
    before: Option<Kind>,
}

impl Plan {
    /// Draws from these kinds.
    ///
    /// # Panics
    /// When there are none.
    #[must_use]
    pub fn new(seed: u64, kinds: &BTreeSet<Kind>) -> Self {
        assert!(!kinds.is_empty(), "there is nothing to break");
        Self { random: StdRng::seed_from_u64(seed), kinds: kinds.iter().copied().collect(), before: None }
    }
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        // No kind comes twice in a row: a NATS that is killed twice within minutes would wait for the kubelet's
        // back-off.
        let others: Vec<_> = self.kinds.iter().copied().filter(|kind| Some(*kind) != self.before).collect();
        let kind = others.choose(&mut self.random).copied().unwrap_or(self.kinds[0]);
        self.before = Some(kind);
        let lasts = match kind {
            Kind::CutAdmin => 10_000..=30_000,
            Kind::CutClients => 1_000..=8_000,
            _ => 2_000..=15_000,
        };
        Some(Step {
            pause: self.random.random_range(2_000..=10_000),
            kind,
            lasts: self.random.random_range(lasts),
            choice: self.random.random_range(0..1_000),
        })
    }
}

/// A fault that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The kind.
    pub kind: Kind,
    /// The target: the name of a node where it was a node.
    pub target: String,
    /// When it began.
    pub from: Millis,
    /// When it was undone; where nothing is to be undone, the same as `from`.
    pub undone: Millis,
    /// When a client last missed a message, went or came back; not before `undone`.
    pub until: Millis,
}

impl Fault {
    /// Whether the message was under way while this fault may have kept it from the receiver.
    #[must_use]
    pub fn explains(&self, miss: &Miss) -> bool {
        self.touches(miss.at, miss.from_node.as_deref(), miss.to_node.as_deref())
    }

    /// Whether this fault held back a message that came late, on another way than the later message that overtook it:
    /// within one connection nothing excuses that.
    #[must_use]
    pub fn excuses(&self, disorder: &Disorder) -> bool {
        let Disorder { at, from_node, to_node, one_connection, .. } = disorder;
        let holds_back =
            matches!(self.kind, Kind::FreezeNode | Kind::FreezeNats | Kind::CutClients | Kind::CutBus);
        !one_connection && holds_back && self.touches(*at, from_node.as_deref(), to_node.as_deref())
    }

    fn touches(&self, at: Millis, from: Option<&str>, to: Option<&str>) -> bool {
        let Self { target, .. } = self;
        // A client whose node never became known may have been on any.
        let is_target = |node: Option<&str>| node.is_none_or(|node| node == target);
        let between_nodes = from.is_none() || to.is_none() || from != to;
        let (touched, until) = match self.kind {
            // Its clients notice within milliseconds; messages that they had sent before are lost with it.
            Kind::KillNode => (is_target(from), self.from),
            Kind::FreezeNode | Kind::CutClients => (is_target(from) || is_target(to), self.until),
            Kind::DeleteNats | Kind::FreezeNats => (between_nodes, self.until),
            Kind::CutBus => (between_nodes && (is_target(from) || is_target(to)), self.until),
            Kind::DeletePod | Kind::KillApi | Kind::KillOperator | Kind::Scale | Kind::CutAdmin => {
                return false;
            }
        };
        touched && self.from <= at + MARGIN && at <= until + MARGIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(kind: Kind, target: &str) -> Fault {
        Fault { kind, target: target.to_owned(), from: 10_000, undone: 15_000, until: 20_000 }
    }

    fn miss(at: Millis, from: &str, to: &str) -> Miss {
        let node = |name: &str| Some(name.to_owned());
        let (from_node, to_node) = (node(from), node(to));
        Miss { publisher: 0, number: 0, at, receiver: 1, from_node, to_node, publisher_end: None }
    }

    #[test]
    fn a_polite_goodbye_explains_nothing() {
        for kind in [Kind::DeletePod, Kind::Scale, Kind::KillApi, Kind::KillOperator, Kind::CutAdmin] {
            assert!(!fault(kind, "a").explains(&miss(12_000, "a", "b")), "{kind:?}");
        }
    }

    #[test]
    fn a_killed_node_explains_what_its_own_clients_had_just_sent() {
        let killed = fault(Kind::KillNode, "a");
        assert!(killed.explains(&miss(9_500, "a", "b")) && killed.explains(&miss(10_900, "a", "a")));
        assert!(!killed.explains(&miss(8_000, "a", "b")), "long before");
        assert!(!killed.explains(&miss(11_500, "a", "b")), "long after");
        assert!(!killed.explains(&miss(9_500, "b", "a")), "who was on it is away");
        assert!(!killed.explains(&miss(9_500, "b", "c")), "others");
    }

    #[test]
    fn without_nats_only_what_goes_between_nodes_is_missed_and_only_until_it_is_back() {
        let away = fault(Kind::DeleteNats, "");
        assert!(away.explains(&miss(15_000, "a", "b")) && !away.explains(&miss(15_000, "a", "a")));
        assert!(!away.explains(&miss(21_500, "a", "b")));
        let cut = fault(Kind::CutBus, "a");
        assert!(cut.explains(&miss(15_000, "b", "a")) && !cut.explains(&miss(15_000, "b", "c")));
    }

    #[test]
    fn nothing_excuses_a_disorder_within_one_connection() {
        let frozen = fault(Kind::FreezeNode, "a");
        let mut disorder = Disorder {
            publisher: 0,
            number: 1,
            after: 2,
            receiver: 1,
            at: 12_000,
            one_connection: false,
            from_node: Some("a".to_owned()),
            to_node: Some("b".to_owned()),
        };
        assert!(frozen.excuses(&disorder) && !fault(Kind::KillNode, "a").excuses(&disorder));
        disorder.one_connection = true;
        assert!(!frozen.excuses(&disorder));
    }

    #[test]
    fn one_seed_is_one_plan_of_the_kinds_that_were_asked_for() {
        let kinds = BTreeSet::from([Kind::Scale, Kind::KillApi]);
        let steps: Vec<_> = Plan::new(7, &kinds).take(20).collect();
        assert_eq!(steps, Plan::new(7, &kinds).take(20).collect::<Vec<_>>());
        assert!(steps.windows(2).all(|pair| pair[0].kind != pair[1].kind));
        assert_eq!(
            Plan::new(7, &BTreeSet::from([Kind::Scale])).take(3).count(),
            3,
            "one kind alone goes, too"
        );
        let all: BTreeSet<_> = KINDS.iter().map(|(_, kind)| *kind).collect();
        let drawn: BTreeSet<_> = Plan::new(1, &all).take(300).map(|step| step.kind).collect();
        assert_eq!(drawn, all);
    }

    #[test]
    fn kinds_are_read_by_their_names() {
        for (name, kind) in KINDS {
            assert_eq!((name.parse(), kind.name()), (Ok(kind), name));
        }
        assert!("kill".parse::<Kind>().unwrap_err().contains("kill-node"));
    }
}
