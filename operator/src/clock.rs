//! Time for the core: milliseconds since 1970 that never go backwards.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970 when the process first asked, plus the monotonic time since. A step of the system clock
/// therefore ages no figure and ends no deadline.
#[must_use]
pub fn now() -> u64 {
    static START: OnceLock<(Instant, u64)> = OnceLock::new();
    let (instant, wall) = START.get_or_init(|| {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (Instant::now(), u64::try_from(wall.as_millis()).unwrap_or_default())
    });
    wall + u64::try_from(instant.elapsed().as_millis()).unwrap_or_default()
}
