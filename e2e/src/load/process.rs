//! The cost of a server, from /proc: CPU time, memory, descriptors and context switches of a process and its
//! descendants.

use super::sys;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Clock ticks per second in /proc/PID/stat: always this on Linux (USER_HZ).
const TICKS: f64 = 100.0;

/// CPU time and context switches so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// All CPU time, seconds, to the nanosecond.
    pub cpu_seconds: f64,
    /// The part in user space, seconds, as measured by ticks of 10 ms.
    pub user_seconds: f64,
    /// The part in the kernel, seconds.
    pub system_seconds: f64,
    /// Times that a thread gave the CPU away.
    pub voluntary_switches: f64,
    /// Times that the kernel took the CPU from a thread.
    pub involuntary_switches: f64,
}

impl Usage {
    /// The part in user space, as measured by ticks; 0 when there was no CPU time.
    pub(super) fn user_part_by_ticks(&self) -> f64 {
        let ticks = self.user_seconds + self.system_seconds;
        if ticks > 0.0 { self.user_seconds / ticks } else { 0.0 }
    }

    /// The use since `before`.
    pub(super) fn since(&self, before: &Usage) -> Usage {
        let user = self.user_seconds - before.user_seconds;
        let system = self.system_seconds - before.system_seconds;
        let mut cpu = self.cpu_seconds - before.cpu_seconds;
        // The nanoseconds of a thread are gone when it ends; its ticks stay with the process.
        if cpu < 0.9 * (user + system) {
            cpu = user + system;
        }
        Usage {
            cpu_seconds: cpu,
            user_seconds: user,
            system_seconds: system,
            voluntary_switches: self.voluntary_switches - before.voluntary_switches,
            involuntary_switches: self.involuntary_switches - before.involuntary_switches,
        }
    }
}

/// Memory and descriptors at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Footprint {
    /// Proportional set size, bytes: shared pages count in parts.
    pub pss_bytes: u64,
    /// Resident set size, bytes.
    pub rss_bytes: u64,
    /// Open descriptors in all descriptor tables.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
    /// Processes.
    pub processes: u64,
}

/// The process and its descendants, as they are now.
pub(super) fn tree(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for pid in numbers(Path::new("/proc")) {
        if let Some(parent) = stat(pid).and_then(|fields| fields.get(1)?.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut at = 0;
    while let Some(pid) = found.get(at) {
        found.extend(children.remove(pid).unwrap_or_default());
        at += 1;
    }
    found
}

/// CPU time and context switches of a process and its descendants; `None` when the process is gone.
pub(super) fn usage(root: u32) -> Option<Usage> {
    stat(root)?;
    let mut sum = Usage::default();
    for pid in tree(root) {
        let Some(fields) = stat(pid) else { continue };
        let ticks =
            |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0) / TICKS;
        sum.user_seconds += ticks(11);
        sum.system_seconds += ticks(12);
        for thread in numbers(Path::new(&format!("/proc/{pid}/task"))) {
            let base = format!("/proc/{pid}/task/{thread}");
            let nanoseconds = fs::read_to_string(format!("{base}/schedstat")).unwrap_or_default();
            sum.cpu_seconds +=
                nanoseconds.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9;
            let status = fs::read_to_string(format!("{base}/status")).unwrap_or_default();
            sum.voluntary_switches += field(&status, "voluntary_ctxt_switches:") as f64;
            sum.involuntary_switches += field(&status, "nonvoluntary_ctxt_switches:") as f64;
        }
    }
    Some(sum)
}

/// Memory and descriptors of a process and its descendants; `None` when the process is gone.
pub(super) fn footprint(root: u32) -> Option<Footprint> {
    stat(root)?;
    let mut sum = Footprint::default();
    for pid in tree(root) {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        sum.pss_bytes += field(&rollup, "Pss:") << 10;
        sum.rss_bytes += field(&rollup, "Rss:") << 10;
        sum.processes += 1;
        let mut tables: Vec<u32> = Vec::new();
        for thread in numbers(Path::new(&format!("/proc/{pid}/task"))) {
            sum.threads += 1;
            if tables.iter().any(|table| sys::share_descriptors(*table, thread)) {
                continue;
            }
            tables.push(thread);
            let directory = format!("/proc/{pid}/task/{thread}/fd");
            // Since Linux 6.2 the size of the directory is the number of descriptors.
            let size = fs::metadata(&directory).map_or(0, |metadata| metadata.len());
            sum.descriptors += if size > 0 { size } else { numbers(Path::new(&directory)).len() as u64 };
        }
    }
    Some(sum)
}

/// Memory that the machine could still give, bytes.
pub(super) fn available_memory() -> u64 {
    field(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemAvailable:") << 10
}

/// Resident set of this process, bytes.
pub(super) fn own_rss() -> u64 {
    field(&fs::read_to_string("/proc/self/status").unwrap_or_default(), "VmRSS:") << 10
}

/// The fields of /proc/PID/stat after the command's name: state, parent, ...
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// The number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The entries of a directory whose names are numbers.
fn numbers(directory: &Path) -> Vec<u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let own = std::process::id();
        let before = usage(own).unwrap();
        let mut sum = 0u64;
        for i in 0..20_000_000u64 {
            sum = std::hint::black_box(sum ^ i);
        }
        let used = usage(own).unwrap().since(&before);
        assert!(used.cpu_seconds > 0.0, "{used:?}");
        let footprint = footprint(own).unwrap();
        assert!(footprint.pss_bytes > 100_000 && footprint.rss_bytes >= footprint.pss_bytes, "{footprint:?}");
        assert!(footprint.descriptors >= 3 && footprint.threads >= 2, "{footprint:?}");
        assert!(available_memory() > 0);
    }

    #[test]
    fn descendants_belong_to_the_tree() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let found = tree(std::process::id()).contains(&child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found);
        assert_eq!(usage(child.id()), None);
    }

    #[test]
    fn time_of_ended_threads_is_not_lost() {
        let before = Usage { cpu_seconds: 5.0, user_seconds: 4.0, system_seconds: 1.0, ..Usage::default() };
        let after = Usage { cpu_seconds: 3.0, user_seconds: 5.0, system_seconds: 1.5, ..Usage::default() };
        assert_eq!(after.since(&before).cpu_seconds, 1.5);
    }
}
