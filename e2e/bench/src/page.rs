//! Turns raw results into pages for people: a table on the terminal, a section of docs/BENCHMARKS.md, and plots.
//!
//! The section has only figures of runs; a scenario without runs is named as not run.

use std::{
    collections::BTreeSet,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    peers::{ALL as PEERS, Contestant, OURS, TLS},
    plot::{self, Bar, rounded},
    record::{Records, Run},
    scenario::{ALL as SCENARIOS, Better, Figure, Group, Scenario},
    stats::{Estimate, FEWEST, estimate, median, ratio},
};

/// First line of the section.
const BEGIN: &str = "<!-- bench peers: written by `cargo xtask bench page`, begin -->";
/// Last line of the section.
const END: &str = "<!-- bench peers: end -->";
/// Its heading.
const HEADING: &str = "## Beside other servers";
/// Directory of the plots, seen from the page.
const PLOTS: &str = "benchmarks";

/// The results of one server in one scenario.
struct Row {
    label: String,
    /// Its figures, in the order of the scenario's.
    figures: Vec<Option<Estimate>>,
    /// For each of the references, its first figure over that of this server within each round; in the group `send`
    /// it is this server's figure over the bare loop's.
    ratios: Vec<Option<Estimate>>,
    /// Runs without a usable result, and why the last one has none.
    failed: usize,
    why: Option<String>,
}

/// The servers that the others of a scenario are compared with, each with its usual number of workers first.
fn references<'a>(records: &'a Records, scenario: &Scenario) -> Vec<&'a str> {
    let wanted = |label: &&str| scenario.references().iter().any(|name| is(label, name));
    let of_it = records.runs.iter().filter(|run| run.scenario == scenario.name);
    of_it.map(|run| run.server.as_str()).filter(wanted).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Whether a label is that of a server, with any number of workers.
fn is(label: &str, name: &str) -> bool {
    label.split('@').next() == Some(name)
}

/// Whether a label is that of our node, without TLS or with it.
fn is_ours(label: &str) -> bool {
    is(label, OURS) || is(label, TLS)
}

fn row(records: &Records, scenario: &Scenario, label: &str) -> Row {
    let runs = records.runs.iter().filter(|run| run.scenario == scenario.name && run.server == label);
    let (bad, good): (Vec<_>, Vec<_>) = runs.partition(|run| run.failure().is_some());
    let values =
        |figure: &Figure| -> Vec<f64> { good.iter().filter_map(|run| figure.of(&run.report)).collect() };
    let compared = |reference: &&str| {
        if *reference == label { None } else { ratio(&pairs(records, scenario, &good, reference)) }
    };
    Row {
        label: label.to_owned(),
        figures: scenario.figures.iter().map(|figure| estimate(&values(figure))).collect(),
        ratios: references(records, scenario).iter().map(compared).collect(),
        failed: bad.len(),
        why: bad.last().and_then(|run| run.failure()),
    }
}

/// Pairs of the first figures of a reference and of another server in the same rounds; the dividend is first.
fn pairs(records: &Records, scenario: &Scenario, runs: &[&Run], reference: &str) -> Vec<(f64, f64)> {
    let first = |run: &Run| scenario.figures.first()?.of(&run.report);
    let pair = |run: &&Run| {
        let same = |other: &&Run| {
            other.scenario == scenario.name
                && other.round == run.round
                && other.server == reference
                && other.failure().is_none()
        };
        let (one, other) = (first(run)?, first(records.runs.iter().find(same)?)?);
        Some(if scenario.group == Group::Send { (one, other) } else { (other, one) })
    };
    runs.iter().filter_map(pair).collect()
}

/// The rows of a scenario, the best first by its first figure; those without one last.
fn rows(records: &Records, scenario: &Scenario) -> Vec<Row> {
    let mut labels: Vec<&str> = Vec::new();
    for run in records.runs.iter().filter(|run| run.scenario == scenario.name) {
        if !labels.contains(&run.server.as_str()) {
            labels.push(&run.server);
        }
    }
    let mut rows: Vec<_> = labels.into_iter().map(|label| row(records, scenario, label)).collect();
    let sign = match scenario.figures.first().map(|figure| figure.better) {
        Some(Better::More) => -1.0,
        _ => 1.0,
    };
    let key = |row: &Row| row.figures.first().copied().flatten().map_or(f64::INFINITY, |e| e.median * sign);
    rows.sort_by(|a, b| key(a).total_cmp(&key(b)));
    rows
}

/// The meaning of the brackets and lines of these rows.
fn interval(rows: &[Row]) -> &'static str {
    let few = |row: &Row| row.figures.first().copied().flatten().is_some_and(|one| one.count < FEWEST);
    if rows.iter().any(few) { "95 %, or all of few runs" } else { "95 %" }
}

/// An estimate with its interval, as in `7.4 (7.2 to 7.6)`.
fn with_interval(estimate: Option<Estimate>) -> String {
    match estimate {
        None => "-".to_owned(),
        Some(one) if one.count < 3 => rounded(one.median),
        Some(one) => format!("{} ({} to {})", rounded(one.median), rounded(one.low), rounded(one.high)),
    }
}

fn count(row: &Row) -> String {
    let good = row.figures.first().copied().flatten().map_or(0, |one| one.count);
    if row.failed == 0 { good.to_string() } else { format!("{good}, {} failed", row.failed) }
}

fn table(records: &Records, scenario: &Scenario, rows: &[Row]) -> String {
    let interval = interval(rows);
    let mut out = String::from("| server |");
    let mut rule = String::from("|---|");
    for (at, figure) in scenario.figures.iter().enumerate() {
        let words = if at == 0 { format!(", median ({interval})") } else { String::new() };
        out.push_str(&format!(" {}, {}{words} |", figure.name, figure.unit));
        rule.push_str("---|");
    }
    for reference in references(records, scenario) {
        let send = scenario.group == Group::Send;
        let head = if send { format!("times {reference}") } else { format!("{reference} / it") };
        out.push_str(&format!(" {head} |"));
        rule.push_str("---|");
    }
    out.push_str(&format!(" runs |\n{rule}---|\n"));
    for row in rows {
        let name = if is_ours(&row.label) { format!("**{}**", row.label) } else { row.label.clone() };
        out.push_str(&format!("| {name} |"));
        for (at, figure) in row.figures.iter().enumerate() {
            let text = match figure {
                Some(one) if at > 0 => rounded(one.median),
                other => with_interval(*other),
            };
            out.push_str(&format!(" {text} |"));
        }
        for ratio in &row.ratios {
            out.push_str(&format!(" {} |", with_interval(*ratio)));
        }
        out.push_str(&format!(" {} |\n", count(row)));
    }
    out
}

fn failures(rows: &[Row]) -> String {
    let told = rows.iter().filter_map(|row| Some((row, row.why.as_deref()?.lines().next()?)));
    told.map(|(row, why)| format!("{}: {} failed, {why}\n", row.label, row.failed)).collect()
}

/// Whether there are runs of a scenario.
fn has(records: &Records, scenario: &Scenario) -> bool {
    records.runs.iter().any(|run| run.scenario == scenario.name)
}

/// The tables of some scenarios, for a terminal.
#[must_use]
pub fn text(records: &Records, scenarios: &[Scenario]) -> String {
    let one = |scenario: &Scenario| {
        let rows = rows(records, scenario);
        format!("\n{}\n{}{}", scenario.title, table(records, scenario, &rows), failures(&rows))
    };
    scenarios.iter().filter(|scenario| has(records, scenario)).map(one).collect()
}

/// A picture of a scenario's first figure, and its file's name.
fn picture(scenario: &Scenario, rows: &[Row]) -> Option<(String, String)> {
    let figure = scenario.figures.first()?;
    let bar = |row: &Row| {
        let one = row.figures.first().copied().flatten()?;
        Some(Bar {
            label: row.label.clone(),
            value: one.median,
            interval: (one.count > 2).then_some((one.low, one.high)),
            ours: is_ours(&row.label),
        })
    };
    let bars: Vec<_> = rows.iter().filter_map(bar).collect();
    let way = match figure.better {
        Better::Less => "shorter is better",
        Better::More => "longer is better",
    };
    let lines = interval(rows);
    let note = format!("{}, {}; {way}; lines: interval ({lines})", figure.name, figure.unit);
    (bars.len() > 1).then(|| (format!("{}.svg", scenario.name), plot::bars(scenario.title, &note, &bars)))
}

/// The campaign that a scenario is shown from: the first that has runs of it.
fn campaign_of<'a>(campaigns: &'a [Records], scenario: &Scenario) -> Option<&'a Records> {
    campaigns.iter().find(|records| has(records, scenario))
}

/// Where and when things were measured, one paragraph per campaign.
fn about(campaigns: &[Records]) -> String {
    let mut out = String::new();
    for records in campaigns {
        let shown = |scenario: &&Scenario| {
            campaign_of(campaigns, scenario).is_some_and(|of| std::ptr::eq(of, records))
        };
        let names: Vec<_> = SCENARIOS.iter().filter(shown).map(|scenario| scenario.name).collect();
        if names.is_empty() {
            continue;
        }
        let e = &records.header.environment;
        let runs = records.runs.iter().filter(|run| names.contains(&run.scenario.as_str()));
        let others: Vec<_> = runs.filter_map(|run| run.cpus_of_others).collect();
        let others = median(&others).map_or_else(String::new, |usual| {
            let worst = others.iter().copied().fold(0.0, f64::max);
            format!(
                " Other processes used {} CPUs in the median run, {} in the worst.",
                rounded(usual),
                rounded(worst)
            )
        });
        let length = records
            .header
            .seconds
            .map_or_else(String::new, |seconds| format!(" Each run published for {seconds} s."));
        out.push_str(&format!(
            "Measured on {} at commit `{}` ({}): {}, {} cores, {} GiB, Linux {}, at most {} open files per \
             process. Seed {}.{length}{others}\n\n",
            e.date,
            e.commit,
            names.join(", "),
            e.cpu,
            e.cpus,
            e.memory_gib,
            e.kernel,
            e.nofile,
            records.header.seed
        ));
    }
    out
}

/// The servers with their versions and how they are set up.
fn servers(campaigns: &[Records]) -> String {
    let mut out = String::from("| server | version | workers | set up as |\n|---|---|---|---|\n");
    for peer in PEERS {
        let mine = |(label, _): &(&String, &String)| is(label, peer.name());
        let known: BTreeSet<_> =
            campaigns.iter().flat_map(|one| one.header.versions.iter()).filter(mine).collect();
        let versions: BTreeSet<_> = known.iter().map(|(_, version)| version.as_str()).collect();
        if versions.is_empty() {
            continue;
        }
        let versions = versions.into_iter().collect::<Vec<_>>().join(", ");
        let workers =
            known.iter().filter_map(|(label, _)| Some(Contestant::parse(label).ok()?.workers.to_string()));
        let workers = workers.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" and ");
        out.push_str(&format!("| {} | {versions} | {workers} | {} |\n", peer.name(), peer.settings()));
    }
    out
}

/// The section as Markdown, and its pictures by file name.
#[must_use]
pub fn section(campaigns: &[Records]) -> (String, Vec<(String, String)>) {
    let mut out = format!("{BEGIN}\n\n{HEADING}\n\n");
    let mut pictures = Vec::new();
    // Writing to a String cannot fail.
    let mut add = |text: std::fmt::Arguments<'_>| {
        let written = out.write_fmt(text);
        debug_assert!(written.is_ok());
    };
    add(format_args!("{}", about(campaigns)));
    add(format_args!(
        "The generator runs on the same cores, in the same network namespace, which holds nothing but a loopback device. \
         A round starts, loads and stops each server once, in random order; *channel-node / it* is the median over the \
         rounds of the ratio within a round: below 1 it is good for a cost, above 1 for deliveries; *times bare* is the \
         other way round. In brackets is the 95 % bootstrap interval, or the lowest and the highest of less than 6 runs. \
         NAME@N is a server with N workers instead of its usual number here: one for a server that takes the second \
         core from the generator. CPU is that of all processes of the server while messages are published, kernel time \
         included: on loopback that also pays for the receiving side of TCP. Memory is that of the server's processes \
         (PSS over that before the first connection); the kernel's own for a socket is the same for all.\n\n"
    ));
    add(format_args!(
        "To repeat it: `cargo xtask bench peers`, `cargo xtask bench send`, `cargo xtask bench alone` and `cargo xtask bench tls`, which \
         install what they need from package registries and go on where they were broken off, then `cargo xtask bench page`. \
         `--only uws --pairs 3` is a quick look. A server that is added later is compared with earlier runs of ours; \
         `--fresh` measures all together.\n\n"
    ));
    add(format_args!("{}", servers(campaigns)));
    for scenario in &SCENARIOS {
        add(format_args!("\n### {}\n\n", scenario.title));
        let Some(records) = campaign_of(campaigns, scenario) else {
            add(format_args!("Not run.\n"));
            continue;
        };
        let rows = rows(records, scenario);
        if let Some((name, svg)) = picture(scenario, &rows) {
            add(format_args!("![{}]({PLOTS}/{name})\n\n", scenario.title));
            pictures.push((name, svg));
        }
        add(format_args!("{}", table(records, scenario, &rows)));
        for line in failures(&rows).lines() {
            add(format_args!("\n{line}\n"));
        }
        let absent = absent(records, scenario);
        if !absent.is_empty() {
            add(format_args!("\nNot run: {}.\n", absent.join(", ")));
        }
    }
    add(format_args!("\n{END}\n"));
    (out, pictures)
}

fn absent(records: &Records, scenario: &Scenario) -> Vec<&'static str> {
    let ran =
        |name: &str| records.runs.iter().any(|run| run.scenario == scenario.name && is(&run.server, name));
    PEERS.iter().map(|peer| peer.name()).filter(|name| scenario.is_for(name) && !ran(name)).collect()
}

/// The page with its section replaced; the section comes at the end when the page has none yet.
fn replace(page: &str, section: &str) -> String {
    match (page.find(BEGIN), page.find(END)) {
        (Some(begin), Some(end)) if begin < end => {
            let rest = page[end + END.len()..].trim_start_matches('\n');
            let gap = if rest.is_empty() { "" } else { "\n" };
            format!("{}{section}{gap}{rest}", &page[..begin])
        }
        _ => format!("{}\n\n{section}", page.trim_end()),
    }
}

/// Writes the section into docs/BENCHMARKS.md and its pictures beside it.
///
/// # Errors
/// When a file cannot be read or written.
pub fn write(campaigns: &[Records], repository: &Path) -> Result<()> {
    let (section, pictures) = section(campaigns);
    let path = repository.join("docs/BENCHMARKS.md");
    let page = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let directory: PathBuf = repository.join("docs").join(PLOTS);
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    for (name, svg) in pictures {
        let path = directory.join(name);
        fs::write(&path, svg).with_context(|| format!("cannot write {}", path.display()))?;
    }
    fs::write(&path, replace(&page, &section)).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests;
