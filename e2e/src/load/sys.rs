//! The system calls that no safe wrapper among our dependencies has.
#![allow(unsafe_code)]

use rustix::event::epoll;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Gives the calling thread a descriptor table of its own that keeps only standard input, output and error,
/// so that each worker has the process's whole descriptor limit to itself.
///
/// The caller owns no descriptor above 2 and afterwards must touch none that another thread opened: the same number
/// means another file here. To wake another thread's event loop would touch one.
///
/// # Errors
/// Those of close_range(2); ENOSYS before Linux 5.9.
pub(super) fn own_descriptor_table() -> io::Result<()> {
    // SAFETY: plain numbers; with CLOSE_RANGE_UNSHARE other threads keep their table as it is, and this
    // thread owns none of the descriptors that go (see above).
    let done =
        unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets bind(2) to a source address leave the port to connect(2), which may reuse one per destination
/// (ip(7), IP_BIND_ADDRESS_NO_PORT).
///
/// # Errors
/// Those of setsockopt(2).
pub(super) fn bind_address_no_port(socket: &impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option takes an int, whose address and size are given.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits for events for at most `timeout`, to the microsecond: rustix's `wait` rounds each sleep up to a millisecond,
/// which would make an open-loop schedule late.
///
/// # Errors
/// Those of epoll_pwait2(2); a signal gives no events.
pub(super) fn wait(poll: &OwnedFd, events: &mut Vec<epoll::Event>, timeout: Duration) -> io::Result<()> {
    events.clear();
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(timeout.subsec_nanos() as i32),
    };
    let room = events.spare_capacity_mut();
    // SAFETY: rustix's Event has the layout of epoll_event (it hands it to the kernel itself); the kernel
    // writes at most `room.len()` of them.
    let count = unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait2,
            poll.as_raw_fd(),
            room.as_mut_ptr(),
            room.len(),
            &raw const timeout,
            std::ptr::null::<libc::sigset_t>(),
            size_of::<libc::c_long>(),
        )
    };
    if count >= 0 {
        // SAFETY: the kernel has written that many.
        unsafe { events.set_len(count as usize) };
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        error => Err(error),
    }
}

/// Whether two threads have one descriptor table; false where the kernel does not say (kcmp(2)).
pub(super) fn share_descriptors(one: u32, other: u32) -> bool {
    /// linux/kcmp.h
    const KCMP_FILES: libc::c_int = 2;
    // SAFETY: plain numbers.
    unsafe { libc::syscall(libc::SYS_kcmp, one as libc::pid_t, other as libc::pid_t, KCMP_FILES, 0, 0) == 0 }
}

static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn on_stop(_: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

/// Turns SIGINT and SIGTERM into a flag.
pub fn stop_on_signals() -> &'static AtomicBool {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { libc::signal(signal, on_stop as *const () as libc::sighandler_t) };
    }
    &STOP
}

/// Raises the soft limit of open files to the hard one and returns it.
///
/// # Errors
/// Those of setrlimit(2).
pub(super) fn raise_nofile() -> io::Result<u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}
