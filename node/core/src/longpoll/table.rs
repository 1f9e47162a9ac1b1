//! What a shard remembers of its HTTP connections and of its sessions, beside their slots.

use std::collections::BTreeMap;

use super::{ask::Asker, token::Token};
use crate::{
    limits::{CONFIRM_MILLIS, POLL_WINDOW_MILLIS, SESSION_LIFETIME_MILLIS},
    protocol::Vsn,
    session::id::Slot,
};

/// Memory in bytes of an entry of either table, with its share of a node of the tree that may be half full.
const ENTRY_BYTES: u64 = 256;

/// The HTTP side of a connection.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    /// How many answers of sessions it has waited for.
    number: u32,
    /// Whether it waits for a session of another node.
    is_carried: bool,
    pub(crate) step: Step,
    /// The session whose messages are in the answer that is queued, or was sent.
    pub(crate) said: Option<Token>,
}

impl Asking {
    /// The number of the request that waits, or waited last.
    pub(crate) const fn number(&self) -> u32 {
        self.number
    }
}

/// What an HTTP connection waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Step {
    /// The head of a request.
    #[default]
    Head,
    /// The body of a post.
    Body(Body),
    /// The answer of a session.
    Waiting(Waiting),
}

/// A post whose body is not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) token: Token,
    /// Its length.
    pub(crate) bytes: usize,
    /// Whether each line of it is a message.
    pub(crate) lines: bool,
    pub(crate) keep_alive: bool,
}

/// A request that a session answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) token: Token,
    pub(crate) goal: Goal,
    pub(crate) keep_alive: bool,
}

/// What the client of a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Messages; or, when the session is gone, another one in this version.
    Poll(Option<Vsn>),
    /// To say something.
    Post,
}

/// A request that a session has not answered, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Since {
    pub(crate) asker: Asker,
    pub(crate) millis: u64,
}

impl Since {
    const fn ends_millis(self) -> u64 {
        self.millis + POLL_WINDOW_MILLIS
    }

    /// Whether the request has waited for as long as it may.
    pub(crate) const fn is_over(self, now_millis: u64) -> bool {
        self.ends_millis() <= now_millis
    }
}

/// An answer with messages for a client of another node, which has not said yet whether it came.
#[derive(Debug)]
pub(crate) struct Given {
    /// The request that was answered.
    pub(crate) to: Asker,
    /// When it was answered.
    pub(crate) millis: u64,
    /// The messages, as a JSON list.
    pub(crate) list: Vec<u8>,
    /// Whether it is known that nobody was given them, so that the next poll is.
    pub(crate) is_lost: bool,
}

impl Given {
    const fn ends_millis(&self) -> u64 {
        self.millis + CONFIRM_MILLIS
    }

    /// Whether so much time has passed that the other node will not say any more what became of it.
    pub(crate) const fn is_over(&self, now_millis: u64) -> bool {
        !self.is_lost && self.ends_millis() <= now_millis
    }
}

/// The part of a session that other connections do not have.
#[derive(Debug)]
pub(crate) struct Session {
    /// The poll that waits.
    pub(crate) poll: Option<Since>,
    /// The post whose messages are not all handled.
    pub(crate) post: Option<Since>,
    /// The last answer, while it is not known whether another node has taken it. Meanwhile no other poll is answered.
    pub(crate) given: Option<Box<Given>>,
    /// Whether the client missed an answer with messages. It is told by its next request, and the session ends then.
    pub(crate) missed: bool,
    /// When it was made, or its last poll ended.
    pub(crate) polled_millis: u64,
    /// For when its deadline is set. There may be others left, which mean nothing.
    pub(crate) wakes_millis: u64,
}

impl Session {
    /// When something is due.
    pub(crate) fn due_millis(&self) -> u64 {
        let poll = self.poll.map_or(self.polled_millis + SESSION_LIFETIME_MILLIS, Since::ends_millis);
        let poll = match &self.given {
            Some(given) if self.poll.is_some() && !given.is_lost => poll.min(given.ends_millis()),
            _ => poll,
        };
        self.post.map_or(poll, |post| poll.min(post.ends_millis()))
    }

    /// Whether its client has been away for too long.
    pub(crate) fn is_forgotten(&self, now_millis: u64) -> bool {
        self.poll.is_none() && self.polled_millis + SESSION_LIFETIME_MILLIS <= now_millis
    }
}

/// Both tables of a shard.
#[derive(Debug, Default)]
pub(crate) struct Polls {
    asking: BTreeMap<Slot, Asking>,
    sessions: BTreeMap<Slot, Session>,
    /// Bytes of the answers that were given and may have to be given again.
    given_bytes: u64,
    /// How many connections wait for sessions of other nodes.
    carried: usize,
}

impl Polls {
    /// A connection has its first request for long-poll.
    pub(crate) fn begin_asking(&mut self, slot: Slot) {
        self.asking.insert(slot, Asking::default());
    }

    pub(crate) fn asking(&mut self, slot: Slot) -> Option<&mut Asking> {
        self.asking.get_mut(&slot)
    }

    /// Forgets the HTTP side of a connection, if it has one.
    pub(crate) fn end_asking(&mut self, slot: Slot) -> Option<Asking> {
        let asking = self.asking.remove(&slot)?;
        self.carried -= usize::from(asking.is_carried);
        Some(asking)
    }

    /// How many connections wait for sessions of other nodes.
    pub(crate) const fn carried(&self) -> usize {
        self.carried
    }

    /// What an HTTP connection waits for.
    pub(crate) fn step(&self, slot: Slot) -> Option<Step> {
        self.asking.get(&slot).map(|asking| asking.step)
    }

    /// Whether a connection waits for a session.
    pub(crate) fn is_waiting(&self, slot: Slot) -> bool {
        matches!(self.step(slot), Some(Step::Waiting(_)))
    }

    /// A connection waits for a session from now on, which may be one of another node. Returns the number of its request.
    pub(crate) fn wait(&mut self, slot: Slot, waiting: Waiting, is_carried: bool) -> u32 {
        let asking = self.asking.entry(slot).or_default();
        self.carried += usize::from(is_carried);
        self.carried -= usize::from(std::mem::replace(&mut asking.is_carried, is_carried));
        asking.number = asking.number.wrapping_add(1);
        asking.step = Step::Waiting(waiting);
        asking.number
    }

    /// Ends the waiting of a connection, if it waits for this session with the request of this number.
    pub(crate) fn end_waiting(&mut self, slot: Slot, number: u32, token: &Token) -> Option<Waiting> {
        let asking = self.asking.get_mut(&slot).filter(|asking| asking.number == number)?;
        let Step::Waiting(waiting) = asking.step else { return None };
        if waiting.token != *token {
            return None;
        }
        asking.step = Step::Head;
        self.carried -= usize::from(std::mem::take(&mut asking.is_carried));
        Some(waiting)
    }

    /// The request with which a connection waits, if it waits.
    pub(crate) fn waiting(&self, slot: Slot) -> Option<(u32, Waiting)> {
        let asking = self.asking.get(&slot)?;
        if let Step::Waiting(waiting) = asking.step { Some((asking.number, waiting)) } else { None }
    }

    /// A session without anything is made at this time, with its deadline set.
    pub(crate) fn open(&mut self, slot: Slot, now_millis: u64) -> u64 {
        let mut session = Session {
            poll: None,
            post: None,
            given: None,
            missed: false,
            polled_millis: now_millis,
            wakes_millis: now_millis,
        };
        session.wakes_millis = session.due_millis();
        let wakes_millis = session.wakes_millis;
        self.sessions.insert(slot, session);
        wakes_millis
    }

    pub(crate) fn session(&mut self, slot: Slot) -> Option<&mut Session> {
        self.sessions.get_mut(&slot)
    }

    pub(crate) fn is_session(&self, slot: Slot) -> bool {
        self.sessions.contains_key(&slot)
    }

    /// Keeps an answer of a session until its asker has said what became of it.
    pub(crate) fn give(&mut self, slot: Slot, given: Given) {
        self.take_given(slot);
        if let Some(session) = self.sessions.get_mut(&slot) {
            self.given_bytes += given.list.capacity() as u64;
            session.given = Some(Box::new(given));
        }
    }

    /// Takes the answer of a session that was kept.
    pub(crate) fn take_given(&mut self, slot: Slot) -> Option<Box<Given>> {
        let given = self.sessions.get_mut(&slot)?.given.take()?;
        self.given_bytes -= given.list.capacity() as u64;
        Some(given)
    }

    /// Forgets a session, if the connection is one.
    pub(crate) fn close(&mut self, slot: Slot) -> Option<Session> {
        self.take_given(slot);
        self.sessions.remove(&slot)
    }

    /// The count of [`Polls::carried`], made anew.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn counted_anew(&self) -> usize {
        let waits = |asking: &&Asking| asking.is_carried && matches!(asking.step, Step::Waiting(_));
        self.asking.values().filter(waits).count()
    }

    /// Memory in bytes of both tables and of the answers that are kept.
    pub(crate) fn held_bytes(&self) -> u64 {
        (self.asking.len() + self.sessions.len()) as u64 * ENTRY_BYTES + self.given_bytes
    }
}

const _: () = assert!(size_of::<(Slot, Asking)>() <= ENTRY_BYTES as usize / 2);
const _: () = assert!(size_of::<(Slot, Session)>() <= ENTRY_BYTES as usize / 2);
