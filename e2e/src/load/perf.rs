//! Which part of a server's CPU time is spent in user space, by sampling with perf(1).
//!
//! The kernel splits a process' CPU time by what it sees at its own ticks, every 1 to 10 ms. A load on a schedule beats
//! with these, and the split may then be anything. perf samples by a timer of its own, at a rate that is prime.

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Samples per second and thread that is running.
const HERTZ: &str = "1999";

/// A perf that samples processes.
pub(super) struct Sampling {
    perf: Child,
    data: PathBuf,
}

/// What it saw.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct UserPart {
    /// Samples in user space, as a part of all.
    pub part: f64,
    /// All samples.
    pub samples: u64,
}

/// Whether there is a perf.
pub(super) fn check() -> Result<()> {
    let found = Command::new("perf").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    ensure!(found.is_ok_and(|status| status.success()), "--perf needs perf(1): install linux-perf");
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

    /// Ends it.
    pub(super) fn end(mut self) -> Result<UserPart> {
        // perf writes its file when it is interrupted, and says so with a code of its own.
        kill_process(Pid::from_child(&self.perf), Signal::INT).context("perf ended early")?;
        self.perf.wait()?;
        let said = Command::new("perf")
            .args(["script", "--fields", "ip", "--input"])
            .arg(&self.data)
            .stdin(Stdio::null())
            .output()?;
        std::fs::remove_file(&self.data).ok();
        user_part(&String::from_utf8_lossy(&said.stdout)).context("perf saw nothing")
    }
}

/// The part of addresses that are not the kernel's: those are in the upper half.
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
