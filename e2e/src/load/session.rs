//! The life of one connection on a worker: connect, upgrade, join, end, and again.

use super::dialect::Channel;
use super::ledger::Ledger;
use super::slot::{DECIDED, HEARTBEAT, JOINED_ONCE, Phase, reconnect_delay_ms, rejoin_delay_ms};
use super::socket::{ABNORMAL, DEAF, READABLE, connect, name};
use super::worker::{Timer, Worker};
use rustix::event::epoll::{self, EventData, EventFlags};
use std::cmp::Reverse;
use std::net::SocketAddr;

impl Worker {
    /// Opens the socket of a slot.
    pub(super) fn open(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.phase = Phase::Connecting;
        slot.extra_mut().opened_at = self.now;
        let settings = &self.shared.settings;
        let target = &settings.targets[slot.connection as usize % settings.targets.len()];
        let source = match settings.sources.len() {
            0 => None,
            count => Some(SocketAddr::new(settings.sources[slot.connection as usize % count], 0)),
        };
        let slow = self.shared.plan.is_every(slot.connection, settings.slow_every);
        let generation = slot.generation;
        match connect(target.address, source, slow) {
            Ok(socket) => {
                let added =
                    epoll::add(&self.poll, &socket, EventData::new_u64(index.into()), EventFlags::OUT);
                slot.socket = Some(socket);
                match added {
                    Ok(()) => self.at(self.now + self.shared.settings.connect_timeout_ns, index, generation),
                    Err(error) => self.end(index, ABNORMAL, &format!("epoll: {error}")),
                }
            }
            Err(error) => self.end(index, ABNORMAL, &format!("connect: {}", name(&error))),
        }
    }

    pub(super) fn at(&mut self, due: u64, slot: u32, generation: u16) {
        self.timers.push(Reverse(Timer { due, slot, generation }));
    }

    /// Handles a slot's timer: it is time to connect or join again, or the wait has been too long.
    pub(super) fn on_timer(&mut self, index: u32) {
        match self.slots[index as usize].phase {
            Phase::Closed => self.open(index),
            Phase::Left => {
                let generation = self.slots[index as usize].generation;
                self.at(self.now + self.shared.settings.connect_timeout_ns, index, generation);
                self.join(index);
            }
            Phase::Connecting => self.end(index, ABNORMAL, "connect: timeout"),
            Phase::Upgrading => self.end(index, ABNORMAL, "upgrade: timeout"),
            Phase::Joining => self.end(index, ABNORMAL, "join: timeout"),
            Phase::Joined | Phase::Slow => {}
        }
    }

    /// Handles events of a socket.
    pub(super) fn on_event(&mut self, index: u32, flags: EventFlags) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let Some(socket) = &slot.socket else { return };
        if slot.phase == Phase::Connecting {
            match socket.take_error() {
                Ok(None) => self.upgrade(index),
                Ok(Some(error)) | Err(error) => {
                    self.end(index, ABNORMAL, &format!("connect: {}", name(&error)));
                }
            }
            return;
        }
        if flags.contains(EventFlags::OUT) {
            self.flush(index);
        }
        let ended = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        if (ended || flags.contains(EventFlags::IN))
            && let Err(end) = self.read(index, ended)
        {
            self.end(index, end.code, &end.error);
        }
    }

    /// Sends the upgrade request, over TLS at the end of the handshake that begins with it.
    fn upgrade(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.phase = Phase::Upgrading;
        let settings = &self.shared.settings;
        let target = &settings.targets[slot.connection as usize % settings.targets.len()];
        if let (Some(tls), Some(name)) = (&mut self.tls, &target.tls)
            && let Err(error) = tls.begin(index, name)
        {
            self.end(index, ABNORMAL, &format!("tls: {error}"));
            return;
        }
        let subprotocols = match settings.subprotocols.len() {
            0 => None,
            count => Some(settings.subprotocols[slot.connection as usize % count].as_str()),
        };
        let room = self.shared.plan.local_room(self.shared.plan.room_of(slot.connection));
        self.message.clear();
        self.shared.dialect.path(&mut self.message, &target.path, &self.rooms[room].topic);
        self.frame.clear();
        self.handshake.request(&mut self.frame, &target.host, &self.message, subprotocols);
        self.rearm(index, READABLE);
        self.send_frame(index);
    }

    /// Asks for the way into the room, once the upgrade is done.
    pub(super) fn join(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.phase = Phase::Joining;
        let room = self.shared.plan.local_room(self.shared.plan.room_of(slot.connection));
        let channel = Channel { topic: &self.rooms[room].topic, join: slot.join_reference() };
        self.message.clear();
        let there = self.shared.dialect.opened(&mut self.message, &channel);
        if !self.message.is_empty() {
            self.send_message(index);
        }
        if there {
            self.joined(index);
        }
    }

    /// Records that the connection is in its room.
    pub(super) fn joined(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let settings = &self.shared.settings;
        let (opened_at, down_at) = slot.extra().map_or((self.now, None), |e| (e.opened_at, e.down_at));
        slot.extra_mut().joins = 0;
        slot.set(HEARTBEAT, false);
        if self.shared.plan.is_every(slot.connection, settings.slow_every) {
            slot.phase = Phase::Slow;
            self.stats.counters.slow_joined += 1;
            self.rearm(index, DEAF);
            self.decided(index);
            return;
        }
        let room = self.shared.plan.room_of(slot.connection);
        slot.phase = Phase::Joined;
        slot.ledger = Ledger::open(self.shared.rooms[room as usize].next());
        let members = &mut self.rooms[self.shared.plan.local_room(room)].members;
        slot.place = members.len() as u32;
        members.push(index);
        self.joined_now += 1;
        self.last_join = self.now;
        if let Some(down_at) = down_at {
            self.stats.counters.rejoined += 1;
            self.stats.reconnect.saturating_record(self.now - down_at);
        } else {
            self.stats.connect.saturating_record(self.now - opened_at);
        }
        if !slot.set(JOINED_ONCE, true) {
            self.stats.counters.joined += 1;
        }
        slot.extra_mut().down_at = None;
        self.decided(index);
    }

    fn decided(&mut self, index: u32) {
        if !self.slots[index as usize].set(DECIDED, true) {
            self.undecided -= 1;
        }
    }

    /// Counts a failed attempt to get into the room.
    fn failed(&mut self, index: u32, error: &str) {
        if self.slots[index as usize].is(JOINED_ONCE) {
            self.stats.counters.failed_reconnects += 1;
            self.stats.error(&format!("reconnect: {error}"));
        } else {
            self.stats.counters.failed_connects += 1;
            self.stats.error(error);
        }
        self.decided(index);
    }

    /// Records that the channel is gone or was refused while the socket stays open.
    pub(super) fn leave(&mut self, index: u32, error: &str) {
        let slot = &mut self.slots[index as usize];
        if slot.phase == Phase::Joined {
            slot.phase = Phase::Left;
            self.stats.error(error);
        } else {
            slot.phase = Phase::Left;
            self.failed(index, error);
        }
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        if self.shared.settings.reconnect {
            let generation = slot.generation;
            let extra = slot.extra_mut();
            let due = self.now + rejoin_delay_ms(extra.joins.into()) * 1_000_000;
            extra.joins = extra.joins.saturating_add(1);
            self.at(due, index, generation);
        }
    }

    /// Records that the connection is over, unless we ended it.
    pub(super) fn end(&mut self, index: u32, code: u16, error: &str) {
        let phase = self.slots[index as usize].phase;
        if phase == Phase::Joined {
            self.account(index, true);
            self.stats.counters.disconnects += 1;
            *self.stats.close_codes.entry(code).or_default() += 1;
            if code == ABNORMAL {
                self.stats.error(&format!("disconnect: {error}"));
            }
        } else if phase == Phase::Slow {
            self.stats.counters.slow_closed += 1;
            *self.stats.slow_close_codes.entry(code).or_default() += 1;
        } else if phase != Phase::Left {
            self.failed(index, error);
        }
        self.drop_socket(index);
        // phoenix.js takes 1000 for the end of the session, too.
        if self.shared.settings.reconnect && code != 1000 && phase != Phase::Slow {
            let slot = &mut self.slots[index as usize];
            let generation = slot.generation;
            let extra = slot.extra_mut();
            let due = self.now + reconnect_delay_ms(extra.attempts.into()) * 1_000_000;
            extra.attempts = extra.attempts.saturating_add(1);
            self.at(due, index, generation);
        }
    }

    /// Closes a socket, which also takes it out of the epoll.
    pub(super) fn drop_socket(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.phase = Phase::Closed;
        slot.generation = slot.generation.wrapping_add(1);
        slot.socket = None;
        if let Some(tls) = &mut self.tls {
            tls.end(index);
        }
        let extra = slot.extra_mut();
        extra.partial = Vec::new();
        extra.stream = Vec::new();
        extra.pending = Vec::new();
    }

    /// Takes a joined slot out of its room and closes its account. When the connection was `cut`, deliveries that had
    /// not arrived are excused, and so are its own publishes that had not come back.
    pub(super) fn account(&mut self, index: u32, cut: bool) {
        let slot = &mut self.slots[index as usize];
        let room_number = self.shared.plan.room_of(slot.connection);
        let local = &mut self.rooms[self.shared.plan.local_room(room_number)];
        let room = &self.shared.rooms[room_number as usize];
        let (next, counters) = (room.next(), &mut self.stats.counters);
        counters.owed += u64::from(slot.ledger.owed(next));
        slot.ledger.missing_below(next, |number| {
            if cut && local.recent.contains(&(number, index)) {
                room.declare_void(number);
            }
            if cut || room.is_void(number) {
                counters.interrupted += 1;
            } else {
                counters.lost += 1;
            }
        });
        slot.ledger = Ledger::default();
        if cut {
            slot.extra_mut().down_at = Some(self.now);
        }
        local.members.swap_remove(slot.place as usize);
        if let Some(moved) = local.members.get(slot.place as usize) {
            let place = slot.place;
            self.slots[*moved as usize].place = place;
        }
        self.joined_now -= 1;
    }
}
