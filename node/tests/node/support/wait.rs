//! Waiting for a state, never for a time.

use std::time::{Duration, Instant};

/// A test that has not seen what it waits for by then has failed.
pub(crate) const HANG: Duration = Duration::from_secs(120);

/// Waits for a state.
pub(crate) fn wait(what: &str, mut reached: impl FnMut() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < HANG, "waited {HANG:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
