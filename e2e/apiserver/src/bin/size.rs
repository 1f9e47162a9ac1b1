//! Measures what many fleets cost the operator; `cargo xtask size` builds and runs it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use apiserver::size::{self, Report, Wanted};
use clap::Parser;
use cluster::run::Progress;

/// What many fleets cost the operator
#[derive(Debug, Parser)]
struct Arguments {
    /// The operator's program
    #[arg(long, value_name = "PATH")]
    operator: PathBuf,
    /// ChannelClusters
    #[arg(long, default_value_t = 2_000)]
    fleets: usize,
    /// Nodes of each
    #[arg(long, default_value_t = 5)]
    nodes: usize,
    /// Pods, and as many Secrets, that are nobody's
    #[arg(long, default_value_t = 100_000)]
    foreign: usize,
    /// Seconds for which the operator is looked at when nothing happens
    #[arg(long, default_value_t = 60)]
    rest: u64,
    /// Changes of one ChannelCluster that are timed, each time
    #[arg(long, default_value_t = 20)]
    changes: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { operator, fleets, nodes, foreign, rest, changes } = Arguments::parse();
    let wanted =
        Wanted { operator: Some(operator), fleets, nodes, foreign, rest: Duration::from_secs(rest), changes };
    match Box::pin(size::run(&wanted, &Progress::new())).await {
        Ok(report) => {
            print(&wanted, &report);
            ExitCode::SUCCESS
        }
        Err(error) => {
            say::err!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
fn print(wanted: &Wanted, report: &Report) {
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let times = |all: &[Duration]| {
        let at = |part: usize| {
            all.get((all.len().saturating_sub(1)) * part / 100).map_or(0.0, Duration::as_secs_f64)
        };
        format!("median {:.2} s, longest {:.2} s of {}", at(50), at(100), all.len())
    };
    say::out!("{} ChannelClusters with {} nodes each", wanted.fleets, wanted.nodes);
    say::out!("objects of all are there: {:.1} s after the operator's start", report.first.as_secs_f64());
    say::out!("change of one meanwhile: {}", times(&report.meanwhile));
    say::out!("change of one at rest: {}", times(&report.at_rest));
    let used = |of: &size::Usage| format!("{:.3} of a core, {:.0} MiB", of.cores, mebibytes(of.memory));
    say::out!("at rest: {}", used(&report.rest));
    say::out!(
        "at rest: {:.0} nodes asked, {:.1} status written per second",
        report.scrapes,
        report.status_writes
    );
    say::out!("with {0} foreign pods and {0} Secrets: {1}", wanted.foreign, used(&report.foreign));
    say::out!("change of one then: {}", times(&report.beside_foreign));
    say::out!("most memory at any time: {:.0} MiB", mebibytes(report.most_memory));
}
