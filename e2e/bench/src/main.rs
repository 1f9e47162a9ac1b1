//! `bench install`, `bench run`, `bench page`: the three parts of `cargo xtask bench`.
//!
//! Installing needs the network and runs as the user; measuring needs root and a network namespace of its own; the
//! page is written as the user again.

// The macros of the standard library panic when the reader has gone; see the crate `say`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bench::{
    environment, page,
    peers::{self, ALL, BARE, Contestant, OURS, TLS},
    record::Records,
    run::{Campaign, campaign, header},
    scenario::{Group, select},
};
use clap::{Parser, Subcommand};
use cluster::run::Progress;

/// Our node beside other servers.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Word,
}

#[derive(Subcommand)]
enum Word {
    /// Install the servers of a group
    Install {
        /// The group, as in `run`
        group: String,
        #[command(flatten)]
        who: Who,
    },
    /// Measure; needs root and a network namespace with nothing but a loopback device
    Run {
        /// peers: beside other servers; send: beside a bare send(2) loop; alone: what only ours can do; tls: with TLS, beside
        /// other servers with it
        group: String,
        #[command(flatten)]
        who: Who,
        /// Scenarios, all of the group by default
        #[arg(long, value_delimiter = ',')]
        scenario: Vec<String>,
        /// Rounds; each server is measured once in each
        #[arg(long, default_value_t = 15)]
        pairs: u32,
        /// Seconds of publishing, instead of the scenario's own
        #[arg(long)]
        seconds: Option<u32>,
        /// Longest wait before each run, in seconds, for other processes to leave the machine alone
        #[arg(long)]
        quiet: Option<u64>,
        /// Seed of the orders
        #[arg(long)]
        seed: Option<u64>,
        /// Set earlier results aside and begin anew
        #[arg(long)]
        fresh: bool,
        /// File of the raw results
        #[arg(long)]
        results: PathBuf,
    },
    /// Print the results so far
    Show {
        /// File of the raw results
        #[arg(long)]
        results: PathBuf,
    },
    /// Write the page and the plots
    Page {
        /// Files of raw results: a scenario is shown from the first that has it
        #[arg(long, value_delimiter = ',')]
        results: Vec<PathBuf>,
    },
}

#[derive(clap::Args)]
struct Who {
    /// Servers, all by default; NAME@WORKERS for another number of workers. Ours is always among them
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

impl Who {
    /// The servers asked for, with ours among them, also with TLS when another one has it. When none is asked for: all of
    /// them, ours also with one thread, because most others have one thread and leave the second core to the generator, and
    /// the bare loop also with as many threads as ours.
    fn contestants(&self) -> Result<Vec<Contestant>> {
        let read =
            |names: &[String]| names.iter().map(|name| Contestant::parse(name)).collect::<Result<Vec<_>>>();
        if self.only.is_empty() {
            let names = ALL.iter().map(|peer| peer.name().to_owned());
            let others = [format!("{OURS}@1"), format!("{TLS}@1"), format!("{BARE}@2")];
            return read(&names.chain(others).collect::<Vec<_>>());
        }
        let mut all = read(&self.only)?;
        if !all.iter().any(Contestant::is_ours) {
            all.insert(0, Contestant::parse(OURS)?);
        }
        if all.iter().any(|one| one.peer.is_tls()) && !all.iter().any(|one| one.peer.name() == TLS) {
            all.insert(1, Contestant::parse(TLS)?);
        }
        Ok(all)
    }
}

fn main() -> ExitCode {
    match dispatch(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::err!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(word: Word) -> Result<()> {
    let progress = Progress::new();
    match word {
        Word::Install { group, who } => {
            let scenarios = select(&[], read_group(&group)?)?;
            let mut contestants = who.contestants()?;
            contestants.retain(|one| scenarios.iter().any(|scenario| scenario.is_for(one.peer.name())));
            install(&contestants, &progress);
            Ok(())
        }
        Word::Run { group, who, scenario, pairs, seconds, quiet, seed, fresh, results } => {
            ensure!(pairs > 0, "--pairs must be at least 1");
            let group = read_group(&group)?;
            let scenarios = select(&scenario, group)?;
            let mut contestants = who.contestants()?;
            contestants.retain(|one| {
                let takes_part = scenarios.iter().any(|scenario| scenario.is_for(one.peer.name()));
                if !takes_part && !who.only.is_empty() {
                    progress.say(&format!("{} takes no part in this", one.label()));
                }
                takes_part
            });
            contestants.retain(|one| {
                one.peer.version().inspect_err(|error| left_out(one, error, &progress)).is_ok()
            });
            peers::beside(OURS)?;
            environment::prepare_network()?;
            environment::raise_nofile()?;
            if fresh && results.exists() {
                set_aside(&results)?;
            }
            let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
            let mut records = Records::resume(&results, || header(&contestants, seed, seconds))?;
            progress.say(&format!("seed {}, results in {}", records.header.seed, results.display()));
            let quiet = quiet.map(Duration::from_secs);
            let scratch = results.with_file_name("servers");
            let plan = Campaign {
                contestants: &contestants,
                scenarios: &scenarios,
                rounds: pairs,
                seconds,
                quiet,
                scratch,
            };
            campaign(&plan, &mut records, &progress)?;
            say::raw!("{}", page::text(&records, &scenarios));
            Ok(())
        }
        Word::Show { results } => {
            say::raw!("{}", page::text(&Records::read(&results)?, &bench::scenario::ALL));
            Ok(())
        }
        Word::Page { results } => {
            let repository =
                Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("a repository")?;
            let campaigns: Result<Vec<_>> = results.iter().map(|path| Records::read(path)).collect();
            page::write(&campaigns?, repository)
        }
    }
}

/// Installs all servers that can be installed; names the others, which are left out of the measurement.
fn install(contestants: &[Contestant], progress: &Progress) {
    for contestant in contestants {
        if let Err(error) = contestant.peer.install(progress) {
            left_out(contestant, &error, progress);
        }
    }
}

fn left_out(contestant: &Contestant, error: &anyhow::Error, progress: &Progress) {
    progress.say(&format!("{} is left out: {error:#}", contestant.label()));
}

fn read_group(name: &str) -> Result<Group> {
    Ok(match name {
        "peers" => Group::Peers,
        "send" => Group::Send,
        "alone" => Group::Alone,
        "tls" => Group::Tls,
        _ => anyhow::bail!("{name:?} is none of peers, send, alone, tls"),
    })
}

/// Renames a campaign's file after its commit, so that no result is deleted.
fn set_aside(results: &Path) -> Result<()> {
    let commit =
        Records::read(results).map_or_else(|_| "unreadable".to_owned(), |r| r.header.environment.commit);
    let stem = results.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let free = (1..).map(|n| results.with_file_name(format!("{stem}-{commit}-{n}.jsonl")));
    let free = free.into_iter().find(|path| !path.exists()).context("a free name")?;
    fs::rename(results, &free).with_context(|| format!("cannot rename {}", results.display()))
}
