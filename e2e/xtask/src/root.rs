//! Becoming root for the part that needs it; builds stay the user's own.

use std::{
    env,
    ffi::OsString,
    os::unix::fs::MetadataExt,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};
use cluster::run::describe;

/// Variables that decide where tools and builds are found; sudo would drop them.
const KEPT: [&str; 8] = [
    "PATH",
    "HOME",
    "XDG_CACHE_HOME",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "CARGO_TARGET_DIR",
    "CHANNELCLUSTER_REPORTS",
    // Repeats a random test.
    "SEED",
];

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
    let status = command
        .arg(env::current_exe()?)
        .args(env::args_os().skip(1))
        .status()
        .context("a local cluster needs root: run this as root, or install sudo")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(Some(ExitCode::from(code)))
}
