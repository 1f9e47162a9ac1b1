//! Which part of a server's CPU time is spent in user space, by sampling with perf(1).
//!
//! The kernel splits a process' CPU time by what runs at its own ticks, every 1 to 10 ms. A load on a schedule may
//! run in step with the ticks, and the split may then be anything. perf samples by a timer of its own, whose rate is
//! a prime number.

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Samples per second and thread that is running.
const HERTZ: &str = "1999";

/// A running perf that samples processes.
pub(super) struct Sampling {
    perf: Child,
    data: PathBuf,
}

/// Its result.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct UserPart {
    /// Samples in user space, as a part of all.
    pub part: f64,
    /// All samples.
    pub samples: u64,
}

/// Checks that there is a perf and that it may see the kernel: otherwise it would take all time for user time.
pub(super) fn check() -> Result<()> {
    let mut perf = Command::new("perf");
    perf.args(["record", "--quiet", "--event", "cpu-clock:k", "--output", "/dev/null", "--", "true"]);
    let said = perf.stdin(Stdio::null()).output().context("--perf needs perf(1): install linux-perf")?;
    ensure!(
        said.status.success(),
        "--perf: perf(1) may not sample the kernel, run as root or set kernel.perf_event_paranoid to 1: {}",
        String::from_utf8_lossy(&said.stderr).lines().next().unwrap_or_default()
    );
    Ok(())
}

impl Sampling {
    /// Begins to sample processes, with all of their threads.
    pub(super) fn begin(processes: &[u32]) -> Result<Sampling> {
        let data = std::env::temp_dir().join(format!("loadgen-{}.perf", std::process::id()));
        let list: Vec<_> = processes.iter().map(u32::to_string).collect();
        let perf = Command::new("perf")
            .args(["record", "--quiet", "--event", "cpu-clock", "--freq", HERTZ, "--output"])
            .arg(&data)
            .args(["--pid", &list.join(",")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start perf")?;
        Ok(Sampling { perf, data })
    }

    /// Ends the sampling; `None` when no sample was taken.
    pub(super) fn end(mut self) -> Result<Option<UserPart>> {
        // When perf is interrupted it writes its file and ends with a code of its own.
        kill_process(Pid::from_child(&self.perf), Signal::INT).context("perf ended early")?;
        self.perf.wait()?;
        let said = Command::new("perf")
            .args(["script", "--fields", "ip", "--input"])
            .arg(&self.data)
            .stdin(Stdio::null())
            .output()?;
        std::fs::remove_file(&self.data).ok();
        Ok(user_part(&String::from_utf8_lossy(&said.stdout)))
    }
}

/// The part of addresses that are not the kernel's, which are in the upper half.
fn user_part(addresses: &str) -> Option<UserPart> {
    let all = addresses.split_whitespace().filter_map(|address| u64::from_str_radix(address, 16).ok());
    let (mut samples, mut user) = (0u64, 0u64);
    for address in all {
        samples += 1;
        user += u64::from(address >> 63 == 0);
    }
    (samples > 0).then(|| UserPart { part: user as f64 / samples as f64, samples })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_kernel_are_told_apart() {
        let text = "          4e674c \n ffffffff81e3a4d2 \n    7f2a1c0de123 \n ffff800000000000 \n";
        assert_eq!(user_part(text), Some(UserPart { part: 0.5, samples: 4 }));
        assert_eq!(user_part("\n"), None);
    }
}
