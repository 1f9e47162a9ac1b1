//! From one publish to a reference in the queue of each member.

use std::sync::Arc;

use bytes::Bytes;

use super::{Flags, Outgoing, Phase, Shard, conn::Conn, is_public};
use crate::{
    config::Limits,
    counters::CloseReason,
    outbox::{FrameId, Outbox},
    protocol::{Payload, Vsn, binary, encode},
    room::{ConnId, RoomId},
    ws::CloseCode,
};

/// What happened to a frame offered to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offer {
    Queued,
    /// Queued, and the queue is half full although its socket may take more.
    Pressing,
    /// Not queued: the socket is blocked and the queue is full.
    Full,
}

/// Reserves before it pushes. A queue whose socket was not tried may exceed its bound by what one turn adds; the shard
/// then flushes before it reads on, so a fast client is never closed for the node's own batching.
fn offer(outbox: &mut Outbox, conn: &mut Conn, frame: FrameId, limits: &Limits) -> Offer {
    let bytes = conn.queue.bytes() as usize + outbox.frame(frame).len();
    let frames = conn.queue.frames() + 1;
    let (max_bytes, max_frames) = (limits.send_queue_bytes as usize, limits.send_queue_frames);
    let blocked = conn.flags.has(Flags::BLOCKED);
    if blocked && (bytes > max_bytes || frames > max_frames) {
        return Offer::Full;
    }
    outbox.push(&mut conn.queue, frame);
    let half = bytes > max_bytes / 2 || frames > max_frames / 2;
    if half && !blocked { Offer::Pressing } else { Offer::Queued }
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
        let before = self.counters.unencodable_writes;
        self.fan_out(room, frame, except);
        self.counters.unencodable_writes - before
    }

    /// Queues a V2 broadcast frame to the local members of a room.
    pub(super) fn fan_out(&mut self, room: RoomId, frame: Bytes, except: Option<ConnId>) {
        let Self { rooms, conns, outbox, dirty, config, counters, pressure, .. } = self;
        let limits = &config.limits;
        let v2 = outbox.add(frame);
        let mut v1 = None;
        let mut full = Vec::new();
        let mut writes = 0;
        for &member in rooms.get(room).members() {
            if Some(member) == except {
                continue;
            }
            let conn = &mut conns[member.index()];
            let frame_id = match conn.vsn() {
                Vsn::V2 => Some(v2),
                Vsn::V1 => *v1.get_or_insert_with(|| {
                    let frame = encode::broadcast_to_v1(outbox.frame(v2));
                    frame.map(|frame| outbox.add(frame))
                }),
            };
            let Some(frame_id) = frame_id else {
                counters.unencodable_writes += 1;
                continue;
            };
            match offer(outbox, conn, frame_id, limits) {
                Offer::Queued => {}
                Offer::Pressing => *pressure = true,
                Offer::Full => {
                    full.push(member);
                    continue;
                }
            }
            writes += 1;
            if !conn.flags.has(Flags::DIRTY) && !conn.flags.has(Flags::BLOCKED) {
                conn.flags.set(Flags::DIRTY);
                dirty.push_back(member);
            }
        }
        outbox.seal(v2);
        if let Some(Some(v1)) = v1 {
            outbox.seal(v1);
        }
        counters.writes += writes;
        self.writes_this_turn += writes;
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
        self.writes_this_turn += 1;
        let frame = self.outbox.add(frame);
        let offer = offer(&mut self.outbox, conn, frame, &self.config.limits);
        self.outbox.seal(frame);
        match offer {
            Offer::Queued => self.mark_urgent(id),
            Offer::Pressing => {
                self.pressure = true;
                self.mark_urgent(id);
            }
            Offer::Full => self.close(id, CloseReason::SlowConsumer, CloseCode::SlowConsumer),
        }
    }
}
