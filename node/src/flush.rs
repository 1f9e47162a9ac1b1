//! Writing one connection: everything that is queued for it, in one system call.

use std::{io::IoSlice, mem::MaybeUninit, os::fd::BorrowedFd};

use node_core::outbox::{Outbox, Queue};
use rustix::{
    io::Errno,
    net::{SendAncillaryBuffer, SendFlags, send, sendmsg},
};

/// Up to here frames are copied together: for small ones that is as fast as a vectored write or faster.
pub(crate) const COPY_BYTES: usize = 16 * 1024;
/// Frames in one vectored write, most of the time, and at most.
const SLICES: usize = 64;
const MOST_SLICES: usize = 256;

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// The kernel took so many bytes of so many offered.
    Sent { taken: usize, offered: usize },
    /// The socket is dead.
    Failed,
}

/// Writes what is queued. `scratch` has [`COPY_BYTES`].
pub(crate) fn write(fd: BorrowedFd<'_>, outbox: &Outbox, queue: &Queue, scratch: &mut [u8]) -> Written {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let total = queue.bytes() as usize;
    let (offered, result) = if queue.frames() == 1 {
        let frame = outbox.first(queue);
        (frame.len(), retried(|| send(fd, frame, flags)))
    } else if total <= COPY_BYTES {
        let end = outbox.copy(queue, scratch);
        (total, retried(|| send(fd, &scratch[..end], flags)))
    } else if queue.frames() as usize <= SLICES {
        write_vectored::<SLICES>(fd, outbox, queue, flags)
    } else {
        write_vectored::<MOST_SLICES>(fd, outbox, queue, flags)
    };
    match result {
        Ok(taken) => Written::Sent { taken, offered },
        Err(Errno::AGAIN) => Written::Sent { taken: 0, offered },
        Err(_) => Written::Failed,
    }
}

/// Offers `N` frames at most. Returns how many bytes were, and what became of them.
fn write_vectored<const N: usize>(
    fd: BorrowedFd<'_>,
    outbox: &Outbox,
    queue: &Queue,
    flags: SendFlags,
) -> (usize, Result<usize, Errno>) {
    let mut slices = [IoSlice::new(&[]); N];
    let filled = outbox.gather(queue, &mut slices);
    let slices = &slices[..filled];
    let mut no_space: [MaybeUninit<u8>; 0] = [];
    let mut nothing = SendAncillaryBuffer::new(&mut no_space);
    let offered = slices.iter().map(|slice| slice.len()).sum();
    (offered, retried(|| sendmsg(fd, slices, &mut nothing, flags)))
}

fn retried(mut call: impl FnMut() -> Result<usize, Errno>) -> Result<usize, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}
