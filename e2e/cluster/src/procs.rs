//! Processes of an instance: recorded when started, and found again after a crash.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::{
    Instance,
    cgroup::Layout,
    instance::MARK,
    run::{Wait, wait_for},
};

/// How long killed processes may take to end.
const KILL_LIMIT: Duration = Duration::from_secs(60);

/// A process, named so that it cannot be mistaken for a later one with the same number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// Process number.
    pub(crate) pid: u32,
    /// Start time in clock ticks since boot: field 22 of `/proc/PID/stat`.
    pub(crate) start_ticks: u64,
}

impl Process {
    /// Identifies a living process.
    ///
    /// # Errors
    /// When there is none of that number.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let (_, start_ticks) = stat(pid).with_context(|| format!("no process {pid}"))?;
        Ok(Self { pid, start_ticks })
    }

    /// Whether that very process still runs (a zombie does not).
    #[must_use]
    pub(crate) fn alive(&self) -> bool {
        stat(self.pid).is_some_and(|(state, start)| start == self.start_ticks && state != 'Z')
    }

    /// Sends a signal to that very process; nothing happens when it is gone.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
        // The descriptor pins the process; only then is its identity checked, so that the number
        // cannot pass to another process in between.
        let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
        if !self.alive() {
            return Ok(());
        }
        match pidfd_send_signal(&descriptor, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot signal process {}", self.pid)),
        }
    }
}

/// State letter and start time.
fn stat(pid: u32) -> Option<(char, u64)> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<(char, u64)> {
    // The name is in parentheses and may hold anything, also parentheses.
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// Finds the processes of an instance by three marks that outlive a crash of the starter: the
/// environment variable they inherit, the network namespace, and the control group.
pub(crate) fn of_instance(instance: &Instance, layout: &Layout) -> Vec<Process> {
    let namespaces: Vec<u64> = [instance.netns(), instance.client_netns()]
        .iter()
        .filter_map(|name| fs::metadata(Path::new("/run/netns").join(name)).ok())
        .map(|meta| meta.ino())
        .collect();
    let mark = format!("{MARK}={}", instance.mark()).into_bytes();
    let grouped = in_groups(&layout.existing(&instance.cgroup()));
    let spared = ancestors();
    pids()
        .into_iter()
        .filter(|pid| !spared.contains(pid))
        .filter(|pid| {
            let proc = PathBuf::from(format!("/proc/{pid}"));
            // Following the link gives the inode of the namespace itself.
            let netns = fs::metadata(proc.join("ns/net")).map(|meta| meta.ino());
            grouped.contains(pid)
                || netns.is_ok_and(|inode| namespaces.contains(&inode))
                || fs::read(proc.join("environ")).is_ok_and(|env| env.split(|b| *b == 0).any(|v| v == mark))
        })
        .filter_map(|pid| Process::of(pid).ok())
        .filter(Process::alive)
        .collect()
}

/// The numbers of all processes; none when /proc cannot be read.
#[must_use]
pub fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn in_groups(groups: &[PathBuf]) -> BTreeSet<u32> {
    groups
        .iter()
        .filter_map(|dir| fs::read_to_string(dir.join("cgroup.procs")).ok())
        .flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<u32>>())
        .collect()
}

/// This process and those above it: somebody may run `down` from a shell inside the cluster's namespace, and must not
/// lose the shell.
fn ancestors() -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut pid = std::process::id();
    while pid > 1 && found.insert(pid) {
        let parent = fs::read_to_string(format!("/proc/{pid}/stat"))
            .ok()
            .and_then(|text| text.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok());
        pid = parent.unwrap_or(0);
    }
    found
}

/// Kills every process of an instance and waits until none is left.
pub(crate) fn kill_all(instance: &Instance, layout: &Layout) -> Result<()> {
    wait_for("the end of the instance's processes", KILL_LIMIT, || {
        let left = of_instance(instance, layout);
        for process in &left {
            process.signal(Signal::KILL)?;
        }
        if left.is_empty() {
            return Ok(Wait::Done);
        }
        let named: Vec<_> =
            left.iter().map(|process| format!("{} ({})", process.pid, name(process.pid))).collect();
        Ok(Wait::NotYet(named.join(", ")))
    })
}

fn name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// Writes a file so that a crash leaves either the old or the new one.
pub(crate) fn write_whole(path: &Path, text: &[u8]) -> Result<()> {
    let part = path.with_extension("part");
    let write = || -> io::Result<()> {
        fs::write(&part, text)?;
        fs::rename(&part, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let tail: Vec<_> = (1..=40).map(|n| n.to_string()).collect();
        let line = format!("42 (a) b (c) S {}", tail.join(" "));
        // State is field 3, so the number n that follows it is field n + 3: field 22 is 19.
        assert_eq!(parse_stat(&line), Some(('S', 19)));
    }

    #[test]
    fn a_process_is_known_by_its_start_and_not_by_its_number() {
        let me = Process::of(std::process::id()).expect("alive");
        assert!(me.alive());
        assert!(!Process { start_ticks: me.start_ticks + 1, ..me }.alive());
    }

    #[test]
    fn a_killed_child_is_gone_and_a_reused_number_is_left_alone() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("started");
        let known = Process::of(child.id()).expect("alive");
        let other = Process { start_ticks: known.start_ticks + 1, ..known.clone() };
        other.signal(Signal::KILL).expect("nothing to do");
        assert!(known.alive(), "a different start time is a different process");
        known.signal(Signal::KILL).expect("sent");
        child.wait().expect("reaped");
        assert!(!known.alive());
    }

    #[test]
    fn a_process_that_carries_the_mark_is_found() {
        let instance = Instance::named("scratch").expect("known");
        let layout = Layout::V2 { root: "/nonexistent".into() };
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .env(MARK, instance.mark())
            .spawn()
            .expect("started");
        // The environment of a new program is in place a moment after its start is reported.
        let found = wait_for("the marked process", Duration::from_secs(120), || {
            let found = of_instance(&instance, &layout).iter().any(|process| process.pid == child.id());
            Ok(if found { Wait::Done } else { Wait::NotYet("not found".into()) })
        });
        child.kill().expect("killed");
        child.wait().expect("reaped");
        found.expect("found by its environment");
    }
}
