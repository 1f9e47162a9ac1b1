//! Measures in rounds: in each, every server of a scenario is started, driven and stopped once, in random order, so
//! that disturbances of the machine affect all of them alike and a ratio is made within a round.

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use cluster::run::{self, Progress};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde_json::Value;

use crate::{
    environment::{self, Busy},
    peers::{self, Contestant, Start, tls::Files},
    process::Server,
    record::{Header, Records, Run},
    scenario::{Group, Scenario},
};

/// First port of servers; each run takes the next two, because connections of the last run are not all gone yet.
const FIRST_PORT: u16 = 4_000;
/// How many pairs of ports are used in turn.
const PORTS: u32 = 2_000;
/// Connections per source address of the generator: one address can reach one server port about 55,000 times.
const ADDRESS_HOLDS: u32 = 20_000;
/// A machine on which others use less is quiet; otherwise a run records how busy others were.
const QUIET_CPUS: f64 = 0.1;
/// Time of a run besides publishing, until a run has shown the real one.
const USUAL_EXTRA: Duration = Duration::from_secs(6);
/// A run that takes longer hangs: a search against a server that answers slowly takes a quarter of it.
const HANG_GUARD: Duration = Duration::from_secs(600);
/// Clients that come and go before memory with TLS is measured.
const FIRST_CLIENTS: u32 = 100;

/// The settings of a campaign.
pub struct Campaign<'a> {
    /// Servers that take part.
    pub contestants: &'a [Contestant],
    /// The scenarios to measure.
    pub scenarios: &'a [Scenario],
    /// Rounds of each scenario.
    pub rounds: u32,
    /// Seconds of publishing instead of the scenario's own.
    pub seconds: Option<u32>,
    /// Longest wait before each run for others to leave the machine alone.
    pub quiet: Option<Duration>,
    /// Directory for the servers' files.
    pub scratch: PathBuf,
}

/// One run that is still to do.
struct Task<'a> {
    scenario: &'a Scenario,
    round: u32,
    contestant: &'a Contestant,
}

/// The first line of a campaign's file.
///
/// # Errors
/// When a server is not installed.
pub fn header(contestants: &[Contestant], seed: u64, seconds: Option<u32>) -> Result<Header> {
    let mut versions = BTreeMap::new();
    for contestant in contestants {
        versions.insert(contestant.label(), contestant.peer.version()?);
    }
    Ok(Header { seed, seconds, environment: environment::Environment::here()?, versions })
}

/// Makes the runs that are still missing.
///
/// # Errors
/// When a result cannot be written. When a server fails, that is a result.
pub fn campaign(campaign: &Campaign<'_>, records: &mut Records, progress: &Progress) -> Result<()> {
    let tasks = tasks(campaign, records);
    let started = Instant::now();
    let mut times: BTreeMap<&str, (Duration, u32)> = BTreeMap::new();
    for (at, task) in tasks.iter().enumerate() {
        if let Some(limit) = campaign.quiet {
            environment::wait_for_quiet(QUIET_CPUS, limit)?;
        }
        let (begun, busy) = (Instant::now(), Busy::now()?);
        let label = task.contestant.label();
        let port = FIRST_PORT + 2 * (records.runs.len() as u32 % PORTS) as u16;
        let measured = measure(campaign, task, port, progress);
        let (report, error) = match measured {
            Ok(report) => (report, None),
            Err(error) => (Value::Null, Some(format!("{error:#}"))),
        };
        let run = Run {
            scenario: task.scenario.name.to_owned(),
            round: task.round,
            server: label,
            at: run::output(Command::new("date").args(["--utc", "+%H:%M:%S"]))?.trim().to_owned(),
            cpus_of_others: Some(busy.others_since()?),
            error,
            report,
        };
        let entry = times.entry(task.scenario.name).or_default();
        *entry = (entry.0 + begun.elapsed(), entry.1 + 1);
        let left = remaining(&tasks[at + 1..], &times, campaign.seconds);
        progress.say(&line(&run, task.scenario, at + 1, tasks.len(), left));
        records.add(run)?;
    }
    if !tasks.is_empty() {
        progress.say(&format!("{} runs in {} s", tasks.len(), started.elapsed().as_secs()));
    }
    Ok(())
}

/// Runs that are not done, in the order in which they are made, which follows from the seed.
fn tasks<'a>(campaign: &Campaign<'a>, records: &Records) -> Vec<Task<'a>> {
    let mut tasks = Vec::new();
    for (number, scenario) in campaign.scenarios.iter().enumerate() {
        for round in 0..campaign.rounds {
            let mut order: Vec<_> =
                campaign.contestants.iter().filter(|one| scenario.is_for(one.peer.name())).collect();
            let seed = records.header.seed ^ ((number as u64) << 32) ^ u64::from(round);
            order.shuffle(&mut StdRng::seed_from_u64(seed));
            let missing = order.into_iter().filter(|one| !records.has(scenario.name, round, &one.label()));
            tasks.extend(missing.map(|contestant| Task { scenario, round, contestant }));
        }
    }
    tasks
}

fn measure(campaign: &Campaign<'_>, task: &Task<'_>, port: u16, progress: &Progress) -> Result<Value> {
    let (scenario, contestant) = (task.scenario, task.contestant);
    let directory = campaign.scratch.join(contestant.peer.name());
    let (workers, connections) = (contestant.workers, scenario.connections);
    let start = Start { directory: &directory, port, workers, connections };
    let server = Server::start(contestant.peer, &start)?;
    if scenario.group == Group::Tls && scenario.kind == "idle" {
        // What a process needs once for its first handshakes is no part of what an idle connection costs.
        let first = Scenario { connections: FIRST_CLIENTS, rooms: 1, seconds: 1, ..*scenario };
        let task = Task { scenario: &first, round: task.round, contestant };
        let mut command = generator(campaign, &task, &start, &server, &directory.join("first.json"))?;
        let log = directory.join("first.log");
        let status = within(&mut command, &log, HANG_GUARD)?;
        ensure!(status.success(), "the first clients were not served: {}", run::tail(&log));
    }
    let report = directory.join("report.json");
    let mut command = generator(campaign, task, &start, &server, &report)?;
    let log = directory.join("loadgen.log");
    let status = within(&mut command, &log, HANG_GUARD);
    let said = server.said();
    server.stop()?;
    // With code 1 the generator ran, and its result was not good; the report has the details.
    let code = status?.code();
    ensure!(matches!(code, Some(0 | 1)), "the generator ended with {code:?}: {}", run::tail(&log));
    let text = fs::read_to_string(&report).with_context(|| format!("no report: {}", run::tail(&log)))?;
    if code == Some(1) && !said.is_empty() {
        progress.say(&format!("{} said: {}", contestant.label(), said.lines().last().unwrap_or_default()));
    }
    serde_json::from_str(&text).context("the generator's report is not JSON")
}

fn generator(
    campaign: &Campaign<'_>,
    task: &Task<'_>,
    start: &Start<'_>,
    server: &Server,
    report: &Path,
) -> Result<Command> {
    let Task { scenario, contestant, .. } = task;
    let dialect = contestant.peer.dialect();
    let mut command = run::tied(peers::beside("loadgen")?);
    let mut flag = |name: &str, value: String| {
        command.arg(format!("--{name}")).arg(value);
    };
    let scheme = if contestant.peer.is_tls() { "wss" } else { "ws" };
    flag("url", format!("{scheme}://{}:{}", Ipv4Addr::LOCALHOST, start.port));
    flag("dialect", dialect.to_owned());
    flag("scenario", scenario.kind.to_owned());
    flag("connections", scenario.connections.to_string());
    flag("rooms", scenario.rooms.to_string());
    if scenario.rate > 0 {
        flag("rate", scenario.rate.to_string());
    }
    flag("duration", campaign.seconds.unwrap_or(scenario.seconds).to_string());
    flag("warmup", scenario.warmup.to_string());
    flag("connect-rate", scenario.connect_rate.to_string());
    flag("payload", scenario.payload_for(dialect).to_string());
    flag("server-pid", server.pid().to_string());
    if let Some(addresses) = source_addresses(scenario.connections) {
        flag("source-addresses", addresses);
    }
    if scenario.tells_user_time() {
        command.arg("--perf");
    }
    if contestant.peer.is_tls() {
        command.arg("--tls-ca").arg(Files::of(start.directory).ca());
    }
    command.args(contestant.peer.generator_flags(start));
    command.args(scenario.flags).arg("--json").arg(report);
    Ok(command)
}

/// Addresses to connect from, if one is not enough.
fn source_addresses(connections: u32) -> Option<String> {
    let count = connections.div_ceil(ADDRESS_HOLDS);
    (count > 1).then(|| (1..=count).map(|n| format!("127.0.0.{n}")).collect::<Vec<_>>().join(","))
}

/// Runs a program to its end with its output in a file.
fn within(command: &mut Command, log: &Path, limit: Duration) -> Result<std::process::ExitStatus> {
    let output = fs::File::create(log)?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("cannot start `{}`", run::describe(command)))?;
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            anyhow::bail!("the generator did not end in {} s: {}", limit.as_secs(), run::tail(log));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The time that these runs will take, by the times of the runs that are done.
fn remaining(tasks: &[Task<'_>], times: &BTreeMap<&str, (Duration, u32)>, seconds: Option<u32>) -> Duration {
    let guess = |task: &Task<'_>| match times.get(task.scenario.name) {
        Some((total, count)) => *total / *count,
        None => USUAL_EXTRA + Duration::from_secs(seconds.unwrap_or(task.scenario.seconds).into()),
    };
    tasks.iter().map(guess).sum()
}

fn line(run: &Run, scenario: &Scenario, done: usize, all: usize, left: Duration) -> String {
    let figures: Vec<_> = scenario
        .figures
        .iter()
        .filter_map(|figure| {
            let value = figure.of(&run.report)?;
            Some(format!("{} {} {}", figure.name, crate::plot::rounded(value), figure.unit))
        })
        .collect();
    let others = run.cpus_of_others.filter(|cpus| *cpus >= QUIET_CPUS);
    let others =
        others.map_or_else(String::new, |cpus| format!("; others used {} CPUs", crate::plot::rounded(cpus)));
    let what = run.failure().map_or_else(String::new, |why| format!("  FAILED: {why}"));
    format!(
        "{done}/{all} {} round {} {}: {}{what}{others}  ({} min {:02} s left)",
        run.scenario,
        run.round + 1,
        run.server,
        figures.join(", "),
        left.as_secs() / 60,
        left.as_secs() % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Group, select};

    fn records() -> Records {
        let path = std::env::temp_dir().join(format!("bench-tasks-{}.jsonl", std::process::id()));
        fs::remove_file(&path).ok();
        let environment = environment::Environment {
            cpu: String::new(),
            cpus: 2,
            memory_gib: 1,
            kernel: String::new(),
            commit: String::new(),
            date: String::new(),
            nofile: 1,
        };
        let header = Header { seed: 9, seconds: None, environment, versions: BTreeMap::new() };
        let records = Records::resume(&path, || Ok(header)).unwrap();
        fs::remove_file(path).unwrap();
        records
    }

    #[test]
    fn every_round_has_every_server_once_in_an_order_of_its_own() {
        let contestants: Vec<_> = ["channel-node", "bare", "uws", "nats"]
            .iter()
            .map(|name| Contestant::parse(name).unwrap())
            .collect();
        let scenarios = select(&[], Group::Peers).unwrap();
        let mut campaign = Campaign {
            contestants: &contestants,
            scenarios: &scenarios[..1],
            rounds: 12,
            seconds: None,
            quiet: None,
            scratch: PathBuf::new(),
        };
        let mut records = records();
        let all = tasks(&campaign, &records);
        assert_eq!(all.len(), 36);
        let orders: std::collections::BTreeSet<Vec<String>> =
            all.chunks(3).map(|round| round.iter().map(|task| task.contestant.label()).collect()).collect();
        assert!(orders.len() > 2, "{orders:?}");
        assert!(orders.iter().all(|order| order.contains(&"nats".to_owned())));
        // Runs that are done are left out; the others keep their order.
        let first = &all[0];
        records.runs.push(Run {
            scenario: first.scenario.name.into(),
            round: 0,
            server: first.contestant.label(),
            at: String::new(),
            cpus_of_others: None,
            error: None,
            report: Value::Null,
        });
        let rest = tasks(&campaign, &records);
        assert_eq!(rest.len(), 35);
        assert_eq!(rest[0].contestant.label(), all[1].contestant.label());
        // A scenario may be for some servers only.
        let send = select(&[], Group::Send).unwrap();
        campaign.scenarios = &send;
        assert_eq!(tasks(&campaign, &records).len(), 3 * 12 * 2);
    }

    #[test]
    fn many_connections_come_from_many_addresses() {
        assert_eq!(source_addresses(10_000), None);
        assert_eq!(source_addresses(50_000).as_deref(), Some("127.0.0.1,127.0.0.2,127.0.0.3"));
    }
}
