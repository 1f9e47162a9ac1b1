//! Becomes root for the parts that need it; builds stay the user's own.

use std::{
    env,
    ffi::OsString,
    os::unix::fs::MetadataExt,
    process::{Command, ExitCode, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use cluster::run::describe;

/// Variables that decide where tools and builds are found, which sudo would drop.
const KEPT: [&str; 8] = [
    "PATH",
    "HOME",
    "XDG_CACHE_HOME",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "CARGO_TARGET_DIR",
    "CHANNELCLUSTER_REPORTS",
    // It repeats a random test.
    "SEED",
];

/// The advice for when there is no way to become root.
const NO_SUDO: &str = "a local cluster needs root: run this as root, or install sudo";
/// How often sudo is told that its user is still there. Some builds of sudo forget a user after 5 minutes, Debian's
/// after 15.
const REFRESH: Duration = Duration::from_secs(60);

/// Keeps sudo from asking again, until the value is dropped.
pub(crate) struct Asked {
    _stop: Option<Sender<()>>,
}

/// Asks for the password now, when sudo will need one later: builds take longer than a person watches, and longer than
/// sudo remembers. Nothing happens when the user is root.
///
/// # Errors
/// When the user may not become root.
pub(crate) fn ask_early() -> Result<Asked> {
    if is_root() {
        return Ok(Asked { _stop: None });
    }
    let mut silent = Command::new("sudo");
    silent.args(["-n", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    // This is tried first: `sudo -v` asks for a password even when the user needs none for any command (sudoers,
    // verifypw).
    if !silent.status().context(NO_SUDO)?.success() {
        say::err!("a local cluster needs root after the builds: sudo asks now");
        let status = Command::new("sudo").arg("-v").status().context(NO_SUDO)?;
        if !status.success() {
            bail!("sudo lets nobody become root here: run this as root, or from a terminal for the password");
        }
    }
    let (stop, stopped) = channel();
    thread::spawn(move || refresh(&stopped, REFRESH, || drop(refresh_command().status())));
    Ok(Asked { _stop: Some(stop) })
}

fn refresh_command() -> Command {
    let mut command = Command::new("sudo");
    command.args(["-n", "-v"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Calls `again` each `period` until the other end of the channel is dropped.
fn refresh(stopped: &Receiver<()>, period: Duration, mut again: impl FnMut()) {
    while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
        again();
    }
}

/// Whether this process is root: the owner of /proc/self is the effective user.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// `sudo env NAME=VALUE...` with the variables that matter.
fn sudo() -> Command {
    let mut command = Command::new("sudo");
    command.arg("env");
    for name in KEPT {
        if let Some(value) = env::var_os(name) {
            let mut pair = OsString::from(format!("{name}="));
            pair.push(value);
            command.arg(pair);
        }
    }
    command
}

/// A program that runs as root, through sudo when this process does not.
pub(crate) fn command(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = sudo();
    command.arg(program);
    command
}

/// Lets the test programs of a cargo command run as root, while cargo builds as the user.
pub(crate) fn test_runner(mut cargo: Command) -> Command {
    if !is_root() {
        let triple = format!("{}-unknown-linux-gnu", env::consts::ARCH);
        let name = format!("CARGO_TARGET_{}_RUNNER", triple.replace('-', "_").to_uppercase());
        cargo.env(name, describe(&sudo()));
    }
    cargo
}

/// Runs this very command again under sudo when the user is not root.
///
/// Gives the exit code of that run, or nothing when this process is root already.
pub(crate) fn as_root() -> Result<Option<ExitCode>> {
    if is_root() {
        return Ok(None);
    }
    let mut command = sudo();
    let status = command.arg(env::current_exe()?).args(env::args_os().skip(1)).status().context(NO_SUDO)?;
    Ok(Some(cluster::run::code(status).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sudo_is_refreshed_until_nobody_needs_it() {
        let (stop, stopped) = channel();
        let (mut stop, mut times) = (Some(stop), 0);
        refresh(&stopped, Duration::ZERO, || {
            times += 1;
            if times == 3 {
                stop = None;
            }
        });
        assert!(stop.is_none() && times == 3, "{times} times");
    }
}
