//! Runs every trace with every controller in virtual time, and prints what was measured; see docs/JUDGEMENT.md.
//!
//! `judge [--seed N] [--only TEXT] [--operator] [--write DIR]`: traces whose name holds TEXT, the operator alone, without moves
//! and with them, and the page and its plots into a directory. `judge --random STEPS [--seed N]`: random traces instead, until the
//! operator has looked so many times, each look checked for what must hold of every decision; the first seed is N.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a program around the core"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;

use operator_core::world::random::Tally;
use operator_core::world::{Controller, Run, Trace, plot, random, report, run, traces};

/// The seed of the page.
const SEED: u64 = 1;
/// Between these lines of the page the tables are.
const BEGIN: &str = "<!-- tables: begin -->\n";
const END: &str = "<!-- tables: end -->\n";

/// What the command line asks for.
struct Wanted {
    seed: u64,
    only: String,
    controllers: Vec<Controller>,
    write: Option<PathBuf>,
    random: Option<u64>,
}

fn wanted() -> Result<Wanted, String> {
    let mut wanted = Wanted {
        seed: SEED,
        only: String::new(),
        controllers: Controller::ALL.to_vec(),
        write: None,
        random: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
        match word.as_str() {
            "--seed" => wanted.seed = value()?.parse().map_err(|_| "--seed wants a number".to_owned())?,
            "--only" => wanted.only = value()?,
            "--random" => {
                wanted.random = Some(value()?.parse().map_err(|_| "--random wants a number".to_owned())?);
            }
            "--write" => wanted.write = Some(value()?.into()),
            "--operator" => wanted.controllers = vec![Controller::Operator, Controller::OperatorMoving],
            _ => return Err(format!("no flag {word}")),
        }
    }
    Ok(wanted)
}

/// All runs, in the order of the traces and the controllers, on all processors.
fn runs(traces: &[Trace], controllers: &[Controller]) -> Result<Vec<Run>, String> {
    let manifest = traces::manifest()?;
    let jobs: Vec<_> = traces.iter().flat_map(|t| controllers.iter().map(move |c| (t, *c))).collect();
    let next = Mutex::new(0..jobs.len());
    let done = Mutex::new(Vec::new());
    let work = || {
        while let Some(job) = next.lock().ok().and_then(|mut next| next.next()) {
            let (trace, controller) = jobs[job];
            let outcome = run(trace, &manifest, controller).map_err(|all| format!("{}: {all:?}", trace.name));
            if let Ok(mut done) = done.lock() {
                done.push((job, outcome));
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut done = done.into_inner().map_err(|error| error.to_string())?;
    done.sort_by_key(|(job, _)| *job);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

/// Puts the tables and the plots where the page is.
fn write(directory: &Path, seed: u64, tables: &str, runs: &[Run]) -> Result<(), String> {
    let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    let page = directory.join("JUDGEMENT.md");
    let text = std::fs::read_to_string(&page).map_err(|error| failed(&page, error))?;
    let (Some(begin), Some(end)) = (text.find(BEGIN), text.find(END)) else {
        return Err(format!("{} has no place for the tables", page.display()));
    };
    let text = format!("{}Seed {seed}.\n\n{tables}{}", &text[..begin + BEGIN.len()], &text[end..]);
    std::fs::write(&page, text).map_err(|error| failed(&page, error))?;
    let plots = directory.join("judgement");
    std::fs::create_dir_all(&plots).map_err(|error| failed(&plots, error))?;
    for (trace, others) in report::DRAWN {
        let drawn: Vec<&Run> = std::iter::once(&Controller::Operator)
            .chain(others)
            .filter_map(|c| runs.iter().find(|run| run.trace == trace && run.controller == *c))
            .collect();
        let path = plots.join(format!("{trace}.svg"));
        std::fs::write(&path, plot::svg(trace, &drawn)).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

/// Runs random traces on all processors until there were so many steps.
fn randomly(seed: u64, steps: u64) -> Result<(), String> {
    let state = Mutex::new((0, Tally::default(), None));
    let work = || {
        loop {
            let Ok(mut all) = state.lock() else { return };
            if all.1.steps >= steps || all.2.is_some() {
                return;
            }
            let number = all.0;
            all.0 += 1;
            drop(all);
            let outcome = random::check(seed.wrapping_add(number));
            let Ok(mut all) = state.lock() else { return };
            match outcome {
                Ok(more) => {
                    all.1.traces += more.traces;
                    all.1.steps += more.steps;
                    all.1.changes += more.changes;
                }
                Err(error) => all.2 = Some(error),
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let (_, tally, failed) = state.into_inner().map_err(|error| error.to_string())?;
    let Tally { traces, steps, changes } = tally;
    println!(
        "{traces} random traces from seed {seed} on, {steps} steps, {changes} changes of the node count"
    );
    failed.map_or(Ok(()), Err)
}

fn judge() -> Result<(), String> {
    let wanted = wanted()?;
    if let Some(steps) = wanted.random {
        return randomly(wanted.seed, steps);
    }
    let traces: Vec<Trace> =
        traces::all(wanted.seed).into_iter().filter(|trace| trace.name.contains(&wanted.only)).collect();
    let learning = traces::learning(wanted.seed);
    let learning = learning.into_iter().filter(|trace| trace.name.contains(&wanted.only)).collect::<Vec<_>>();
    let learned = runs(&learning, &[Controller::OperatorMoving, Controller::OperatorLearning])?;
    let runs = runs(&traces, &wanted.controllers)?;
    let tables = format!(
        "{}\n{}",
        report::tables(&runs).trim_end_matches('\n').to_owned() + "\n",
        report::learning(&learned)
    );
    println!("seed {}, {} traces\n\n{tables}", wanted.seed, traces.len());
    match &wanted.write {
        Some(directory) => write(directory, wanted.seed, &tables, &runs),
        None => Ok(()),
    }
}

fn main() -> ExitCode {
    match judge() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
