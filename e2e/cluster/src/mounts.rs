//! The kernel's mount table, read as text (`proc_pid_mountinfo(5)`).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::run;

/// One line of mountinfo, with the fields that are needed here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) point: PathBuf,
    pub(crate) kind: String,
    /// Options of the file system itself: for cgroup v1 the names of the controllers.
    pub(crate) options: Vec<String>,
}

/// Parses a mount table; lines that it cannot read are left out.
pub(crate) fn parse(table: &str) -> Vec<Mount> {
    table
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mut right = right.split(' ');
            let kind = right.next()?.to_owned();
            let options = right.nth(1).unwrap_or("").split(',').map(str::to_owned).collect();
            Some(Mount { point: PathBuf::from(unescape(left.split(' ').nth(4)?)), kind, options })
        })
        .collect()
}

/// Undoes the octal escapes of space, tab, newline and backslash.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// The table of this process.
pub(crate) fn table() -> Result<Vec<Mount>> {
    Ok(parse(&fs::read_to_string("/proc/self/mountinfo").context("cannot read the mount table")?))
}

/// Mount points at or below a directory, deepest first.
pub(crate) fn below(mounts: &[Mount], dir: &Path) -> Vec<PathBuf> {
    let mut points: Vec<_> =
        mounts.iter().filter(|m| m.point.starts_with(dir)).map(|m| m.point.clone()).collect();
    // A later line of the table may cover an earlier one; in the reverse order both are freed.
    points.reverse();
    points.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    points
}

/// Unmounts everything at or below a directory.
pub(crate) fn unmount_below(dir: &Path) -> Result<()> {
    for point in below(&table()?, dir) {
        run::output(Command::new("umount").arg("--lazy").arg(&point))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
50 27 0:40 / /state/a rw shared:5 - tmpfs tmpfs rw
51 50 0:41 / /state/a/b\\040c rw - overlay overlay rw,lowerdir=/x
52 27 0:42 / /state/ab rw - tmpfs tmpfs rw
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
";

    #[test]
    fn the_deepest_comes_first_and_neighbours_are_left_alone() {
        let found = below(&parse(TABLE), Path::new("/state/a"));
        assert_eq!(found, [PathBuf::from("/state/a/b c"), PathBuf::from("/state/a")]);
    }

    #[test]
    fn a_line_keeps_its_kind_and_options() {
        let last = parse(TABLE).pop().expect("five lines");
        assert_eq!(last.kind, "cgroup");
        assert_eq!(last.options, ["rw", "memory"]);
    }
}
