//! Offers one frame to queues.

use bytes::Bytes;

use super::outbox::{FrameId, Outbox};
use crate::{
    config::Limits,
    session::conn::{Conn, Flags},
};

/// What happened to a frame offered to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    /// Queued; the socket is blocked.
    Waits,
    /// Queued; the socket may take it.
    Queued,
    /// Queued, and the queue is half full although its socket may take more.
    Pressing,
    /// Not queued: the socket is blocked and the queue is full.
    Full,
}

/// A broadcast in one form: its frames as one run of bytes in the palette.
pub(super) struct Run {
    id: FrameId,
    bytes: u32,
    /// Messages in it; none when this form cannot carry any.
    pub(super) frames: u64,
    /// Members that it was offered to.
    pub(super) offered: u64,
    /// References to it, accounted for at the end.
    pub(super) links: u32,
}

impl Run {
    pub(super) fn new(outbox: &mut Outbox, run: Bytes, frames: usize) -> Self {
        // A message has 16 MiB at most; a window has 64 messages of 64 KiB together.
        let bytes = run.len() as u32;
        Self { id: outbox.add(run), bytes, frames: frames as u64, offered: 0, links: 0 }
    }

    /// Accounts for the references and returns how many messages were queued.
    pub(super) fn end(&self, outbox: &mut Outbox) -> u64 {
        outbox.linked(self.id, self.links);
        outbox.seal(self.id);
        self.frames * u64::from(self.links)
    }
}

/// Queues the run for one connection, after it has checked the bounds of the queue. A queue whose socket was not tried
/// may exceed its bound by a little: the shard then reads next to nothing until the queue is written, so a fast client
/// is never closed because this node has not written yet.
#[inline]
pub(super) fn offer(outbox: &mut Outbox, conn: &mut Conn, run: &mut Run, limits: &Limits) -> Offer {
    let bytes = conn.queue.bytes() as usize + run.bytes as usize;
    let frames = conn.queue.frames() + 1;
    let (max_bytes, max_frames) = (limits.send_queue_bytes as usize, limits.send_queue_frames);
    let blocked = conn.flags.has(Flags::BLOCKED);
    if blocked && (bytes > max_bytes || frames > max_frames) {
        return Offer::Full;
    }
    outbox.link(&mut conn.queue, run.id, run.bytes);
    run.links += 1;
    if blocked {
        return Offer::Waits;
    }
    let half = bytes > max_bytes / 2 || frames > max_frames / 2;
    if half && !conn.flags.has(Flags::PRESSED) { Offer::Pressing } else { Offer::Queued }
}
