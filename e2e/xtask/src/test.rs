//! `test`: runs all steps and prints one line at the end.
//!
//! A failed step does not stop the others; but when the cluster did not start, steps that need it are failed without
//! being run.

use std::{fs, process::ExitCode};

use anyhow::Result;
use cluster::{Instance, packages};

use crate::{
    lanes::{self, Done},
    root,
    step::{Needs, Step},
    steps,
    tools::Tools,
};

/// Runs the command.
pub(crate) fn test(only: Option<&str>, keep: bool) -> Result<ExitCode> {
    let tools = Tools::new()?;
    let chosen = chosen(steps::all(), only, keep)?;
    let rooted = chosen.iter().any(|step| step.needs != Needs::Nothing);
    let _sudo = rooted.then(root::ask_early).transpose()?;
    let groups = [packages::BUILD, packages::RUN, packages::TEST, packages::PYTHON, packages::GATES];
    packages::ensure(&groups, &tools.progress)?;
    rust_components(&tools);
    let done = lanes::run(&chosen, &tools);
    say_failures(&done, &tools);
    say::out!("\n{}", times(&done));
    let passed: u64 = done.iter().map(|done| done.tally.passed).sum();
    let failed: u64 = done.iter().map(|done| done.tally.failed).sum();
    say::out!("{passed} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Repeats the failures at the end: of a long run often only the end is kept.
fn say_failures(done: &[Done], tools: &Tools) {
    let failures: Vec<_> = done.iter().filter_map(|done| Some((done.name, done.error.as_deref()?))).collect();
    if failures.is_empty() {
        return;
    }
    for (step, error) in &failures {
        let said = fs::read_to_string(tools.step_log(step));
        say::out!("\n{step}:\n{}", said.map_or_else(|_| (*error).to_owned(), |said| excerpt(&said)));
    }
    let steps: Vec<_> = failures.iter().map(|(step, _)| *step).collect();
    say::out!("failed steps: {}; their logs are in {}", steps.join(", "), tools.reports().display());
}

/// How long each step took, in the order of their ends.
fn times(done: &[Done]) -> String {
    let line = |done: &Done| format!("{:>6} s  {}", done.took.as_secs(), done.name);
    done.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The steps that `--only` and `--keep` leave. `--only cluster` also takes all steps that need the cluster, whatever
/// their names are.
fn chosen(all: Vec<Step>, only: Option<&str>, keep: bool) -> Result<Vec<Step>> {
    let names = all.iter().map(|step| step.name).collect::<Vec<_>>().join(", ");
    let wanted = |step: &Step, only: &str| {
        step.name.contains(only) || (only == "cluster" && step.needs == Needs::Cluster)
    };
    let chosen: Vec<_> = all
        .into_iter()
        .filter(|step| only.is_none_or(|only| wanted(step, only)))
        .filter(|step| !(keep && step.name == steps::DOWN))
        .collect();
    anyhow::ensure!(!chosen.is_empty(), "no step is called {:?}; the steps are: {names}", only.unwrap_or(""));
    Ok(chosen)
}

/// Adds Rust's formatter and linter, which rustup's minimal profile leaves out. Where they cannot be added, the steps
/// that need them fail and say so.
fn rust_components(tools: &Tools) {
    let programs = [("cargo-fmt", "rustfmt"), ("cargo-clippy", "clippy")];
    let missing: Vec<_> =
        programs.iter().filter(|(program, _)| !packages::has(program)).map(|(_, name)| *name).collect();
    if missing.is_empty() || !packages::has("rustup") {
        return;
    }
    let mut add = tools.program("rustup", &["component", "add"]);
    let log = tools.reports().join("steps/rustup.log");
    let what = format!("adding to the Rust toolchain: {}", missing.join(" "));
    if let Err(error) = tools.progress.long(&what, add.args(&missing), &log) {
        tools.progress.say(&format!("{error:#}"));
    }
}

/// Most lines of a failed step that are repeated at the end.
const EXCERPT_LINES: usize = 60;

/// The lines of a test runner's output that tell what failed and why; the last lines if there are no such lines.
fn excerpt(said: &str) -> String {
    let names = |line: &&str| {
        let line = line.trim_start();
        (line.starts_with("test ") && line.ends_with("FAILED"))
            || line.starts_with("not ok ")
            || line.starts_with("✖ ")
    };
    // Cargo prints the output of a failed test under `---- name stdout ----`, up to the list of the failures.
    let mut quoted = false;
    let quotes = said.lines().filter(|line| {
        quoted = (quoted && *line != "failures:") || line.starts_with("---- ");
        quoted && !line.is_empty()
    });
    let mut lines: Vec<_> = said.lines().filter(names).chain(quotes).take(EXCERPT_LINES).collect();
    if lines.is_empty() {
        let all: Vec<_> = said.lines().collect();
        lines = all[all.len().saturating_sub(EXCERPT_LINES)..].to_vec();
    }
    lines.join("\n")
}

/// Collects the logs of an instance (`logs`); a command of its own because it needs root.
pub(crate) fn logs(instance: &Instance) -> Result<ExitCode> {
    if let Some(code) = root::as_root()? {
        return Ok(code);
    }
    let directory = crate::up::logs(instance);
    instance.collect_logs(&directory)?;
    say::out!("{}", directory.display());
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::UP;

    #[test]
    fn failed_tests_are_named_with_their_words() {
        let said = "test a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\nthread 'b' panicked\n\n\
                    failures:\n    b\n\ntest result: FAILED. 1 passed; 1 failed;\n";
        assert_eq!(excerpt(said), "test b ... FAILED\n---- b stdout ----\nthread 'b' panicked");
        assert_eq!(excerpt("# pass 1\nnot ok 2 - chats\n"), "not ok 2 - chats");
        assert_eq!(excerpt("error: could not compile\n"), "error: could not compile");
    }

    fn names(only: &str, keep: bool) -> Vec<&'static str> {
        let steps = chosen(steps::all(), Some(only), keep).expect("some");
        steps.iter().map(|step| step.name).collect()
    }

    #[test]
    fn the_cluster_is_chosen_with_all_that_need_it() {
        assert_eq!(names("cluster", false), [UP, "chart schemas", "end to end", steps::DOWN]);
        assert_eq!(names("cluster", true), [UP, "chart schemas", "end to end"]);
        assert_eq!(names("lint", false), ["lints", "chart lint"]);
    }

    #[test]
    fn a_step_that_does_not_exist_is_no_success() {
        let error = chosen(steps::all(), Some("lnits"), false).err().expect("refused").to_string();
        assert!(error.contains("lnits") && error.contains("unit tests"), "{error}");
    }
}
