//! A trace: what a fleet goes through.

use crds::ChannelClusterSpec;

use super::curve::Curve;

/// Clients that behave alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// How many of them there are, over time.
    pub clients: Curve,
    /// Messages per second that are delivered to each of them, over time.
    pub writes: Curve,
    /// How long a client stays connected on average, in seconds. As many come anew as go.
    pub session_seconds: f64,
}

/// Nodes that something happens to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Which {
    /// Every one.
    All,
    /// So many of the oldest.
    Oldest(usize),
    /// Those whose number, counted from the first node ever made, leaves this rest when divided by the other.
    Every(u32, u32),
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trouble {
    /// The admin port does not answer, neither to questions nor to orders.
    Silent(Which),
    /// The admin port gives the same answer again and again, its clock included.
    Repeats(Which),
    /// The counters stand still, all else goes on.
    Stands(Which),
    /// The counter of writes is so much higher from then on.
    Wild(Which, f64),
    /// The process ends each so many seconds, and runs again after so many.
    Crashes(Which, u32, u32),
    /// The pods are deleted, once.
    Deleted(Which),
    /// New pods take so many seconds to become ready.
    SlowStart(u32),
    /// Another operator, which knows nothing but the status, takes over each so many seconds.
    Restarts(u32),
    /// The operator dies in each look that is a multiple of this, after none, some or all of its writes by turns.
    Dies(u32),
}

/// A trouble with its time, in seconds: from, until.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// The second in which it begins.
    pub from: u32,
    /// The second in which it is over.
    pub until: u32,
    /// What goes wrong.
    pub what: Trouble,
}

impl Fault {
    /// Whether it lasts in this second.
    pub(super) fn is_on(&self, now: u32) -> bool {
        (self.from..self.until).contains(&now)
    }
}

/// How large the fleet may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// `nodes.min`.
    pub min: i32,
    /// `nodes.max`.
    pub max: i32,
    /// `targetConnections`.
    pub target_connections: u64,
}

impl Bounds {
    /// Those of a manifest.
    #[must_use]
    pub fn of(spec: &ChannelClusterSpec) -> Self {
        Self { min: spec.nodes.min, max: spec.nodes.max, target_connections: spec.target_connections }
    }
}

/// Load that goes up at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// The second in which it begins.
    pub at: u32,
    /// The second in which the load is all there.
    pub whole: u32,
}

/// What a fleet goes through.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// Its name: lower case with dashes.
    pub name: String,
    /// Length in seconds.
    pub seconds: u32,
    /// The clients.
    pub groups: Vec<Group>,
    /// How fast a node is, by its number, as a part of what the spec says; used in turn.
    pub speeds: Vec<f64>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// How large the fleet may be at first.
    pub bounds: Bounds,
    /// Other bounds from a second on.
    pub changes: Vec<(u32, Bounds)>,
    /// Nodes at the beginning.
    pub nodes: i32,
    /// Seconds from the making of a pod to its being ready.
    pub starts_in: u32,
    /// Jumps, for the time until enough nodes are asked for.
    pub jumps: Vec<Jump>,
    /// From and until when the figures cannot be trusted while the load is the same, in seconds.
    pub doubts: Vec<(u32, u32)>,
    /// Whether the load is the same at all times, so that no change of the count is ever taken back.
    pub constant: bool,
}

/// What all clients of a trace ask for at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Demand {
    /// Messages to deliver per second.
    pub writes: f64,
    /// Clients.
    pub clients: f64,
}

impl Trace {
    /// A trace of one group of clients, in which nothing goes wrong.
    #[must_use]
    pub fn of(name: impl Into<String>, seconds: u32, nodes: i32, group: Group) -> Self {
        Self {
            name: name.into(),
            seconds,
            groups: vec![group],
            speeds: vec![1.0],
            faults: Vec::new(),
            bounds: Bounds { min: 2, max: 20, target_connections: 1_000 },
            changes: Vec::new(),
            nodes,
            starts_in: 4,
            jumps: Vec::new(),
            doubts: Vec::new(),
            constant: false,
        }
    }

    /// Reads a trace from lines of `second,clients,writes per second`, in order; a first line of words is left out.
    /// Clients stay connected for `session_seconds` on average. The fleet begins with `nodes` nodes.
    ///
    /// # Errors
    /// The line that cannot be read, and why.
    pub fn from_csv(name: &str, text: &str, session_seconds: f64, nodes: i32) -> Result<Self, String> {
        let (mut clients, mut writes) = (Vec::new(), Vec::new());
        let mut last = -1.0;
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            if line.trim().is_empty() || (index == 0 && line.starts_with(|c: char| c.is_alphabetic())) {
                continue;
            }
            let fields: Result<Vec<f64>, _> = line.split(',').map(|field| field.trim().parse()).collect();
            let Ok(&[second, count, rate]) = fields.as_deref() else {
                return Err(format!(
                    "line {number}: write second,clients,writes per second as three numbers"
                ));
            };
            let sound = |figure: f64| figure.is_finite() && figure >= 0.0;
            let in_order = second > last && second <= MOST_SECONDS;
            if !(sound(count) && sound(rate) && in_order) {
                return Err(format!(
                    "line {number}: seconds must go up, to {MOST_SECONDS} at most, and no figure may be below 0"
                ));
            }
            last = second;
            clients.push((second, count));
            writes.push((second, if count > 0.0 { rate / count } else { 0.0 }));
        }
        if clients.is_empty() {
            return Err("no line with figures".to_owned());
        }
        let group = Group {
            clients: Curve::through(&clients),
            writes: Curve::through(&writes),
            session_seconds: session_seconds.max(1.0),
        };
        Ok(Self::of(name, last as u32 + 1, nodes, group))
    }

    /// What all clients ask for at a second.
    #[must_use]
    pub fn demand(&self, second: u32) -> Demand {
        let at = f64::from(second);
        self.groups.iter().fold(Demand::default(), |sum, group| {
            let clients = group.clients.at(at).max(0.0);
            Demand {
                writes: sum.writes + clients * group.writes.at(at).max(0.0),
                clients: sum.clients + clients,
            }
        })
    }

    /// The bounds at a second.
    #[must_use]
    pub fn bounds(&self, second: u32) -> Bounds {
        let before = self.changes.iter().rev().find(|(at, _)| *at <= second);
        before.map_or(self.bounds, |(_, bounds)| *bounds)
    }
}

/// Longest trace, in seconds: a month.
pub const MOST_SECONDS: f64 = 2_678_400.0;

#[cfg(test)]
mod tests {
    use super::{Demand, Trace};

    #[test]
    fn a_recorded_trace_reads_and_a_torn_one_names_its_line() {
        let text = "second,clients,writes\n0,100,1000\n60, 200, 4000\n";
        let trace = Trace::from_csv("given", text, 1_800.0, 2).unwrap();
        assert_eq!((trace.seconds, trace.demand(60)), (61, Demand { writes: 4_000.0, clients: 200.0 }));
        for (text, line) in
            [("0,1\n", "line 1"), ("0,1,1\n0,1,1\n", "line 2"), ("0,-1,1\n", "line 1"), ("", "no line")]
        {
            let error = Trace::from_csv("given", text, 1_800.0, 2).unwrap_err();
            assert!(error.contains(line), "{text:?}: {error}");
        }
    }
}
