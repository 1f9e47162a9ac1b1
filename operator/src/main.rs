//! Entry point of channel-operator: the life of the process.

// These macros panic when standard output is closed; see `shell::output`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod allocator;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use kube::Client;
use operator::admin::{self, Admin};
use operator::args::Args;
use operator::claim::Claims;
use operator::controller::{self, Term};
use operator::lease::{self, Elector, Fence, TermEnd};
use operator::metrics::Metrics;
use operator::probe::Probe;
use operator::pulses::Sight;
use operator_core::validate::OperatorEnv;
use rand::distr::{Alphanumeric, SampleString};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shell::output::{self, Lines};
use shell::signals::{Asked, Signals};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

/// Exit code for a command line that makes no sense (`EX_USAGE` of sysexits.h).
const USAGE: u8 = 64;
/// First word of the command line that asks an operator in the place of being one.
const PROBE: &str = "probe";
/// Environment variable with the filter of the log, as `tracing_subscriber::EnvFilter` reads it.
const LOG_ENV: &str = "CHANNEL_LOG";
/// Longest pause between attempts to reach the API server at the start, so that it is found soon after it comes back.
const LONGEST_PAUSE: std::time::Duration = std::time::Duration::from_secs(4);
/// Length of a random identity.
const IDENTITY_LENGTH: usize = 8;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(PROBE) {
        return Probe::try_parse_from(std::env::args().skip(1))
            .map_or_else(|error| explain(&error), |probe| ask(&probe));
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return explain(&error),
    };
    let log = match output::lines(std::io::stdout()) {
        Ok(log) => log,
        Err(error) => {
            output::complain(format_args!("channel-operator: cannot start the log: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = start(args, &log);
    log.flush();
    code
}

/// Prints what is wrong with the command line, or the help that was asked for.
fn explain(error: &clap::Error) -> ExitCode {
    let asked = !error.use_stderr(); // the user asked for --help or --version
    // If the text cannot be written, the exit code alone tells the outcome.
    error.print().ok();
    if asked { ExitCode::SUCCESS } else { ExitCode::from(USAGE) }
}

/// Asks an operator, and says what it answers.
fn ask(probe: &Probe) -> ExitCode {
    match probe.ask() {
        Ok(said) => {
            // If the text cannot be written, the exit code alone tells the outcome.
            writeln!(std::io::stdout(), "{said}").ok();
            ExitCode::SUCCESS
        }
        Err(error) => {
            output::complain(format_args!("channel-operator: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn start(args: Args, log: &Lines) -> ExitCode {
    let filter = EnvFilter::try_from_env(LOG_ENV).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(log.clone());
    // The subscriber would panic if it reported its own errors while standard error is closed.
    lines.log_internal_errors(false).with_ansi(false).init();
    output::log_panics();
    if let Err(error) = raise_nofile() {
        warn!(%error, "cannot raise the limit of open files: large fleets may not be seen whole");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "cannot start the runtime");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Raises the soft limit of open files to the hard one: a connection is kept to each node, and container runtimes that
/// set no limit leave 1,024.
fn raise_nofile() -> std::io::Result<()> {
    let hard = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard })?)
}

async fn run(args: Args) -> anyhow::Result<()> {
    let Args { node_image, nats_image, allowed_images, namespace, watch_namespaces, identity, metrics_addr } =
        args;
    let identity = identity.unwrap_or_else(|| Alphanumeric.sample_string(&mut rand::rng(), IDENTITY_LENGTH));
    let stop = stop_on_signal()?;
    let (fence, metrics, sight) =
        (Arc::new(Fence::default()), Arc::new(Metrics::default()), Sight::default());
    let claims = Arc::new(Claims::new(&namespace, &watch_namespaces));
    let client = operator::client::connect(fence.clone()).await;
    let client = client.context("cannot configure the client of the API server")?;
    let admin = Admin {
        metrics: metrics.clone(),
        fence: fence.clone(),
        sight: sight.clone(),
        claims: claims.clone(),
    };
    let admin = tokio::spawn(admin::serve(admin, metrics_addr, stop.clone()));

    let Some(server_minor) = server_minor(&client, &stop).await else { return Ok(()) };
    info!(identity, namespace, server_minor, "standing by");
    let own = namespace.clone();
    let env = Arc::new(OperatorEnv { node_image, nats_image, server_minor, namespace: own, allowed_images });
    let elector = Elector::new(client.clone(), &namespace, identity.clone(), fence.clone());
    // It is cancelled once nothing acts any more: if the lease were given back earlier, two operators would act.
    let resign = CancellationToken::new();
    let elector = tokio::spawn(elector.run(resign.clone()));
    let term = Term {
        client,
        fence: fence.clone(),
        env,
        metrics,
        sight,
        identity,
        claims,
        namespaces: watch_namespaces.into(),
    };
    let led = lead(&term, &stop, admin).await;
    stop.cancel();
    resign.cancel();
    elector.await.context("the election failed")?;
    info!("stopped");
    led
}

/// Leads whenever the lease is held, until `stop` or until the admin port fails.
async fn lead(
    term: &Term,
    stop: &CancellationToken,
    mut admin: tokio::task::JoinHandle<std::io::Result<()>>,
) -> anyhow::Result<()> {
    let terms = async {
        loop {
            term.fence.acquired().await;
            info!("leading");
            match lease::term(&term.fence, stop, controller::run(term.clone())).await {
                TermEnd::Stopped => return,
                TermEnd::Lost => warn!("lost the lease: stopped acting"),
                TermEnd::Ended => {}
            }
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        () = terms => Ok(()),
        ended = &mut admin => match ended.context("the admin port failed")? {
            Ok(()) => Ok(()),
            Err(error) => Err(error).context("cannot serve --metrics-addr"),
        },
    }
}

/// The minor version of the API server; waits for it, since an operator may start before its API server answers.
async fn server_minor(client: &Client, stop: &CancellationToken) -> Option<u32> {
    let mut pause = std::time::Duration::from_secs(1);
    loop {
        match client.apiserver_version().await {
            Ok(version) => {
                // Some providers write `34+`.
                let digits: String = version.minor.chars().take_while(char::is_ascii_digit).collect();
                return Some(digits.parse().unwrap_or_default());
            }
            Err(error) => warn!(%error, "the API server does not answer, trying again"),
        }
        tokio::select! {
            () = tokio::time::sleep(pause.mul_f64(rand::random_range(0.8..1.2))) => {}
            () = stop.cancelled() => return None,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut signals = Signals::new().context("cannot take over signals")?;
    let token = stop.clone();
    tokio::spawn(async move {
        // There is no configuration to read again: the operator's work is defined by objects of the cluster.
        while signals.next().await == Asked::Reload {}
        info!("stopping");
        token.cancel();
    });
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    #[test]
    fn a_low_soft_limit_of_open_files_is_raised() {
        let hard = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: Some(256), maximum: hard }).unwrap();
        super::raise_nofile().unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current, hard);
    }
}
