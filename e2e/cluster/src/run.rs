//! Runs other programs: only here a failed program becomes an error with the program's own words.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// How many bytes of a program's last output an error quotes.
const QUOTED_BYTES: u64 = 3_000;
/// How often a long step says that it is still alive.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A single step that takes longer hangs: the longest one, building Kubernetes with an empty cache, takes a fifth of
/// it.
const HANG_GUARD: Duration = Duration::from_secs(60 * 60);
/// How often a condition or a child is looked at again.
pub(crate) const POLL: Duration = Duration::from_millis(100);

/// A program that dies with this process, so that `down` after a SIGKILL finds no half-done child.
///
/// The kernel sends the signal when the *thread* that started the child ends, so the thread must
/// wait for it.
pub fn tied(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// Exit code of a program, 1 when a signal ended it.
#[must_use]
pub fn code(status: ExitStatus) -> u8 {
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Runs a program to its end and returns its standard output.
///
/// # Errors
/// When it cannot be started or ends with a failure; quotes what it said.
pub fn output(command: &mut Command) -> Result<String> {
    output_given(command, "")
}

/// The same for a program that reads `input`, which must fit into a pipe (64 KiB).
///
/// # Errors
/// When it cannot be started or ends with a failure; quotes what it said.
pub fn output_given(command: &mut Command, input: &str) -> Result<String> {
    let line = describe(command);
    let mut child = command
        .stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{line}`; is the program installed?"))?;
    // When a program does not read its input, it says why itself.
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let out = child.wait_with_output()?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        let said = if said.trim().is_empty() { String::from_utf8_lossy(&out.stdout) } else { said };
        bail!("`{line}` ended with {}: {}", out.status, said.trim());
    }
    written.transpose().with_context(|| format!("`{line}` did not read its input"))?;
    String::from_utf8(out.stdout).with_context(|| format!("`{line}` printed something that is not UTF-8"))
}

/// A command as a person would type it.
#[must_use]
pub fn describe(command: &Command) -> String {
    let mut words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    // The tie to this process is an internal detail, and no part of the failure.
    if words.starts_with(&["setpriv".into(), "--pdeathsig".into(), "KILL".into()]) {
        words.drain(..3);
    }
    words.join(" ")
}

/// The end of a file as text, for an error message; empty when there is none.
#[must_use]
pub fn tail(path: &Path) -> String {
    let read = || -> Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(QUOTED_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    read().unwrap_or_default()
}

/// Prints what is being done, with the seconds since the start.
#[derive(Clone, Copy)]
pub struct Progress {
    started: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// Starts the clock.
    #[must_use]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Prints one line.
    pub fn say(&self, what: &str) {
        say::err!("[{:>4} s] {what}", self.started.elapsed().as_secs());
    }

    /// Runs a long program with its output in a file, and says every few seconds how far it is.
    ///
    /// # Errors
    /// When it cannot be started, fails or hangs; quotes the end of its output.
    pub fn long(&self, what: &str, command: &mut Command, log: &Path) -> Result<()> {
        self.say(what);
        self.long_unsaid(what, command, log)
    }

    /// The same without the line, for another attempt at something that was said already.
    pub(crate) fn long_unsaid(&self, what: &str, command: &mut Command, log: &Path) -> Result<()> {
        self.long_within(HANG_GUARD, what, command, log)
    }

    fn long_within(&self, limit: Duration, what: &str, command: &mut Command, log: &Path) -> Result<()> {
        let line = describe(command);
        if let Some(dir) = log.parent() {
            fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        // Another user's log of an earlier run can be replaced, but not written.
        if log.exists() {
            fs::remove_file(log).with_context(|| format!("cannot remove {}", log.display()))?;
        }
        let file = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start `{line}`; is the program installed?"))?;
        let started = Instant::now();
        let mut said = started;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if started.elapsed() >= limit {
                child.kill()?;
                child.wait()?;
                let (limit, log, last) = (limit.as_secs(), log.display(), tail(log));
                bail!(
                    "{what}: `{line}` did not end in {limit} s and was killed; whole output in {log}\n{last}"
                );
            }
            if said.elapsed() >= HEARTBEAT {
                said = Instant::now();
                let text = tail(log);
                let last = text.lines().last().unwrap_or("").trim();
                self.say(&format!("  still: {what} {}", last.chars().take(80).collect::<String>()));
            }
            thread::sleep(POLL);
        };
        if !status.success() {
            bail!("{what}: `{line}` ended with {status}; whole output in {}\n{}", log.display(), tail(log));
        }
        Ok(())
    }
}

/// Asks again until the condition holds; the last answer is quoted when time is up.
///
/// # Errors
/// When `limit` passes first, or at once when the condition itself fails.
pub fn wait_for(what: &str, limit: Duration, mut done: impl FnMut() -> Result<Wait>) -> Result<()> {
    let start = Instant::now();
    loop {
        match done()? {
            Wait::Done => return Ok(()),
            Wait::NotYet(why) if start.elapsed() > limit => {
                bail!("waited {} s for {what}; last seen: {why}", limit.as_secs())
            }
            Wait::NotYet(_) => thread::sleep(POLL),
        }
    }
}

/// An answer of [`wait_for`]'s condition.
pub enum Wait {
    /// Yes.
    Done,
    /// No, and what was seen instead.
    NotYet(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_program_is_quoted() {
        let error =
            output(Command::new("sh").args(["-c", "echo broken pipe dream >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("broken pipe dream") && text.contains("exit status: 3"), "{text}");
    }

    #[test]
    fn a_program_reads_what_it_is_given() {
        assert_eq!(output_given(&mut Command::new("cat"), "a\nb\n").expect("runs"), "a\nb\n");
        assert_eq!(output(Command::new("cat").arg("-")).expect("runs"), "");
    }

    #[test]
    fn an_absent_program_names_itself() {
        let error = output(&mut Command::new("no-such-program-here")).unwrap_err();
        assert!(error.to_string().contains("no-such-program-here"), "{error}");
    }

    #[test]
    fn a_program_that_hangs_is_killed_and_named() {
        let log = std::env::temp_dir().join(format!("hang-{}.log", std::process::id()));
        let mut hangs = Command::new("sh");
        hangs.args(["-c", "exec sleep 1000"]);
        let error = Progress::new().long_within(Duration::ZERO, "godot", &mut hangs, &log).unwrap_err();
        let error = error.to_string();
        fs::remove_file(log).expect("removed");
        assert!(error.contains("godot") && error.contains("was killed"), "{error}");
    }

    #[test]
    fn waiting_quotes_the_last_answer() {
        let error = wait_for("rain", Duration::ZERO, || Ok(Wait::NotYet("sun".into()))).unwrap_err();
        assert!(error.to_string().contains("sun"), "{error}");
    }
}
