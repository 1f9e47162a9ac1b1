//! Becoming root for the part that needs it; builds stay the user's own.

use std::{
    env,
    os::unix::fs::MetadataExt,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};

/// Variables that decide where tools and builds are found; sudo would drop them.
const KEPT: [&str; 6] = ["PATH", "HOME", "XDG_CACHE_HOME", "CARGO_HOME", "RUSTUP_HOME", "CARGO_TARGET_DIR"];

/// Runs this very command again under sudo when the user is not root.
///
/// Gives the exit code of that run, or nothing when this process is root already.
pub(crate) fn as_root() -> Result<Option<ExitCode>> {
    // The owner of /proc/self is the effective user.
    if std::fs::metadata("/proc/self")?.uid() == 0 {
        return Ok(None);
    }
    let mut command = Command::new("sudo");
    command.arg("env");
    for name in KEPT {
        if let Some(value) = env::var_os(name) {
            let mut pair = std::ffi::OsString::from(format!("{name}="));
            pair.push(value);
            command.arg(pair);
        }
    }
    let status = command
        .arg(env::current_exe()?)
        .args(env::args_os().skip(1))
        .status()
        .context("a local cluster needs root: run this as root, or install sudo")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(Some(ExitCode::from(code)))
}
