//! `loadgen`: loads a server and reports which deliveries arrived. Exit code 0 when all connects and deliveries were
//! good and all figures within their bounds, 1 when they were not, 2 when it could not run.

// The macros of the standard library panic when the reader has gone; see the crate `say`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

use clap::Parser;
use e2e::load::{Options, Progress, run, stop_on_signals};
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = Options::parse();
    match load(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say::err!("loadgen: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn load(options: Options) -> anyhow::Result<bool> {
    let (json, html) = (options.json.clone(), options.html.clone());
    let report = run(options, stop_on_signals(), &mut show)?;
    if let Some(path) = json {
        std::fs::write(&path, serde_json::to_vec_pretty(&report)?)
            .map_err(|error| anyhow::anyhow!("--json {}: {error}", path.display()))?;
    }
    if let Some(path) = html {
        std::fs::write(&path, report.html())
            .map_err(|error| anyhow::anyhow!("--html {}: {error}", path.display()))?;
    }
    say::raw!("{report}");
    Ok(report.failures().is_empty())
}

fn show(progress: &Progress) {
    let counters = &progress.counters;
    say::err!(
        "{:>6.1} s {:<8} {:>7} joined {:>9} published {:>11} received {:>9.0}/s  p50 {:.1} p99 {:.1} ms  \
         {} failed {} disconnected {} lost",
        progress.elapsed.as_secs_f64(),
        progress.phase,
        progress.joined,
        counters.published,
        counters.received,
        progress.deliveries_per_second,
        progress.latency.p50_ms,
        progress.latency.p99_ms,
        counters.failed_connects,
        counters.disconnects,
        counters.lost,
    );
}
