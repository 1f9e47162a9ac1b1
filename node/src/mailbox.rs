//! How other threads reach a shard, and how shards reach the bus.
//!
//! A shard has one bounded queue and one eventfd in its own epoll. A sender pushes its items and then rings once; the
//! eventfd is written only when the shard sleeps, because the wake costs microseconds and the item nanoseconds.
//! The eventfd exists before any shard splits its descriptor table, so its number is the same in all of them.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crossbeam_queue::ArrayQueue;
pub use node_core::route::Topic;
use node_core::{
    bus::Command,
    ledger::{self, MAIL_ITEM_BYTES},
    shard::Mail,
};
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::Notify;

use crate::stats::ShardStats;

pub mod sleep;

use sleep::Sleep;

/// Items a shard's mailbox holds: at 100,000 publishes/s 160 ms of a stalled shard, in 1 MiB. What does not fit waits with
/// the sender: between shards without loss, from the bus for a moment.
pub const MAILBOX_ITEMS: usize = 16_384;
/// Items the bus queue holds, in 1 MiB.
pub const BUS_QUEUE_ITEMS: usize = 16_384;

/// Bytes of messages in a mailbox or the bus queue from which on it counts as full; less when the memory budget is small, see
/// [`ShardHandle::bound`].
pub const QUEUE_BYTES: usize = ledger::QUEUE_BYTES as usize;
/// Orders a shard's mailbox holds beside the items: a flood of messages delays none and refuses none.
const ORDERS: usize = 64;

/// A queue bounded in items and in bytes. One item passes whatever its size.
#[derive(Debug)]
struct Bounded<T> {
    items: ArrayQueue<T>,
    bytes: AtomicUsize,
    /// Bytes from which on it is full.
    most: AtomicUsize,
}

impl<T> Bounded<T> {
    fn new(items: usize) -> Self {
        const { assert!(size_of::<T>() + size_of::<usize>() <= MAIL_ITEM_BYTES, "an item with its stamp") };
        let (bytes, most) = (AtomicUsize::new(0), AtomicUsize::new(QUEUE_BYTES));
        Self { items: ArrayQueue::new(items), bytes, most }
    }

    fn bound(&self, most: u64) {
        self.most.store(usize::try_from(most).unwrap_or(QUEUE_BYTES), Ordering::Relaxed);
    }

    fn held_bytes(&self) -> usize {
        self.items.len() * MAIL_ITEM_BYTES + self.bytes.load(Ordering::Relaxed)
    }

    fn push(&self, item: T, bytes: usize) -> Result<(), T> {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let full = bytes > 0 && before >= self.most.load(Ordering::Relaxed);
        let pushed = if full { Err(item) } else { self.items.push(item) };
        if pushed.is_err() {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        pushed
    }

    fn is_half_empty(&self) -> bool {
        self.items.len() <= self.items.capacity() / 2
            && self.bytes.load(Ordering::Relaxed) <= self.most.load(Ordering::Relaxed) / 2
    }

    fn pop(&self, bytes: impl FnOnce(&T) -> usize) -> Option<T> {
        let item = self.items.pop()?;
        self.bytes.fetch_sub(bytes(&item), Ordering::Relaxed);
        Some(item)
    }
}

#[derive(Debug)]
struct Shared {
    orders: ArrayQueue<Mail>,
    messages: Bounded<Mail>,
    sleep: Sleep,
    wake: OwnedFd,
    stats: ShardStats,
    index: u8,
    #[cfg(test)]
    failing: std::sync::atomic::AtomicBool,
}

/// The sending side of a shard, for any thread.
#[derive(Debug, Clone)]
pub struct ShardHandle(Arc<Shared>);

/// The shard's own side of its mailbox.
#[derive(Debug)]
pub struct Mailbox(Arc<Shared>);

/// Makes the mailbox of shard `index`.
///
/// # Errors
/// When the kernel gives no eventfd (descriptor limit or memory).
pub fn mailbox(index: u8) -> std::io::Result<(ShardHandle, Mailbox)> {
    let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
    let shared = Arc::new(Shared {
        orders: ArrayQueue::new(ORDERS),
        messages: Bounded::new(MAILBOX_ITEMS),
        sleep: Sleep::default(),
        wake,
        stats: ShardStats::default(),
        index,
        #[cfg(test)]
        failing: false.into(),
    });
    Ok((ShardHandle(Arc::clone(&shared)), Mailbox(shared)))
}

impl ShardHandle {
    /// Pushes without waking. Call [`ShardHandle::ring`] after the last item of a batch.
    ///
    /// # Errors
    /// Gives the item back when the mailbox is full.
    pub fn push(&self, mail: Mail) -> Result<(), Mail> {
        match mail.message_bytes() {
            Some(bytes) => self.0.messages.push(mail, bytes),
            None => self.0.orders.push(mail),
        }
    }

    /// Wakes the shard if it sleeps.
    pub fn ring(&self) {
        if self.0.sleep.is_to_be_woken() {
            // EAGAIN means that the counter is already high, so the shard is already woken.
            rustix::io::write(&self.0.wake, &1u64.to_ne_bytes()).ok();
        }
    }

    /// Pushes one item and wakes the shard.
    ///
    /// # Errors
    /// Gives the item back when the mailbox is full.
    pub fn send(&self, mail: Mail) -> Result<(), Mail> {
        let pushed = self.push(mail);
        self.ring();
        pushed
    }

    /// Lets messages wait for the shard up to its part of a memory budget in bytes.
    pub fn bound(&self, budget: Option<u64>, shards: u64) {
        let budget = budget.unwrap_or(u64::MAX);
        self.0.messages.bound(ledger::mailbox_bytes(budget, shards, ledger::QUEUE_BYTES));
    }

    /// Whether the messages fill at most half of the mailbox, in items and in bytes.
    #[must_use]
    pub fn is_half_empty(&self) -> bool {
        self.0.messages.is_half_empty()
    }

    /// Position of the shard, from 0.
    #[must_use]
    pub fn index(&self) -> u8 {
        self.0.index
    }

    /// Makes the shard panic when it takes its next order.
    #[cfg(test)]
    pub(crate) fn fail(&self) {
        self.0.failing.store(true, Ordering::Release);
        self.send(Mail::Drain(node_core::drain::DrainOrder::Stop)).expect("room for an order");
    }

    /// What the shard counted.
    #[must_use]
    pub fn stats(&self) -> &ShardStats {
        &self.0.stats
    }
}

impl Mailbox {
    /// The next item, if any; orders overtake messages.
    #[must_use]
    pub fn pop(&self) -> Option<Mail> {
        let message = || self.0.messages.pop(|item| item.message_bytes().unwrap_or(0));
        self.pop_order().or_else(message)
    }

    /// Memory in bytes of the messages that wait.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.0.messages.held_bytes()
    }

    /// The next order, if any, with all messages left where they are.
    #[must_use]
    pub fn pop_order(&self) -> Option<Mail> {
        #[cfg(test)]
        assert!(!self.0.failing.load(Ordering::Acquire), "deliberate");
        self.0.orders.pop()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.messages.items.is_empty() && self.0.orders.is_empty()
    }

    /// Announces sleep. Returns false, and stays awake, when something arrived meanwhile.
    #[must_use]
    pub fn prepare_to_sleep(&self) -> bool {
        self.0.sleep.begin(|| self.is_empty())
    }

    /// Ends the announced sleep.
    pub fn awake(&self) {
        self.0.sleep.end();
    }

    /// Empties the eventfd after it was reported readable.
    pub fn acknowledge_wake(&self) {
        let mut counter = [0u8; 8];
        // EAGAIN: another turn already took it.
        rustix::io::read(&self.0.wake, &mut counter[..]).ok();
    }

    /// What the shard publishes about itself.
    #[must_use]
    pub fn stats(&self) -> &ShardStats {
        &self.0.stats
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.wake.as_fd()
    }
}

#[derive(Debug)]
struct BusQueue {
    queue: Bounded<Command>,
    notify: Notify,
}

/// The sending side of the bus queue. The bus thread's runtime must exist before the shards start (`threads`).
#[derive(Debug, Clone)]
pub struct BusSender(Arc<BusQueue>);

/// The bus thread's side of the queue.
#[derive(Debug)]
pub struct BusReceiver(Arc<BusQueue>);

/// Makes the queue from the shards to the bus.
#[must_use]
pub fn bus_queue() -> (BusSender, BusReceiver) {
    let queue = Arc::new(BusQueue { queue: Bounded::new(BUS_QUEUE_ITEMS), notify: Notify::new() });
    (BusSender(Arc::clone(&queue)), BusReceiver(queue))
}

impl BusSender {
    /// Pushes without waking. Call [`BusSender::ring`] after the last item of a batch.
    ///
    /// # Errors
    /// Gives the command back when the queue is full.
    pub fn push(&self, command: Command) -> Result<(), Command> {
        let bytes = command.bytes();
        self.0.queue.push(command, bytes)
    }

    /// Lets messages wait for the bus up to its part of a memory budget in bytes.
    pub fn bound(&self, budget: Option<u64>) {
        let budget = budget.unwrap_or(u64::MAX);
        self.0.queue.bound(ledger::bus_queue_bytes(budget, ledger::QUEUE_BYTES));
    }

    /// Wakes the bus thread.
    pub fn ring(&self) {
        self.0.notify.notify_one();
    }
}

impl BusReceiver {
    /// The next command without waiting, if any.
    #[must_use]
    pub fn try_recv(&self) -> Option<Command> {
        self.0.queue.pop(Command::bytes)
    }

    /// Waits for the next command. Safe to cancel.
    pub async fn recv(&self) -> Command {
        loop {
            if let Some(command) = self.try_recv() {
                return command;
            }
            self.0.notify.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use node_core::broadcast::{Broadcast, Kind, Origin};

    use super::*;

    #[test]
    fn an_item_pushed_before_sleep_prevents_it() {
        let (handle, mailbox) = mailbox(0).expect("eventfd");
        handle.push(Mail::Shutdown).expect("room");
        assert!(!mailbox.prepare_to_sleep());
        assert!(matches!(mailbox.pop(), Some(Mail::Shutdown)));
        assert!(mailbox.prepare_to_sleep());
    }

    #[test]
    fn a_ring_is_written_only_to_a_sleeper_and_once() {
        let (handle, mailbox) = mailbox(0).expect("eventfd");
        let mut counter = [0u8; 8];
        handle.ring();
        assert_eq!(rustix::io::read(&mailbox, &mut counter[..]), Err(rustix::io::Errno::AGAIN));
        assert!(mailbox.prepare_to_sleep());
        handle.ring();
        handle.ring();
        assert_eq!(rustix::io::read(&mailbox, &mut counter[..]), Ok(8));
        assert_eq!(u64::from_ne_bytes(counter), 1);
    }

    fn remote(bytes: usize) -> Mail {
        Mail::Remote { broadcast: said(bytes), origin: Origin::Shard }
    }

    fn said(bytes: usize) -> Broadcast {
        Broadcast { kind: Kind::Binary, topic_bytes: 1, event_bytes: 0, bytes: vec![b'x'; bytes].into() }
    }

    #[test]
    fn a_full_mailbox_gives_the_item_back_and_still_takes_orders() {
        let (handle, mailbox) = mailbox(0).expect("eventfd");
        for _ in 0..MAILBOX_ITEMS {
            handle.push(remote(1)).expect("room");
        }
        assert!(handle.push(remote(1)).is_err());
        handle.push(Mail::Shutdown).expect("room");
        assert!(matches!(mailbox.pop(), Some(Mail::Shutdown)), "it waited behind the messages");
        assert!(matches!(mailbox.pop(), Some(Mail::Remote { .. })));
        handle.push(remote(1)).expect("room");
    }

    #[test]
    fn large_messages_fill_a_queue_before_its_items_do() {
        const BYTES: usize = 64 * 1024;
        let (handle, mailbox) = mailbox(0).expect("eventfd");
        let (bus, receiver) = bus_queue();
        let publish = || Command::Publish { topic: "room:1".into(), broadcast: said(BYTES) };
        for _ in 0..2 {
            let taken = (0..MAILBOX_ITEMS).take_while(|_| handle.push(remote(BYTES)).is_ok()).count();
            let sent = (0..BUS_QUEUE_ITEMS).take_while(|_| bus.push(publish()).is_ok()).count();
            assert_eq!((taken, sent), (QUEUE_BYTES / BYTES, QUEUE_BYTES / BYTES));
            bus.push(Command::Interest { topic: "room:1".into() }).expect("interest has no bytes");
            while mailbox.pop().is_some() || receiver.try_recv().is_some() {}
        }
    }
}
