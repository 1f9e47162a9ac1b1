//! `soak`: breaks a fleet of the `test` instance in random ways while clients talk. Exit code 0 when every loss has a
//! cause and every client came back in order, 1 when not, 2 when it could not run.

// The macros of the standard library panic when the reader has gone; see the crate `say`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use e2e::soak::{
    fault::{KINDS, Kind},
    run::{Options, run, write},
};

/// Breaks a fleet in random ways while clients talk.
#[derive(Parser)]
struct Words {
    /// How long faults happen.
    #[arg(long, default_value_t = 20.0)]
    minutes: f64,
    /// Draws the faults; one of its own when it is not given, and said.
    #[arg(long)]
    seed: Option<u64>,
    /// What may happen, by name with commas.
    #[arg(long, value_delimiter = ',')]
    faults: Vec<Kind>,
    /// Clients.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u16).range(2..=5_000))]
    clients: u16,
    /// Members of a room.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(2..=64))]
    room_size: u8,
    /// Messages of a client in a second.
    #[arg(long, default_value_t = 0.5)]
    rate: f64,
    /// Where the report goes.
    #[arg(long, default_value = "target/soak")]
    report: PathBuf,
}

fn main() -> ExitCode {
    let words = Words::parse();
    match soak(&words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say::err!("soak: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn soak(words: &Words) -> anyhow::Result<bool> {
    anyhow::ensure!(words.minutes > 0.0 && words.rate > 0.0, "--minutes and --rate are more than nothing");
    let all = KINDS.iter().map(|(_, kind)| *kind);
    let options = Options {
        length: Duration::try_from_secs_f64(words.minutes * 60.0)?,
        seed: words.seed.unwrap_or_else(rand::random),
        clients: words.clients.into(),
        room_size: words.room_size.into(),
        period: Duration::try_from_secs_f64(1.0 / words.rate)?,
        kinds: if words.faults.is_empty() { all.collect() } else { words.faults.iter().copied().collect() },
    };
    let report = run(&options, &mut |line| say::err!("{line}"))?;
    write(&report, &words.report)?;
    say::raw!("{report}");
    say::out!("the report is in {}", words.report.display());
    Ok(report.failures.is_empty())
}
