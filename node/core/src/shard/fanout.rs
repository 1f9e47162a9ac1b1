//! From one publish to a reference in the queue of each member.

use std::sync::Arc;

use bytes::Bytes;

use super::{Flags, Outgoing, Phase, Shard, conn::Conn};
use crate::{
    broadcast::{Broadcast, Content},
    config::Limits,
    counters::CloseReason,
    limits::BULK_MEMBERS,
    outbox::{FrameId, Outbox},
    protocol::{Payload, Vsn, encode},
    room::{ConnId, RoomId},
    ws::CloseCode,
};

/// What happened to a frame offered to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offer {
    /// Queued; the socket is blocked.
    Waits,
    /// Queued; the socket may take it.
    Queued,
    /// Queued, and the queue is half full although its socket may take more.
    Pressing,
    /// Not queued: the socket is blocked and the queue is full.
    Full,
}

/// What is broadcast as one serializer version writes it: its frames as one run of bytes in the palette.
struct Run {
    id: FrameId,
    bytes: u32,
    /// Messages in it; none when this version cannot carry any.
    frames: u64,
    /// Members that it was offered to.
    offered: u64,
    /// References to it, accounted for at the end.
    links: u32,
}

impl Run {
    fn new(outbox: &mut Outbox, run: Bytes, frames: usize) -> Self {
        // A message has 16 MiB at most, a window holds 64 of 64 KiB together.
        let bytes = run.len() as u32;
        Self { id: outbox.add(run), bytes, frames: frames as u64, offered: 0, links: 0 }
    }

    fn encode(outbox: &mut Outbox, vsn: Vsn, contents: &[Content<'_>]) -> Self {
        let (run, frames) = encode::broadcasts(vsn, contents);
        Self::new(outbox, run, frames)
    }

    /// Accounts for the references and returns how many messages were queued.
    fn end(&self, outbox: &mut Outbox) -> u64 {
        outbox.linked(self.id, self.links);
        outbox.seal(self.id);
        self.frames * u64::from(self.links)
    }
}

/// Reserves before it pushes. A queue whose socket was not tried may exceed its bound by a little: the shard then reads
/// next to nothing until it was flushed, so a fast client is never closed for the node's own batching.
#[inline]
fn offer(outbox: &mut Outbox, conn: &mut Conn, run: &mut Run, limits: &Limits) -> Offer {
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

impl Shard {
    /// Broadcasts a client's event to the members on this shard, on other shards and on other nodes. Returns how many
    /// on this shard speak a serializer that cannot carry it.
    pub(super) fn publish(&mut self, room: RoomId, content: &Content<'_>, except: Option<ConnId>) -> u64 {
        self.counters.publishes += 1;
        let shared = self.rooms.get(room).shared();
        let shards = shared.shards().without(self.options.index);
        let nodes = self.is_shared(content.topic);
        // Names were bounded to what a broadcast can carry, on join and on push.
        if (nodes || !shards.is_empty())
            && let Some(broadcast) = Broadcast::pack(content)
        {
            let topic = Arc::clone(shared.topic());
            self.outgoing.push(Outgoing::Publish { topic, broadcast, shards, nodes });
        }
        let unable = self.unable_listeners(room, content, except);
        self.broadcast(room, content, except);
        unable
    }

    /// How many members hear in a serializer version that cannot carry this.
    fn unable_listeners(&self, room: RoomId, content: &Content<'_>, except: Option<ConnId>) -> u64 {
        if matches!(content.payload, Payload::Json(_)) {
            return 0;
        }
        let room = self.rooms.get(room);
        let unable = Vsn::ALL.into_iter().filter(|vsn| !vsn.carries(content));
        let spared = except.and_then(|id| self.conns[id.index()].listens());
        let count = |vsn| u64::from(room.listeners(vsn)) - u64::from(spared == Some(vsn));
        unable.map(count).sum()
    }

    /// Queues messages to the local members of a room, in one run of bytes for each serializer version that they hear in.
    pub(super) fn fan_out(&mut self, room: RoomId, contents: &[Content<'_>], except: Option<ConnId>) {
        let Self { rooms, conns, outbox, dirty, bulk, config, counters, .. } = self;
        let limits = &config.limits;
        let room = rooms.get(room);
        let members = room.members();
        let (list, flag) =
            if members.len() > BULK_MEMBERS { (bulk, Flags::BULK) } else { (dirty, Flags::DIRTY) };
        let mut runs =
            Vsn::ALL.map(|vsn| (room.listeners(vsn) > 0).then(|| Run::encode(outbox, vsn, contents)));
        let (mut full, mut pressing, mut waits) = (Vec::new(), Vec::new(), 0);
        for &member in members {
            if Some(member) == except {
                continue;
            }
            let conn = &mut conns[member.index()];
            let run = if conn.flags.is_plain_listener() {
                &mut runs[Vsn::V2.index()]
            } else if let Some(vsn) = conn.listens() {
                &mut runs[vsn.index()]
            } else {
                continue;
            };
            let Some(run) = run else { continue };
            run.offered += 1;
            if run.frames == 0 {
                continue;
            }
            match offer(outbox, conn, run, limits) {
                Offer::Queued => {
                    if !conn.flags.has(flag) {
                        conn.flags.set(flag);
                        list.push(member);
                    }
                }
                Offer::Pressing => pressing.push(member),
                Offer::Waits => waits += 1,
                Offer::Full => full.push(member),
            }
        }
        let mut queued = 0;
        for run in runs.iter().flatten() {
            queued += u64::from(run.links);
            counters.writes += run.end(outbox);
            counters.unencodable_writes += run.offered * (contents.len() as u64 - run.frames);
        }
        self.backlog += queued - waits;
        self.broadcasts_of_source += 1;
        for member in pressing {
            self.press(member);
        }
        for member in full {
            self.close(member, CloseReason::SlowConsumer, CloseCode::SlowConsumer);
        }
    }

    /// Queues a frame for one connection only.
    pub(super) fn reply(&mut self, id: ConnId, frame: Bytes) {
        let conn = &mut self.conns[id.index()];
        if conn.phase != Phase::Open {
            return;
        }
        self.counters.replies += 1;
        let mut run = Run::new(&mut self.outbox, frame, 1);
        let offer = offer(&mut self.outbox, conn, &mut run, &self.config.limits);
        run.end(&mut self.outbox);
        match offer {
            Offer::Waits => {}
            Offer::Queued => {
                self.backlog += 1;
                self.mark_urgent(id);
            }
            Offer::Pressing => {
                self.backlog += 1;
                self.press(id);
            }
            Offer::Full => self.close(id, CloseReason::SlowConsumer, CloseCode::SlowConsumer),
        }
    }

    /// Queues a frame that belongs to the handshake of opening or closing, whatever the queue holds.
    pub(super) fn queue_one(&mut self, id: ConnId, frame: Bytes) {
        self.change_queue(id, |outbox, queue| outbox.push_one(queue, frame));
        self.mark_urgent(id);
    }

    /// The connection is flushed next, and the shard reads little until it was.
    fn press(&mut self, id: ConnId) {
        self.conns[id.index()].flags.set(Flags::PRESSED);
        self.pressed += 1;
        self.mark_urgent(id);
    }

    pub(super) fn unpress(&mut self, id: ConnId) {
        self.pressed -= u64::from(self.conns[id.index()].flags.take(Flags::PRESSED));
    }
}
