//! Debian packages that the host must have, which are installed when they are missing.

use std::{
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::run::{self, Progress};

/// A package, and a file that shows that it is there (also when it was installed in another way).
type Package = (&'static str, &'static [&'static str]);

/// A new machine may be upgrading itself: with this apt waits so many seconds for dpkg's lock, instead of failing at
/// once.
const LOCK_WAIT: &str = "DPkg::Lock::Timeout=600";
/// How long to wait for the locks of the package lists and of the archives, for which apt itself does not wait.
const LOCK_LIMIT: Duration = Duration::from_secs(600);
/// Pause between two attempts to get such a lock.
const LOCK_PAUSE: Duration = Duration::from_secs(5);
/// The words of apt when another program has a lock.
const LOCKED: &str = "Could not get lock";

/// Packages that a cluster needs at run time.
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

/// Packages that the Rust build needs: the crypto provider and the allocator are C.
pub const BUILD: &[Package] = &[
    ("build-essential", &["/usr/bin/g++"]),
    ("cmake", &["/usr/bin/cmake"]),
    ("ca-certificates", &["/etc/ssl/certs/ca-certificates.crt"]),
];

/// Packages that only the tests need.
pub const TEST: &[Package] = &[
    ("nodejs", &["/usr/bin/node", "/usr/local/bin/node"]),
    ("npm", &["/usr/bin/npm", "/usr/local/bin/npm"]),
    ("chromium", &["/usr/bin/chromium"]),
    ("curl", &["/usr/bin/curl"]),
    ("python3", &["/usr/bin/python3"]),
    ("tsung", &["/usr/bin/tsung"]),
    ("nginx", &["/usr/sbin/nginx"]),
    ("haproxy", &["/usr/sbin/haproxy"]),
    ("prometheus", &["/usr/bin/prometheus"]),
    ("default-jdk-headless", &["/usr/bin/javac"]),
    ("maven", &["/usr/bin/mvn"]),
];

/// Packages that a real KEDA on a running instance needs beside the cluster: its Prometheus, and stock clients.
pub const KEDA: &[Package] = &[
    ("nodejs", &["/usr/bin/node", "/usr/local/bin/node"]),
    ("npm", &["/usr/bin/npm", "/usr/local/bin/npm"]),
    ("prometheus", &["/usr/bin/prometheus"]),
];

/// Packages of programs in Python, which are installed into environments of their own.
pub const PYTHON: &[Package] = &[("python3-venv", &["/usr/share/doc/python3-venv"])];

/// Packages that only the gates need, to count instructions.
pub const GATES: &[Package] = &[("valgrind", &["/usr/bin/valgrind"])];

/// Packages that only measurements beside other servers need, to tell user time from kernel time by samples.
pub const BENCH: &[Package] = &[("linux-perf", &["/usr/bin/perf"])];

/// Installs the packages that are missing; says which, and asks nothing.
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
    let apt = |what: &str, args: &[&str]| {
        let program = if rustix::process::geteuid().is_root() { "env" } else { "sudo" };
        let locked =
            || progress.say("another program holds a lock of apt's; waiting up to 10 minutes for it");
        let mut first = true;
        while_locked(LOCK_LIMIT, LOCK_PAUSE, locked, || {
            let mut command = run::tied(program);
            // apt has to answer in English, because its words are compared.
            let variables = ["LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"];
            command.args(variables).args(["apt-get", "-o", LOCK_WAIT]).args(args);
            if std::mem::take(&mut first) {
                progress.say(what);
            }
            progress.long_unsaid(what, &mut command, &log)
        })
    };
    // The package lists may be too old; they are refreshed only when the first try fails.
    let install = ["install", "-y", "--no-install-recommends"].into_iter().chain(missing).collect::<Vec<_>>();
    let what = format!("installing Debian packages: {names}");
    if apt(&what, &install).is_ok() {
        return Ok(());
    }
    apt("refreshing the package lists", &["update"])?;
    apt(&what, &install).with_context(|| format!("install them by hand: sudo apt-get install {names}"))
}

/// Tries again while apt says that another program holds a lock; `say` is called once, before the first pause.
fn while_locked(
    limit: Duration,
    pause: Duration,
    say: impl FnOnce(),
    mut attempt: impl FnMut() -> Result<()>,
) -> Result<()> {
    let started = Instant::now();
    let mut say = Some(say);
    loop {
        let Err(error) = attempt() else { return Ok(()) };
        if !format!("{error:#}").contains(LOCKED) || started.elapsed() >= limit {
            return Err(error);
        }
        if let Some(say) = say.take() {
            say();
        }
        thread::sleep(pause);
    }
}

/// Whether a program answers; for tools that are used only if they exist.
#[must_use]
pub fn has(program: &str) -> bool {
    run::output(Command::new(program).arg("--version")).is_ok()
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    /// Attempts and calls of `say` until it gives up or succeeds: the answers are apt's, one after the other.
    fn tries(limit: Duration, answers: &[&str]) -> (usize, usize, Result<()>) {
        let (mut attempts, mut said) = (0, 0);
        let result = while_locked(
            limit,
            Duration::ZERO,
            || said += 1,
            || {
                let answer = answers[attempts];
                attempts += 1;
                if answer.is_empty() { Ok(()) } else { Err(anyhow!("{answer}").context("apt-get update")) }
            },
        );
        (attempts, said, result)
    }

    const HELD: &str = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7 (apt-get)";

    #[test]
    fn a_held_lock_is_waited_for_and_said_once() {
        let (attempts, said, result) = tries(LOCK_LIMIT, &[HELD, HELD, ""]);
        assert!(result.is_ok() && (attempts, said) == (3, 1), "{attempts} {said} {result:?}");
        let (attempts, said, result) = tries(LOCK_LIMIT, &[""]);
        assert!(result.is_ok() && (attempts, said) == (1, 0), "{attempts} {said} {result:?}");
    }

    #[test]
    fn another_failure_and_the_end_of_the_wait_are_errors() {
        let (attempts, said, result) = tries(LOCK_LIMIT, &[HELD, "E: Unable to fetch"]);
        assert!(result.is_err() && (attempts, said) == (2, 1), "{attempts} {said} {result:?}");
        let (attempts, _, result) = tries(Duration::ZERO, &[HELD]);
        assert!(result.is_err() && attempts == 1, "{attempts} {result:?}");
    }
}
