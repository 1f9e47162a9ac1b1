//! The thread of a shard: turns of its state machine on sockets.
//!
//! A turn takes what is ready, feeds it to the state machine, then writes each connection that has something, once
//! per pass. The busier the shard, the more happens per pass and the fuller the writes. Budgets bound a turn, so that
//! neither a storm of publishes nor one huge room keeps others waiting for more than milliseconds.

use std::{
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use node_core::{
    counters::Counters,
    limits::{CLOSE_TIMEOUT_MILLIS, FLUSHES_PER_TURN, STAMP_MILLIS, TICK_MILLIS},
    room::ConnId,
    shard::{AfterFlush, Progress, Shard},
};
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown},
};

use crate::{
    accept::Listener,
    flush::{self, Written},
    handover::{Handover, Place},
    mailbox::{DrainCommand, Mailbox, ToShard},
    outgoing::Outgoings,
    poller::{Poller, Ready},
    readable::{Input, Readables},
    usage::{self, Usage},
};

/// The shard's one read buffer. Larger reads take more turns.
const READ_BYTES: usize = 64 * 1024;
/// Mailbox items per turn.
const ITEMS_PER_TURN: usize = 4_096;
/// Connections that are read in every turn, whatever the budget says: reading always makes progress.
const READS_AT_LEAST: usize = 64;
/// Bytes after which a turn reads no further connections: about 2 ms of parsing.
const READ_BYTES_PER_TURN: u64 = 2 * 1024 * 1024;

/// Time after which a turn writes no more, looked at after so many writes. Mostly the bound on their number comes first; where
/// the kernel is short of memory for sockets a write takes a hundred times as long, and meanwhile nobody is read.
const WRITING: Duration = Duration::from_millis(10);
const WRITES_PER_LOOK: usize = 8;

/// How long a shard that ends, and has no more connections, tries to hand over what they said last.
const HANDING_OVER: Duration = Duration::from_millis(CLOSE_TIMEOUT_MILLIS);

/// Everything one shard thread owns.
pub(crate) struct ShardLoop {
    core: Shard,
    mailbox: Mailbox,
    poller: Poller,
    listener: Option<Listener>,
    handover: Handover,
    sockets: Vec<Option<OwnedFd>>,
    readable: Readables,
    outgoing: Outgoings,
    read_buffer: Box<[u8]>,
    write_buffer: Box<[u8]>,
    gone: Vec<ConnId>,
    resumed: Vec<ConnId>,
    usage: Usage,
    started: Instant,
    next_tick: Instant,
    /// Events may be left in epoll.
    more_events: bool,
    stopping: bool,
    /// When a shard that ends had no more connections.
    empty_since: Option<Instant>,
}

impl ShardLoop {
    pub(crate) fn new(
        core: Shard,
        mailbox: Mailbox,
        poller: Poller,
        (listener, handover): (Listener, Handover),
        outgoing: Outgoings,
    ) -> rustix::io::Result<Self> {
        poller.add_wake(&mailbox)?;
        listener.fds().iter().try_for_each(|fd| poller.add_listener(fd))?;
        poller.add_inbox(handover.inbox())?;
        let now = Instant::now();
        Ok(Self {
            core,
            mailbox,
            poller,
            listener: Some(listener),
            handover,
            sockets: Vec::new(),
            readable: Readables::default(),
            outgoing,
            read_buffer: vec![0; READ_BYTES].into_boxed_slice(),
            write_buffer: vec![0; flush::COPY_BYTES].into_boxed_slice(),
            gone: Vec::new(),
            resumed: Vec::new(),
            usage: Usage::new(now),
            started: now,
            next_tick: now,
            more_events: false,
            stopping: false,
            empty_since: None,
        })
    }

    /// Runs until the shard was told to shut down and its last connection is gone.
    pub(crate) async fn run(&mut self) -> std::io::Result<()> {
        let timer = tokio::time::sleep_until(self.next_tick.into());
        tokio::pin!(timer);
        while !(self.stopping && self.is_done(Instant::now())) {
            let now = Instant::now();
            self.turn(now)?;
            let next = self.next_turn();
            if timer.deadline() != next.into() {
                timer.as_mut().reset(next.into());
            }
            if self.has_more(now) || !self.mailbox.prepare_to_sleep() {
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                biased;
                ready = self.poller.ready() => ready?,
                () = &mut timer => {}
            }
            self.mailbox.awake();
        }
        self.mailbox.stats().store(&self.core.counters);
        Ok(())
    }

    /// Whether a shard that ends has nothing more to do: its last connection is gone, and what they said last is on its way
    /// to the other shards and the bus. Those may have ended too, or be stuck, so this is waited for within a bound.
    fn is_done(&mut self, now: Instant) -> bool {
        if self.core.sockets() > 0 {
            return false;
        }
        let since = *self.empty_since.get_or_insert(now);
        !self.outgoing.is_waiting() || now.duration_since(since) >= HANDING_OVER
    }

    fn turn(&mut self, now: Instant) -> rustix::io::Result<()> {
        self.core.note_mail((self.mailbox.held_bytes() + self.outgoing.held_bytes()) as u64);
        self.core.begin_turn(millis(now.duration_since(self.started)));
        self.take_events()?;
        self.take_mail();
        self.accept(now);
        if now >= self.next_tick {
            self.tick(now);
        }
        self.resume();
        self.read();
        // Others have their part written while this shard writes its own.
        self.outgoing.send(&mut self.core);
        self.flush();
        self.remove_gone();
        self.resume();
        self.outgoing.send(&mut self.core);
        if self.outgoing.is_waiting() {
            // Nothing announces that another mailbox has room again.
            self.next_tick = self.next_tick.min(now + Duration::from_millis(TICK_MILLIS));
        }
        self.core.update_gauges();
        self.usage.update(now, &mut self.core.counters);
        self.mailbox.stats().store(&self.core.counters);
        Ok(())
    }

    /// When a turn is due although nothing happens.
    fn next_turn(&self) -> Instant {
        let due = self.core.next_due_millis().map(|due| self.started + Duration::from_millis(due));
        due.map_or(self.next_tick, |due| due.min(self.next_tick))
    }

    /// Whether there is work that no event will announce.
    fn has_more(&self, now: Instant) -> bool {
        self.more_events
            || (!self.readable.is_empty() && !self.outgoing.is_pressed())
            || self.core.has_flushes()
            || !self.mailbox.is_empty()
            || self.handover.is_waiting()
            || self.listener.as_ref().is_some_and(|listener| listener.is_due(now))
    }

    fn take_events(&mut self) -> rustix::io::Result<()> {
        let Self { core, mailbox, poller, listener, handover, sockets, readable, .. } = self;
        let all = poller.take(|ready| match ready {
            Ready::Listener => {
                if let Some(listener) = listener {
                    listener.on_ready();
                }
            }
            Ready::Wake => mailbox.acknowledge_wake(),
            Ready::Inbox => handover.on_ready(),
            Ready::Conn { id, input, ended, output } => {
                if !matches!(sockets.get(id.index()), Some(Some(_))) {
                    return;
                }
                if output {
                    core.on_writable(id);
                }
                if input {
                    core.on_input(id);
                    readable.push(id, Input { paused: false, ended });
                }
            }
        })?;
        self.more_events = !all;
        Ok(())
    }

    fn take_mail(&mut self) {
        self.core.begin_source(self.outgoing.feeders());
        for _ in 0..ITEMS_PER_TURN {
            let next = if self.core.is_saturated() { self.mailbox.pop_order() } else { self.mailbox.pop() };
            let Some(item) = next else { return };
            match item {
                ToShard::Remote { broadcast, late } => self.core.on_remote(&broadcast, late),
                ToShard::ClusterStats(json) => {
                    if let Ok(json) = std::str::from_utf8(&json) {
                        self.core.on_cluster_stats(json);
                    }
                }
                ToShard::Drain(DrainCommand::Close { connections_per_second }) => {
                    self.core.on_drain(connections_per_second);
                    self.next_tick = self.next_tick.min(Instant::now() + Duration::from_millis(TICK_MILLIS));
                }
                ToShard::Drain(DrainCommand::Stop) => self.core.on_drain_stopped(),
                ToShard::Reload(config) => {
                    self.outgoing.bound(config.limits.memory_budget);
                    self.core.on_reload(config);
                }
                #[cfg(test)]
                ToShard::Panic => panic!("deliberate"),
                ToShard::Shutdown => {
                    self.stopping = true;
                    self.core.on_shutdown();
                    // One last round of accept, after which the listener is closed.
                    self.listener.iter_mut().for_each(Listener::on_ready);
                    self.next_tick = self.next_tick.min(Instant::now() + Duration::from_millis(TICK_MILLIS));
                }
            }
        }
    }

    fn accept(&mut self, now: Instant) {
        let Self { core, poller, sockets, handover, listener, .. } = self;
        let mut admit = |socket| admit(core, poller, sockets, socket);
        let mut refused = 0;
        handover.take(|socket| refused += u32::from(!admit(socket)));
        if let Some(due) = listener.as_mut().filter(|listener| listener.is_due(now)) {
            let round = due.accept(now, |socket| {
                let kept = match handover.place() {
                    Place::Here => Some(socket),
                    Place::At(shard) => handover.give(shard, socket).err(),
                    Place::Nowhere => return false,
                };
                refused += kept.map_or(0, |socket| u32::from(!admit(socket)));
                true
            });
            core.counters.accept_errors += round.exhausted;
            // What was in the accept queue is answered with 503; closing it would reset those connections.
            if self.stopping && !due.is_due(now) {
                *listener = None;
            }
        }
        handover.release(refused);
    }

    fn tick(&mut self, now: Instant) {
        self.core.on_tick();
        self.core.counters.cpu_nanos = usage::thread_cpu_nanos();
        let stats = self.mailbox.stats();
        self.usage.tick(now, |ratio| stats.store_utilization(ratio));
        stats.store_memory_permille(self.core.take_memory_permille());
        let hurried = self.stopping
            || self.core.is_leaving()
            || self.listener.as_ref().is_some_and(Listener::is_paused);
        let millis = if hurried { TICK_MILLIS } else { STAMP_MILLIS };
        self.next_tick = now + Duration::from_millis(millis);
        if self.sockets.len() > 1_024 && self.core.sockets() == 0 {
            self.sockets = Vec::new();
            self.readable.trim();
        }
    }

    /// Connections that could not be read may be again.
    fn resume(&mut self) {
        self.core.take_resumed(&mut self.resumed);
        for id in self.resumed.drain(..) {
            self.readable.push(id, Input::default());
        }
    }

    fn read(&mut self) {
        if self.outgoing.is_pressed() {
            return;
        }
        self.core.begin_source(1);
        let enough = self.core.counters.received_bytes + READ_BYTES_PER_TURN;
        for done in 0..self.readable.len() {
            let over = self.core.is_over_budget() || self.core.counters.received_bytes >= enough;
            if (done >= READS_AT_LEAST && over) || self.core.is_saturated() {
                return;
            }
            let Some((id, input)) = self.readable.pop() else { return };
            self.read_one(id, input);
        }
    }

    fn read_one(&mut self, id: ConnId, input: Input) {
        let Input { paused, ended } = input;
        let Some(Some(socket)) = self.sockets.get(id.index()) else { return };
        if !self.core.may_read(id, ended) {
            return self.readable.hold(id, input);
        }
        if paused {
            if self.core.on_data(id, &mut []) == Progress::Paused {
                return self.readable.push(id, input);
            }
            // What was kept is served; whether more may be read is another question while memory is short.
            if !self.core.may_read(id, ended) {
                return self.readable.hold(id, Input { paused: false, ended });
            }
        }
        let most = self.core.read_bytes(READ_BYTES);
        let count = match recv(socket, &mut self.read_buffer[..most], RecvFlags::DONTWAIT) {
            Ok((0, _)) => return self.core.on_lost(id),
            Ok((count, _)) => count,
            Err(Errno::AGAIN) => return,
            Err(Errno::INTR) => return self.readable.push(id, Input { paused: false, ended }),
            Err(_) => return self.core.on_lost(id),
        };
        let paused = self.core.on_data(id, &mut self.read_buffer[..count]) == Progress::Paused;
        // Less than asked for means that the socket is empty, and that more will be a new edge.
        if paused || ended || count == most {
            self.readable.push(id, Input { paused, ended });
        }
    }

    fn flush(&mut self) {
        let (begun, mut cut_after) = (Instant::now(), None);
        for done in 1..=FLUSHES_PER_TURN {
            let Some(id) = self.core.next_flush() else { break };
            self.flush_one(id);
            if done % WRITES_PER_LOOK == 0 && begun.elapsed() >= WRITING {
                cut_after = Some(done);
                break;
            }
        }
        let started = self.started;
        self.core.end_flushes(cut_after, || millis(started.elapsed()));
    }

    fn flush_one(&mut self, id: ConnId) {
        let Some(Some(socket)) = self.sockets.get(id.index()) else { return };
        let (outbox, queue) = self.core.output(id);
        match flush::write(socket.as_fd(), outbox, queue, &mut self.write_buffer) {
            Written::Failed => self.core.on_lost(id),
            Written::Sent { taken, offered } => {
                let short = taken < offered;
                let counters = &mut self.core.counters;
                counters.socket_writes += 1;
                counters.short_writes += u64::from(short);
                counters.sent_bytes += taken as u64;
                if self.core.on_sent(id, taken, short) == AfterFlush::EndOutput {
                    // Fails only when the peer reset the connection, which reading will show.
                    shutdown(socket, Shutdown::Write).ok();
                }
            }
        }
    }

    fn remove_gone(&mut self) {
        self.core.take_gone(&mut self.gone);
        self.handover.release(self.gone.len() as u32);
        for id in self.gone.drain(..) {
            self.sockets[id.index()] = None;
            self.readable.forget(id);
            self.core.remove(id);
        }
    }

    /// The last thing a failed shard does: it closes what it can close in one write, with 1012. Nothing is read any more,
    /// so its sockets are to be kept until the process ends: closing one with unread input takes back what was sent last.
    pub(crate) fn farewell(&mut self) {
        self.listener = None;
        for (index, socket) in self.sockets.iter().enumerate() {
            // As many as descriptors, far fewer than 2^32.
            if let Some(socket) = socket
                && let Some(frame) = self.core.farewell(ConnId(index as u32))
            {
                send(socket, &frame, SendFlags::NOSIGNAL | SendFlags::DONTWAIT).ok();
                shutdown(socket, Shutdown::Write).ok();
            }
        }
        self.mailbox.stats().store(&Counters::ZERO);
    }
}

/// The clock of the state machine.
fn millis(since_start: Duration) -> u64 {
    u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX)
}

/// Takes a socket into the shard. False when it is dropped at once.
fn admit(core: &mut Shard, poller: &Poller, sockets: &mut Vec<Option<OwnedFd>>, socket: OwnedFd) -> bool {
    let Some(id) = core.on_accept() else { return false };
    let index = id.index();
    if sockets.len() <= index {
        sockets.resize_with(index + 1, || None);
    }
    let registered = poller.add_conn(&socket, id);
    sockets[index] = Some(socket);
    if registered.is_err() {
        core.on_lost(id);
    }
    true
}
