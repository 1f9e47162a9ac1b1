//! The page that says how well each controller decides.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::measures::{Measures, median};
use super::{Controller, Run, Sums};

/// Measures of a trace by controller.
type ByTrace<'a> = BTreeMap<Controller, &'a Measures>;

/// Traces that are drawn, with the controllers that are drawn beside the operator.
pub const DRAWN: [(&str, &[Controller]); 8] = [
    ("day", &[Controller::HpaCpu, Controller::Kpa]),
    ("crowd-joins-5s", &[Controller::HpaCpu, Controller::Keda]),
    ("crowd-talks", &[Controller::HpaCpu, Controller::Kpa]),
    ("step-huge", &[Controller::HpaCpu, Controller::Kpa]),
    ("saw-480s", &[Controller::HpaCpu, Controller::Keda]),
    ("esports", &[Controller::HpaCpu, Controller::Kpa]),
    ("hot-room", &[Controller::HpaCpu, Controller::IdealMoving]),
    ("stands-half", &[Controller::HpaWrites, Controller::Kpa]),
];

/// Sums of all runs by controller.
#[must_use]
pub fn sums(runs: &[Run]) -> Sums {
    let mut sums = Sums::new();
    for run in runs {
        sums.entry(run.controller).or_default().add(&run.measures);
    }
    sums
}

/// The measures of one trace with one controller.
#[must_use]
pub fn of<'a>(runs: &'a [Run], trace: &str, controller: Controller) -> Option<&'a Measures> {
    runs.iter().find(|run| run.trace == trace && run.controller == controller).map(|run| &run.measures)
}

/// The tables in Markdown.
#[must_use]
pub fn tables(runs: &[Run]) -> String {
    let headed = |heading: &str, table: String| format!("### {heading}\n\n{table}\n");
    [
        headed("Goals", table_of_goals(runs, Controller::Operator)),
        headed(
            "Goals, of the operator with rebalance.mode Auto",
            table_of_goals(runs, Controller::OperatorMoving),
        ),
        headed("Sums", totals(&sums(runs))),
        headed("Each trace", traces(runs)),
        headed("Wrong decisions", wrong(runs)),
    ]
    .concat()
}

/// Fleets whose nodes can do other than the manifest says, with the number of the manifest and with the learned one.
#[must_use]
pub fn learning(runs: &[Run]) -> String {
    let mut out = "### Capacity, given and learned\n\n| trace | overload, % of writes: given | learned | node-hours: given | learned | most nodes: given | learned | closed: given | learned |\n|---|---|---|---|---|---|---|---|---|\n".to_owned();
    let given = runs.iter().filter(|run| run.controller == Controller::OperatorMoving);
    let both = given.filter_map(|given| {
        let is = |run: &&Run| run.controller == Controller::OperatorLearning && run.trace == given.trace;
        Some((given, runs.iter().find(is)?))
    });
    for (given, learned) in both {
        let pair = |of: &dyn Fn(&Run) -> String| format!("{} | {}", of(given), of(learned));
        writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            given.trace,
            pair(&|run| format!("{:.2}", run.measures.overload_percent())),
            pair(&|run| format!("{:.1}", run.measures.node_seconds / 3_600.0)),
            pair(&|run| run.points.iter().map(|point| point.nodes).max().unwrap_or_default().to_string()),
            pair(&|run| thousands(run.measures.bounced + run.measures.moved)),
        )
        .ok();
    }
    out
}

/// A goal of the operator, with what was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    /// What is measured.
    pub what: &'static str,
    /// The most that it may be.
    pub most: f64,
    /// What it is.
    pub is: f64,
}

/// Head of the table of goals.
const GOALS: &str = "| goal of the operator | at most | measured | |\n|---|---|---|---|\n";

impl Goal {
    /// Whether it is reached.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.is <= self.most
    }

    fn row(&self) -> String {
        let met = if self.is_met() { "met" } else { "not met" };
        format!("| {} | {} | {:.2} | {met} |\n", self.what, self.most, self.is)
    }
}

fn table_of_goals(runs: &[Run], controller: Controller) -> String {
    goals(runs, controller).iter().fold(GOALS.to_owned(), |rows, goal| rows + &goal.row())
}

/// What the operator is to reach over all traces; only the goals that these runs say something about.
#[must_use]
pub fn goals(runs: &[Run], controller: Controller) -> Vec<Goal> {
    let sums = sums(runs);
    let mut goals = Vec::new();
    let Some(own) = sums.get(&controller) else { return goals };
    let mut goal = |what, most, is| goals.push(Goal { what, most, is });
    goal("overload over all traces, % of writes", 0.3, own.overload_percent());
    let day = |controller| {
        let days = runs.iter().filter(|run| run.controller == controller && run.trace.starts_with("day"));
        days.map(|run| run.measures.bounced + run.measures.moved).sum::<f64>()
    };
    let hpa = day(Controller::HpaCpu);
    if hpa > 0.0 {
        goal(
            "clients moved or bounced in a day, over those that HPA on CPU bounces",
            1.5,
            day(controller) / hpa,
        );
    }
    goal("changes back within 10 minutes under constant load", 0.0, own.back_under_constant_load.into());
    goal("node-hours over the least that always suffice", 1.18, own.node_hours_over_least());
    goal("wrong decisions", 0.0, own.wrong.len() as f64);
    goal("decisions that break what must hold of every one", 0.0, own.broken.len() as f64);
    if let Some(latest) = own.enough.iter().max() {
        goal("seconds until enough nodes are asked for after a jump, at worst", 8.0, (*latest).into());
    }
    goal("clients of nodes that were removed before they were empty", 0.0, own.undrained);
    goal(
        "clients closed once more in an episode, % of those closed",
        0.0,
        100.0 * own.again / (own.bounced + own.moved).max(1.0),
    );
    goals
}

fn seconds(all: &[u32]) -> String {
    let worst = all.iter().max().map_or_else(|| "-".to_owned(), u32::to_string);
    median(all).map_or_else(|| "-".to_owned(), |median| format!("{median} / {worst}"))
}

fn thousands(clients: f64) -> String {
    if clients < 0.5 { "0".to_owned() } else { format!("{:.1} k", clients / 1_000.0) }
}

/// The sums over all traces.
#[must_use]
pub fn totals(sums: &Sums) -> String {
    let mut out = "| sums over all traces | overload, % of writes | changes | changes back within 10 min | clients bounced | moved | closed again in an episode | node-hours over the least | first reaction s, median / worst | enough asked for s, median / worst | wrong |\n|---|---|---|---|---|---|---|---|---|---|---|\n".to_owned();
    for (controller, m) in sums {
        writeln!(
            out,
            "| {} | {:.2} | {} | {} | {} | {} | {} | {:.3} | {} | {} | {} |",
            controller.name(),
            m.overload_percent(),
            m.changes,
            m.back,
            thousands(m.bounced),
            thousands(m.moved),
            thousands(m.again),
            m.node_hours_over_least(),
            seconds(&m.reactions),
            seconds(&m.enough),
            m.wrong.len(),
        )
        .ok();
    }
    out
}

/// What each controller did wrong.
fn wrong(runs: &[Run]) -> String {
    let mut out = "| trace | controller | second | wrong |\n|---|---|---|---|\n".to_owned();
    for run in runs {
        for (second, words) in &run.measures.wrong {
            writeln!(out, "| {} | {} | {second} | {words} |", run.trace, run.controller.name()).ok();
        }
    }
    out
}

/// Each trace in a line.
fn traces(runs: &[Run]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for run in runs {
        if names.last() != Some(&run.trace.as_str()) && !names.contains(&run.trace.as_str()) {
            names.push(&run.trace);
        }
    }
    let mut out = "| trace |".to_owned();
    Controller::ALL.iter().for_each(|c| {
        write!(out, " {} |", c.name()).ok();
    });
    out.push_str(" closed: operator | closed: HPA, CPU | closed again: operator | node-hours: operator | node-hours: HPA, CPU | enough asked for, s: operator | the same: operator that moves |\n|---|");
    out.push_str(&"---|".repeat(Controller::ALL.len() + 7));
    out.push('\n');
    for name in names {
        let of: ByTrace<'_> =
            Controller::ALL.iter().filter_map(|c| Some((*c, of(runs, name, *c)?))).collect();
        write!(out, "| {name} |").ok();
        for controller in Controller::ALL {
            write!(out, " {} |", figure(&of, controller, |m| format!("{:.2}", m.overload_percent()))).ok();
        }
        let closed = |m: &Measures| thousands(m.bounced + m.moved);
        let hours = |m: &Measures| format!("{:.2}", m.node_hours_over_least());
        writeln!(
            out,
            " {} | {} | {} | {} | {} | {} | {} |",
            figure(&of, Controller::Operator, closed),
            figure(&of, Controller::HpaCpu, closed),
            figure(&of, Controller::Operator, |m| thousands(m.again)),
            figure(&of, Controller::Operator, hours),
            figure(&of, Controller::HpaCpu, hours),
            figure(&of, Controller::Operator, |m| seconds(&m.enough)),
            figure(&of, Controller::OperatorMoving, |m| seconds(&m.enough)),
        )
        .ok();
    }
    out
}

fn figure(of: &ByTrace<'_>, controller: Controller, say: impl Fn(&Measures) -> String) -> String {
    of.get(&controller).map_or_else(|| "-".to_owned(), |measures| say(measures))
}
