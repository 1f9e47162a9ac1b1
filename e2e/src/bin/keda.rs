//! `keda`: lets a real KEDA scale a fleet of a running instance out and in again. Exit code 0 when the fleet followed and every
//! node that went was drained first.

// The macros of the standard library panic when the reader has gone; see the crate `say`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use cluster::Instance;
use e2e::keda::{
    install::Source,
    run::{Options, run},
};

/// Lets a real KEDA scale a fleet.
#[derive(Parser)]
struct Words {
    /// The running instance.
    #[arg(long)]
    instance: String,
    /// Directory of the sources of KEDA's module.
    #[arg(long)]
    sources: PathBuf,
    /// Image of KEDA's operator, which the nodes of the instance have.
    #[arg(long)]
    operator_image: String,
    /// Image of KEDA's server of metrics, which they have too.
    #[arg(long)]
    adapter_image: String,
    /// Path of the load generator.
    #[arg(long)]
    loadgen: String,
}

fn main() -> ExitCode {
    match keda(Words::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::err!("keda: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn keda(words: Words) -> anyhow::Result<()> {
    let Words { instance, sources, operator_image: operator, adapter_image: adapter, loadgen } = words;
    let source = Source { sources, operator, adapter };
    let options = Options { instance: Instance::attach(&instance)?, source, loadgen };
    run(&options, &|line| say::out!("{line}"))
}
