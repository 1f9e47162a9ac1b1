//! The queues for sockets: a frame is kept once, and each receiver has a reference of four bytes to it.
//!
//! A publish to a room of a thousand puts one frame into the palette and a thousand references into one pool, so a
//! receiver costs no allocation and an idle connection owns no queue. (The idea is uWebSockets' TopicTree. TopicTree
//! drains after 32 messages; here there is no such bound because references are pooled.) A queue is a list of blocks
//! of seven references, 32 bytes each: a list of single references would cost a cache miss at each step.

use std::io::IoSlice;

use bytes::Bytes;
use slab::Slab;

mod pool;

use pool::{Block, GROWS_SLOWLY, KEPT_BLOCKS, LAST, NIL, PLACES, Pool};

/// Memory of a frame in the palette besides its bytes, for the allocator and the count of owners of shared bytes. The
/// entry itself is counted by the palette's capacity.
const FRAME_OVERHEAD: usize = 32;

/// A frame in the palette.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameId(u32);

#[derive(Debug)]
struct Frame {
    bytes: Bytes,
    references: u32,
}

/// The references of a queue, block by block: the place of the first one in each block, and all that are in it.
#[inline]
fn runs<'a>(blocks: &'a [Block], queue: &Queue) -> impl Iterator<Item = (u32, &'a [u32])> {
    let places = blocks.as_flattened();
    let (mut next, mut left) = (queue.head, queue.frames);
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let at = next;
        let end = (at | LAST).min(at + left);
        left -= end - at;
        if left > 0 {
            next = places[end as usize];
        }
        Some((at, &places[at as usize..end as usize]))
    })
}

/// The frames and references of one shard.
#[derive(Debug, Default)]
pub struct Outbox {
    frames: Slab<Frame>,
    pool: Pool,
    /// References in all queues.
    used: usize,
    bytes: u64,
    /// Bytes of all frames, each once.
    frame_bytes: usize,
}

/// The queue of one connection.
#[derive(Debug)]
pub struct Queue {
    /// Place of the first reference.
    head: u32,
    /// Place of the last one.
    tail: u32,
    frames: u32,
    bytes: u32,
    /// Bytes of the first frame that are already sent.
    sent: u32,
}

impl Default for Queue {
    fn default() -> Self {
        Self { head: NIL, tail: NIL, frames: 0, bytes: 0, sent: 0 }
    }
}

impl Queue {
    /// Whether the queue is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.head == NIL
    }

    /// Whether the peer has got a part of the first frame.
    #[must_use]
    pub const fn is_partly_sent(&self) -> bool {
        self.sent > 0
    }

    /// Frames queued, a partly sent one included.
    #[must_use]
    pub const fn frames(&self) -> u32 {
        self.frames
    }

    /// Bytes queued and not sent.
    #[must_use]
    pub const fn bytes(&self) -> u32 {
        self.bytes
    }
}

impl Outbox {
    /// Puts a frame into the palette. Call [`Outbox::push`] for each receiver, then [`Outbox::seal`].
    pub fn add(&mut self, bytes: Bytes) -> FrameId {
        // The adder holds a reference until it seals, so that a receiver cleared meanwhile cannot free the frame.
        let capacity = self.frames.capacity();
        if self.frames.len() == capacity && capacity >= GROWS_SLOWLY {
            self.frames.reserve_exact(capacity / 8);
        }
        self.frame_bytes += bytes.len();
        FrameId(self.frames.insert(Frame { bytes, references: 1 }) as u32)
    }

    /// Ends the adding of receivers.
    pub fn seal(&mut self, id: FrameId) {
        release(&mut self.frames, &mut self.frame_bytes, id.0);
    }

    /// The bytes of a frame that is not sealed yet.
    #[must_use]
    pub fn frame(&self, id: FrameId) -> &[u8] {
        &self.frames[id.0 as usize].bytes
    }

    /// Appends a reference to a frame.
    pub fn push(&mut self, queue: &mut Queue, id: FrameId) {
        // One queue is bounded far below 4 GiB by the configuration (256 MiB) and one message (16 MiB).
        let length = self.frame(id).len() as u32;
        self.link(queue, id, length);
        self.linked(id, 1);
    }

    /// Appends a reference to a frame of `length` bytes. The caller accounts for it by [`Outbox::linked`] before it
    /// does anything else with the frame, once for all receivers of a broadcast.
    #[inline]
    pub fn link(&mut self, queue: &mut Queue, id: FrameId, length: u32) {
        let at = if queue.head == NIL {
            queue.head = self.pool.take();
            queue.head
        } else if (queue.tail + 1) % PLACES == LAST {
            let at = self.pool.take();
            self.pool.set(queue.tail + 1, at);
            at
        } else {
            queue.tail + 1
        };
        self.pool.set(at, id.0);
        queue.tail = at;
        queue.frames += 1;
        queue.bytes += length;
    }

    /// Accounts for `count` references that were appended to a frame.
    pub fn linked(&mut self, id: FrameId, count: u32) {
        let frame = &mut self.frames[id.0 as usize];
        frame.references += count;
        self.used += count as usize;
        self.bytes += frame.bytes.len() as u64 * u64::from(count);
    }

    /// Appends a frame for one receiver.
    pub fn push_one(&mut self, queue: &mut Queue, bytes: Bytes) {
        let id = self.add(bytes);
        self.push(queue, id);
        self.seal(id);
    }

    /// The first bytes to send.
    #[must_use]
    pub fn first<'a>(&'a self, queue: &Queue) -> &'a [u8] {
        if queue.is_empty() {
            return &[];
        }
        &self.frames[self.pool.get(queue.head) as usize].bytes[queue.sent as usize..]
    }

    /// The bytes to send, in order.
    pub fn slices<'a>(&'a self, queue: &Queue) -> impl Iterator<Item = &'a [u8]> {
        let mut skip = queue.sent as usize;
        let ids = runs(&self.pool.blocks, queue).flat_map(|(_, run)| run);
        ids.map(move |id| &self.frames[*id as usize].bytes[std::mem::take(&mut skip)..])
    }

    /// Copies the bytes to send to the beginning of `buffer`, which has room for them, and returns how many they are.
    pub fn copy(&self, queue: &Queue, buffer: &mut [u8]) -> usize {
        let (mut end, mut skip) = (0, queue.sent as usize);
        for (_, run) in runs(&self.pool.blocks, queue) {
            for id in run {
                let bytes = &self.frames[*id as usize].bytes[std::mem::take(&mut skip)..];
                buffer[end..end + bytes.len()].copy_from_slice(bytes);
                end += bytes.len();
            }
        }
        end
    }

    /// Copies as many of the bytes to send as `buffer` has room for, and returns how many these are.
    pub fn copy_some(&self, queue: &Queue, buffer: &mut [u8]) -> usize {
        let mut end = 0;
        for bytes in self.slices(queue) {
            let count = bytes.len().min(buffer.len() - end);
            buffer[end..end + count].copy_from_slice(&bytes[..count]);
            end += count;
            if end == buffer.len() {
                break;
            }
        }
        end
    }

    /// Fills `slices` for a vectored write and returns how many were filled.
    pub fn gather<'a>(&'a self, queue: &Queue, slices: &mut [IoSlice<'a>]) -> usize {
        slices.iter_mut().zip(self.slices(queue)).map(|(slot, bytes)| *slot = IoSlice::new(bytes)).count()
    }

    /// Removes the first `count` bytes, which were sent.
    #[inline]
    pub fn advance(&mut self, queue: &mut Queue, count: usize) {
        if count == queue.bytes as usize {
            self.drop_all(queue);
        } else {
            self.advance_within(queue, count);
        }
    }

    fn advance_within(&mut self, queue: &mut Queue, count: usize) {
        let mut left = count;
        while queue.head != NIL {
            let frame = self.pool.get(queue.head);
            let unsent = self.frames[frame as usize].bytes.len() - queue.sent as usize;
            if left < unsent {
                queue.sent += left as u32;
                self.account(queue, left);
                return;
            }
            left -= unsent;
            self.account(queue, unsent);
            self.pop(queue);
        }
    }

    fn drop_all(&mut self, queue: &mut Queue) {
        for (at, run) in runs(&self.pool.blocks, queue) {
            run.iter().for_each(|frame| release(&mut self.frames, &mut self.frame_bytes, *frame));
            self.pool.free.push(at & !LAST);
        }
        self.used -= queue.frames as usize;
        self.bytes -= u64::from(queue.bytes);
        *queue = Queue::default();
    }

    /// Empties a queue, except for the rest of a frame that is partly sent when `keep_partial` asks for it: a frame cut
    /// off would make the next one unreadable.
    pub fn clear(&mut self, queue: &mut Queue, keep_partial: bool) {
        let (sent, frame) = (queue.sent, if queue.is_empty() { NIL } else { self.pool.get(queue.head) });
        if !keep_partial || sent == 0 {
            return self.drop_all(queue);
        }
        self.frames[frame as usize].references += 1;
        self.drop_all(queue);
        // The queue keeps the frame that others may share, so that its rest is not held a second time.
        self.push(queue, FrameId(frame));
        queue.sent = sent;
        self.account(queue, sent as usize);
        self.seal(FrameId(frame));
    }

    fn account(&mut self, queue: &mut Queue, bytes: usize) {
        queue.bytes -= bytes as u32;
        self.bytes -= bytes as u64;
    }

    fn pop(&mut self, queue: &mut Queue) {
        let at = queue.head;
        let frame = self.pool.get(at);
        queue.frames -= 1;
        queue.head = if queue.frames > 0 { self.pool.after(at) } else { NIL };
        queue.sent = 0;
        if queue.head / PLACES != at / PLACES {
            self.pool.give_back(at);
        }
        self.used -= 1;
        release(&mut self.frames, &mut self.frame_bytes, frame);
    }

    /// Bytes queued for all receivers.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Memory in bytes that all queues take: each frame once, and the tables as they are allocated.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.frame_bytes
            + self.frames.len() * FRAME_OVERHEAD
            + self.frames.capacity() * size_of::<Frame>()
            + self.pool.held_bytes()
    }

    /// How much of [`Outbox::held_bytes`] no queue uses: what [`Outbox::compact`] gives back.
    #[must_use]
    pub fn slack_bytes(&self) -> usize {
        let used = self.pool.used() * size_of::<Block>();
        (self.frames.capacity() - self.frames.len()) * size_of::<Frame>() + self.pool.held_bytes() - used
    }

    /// Memory in bytes that a queue takes: its blocks, and of each frame its share among those that wait for it.
    #[must_use]
    pub fn share_bytes(&self, queue: &Queue) -> usize {
        let share = |id: &u32| {
            let frame = &self.frames[*id as usize];
            let whole = frame.bytes.len() + FRAME_OVERHEAD + size_of::<Frame>();
            whole / frame.references as usize + size_of::<Block>() / LAST as usize
        };
        runs(&self.pool.blocks, queue).flat_map(|(_, run)| run).map(share).sum()
    }

    /// Moves everything into tables that are no larger than needed. `queues` are all that are not empty; every frame
    /// must be sealed.
    pub fn compact<'a>(&mut self, queues: impl Iterator<Item = &'a mut Queue>) {
        let mut moved = vec![NIL; self.frames.capacity()];
        let mut fresh = Self {
            frames: Slab::with_capacity(self.frames.len()),
            pool: Pool { blocks: Vec::with_capacity(self.pool.used()), free: Vec::new() },
            ..Self::default()
        };
        for queue in queues {
            let mut same = Queue::default();
            for id in runs(&self.pool.blocks, queue).flat_map(|(_, run)| run) {
                let place = &mut moved[*id as usize];
                if *place == NIL {
                    let frame = self.frames.remove(*id as usize);
                    *place = fresh.frames.insert(frame) as u32;
                }
                fresh.link(&mut same, FrameId(*place), 0);
            }
            (same.bytes, same.sent) = (queue.bytes, queue.sent);
            *queue = same;
        }
        (fresh.used, fresh.bytes, fresh.frame_bytes) = (self.used, self.bytes, self.frame_bytes);
        *self = fresh;
    }

    /// Whether tables of a past burst are mostly empty and worth moving.
    #[must_use]
    pub const fn is_sparse(&self) -> bool {
        self.pool.blocks.capacity() > KEPT_BLOCKS && self.pool.used() < self.pool.blocks.capacity() / 4
    }

    /// Gives the memory of a past burst back. Cheap when there is nothing to give.
    pub fn trim(&mut self) {
        if self.used == 0 && self.pool.blocks.capacity() > KEPT_BLOCKS {
            *self = Self::default();
        }
    }
}

#[inline]
fn release(frames: &mut Slab<Frame>, frame_bytes: &mut usize, id: u32) {
    let references = &mut frames[id as usize].references;
    *references -= 1;
    if *references == 0 {
        *frame_bytes -= forget(frames, id);
    }
}

/// Removes a frame that no queue refers to, and returns how long it was. It is out of line because a broadcast calls
/// it once for all receivers.
#[cold]
#[inline(never)]
fn forget(frames: &mut Slab<Frame>, id: u32) -> usize {
    frames.remove(id as usize).bytes.len()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    fn content(outbox: &Outbox, queue: &Queue) -> Vec<u8> {
        let bytes: Vec<u8> = outbox.slices(queue).flatten().copied().collect();
        let mut copied = vec![0; bytes.len()];
        assert_eq!((outbox.copy(queue, &mut copied), &copied), (bytes.len(), &bytes));
        bytes
    }

    /// Random pushes, partial sends and clears of several queues against plain byte queues.
    #[test]
    fn behaves_like_byte_queues() {
        arbtest::arbtest(|u| {
            let mut outbox = Outbox::default();
            let mut queues: Vec<(Queue, VecDeque<u8>)> = (0..4).map(|_| Default::default()).collect();
            while !u.is_empty() {
                match u.int_in_range(0..=4)? {
                    4 => {
                        outbox.compact(queues.iter_mut().map(|(queue, _)| queue));
                        // A queue that was partly sent may begin in the middle of a block, and need one block less
                        // when it is moved.
                        let most = queues.len() * size_of::<Block>();
                        assert!(outbox.slack_bytes() <= most, "{}", outbox.slack_bytes());
                    }
                    0 | 1 => {
                        let bytes = Bytes::from(vec![u.arbitrary()?; u.int_in_range(1..=9)?]);
                        let id = outbox.add(bytes.clone());
                        for (queue, model) in &mut queues {
                            if u.arbitrary()? {
                                outbox.push(queue, id);
                                model.extend(&bytes);
                            }
                        }
                        outbox.seal(id);
                    }
                    2 => {
                        let (queue, model) = &mut queues[u.int_in_range(0..=3)?];
                        let count = u.int_in_range(0..=model.len())?;
                        outbox.advance(queue, count);
                        model.drain(..count);
                    }
                    _ => {
                        let (queue, model) = &mut queues[u.int_in_range(0..=3)?];
                        let partial = if queue.sent > 0 { outbox.first(queue).len() } else { 0 };
                        outbox.clear(queue, true);
                        model.truncate(partial);
                    }
                }
                for (queue, model) in &queues {
                    assert!(content(&outbox, queue).iter().eq(model));
                    assert_eq!(queue.bytes() as usize, model.len());
                    assert_eq!(queue.is_empty(), model.is_empty());
                }
                let total: usize = queues.iter().map(|(_, model)| model.len()).sum();
                assert_eq!(outbox.bytes(), total as u64);
                let frames: usize = outbox.frames.iter().map(|(_, frame)| frame.bytes.len()).sum();
                assert_eq!(outbox.frame_bytes, frames);
                let shares: usize = queues.iter().map(|(queue, _)| outbox.share_bytes(queue)).sum();
                assert!(outbox.held_bytes() + 128 >= shares, "{} {shares}", outbox.held_bytes());
            }
            for (queue, _) in &mut queues {
                outbox.clear(queue, false);
            }
            assert!(outbox.frames.is_empty() && outbox.used == 0);
            outbox.pool.free.sort_unstable();
            let all = (0..outbox.pool.blocks.len() as u32).map(|block| block * PLACES);
            assert!(all.eq(outbox.pool.free.iter().copied()), "a block is lost, or free twice");
            Ok(())
        });
    }
}
