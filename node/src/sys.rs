//! What needs `unsafe`: handing descriptors to the runtime, and a thread's own descriptor table.

use std::{
    io,
    os::fd::{OwnedFd, RawFd},
};

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

/// Gives the calling thread a descriptor table of its own, with copies of the descriptors below `first`. Only the
/// threads that it starts from then on share it.
///
/// # Errors
/// Those of close_range(2); ENOSYS before Linux 5.9.
pub(crate) fn own_descriptor_table(first: RawFd) -> io::Result<()> {
    let first = libc::c_uint::try_from(first).map_err(io::Error::other)?;
    // SAFETY: plain numbers. With CLOSE_RANGE_UNSHARE the other threads keep their table as it is; the caller sees to it
    // that this thread owns no descriptor from `first` on.
    let done =
        unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
