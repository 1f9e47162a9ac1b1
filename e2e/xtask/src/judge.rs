//! `judge`: the operator's decisions beside those of other autoscalers, in virtual time.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::{artifacts, cli::Judge};

/// Runs the command. The program is an example of the core: it is built as the core's tests are, whose optimization suffices.
pub(crate) fn judge(wanted: &Judge) -> Result<ExitCode> {
    let mut command = Command::new("cargo");
    command.args(["run", "--quiet", "--package", "operator-core", "--example", "judge", "--"]);
    command.args(["--seed", &wanted.seed.to_string()]);
    match &wanted.only {
        _ if wanted.random.is_some() => {}
        Some(only) => _ = command.args(["--only", only]),
        None if wanted.operator => {}
        None => _ = command.args(["--write", "docs"]),
    }
    if let Some(steps) = wanted.random {
        command.args(["--random", &steps.to_string()]);
    }
    if wanted.operator {
        command.arg("--operator");
    }
    let status = command.current_dir(artifacts::repository()).status().context("cannot start cargo")?;
    Ok(cluster::run::code(status).into())
}
