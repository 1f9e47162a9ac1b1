//! `simulate`: a fleet of a manifest under a load, in virtual time, decided by the operator's own core.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use crds::ChannelCluster;
use operator_core::capacity::{self, Sizing};
use operator_core::plan::number;
use operator_core::world::measures::median;
use operator_core::world::trace::Bounds;
use operator_core::world::{self, Controller, Run, Trace, traces};
use serde::Serialize;

use crate::args::{Other, Simulate};
use crate::draw::{Moment, chart};
use crate::manifest;
use crate::table::Table;
use crate::{FINE, output};

/// Longest trace file that is read, in bytes: a month of seconds.
const TRACE_BYTES: u64 = 64 << 20;

/// What a simulation showed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Simulated {
    /// Name of the ChannelCluster.
    pub name: String,
    /// Name of the trace.
    pub trace: String,
    /// Its length in seconds.
    pub seconds: u32,
    /// The operator first, and then those beside it.
    pub runs: Vec<Figures>,
}

/// The figures of one controller.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// The controller.
    pub controller: &'static str,
    /// Writes beyond what nodes could do, in percent of all writes.
    pub overload_percent: f64,
    /// Most nodes at a time.
    pub most_nodes: i32,
    /// Node-hours.
    pub node_hours: f64,
    /// Node-hours over the least that always suffices.
    pub node_hours_over_least: f64,
    /// Clients closed because their node went.
    pub bounced: f64,
    /// Clients closed to move load to other nodes.
    pub moved: f64,
    /// Changes of the node count.
    pub changes: u32,
    /// Changes that took back one of the last ten minutes.
    pub back: u32,
    /// Seconds from a jump of the load until enough nodes were asked for, in the median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enough_seconds: Option<u32>,
    /// Decisions that were wrong, as `second: what`.
    pub wrong: Vec<String>,
}

/// Runs the command; gives the exit code.
///
/// # Errors
/// When the manifest or the trace cannot be used, or the SVG cannot be written.
pub fn run(wanted: &Simulate, out: &mut dyn Write) -> Result<u8> {
    if wanted.list {
        for trace in traces::all(wanted.seed) {
            writeln!(out, "{}", trace.name)?;
        }
        return Ok(FINE);
    }
    let cluster = manifest(wanted)?;
    let trace = trace(wanted, &cluster)?;
    let controllers = wanted.beside.iter().map(|other| controller(*other));
    let runs = std::iter::once(Controller::Operator)
        .chain(controllers)
        .map(|controller| {
            world::run(&trace, &cluster, controller).map_err(|problems| {
                let sentences: Vec<_> = problems.iter().map(ToString::to_string).collect();
                anyhow!("--file: this manifest cannot work: {}", sentences.join("; "))
            })
        })
        .collect::<Result<Vec<_>>>()?;
    if let Some(path) = &wanted.svg {
        let of: Vec<_> = runs.iter().collect();
        fs::write(path, world::plot::svg(&trace.name, &of))
            .with_context(|| format!("--svg: cannot write {}", path.display()))?;
    }
    let simulated = Simulated {
        name: cluster.metadata.name.clone().unwrap_or_default(),
        trace: trace.name.clone(),
        seconds: trace.seconds,
        runs: runs.iter().map(figures).collect(),
    };
    match wanted.form.output {
        Some(format) => output::write(&simulated, format, out)?,
        None => print(&simulated, &runs, wanted, out)?,
    }
    Ok(FINE)
}

/// The one ChannelCluster of the file; without a file that of the traces.
fn manifest(wanted: &Simulate) -> Result<ChannelCluster> {
    let Some(path) = &wanted.manifest.file else {
        return traces::manifest().map_err(|error| anyhow!(error));
    };
    let mut found = manifest::read(path)?;
    if found.len() > 1 {
        bail!("--file: {} has {} ChannelClusters: give a file with one", path.display(), found.len());
    }
    found.pop().map(|(cluster, _)| cluster).context("a ChannelCluster")
}

fn trace(wanted: &Simulate, cluster: &ChannelCluster) -> Result<Trace> {
    let mut trace = match (&wanted.trace, &wanted.kind) {
        (Some(path), _) => recorded(path, wanted)?,
        (None, Some(kind)) => {
            let all = traces::all(wanted.seed);
            let names: Vec<_> = all.iter().map(|trace| trace.name.clone()).collect();
            let found = all.into_iter().find(|trace| trace.name == *kind).with_context(|| {
                format!("--kind: there is no trace {kind:?}: use one of {}", names.join(", "))
            })?;
            scaled(found, cluster)?
        }
        (None, None) => bail!("no load is given: use --trace FILE or --kind NAME; --list names the kinds"),
    };
    if wanted.manifest.file.is_some() && trace.changes.is_empty() {
        trace.bounds = Bounds::of(&cluster.spec);
    }
    if wanted.trace.is_some() {
        trace.nodes = capacity::whole(need(&trace, cluster));
    }
    // The bounds may be the wrong way round; the simulation says so.
    trace.nodes = wanted.nodes.unwrap_or(trace.nodes).max(trace.bounds.min).min(trace.bounds.max);
    Ok(trace)
}

/// Nodes' worth of the load at the beginning.
fn need(trace: &Trace, cluster: &ChannelCluster) -> f64 {
    let (demand, sizing) = (trace.demand(0), Sizing::of_spec(&cluster.spec, None));
    (demand.writes / sizing.target_writes()).max(demand.clients / sizing.target_connections())
}

fn recorded(path: &Path, wanted: &Simulate) -> Result<Trace> {
    let shown = path.display();
    let about = fs::metadata(path).with_context(|| format!("--trace: cannot read {shown}"))?;
    if about.len() > TRACE_BYTES {
        bail!("--trace: {shown} is longer than {TRACE_BYTES} bytes: leave lines out");
    }
    let text = fs::read_to_string(path).with_context(|| format!("--trace: cannot read {shown}"))?;
    let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Trace::from_csv(&name, &text, wanted.session_seconds, 1)
        .map_err(|error| anyhow!("--trace: {shown}: {error}"))
}

/// A trace that was made for the manifest of the traces, as the same number of nodes' worth for another capacity.
fn scaled(mut trace: Trace, cluster: &ChannelCluster) -> Result<Trace> {
    let own = Sizing::of_spec(&traces::manifest().map_err(|error| anyhow!(error))?.spec, None);
    let wanted = Sizing::of_spec(&cluster.spec, None);
    let clients = wanted.connections / own.connections;
    let writes = wanted.writes_per_second / own.writes_per_second;
    for group in &mut trace.groups {
        group.clients = group.clients.clone().times(clients);
        group.writes = group.writes.clone().times(writes / clients);
    }
    Ok(trace)
}

const fn controller(other: Other) -> Controller {
    match other {
        Other::HpaCpu => Controller::HpaCpu,
        Other::HpaWrites => Controller::HpaWrites,
        Other::Kpa => Controller::Kpa,
        Other::Keda => Controller::Keda,
        Other::Ideal => Controller::Ideal,
    }
}

fn figures(run: &Run) -> Figures {
    let measures = &run.measures;
    Figures {
        controller: run.controller.name(),
        overload_percent: measures.overload_percent(),
        most_nodes: run.points.iter().map(|point| point.nodes).max().unwrap_or_default(),
        node_hours: measures.node_seconds / 3_600.0,
        node_hours_over_least: measures.node_hours_over_least(),
        bounced: measures.bounced,
        moved: measures.moved,
        changes: measures.changes,
        back: measures.back,
        enough_seconds: median(&measures.enough),
        wrong: measures.wrong.iter().map(|(second, what)| format!("{second} s: {what}")).collect(),
    }
}

fn print(simulated: &Simulated, runs: &[Run], wanted: &Simulate, out: &mut dyn Write) -> Result<()> {
    writeln!(
        out,
        "{} under {} for {} s of virtual time (seed {})\n",
        simulated.name, simulated.trace, simulated.seconds, wanted.seed
    )?;
    let heads = [
        "CONTROLLER",
        "OVERLOAD",
        "MOST NODES",
        "NODE-HOURS",
        "OVER LEAST",
        "BOUNCED",
        "MOVED",
        "CHANGES",
        "BACK",
        "ENOUGH",
    ];
    let mut table = Table::new(&heads);
    for figures in &simulated.runs {
        table.row([
            figures.controller.to_owned(),
            format!("{:.2} %", figures.overload_percent),
            figures.most_nodes.to_string(),
            format!("{:.1}", figures.node_hours),
            format!("{:.2}", figures.node_hours_over_least),
            number(figures.bounced.round()),
            number(figures.moved.round()),
            figures.changes.to_string(),
            figures.back.to_string(),
            figures.enough_seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds} s")),
        ]);
    }
    table.write(out, 0)?;
    for (figures, run) in simulated.runs.iter().zip(runs) {
        let moments = run.points.iter().map(|point| Moment {
            need: point.need,
            nodes: f64::from(point.nodes),
            overload: point.overload_percent,
        });
        writeln!(out, "\n{}:\n{}", figures.controller, chart(&moments.collect::<Vec<_>>()))?;
        for wrong in &figures.wrong {
            writeln!(out, "wrong: {wrong}")?;
        }
    }
    if let Some(path) = &wanted.svg {
        writeln!(out, "wrote {}", path.display())?;
    }
    Ok(())
}
