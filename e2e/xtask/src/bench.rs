//! `bench`: our node beside other servers. It builds and installs as the user, measures as root in a network
//! namespace that ends with the measurement, and writes the page as the user again.

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};
use cluster::{packages, run::Progress};

use crate::{
    artifacts,
    cli::{Bench, Campaign, Results},
    root,
};

/// Runs the command.
pub(crate) fn bench(what: &Bench) -> Result<ExitCode> {
    let progress = Progress::new();
    match what {
        Bench::Peers(campaign) => measure("peers", campaign, &progress),
        Bench::Send(campaign) => measure("send", campaign, &progress),
        Bench::Alone(campaign) => measure("alone", campaign, &progress),
        Bench::Tls(campaign) => measure("tls", campaign, &progress),
        Bench::Show(results) => print("show", results, &progress),
        Bench::Page(results) => print("page", results, &progress),
    }
}

fn measure(group: &str, campaign: &Campaign, progress: &Progress) -> Result<ExitCode> {
    packages::ensure(&[packages::BENCH], progress)?;
    build(progress)?;
    let mut install = program();
    install.args(["install", group]);
    let mut measure = root::command("unshare");
    measure.args(["--net", "--"]).arg(binary()).args(["run", group, "--results"]);
    measure.arg(file(&campaign.results)).args(campaign.flags());
    if let Some(only) = &campaign.only {
        let flag = format!("--only={only}");
        install.arg(&flag);
        measure.arg(&flag);
    }
    if campaign.fresh {
        measure.arg("--fresh");
    }
    let installed = ended(&mut install)?;
    let code = if installed == 0 { ended(&mut measure)? } else { installed };
    Ok(ExitCode::from(code))
}

fn print(word: &str, results: &Results, progress: &Progress) -> Result<ExitCode> {
    build(progress)?;
    ended(program().arg(word).arg("--results").arg(file(results))).map(ExitCode::from)
}

fn file(results: &Results) -> PathBuf {
    results.results.clone().unwrap_or_else(|| artifacts::target().join("bench/results.jsonl"))
}

/// Builds our own programs that take part, as for a release.
fn build(progress: &Progress) -> Result<()> {
    packages::ensure(&[packages::BUILD], progress)?;
    let target = artifacts::target();
    let mut build = Command::new("cargo");
    build.args([
        "build",
        "--release",
        "--package",
        "bench",
        "--bins",
        "--package",
        "node",
        "--bin",
        "channel-node",
    ]);
    build.args(["--package", "e2e", "--bin", "loadgen", "--target-dir"]).arg(&target);
    build.current_dir(artifacts::repository());
    let what = "building the node, the load generator and our own peers (Rust, release)";
    progress.long(what, &mut build, &target.join("bench-build.log"))
}

fn binary() -> PathBuf {
    artifacts::target().join("release/bench")
}

fn program() -> Command {
    Command::new(binary())
}

fn ended(command: &mut Command) -> Result<u8> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
    Ok(cluster::run::code(status))
}
