//! The way from the bus to the shards.
//!
//! When a mailbox is full this side waits, because a shard that is busy for a moment should cost no message.
//! Meanwhile messages pile up in the client, so the wait is bounded for the shard and not for the message: a shard
//! whose mailbox has not drained to the half for [`PATIENCE`] gets what fits and loses the rest, which is counted as
//! a gap. So the client holds at most that time of traffic, however many topics there are.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use node_core::{
    broadcast::{Broadcast, Origin},
    route::ShardMask,
    shard::Mail,
};

use super::BusState;
use crate::mailbox::ShardHandle;

/// How long the mailbox of a shard may be full before messages for it are dropped.
const PATIENCE: Duration = Duration::from_millis(100);
/// Pause between two looks at a full mailbox: nothing announces that it has room again.
const LOOK: Duration = Duration::from_millis(1);

/// One shard, and since when its mailbox has been too full.
#[derive(Debug)]
struct Inlet {
    shard: ShardHandle,
    full: AtomicBool,
    since: Mutex<Option<Instant>>,
}

impl Inlet {
    /// Forgets that the mailbox was full once it has drained.
    fn refresh(&self) {
        if self.full.load(Relaxed) && self.shard.is_half_empty() {
            self.full.store(false, Relaxed);
            *self.since.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Whether to wait for a full mailbox still.
    fn may_wait(&self, now: Instant) -> bool {
        self.full.store(true, Relaxed);
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        now.saturating_duration_since(*since.get_or_insert(now)) < PATIENCE
    }

    /// Hands over an item; returns false when the shard does not get it.
    async fn push(&self, mut item: Mail) -> bool {
        while let Err(rejected) = self.shard.push(item) {
            if !self.may_wait(Instant::now()) {
                return false;
            }
            item = rejected;
            self.shard.ring();
            tokio::time::sleep(LOOK).await;
            self.refresh();
        }
        true
    }
}

/// All shards.
#[derive(Debug)]
pub(super) struct Inbound(Vec<Inlet>);

impl Inbound {
    pub(super) fn new(shards: Vec<ShardHandle>) -> Self {
        let inlet = |shard| Inlet { shard, full: AtomicBool::new(false), since: Mutex::new(None) };
        Self(shards.into_iter().map(inlet).collect())
    }

    fn wanted(&self, wanted: ShardMask) -> impl Iterator<Item = &Inlet> {
        wanted.iter().filter_map(|shard| self.0.get(usize::from(shard)))
    }

    /// Gives a message to the shards that want its topic. Call [`Inbound::ring`] after the last one of a batch.
    pub(super) async fn deliver(
        &self,
        broadcast: &Broadcast,
        origin: Origin,
        wanted: ShardMask,
        state: &BusState,
    ) {
        let mut missed = 0;
        for inlet in self.wanted(wanted) {
            let item = Mail::Remote { broadcast: broadcast.clone(), origin };
            missed += u64::from(!inlet.push(item).await);
        }
        if missed > 0 {
            state.counts.dropped_in.fetch_add(missed, Relaxed);
            state.counts.gaps.fetch_add(1, Relaxed);
        }
    }

    /// Gives one shard something of another node; returns false when it does not get it.
    pub(super) async fn hand(&self, shard: u8, mail: Mail) -> bool {
        let Some(inlet) = self.0.get(usize::from(shard)) else { return false };
        let is_taken = inlet.push(mail).await;
        inlet.shard.ring();
        inlet.refresh();
        is_taken
    }

    /// Wakes the shards after a batch.
    pub(super) fn ring(&self, wanted: ShardMask) {
        for inlet in self.wanted(wanted) {
            inlet.shard.ring();
            inlet.refresh();
        }
    }
}

#[cfg(test)]
mod tests {
    use node_core::{
        broadcast::{Content, NodeTag},
        limits::MAX_SHARDS,
    };

    use super::*;
    use crate::mailbox::{MAILBOX_ITEMS, Mailbox, mailbox};

    const ORIGIN: Origin = Origin::Node { node: NodeTag::of(1), late: false };

    fn said(event: &str) -> Broadcast {
        Broadcast::pack(&Content::json("room:1", event, "{}")).expect("short names")
    }

    fn full() -> (Inbound, Mailbox) {
        let (handle, mailbox) = mailbox(0).expect("eventfd");
        for _ in 0..MAILBOX_ITEMS {
            handle.push(Mail::Remote { broadcast: said("early"), origin: ORIGIN }).expect("room");
        }
        (Inbound::new(vec![handle]), mailbox)
    }

    fn first() -> ShardMask {
        ShardMask::default().with(0)
    }

    #[tokio::test]
    async fn the_last_of_as_many_shards_as_can_be_is_reached() {
        let (handles, mailboxes): (Vec<_>, Vec<_>) =
            (0..MAX_SHARDS).map(|index| mailbox(index).expect("eventfd")).unzip();
        let wanted = ShardMask::default().with(3).with(MAX_SHARDS - 1);
        let state = BusState::default();
        Inbound::new(handles).deliver(&said("later"), ORIGIN, wanted, &state).await;
        let reached: Vec<_> = (0..).zip(&mailboxes).filter(|(_, mailbox)| mailbox.pop().is_some()).collect();
        assert_eq!(reached.iter().map(|(shard, _)| *shard).collect::<Vec<_>>(), [3, MAX_SHARDS - 1]);
        assert_eq!(lost(&state), (0, 0));
    }

    fn lost(state: &BusState) -> (u64, u64) {
        (state.counts.dropped_in.load(Relaxed), state.counts.gaps.load(Relaxed))
    }

    #[tokio::test]
    async fn a_full_mailbox_is_waited_for() {
        let (inbound, mailbox) = full();
        let (state, late) = (BusState::default(), said("late"));
        let drain = async {
            assert!(!inbound.0[0].shard.is_half_empty());
            assert!(inbound.0[0].full.load(Relaxed), "it does not wait");
            while mailbox.pop().is_some() {}
        };
        // The futures are polled in this order.
        tokio::join!(inbound.deliver(&late, ORIGIN, first(), &state), drain);
        assert_eq!(lost(&state), (0, 0));
        assert!(
            matches!(mailbox.pop(), Some(Mail::Remote { broadcast, origin: ORIGIN }) if broadcast == late)
        );
        inbound.ring(first());
        assert!(!inbound.0[0].full.load(Relaxed) && inbound.0[0].may_wait(Instant::now()));
    }

    #[tokio::test]
    async fn a_shard_that_stays_full_loses_messages_as_counted_gaps_and_is_waited_for_again_once_drained() {
        let (inbound, mailbox) = full();
        let state = BusState::default();
        for _ in 0..3 {
            inbound.deliver(&said("later"), ORIGIN, first().with(1), &state).await;
        }
        assert_eq!(lost(&state), (3, 3));
        drop(mailbox.pop());
        inbound.ring(first());
        inbound.deliver(&said("later"), ORIGIN, first(), &state).await;
        assert_eq!(lost(&state), (3, 3), "what fits is taken");
        assert!(!inbound.0[0].may_wait(Instant::now()), "one place is no recovery");
        while mailbox.pop().is_some() {}
        inbound.ring(first());
        assert!(inbound.0[0].may_wait(Instant::now()));
    }
}
