//! A child process that ends with the value that holds it, and with this process however that ends.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use cluster::run;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A running program.
pub(crate) struct Kept {
    name: &'static str,
    pid: u32,
    log: PathBuf,
    /// A descriptor that pins the process: its number cannot pass to another one.
    process: OwnedFd,
    /// The thread that started the process and waits for it: the kernel ties a child to the life of the thread that
    /// started it.
    keeper: Option<JoinHandle<()>>,
}

impl Kept {
    /// Starts `program` with its output at the end of a log.
    pub(crate) fn start(name: &'static str, program: &Path, args: &[String], log: PathBuf) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(&log)?;
        let mut command = run::tied(program);
        command.args(args).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let (tell, told) = mpsc::channel();
        let keeper = std::thread::Builder::new().name(name.into()).spawn(move || {
            let mut child = match command.spawn() {
                Ok(child) => child,
                Err(error) => return drop(tell.send(Err(error.into()))),
            };
            let number = child.id();
            let pid = i32::try_from(number).ok().and_then(Pid::from_raw).context("no process number");
            let process = pid.and_then(|pid| Ok((number, pidfd_open(pid, PidfdFlags::empty())?)));
            drop(tell.send(process));
            drop(child.wait());
        })?;
        let process = told.recv().context("the thread that starts a process ended")?;
        let (pid, process) = process.with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, pid, log, process, keeper: Some(keeper) })
    }

    /// The process' number.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Fails with the end of the log when the process has ended.
    pub(crate) fn check(&self) -> Result<()> {
        if self.keeper.as_ref().is_none_or(JoinHandle::is_finished) {
            bail!("{} has ended; {} says:\n{}", self.name, self.log.display(), run::tail(&self.log));
        }
        Ok(())
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end(mut self, signal: Signal) -> Result<()> {
        match pidfd_send_signal(&self.process, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => self.join(),
            Err(error) => Err(error).with_context(|| format!("cannot signal {}", self.name)),
        }
    }

    fn join(&mut self) -> Result<()> {
        let Some(keeper) = self.keeper.take() else { return Ok(()) };
        keeper.join().map_err(|_| anyhow::anyhow!("the thread that keeps {} panicked", self.name))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // When the process has ended by itself, there is nothing to kill.
        pidfd_send_signal(&self.process, Signal::KILL).ok();
        self.join().ok();
    }
}
