//! The outside of a shard: turns, events, writes and effects.

use std::sync::Arc;

use super::{
    bounds::Bounds,
    by_policy::ByPolicy,
    event::{Effect, Event, Mail, Progress, Times},
    lately::{Latencies, Recent},
    state::Shard,
};
use crate::{
    broadcast::{Broadcast, Content, Origin},
    config::NodeConfig,
    counters::{CloseReason, Counters, Limit, RefuseReason, near},
    drain::DrainOrder,
    egress::outbox::{Outbox, Queue},
    limits::MAX_HANDSHAKING,
    proxy::Networks,
    session::{
        conn::{Conn, Flags},
        id::{ConnId, Slot},
        lifecycle::{Cause, Phase},
        side::Unread,
    },
    topic,
    ws::CloseCode,
};

impl Shard {
    /// Begins a turn at a time in milliseconds since any fixed moment, which must not go back. The thread holds
    /// `mail_bytes` for the shard: in its mailbox, and for other shards.
    pub fn begin_turn(&mut self, now_millis: u64, mail_bytes: usize) {
        self.now_millis = now_millis;
        self.gauge.mail = mail_bytes as u64;
        self.intake.begin_turn(self.egress.is_stuck());
        self.counters.turns += 1;
    }

    /// Something has happened.
    pub fn handle(&mut self, event: Event) {
        match event {
            Event::Input(id) => {
                let stamp = self.stamp();
                if let Some(slot) = self.sessions.slot(id)
                    && self.sessions[slot].is(Phase::Open)
                {
                    self.sessions[slot].stamp = stamp;
                }
            }
            Event::Writable(id) => {
                if let Some(slot) = self.sessions.slot(id) {
                    self.on_writable(slot);
                }
            }
            Event::Lost(slot) => {
                self.advance(slot, Cause::Lost);
            }
            Event::Unfit(slot, reason) => {
                self.advance(slot, Cause::Unfit(reason));
            }
            Event::Worn(slot) => self.close(slot, CloseReason::Worn, CloseCode::Restart),
            Event::Transport(bytes) => self.gauge.transport = bytes as u64,
            Event::Introduced(slot, client) => self.on_introduced(slot, client),
            Event::Mail(mail) => self.on_mail(mail),
            Event::AcceptsFailed(count) => self.counters.accept_errors += count,
            Event::BusFull(count) => self.counters.bus_queue_dropped += count,
            Event::TimeOfDay(unix_millis) => self.set_clock(unix_millis),
        }
    }

    fn on_mail(&mut self, mail: Mail) {
        match mail {
            Mail::Remote { broadcast, origin } => self.on_remote(&broadcast, origin),
            Mail::ClusterStats(json) => {
                if let Some(room) = self.topics.find(topic::CLUSTER.as_str()) {
                    self.said_here(room, &Content::json(topic::CLUSTER.as_str(), "stats", &json), None);
                }
            }
            Mail::Ask(ask) => {
                self.on_ask(*ask);
                self.look_at_memory();
            }
            Mail::Answer(answer) => self.on_answer(*answer),
            Mail::NotCarried(carried) => self.on_not_carried(&carried),
            Mail::NobodyThere(asker) => self.on_nobody_there(asker),
            Mail::Order(ordered) => {
                self.on_order(*ordered);
                self.look_at_memory();
            }
            Mail::Verdict(verdict) => self.on_verdict(&verdict),
            Mail::Drain(DrainOrder::Close { connections_per_second }) => self.drain(connections_per_second),
            Mail::Drain(DrainOrder::Stop) => self.timers.stay(),
            Mail::Move(order) => self.on_move_order(order),
            Mail::Shutdown => self.shut_down(),
            Mail::Reload(config) => self.reload(config),
        }
    }

    /// A socket was accepted. `None` when it is to be dropped at once.
    pub fn accept(&mut self) -> Option<ConnId> {
        self.counters.accepted += 1;
        if self.counters.handshaking >= MAX_HANDSHAKING {
            self.counters.count_refused(RefuseReason::Full);
            return None;
        }
        self.counters.handshaking += 1;
        let stamp = self.stamp();
        Some(self.sessions.insert(Conn::new(stamp), self.now_millis))
    }

    /// The slot of a connection; `None` when that connection has ended, also when another one has its slot now.
    #[must_use]
    pub fn slot(&self, id: ConnId) -> Option<Slot> {
        self.sessions.slot(id)
    }

    fn on_remote(&mut self, broadcast: &Broadcast, origin: Origin) {
        self.counters.remote_received += 1;
        let Some(content) = broadcast.unpack() else {
            self.counters.malformed_messages += 1;
            return;
        };
        if let Some(room) = self.topics.find(content.topic) {
            self.came_from_elsewhere(room, (broadcast.kind, &content), origin);
            self.look_at_memory();
        }
    }

    fn reload(&mut self, config: Arc<NodeConfig>) {
        self.trusted = Networks::read(&config.proxies.trusted);
        self.bounds = Bounds::of(&config.limits);
        self.by_policy.change(&config.rooms);
        self.config = config;
        for room in self.topics.ids() {
            // A policy may let a room say something, and that may close the last member of another one.
            if !self.topics.is_open(room) {
                continue;
            }
            let policy = self.config.rooms.find(self.topics.get(room).shared().name());
            self.policy_set(room, policy);
        }
        self.refresh_memory();
    }

    /// Goes on with the input of a connection that waits here: after [`Progress::Paused`], or [`Effect::Paused`].
    pub fn go_on(&mut self, slot: Slot) -> Progress {
        let progress = self.on_data(slot, &mut []);
        if progress == Progress::Done {
            self.end_post(slot);
        }
        progress
    }

    /// Whether so much waits to be written that the shard should be given little input.
    #[must_use]
    pub const fn is_over_budget(&self) -> bool {
        self.egress.is_over_budget()
    }

    /// Another source of input comes next in this turn. Over its budget, a turn takes so many broadcasts of it: one of the
    /// clients, and as many as there are other shards and a bus of what these sent. So each of them gets rid of as much as
    /// the shard's own clients do, and neither keeps the others waiting.
    pub const fn begin_source(&mut self, quota: u64) {
        self.intake.begin_source(quota);
    }

    /// Whether this turn should take no more input from this source at all: over its budget it has had its share, or the
    /// turn began with more half-full queues than it can write, and more would end up in them before their sockets were
    /// tried. All sources of a turn have their share, or none has.
    #[must_use]
    pub const fn is_saturated(&self) -> bool {
        self.intake.is_saturated(self.egress.is_over_budget())
    }

    /// The next connection to write; each once until it has something new.
    pub fn next_flush(&mut self) -> Option<Slot> {
        loop {
            match self.egress.next(&mut self.sessions, self.now_millis)? {
                (slot, true) => return Some(slot),
                (session, false) => self.answer_poll(session),
            }
        }
    }

    /// What is queued for a connection, with the frames it refers to.
    #[must_use]
    pub fn output(&self, slot: Slot) -> (&Outbox, &Queue) {
        (self.egress.outbox(), &self.sessions[slot].queue)
    }

    /// The kernel was offered `offered` bytes of a connection's output and took `taken`. When that is less,
    /// [`Event::Writable`] is to be told once it takes more.
    pub fn on_sent(&mut self, slot: Slot, taken: usize, offered: usize) {
        self.counters.socket_writes += 1;
        self.counters.sent_bytes += taken as u64;
        // Only a connection that is not blocked is written.
        let conn = &mut self.sessions[slot];
        self.egress.advance(conn, taken);
        if taken < offered {
            self.on_blocked(slot);
        } else if conn.queue.is_empty() {
            if !conn.is(Phase::Open) {
                self.all_sent(slot);
            }
        } else {
            self.egress.mark_urgent(slot, conn);
        }
    }

    /// As [`Shard::on_sent`], where the transport took `taken` bytes of a connection's output and keeps `unsent` bytes that
    /// its socket did not take. [`Event::Writable`] is to be told once they are sent.
    pub fn on_kept(&mut self, slot: Slot, taken: usize, unsent: usize) {
        self.counters.socket_writes += 1;
        self.counters.sent_bytes += taken as u64;
        self.egress.advance(&mut self.sessions[slot], taken);
        self.on_blocked(slot);
        // A transport keeps no more than one record of TLS.
        self.sessions.side_mut().set_unsent(slot, unsent as u32);
    }

    #[cold]
    fn on_blocked(&mut self, slot: Slot) {
        self.counters.short_writes += 1;
        let stamp = self.stamp();
        let conn = &mut self.sessions[slot];
        self.egress.block(conn);
        let limits = &self.config.limits;
        let over =
            conn.queue.bytes() > limits.send_queue_bytes || conn.queue.frames() > limits.send_queue_frames;
        self.sessions.side_mut().set_blocked(slot, Some(stamp));
        self.look_at_queue(slot);
        if over {
            self.close_now(slot, CloseReason::SlowConsumer, CloseCode::SlowConsumer);
        }
    }

    /// Counts a blocked connection whose queue is nearly full, once until it takes data again.
    pub(super) fn look_at_queue(&mut self, slot: Slot) {
        let (conn, limits) = (&mut self.sessions[slot], &self.config.limits);
        let is_near = u64::from(conn.queue.bytes()) >= near(limits.send_queue_bytes.into())
            || u64::from(conn.queue.frames()) >= near(limits.send_queue_frames.into());
        if is_near && !conn.flags.has(Flags::NEAR) {
            conn.flags.set(Flags::NEAR);
            self.counters.count_near(Limit::SendQueue);
        }
    }

    pub(super) fn on_writable(&mut self, slot: Slot) {
        if !self.egress.unblock(slot, &mut self.sessions[slot]) {
            return;
        }
        self.sessions[slot].flags.take(Flags::NEAR);
        let side = self.sessions.side_mut();
        side.set_blocked(slot, None);
        if side.resume(slot, Unread::UntilItTakes) {
            self.effects.push(Effect::Resume(slot));
        }
        // Its transport kept the last bytes.
        let conn = &self.sessions[slot];
        if conn.queue.is_empty() && !conn.is(Phase::Open) && !conn.flags.has(Flags::POLLED) {
            self.all_sent(slot);
        }
    }

    /// The turn has written what it could. `cut_after` says after how many writes it had to stop for lack of time.
    /// `now_millis` reads the clock of [`Shard::begin_turn`], and is asked when a pass over those with broadcasts ended.
    pub fn end_flushes(&mut self, cut_after: Option<usize>, now_millis: impl FnOnce() -> u64) {
        self.egress.end_turn(cut_after, now_millis);
    }

    /// Whether anything waits to be written now.
    #[must_use]
    pub fn has_flushes(&self) -> bool {
        self.egress.has_work(self.now_millis)
    }

    /// Takes the effects that the thread has to carry out, all of them before it calls anything else here. `buffer` is empty;
    /// the shard writes its next effects into it.
    pub fn take_effects(&mut self, buffer: &mut Vec<Effect>) {
        debug_assert!(buffer.is_empty());
        std::mem::swap(&mut self.effects, buffer);
        for effect in &*buffer {
            if let Effect::Ended(slot) = effect {
                self.sessions.remove(*slot);
            }
        }
    }

    /// Ends a turn: returns what the shard has counted, with its gauges as they are now.
    pub fn end_turn(&mut self, times: Times) -> &Counters {
        self.counters.rooms = self.topics.len() as u64;
        self.counters.memberships = self.topics.memberships();
        self.counters.hooks_waiting = self.inquiries.len() as u64;
        self.counters.send_queue_bytes = self.egress.outbox().bytes();
        self.counters.memory = self.held_by_kind();
        self.counters.wall_nanos = times.wall;
        self.counters.parked_nanos = times.parked;
        self.counters.cpu_nanos = times.cpu.unwrap_or(self.counters.cpu_nanos);
        &self.counters
    }

    /// What the shard has counted, with gauges as they were at the end of the last turn.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Figures of the last second.
    #[must_use]
    pub const fn recent(&self) -> Recent {
        self.lately.recent()
    }

    /// What the shard has counted for each policy of rooms.
    #[must_use]
    pub const fn by_policy(&self) -> &ByPolicy {
        &self.by_policy
    }

    /// Times since the shard began.
    #[must_use]
    pub const fn latencies(&self) -> Latencies {
        Latencies { fan_out: *self.egress.fan_out_times(), queue_age: *self.lately.queue_ages() }
    }

    /// Connections that have not ended, established or not.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.sessions.len()
    }
}
