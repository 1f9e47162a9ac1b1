//! Control groups of an instance: found, made and removed under cgroup v1 and v2.
//!
//! Every process of an instance is in its group, so `down` finds them all there, and the memory of
//! a whole cluster is one figure.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    mounts::{self, Mount},
    run::{Wait, wait_for},
};

/// Controllers that the kubelet cannot do without.
const NEEDED: [&str; 3] = ["cpu", "memory", "pids"];
/// v1 controllers besides those that runc writes to.
const NEEDED_V1: [&str; 4] = ["cpuacct", "cpuset", "devices", "freezer"];
/// v2 controllers that a kubelet's group has when the root has them.
const WANTED_V2: [&str; 6] = ["cpu", "cpuset", "hugetlb", "io", "memory", "pids"];
/// Group of the components, beside those of the nodes' pods; v2 allows processes in leaves only.
const COMPONENTS: &str = "components";
/// How long an emptied group may stay busy while the kernel reaps its processes.
const EMPTY_LIMIT: Duration = Duration::from_secs(20);

/// The layout of this machine's control groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One hierarchy for each controller (also the hybrid layout, in which v2 has no controllers).
    V1 {
        /// Mount point of each hierarchy.
        hierarchies: Vec<PathBuf>,
        /// Mount point of the cpuset hierarchy, whose groups need values before processes.
        cpuset: PathBuf,
        /// Mount point of the memory hierarchy.
        memory: PathBuf,
    },
    /// One hierarchy for all controllers.
    V2 {
        /// Its mount point.
        root: PathBuf,
    },
}

impl Layout {
    /// Looks at this machine.
    ///
    /// # Errors
    /// When the layout cannot run a kubelet; says what to change.
    pub fn detect() -> Result<Self> {
        Self::from_mounts(&mounts::table()?, |root| {
            fs::read_to_string(root.join("cgroup.controllers"))
                .with_context(|| format!("cannot read the controllers of {}", root.display()))
        })
    }

    fn from_mounts(table: &[Mount], controllers: impl Fn(&Path) -> Result<String>) -> Result<Self> {
        let v1: Vec<_> = table.iter().filter(|mount| mount.kind == "cgroup").collect();
        let with = |name: &str| v1.iter().find(|mount| mount.options.iter().any(|option| option == name));
        if let (Some(memory), Some(cpuset)) = (with("memory"), with("cpuset")) {
            let missing: Vec<_> =
                NEEDED.iter().chain(&NEEDED_V1).copied().filter(|name| with(name).is_none()).collect();
            if !missing.is_empty() {
                bail!(
                    "cgroup v1 hierarchies are not mounted for: {}. Mount them (package cgroupfs-mount), or boot with \
                     systemd.unified_cgroup_hierarchy=1",
                    missing.join(", ")
                );
            }
            let (memory, cpuset) = (memory.point.clone(), cpuset.point.clone());
            // A hybrid v2 hierarchy is listed too, because runc may leave groups there.
            let kinds = ["cgroup", "cgroup2"];
            let mut hierarchies: Vec<_> =
                table.iter().filter(|m| kinds.contains(&&*m.kind)).map(|m| m.point.clone()).collect();
            hierarchies.dedup();
            return Ok(Self::V1 { hierarchies, cpuset, memory });
        }
        let Some(v2) = table.iter().find(|mount| mount.kind == "cgroup2") else {
            bail!(
                "no control groups are mounted: mount -t cgroup2 none /sys/fs/cgroup (as root), then try again"
            );
        };
        let have = controllers(&v2.point)?;
        let missing: Vec<_> =
            NEEDED.iter().filter(|name| !have.split_whitespace().any(|c| c == **name)).copied().collect();
        if !missing.is_empty() {
            bail!(
                "cgroup v2 at {} lacks the controllers {}: take cgroup_disable=... off the kernel command line; inside a \
                 container, give it a cgroup namespace of its own with these controllers",
                v2.point.display(),
                missing.join(", ")
            );
        }
        Ok(Self::V2 { root: v2.point.clone() })
    }

    fn roots(&self) -> Vec<PathBuf> {
        match self {
            Self::V1 { hierarchies, .. } => hierarchies.clone(),
            Self::V2 { root } => vec![root.clone()],
        }
    }

    /// Makes the groups of an instance: one for its components, one for each node's pods.
    pub(crate) fn create(&self, group: &str, nodes: &[String]) -> Result<()> {
        let top = PathBuf::from(group);
        let mut groups = vec![top.clone(), top.join(COMPONENTS)];
        groups.extend(nodes.iter().map(|node| top.join(node)));
        for root in self.roots() {
            if matches!(self, Self::V2 { .. }) {
                enable_controllers(&root)?;
            }
            for group in &groups {
                let dir = root.join(group);
                fs::create_dir_all(&dir)
                    .with_context(|| format!("cannot create cgroup {}", dir.display()))?;
                match self {
                    Self::V1 { cpuset, .. } if *cpuset == root => inherit_cpuset(&dir)?,
                    Self::V2 { .. } if group == &top => enable_controllers(&dir)?,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Files that a component writes its process number to.
    pub(crate) fn component_files(&self, group: &str) -> Vec<PathBuf> {
        self.roots().iter().map(|root| root.join(group).join(COMPONENTS).join("cgroup.procs")).collect()
    }

    /// Bytes of memory charged to an instance, page cache not counted.
    pub(crate) fn memory_bytes(&self, group: &str) -> Result<u64> {
        let (dir, keys) = match self {
            Self::V1 { memory, .. } => (memory.join(group), ["total_rss ", "total_shmem "]),
            Self::V2 { root } => (root.join(group), ["anon ", "shmem "]),
        };
        let stat = fs::read_to_string(dir.join("memory.stat"))
            .with_context(|| format!("cannot read the memory of cgroup {}", dir.display()))?;
        let sum = stat.lines().filter_map(|line| keys.iter().find_map(|key| line.strip_prefix(key)));
        Ok(sum.filter_map(|figure| figure.parse::<u64>().ok()).sum())
    }

    /// Groups of an instance that exist, deepest first.
    pub(crate) fn existing(&self, group: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for root in self.roots() {
            collect(&root.join(group), &mut found);
        }
        found
    }

    /// Removes the groups of an instance, which must hold no process any more.
    pub(crate) fn remove(&self, group: &str) -> Result<()> {
        wait_for("empty cgroups", EMPTY_LIMIT, || {
            let mut last = None;
            for dir in self.existing(group) {
                match fs::remove_dir(&dir) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => last = Some(format!("{}: {error}", dir.display())),
                }
            }
            Ok(last.map_or(Wait::Done, Wait::NotYet))
        })
    }
}

/// Collects groups, children before their parent.
fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), found);
        }
    }
    found.push(dir.to_owned());
}

/// A new cpuset group is empty and takes no process, so it gets the values of its parent.
fn inherit_cpuset(dir: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let parent = dir.parent().context("a cgroup has a parent")?.join(file);
        let value =
            fs::read_to_string(&parent).with_context(|| format!("cannot read {}", parent.display()))?;
        fs::write(dir.join(file), value.trim())
            .with_context(|| format!("cannot write {file} of a new cgroup"))?;
    }
    Ok(())
}

/// Hands the controllers of a v2 group on to its children. The kubelet wants to see these in its own group when the
/// root has them.
fn enable_controllers(dir: &Path) -> Result<()> {
    let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default();
    let (have, on) = (read("cgroup.controllers"), read("cgroup.subtree_control"));
    let wanted = have.split_whitespace().filter(|name| WANTED_V2.contains(name));
    let missing: Vec<_> = wanted
        .filter(|name| !on.split_whitespace().any(|c| c == *name))
        .map(|name| format!("+{name}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    fs::write(dir.join("cgroup.subtree_control"), missing.join(" ")).with_context(|| {
        format!(
            "cannot write {} to {}/cgroup.subtree_control; inside a container, start it with a cgroup namespace of its own \
             whose root group holds no process",
            missing.join(" "),
            dir.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from machines: all controllers mounted one by one, with an empty v2 beside.
    const HYBRID: &str = "\
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    /// systemd's v1: controllers that are mounted together.
    const JOINED: &str = "\
30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
31 25 0:27 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
32 25 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
33 25 0:29 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices
34 25 0:30 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer
35 25 0:31 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
";
    /// Debian 12 under systemd.
    const UNIFIED: &str = "26 22 0:23 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";

    fn layout(table: &str, controllers: &str) -> Result<Layout> {
        Layout::from_mounts(&mounts::parse(table), |_| Ok(controllers.to_owned()))
    }

    #[test]
    fn v1_is_known_also_when_hybrid() {
        let Layout::V1 { hierarchies, cpuset, memory } = layout(HYBRID, "").expect("v1") else { panic!() };
        assert_eq!(hierarchies.len(), 8, "the empty v2 hierarchy is cleaned too");
        assert_eq!((cpuset, memory), ("/sys/fs/cgroup/cpuset".into(), "/sys/fs/cgroup/memory".into()));
    }

    #[test]
    fn joined_controllers_are_one_hierarchy() {
        let Layout::V1 { hierarchies, .. } = layout(JOINED, "").expect("v1") else { panic!() };
        assert_eq!(hierarchies.len(), 6);
    }

    #[test]
    fn v2_is_known() {
        let found = layout(UNIFIED, "cpuset cpu io memory hugetlb pids rdma misc\n").expect("v2");
        assert_eq!(found, Layout::V2 { root: "/sys/fs/cgroup".into() });
    }

    #[test]
    fn what_cannot_work_is_refused_with_a_remedy() {
        let no_memory = layout(UNIFIED, "cpu pids").unwrap_err().to_string();
        assert!(no_memory.contains("memory") && no_memory.contains("kernel command line"), "{no_memory}");
        let half = layout(&HYBRID.replace("cgroup rw,pids", "tmpfs rw"), "");
        let half = layout(&HYBRID.replace("rw,pids", "rw,other"), "")
            .map_or_else(|e| e.to_string(), |_| format!("{half:?}"));
        assert!(half.contains("pids") && half.contains("cgroupfs-mount"), "{half}");
        let none = layout("27 1 254:0 / / rw - ext4 /dev/vda rw\n", "").unwrap_err().to_string();
        assert!(none.contains("mount -t cgroup2"), "{none}");
    }

    #[test]
    fn groups_are_made_and_removed_on_a_recorded_v2_layout() {
        let root = std::env::temp_dir().join(format!("cgroup-test-{}", std::process::id()));
        fs::create_dir_all(root.join("cc-x")).expect("directory");
        for dir in [root.clone(), root.join("cc-x")] {
            fs::write(dir.join("cgroup.controllers"), "cpu memory misc pids\n").expect("file");
            fs::write(dir.join("cgroup.subtree_control"), "pids\n").expect("file");
        }
        let layout = Layout::V2 { root: root.clone() };
        layout.create("cc-x", &["node-1".into()]).expect("made");
        let handed = fs::read_to_string(root.join("cc-x/cgroup.subtree_control")).expect("written");
        assert_eq!(handed, "+cpu +memory", "what is on already and what nobody wants is left alone");
        let found: Vec<_> = layout.existing("cc-x");
        assert_eq!(found.last(), Some(&root.join("cc-x")), "parents come last: {found:?}");
        assert_eq!(found.len(), 3);
        fs::remove_dir_all(root).expect("removed");
    }
}
