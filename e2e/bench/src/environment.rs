//! The surroundings of a measurement: the network namespace that it needs, and the machine that its page names.

use std::{
    collections::BTreeMap,
    fs,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use cluster::run;
use serde::{Deserialize, Serialize};

/// First port of clients: servers listen below it, so that no client can take a server's port.
const CLIENT_PORTS: &str = "10000 65535";

/// The machine and the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Model of the processor.
    pub cpu: String,
    /// Processors that this process may use.
    pub cpus: usize,
    /// Memory, GiB.
    pub memory_gib: u64,
    /// Version of the kernel.
    pub kernel: String,
    /// Last commit that changed measured code, with `+` when something was changed since.
    pub commit: String,
    /// Day of the first run.
    pub date: String,
    /// Most open files of one process.
    pub nofile: u64,
}

impl Environment {
    /// This machine, at this time.
    ///
    /// # Errors
    /// When the source's commit or the day cannot be told.
    pub fn here() -> Result<Self> {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let field = |text: &str, name: &str| -> String {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map_or_else(String::new, |(_, v)| v.trim().to_owned())
        };
        let kib = field(&read("/proc/meminfo"), "MemTotal");
        let kib: u64 = kib.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0);
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        Ok(Self {
            cpu: field(&cpuinfo, "model name"),
            cpus: std::thread::available_parallelism()?.get(),
            memory_gib: (kib + (1 << 19)) >> 20,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            commit: commit()?,
            date: run::output(Command::new("date").args(["--utc", "+%Y-%m-%d"]))?.trim().to_owned(),
            nofile: limit.maximum.unwrap_or(u64::MAX),
        })
    }
}

/// Paths of code that a measurement depends on; a commit that changes only pages leaves a campaign as it is.
const SOURCE: [&str; 4] = [":/node", ":/e2e", ":/Cargo.toml", ":/Cargo.lock"];

/// The last commit that changed measured code. The repository may belong to another user, which is no danger to these
/// commands.
fn commit() -> Result<String> {
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "safe.directory=*", "-C", env!("CARGO_MANIFEST_DIR")]).args(args);
        run::output(command.arg("--").args(SOURCE))
    };
    let short = git(&["log", "-1", "--format=%h", "--abbrev=10"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    let mark = if changed.trim().is_empty() { "" } else { "+" };
    Ok(format!("{}{mark}", short.trim()))
}

/// Prepares the network namespace that this process was started in.
///
/// # Errors
/// When it is the machine's own namespace: packet filters and connection tracking there cost every packet 20 to 40 %.
pub fn prepare_network() -> Result<()> {
    let devices = fs::read_to_string("/proc/self/net/dev").context("cannot read the network devices")?;
    let names = device_names(&devices);
    ensure!(
        names.iter().all(|name| *name == "lo"),
        "this network namespace has {}: start it through `cargo xtask bench`, which gives it one of its own",
        names.join(", ")
    );
    run::output(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", CLIENT_PORTS)
        .context("cannot set the ports of clients")
}

/// Gives this process, and so all that it starts, as many descriptors as it may have: without it there are often
/// 1,024 at first, and not every server asks for more.
///
/// # Errors
/// When the kernel refuses.
pub fn raise_nofile() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .context("raising the limit of open files")
}

/// Ticks per second in /proc (USER_HZ): always this on Linux.
const TICKS: f64 = 100.0;
/// How long a look at the machine takes.
const LOOK: Duration = Duration::from_millis(500);

/// CPU time that others have used so far: all processes that are not ours, with their ended children, and other
/// machines on the same processor.
///
/// It is made from the processes' own times, which the kernel scales to the time that they really ran. The machine's
/// times (/proc/stat) are made of what its ticks happened to see, and a load on a schedule may run in step with the
/// ticks.
#[derive(Clone, Copy, Debug)]
pub struct Busy {
    at: Instant,
    seconds: f64,
}

impl Busy {
    /// The time used until now.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn now() -> Result<Self> {
        let machine = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        let stolen = stolen_ticks(&machine).context("no line for all CPUs in /proc/stat")?;
        // A process that has just ended has no times.
        let stat = |pid| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let processes =
            cluster::pids().into_iter().filter_map(|pid| Some((pid, times(&stat(pid))?))).collect();
        let ticks = stolen + others_ticks(&processes, std::process::id());
        Ok(Self { at: Instant::now(), seconds: ticks / TICKS })
    }

    /// CPUs that others have used since then.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn others_since(&self) -> Result<f64> {
        let now = Self::now()?;
        // The difference may be negative: the time of an ended process is gone when its parent ignores its end.
        Ok(((now.seconds - self.seconds) / (now.at - self.at).as_secs_f64()).max(0.0))
    }
}

/// Waits until others use less than `cpus`, for at most `limit`.
///
/// # Errors
/// When /proc cannot be read.
pub fn wait_for_quiet(cpus: f64, limit: Duration) -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < limit {
        let before = Busy::now()?;
        std::thread::sleep(LOOK);
        if before.others_since()? < cpus {
            break;
        }
    }
    Ok(())
}

/// Ticks in which other machines had this one's CPUs (proc(5)).
fn stolen_ticks(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    line.split_whitespace().nth(7)?.parse().ok()
}

/// The parent of a process, and its ticks with those of the children that it has waited for: utime, stime, cutime,
/// cstime.
fn times(stat: &str) -> Option<(u32, f64)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let all: Vec<&str> = rest.split_whitespace().collect();
    let ticks = (11..=14).map(|at| all.get(at)?.parse::<f64>().ok()).sum::<Option<f64>>()?;
    Some((all.get(1)?.parse().ok()?, ticks))
}

/// Ticks of all processes but one and its descendants.
fn others_ticks(processes: &BTreeMap<u32, (u32, f64)>, root: u32) -> f64 {
    let is_ours = |pid: &u32| {
        let parent = |pid: &u32| processes.get(pid).map(|(parent, _)| *parent);
        std::iter::successors(Some(*pid), parent).take(processes.len() + 1).any(|ancestor| ancestor == root)
    };
    processes.iter().filter(|(pid, _)| !is_ours(pid)).map(|(_, (_, ticks))| ticks).sum()
}

/// Names in the text of /proc/net/dev.
fn device_names(text: &str) -> Vec<&str> {
    text.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_without_their_heading() {
        let text = "Inter-| Receive\n face |bytes\n    lo: 1 2 3\n  eth0: 4 5 6\n";
        assert_eq!(device_names(text), ["lo", "eth0"]);
    }

    #[test]
    fn what_others_use_leaves_out_our_descendants() {
        let stat = "cpu  1 2 4 1000 2000 8 16 32 5000 6000\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(stolen_ticks(stat), Some(32.0));
        assert_eq!(stolen_ticks("intr 1\n"), None);
        let own = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 100 200 300 400 20";
        assert_eq!(times(own), Some((1, 1000.0)));
        let processes = BTreeMap::from([
            (1, (0, 1.0)),
            (2, (0, 2.0)),
            (7, (1, 4.0)),
            (8, (7, 8.0)),
            (9, (8, 16.0)),
            (10, (2, 32.0)),
        ]);
        assert_eq!(others_ticks(&processes, 7), 35.0);
        let busy = Busy::now().expect("readable");
        assert!(busy.others_since().expect("readable") >= 0.0);
    }

    #[test]
    fn this_machine_has_a_name() {
        let here = Environment::here().expect("readable");
        assert!(here.cpus > 0 && here.memory_gib > 0 && !here.kernel.is_empty() && here.commit.len() >= 7);
    }
}
