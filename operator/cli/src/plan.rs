//! `plan`: the capacity worksheet, and what a manifest lacks.

use std::io::Write;

use anyhow::{Context, Result};
use crds::{CapacityStatus, ChannelCluster, ChannelClusterSpec, Connections, WritesPerSecond};
use operator_core::capacity::{Sizing, asked_for};
use operator_core::footprint;
use operator_core::plan::checks::{Check, Verdict, check};
use operator_core::plan::{Line, Load, Site, Worksheet, number, worksheet};
use operator_core::validate::{Fetched, OperatorEnv, validate};
use serde::Serialize;
use serde_json::Value;

use crate::args::Plan;
use crate::manifest;
use crate::table::Table;
use crate::words::{derived_sentence, learned_sentence};
use crate::{FINE, FOUND, USAGE, output};

/// Writes/s and connections of a node at 100 % where no manifest says them.
const USUAL_WRITES: f64 = WritesPerSecond::USUAL as f64;
const USUAL_CONNECTIONS: f64 = Connections::USUAL as f64;
/// Minor version of the Kubernetes that manifests are checked for.
const SERVER_MINOR: u32 = 34;

/// What `plan` found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Planned {
    /// The worksheet, when there is a load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worksheet: Option<Worksheet>,
    /// What was found in each manifest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<Found>,
}

/// What was found in a manifest.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// Name of the ChannelCluster.
    pub name: String,
    /// Fields that no ChannelCluster has, by their paths.
    pub unknown_fields: Vec<String>,
    /// What would be refused, or make the fleet Stalled.
    pub problems: Vec<String>,
    /// What is found out of what a node carries instead of given: what is assumed, or what the manifest's status says of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capacity: Vec<String>,
    /// The worksheet with the manifest's own numbers, when there is a load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worksheet: Option<Worksheet>,
    /// The ten rules.
    pub checks: Vec<Check>,
}

impl Found {
    fn is_lacking(&self) -> bool {
        let lacking = self.checks.iter().any(|check| check.verdict == Verdict::Lacking);
        lacking || !self.problems.is_empty() || !self.unknown_fields.is_empty()
    }
}

/// Runs the command; gives the exit code.
///
/// # Errors
/// When the manifest cannot be read.
pub fn run(wanted: &Plan, out: &mut dyn Write) -> Result<u8> {
    let manifests = match &wanted.manifest.file {
        None => Vec::new(),
        Some(path) => manifest::read(path)?,
    };
    let mut planned = Planned { worksheet: None, manifests: Vec::new() };
    if manifests.is_empty() {
        let load = load(wanted, None).context("no load is given")?;
        if let Some(code) = refused(&load) {
            return Ok(code);
        }
        planned.worksheet = Some(worksheet(&load, &site(wanted, None, None)));
    }
    for (cluster, written) in &manifests {
        let load = load(wanted, Some(cluster));
        if let Some(code) = load.as_ref().and_then(refused) {
            return Ok(code);
        }
        planned.manifests.push(found(wanted, cluster, written, load.as_ref()));
    }
    let code = if planned.manifests.iter().any(Found::is_lacking) { FOUND } else { FINE };
    match wanted.form.output {
        Some(format) => output::write(&planned, format, out)?,
        None => print(&planned, out)?,
    }
    Ok(code)
}

/// Says what is wrong with the numbers of the command line.
fn refused(load: &Load) -> Option<u8> {
    let problems = load.problems();
    for problem in &problems {
        // Without a reader nobody can be told.
        writeln!(std::io::stderr(), "error: {problem}").ok();
    }
    (!problems.is_empty()).then_some(USAGE)
}

/// The load that the flags and the manifest tell of; none when the flags do not say how much is published.
#[allow(clippy::cast_precision_loss, reason = "bounded by the schema far below 2^52")]
fn load(wanted: &Plan, cluster: Option<&ChannelCluster>) -> Option<Load> {
    let members = cluster.map(|cluster| f64::from(cluster.spec.rooms.max_members));
    let target = cluster.map(|cluster| cluster.spec.target_connections as f64);
    Some(Load {
        publishes_per_second: wanted.publishes_per_second?,
        room_size: wanted.room_size.or(members)?,
        active_fraction: wanted.active_fraction,
        message_bytes: wanted.message_bytes,
        peak_connections: wanted.peak_connections.or(target)?,
    })
}

/// What the worksheet is made for. `known` is what a status says of what a node carries.
fn site(wanted: &Plan, cluster: Option<&ChannelCluster>, known: Option<&CapacityStatus>) -> Site {
    let usual = Sizing {
        writes_per_second: USUAL_WRITES,
        connections: USUAL_CONNECTIONS,
        target_percent: crds::Autoscaling::default().target_utilization,
    };
    let sizing = cluster.map_or(usual, |cluster| Sizing::of_spec(&cluster.spec, known));
    let drain = cluster.map_or_else(crds::Drain::default, |cluster| cluster.spec.drain.clone());
    Site {
        sizing: Sizing {
            writes_per_second: wanted.capacity_writes.unwrap_or(sizing.writes_per_second).max(1.0),
            connections: wanted.capacity_connections.unwrap_or(sizing.connections).max(1.0),
            target_percent: wanted.target.unwrap_or(sizing.target_percent),
        },
        min: cluster.map_or(1, |cluster| cluster.spec.nodes.min),
        drain_per_second: f64::from(drain.connections_per_second),
        tls: cluster.is_some_and(|cluster| cluster.spec.expose.tls.is_some()),
    }
}

fn found(wanted: &Plan, cluster: &ChannelCluster, written: &Value, load: Option<&Load>) -> Found {
    let known = serde_json::from_value::<CapacityStatus>(written["status"]["capacity"].clone()).ok();
    let worksheet = load.map(|load| worksheet(load, &site(wanted, Some(cluster), known.as_ref())));
    let spec = &written["spec"];
    let read = serde_json::to_value(&cluster.spec).unwrap_or_default();
    Found {
        name: cluster.metadata.name.clone().unwrap_or_default(),
        unknown_fields: unknown("spec", spec, &read),
        problems: problems(cluster),
        capacity: capacity(&cluster.spec, known.as_ref()),
        checks: check(&cluster.spec, spec, load.zip(worksheet.as_ref())),
        worksheet,
    }
}

/// What a node carries, where the spec has a word for it instead of a number.
#[allow(clippy::cast_precision_loss, reason = "bounded by the schema far below 2^52")]
fn capacity(spec: &ChannelClusterSpec, known: Option<&CapacityStatus>) -> Vec<String> {
    let asked = &spec.nodes.capacity;
    let known = known.map(|known| asked_for(spec, known)).unwrap_or_default();
    let writes = (asked.writes_per_second == WritesPerSecond::Learned).then(|| {
        let assumed = number(asked.writes_per_second.assumed() as f64);
        let words = || format!("{assumed} are assumed until the nodes have shown more");
        let words = known.writes_per_second.as_ref().map_or_else(words, learned_sentence);
        format!("nodes.capacity.writesPerSecond is {}: {words}", asked.writes_per_second)
    });
    let connections = footprint::assumed_terms(spec).map(|assumed| {
        let words = known.connections.as_ref().map_or(assumed, derived_sentence);
        format!("nodes.capacity.connections is {}: {words}", asked.connections)
    });
    writes.into_iter().chain(connections).collect()
}

/// What the operator would say of the spec. What depends on the cluster, such as Secrets, is not known here.
fn problems(cluster: &ChannelCluster) -> Vec<String> {
    let env = OperatorEnv {
        node_image: "channel-node".to_owned(),
        nats_image: "nats-server".to_owned(),
        server_minor: SERVER_MINOR,
        namespace: "channelcluster-system".to_owned(),
        allowed_images: Vec::new(),
    };
    let mut cluster = cluster.clone();
    // kubectl gives it one where the manifest does not.
    cluster.metadata.namespace.get_or_insert_with(|| "default".to_owned());
    let Err(problems) = validate(&cluster, &env, &Fetched::default()) else { return Vec::new() };
    let of_the_cluster = |reason: &str| reason.starts_with("Secret") || reason == "ServerNotAllowed";
    let known = problems.into_iter().filter(|problem| !of_the_cluster(problem.reason));
    known.map(|problem| format!("{}: {}", problem.reason, problem.message)).collect()
}

/// Paths of `written` that `read` does not have.
fn unknown(at: &str, written: &Value, read: &Value) -> Vec<String> {
    match (written, read) {
        (Value::Object(written), Value::Object(read)) => written
            .iter()
            .flat_map(|(key, value)| {
                let path = format!("{at}.{key}");
                match read.get(key) {
                    Some(known) => unknown(&path, value, known),
                    None if value.is_null() => Vec::new(),
                    None => vec![path],
                }
            })
            .collect(),
        (Value::Array(written), Value::Array(read)) => {
            let pairs = written.iter().zip(read).enumerate();
            pairs
                .flat_map(|(index, (written, read))| unknown(&format!("{at}[{index}]"), written, read))
                .collect()
        }
        _ => Vec::new(),
    }
}

fn print(planned: &Planned, out: &mut dyn Write) -> Result<()> {
    if let Some(worksheet) = &planned.worksheet {
        print_worksheet(worksheet, out)?;
    }
    for manifest in &planned.manifests {
        writeln!(out, "ChannelCluster {}", manifest.name)?;
        if let Some(worksheet) = &manifest.worksheet {
            print_worksheet(worksheet, out)?;
        } else {
            writeln!(out, "No load is given: --publishes-per-second N makes the worksheet too.")?;
        }
        writeln!(out)?;
        for sentence in &manifest.capacity {
            writeln!(out, "{sentence}")?;
        }
        for field in &manifest.unknown_fields {
            writeln!(out, "no ChannelCluster has a field {field}: it would be refused or dropped")?;
        }
        for problem in &manifest.problems {
            writeln!(out, "would not work: {problem}")?;
        }
        for check in &manifest.checks {
            let verdict = match check.verdict {
                Verdict::Met => "ok",
                Verdict::Lacking => "LACKS",
                Verdict::ByHand => "by hand",
            };
            writeln!(out, "{:>2}. {verdict:<7}  {}", check.number, check.rule)?;
            for finding in &check.findings {
                writeln!(out, "             {finding}")?;
            }
        }
    }
    Ok(())
}

fn print_worksheet(worksheet: &Worksheet, out: &mut dyn Write) -> Result<()> {
    let loss = worksheet.percent_after_loss.map_or_else(String::new, |percent| {
        format!("; when one is gone the others have {percent:.0} % of their capacity")
    });
    writeln!(
        out,
        "{} writes/s need {} nodes{loss}.\nEach takes {} of memory (limit of a pod: {}), and together they send {}.\n",
        number(worksheet.writes_per_second),
        worksheet.nodes,
        amount(worksheet.node_memory_bytes, "bytes"),
        amount(worksheet.pod_memory_bytes, "bytes"),
        amount(worksheet.egress_bits_per_second, "bit/s")
    )?;
    let mut table = Table::new(&["WHAT", "IS", "FORMULA"]);
    for Line { what, formula, value, unit } in &worksheet.lines {
        table.row([(*what).to_owned(), amount(*value, unit), formula.clone()]);
    }
    table.write(out, 0)?;
    Ok(())
}

/// A value with its unit, larger where it helps.
fn amount(value: f64, unit: &str) -> String {
    let scaled = |value: f64, unit: &str| {
        let (value, prefix) = match value {
            value if value >= 1e9 => (value / 1e9, "G"),
            value if value >= 1e6 => (value / 1e6, "M"),
            value if value >= 1e3 => (value / 1e3, "k"),
            value => (value, ""),
        };
        format!("{} {prefix}{unit}", number(value))
    };
    match unit {
        "bytes" => scaled(value, "B"),
        "bit/s" => scaled(value, "bit/s"),
        "%" => format!("{value:.0} %"),
        unit => format!("{} {unit}", number(value)),
    }
}
