//! `kubectl channels`: shows fleets of channel nodes, says why each is as large as it is, sizes new ones and gathers what a
//! person needs who is to help.
//!
//! It speaks with the API server alone, with the rights of the person who runs it; it decides nothing: the arithmetic is that of
//! the operator's core. Each command writes to a `Write`, so that tests read what a person would.

pub mod args;
pub mod change;
pub mod connect;
pub mod drain;
pub mod draw;
pub mod explain;
pub mod fleet;
pub mod hold;
pub mod manifest;
pub mod output;
pub mod plan;
pub mod rebalance;
pub mod report;
pub mod rollout;
pub mod simulate;
pub mod status;
pub mod table;
pub mod top;
pub mod words;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser};

use args::{Args, ClusterCommand, Command};
use connect::Place;

/// Everything was done, and is as it should be.
pub const FINE: u8 = 0;
/// The command could not be carried out; standard error says why.
pub const FAILED: u8 = 1;
/// The command was carried out and found something that is not as it should be.
pub const FOUND: u8 = 2;
/// A word or flag of the command line is wrong (`EX_USAGE` of sysexits.h).
pub const USAGE: u8 = 64;

/// The definition of the command line.
#[must_use]
pub fn command() -> clap::Command {
    Args::command()
}

/// Runs the command of the process's command line.
#[must_use]
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let code = if error.use_stderr() { USAGE } else { FINE };
            // Nobody is left to tell when this cannot be printed.
            error.print().ok();
            return code.into();
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    match runtime.block_on(Box::pin(run(&args, &mut io::stdout()))) {
        Ok(code) => code.into(),
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    // Without a reader nobody can be told.
    writeln!(io::stderr(), "error: {error:#}").ok();
    FAILED.into()
}

/// `kubectl channels status | head` is no failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Runs one command; gives the exit code.
///
/// # Errors
/// When it could not be carried out.
pub async fn run(args: &Args, out: &mut dyn Write) -> Result<u8> {
    match &args.command {
        Command::Plan(wanted) => plan::run(wanted, out),
        Command::Simulate(wanted) => simulate::run(wanted, out),
        Command::Completion { shell } => completion(*shell, out).map(|()| FINE),
        Command::Cluster(command) => {
            let place = Box::pin(connect::connect(&args.target)).await?;
            Box::pin(ask(command, &place, words::now(), io::stdout().is_terminal(), out)).await
        }
    }
}

/// Runs a command that asks a cluster at `now` (milliseconds since 1970); gives the exit code.
///
/// # Errors
/// As [`run`].
pub async fn ask(
    command: &ClusterCommand,
    place: &Place,
    now: u64,
    terminal: bool,
    out: &mut dyn Write,
) -> Result<u8> {
    match command {
        ClusterCommand::Status(wanted) => Box::pin(status::run(place, wanted, now, out)).await,
        ClusterCommand::Top(wanted) => Box::pin(top::run(place, wanted, terminal, out)).await,
        ClusterCommand::Explain(wanted) => Box::pin(explain::run(place, wanted, now, out)).await,
        ClusterCommand::Hold(wanted) => Box::pin(hold::hold(place, wanted, out)).await,
        ClusterCommand::Release(wanted) => Box::pin(hold::release(place, wanted, out)).await,
        ClusterCommand::Drain(wanted) => Box::pin(drain::drain(place, wanted, out)).await,
        ClusterCommand::Undrain(wanted) => Box::pin(drain::undrain(place, wanted, out)).await,
        ClusterCommand::Rebalance(wanted) => Box::pin(rebalance::run(place, wanted, now, out)).await,
        ClusterCommand::Rollout(wanted) => Box::pin(rollout::run(place, &wanted.command, out)).await,
        ClusterCommand::Report(wanted) => Box::pin(report::run(place, wanted, now, out)).await,
    }
}

fn completion(shell: clap_complete::Shell, out: &mut dyn Write) -> Result<()> {
    // clap_complete panics when it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "kubectl-channels", &mut script);
    out.write_all(&script)?;
    Ok(())
}
