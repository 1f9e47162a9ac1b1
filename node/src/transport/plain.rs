//! A plain socket: one system call reads the bytes that are there, and one writes everything that is queued.

use std::{io::IoSlice, mem::MaybeUninit, os::fd::BorrowedFd};

use node_core::egress::outbox::{Outbox, Queue};
use rustix::{
    event::epoll::EventFlags,
    io::Errno,
    net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv, send, sendmsg, shutdown},
};

use super::{Edge, Taken, Written};

/// Up to here frames are copied together: for small ones that is as fast as a vectored write or faster.
pub(super) const COPY_BYTES: usize = 16 * 1024;
/// Frames in one vectored write, most of the time, and at most.
const SLICES: usize = 64;
const MOST_SLICES: usize = 256;

/// The meaning of epoll's flags for a connection.
pub(super) const fn on_ready(flags: EventFlags) -> Edge {
    let ended = flags.intersects(EventFlags::RDHUP.union(EventFlags::HUP).union(EventFlags::ERR));
    let input = ended || flags.contains(EventFlags::IN);
    Edge { input, ended, output: flags.contains(EventFlags::OUT) }
}

/// Reads once into `buffer`.
pub(super) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Taken {
    match recv(fd, buffer, RecvFlags::DONTWAIT) {
        Ok((0, _)) => Taken::Ended,
        Ok((count, _)) => Taken::Bytes(count),
        Err(Errno::AGAIN) => Taken::Nothing,
        Err(Errno::INTR) => Taken::Again,
        Err(_) => Taken::Ended,
    }
}

/// Ends the output. Fails only when the peer reset the connection, which reading will show.
pub(super) fn end_output(fd: BorrowedFd<'_>) {
    shutdown(fd, Shutdown::Write).ok();
}

/// Sends bytes once. Returns how many the kernel took: none when it takes none now.
pub(super) fn send_once(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    match retried(|| send(fd, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)) {
        Err(Errno::AGAIN) => Ok(0),
        result => result,
    }
}

/// Sends some last bytes, if the kernel takes them at once, and ends the output.
pub(super) fn say_last(fd: BorrowedFd<'_>, bytes: &[u8]) {
    send_once(fd, bytes).ok();
    end_output(fd);
}

/// Writes what is queued. `scratch` has [`COPY_BYTES`].
pub(super) fn write(fd: BorrowedFd<'_>, outbox: &Outbox, queue: &Queue, scratch: &mut [u8]) -> Written {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_or_an_error_is_input_to_be_read_to_its_end() {
        let edge = |input, ended, output| Edge { input, ended, output };
        for (flags, told) in [
            (EventFlags::IN, edge(true, false, false)),
            (EventFlags::OUT, edge(false, false, true)),
            (EventFlags::IN | EventFlags::OUT, edge(true, false, true)),
            (EventFlags::RDHUP, edge(true, true, false)),
            (EventFlags::HUP | EventFlags::OUT, edge(true, true, true)),
            (EventFlags::ERR, edge(true, true, false)),
        ] {
            assert_eq!(on_ready(flags), told, "{flags:?}");
        }
    }
}
