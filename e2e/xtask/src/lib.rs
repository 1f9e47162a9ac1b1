//! The xtask, by which everything in this repository is run: `cargo xtask up`, `down`, `test`, `load`, `kubectl`.
//!
//! It is a library, so that the tests of the pages can read its commands and steps.

// The macros of the standard library panic when the reader has gone; see the crate `say`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod artifacts;
mod autobahn;
mod bench;
mod cached;
mod cli;
mod clients;
mod context;
mod fuzz;
mod gates;
mod install;
mod judge;
mod keda;
mod lanes;
mod load;
mod plugin;
mod root;
mod schemas;
mod size;
mod soak;
mod step;
mod steps;
mod test;
mod tools;
mod units;
mod up;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser};
use cli::{Arguments, Command};
use cluster::{Instance, run::Progress};

/// The command line's definition, for its commands and flags.
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the command of the command line; returns the exit code of the process.
#[must_use]
pub fn main() -> ExitCode {
    match dispatch() {
        Ok(code) => code,
        Err(error) => {
            say::err!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Names of the steps of `cargo xtask test`, in the order of its table.
#[must_use]
pub fn steps() -> Vec<&'static str> {
    steps::all().iter().map(|step| step.name).collect()
}

fn dispatch() -> Result<ExitCode> {
    let mut words: Vec<_> = std::env::args().collect();
    if words.get(1).is_some_and(|word| word == "load") {
        let behind = words.split_off(2);
        words.extend(cli::own_first(behind, &cli::OF_LOAD));
    }
    match Arguments::parse_from(words).command {
        Command::Up(wanted) => up::up(&wanted),
        Command::Down { on, all } => down(if all { Instance::all() } else { vec![on.instance] }),
        Command::Load(load) => load::load(&load),
        Command::Bench { what } => bench::bench(&what),
        Command::Test { only, keep } => test::test(only.as_deref(), keep),
        Command::Soak(soak) => soak::soak(&soak),
        Command::Keda { on } => keda::keda(&on.instance),
        Command::Fuzz(wanted) => fuzz::fuzz(&wanted),
        Command::Autobahn => autobahn::autobahn(),
        Command::Gates { record } => gates::gates(record),
        Command::Judge(wanted) => judge::judge(&wanted),
        Command::Size(wanted) => size::size(&wanted),
        Command::Logs { on } => test::logs(&on.instance),
        Command::Crdgen => crdgen(),
        Command::Build { quick } => build(quick),
        Command::Cli { to } => plugin::install(to.as_deref()),
        Command::Kubectl { on, words } => kubectl(&on.instance, &words),
    }
}

fn down(instances: Vec<Instance>) -> Result<ExitCode> {
    if let Some(code) = root::as_root()? {
        return Ok(code);
    }
    let progress = Progress::new();
    for instance in instances {
        instance.stop(&progress)?;
        // This is the key to a cluster that is gone; there is none when `up` did not get that far.
        std::fs::remove_file(artifacts::kubeconfig(&instance)).ok();
    }
    Ok(ExitCode::SUCCESS)
}

fn build(quick: bool) -> Result<ExitCode> {
    let profile = if quick { artifacts::Profile::Quick } else { artifacts::Profile::Release };
    let progress = Progress::new();
    cluster::packages::ensure(&[cluster::packages::BUILD], &progress)?;
    for image in artifacts::product(profile, &progress)?.all() {
        say::out!("{}\t{}", image.reference, image.archive.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn crdgen() -> Result<ExitCode> {
    let mut command = std::process::Command::new("cargo");
    command.args(["run", "--quiet", "--package", "crds", "--bin", "crdgen"]);
    let yaml = cluster::run::output(command.current_dir(artifacts::repository()))?;
    let path = artifacts::repository().join("charts/channelcluster/files/crd.yaml");
    std::fs::write(&path, yaml).with_context(|| format!("cannot write {}", path.display()))?;
    say::out!("wrote {}", path.display());
    Ok(ExitCode::SUCCESS)
}

fn kubectl(instance: &Instance, words: &[String]) -> Result<ExitCode> {
    if let Some(code) = root::as_root()? {
        return Ok(code);
    }
    let status = instance.kubectl_command()?.args(words).status()?;
    Ok(cluster::run::code(status).into())
}
