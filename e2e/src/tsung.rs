//! Debian's `tsung`, a load tool from outside of this repository, playing Phoenix clients (`tsung/phoenix.xml`).
//!
//! It runs on one Erlang node on loopback, with a port mapper (epmd) of its own that ends with the run, so that
//! nothing of it stays behind in a network namespace.

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const TEMPLATE: &str = include_str!("../tsung/phoenix.xml");
/// Port of the run's own epmd; not 4369, which the machine's own may have.
const EPMD_PORT: &str = "43690";
/// Longest wait beyond the time that the scenario takes: tsung itself waits up to 60 s after the last session.
const GRACE: Duration = Duration::from_secs(180);
/// How many pauses a session has: one before the heartbeat, one before each of two messages, and one before the
/// leave.
const THINKS: u32 = 4;

/// The scenario to play.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Server, as the clients see it.
    pub target: SocketAddr,
    /// Users in total, each with one connection.
    pub users: u32,
    /// Users that arrive per second.
    pub arrivals_per_second: u32,
    /// Rooms, one of which each user chooses by chance.
    pub rooms: u32,
    /// Local addresses to connect from, in turn; none leaves it to the kernel.
    pub sources: Vec<String>,
}

/// The counts of tsung.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Users that started.
    pub users: u64,
    /// Users that came to the end of their session.
    pub finished: u64,
    /// WebSocket handshakes that succeeded.
    pub connected: u64,
    /// WebSocket handshakes that failed.
    pub refused: u64,
    /// Join replies with status `ok`.
    pub joined: u64,
    /// Answers to a join that were not `ok`.
    pub not_joined: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Mean time of a TCP connect and WebSocket handshake, milliseconds.
    pub connect_mean_ms: f64,
    /// Mean time of a request that has an answer, milliseconds.
    pub request_mean_ms: f64,
    /// Longest such time, milliseconds.
    pub request_max_ms: f64,
    /// Counts whose name begins with `error`.
    pub errors: BTreeMap<String, u64>,
}

impl Figures {
    /// Users of the scenario that were not connected and joined, and connections that ended in an error.
    pub fn failed_connections(&self, scenario: &Scenario) -> u64 {
        let users = u64::from(scenario.users);
        let missing = users.saturating_sub(self.connected.min(self.joined));
        missing.max(self.refused + self.not_joined).max(self.errors.values().sum())
    }
}

impl Scenario {
    /// 2,000 users, 200 a second, in rooms of about 20.
    pub fn standard(target: SocketAddr) -> Scenario {
        Scenario { target, users: 2000, arrivals_per_second: 200, rooms: 100, sources: Vec::new() }
    }

    fn arrival_seconds(&self) -> u32 {
        self.users.div_ceil(self.arrivals_per_second.max(1))
    }

    /// A pause so long that the first user is still there when the last arrives.
    fn think_seconds(&self) -> u32 {
        (self.arrival_seconds() + 2).div_ceil(THINKS).max(1)
    }

    /// The configuration file.
    pub fn xml(&self) -> String {
        let sources: String =
            self.sources.iter().map(|address| format!("<ip value=\"{address}\"/>")).collect();
        let words = [
            ("@SOURCES@", sources),
            ("@HOST@", self.target.ip().to_string()),
            ("@PORT@", self.target.port().to_string()),
            // Arrivals are a Poisson process: they end with the number of users, and the time is only a bound.
            ("@ARRIVAL@", (self.arrival_seconds() * 3).to_string()),
            ("@USERS@", self.users.to_string()),
            ("@RATE@", self.arrivals_per_second.to_string()),
            ("@ROOMS@", self.rooms.to_string()),
            ("@THINK@", self.think_seconds().to_string()),
        ];
        words.iter().fold(TEMPLATE.to_owned(), |text, (word, value)| text.replace(word, value))
    }
}

/// Plays the scenario. `command` makes the command for a program, in whatever network namespace it is to run;
/// `directory` is emptied and keeps tsung's configuration and logs.
///
/// # Errors
/// When tsung cannot be started, does not end, or leaves no statistics; failed connections are no error.
pub fn run(scenario: &Scenario, directory: &Path, command: impl Fn(&str) -> Command) -> Result<Figures> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("emptying {}", directory.display()))?;
    }
    fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    let directory = directory.canonicalize()?;
    let xml = directory.join("phoenix.xml");
    fs::write(&xml, scenario.xml())?;
    let here = |program: &str| {
        let mut command = command(program);
        command.env("ERL_EPMD_PORT", EPMD_PORT).env("ERL_EPMD_ADDRESS", "127.0.0.1").env("HOME", &directory);
        command.stdin(Stdio::null()).process_group(0);
        command
    };
    let missing = "install Debian's package tsung";
    let _epmd = Group(here("epmd").spawn().with_context(|| format!("cannot start epmd: {missing}"))?);
    let log = fs::File::create(directory.join("tsung.out"))?;
    // The controller takes its descriptor limit from the shell that starts it.
    let mut tsung = here("sh");
    tsung.args([
        "-c",
        "ulimit -n $(ulimit -H -n) && exec tsung -n -I 127.0.0.1 -f \"$1\" -l \"$2\" start",
        "sh",
    ]);
    tsung.arg(&xml).arg(directory.join("log")).stderr(log.try_clone()?).stdout(log);
    let mut tsung = Group(tsung.spawn().with_context(|| format!("cannot start tsung: {missing}"))?);
    let bound = GRACE + Duration::from_secs((scenario.arrival_seconds() * 4 + 30).into());
    let deadline = Instant::now() + bound;
    while tsung.0.try_wait()?.is_none() {
        ensure!(Instant::now() < deadline, "tsung did not end within {} s", bound.as_secs());
        std::thread::sleep(Duration::from_millis(100));
    }
    let path = statistics(&directory.join("log"))
        .with_context(|| format!("tsung left no statistics: see {}/tsung.out", directory.display()))?;
    parse(&fs::read_to_string(&path)?).with_context(|| path.display().to_string())
}

/// The directory of the run's statistics: tsung puts each run into one that is named by the minute.
fn statistics(log: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(log)? {
        let path = entry?.path().join("tsung.log");
        if path.exists() {
            return Ok(path);
        }
    }
    bail!("no tsung.log below {}", log.display())
}

/// Reads the last state of each figure. A line is `stats: NAME COUNT TOTAL` for a count, and
/// `stats: NAME COUNT MEAN STDDEV MAX MIN TOTAL-MEAN TOTAL-COUNT` for a distribution (tsung 1.7, ts_stats_mon).
fn parse(text: &str) -> Result<Figures> {
    let mut last: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() == Some("stats:")
            && let Some(name) = words.next()
        {
            last.insert(name, words.filter_map(|word| word.parse().ok()).collect());
        }
    }
    ensure!(last.contains_key("users_count"), "no users were counted");
    let count = |name: &str| last.get(name).and_then(|values| values.get(1)).map_or(0, |value| *value as u64);
    let of = |name: &str, place: usize| {
        last.get(name).and_then(|values| values.get(place)).copied().unwrap_or_default()
    };
    Ok(Figures {
        users: count("users_count"),
        finished: count("finish_users_count"),
        connected: count("websocket_succ"),
        refused: count("websocket_fail"),
        joined: count("match"),
        not_joined: count("nomatch"),
        received_bytes: count("size_rcv"),
        connect_mean_ms: of("connect", 5),
        request_mean_ms: of("request", 5),
        request_max_ms: of("request", 3),
        errors: last
            .iter()
            .filter(|(name, _)| name.starts_with("error"))
            .map(|(name, _)| ((*name).to_owned(), count(name)))
            .collect(),
    })
}

/// A child with a process group of its own, killed as a whole: tsung is a script that starts an Erlang machine.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // When a child has ended by itself nothing is left of its group.
            rustix::process::kill_process_group(group, rustix::process::Signal::KILL).ok();
        }
        self.0.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "# stats: dump at 1795355947
stats: users 0 1942
stats: {cpu,\"tsung_controller@127.0.0.1\"} 1 83.1 0.0 99.1 42.4 71.6 6
stats: session 0 0 0 12124.946 12005.626 12010.966281668383 1942
stats: users_count 0 1942
stats: finish_users_count 0 1900
stats: request 0 0 0 49.34 0.007 0.5789051787553339 13594
stats: connect 0 0 0 23.442 0.198 0.7942852729145214 1942
stats: error_connect_econnrefused 1 3
stats: match 5 1930
stats: nomatch 0 2
stats: size_rcv 0 4424533
stats: websocket_succ 0 1940
# stats: dump at 1795355949
stats: websocket_succ 0 1941
";

    #[test]
    fn the_last_state_of_each_figure_counts() {
        let figures = parse(LOG).unwrap();
        assert_eq!((figures.users, figures.finished, figures.connected), (1942, 1900, 1941));
        assert_eq!((figures.joined, figures.not_joined, figures.refused), (1930, 2, 0));
        assert_eq!(figures.errors, BTreeMap::from([("error_connect_econnrefused".to_owned(), 3)]));
        assert_eq!(figures.request_max_ms, 49.34);
        let scenario = Scenario::standard("127.0.0.1:4000".parse().unwrap());
        assert_eq!(figures.failed_connections(&scenario), 70);
        assert!(parse("nothing").is_err());
    }

    #[test]
    fn the_scenario_is_filled_in() {
        let mut scenario = Scenario::standard("10.0.0.1:80".parse().unwrap());
        scenario.sources = vec!["10.0.0.2".into(), "10.0.0.3".into()];
        let xml = scenario.xml();
        assert!(!xml.contains('@'), "{xml}");
        assert!(xml.contains(r#"<server host="10.0.0.1" port="80""#));
        assert!(xml.contains(r#"<ip value="10.0.0.2"/><ip value="10.0.0.3"/>"#));
        assert!(xml.contains(r#"maxnumber="2000""#));
    }
}
