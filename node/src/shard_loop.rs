//! The thread of a shard: turns of its state machine on sockets.
//!
//! A turn takes what is ready, feeds it to the state machine, then writes each connection that has something, once
//! per pass. The busier the shard, the more happens per pass and the fuller the writes. Budgets bound a turn, so that
//! neither a storm of publishes nor one huge room keeps others waiting for more than milliseconds.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use node_core::{
    counters::{Counters, RefuseReason},
    limits::{CLOSE_TIMEOUT_MILLIS, FLUSHES_PER_TURN, TICK_MILLIS},
    session::id::Slot,
    shard::{Accepted, Effect, Event, Mail, Progress, Shard},
};

use crate::{
    handover::{Handover, Place},
    links::{Links, Untold},
    mailbox::Mailbox,
    poller::{Poller, Ready},
    readable::{Input, Readables},
    sysinfo,
    transport::{self, Listener, Taken, Transports, Written},
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
    transports: Transports,
    readable: Readables,
    links: Links,
    read_buffer: Box<[u8]>,
    effects: Vec<Effect>,
    usage: Usage,
    /// What was counted when the utilization was published last.
    writes_before: u64,
    started: Instant,
    /// A turn is due by then because the thread itself waits for something: room in a mailbox, or descriptors.
    wake_by: Option<Instant>,
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
        (listener, transports): (Listener, Transports),
        handover: Handover,
        links: Links,
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
            transports,
            readable: Readables::default(),
            links,
            read_buffer: vec![0; READ_BYTES].into_boxed_slice(),
            effects: Vec::new(),
            usage: Usage::new(now),
            writes_before: 0,
            started: now,
            wake_by: None,
            more_events: false,
            stopping: false,
            empty_since: None,
        })
    }

    /// Runs until the shard was told to shut down and its last connection is gone.
    pub(crate) async fn run(&mut self) -> std::io::Result<()> {
        let timer = tokio::time::sleep_until(self.started.into());
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
        self.mailbox.stats().store(self.core.counters());
        Ok(())
    }

    /// Whether a shard that ends has nothing more to do: its last connection is gone, and what they said last is on its way
    /// to the other shards and the bus. Those may have ended too, or be stuck, so this is waited for within a bound.
    fn is_done(&mut self, now: Instant) -> bool {
        if self.core.connections() > 0 {
            return false;
        }
        let since = *self.empty_since.get_or_insert(now);
        !self.links.is_waiting() || now.duration_since(since) >= HANDING_OVER
    }

    fn turn(&mut self, now: Instant) -> rustix::io::Result<()> {
        let mail = self.mailbox.held_bytes() + self.links.held_bytes();
        let now_millis = millis(now.duration_since(self.started));
        self.core.begin_turn(now_millis, mail);
        if let Some(bytes) = self.transports.begin_turn(now_millis, self.core.refuses_unknown()) {
            self.core.handle(Event::Transport(bytes));
        }
        self.take_events()?;
        self.take_mail();
        self.accept(now);
        let ticks = self.core.handle_timeout();
        if ticks {
            self.core.handle(Event::TimeOfDay(sysinfo::unix_millis()));
        }
        self.carry_out();
        self.read();
        // Others have their part written while this shard writes its own.
        self.carry_out();
        // Before a client hears of it: what comes of that on another shard is told later.
        self.tell_news();
        self.flush();
        self.carry_out();
        self.end_turn(now, ticks);
        Ok(())
    }

    /// Carries out the effects that the state machine asks for.
    fn carry_out(&mut self) {
        self.core.take_effects(&mut self.effects);
        self.links.retry();
        let (mut ended, mut lost) = (0, 0);
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Tell(outgoing) => match self.links.tell(outgoing) {
                    Ok(()) => {}
                    Err(Untold::Lost) => lost += 1,
                    Err(Untold::NotCarried(carried)) => {
                        self.core.handle(Event::Mail(Mail::NotCarried(carried)));
                    }
                },
                Effect::Resume(slot) => self.readable.push(slot, Input::default()),
                Effect::Paused(slot) => self.readable.push(slot, Input { paused: true, ended: false }),
                Effect::EndOutput(slot) => self.transports.end_output(slot),
                Effect::Ended(slot) => {
                    ended += u32::from(self.transports.remove(slot));
                    self.readable.forget(slot);
                }
            }
        }
        self.links.ring();
        self.handover.release(ended);
        self.core.handle(Event::BusFull(lost));
    }

    /// Hands over what happened to those who listen.
    fn tell_news(&mut self) {
        if let Some(news) = self.core.take_news() {
            // It is for the API and not for the bus, and whoever listens is told what was lost.
            self.links.tell(news).ok();
        }
    }

    fn end_turn(&mut self, now: Instant, ticks: bool) {
        self.tell_news();
        let mut times = self.usage.times(now);
        let stats = self.mailbox.stats();
        if ticks {
            times.cpu = Some(usage::thread_cpu_nanos());
            let writes = self.core.counters().writes;
            let before = &mut self.writes_before;
            self.usage.tick(now, |ratio, wall| {
                stats.store_utilization(ratio);
                let since = writes - std::mem::replace(before, writes);
                stats.store_writes_per_second(since * 1_000 / millis(wall).max(1));
            });
            stats.store_recent(self.core.recent());
            stats.store_latencies(self.core.latencies());
            stats.store_by_policy(self.core.by_policy());
            if let Some(report) = self.core.take_move_report() {
                stats.store_moves(report);
            }
            stats.store_memory_permille(self.core.take_memory_permille());
            if self.core.refuses_unknown() {
                // Those that are open have said something and wait for the rest of it.
                for slot in self.transports.stalled() {
                    self.core.handle(Event::Unfit(slot, RefuseReason::Memory));
                    self.core.handle(Event::Lost(slot));
                }
            }
            if self.core.connections() == 0 {
                self.transports.trim();
                self.readable.trim();
            }
        }
        stats.store(self.core.end_turn(times));
        // Nothing announces that another mailbox has room again, or that the kernel has descriptors.
        let waits = self.links.is_waiting() || self.listener.as_ref().is_some_and(Listener::is_paused);
        self.wake_by = (self.stopping || waits).then(|| now + Duration::from_millis(TICK_MILLIS));
    }

    /// When a turn is due although nothing happens.
    fn next_turn(&self) -> Instant {
        let due = self.started + Duration::from_millis(self.core.next_deadline());
        self.wake_by.map_or(due, |wake| wake.min(due))
    }

    /// Whether there is work that no event will announce.
    fn has_more(&self, now: Instant) -> bool {
        self.more_events
            || (!self.readable.is_empty() && !self.links.is_pressed())
            || self.core.has_flushes()
            || !self.mailbox.is_empty()
            || self.handover.is_waiting()
            || self.listener.as_ref().is_some_and(|listener| listener.is_due(now))
    }

    fn take_events(&mut self) -> rustix::io::Result<()> {
        let Self { core, mailbox, poller, listener, handover, transports, readable, .. } = self;
        let all = poller.take(|ready| match ready {
            Ready::Listener => {
                if let Some(listener) = listener {
                    listener.on_ready();
                }
            }
            Ready::Wake => mailbox.acknowledge_wake(),
            Ready::Inbox => handover.on_ready(),
            Ready::Conn { id, flags } => {
                let Some(slot) = core.slot(id) else { return };
                let edge = transports.on_ready(slot, flags);
                if edge.output {
                    core.handle(Event::Writable(id));
                }
                if edge.input {
                    core.handle(Event::Input(id));
                    readable.push(slot, Input { paused: false, ended: edge.ended });
                }
            }
        })?;
        self.more_events = !all;
        Ok(())
    }

    fn take_mail(&mut self) {
        self.core.begin_source(self.links.feeders());
        for _ in 0..ITEMS_PER_TURN {
            let next = if self.core.is_saturated() { self.mailbox.pop_order() } else { self.mailbox.pop() };
            let Some(mail) = next else { return };
            self.heed(&mail);
            self.core.handle(Event::Mail(mail));
        }
    }

    /// Does the thread's own part of some mail; the state machine does the rest.
    fn heed(&mut self, mail: &Mail) {
        match mail {
            Mail::Reload(config) => self.links.bound(config.limits.memory_budget),
            Mail::Shutdown => {
                self.stopping = true;
                // One last round of accept, after which the listener is closed.
                self.listener.iter_mut().for_each(Listener::on_ready);
            }
            _ => {}
        }
    }

    fn accept(&mut self, now: Instant) {
        let Self { core, poller, transports, handover, listener, .. } = self;
        let mut admit = |socket| admit(core, poller, transports, socket);
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
            core.handle(Event::AcceptsFailed(round.exhausted));
            // What was in the accept queue is answered with 503; closing it would reset those connections.
            if self.stopping && !due.is_due(now) {
                *listener = None;
            }
        }
        handover.release(refused);
    }

    fn read(&mut self) {
        if self.links.is_pressed() {
            return;
        }
        self.core.begin_source(1);
        let enough = self.core.counters().received_bytes + READ_BYTES_PER_TURN;
        for done in 0..self.readable.len() {
            let over = self.core.is_over_budget()
                || self.core.counters().received_bytes >= enough
                || self.transports.has_read_enough();
            if (done >= READS_AT_LEAST && over) || self.core.is_saturated() {
                return;
            }
            let Some((id, input)) = self.readable.pop() else { return };
            self.read_one(id, input);
        }
    }

    fn read_one(&mut self, slot: Slot, input: Input) {
        let Input { paused, ended } = input;
        if !self.core.may_read(slot, ended) {
            return self.readable.hold(slot, input);
        }
        if paused {
            if self.core.go_on(slot) == Progress::Paused {
                return self.readable.push(slot, input);
            }
            // What was kept is served; whether more may be read is another question while memory is short.
            if !self.core.may_read(slot, ended) {
                return self.readable.hold(slot, Input { paused: false, ended });
            }
        }
        let most = self.core.read_bytes(READ_BYTES);
        let (count, more) = match self.transports.read(slot, &mut self.read_buffer, most) {
            Taken::Bytes(count) => (count, count == most),
            Taken::Part(count) => (count, true),
            Taken::Nothing => return,
            Taken::Again => return self.readable.push(slot, Input { paused: false, ended }),
            Taken::Ended => return self.core.handle(Event::Lost(slot)),
            Taken::Unfit(reason) => return self.core.handle(Event::Unfit(slot, reason)),
            Taken::Introduced(client) => {
                self.core.handle(Event::Introduced(slot, client));
                return self.readable.push(slot, Input { paused: false, ended });
            }
        };
        let paused = self.core.on_data(slot, &mut self.read_buffer[..count]) == Progress::Paused;
        if paused || ended || more {
            self.readable.push(slot, Input { paused, ended });
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
        while let Some(slot) = self.transports.pop_worn() {
            self.core.handle(Event::Worn(slot));
        }
        let started = self.started;
        self.core.end_flushes(cut_after, || millis(started.elapsed()));
    }

    fn flush_one(&mut self, slot: Slot) {
        let (outbox, queue) = self.core.output(slot);
        match self.transports.write(slot, outbox, queue) {
            Written::Failed => self.core.handle(Event::Lost(slot)),
            Written::Sent { taken, offered } => self.core.on_sent(slot, taken, offered),
            Written::Kept { taken, unsent } => self.core.on_kept(slot, taken, unsent),
        }
    }

    /// The last thing a failed shard does: it closes what it can close in one write, with 1012. Nothing is read any more,
    /// so its sockets are to be kept until the process ends: closing one with unread input takes back what was sent last.
    pub(crate) fn farewell(&mut self) {
        self.listener = None;
        let core = &self.core;
        self.transports.say_last(|slot| core.farewell(slot));
        self.mailbox.stats().store(&Counters::ZERO);
    }
}

/// The clock of the state machine.
fn millis(since_start: Duration) -> u64 {
    u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX)
}

/// Takes a socket into the shard. False when it is dropped at once.
fn admit(core: &mut Shard, poller: &Poller, transports: &mut Transports, socket: OwnedFd) -> bool {
    // Looking for the peer costs a system call.
    let accepted = if core.asks_for_peers() {
        core.accept_from(transport::peer(&socket))
    } else {
        core.accept().map(|id| Accepted { id, awaits_header: false })
    };
    let Some(Accepted { id, awaits_header }) = accepted else { return false };
    if awaits_header {
        transports.expect_header(id.slot());
    }
    let registered = poller.add_conn(&socket, id);
    transports.insert(id.slot(), socket);
    if registered.is_err() {
        core.handle(Event::Lost(id.slot()));
    }
    true
}
