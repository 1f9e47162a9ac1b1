//! Debian packages that the host must have, installed when they lack.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::run::{self, Progress};

/// A package, and a file that tells that it is there (also when it came another way).
type Package = (&'static str, &'static [&'static str]);

/// A new machine may be upgrading itself: apt then waits for its lock, seconds, instead of failing at once.
const LOCK_WAIT: &str = "DPkg::Lock::Timeout=600";

/// What a cluster needs at run time.
pub const RUN: &[Package] = &[
    ("containerd", &["/usr/bin/containerd", "/usr/local/bin/containerd"]),
    ("runc", &["/usr/sbin/runc", "/usr/bin/runc", "/usr/local/sbin/runc"]),
    ("containernetworking-plugins", &["/usr/lib/cni/ptp"]),
    ("iptables", &["/usr/sbin/iptables"]),
    ("iproute2", &["/usr/sbin/ip", "/sbin/ip", "/bin/ip"]),
    ("conntrack", &["/usr/sbin/conntrack"]),
    ("ethtool", &["/usr/sbin/ethtool", "/sbin/ethtool"]),
    ("socat", &["/usr/bin/socat"]),
    ("openssl", &["/usr/bin/openssl"]),
    ("util-linux", &["/usr/bin/nsenter"]),
    ("mount", &["/usr/bin/mount", "/bin/mount"]),
];

/// What the Rust build needs: the crypto provider and the allocator are C.
pub const BUILD: &[Package] = &[
    ("build-essential", &["/usr/bin/g++"]),
    ("cmake", &["/usr/bin/cmake"]),
    ("ca-certificates", &["/etc/ssl/certs/ca-certificates.crt"]),
];

/// What only the tests need.
pub const TEST: &[Package] = &[
    ("nodejs", &["/usr/bin/node", "/usr/local/bin/node"]),
    ("npm", &["/usr/bin/npm", "/usr/local/bin/npm"]),
    ("chromium", &["/usr/bin/chromium"]),
    ("tsung", &["/usr/bin/tsung"]),
];

/// What only the gates need: it counts instructions.
pub const GATES: &[Package] = &[("valgrind", &["/usr/bin/valgrind"])];

/// Installs the packages that lack; says which and asks nothing.
///
/// # Errors
/// When apt is not there or fails; names what to install by hand.
pub fn ensure(groups: &[&[Package]], progress: &Progress) -> Result<()> {
    let there = |files: &[&str]| files.iter().any(|file| Path::new(file).exists());
    let missing: Vec<_> = groups
        .iter()
        .flat_map(|group| group.iter())
        .filter(|(_, files)| !there(files))
        .map(|(name, _)| *name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!("these programs are missing and this is no Debian: install the like of: {names}");
    }
    let log = crate::cache()?.join("apt.log");
    let apt = |args: &[&str]| {
        let mut command = run::tied(if rustix::process::geteuid().is_root() { "env" } else { "sudo" });
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", LOCK_WAIT]).args(args);
        command
    };
    // The lists may be older than the packages: refreshed only when the first try fails.
    let install = ["install", "-y", "--no-install-recommends"].into_iter().chain(missing).collect::<Vec<_>>();
    let what = format!("installing Debian packages: {names}");
    if progress.long(&what, &mut apt(&install), &log).is_ok() {
        return Ok(());
    }
    progress.long("refreshing the package lists", &mut apt(&["update"]), &log)?;
    progress
        .long(&what, &mut apt(&install), &log)
        .with_context(|| format!("install them by hand: sudo apt-get install {names}"))
}

/// Whether a program answers; for tools that are used when they happen to be there.
#[must_use]
pub fn has(program: &str) -> bool {
    run::output(Command::new(program).arg("--version")).is_ok()
}
