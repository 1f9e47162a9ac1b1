//! How much memory the node may use by the kernel's limits, and how much of it clients may make it hold.
//!
//! A container's limit stands in its memory cgroup or in one above it, in version 2 or 1 of the interface
//! (Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst of Linux). Without one the machine's memory
//! counts.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use node_core::config::NodeConfig;

/// Clients may make the node hold half of what it may use. The kernel's buffers of their sockets are charged to the
/// same cgroup, the allocator gives freed memory back with a delay and in whole pages, and the node itself needs 10
/// MiB.
const CLIENTS_PERCENT: u64 = 50;
/// The least budget in bytes, which is also the least that a configuration may ask for.
const LEAST: u64 = 16 << 20;

/// Where a limit was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `memory.max` of a cgroup.
    CgroupV2,
    /// `memory.limit_in_bytes` of a cgroup.
    CgroupV1,
    /// All that the machine has.
    Machine,
    /// Nothing could be read; the least budget is used.
    Unknown,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CgroupV2 => "half of the memory limit of the cgroup (v2)",
            Self::CgroupV1 => "half of the memory limit of the cgroup (v1)",
            Self::Machine => "half of the machine's memory",
            Self::Unknown => "the least, as no limit could be read",
        })
    }
}

/// The inputs that decide about the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// The budget of the command line, which goes before that of the configuration.
    flag: Option<u64>,
    found: u64,
    /// What the process may have by the kernel's limits, or what the machine has.
    limit: u64,
    source: Source,
}

impl Budget {
    /// Reads the kernel's limits of this process. `flag` is the budget of the command line.
    #[must_use]
    pub fn find(flag: Option<u64>) -> Self {
        Self::find_below(Path::new("/"), flag)
    }

    fn find_below(root: &Path, flag: Option<u64>) -> Self {
        let (limit, source) =
            limit(root).map_or((None, Source::Unknown), |(bytes, from)| (Some(bytes), from));
        let found = limit.map_or(LEAST, |bytes| (bytes / 100 * CLIENTS_PERCENT).max(LEAST));
        Self { flag, found, limit: limit.unwrap_or(0), source }
    }

    /// Memory in bytes that the process may have, from its cgroup; 0 where nothing but the machine limits it.
    #[must_use]
    pub const fn limit_bytes(&self) -> u64 {
        match self.source {
            Source::CgroupV2 | Source::CgroupV1 => self.limit,
            Source::Machine | Source::Unknown => 0,
        }
    }

    /// Puts the budget that is in force into a configuration. A budget that nobody asked for is used even where it is
    /// too little for the longest messages, which is logged.
    pub fn apply(&self, config: &mut NodeConfig) {
        let budget = self.flag.or(config.limits.memory_budget).unwrap_or(self.found);
        if let Some(why) = config.limits.refuse_budget(budget) {
            tracing::warn!("{why}, or give the node more memory");
        }
        config.limits.memory_budget = Some(budget);
    }

    /// Where the budget of a configuration is from, before [`Budget::apply`].
    #[must_use]
    pub fn reason(&self, config: &NodeConfig) -> String {
        if self.flag.is_some() {
            "--memory-budget".to_owned()
        } else if config.limits.memory_budget.is_some() {
            "limits.memoryBudget".to_owned()
        } else {
            self.source.to_string()
        }
    }
}

/// The lowest limit that holds for this process.
fn limit(root: &Path) -> Option<(u64, Source)> {
    let machine = machine(root).map(|bytes| (bytes, Source::Machine));
    let cgroups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = cgroups.lines().filter_map(|line| cgroup(root, line));
    limits.chain(machine).min_by_key(|(bytes, _)| *bytes)
}

/// The limit of one line of `/proc/self/cgroup`: `0::/path` (v2) or `5:cpu,memory:/path` (v1).
fn cgroup(root: &Path, line: &str) -> Option<(u64, Source)> {
    let mut parts = line.splitn(3, ':');
    let (_number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let (mount, file, source) = if controllers.is_empty() {
        ("sys/fs/cgroup", "memory.max", Source::CgroupV2)
    } else if controllers.split(',').any(|name| name == "memory") {
        ("sys/fs/cgroup/memory", "memory.limit_in_bytes", Source::CgroupV1)
    } else {
        return None;
    };
    let mount = root.join(mount);
    // In a container the path may be that of the host, and only the container's own part of it is mounted.
    let own = mount.join(path.trim_start_matches('/'));
    let above = own.ancestors().take_while(|dir| dir.starts_with(&mount)).map(PathBuf::from);
    let read = |dir: PathBuf| fs::read_to_string(dir.join(file)).ok()?.trim().parse::<u64>().ok();
    above.filter_map(read).min().map(|bytes| (bytes, source))
}

/// The machine's memory. A limit of version 1 that means no limit is a number far above it.
fn machine(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

/// Reads a number of bytes as Kubernetes writes it: `64Mi`, `2Gi`, `67108864`.
///
/// # Errors
/// A sentence that says what would be right.
pub fn bytes(text: &str) -> Result<u64, String> {
    let units = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("", 0)];
    let (digits, shift) =
        units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift))).unwrap_or((text, 0));
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    let number = number.ok_or("write a number of bytes, like 67108864, 64Mi or 2Gi")?;
    if number < LEAST { Err("use at least 16Mi".to_owned()) } else { Ok(number) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_dir::TestDir;

    const GIB: u64 = 1 << 30;

    fn with(files: &[(&str, &str)]) -> Budget {
        let dir = TestDir::new("memory");
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Budget::find_below(dir.path(), None)
    }

    const MACHINE: (&str, &str) = ("proc/meminfo", "MemTotal:        8388608 kB\nMemFree: 1 kB\n");

    #[test]
    fn the_lowest_limit_counts_wherever_it_stands() {
        let v2 = ("proc/self/cgroup", "0::/kubepods/pod1/c1\n");
        let cases = [
            (vec![MACHINE], 4 * GIB, Source::Machine),
            (vec![MACHINE, v2], 4 * GIB, Source::Machine),
            (
                vec![MACHINE, v2, ("sys/fs/cgroup/kubepods/pod1/c1/memory.max", "max\n")],
                4 * GIB,
                Source::Machine,
            ),
            (
                vec![
                    MACHINE,
                    v2,
                    ("sys/fs/cgroup/kubepods/pod1/c1/memory.max", "2147483648\n"),
                    ("sys/fs/cgroup/kubepods/pod1/memory.max", "1073741824\n"),
                ],
                GIB / 2,
                Source::CgroupV2,
            ),
            // A container with a cgroup namespace of its own.
            (
                vec![MACHINE, ("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "536870912\n")],
                GIB / 4,
                Source::CgroupV2,
            ),
            // A container without one, which sees only its own part under the path of the host.
            (
                vec![
                    MACHINE,
                    ("proc/self/cgroup", "9:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/docker/abc\n"),
                    ("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n"),
                ],
                GIB / 4,
                Source::CgroupV1,
            ),
            (
                vec![
                    MACHINE,
                    ("proc/self/cgroup", "4:memory:/docker/abc\n"),
                    ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ],
                4 * GIB,
                Source::Machine,
            ),
            (vec![], LEAST, Source::Unknown),
        ];
        for (files, found, source) in cases {
            let about = (found / 100 * 100, source);
            let budget = with(&files);
            assert!(budget.found.abs_diff(about.0) < 200 && budget.source == source, "{files:?}: {budget:?}");
            let of_cgroup = matches!(source, Source::CgroupV1 | Source::CgroupV2);
            assert_eq!(budget.limit_bytes(), if of_cgroup { 2 * found } else { 0 }, "{files:?}");
        }
    }

    #[test]
    fn the_flag_goes_before_the_file_and_the_file_before_what_was_found() {
        let found = Budget { flag: None, found: 7, limit: 14, source: Source::Machine };
        let mut config = NodeConfig::dev();
        assert_eq!(found.reason(&config), "half of the machine's memory");
        found.apply(&mut config);
        assert_eq!(config.limits.memory_budget, Some(7));
        config.limits.memory_budget = Some(8);
        found.apply(&mut config);
        assert_eq!(
            (config.limits.memory_budget, found.reason(&config).as_str()),
            (Some(8), "limits.memoryBudget")
        );
        let flag = Budget { flag: Some(9), ..found };
        flag.apply(&mut config);
        assert_eq!(
            (config.limits.memory_budget, flag.reason(&config).as_str()),
            (Some(9), "--memory-budget")
        );
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(Budget::find(None).found >= LEAST && Budget::find(None).source != Source::Unknown);
    }

    #[test]
    fn bytes_are_read_as_kubernetes_writes_them() {
        assert_eq!(bytes("67108864"), Ok(64 << 20));
        assert_eq!(
            (bytes("64Mi"), bytes("2Gi"), bytes("20480Ki")),
            (Ok(64 << 20), Ok(2 << 30), Ok(20 << 20))
        );
        for wrong in ["", "64M", "-1", "1.5Gi", "Mi", "99999999999Ti", "8Mi", "0"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
