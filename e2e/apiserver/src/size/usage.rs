//! What a process takes of the machine, from `/proc` (proc(5)).

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a process took over some time.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// How long it was looked at.
    pub time: Duration,
    /// Processor time per time: 1 is one core.
    pub cores: f64,
    /// Resident memory at the end, in bytes.
    pub memory: u64,
}

/// A process at one time.
pub(super) struct Sample {
    at: Instant,
    cpu: Duration,
    memory: u64,
}

impl Sample {
    /// Looks at a process.
    pub(super) fn of(pid: u32) -> Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name of the program, in parentheses, may hold blanks.
        let fields: Vec<&str> = stat.rsplit(')').next().context("no name")?.split_whitespace().collect();
        // utime and stime are the fields 14 and 15, and the third one is the first behind the name.
        let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        let cpu = Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second());
        Ok(Self { at: Instant::now(), cpu, memory: kibibytes(pid, "VmRSS:")? })
    }

    /// What it took since then.
    pub(super) fn since(&self, before: &Self) -> Usage {
        let time = self.at - before.at;
        let cores = (self.cpu.saturating_sub(before.cpu)).as_secs_f64() / time.as_secs_f64();
        Usage { time, cores, memory: self.memory }
    }
}

/// Most resident memory that a process had, in bytes.
pub(super) fn most_memory(pid: u32) -> Result<u64> {
    kibibytes(pid, "VmHWM:")
}

fn kibibytes(pid: u32, field: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1_024)
}

/// Lets this process, and those that it starts, have as many open files as the machine allows: the operator keeps a
/// connection to each node.
pub(super) fn raise_nofile() -> Result<()> {
    let hard = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard })?)
}
