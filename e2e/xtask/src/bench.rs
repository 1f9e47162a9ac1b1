//! `bench`: our node beside other servers. Builds and installs as the user, measures as root in a network namespace
//! that dies with the measurement, writes the page as the user again.

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use cluster::{packages, run::Progress};

use crate::{artifacts, options::Options, root};

/// Flags of a measurement, and whether the installation takes them, too.
const FLAGS: [(&str, bool); 6] = [
    ("only", true),
    ("scenario", false),
    ("pairs", false),
    ("seconds", false),
    ("quiet", false),
    ("seed", false),
];

/// Runs the command.
pub(crate) fn bench(mut options: Options) -> Result<ExitCode> {
    let word = options.rest().first().cloned().unwrap_or_default();
    let results = options
        .value("results")
        .map_or_else(|| artifacts::target().join("bench/results.jsonl"), PathBuf::from);
    let progress = Progress::new();
    match word.as_str() {
        "peers" | "send" | "alone" => {
            let flags: Vec<_> = FLAGS
                .iter()
                .filter_map(|(name, shared)| options.value(name).map(|value| (*name, value, *shared)))
                .collect();
            let fresh = options.flag("fresh");
            options.no_flags("`cargo xtask help` tells what is")?;
            packages::ensure(&[packages::BENCH], &progress)?;
            build(&progress)?;
            let mut install = program();
            install.arg("install");
            let mut measure = root::command("unshare");
            measure.args(["--net", "--"]).arg(binary()).args(["run", &word, "--results"]).arg(&results);
            for (name, value, shared) in &flags {
                let flag = format!("--{name}={value}");
                if *shared {
                    install.arg(&flag);
                }
                measure.arg(&flag);
            }
            if fresh {
                measure.arg("--fresh");
            }
            // The other two measure only what is built here.
            let installed = if word == "peers" { ended(&mut install)? } else { 0 };
            let code = if installed == 0 { ended(&mut measure)? } else { installed };
            Ok(ExitCode::from(code))
        }
        "page" | "show" => {
            options.no_flags("`cargo xtask help` tells what is")?;
            build(&progress)?;
            ended(program().arg(&word).arg("--results").arg(results)).map(ExitCode::from)
        }
        other => bail!("bench {other:?} is none of peers, send, alone, show, page"),
    }
}

/// Everything that takes part and is our own, as it is released.
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
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
