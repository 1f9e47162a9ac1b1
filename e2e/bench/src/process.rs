//! Starts one server, waits for it, and stops it with all of its children.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use cluster::run::{self, Wait, wait_for};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

use crate::peers::{Peer, Start};

/// Longest wait for a server's port.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Longest wait until a server has ended by itself; then it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(3);
/// How often a process or port is looked at again.
const POLL: Duration = Duration::from_millis(20);

/// A running server; stopped when dropped.
pub struct Server {
    child: Child,
    group: Pid,
    directory: PathBuf,
}

impl Server {
    /// Starts a server in a directory that is made for it and waits until it listens.
    ///
    /// # Errors
    /// When it does not listen in time; quotes the end of its output.
    pub fn start(peer: &dyn Peer, start: &Start<'_>) -> Result<Self> {
        let (directory, port) = (start.directory, start.port);
        if directory.exists() {
            fs::remove_dir_all(directory)
                .with_context(|| format!("cannot remove {}", directory.display()))?;
        }
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let command = peer.command(start)?;
        let log = directory.join("output.log");
        let output = File::create(&log)?;
        let line = run::describe(&command);
        let child = tied(&command, peer.signal_on_our_death())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start `{line}`"))?;
        let group = Pid::from_child(&child);
        let mut server = Self { child, group, directory: directory.to_owned() };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        wait_for(&format!("port {port} of {}", peer.name()), START_LIMIT, || {
            if let Some(status) = server.child.try_wait()? {
                bail!("`{line}` ended with {status}: {}", run::tail(&log));
            }
            Ok(match TcpStream::connect_timeout(&address, POLL) {
                Ok(_) => Wait::Done,
                Err(error) => Wait::NotYet(error.to_string()),
            })
        })?;
        Ok(server)
    }

    /// The server's process; its children belong to the same group.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The end of the server's output.
    #[must_use]
    pub fn said(&self) -> String {
        run::tail(&self.directory.join("output.log"))
    }

    /// Ends the server and everything that it started.
    ///
    /// # Errors
    /// When a process of it cannot be killed.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        let started = Instant::now();
        let mut signal = Signal::TERM;
        // The group exists as long as any process in it runs.
        while test_kill_process_group(self.group).is_ok() {
            if started.elapsed() > STOP_LIMIT * 2 {
                bail!("process group {} does not end", self.group.as_raw_nonzero());
            }
            if started.elapsed() > STOP_LIMIT {
                signal = Signal::KILL;
            }
            kill_process_group(self.group, signal).ok();
            std::thread::sleep(POLL);
            self.child.try_wait()?;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            say::err!("a server may be left: {error:#}");
        }
    }
}

/// The same command, ended by a signal when this process dies.
fn tied(command: &Command, signal: &str) -> Command {
    let mut tied = Command::new("setpriv");
    tied.args(["--pdeathsig", signal]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => tied.env(name, value),
            None => tied.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        tied.current_dir(directory);
    }
    tied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tied_command_keeps_its_environment_and_place() {
        let mut command = Command::new("serve");
        command.arg("7000").env("A", "1").current_dir("/tmp");
        let tied = tied(&command, "TERM");
        assert_eq!(run::describe(&tied), "setpriv --pdeathsig TERM serve 7000");
        assert_eq!(tied.get_envs().count(), 1);
        assert_eq!(tied.get_current_dir(), Some(std::path::Path::new("/tmp")));
    }
}
