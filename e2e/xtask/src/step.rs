//! One step of `cargo xtask test`: what it needs, what it does, and how many tests it counts for.

use std::{fs, process::Command};

use anyhow::Result;

use crate::tools::Tools;

/// Name of the step that starts the cluster.
pub(crate) const UP: &str = "cluster up";

/// How many tests a step counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// One.
    One,
    /// As many as cargo's test programs print.
    Cargo,
    /// As many as Node's test runner prints.
    Node,
}

/// When a step can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Always.
    Nothing,
    /// When it can become root.
    Root,
    /// Only on the running instance.
    Cluster,
}

/// What a step does.
pub(crate) enum Action {
    /// Runs a program.
    Program(fn(&Tools) -> Result<Command>),
    /// Runs code of this crate.
    Code(fn(&Tools) -> Result<()>),
}

/// The lane of a step: steps of the two lanes run side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// One after the other, in the order of the table.
    Front,
    /// One after the other as well, at the lowest priority beside the front lane: from the start, or as soon as the
    /// front lane comes to the step of this name.
    Back(Option<&'static str>),
}

/// One row of the table in `steps.rs`.
pub(crate) struct Step {
    /// Its name, which is printed while it runs and is that of its log.
    pub(crate) name: &'static str,
    pub(crate) needs: Needs,
    pub(crate) count: Count,
    pub(crate) lane: Lane,
    pub(crate) action: Action,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

/// Runs a step to its end.
pub(crate) fn run(step: &Step, tools: &Tools) -> (Tally, Option<anyhow::Error>) {
    let log = tools.step_log(step.name);
    // Counts are read from this log, so that of an earlier run must be gone.
    fs::remove_file(&log).ok();
    let cluster = if step.needs == Needs::Cluster { tools.cluster_answers() } else { Ok(()) };
    let result = if let Err(error) = cluster {
        Err(error.context(format!("no cluster answers, see the step {UP:?}")))
    } else {
        match &step.action {
            Action::Code(code) => {
                tools.progress.say(step.name);
                code(tools)
            }
            Action::Program(make) => {
                make(tools).and_then(|mut command| tools.progress.long(step.name, &mut command, &log))
            }
        }
    };
    let said = fs::read_to_string(&log).unwrap_or_default();
    let mut tally = count(step.count, &said);
    match &result {
        // A step that ran no test must not look like a success.
        Ok(()) if tally.passed == 0 && step.count != Count::One => {
            tally.failed += 1;
            return (tally, Some(anyhow::anyhow!("it ran no test; see {}", log.display())));
        }
        Ok(()) => {}
        Err(_) => {
            tally = Tally {
                passed: if step.count == Count::One { 0 } else { tally.passed },
                failed: tally.failed.max(1),
            }
        }
    }
    (tally, result.err())
}

/// Reads the counts in a test runner's output.
fn count(count: Count, said: &str) -> Tally {
    let number = |text: &str| text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
    match count {
        Count::One => Tally { passed: 1, failed: 0 },
        Count::Cargo => said
            .lines()
            .filter_map(|line| line.trim().strip_prefix("test result: "))
            .filter_map(|line| line.split_once(". "))
            .fold(Tally::default(), |sum, (_, figures)| {
                let mut parts = figures.split("; ");
                Tally {
                    passed: sum.passed + parts.next().map_or(0, number),
                    failed: sum.failed + parts.next().map_or(0, number),
                }
            }),
        Count::Node => {
            // The TAP reporter says "# pass 3", the one for terminals "ℹ pass 3".
            let figure = |name: &str| -> u64 {
                said.lines()
                    .filter_map(|line| line.strip_prefix("# ").or_else(|| line.strip_prefix("ℹ ")))
                    .filter_map(|line| line.strip_prefix(name))
                    .map(number)
                    .sum()
            };
            Tally { passed: figure("pass "), failed: figure("fail ") }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_results_are_summed() {
        let said = "test result: ok. 3 passed; 0 failed; 0 ignored\n x\ntest result: FAILED. 1 passed; 2 failed; 0 ignored\n";
        assert_eq!(count(Count::Cargo, said), Tally { passed: 4, failed: 2 });
    }

    #[test]
    fn both_reporters_of_node_are_read() {
        assert_eq!(count(Count::Node, "# tests 4\n# pass 3\n# fail 1\n"), Tally { passed: 3, failed: 1 });
        assert_eq!(count(Count::Node, "ℹ tests 2\nℹ pass 2\nℹ fail 0\n"), Tally { passed: 2, failed: 0 });
    }

    #[test]
    fn a_runner_that_says_nothing_counts_nothing() {
        assert_eq!(count(Count::Cargo, "error: could not compile\n"), Tally::default());
    }
}
