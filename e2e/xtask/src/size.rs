//! `size`: what thousands of fleets cost the operator.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use cluster::run::{self, Progress};

use crate::{artifacts, cli::Size};

/// Runs the command; its flags go to the program.
pub(crate) fn size(wanted: &Size) -> Result<ExitCode> {
    let progress = Progress::new();
    let operator = artifacts::operator(&progress)?;
    let mut size = Command::new(artifacts::programs(&["size"], &progress)?.join("size"));
    let status =
        size.arg("--operator").arg(operator).args(wanted.flags()).status().context("cannot start it")?;
    Ok(run::code(status).into())
}
