//! The one way to run things: `cargo xtask up`, `down`, `test`, `load`, `kubectl`.
//!
//! A library, so that the tests of the pages see its words and steps.

// They panic where nobody takes what they write; see the crate `say`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod artifacts;
mod bench;
mod context;
mod fuzz;
mod gates;
mod install;
mod lanes;
mod load;
mod options;
mod root;
mod schemas;
mod soak;
mod step;
mod steps;
mod test;
mod tools;
mod up;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use cluster::{Instance, run::Progress};
use options::Options;

/// What `cargo xtask help` prints.
pub const HELP: &str = "\
usage: cargo xtask COMMAND [--instance NAME] [flags]

  up      start a real Kubernetes cluster on this machine, install ChannelCluster and the chat sample
            --instance NAME   demo (default) or test: each has its own addresses and state
            --context NAME    install into the cluster of this kubectl context instead of starting one; a
                              release or a chat there that is not from cargo xtask is refused
            --registry HOST/PATH   with --context: the images' place in a registry
            --port N          port of the chat page on 127.0.0.1 (default 8080)
            --bare            only the cluster: no chart, no sample
            --no-sample       the chart, but no sample
            --quick           compile faster, run slower: for trying a change
  down    end an instance and remove all of it, also after a crash   (--all: every instance)
  load    drive a fleet: --connections N --rooms R --rate PUBLISHES_PER_S --duration S
            --namespace NS --name CC   which ChannelCluster (default: chat in default)
  bench   measure our node beside other servers on this machine, one of:
            peers   uWebSockets, tungstenite, nchan, NATS, Socket.IO, Sockudo
            send    a bare send(2) loop, one to eight messages at a time
            alone   what only ours can do
              --only A,B        these servers, and ours; NAME@2 for two workers
              --scenario A,B    only these loads
              --pairs N         rounds in which each server is measured once (default 15)
              --seconds S --seed N   of publishing per run; of the order of servers
              --quiet S         wait before each run, at most so long, until others leave the machine alone
              --fresh           set earlier results aside; otherwise a broken-off run goes on
            show    print the results so far
            page    write them into docs/BENCHMARKS.md, with plots
              --results FILE    of the raw results (default target/bench/results.jsonl); page
                                takes several with commas, a scenario is from the first that has it
  test    run every check and test; the last line counts them
            --only TEXT       only the steps whose name holds TEXT; cluster: all that need the cluster
            --keep            leave the cluster running
  soak    break a fleet of the running instance test in random ways while clients talk; each loss needs a cause
            --minutes M       (default 20)
            --seed S          the same faults again (default: said at the start)
            --faults A,B      only these: delete-pod, kill-node, freeze-node, delete-nats, freeze-nats, kill-api,
                              kill-operator, scale, cut-bus, cut-clients, cut-admin
            --clients N --room-size N --rate R   who talks, and how often in a second (default 300, 10, 0.5)
            --report DIRECTORY   of the report (default target/soak)
  fuzz    run the fuzz targets of node/core/fuzz on what libFuzzer makes of the kept corpus
            --target NAME     one of config, envelope, frame, origin, protocol, shard (default: all)
            --seconds N       each target (default 60)
            --jobs N          at a time (default 2)
            --input FILE      run one input of --target, such as a finding
  gates   hold counted instructions and bytes of the node to what they were
            --record          accept the figures as they are now
  logs    copy all logs of an instance to target/e2e/logs
  crdgen  write the CRD of the chart anew from the types
  build   build the images into target/images and print their names
  kubectl run kubectl on an instance: cargo xtask kubectl -- get pods
";

/// Runs the command of the command line; the exit code of the process.
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
    let mut words = std::env::args().skip(1);
    let Some(command) = words.next() else {
        say::err!("{}", HELP.trim_end());
        return Ok(ExitCode::from(2));
    };
    let words: Vec<_> = words.collect();
    // What is behind -- is another program's.
    if words.iter().take_while(|word| *word != "--").any(|word| word == "--help" || word == "-h") {
        say::raw!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut options = Options::parse(words)?;
    match command.as_str() {
        "up" => up::up(&mut options),
        "down" => down(&mut options),
        "test" => test::test(&mut options),
        "soak" => soak::soak(options),
        "fuzz" => fuzz::fuzz(&mut options),
        "gates" => gates::gates(&mut options),
        "logs" => test::logs(&mut options),
        "crdgen" => crdgen(&options),
        "load" => load::load(options),
        "bench" => bench::bench(options),
        "build" => build(&mut options),
        "kubectl" => kubectl(&mut options),
        "help" | "--help" | "-h" => {
            say::raw!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        other => bail!("no command {other:?}; `cargo xtask help` lists them"),
    }
}

fn down(options: &mut Options) -> Result<ExitCode> {
    let instances = if options.flag("all") { Instance::all() } else { vec![options.instance("demo")?] };
    options.finish()?;
    if let Some(code) = root::as_root()? {
        return Ok(code);
    }
    let progress = Progress::new();
    for instance in instances {
        instance.stop(&progress)?;
        // The key to a cluster that is gone; there is none when `up` did not get that far.
        std::fs::remove_file(artifacts::kubeconfig(&instance)).ok();
    }
    Ok(ExitCode::SUCCESS)
}

fn build(options: &mut Options) -> Result<ExitCode> {
    let profile = if options.flag("quick") { artifacts::Profile::Quick } else { artifacts::Profile::Release };
    options.finish()?;
    let progress = Progress::new();
    cluster::packages::ensure(&[cluster::packages::BUILD], &progress)?;
    for image in artifacts::product(profile, &progress)?.all() {
        say::out!("{}\t{}", image.reference, image.archive.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn crdgen(options: &Options) -> Result<ExitCode> {
    options.finish()?;
    let mut command = std::process::Command::new("cargo");
    command.args(["run", "--quiet", "--package", "crds", "--bin", "crdgen"]);
    let yaml = cluster::run::output(command.current_dir(artifacts::repository()))?;
    let path = artifacts::repository().join("charts/channelcluster/files/crd.yaml");
    std::fs::write(&path, yaml).with_context(|| format!("cannot write {}", path.display()))?;
    say::out!("wrote {}", path.display());
    Ok(ExitCode::SUCCESS)
}

fn kubectl(options: &mut Options) -> Result<ExitCode> {
    let instance = options.instance("demo")?;
    // Dropped, a --namespace or --dry-run would let kubectl do something else than was asked.
    options.no_flags(
        "kubectl's own flags go behind --, as in `cargo xtask kubectl -- get pods --all-namespaces`",
    )?;
    if let Some(code) = root::as_root()? {
        return Ok(code);
    }
    let status = instance.kubectl_command()?.args(options.rest()).status()?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}
