//! TLS 1.3, and 1.2 where it is asked for, on the sockets of a shard. rustls shakes hands; then its secrets are taken over by a
//! session of 112 bytes, and the shard seals and opens the records itself, in the buffers that it has anyway
//! (`docs/decisions/014-tls-records-in-the-shard.md`).

use std::{os::fd::BorrowedFd, sync::Arc};

use node_core::{
    counters::RefuseReason,
    egress::outbox::{Outbox, Queue},
    session::id::Slot,
    tls::{MAX_PLAINTEXT_BYTES, OVERHEAD_BYTES},
};
use rustix::event::epoll::EventFlags;

use super::{Edge, Taken, Written, plain};

mod files;
mod handshake;
mod link;
#[cfg(test)]
mod tests;
mod ticket_files;
mod tickets;
mod unsent;

pub use files::{Identity, TlsError, TlsFiles, TlsWatch};
use handshake::{Handshake, Shaken};
use link::Link;
pub use ticket_files::TicketsError;
use unsent::Sending;

/// Most handshakes of a shard from the client's hello on, each with the memory that rustls takes for it. A shard finishes
/// some thousands per second, so an honest client waits here for a round trip.
const MAX_SHAKING: usize = 4_096;
/// Reads of a turn that may make rustls work, each 0.1 to 1 ms: 16 keep the others waiting for about 5 ms.
const SHAKES_PER_TURN: usize = 16;
/// Most bytes of records of a shard that have not come whole; a connection that adds more ends. Honest records come whole in
/// one read, or after some more.
const MAX_PARTIAL_BYTES: usize = 16 * 1024 * 1024;
/// While memory is short, a handshake or a record that is under way for so long, in milliseconds, ends its connection. A
/// healthy client needs a round trip.
const STALLED_MILLIS: u64 = 1_000;
/// Bytes of the sockets that a turn reads before it reads no further connections. Small records cost most: with one byte of
/// data in each, so many take 5 ms.
const RECORD_BYTES_PER_TURN: usize = 512 * 1024;
/// Room for one sealed record.
const SCRATCH_BYTES: usize = MAX_PLAINTEXT_BYTES + OVERHEAD_BYTES;

/// Where a connection is.
#[derive(Debug)]
enum State {
    /// The handshake is under way since this time, on the clock of the shard's turns.
    Shaking(Box<Handshake>, u64),
    /// The handshake is done.
    Open(Link),
}

impl State {
    /// Memory in bytes of a record that is not complete, and of everything.
    fn weight(&self) -> (usize, usize) {
        match self {
            Self::Shaking(handshake, _) => {
                let (input, all) = handshake.weight();
                (input, all + size_of::<Self>())
            }
            Self::Open(link) => link.weight(),
        }
    }

    /// Drops a record that is not complete; nothing is read after it.
    fn forget_input(&mut self) {
        match self {
            Self::Shaking(handshake, _) => handshake.forget_input(),
            Self::Open(link) => link.forget_input(),
        }
    }

    fn has_begun(&self) -> bool {
        matches!(self, Self::Shaking(handshake, _) if handshake.has_begun())
    }
}

/// The connections of a shard that speak TLS, by their slots. One that has said nothing yet has an empty place.
#[derive(Debug)]
pub(super) struct Tls {
    identity: Arc<Identity>,
    states: Vec<Option<Box<State>>>,
    scratch: Box<[u8]>,
    /// Handshakes that rustls works at.
    shaking: usize,
    /// Bytes of records that are not complete, and of all states.
    incomplete: usize,
    held: usize,
    /// Connections whose key is worn since this was last emptied.
    worn: Vec<Slot>,
    shakes_left: usize,
    bytes_left: usize,
    /// Why no handshake may begin, if none may.
    refuses: Option<RefuseReason>,
    now: u64,
}

impl Tls {
    pub(super) fn new(identity: Arc<Identity>) -> Self {
        Self {
            identity,
            states: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            shaking: 0,
            incomplete: 0,
            held: 0,
            worn: Vec::new(),
            shakes_left: SHAKES_PER_TURN,
            bytes_left: RECORD_BYTES_PER_TURN,
            refuses: None,
            now: 0,
        }
    }

    /// Begins a turn at a time in milliseconds. While memory is short no handshake begins. Returns the memory in bytes of all
    /// connections.
    pub(super) fn begin_turn(&mut self, now: u64, is_short_of_memory: bool) -> usize {
        self.now = now;
        self.shakes_left = SHAKES_PER_TURN;
        self.bytes_left = RECORD_BYTES_PER_TURN;
        self.refuses = is_short_of_memory.then_some(RefuseReason::Memory);
        self.held + self.states.capacity() * size_of::<Option<Box<State>>>()
    }

    /// Whether this turn should read no further connections.
    pub(super) const fn has_read_enough(&self) -> bool {
        self.bytes_left == 0
    }

    pub(super) fn insert(&mut self, slot: Slot) {
        if self.states.len() <= slot.index() {
            self.states.resize_with(slot.index() + 1, || None);
        }
        self.states[slot.index()] = None;
    }

    /// Does something with the state of a connection that has said something, and keeps the sums right.
    fn change<R>(&mut self, slot: Slot, change: impl FnOnce(&mut State) -> R) -> Option<R> {
        let state = self.states.get_mut(slot.index())?.as_deref_mut()?;
        let (before, begun) = (state.weight(), state.has_begun());
        let result = change(state);
        let (after, begins) = (state.weight(), state.has_begun());
        self.incomplete = self.incomplete + after.0 - before.0;
        self.held = self.held + after.1 - before.1;
        self.shaking = self.shaking + usize::from(begins) - usize::from(begun);
        Some(result)
    }

    /// Reads once. `most` bytes of the socket at most, unless the handshake is under way.
    pub(super) fn read(&mut self, slot: Slot, fd: BorrowedFd<'_>, buffer: &mut [u8], most: usize) -> Taken {
        let (now, mut left) = (self.now, self.bytes_left);
        let taken = match self.states.get_mut(slot.index()) {
            Some(Some(state)) if matches!(**state, State::Open(_)) => {
                self.change(slot, |state| match state {
                    State::Open(link) => link.read(fd, buffer, most, now, &mut left),
                    State::Shaking(..) => Taken::Nothing,
                })
            }
            Some(_) if self.shakes_left == 0 => Some(Taken::Again),
            Some(place) => {
                if place.is_none() {
                    let state = State::Shaking(Box::default(), now);
                    self.held += state.weight().1;
                    *place = Some(Box::new(state));
                }
                self.shake(slot, fd, buffer)
            }
            None => None,
        };
        self.bytes_left = left;
        let taken = taken.unwrap_or(Taken::Nothing);
        if self.incomplete > MAX_PARTIAL_BYTES && self.is_incomplete(slot) {
            // At once, or those that are read next in this turn would have to end as well.
            self.change(slot, State::forget_input);
            return Taken::Ended;
        }
        taken
    }

    fn is_incomplete(&self, slot: Slot) -> bool {
        let state = self.states.get(slot.index()).and_then(Option::as_deref);
        state.is_some_and(|state| state.weight().0 > 0)
    }

    fn shake(&mut self, slot: Slot, fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Option<Taken> {
        let full = (self.shaking >= MAX_SHAKING).then_some(RefuseReason::Full);
        let (now, refuses, config) = (self.now, self.refuses.or(full), self.identity.config());
        let mut shakes = 0;
        let taken = self.change(slot, |state| {
            let State::Shaking(handshake, _) = state else { return Taken::Nothing };
            match handshake.read(fd, buffer, &config, refuses) {
                Shaken::On(taken, worked) => {
                    shakes = worked;
                    taken
                }
                Shaken::Failed(reason) => Taken::Unfit(reason),
                Shaken::Done { session, unsent, used, total, full } => {
                    shakes = 1;
                    let mut link = Link::new(*session, unsent);
                    // What the client said behind its Finished comes to where data belongs.
                    buffer.copy_within(used..total, 0);
                    let taken = link.take(fd, &mut buffer[..total - used], full, now);
                    *state = State::Open(link);
                    taken
                }
            }
        });
        self.shakes_left = self.shakes_left.saturating_sub(shakes);
        taken
    }

    /// Writes up to one record of what is queued.
    pub(super) fn write(
        &mut self,
        slot: Slot,
        fd: BorrowedFd<'_>,
        outbox: &Outbox,
        queue: &Queue,
    ) -> Written {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut is_worn = false;
        let written = self.change(slot, |state| match state {
            State::Open(link) => {
                let written = link.write(fd, outbox, queue, &mut scratch);
                is_worn = link.is_worn();
                written
            }
            // Only what was said in the session is answered.
            State::Shaking(..) => Written::Failed,
        });
        self.scratch = scratch;
        if is_worn {
            self.worn.push(slot);
        }
        written.unwrap_or(Written::Failed)
    }

    /// A connection whose key was used so often that the client should come with a new one; each once.
    pub(super) fn pop_worn(&mut self) -> Option<Slot> {
        self.worn.pop()
    }

    /// What an edge means. Output that waits for the socket goes first.
    pub(super) fn on_ready(&mut self, slot: Slot, fd: BorrowedFd<'_>, flags: EventFlags) -> Edge {
        let mut edge = plain::on_ready(flags);
        if edge.output {
            let sending = self.change(slot, |state| match state {
                State::Open(link) => link.send_unsent(fd).unwrap_or(Sending::Done),
                State::Shaking(handshake, _) => handshake.send_unsent(fd),
            });
            match sending {
                None | Some(Sending::Done) => {}
                Some(Sending::Blocked) => edge.output = false,
                // Reading shows it.
                Some(Sending::Failed) => edge = Edge { input: true, ended: true, output: false },
            }
        }
        edge
    }

    /// Ends the output of a connection: all that was queued is sent.
    pub(super) fn end_output(&mut self, slot: Slot, fd: BorrowedFd<'_>) {
        self.change(slot, |state| {
            if let State::Open(link) = state {
                link.say_close(fd);
            }
        });
        plain::end_output(fd);
    }

    /// Sends some last bytes, if the socket takes them at once, and ends the output.
    pub(super) fn say_last(&mut self, slot: Slot, fd: BorrowedFd<'_>, bytes: &[u8]) {
        self.change(slot, |state| {
            if let State::Open(link) = state {
                link.say_last(fd, bytes);
            }
        });
    }

    /// Forgets a connection, whose socket is closed next.
    pub(super) fn remove(&mut self, slot: Slot, fd: BorrowedFd<'_>) {
        let Some(mut state) = self.states.get_mut(slot.index()).and_then(Option::take) else { return };
        let (incomplete, held) = state.weight();
        self.incomplete -= incomplete;
        self.held -= held;
        self.shaking -= usize::from(state.has_begun());
        if let State::Open(link) = &mut *state {
            link.say_close(fd);
        }
    }

    /// Connections with a handshake or a record that is under way for long.
    pub(super) fn stalled(&self) -> impl Iterator<Item = Slot> {
        let is_old = |since: u64| self.now.saturating_sub(since) >= STALLED_MILLIS;
        let is_stalled = move |state: &State| match state {
            State::Shaking(_, since) => is_old(*since),
            State::Open(link) => link.incomplete_since().is_some_and(is_old),
        };
        let slots = self.states.iter().enumerate();
        // There are as many as descriptors, far fewer than 2^32.
        slots.filter_map(move |(index, state)| is_stalled(state.as_deref()?).then_some(Slot(index as u32)))
    }

    /// Gives the memory of a past peak back; no connection may be left.
    pub(super) fn trim(&mut self) {
        self.states = Vec::new();
        self.worn = Vec::new();
    }
}

const _: () = assert!(size_of::<State>() <= link::LINK_BYTES);
