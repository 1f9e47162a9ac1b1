//! What a shard sends to other shards and to the bus, once in a turn before it writes its own connections and once at
//! the end: one item per publish and interested shard, one wake per shard.
//!
//! A full mailbox loses nothing: items wait here, and while too many wait the shard reads no more from its sockets, so
//! that the pressure reaches the publishers. It goes on taking its own mail meanwhile, hence two shards never wait for
//! each other. The bus has no such hold on clients, see `to_bus`.

use std::collections::VecDeque;

use node_core::{
    broadcast::Origin,
    bus::Command,
    ledger::MAIL_ITEM_BYTES,
    longpoll::Carried,
    shard::{Mail, Outgoing},
};

use crate::{
    inlets::Outlets,
    mailbox::{BusSender, ShardHandle},
    to_bus::ToBus,
};

/// Items waiting for one shard from which on the sockets are no longer read.
const PRESSED_ITEMS: usize = 4_096;
/// Their bytes from which on the sockets are no longer read.
const PRESSED_BYTES: usize = 4 << 20;

/// The ways from one shard to the other shards and the bus.
#[derive(Debug)]
pub(crate) struct Links {
    shards: Vec<Peer>,
    bus: Option<ToBus>,
    outlets: Outlets,
}

#[derive(Debug)]
struct Peer {
    handle: ShardHandle,
    waiting: VecDeque<Mail>,
    waiting_bytes: usize,
    pushed: bool,
}

impl Peer {
    fn push(&mut self, item: Mail) {
        if self.waiting.is_empty() {
            match self.handle.push(item) {
                Ok(()) => self.pushed = true,
                Err(item) => self.wait(item),
            }
        } else {
            self.wait(item);
        }
    }

    fn wait(&mut self, item: Mail) {
        self.waiting_bytes += item.message_bytes().unwrap_or(0);
        self.waiting.push_back(item);
    }

    fn is_pressed(&self) -> bool {
        self.waiting.len() >= PRESSED_ITEMS || self.waiting_bytes >= PRESSED_BYTES
    }

    fn retry(&mut self) {
        while let Some(item) = self.waiting.pop_front() {
            let bytes = item.message_bytes().unwrap_or(0);
            match self.handle.push(item) {
                Ok(()) => {
                    self.pushed = true;
                    self.waiting_bytes -= bytes;
                }
                Err(item) => {
                    self.waiting.push_front(item);
                    return;
                }
            }
        }
    }
}

/// Something that the bus had no room for.
#[derive(Debug)]
pub(crate) enum Untold {
    /// A publish, which other nodes miss.
    Lost,
    /// A long-poll request or an answer.
    NotCarried(Box<Carried>),
}

impl Links {
    pub(crate) fn new(shards: Vec<ShardHandle>, bus: Option<BusSender>, outlets: Outlets) -> Self {
        let peer = |handle| Peer { handle, waiting: VecDeque::new(), waiting_bytes: 0, pushed: false };
        let shards = shards.into_iter().map(peer).collect();
        Self { shards, bus: bus.map(ToBus::new), outlets }
    }

    /// How many send to this shard: the other shards, and the bus. At least 1.
    pub(crate) fn feeders(&self) -> u64 {
        (self.shards.len() as u64 - 1 + u64::from(self.bus.is_some())).max(1)
    }

    /// Whether so much waits that the sockets should not be read.
    pub(crate) fn is_pressed(&self) -> bool {
        self.bus.as_ref().is_some_and(|bus| bus.interest_waiting() >= PRESSED_ITEMS)
            || self.shards.iter().any(Peer::is_pressed)
    }

    /// Memory in bytes of the messages that wait for other shards.
    pub(crate) fn held_bytes(&self) -> usize {
        let of = |peer: &Peer| peer.waiting_bytes + peer.waiting.len() * MAIL_ITEM_BYTES;
        self.shards.iter().map(of).sum()
    }

    /// Lets messages wait in mailboxes and for the bus up to their part of a memory budget in bytes.
    pub(crate) fn bound(&self, budget: Option<u64>) {
        let shards = self.shards.len() as u64;
        self.shards.iter().for_each(|peer| peer.handle.bound(budget, shards));
        self.bus.iter().for_each(|bus| bus.bound(budget));
    }

    /// Whether anything waits for another turn.
    pub(crate) fn is_waiting(&self) -> bool {
        self.bus.as_ref().is_some_and(ToBus::is_waiting)
            || self.shards.iter().any(|peer| !peer.waiting.is_empty())
    }

    /// Sends what waited since a turn before, ahead of what comes now.
    pub(crate) fn retry(&mut self) {
        if self.is_waiting() {
            self.shards.iter_mut().for_each(Peer::retry);
            self.bus.iter_mut().for_each(ToBus::retry);
        }
    }

    /// Sends to other shards and to the bus.
    ///
    /// # Errors
    /// When the bus has no room for it.
    pub(crate) fn tell(&mut self, outgoing: Outgoing) -> Result<(), Untold> {
        match outgoing {
            Outgoing::Publish { topic, broadcast, shards, nodes } => {
                for shard in shards.iter() {
                    if let Some(peer) = self.shards.get_mut(usize::from(shard)) {
                        peer.push(Mail::Remote { broadcast: broadcast.clone(), origin: Origin::Shard });
                    }
                }
                if nodes { self.push(Command::Publish { topic, broadcast }) } else { Ok(()) }
            }
            Outgoing::Deliver { shard, mail } => {
                if let Some(peer) = self.shards.get_mut(usize::from(shard)) {
                    peer.push(mail);
                }
                Ok(())
            }
            Outgoing::Carry(carried) => match &mut self.bus {
                Some(bus) => bus.carry(carried).map_err(Untold::NotCarried),
                None => Err(Untold::NotCarried(carried)),
            },
            Outgoing::Report(report) => {
                self.outlets.report(report);
                Ok(())
            }
            Outgoing::News(batch) => {
                self.outlets.tell(batch);
                Ok(())
            }
            Outgoing::Inquire(inquiry) => {
                self.outlets.ask(inquiry);
                Ok(())
            }
            Outgoing::Interest(topic) => self.push(Command::Interest { topic }),
        }
    }

    fn push(&mut self, command: Command) -> Result<(), Untold> {
        let is_taken = self.bus.as_mut().is_none_or(|bus| bus.push(command));
        if is_taken { Ok(()) } else { Err(Untold::Lost) }
    }

    /// Wakes the shards and the bus that something was sent to.
    pub(crate) fn ring(&mut self) {
        for peer in &mut self.shards {
            if std::mem::take(&mut peer.pushed) {
                peer.handle.ring();
            }
        }
        self.bus.iter_mut().for_each(ToBus::ring);
    }
}
