//! The whole process ends, with a failure, when one of its threads fails: a node of which a part looks alive is worse
//! than one that is replaced. Its clients are told first, as far as that is still possible.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::OnceLock,
    time::{Duration, Instant},
};

use node_core::{limits::CLOSE_TIMEOUT_MILLIS, shard::Mail};
use shell::output::Lines;

use crate::mailbox::ShardHandle;

/// Exit code of a node that failed (`EX_SOFTWARE` of sysexits.h).
pub const EXIT_FAILED: i32 = 70;
/// Time that the other shards get to close their connections: that of a closing handshake and a second more.
const FAREWELL: Duration = Duration::from_millis(CLOSE_TIMEOUT_MILLIS + 1_000);
/// Time that the last bytes of a failed shard get to arrive: the kernel drops them with a socket that has unread
/// input.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Pause between looks whether the shards are done.
const LOOK: Duration = Duration::from_millis(20);

/// The log, whose last lines tell what failed.
static LOG: OnceLock<Lines> = OnceLock::new();

/// Sets the log that is written out before a failed process ends.
pub fn set_log(log: Lines) {
    // A process has one log; a second one would not be waited for.
    LOG.set(log).ok();
}

/// Runs the function of a thread and ends the process when it fails or panics.
pub fn guarded(shards: &[ShardHandle], life: impl FnOnce() -> io::Result<()>) {
    let name = std::thread::current().name().unwrap_or("a thread").to_owned();
    match catch_unwind(AssertUnwindSafe(life)) {
        Ok(Ok(())) => return,
        Ok(Err(error)) => tracing::error!("{name} failed, the node ends: {error}"),
        Err(_) => tracing::error!("{name} panicked, the node ends"),
    }
    end_process(shards);
}

/// Makes the shards that still can close their connections with 1012, then ends the process with [`EXIT_FAILED`].
pub fn end_process(shards: &[ShardHandle]) -> ! {
    for shard in shards {
        // A shard whose mailbox of orders is full is ending already, or cannot end in order.
        shard.send(Mail::Shutdown).ok();
    }
    let begun = Instant::now();
    let busy = || shards.iter().any(|shard| shard.stats().load().connections > 0);
    while begun.elapsed() < LAST_WORDS || (begun.elapsed() < FAREWELL && busy()) {
        std::thread::sleep(LOOK);
    }
    if let Some(log) = LOG.get() {
        log.flush();
    }
    std::process::exit(EXIT_FAILED);
}
