//! The fleet and its clients, second by second.

use node_core::admin::{NodePhase, Stats};

use super::cohort::{Cohort, add, born, count};
use super::measures::{Look, Watch};
use super::node::Node;
use super::trace::{Bounds, Fault, Trace, Trouble, Which};
use crate::capacity::{self, Sizing};

/// An episode of closing clients ends when none was closed for so many seconds.
const EPISODE_SECONDS: u32 = 60;
/// Clients that a node takes at most, as a multiple of the connections that it is sized for: there is a limit of open
/// files and of memory beyond that.
const ROOM_FOR: f64 = 2.5;
/// How far from the target nothing has to be done, for what a jump needs: the tolerance of every controller here.
const TOLERANCE: f64 = 0.1;

/// Why clients were closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Their node goes.
    Leaves,
    /// Load is moved.
    Moves,
    /// Something broke.
    Breaks,
}

/// What comes back when a node is asked.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// What it says.
    Stats(Box<Stats>),
    /// Nothing in time.
    Nothing,
    /// Nothing listens.
    Refused,
}

/// The world.
#[derive(Clone, Debug)]
pub(super) struct World<'a> {
    pub(super) trace: &'a Trace,
    pub(super) sizing: Sizing,
    pub(super) now: u32,
    /// The pods, oldest first.
    pub(super) nodes: Vec<Node>,
    /// The Deployment's replicas.
    pub(super) replicas: i32,
    pub(super) watch: Watch,
    /// Writes/s that are delivered within the second.
    pub(super) delivered: f64,
    /// Writes/s that are lost within the second.
    pub(super) lost: f64,
    /// Clients without a node, which try again each second.
    waiting: Vec<Cohort>,
    /// Writes/s per client, by group.
    per_client: Vec<f64>,
    made: u32,
    starts_in: u32,
    closed_at: Option<u32>,
}

impl<'a> World<'a> {
    /// The fleet of a trace at its beginning: its nodes are ready, and its clients are spread over them.
    pub(super) fn new(trace: &'a Trace, sizing: Sizing) -> Self {
        let mut world = Self {
            trace,
            sizing,
            now: 0,
            nodes: Vec::new(),
            replicas: trace.nodes,
            watch: Watch::new(&trace.doubts),
            delivered: 0.0,
            lost: 0.0,
            waiting: Vec::new(),
            per_client: vec![0.0; trace.groups.len()],
            made: 0,
            starts_in: 0,
            closed_at: None,
        };
        world.replica_set();
        for node in &mut world.nodes {
            (node.phase, node.in_service) = (NodePhase::Serving, true);
        }
        world.starts_in = trace.starts_in;
        world.clients();
        world
    }

    /// The bounds now.
    pub(super) fn bounds(&self) -> Bounds {
        self.trace.bounds(self.now)
    }

    /// The fewest nodes that the bounds allow.
    pub(super) fn fewest(&self) -> i32 {
        let bounds = self.bounds();
        let floor = self.sizing.floor(bounds.target_connections);
        bounds.min.max(floor).min(bounds.max)
    }

    /// Nodes, not rounded, that a second's load needs at the target utilization.
    pub(super) fn need(&self, second: u32) -> f64 {
        let demand = self.trace.demand(second);
        let writes = demand.writes / self.sizing.target_writes();
        writes.max(demand.clients / self.sizing.target_connections())
    }

    /// As many nodes as a need asks for, within the bounds.
    pub(super) fn within(&self, need: f64) -> i32 {
        capacity::whole(need).clamp(self.fewest(), self.bounds().max)
    }

    /// Nodes that are to stay.
    pub(super) fn staying(&self) -> i32 {
        count_of(self.nodes.iter().filter(|node| !node.leaves()).count())
    }

    /// Lets a second pass; the controller looks at what is there afterwards.
    pub(super) fn pass(&mut self) {
        self.now += 1;
        self.troubles();
        self.pods();
        self.clients();
        self.deliver();
        self.measure();
    }

    fn troubles(&mut self) {
        let now = self.now;
        self.starts_in = self.trace.starts_in;
        for fault in &self.trace.faults {
            let Fault { from, until, what } = *fault;
            if now == until {
                self.over(what);
            }
            if now >= from && now < until {
                self.trouble(what, now - from);
            }
        }
    }

    /// Something goes wrong, since so many seconds.
    fn trouble(&mut self, what: Trouble, since: u32) {
        match what {
            Trouble::Silent(_) | Trouble::Restarts(_) | Trouble::Dies(_) => {}
            Trouble::SlowStart(seconds) => self.starts_in = seconds,
            Trouble::Repeats(which) => {
                let now = self.now;
                for index in self.those(which) {
                    let node = &mut self.nodes[index];
                    if node.runs() && node.frozen.is_none() {
                        node.frozen = Some(node.says(now));
                    }
                }
            }
            Trouble::Stands(which) => {
                for index in self.those(which) {
                    let node = &mut self.nodes[index];
                    node.stands = node.stands.or(Some(node.writes + node.wild));
                }
            }
            Trouble::Wild(which, by) if since == 0 => {
                self.those(which).into_iter().for_each(|index| self.nodes[index].wild += by);
            }
            Trouble::Crashes(which, each, down) if since.is_multiple_of(each.max(1)) => {
                for index in self.those(which) {
                    if self.nodes[index].runs() {
                        let closed = self.nodes[index].end_process(self.now + down);
                        self.closed(closed, Why::Breaks);
                    }
                }
            }
            Trouble::Deleted(which) if since == 0 => {
                let mut gone = self.those(which);
                while let Some(index) = gone.pop() {
                    let node = self.nodes.remove(index);
                    self.closed(node.clients, Why::Breaks);
                }
            }
            Trouble::Wild(..) | Trouble::Crashes(..) | Trouble::Deleted(_) => {}
        }
    }

    fn over(&mut self, what: Trouble) {
        match what {
            Trouble::Repeats(_) => self.nodes.iter_mut().for_each(|node| node.frozen = None),
            Trouble::Stands(_) => self.nodes.iter_mut().for_each(|node| node.stands = None),
            _ => {}
        }
    }

    /// Indices of some nodes, in order.
    fn those(&self, which: Which) -> Vec<usize> {
        let is = |(index, node): &(usize, &Node)| match which {
            Which::All => true,
            Which::Oldest(count) => *index < count,
            Which::Every(each, rest) => node.number % each.max(1) == rest,
        };
        self.nodes.iter().enumerate().filter(is).map(|(index, _)| index).collect()
    }

    /// Pods start, processes come back, endpoints follow the nodes after a second, closing nodes close.
    fn pods(&mut self) {
        self.replica_set();
        let (now, mut closed, mut moved) = (self.now, Vec::new(), Vec::new());
        for node in &mut self.nodes {
            node.came = 0.0;
            let is_ready = node.phase == NodePhase::Serving;
            moved.extend(node.move_on(&self.per_client, now));
            node.in_service = is_ready && node.down_until.is_none() && node.moves(now).is_none();
            if node.phase == NodePhase::Starting && now >= node.ready_at.max(node.down_until.unwrap_or(0)) {
                (node.phase, node.down_until, node.in_service) = (NodePhase::Serving, None, true);
            }
            if node.phase == NodePhase::Closing {
                let held = count(&node.clients);
                let part = if held <= node.close_rate + 0.5 { 1.0 } else { node.close_rate / held };
                closed.extend(node.close(|_, _| part));
                if node.clients.is_empty() {
                    node.phase = NodePhase::Closed;
                }
            }
            if now.is_multiple_of(60) {
                node.compact(now);
            }
        }
        self.closed(closed, Why::Leaves);
        self.closed(moved, Why::Moves);
    }

    /// Clients lose their connection; they try again in the next second.
    pub(super) fn closed(&mut self, clients: Vec<Cohort>, why: Why) {
        self.count_closed(&clients, why);
        for cohort in clients {
            add(&mut self.waiting, Cohort { moved: cohort.moved || why != Why::Breaks, ..cohort });
        }
    }

    /// Counts clients that are closed.
    pub(super) fn count_closed(&mut self, clients: &[Cohort], why: Why) {
        let total = count(clients);
        let measures = &mut self.watch.measures;
        match why {
            Why::Leaves => measures.bounced += total,
            Why::Moves => measures.moved += total,
            Why::Breaks => return,
        }
        if total > 0.0 {
            measures.again += clients.iter().filter(|c| c.moved).map(|c| c.count).sum::<f64>();
            self.closed_at = Some(self.now);
        }
    }

    /// Clients go by themselves, others come, and those without a node are spread over the nodes in the Service.
    fn clients(&mut self) {
        self.end_episode();
        let (now, at) = (self.now, f64::from(self.now));
        let mut due: Vec<Cohort> = self.waiting.drain(..).map(|c| Cohort { born: born(now), ..c }).collect();
        for (index, group) in self.trace.groups.iter().enumerate() {
            self.per_client[index] = group.writes.at(at).max(0.0);
            let stays = 1.0 - 1.0 / group.session_seconds.max(1.0);
            let held: f64 = self
                .nodes
                .iter()
                .flat_map(|node| &node.clients)
                .chain(&due)
                .filter(|c| c.group == index)
                .map(|c| c.count)
                .sum();
            let wanted = group.clients.at(at).max(0.0);
            let stays = if held > 0.0 { stays.min(wanted / held) } else { stays };
            let lists = self.nodes.iter_mut().map(|node| &mut node.clients).chain([&mut due]);
            for clients in lists {
                clients.iter_mut().filter(|c| c.group == index).for_each(|c| c.count *= stays);
            }
            let come = wanted - held * stays;
            add(&mut due, Cohort { group: index, born: born(now), moved: false, count: come });
        }
        let most = self.sizing.connections * ROOM_FOR;
        let mut open: Vec<&mut Node> = self
            .nodes
            .iter_mut()
            .filter(|node| node.in_service && node.runs() && count(&node.clients) < most)
            .collect();
        if open.is_empty() {
            self.waiting = due;
            return;
        }
        let share = 1.0 / open.len() as f64;
        for node in &mut open {
            due.iter().for_each(|cohort| node.take(Cohort { count: cohort.count * share, ..*cohort }));
        }
    }

    fn end_episode(&mut self) {
        if self.closed_at.is_some_and(|at| self.now - at > EPISODE_SECONDS) {
            self.closed_at = None;
            let lists = self.nodes.iter_mut().map(|node| &mut node.clients);
            lists.chain([&mut self.waiting]).flatten().for_each(|c| c.moved = false);
        }
    }

    fn deliver(&mut self) {
        let asked: f64 = self.waiting.iter().map(|c| c.count * self.per_client[c.group]).sum();
        (self.delivered, self.lost) = (0.0, asked);
        for node in &mut self.nodes {
            if !node.runs() {
                continue;
            }
            let before = node.sent;
            self.lost += node.deliver(&self.per_client);
            self.delivered += node.sent - before;
        }
    }

    fn measure(&mut self) {
        let now = self.now;
        let (demand, staying) = (self.trace.demand(now), self.staying());
        let least = self.within(self.need(now));
        for jump in self.trace.jumps.iter().filter(|jump| jump.at == now) {
            let needed = self.within(self.need(jump.whole) / (1.0 + TOLERANCE));
            self.watch.jump(*jump, staying, needed);
        }
        if self.trace.changes.iter().any(|(at, _)| *at == now) {
            self.watch.bounds_changed(now);
        }
        let measures = &mut self.watch.measures;
        measures.writes += demand.writes;
        measures.overload += self.lost;
        measures.node_seconds += self.nodes.len() as f64;
        measures.least_seconds += f64::from(least);
        let max = self.trace.bounds(now).max;
        self.watch.look(Look { now, staying, least, max });
    }

    /// Whether the admin port of a node answers, for questions and for orders.
    pub(super) fn reaches(&self, index: usize) -> bool {
        let is = |fault: &&Fault| {
            let silent = matches!(fault.what, Trouble::Silent(which) if self.those(which).contains(&index));
            silent && fault.is_on(self.now)
        };
        !self.trace.faults.iter().any(|fault| is(&fault))
    }

    /// Asks a node for its figures.
    pub(super) fn ask(&self, index: usize) -> Answer {
        let node = &self.nodes[index];
        if !self.reaches(index) {
            return Answer::Nothing;
        }
        if !node.runs() {
            return Answer::Refused;
        }
        Answer::Stats(Box::new(node.frozen.clone().unwrap_or_else(|| node.says(self.now))))
    }

    /// Sets the Deployment's replicas. Pods that go are deleted at once, with the clients that they have.
    pub(super) fn scale(&mut self, replicas: i32) {
        self.replicas = replicas.max(0);
        self.replica_set();
    }

    /// The ReplicaSet controller: makes the pods that are missing, and deletes those that are too many in the order of
    /// `ActivePodsWithRanks` of Kubernetes 1.34: pending ones, those not ready, the lowest deletion cost, the newest.
    fn replica_set(&mut self) {
        let wanted = usize::try_from(self.replicas).unwrap_or(0);
        while self.nodes.len() < wanted {
            let speeds = &self.trace.speeds;
            let speed = speeds.get(self.made as usize % speeds.len().max(1)).copied().unwrap_or(1.0);
            let capacity = self.sizing.writes_per_second * speed;
            self.nodes.push(Node::new(self.made, self.now, self.starts_in, capacity));
            self.made += 1;
        }
        while self.nodes.len() > wanted {
            let rank = |node: &Node| {
                let pending = node.phase == NodePhase::Starting && node.restarts == 0;
                (!pending, node.in_service, node.cost.unwrap_or(0), std::cmp::Reverse(node.number))
            };
            let Some(goes) = (0..self.nodes.len()).min_by_key(|index| rank(&self.nodes[*index])) else {
                return;
            };
            let node = self.nodes.remove(goes);
            self.watch.measures.undrained += count(&node.clients);
            self.closed(node.clients, Why::Leaves);
        }
    }
}

/// As many, as Kubernetes counts.
pub(super) fn count_of(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
