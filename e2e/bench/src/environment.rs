//! Where a measurement was made: the network namespace that it needs, and the machine that its page names.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use cluster::run;
use serde::{Deserialize, Serialize};

/// First port of clients: servers listen below it, so that no client can sit on a server's port.
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
    /// Commit of this repository, `+` when something was changed since.
    pub commit: String,
    /// Day of the first run.
    pub date: String,
    /// Most open files of one process.
    pub nofile: u64,
}

impl Environment {
    /// This machine, now.
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

/// The commit of the source that this was built from; another user's repository is no danger to `rev-parse`.
fn commit() -> Result<String> {
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "safe.directory=*", "-C", env!("CARGO_MANIFEST_DIR")]).args(args);
        run::output(&mut command)
    };
    let short = git(&["rev-parse", "--short=10", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    let mark = if changed.trim().is_empty() { "" } else { "+" };
    Ok(format!("{}{mark}", short.trim()))
}

/// Prepares the network namespace that this process was started in.
///
/// # Errors
/// When it is the machine's own: packet filters and connection tracking there tax every packet by 20 to 40 %.
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

/// Ticks per second in /proc (USER_HZ): always this on Linux.
const TICKS: f64 = 100.0;
/// How long a look at the machine takes.
const LOOK: Duration = Duration::from_millis(500);

/// CPU time used so far: by the whole machine, and by this process and the children that it has seen end.
#[derive(Clone, Copy, Debug)]
pub struct Busy {
    at: Instant,
    machine: f64,
    own: f64,
}

impl Busy {
    /// Until now.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn now() -> Result<Self> {
        let read = |path| fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
        let machine = machine_ticks(&read("/proc/stat")?).context("no line for all CPUs in /proc/stat")?;
        let own = own_ticks(&read("/proc/self/stat")?).context("/proc/self/stat is too short")?;
        Ok(Self { at: Instant::now(), machine: machine / TICKS, own: own / TICKS })
    }

    /// CPUs that others have used since: other processes here, and other machines on the same processor.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn others_since(&self) -> Result<f64> {
        let now = Self::now()?;
        let used = (now.machine - self.machine) - (now.own - self.own);
        Ok((used / (now.at - self.at).as_secs_f64()).max(0.0))
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

/// Ticks of all CPUs that were not idle: user, nice, system, irq, softirq, steal (proc(5)).
fn machine_ticks(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let all: Vec<f64> = line.split_whitespace().filter_map(|text| text.parse().ok()).collect();
    [0, 1, 2, 5, 6, 7].iter().map(|at| all.get(*at).copied()).sum()
}

/// Ticks of a process and of its children that it has waited for: utime, stime, cutime, cstime.
fn own_ticks(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let all: Vec<&str> = rest.split_whitespace().collect();
    (11..=14).map(|at| all.get(at)?.parse::<f64>().ok()).sum()
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
    fn busy_ticks_leave_out_idle_and_guests() {
        let stat = "cpu  1 2 4 1000 2000 8 16 32 5000 6000\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(machine_ticks(stat), Some(63.0));
        assert_eq!(machine_ticks("intr 1\n"), None);
        let own = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 100 200 300 400 20";
        assert_eq!(own_ticks(own), Some(1000.0));
        let busy = Busy::now().expect("readable");
        assert!(busy.others_since().expect("readable") >= 0.0);
    }

    #[test]
    fn this_machine_has_a_name() {
        let here = Environment::here().expect("readable");
        assert!(here.cpus > 0 && here.memory_gib > 0 && !here.kernel.is_empty() && here.commit.len() >= 7);
    }
}
