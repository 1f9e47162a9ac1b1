//! What needs `unsafe`: handing descriptors to the runtime.

use std::{io, os::fd::OwnedFd};

use tokio::io::{Interest, unix::AsyncFd};

/// Watches a descriptor for input in the current runtime.
///
/// # Errors
/// When the runtime's epoll refuses it.
pub(crate) fn watch_input(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open and stays the same descriptor until it is dropped. The AsyncFd owns it from here on,
    // never hands it out but by shared reference, and deregisters before it drops it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}
