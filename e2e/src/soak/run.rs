//! One soak on the running `test` instance.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::{
    Millis,
    breaking::{break_it, spec},
    clients::{Clients, Place},
    fault::{Fault, Kind, Plan, Step},
    ledger::{Ledger, MARGIN},
    now,
    report::Report,
};
use crate::fleet::{Fleet, HANG_GUARD};

/// Nodes at the beginning.
const NODES: usize = 3;
/// How long a fault may take to show its effect, in milliseconds: when a pod is deleted, its kubelet tells it so, and
/// then it ends.
const TAKES_EFFECT: Millis = 4_000;
/// Time that is left after the last message for late ones.
const LATE: Duration = Duration::from_secs(10);
/// Pause between two looks.
const POLL: Duration = Duration::from_millis(250);

/// The options of a soak.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long faults happen.
    pub length: Duration,
    /// The seed that draws the faults.
    pub seed: u64,
    /// Clients, in rooms of `room_size`.
    pub clients: usize,
    /// Members of a room.
    pub room_size: usize,
    /// Time between two messages of a client.
    pub period: Duration,
    /// The kinds of faults that may happen.
    pub kinds: BTreeSet<Kind>,
}

/// Runs the soak, and tells `say` what happens. The report is complete even when something failed.
///
/// # Errors
/// When the fleet does not come up at all.
pub fn run(options: &Options, say: &mut dyn FnMut(&str)) -> Result<Report> {
    let fleet = Fleet::create("soak", &spec(NODES))?;
    fleet.wait_ready(NODES)?;
    let place = Place { address: format!("{}:80", fleet.service_address()?), round_trip: None };
    let ledger = Ledger::new(options.clients, options.room_size);
    let periods = vec![Some(options.period); options.clients];
    let clients = Clients::start(&fleet.instance, place, ledger, periods)?;
    clients.wait_there()?;
    recovered(&fleet, &clients, now())?;
    say(&format!("{} clients are in their rooms, seed {}", options.clients, options.seed));
    let begun = now();
    let (faults, failures) = breaks(options, &fleet, &clients, say);
    clients.hush();
    let hushed = now();
    sleep(LATE);
    let ledger = clients.ledger.clone();
    let report = Report::new(
        (options.seed, begun, now()),
        &ledger.lock(),
        &faults,
        hushed.saturating_sub(MARGIN),
        failures,
    );
    clients.stop()?;
    Ok(report)
}

fn breaks(
    options: &Options,
    fleet: &Fleet,
    clients: &Clients,
    say: &mut dyn FnMut(&str),
) -> (Vec<Fault>, Vec<String>) {
    let (start, mut faults, mut failures) = (Instant::now(), Vec::new(), Vec::new());
    for step in Plan::new(options.seed, &options.kinds) {
        sleep(Duration::from_millis(step.pause));
        if start.elapsed() >= options.length {
            break;
        }
        let from = now();
        match one(fleet, clients, &step) {
            Ok(fault) => {
                let lasted = fault.undone.saturating_sub(from) as f64 / 1e3;
                let recovered = fault.until.saturating_sub(fault.undone) as f64 / 1e3;
                say(&format!(
                    "{:>6.1} s {:<14} {} for {lasted:.1} s, whole again after {recovered:.1} s",
                    start.elapsed().as_secs_f64(),
                    step.kind.name(),
                    fault.target,
                ));
                faults.push(fault);
            }
            Err(error) => {
                // After this the effects of a further fault could not be told from those of this one.
                failures.push(format!(
                    "{} at {:.1} s: {error:#}",
                    step.kind.name(),
                    start.elapsed().as_secs_f64()
                ));
                let unknown = String::new();
                faults.push(Fault { kind: step.kind, target: unknown, from, undone: from, until: now() });
                break;
            }
        }
    }
    (faults, failures)
}

fn one(fleet: &Fleet, clients: &Clients, step: &Step) -> Result<Fault> {
    let done = break_it(fleet, step)?;
    recovered(fleet, clients, done.undone + TAKES_EFFECT)
        .with_context(|| format!("after {} of {:?}", step.kind.name(), done.target))?;
    let trouble = clients.ledger.lock().last_trouble(done.from, now().saturating_sub(MARGIN));
    let until = done.undone.max(trouble.unwrap_or(done.undone));
    Ok(Fault { kind: step.kind, target: done.target, from: done.from, undone: done.undone, until })
}

/// Waits until the fleet says that it is Ready, all clients are in their rooms, and all hear each message
/// after `since`.
fn recovered(fleet: &Fleet, clients: &Clients, since: Millis) -> Result<()> {
    let start = Instant::now();
    loop {
        match is_whole(fleet, clients, since) {
            Ok(()) => return Ok(()),
            Err(error) if start.elapsed() > HANG_GUARD => {
                return Err(error.context(format!("not whole again within {} s", HANG_GUARD.as_secs())));
            }
            Err(_) => sleep(POLL),
        }
    }
}

fn is_whole(fleet: &Fleet, clients: &Clients, since: Millis) -> Result<()> {
    clients.is_whole(since)?;
    let (ready, message) = fleet.condition("Ready")?;
    ensure!(ready == "True", "Ready is {ready}: {message}");
    let pods = fleet.node_pods()?;
    let unwell: Vec<_> = pods.iter().filter(|pod| !pod.ready && !pod.terminating).collect();
    ensure!(unwell.is_empty(), "not Ready: {unwell:?}");
    Ok(())
}

/// Writes the report as JSON and as text.
///
/// # Errors
/// When a file cannot be written.
pub fn write(report: &Report, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    fs::write(directory.join("report.json"), serde_json::to_vec_pretty(report)?)?;
    fs::write(directory.join("report.txt"), report.to_string())?;
    cluster::user::give(directory)
}
