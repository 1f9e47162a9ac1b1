//! Whether a shard sleeps, agreed between the shard and the threads that send to it: a wake costs microseconds, so that
//! only a shard that sleeps is woken, and by one sender.

use crate::sync::atomic::{AtomicBool, Ordering, fence};

/// Set by the shard right before it parks, taken by the sender that wakes it.
#[derive(Debug, Default)]
pub struct Sleep(AtomicBool);

impl Sleep {
    /// Whether the caller, having pushed something, has to wake the shard.
    #[must_use]
    pub fn is_to_be_woken(&self) -> bool {
        // Pairs with the fence in `begin`: either the shard sees the item or the sender sees it asleep.
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::AcqRel)
    }

    /// Announces sleep. Returns false, and the shard stays awake, when `is_empty` says that something arrived
    /// meanwhile.
    #[must_use]
    pub fn begin(&self, is_empty: impl FnOnce() -> bool) -> bool {
        self.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let asleep = is_empty();
        if !asleep {
            self.end();
        }
        asleep
    }

    /// Ends the announced sleep.
    pub fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
