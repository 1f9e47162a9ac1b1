//! From one publish to a reference in the queue of each member.

use std::sync::Arc;

use bytes::Bytes;

use super::{Flags, Outgoing, Phase, Shard, conn::Conn, is_public};
use crate::{
    config::Limits,
    counters::CloseReason,
    limits::BULK_MEMBERS,
    outbox::{FrameId, Outbox},
    protocol::{Payload, Vsn, binary, encode},
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

/// Reserves before it pushes. A queue whose socket was not tried may exceed its bound by a little: the shard then reads
/// next to nothing until it was flushed, so a fast client is never closed for the node's own batching.
fn offer(outbox: &mut Outbox, conn: &mut Conn, frame: FrameId, limits: &Limits) -> Offer {
    let bytes = conn.queue.bytes() as usize + outbox.frame(frame).len();
    let frames = conn.queue.frames() + 1;
    let (max_bytes, max_frames) = (limits.send_queue_bytes as usize, limits.send_queue_frames);
    let blocked = conn.flags.has(Flags::BLOCKED);
    if blocked && (bytes > max_bytes || frames > max_frames) {
        return Offer::Full;
    }
    outbox.push(&mut conn.queue, frame);
    if blocked {
        return Offer::Waits;
    }
    let half = bytes > max_bytes / 2 || frames > max_frames / 2;
    if half && !conn.flags.has(Flags::PRESSED) { Offer::Pressing } else { Offer::Queued }
}

/// Frames one after the other.
fn joined(frames: &[Bytes]) -> Bytes {
    match frames {
        [frame] => frame.clone(),
        frames => frames.concat().into(),
    }
}

impl Shard {
    /// Broadcasts a client's event to the members on this shard, on other shards and on other nodes. Returns how many
    /// on this shard speak a serializer that cannot carry it.
    pub(super) fn publish(
        &mut self,
        room: RoomId,
        topic: &str,
        event: &str,
        payload: Payload<'_>,
        except: Option<ConnId>,
    ) -> u64 {
        let frame = match payload {
            Payload::Json(json) => Some(encode::broadcast(Vsn::V2, topic, event, json)),
            Payload::Binary(data) => binary::broadcast(topic, event, data),
        };
        // Names were bounded to what binary frames can carry, on join and on push.
        let Some(frame) = frame else { return 0 };
        self.counters.publishes += 1;
        let shared = self.rooms.get(room).shared();
        let shards = shared.shards().without(self.options.index);
        if !shards.is_empty() || (self.options.has_bus && is_public(topic)) {
            let topic = Arc::clone(shared.topic());
            self.outgoing.push(Outgoing::Publish { topic, frame: frame.clone(), shards });
        }
        let unable = if matches!(payload, Payload::Binary(_)) { self.v1_members(room, except) } else { 0 };
        self.broadcast(room, frame, except);
        unable
    }

    fn v1_members(&self, room: RoomId, except: Option<ConnId>) -> u64 {
        let members = self.rooms.get(room).members().iter();
        let v1 = |id: &&ConnId| Some(**id) != except && self.conns[id.index()].vsn() == Vsn::V1;
        members.filter(v1).count() as u64
    }

    /// Queues V2 broadcast frames to the local members of a room, as one run of bytes.
    pub(super) fn fan_out(&mut self, room: RoomId, frames: &[Bytes], except: Option<ConnId>) {
        let Self { rooms, conns, outbox, dirty, bulk, config, counters, .. } = self;
        let limits = &config.limits;
        let members = rooms.get(room).members();
        let (list, flag) =
            if members.len() > BULK_MEMBERS { (bulk, Flags::BULK) } else { (dirty, Flags::DIRTY) };
        let v2 = (outbox.add(joined(frames)), frames.len() as u64);
        let mut v1 = None;
        let (mut full, mut pressing) = (Vec::new(), Vec::new());
        let (mut writes, mut runs, mut waits) = (0, 0, 0);
        for &member in members {
            if Some(member) == except {
                continue;
            }
            let conn = &mut conns[member.index()];
            let (frame_id, count) = match conn.vsn() {
                Vsn::V2 => v2,
                Vsn::V1 => *v1.get_or_insert_with(|| {
                    let able: Vec<_> =
                        frames.iter().filter_map(|frame| encode::broadcast_to_v1(frame)).collect();
                    (outbox.add(joined(&able)), able.len() as u64)
                }),
            };
            counters.unencodable_writes += v2.1 - count;
            if count == 0 {
                continue;
            }
            match offer(outbox, conn, frame_id, limits) {
                Offer::Queued => {
                    if !conn.flags.has(flag) {
                        conn.flags.set(flag);
                        list.push_back(member);
                    }
                }
                Offer::Pressing => pressing.push(member),
                Offer::Waits => waits += 1,
                Offer::Full => {
                    full.push(member);
                    continue;
                }
            }
            writes += count;
            runs += 1;
        }
        outbox.seal(v2.0);
        if let Some((v1, _)) = v1 {
            outbox.seal(v1);
        }
        counters.writes += writes;
        self.backlog += runs - waits;
        self.broadcasts_this_turn += 1;
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
        let frame = self.outbox.add(frame);
        let offer = offer(&mut self.outbox, conn, frame, &self.config.limits);
        self.outbox.seal(frame);
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
