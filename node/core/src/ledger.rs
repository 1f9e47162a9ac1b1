//! The memory that clients can make a node hold: its kinds, one budget, and how the shards share it.
//!
//! A shard counts what it holds and publishes the sum. Half of the budget belongs to the shards in equal parts,
//! whatever the others hold; the other half is for the shards that need it. So one busy shard may hold more than half
//! of the budget, but never so much that a quiet one cannot serve. The topics of the registry, which all shards
//! share, come off the budget first.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::{auth::Priority, limits::MAX_SHARDS};

/// Declares the kinds of memory with their label for metrics.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident => $label:literal,)+) => {
        /// What memory is used for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Kind { $($(#[$doc])* $name,)+ }

        impl Kind {
            /// Every kind, in the order of [`Held`].
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];
            /// Number of kinds.
            pub const COUNT: usize = Self::ALL.len();

            /// The value of the label `kind` in metrics.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }
        }
    };
}

kinds! {
    /// Request heads that are not complete.
    Heads => "heads",
    /// Messages and frames that are not complete, and complete ones that wait for their turn.
    Input => "input",
    /// Frames queued to clients, each once, and the references to them.
    Queues => "queues",
    /// Broadcasts that wait for the end of a flush window.
    Windows => "windows",
    /// Messages from other shards and nodes, and messages that wait for another shard.
    Mail => "mail",
    /// TLS: handshakes, keys, and records that are not complete or not sent.
    Transport => "transport",
    /// Rooms and their members.
    Rooms => "rooms",
    /// Joined topics of connections and their refs, and what dev mode keeps of what clients say about themselves.
    Channels => "channels",
    /// Slots of connections.
    Connections => "connections",
    /// Users and rights of connections with a token.
    Identities => "identities",
    /// Messages of clients that wait for an answer of the backend.
    Hooks => "hooks",
    /// What compresses and inflates messages, and their buffers.
    Compression => "compression",
}

/// Bytes by [`Kind`].
pub type Held = [u64; Kind::COUNT];

/// Bytes of a connection: its slot, its marks and places in lists, twice, because tables grow to the double.
pub const CONNECTION_BYTES: u64 = 192;
/// Bytes of a room on a shard: its entry and its place in the table, twice, for the same reason.
pub const ROOM_BYTES: u64 = 192;
/// Bytes of a membership in its room: a place in the list of members, which may be half empty.
pub const MEMBER_BYTES: u64 = 8;
/// Bytes of a topic in the registry, besides its name and what a bus adds.
pub const TOPIC_BYTES: u64 = 96;
/// Bytes of a topic on a node with a bus: most of it the queue of its subscription (measured with 20,000).
pub const TOPIC_ON_BUS_BYTES: u64 = 5_600;
/// Bytes of an item in a mailbox beside its broadcast.
pub const MAIL_ITEM_BYTES: usize = 64;

/// A mailbox may have so many bytes whatever the budget is.
const LEAST_MAILBOX_BYTES: u64 = 256 << 10;
/// Most bytes of messages that wait in a mailbox or for the bus: without it, items with the largest frames could take
/// a gigabyte.
pub const QUEUE_BYTES: u64 = 16 << 20;

/// Most commands that wait in the NATS client for its connection, each a message or a subscription.
pub const CLIENT_QUEUE: u64 = 1_024;
/// Most topics without members that stay subscribed, about 23 MB of them. Otherwise a client that joins and leaves
/// ever new topics would fill the memory with them.
pub const LINGERING: u64 = 4_096;

/// When a shard holds this percentage of its allowance it reads less: pieces of 4 KiB, and nothing of connections
/// that do not take what they are sent.
pub(crate) const READ_LESS_PERCENT: u64 = 85;
/// At this percentage it refuses connections and joins.
const REFUSE_PERCENT: u64 = 90;
/// The same for clients of low priority, where tokens say one: when the shard begins to read less.
const REFUSE_LOW_PERCENT: u64 = 85;
/// The same, where tokens say a priority, for clients that have not said yet who they are, in handshakes and incomplete
/// requests. They may be of any priority, and what they hold must leave something to clients of high priority.
const REFUSE_UNKNOWN_PERCENT: u64 = 92;
/// The same for clients of high priority: a little before connections are closed.
const REFUSE_HIGH_PERCENT: u64 = 94;
/// At this percentage it closes connections.
const CLOSE_PERCENT: u64 = 95;
/// It closes until this percentage is left: below the others, so that closing is not needed again at once.
const RELIEVED_PERCENT: u64 = 80;
/// The percentage of the budget that topics may take before no more are opened: the rest is for the connections in
/// them.
const TOPICS_PERCENT: u64 = 50;

/// A shard that is at none of its stages refuses nobody, and one that closes connections takes none.
const _: () = assert!(REFUSE_LOW_PERCENT >= READ_LESS_PERCENT && REFUSE_HIGH_PERCENT < CLOSE_PERCENT);
/// Clients that have not said who they are leave something to those of high priority.
const _: () =
    assert!(REFUSE_PERCENT <= REFUSE_UNKNOWN_PERCENT && REFUSE_UNKNOWN_PERCENT < REFUSE_HIGH_PERCENT);

/// How near a shard is to its allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It is far from it.
    Free,
    /// It reads less.
    ReadLess,
    /// It also refuses new connections and joins.
    Refuse,
    /// It also closes the connections that hold most and take least.
    Close,
}

/// One shard's published sum, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Published(AtomicU64);

/// What each shard of a node holds, as far as it has told the others.
#[derive(Debug)]
pub struct Holdings {
    shards: AtomicU32,
    held: [Published; MAX_SHARDS as usize],
}

impl Default for Holdings {
    fn default() -> Self {
        Self { shards: AtomicU32::new(0), held: std::array::from_fn(|_| Published::default()) }
    }
}

impl Holdings {
    /// Adds one more shard that shares the budget.
    pub fn add_shard(&self) {
        self.shards.fetch_add(1, Relaxed);
    }

    /// The allowance of shard `index` under a budget of which `common` bytes are taken off first: its own part, and
    /// what the others leave of the half that is for all.
    #[must_use]
    pub fn allowance(&self, index: u8, budget: u64, common: u64) -> u64 {
        let shards = self.shards.load(Relaxed).max(1);
        let half = budget.saturating_sub(common) / 2;
        let own = half / u64::from(shards);
        let others = self.held.iter().take(shards as usize).enumerate();
        let others = others.filter(|(shard, _)| *shard != usize::from(index));
        let beyond: u64 = others.map(|(_, held)| held.0.load(Relaxed).saturating_sub(own)).sum();
        own + half.saturating_sub(beyond)
    }

    fn publish(&self, index: u8, held: u64) {
        if let Some(place) = self.held.get(usize::from(index)) {
            place.0.store(held, Relaxed);
        }
    }
}

/// The allowance of one shard, and what it holds.
#[derive(Debug)]
pub struct Ledger {
    allowance: u64,
    published: u64,
    /// After closing did not help enough, it is not tried again before so many bytes are held.
    vain_at: u64,
    highest_permille: u64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { allowance: u64::MAX, published: 0, vain_at: 0, highest_permille: 0 }
    }
}

/// `percent` of `whole`, for any `whole`.
const fn part(whole: u64, percent: u64) -> u64 {
    whole / 100 * percent
}

impl Ledger {
    /// The allowance, in bytes.
    #[must_use]
    pub const fn allowance(&self) -> u64 {
        self.allowance
    }

    /// How near `held` is to the allowance.
    #[must_use]
    pub const fn stage(&self, held: u64) -> Stage {
        if held < part(self.allowance, READ_LESS_PERCENT) {
            Stage::Free
        } else if held < part(self.allowance, REFUSE_PERCENT) {
            Stage::ReadLess
        } else if held < part(self.allowance, CLOSE_PERCENT) {
            Stage::Refuse
        } else {
            Stage::Close
        }
    }

    /// Whether a client of this priority is refused at `held`, where clients have priorities.
    #[must_use]
    pub const fn refuses(&self, held: u64, priority: Priority) -> bool {
        let percent = match priority {
            Priority::Low => REFUSE_LOW_PERCENT,
            Priority::Normal => REFUSE_PERCENT,
            Priority::High => REFUSE_HIGH_PERCENT,
        };
        held >= part(self.allowance, percent)
    }

    /// Whether a client that has not said who it is is refused at `held`, where clients have priorities.
    #[must_use]
    pub const fn refuses_unknown(&self, held: u64) -> bool {
        held >= part(self.allowance, REFUSE_UNKNOWN_PERCENT)
    }

    /// How many bytes closing leaves at most.
    #[must_use]
    pub const fn relieved(&self) -> u64 {
        part(self.allowance, RELIEVED_PERCENT)
    }

    /// Whether the bytes held have changed so much since they were published that the others should know.
    #[must_use]
    pub const fn is_stale(&self, held: u64, budget: u64) -> bool {
        held.abs_diff(self.published) > budget / 512
    }

    /// Publishes what this shard holds, and looks at what the others leave it.
    pub fn settle(&mut self, holdings: &Holdings, index: u8, held: u64, (budget, common): (u64, u64)) {
        self.published = held;
        if budget == u64::MAX {
            self.allowance = u64::MAX;
            return;
        }
        holdings.publish(index, held);
        self.allowance = holdings.allowance(index, budget, common);
        self.highest_permille = self.highest_permille.max(self.permille(held));
    }

    /// Whether closing is due at `held`: this is near enough to the budget, and closing was not just tried in vain.
    #[must_use]
    pub const fn should_relieve(&self, held: u64) -> bool {
        held >= part(self.allowance, CLOSE_PERCENT) && held >= self.vain_at
    }

    /// Records that closing has left `held` bytes. When that is still too much nothing that can be closed is left,
    /// and the next try waits until a hundredth more is held.
    pub const fn relieved_to(&mut self, held: u64) {
        self.vain_at = if held > self.relieved() { held.saturating_add(part(self.allowance, 1)) } else { 0 };
    }

    /// Lets closing be tried again after it was in vain.
    pub const fn forget_vain(&mut self) {
        self.vain_at = 0;
    }

    /// `held` in thousandths of the allowance.
    #[must_use]
    pub const fn permille(&self, held: u64) -> u64 {
        match held.checked_div(self.allowance / 1_000) {
            Some(permille) => permille,
            None => 1_000,
        }
    }

    /// The highest [`Ledger::permille`] since the last call.
    pub const fn take_highest_permille(&mut self, held: u64) -> u64 {
        let now = self.permille(held);
        let highest = if self.highest_permille > now { self.highest_permille } else { now };
        self.highest_permille = now;
        highest
    }
}

/// Most bytes of messages that may wait on their way from the shards to the bus: an eighth of the budget, at most
/// `most`.
#[must_use]
pub const fn bus_queue_bytes(budget: u64, most: u64) -> u64 {
    if budget / 8 < most { budget / 8 } else { most }
}

/// Most messages that may wait in the NATS client, which counts no bytes: as many of the longest as the bus queue has
/// bytes for. The client needs one at least, and gains nothing by more than [`CLIENT_QUEUE`].
#[must_use]
pub const fn client_queue(budget: u64, frame_bytes: u64) -> u64 {
    match bus_queue_bytes(budget, QUEUE_BYTES).checked_div(frame_bytes) {
        None | Some(0) => 1,
        Some(messages) if messages > CLIENT_QUEUE => CLIENT_QUEUE,
        Some(messages) => messages,
    }
}

/// Most topics without members that may stay subscribed: together a sixteenth of the budget, at most [`LINGERING`].
#[must_use]
pub const fn lingering(budget: u64) -> u64 {
    let topics = budget / 16 / TOPIC_ON_BUS_BYTES;
    if topics < LINGERING { topics } else { LINGERING }
}

/// Most bytes of long-poll requests and answers of other nodes of which a part has not come yet: a sixteenth of the budget,
/// at most as much as a queue.
#[must_use]
pub const fn parts_bytes(budget: u64) -> u64 {
    if budget / 16 < QUEUE_BYTES { budget / 16 } else { QUEUE_BYTES }
}

/// Bytes that a bus may hold under a budget, beside the topics with members: both of its queues when they are full of
/// the longest messages, the topics without members that stay subscribed, and with long-poll what comes in parts.
#[must_use]
pub const fn bus_bytes(budget: u64, frame_bytes: u64, long_poll: bool) -> u64 {
    let queues = bus_queue_bytes(budget, QUEUE_BYTES) + client_queue(budget, frame_bytes) * frame_bytes;
    let parts = if long_poll { parts_bytes(budget) } else { 0 };
    queues + lingering(budget) * TOPIC_ON_BUS_BYTES + parts
}

/// Bytes of messages that may wait in a shard's mailbox: together a sixteenth of the budget, each at most `most`, and
/// at least as many as the longest messages need by default.
#[must_use]
pub const fn mailbox_bytes(budget: u64, shards: u64, most: u64) -> u64 {
    let part = budget / 16 / shards;
    if part > most {
        most
    } else if part < LEAST_MAILBOX_BYTES {
        LEAST_MAILBOX_BYTES
    } else {
        part
    }
}

/// From so many bytes of topics on, no more are opened under a budget.
#[must_use]
pub const fn most_topic_bytes(budget: u64) -> u64 {
    part(budget, TOPICS_PERCENT)
}

/// The node warns when a shard holds so many thousandths of its allowance, and may warn again once it holds fewer than
/// the second number.
const WARN_PERMILLE: u64 = 800;
const CALM_PERMILLE: u64 = 700;

/// Decides when to warn that the budget is nearly used up: once, and again only after it was far from it.
#[derive(Debug, Default)]
pub struct Warning {
    warned: bool,
}

impl Warning {
    /// Takes the highest use of a shard since the last call, in thousandths. Says whether to warn now.
    pub const fn observe(&mut self, permille: u64) -> bool {
        let warn = !self.warned && permille >= WARN_PERMILLE;
        self.warned = warn || (self.warned && permille >= CALM_PERMILLE);
        warn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn holdings(held: &[u64]) -> Holdings {
        let holdings = Holdings::default();
        for (index, held) in (0..).zip(held) {
            holdings.add_shard();
            holdings.publish(index, *held);
        }
        holdings
    }

    #[test]
    fn a_busy_shard_gets_the_common_half_and_a_quiet_one_keeps_its_part() {
        let quiet = holdings(&[0, 0]);
        assert_eq!(quiet.allowance(0, 64 * MIB, 0), 48 * MIB);
        let busy = holdings(&[48 * MIB, 0]);
        assert_eq!(busy.allowance(0, 64 * MIB, 0), 48 * MIB);
        assert_eq!(busy.allowance(1, 64 * MIB, 0), 16 * MIB);
        assert_eq!(holdings(&[500 * MIB, 0]).allowance(1, 64 * MIB, 0), 16 * MIB);
        assert_eq!(holdings(&[0]).allowance(0, 64 * MIB, 0), 64 * MIB);
        assert_eq!(quiet.allowance(0, 64 * MIB, 32 * MIB), 24 * MIB, "topics come off first");
    }

    #[test]
    fn what_all_shards_may_hold_is_the_budget() {
        arbtest::arbtest(|u| {
            let budget = u.int_in_range(1..=1 << 40)?;
            let shards = u.int_in_range(1..=128usize)?;
            let table = holdings(&vec![0; shards]);
            let mut held = vec![0; shards];
            // The shards, each in turn, take all that they may.
            for _ in 0..3 * shards {
                let shard = u.int_in_range(0..=shards - 1)?;
                let allowance = table.allowance(shard as u8, budget, 0);
                assert!(allowance >= budget / 2 / shards as u64);
                held[shard] = allowance;
                table.publish(shard as u8, allowance);
                assert!(held.iter().sum::<u64>() <= budget);
            }
            Ok(())
        });
    }

    #[test]
    fn stages_follow_each_other() {
        let mut ledger = Ledger::default();
        use Stage::{Close, Free, ReadLess, Refuse};
        assert_eq!(ledger.stage(u64::MAX / 2), Free, "without a budget");
        ledger.settle(&holdings(&[0]), 0, 0, (1_000 * MIB, 0));
        let stages = [849, 850, 899, 900, 949, 950].map(|held| ledger.stage(held * MIB));
        assert_eq!(stages, [Free, ReadLess, ReadLess, Refuse, Refuse, Close]);
    }

    #[test]
    fn closing_that_does_not_help_is_not_tried_again_at_once() {
        let mut ledger = Ledger::default();
        ledger.settle(&holdings(&[0]), 0, 0, (1_000 * MIB, 0));
        assert!(ledger.should_relieve(960 * MIB));
        ledger.relieved_to(955 * MIB);
        assert!(!ledger.should_relieve(960 * MIB) && ledger.should_relieve(965 * MIB));
        ledger.relieved_to(700 * MIB);
        assert!(ledger.should_relieve(950 * MIB));
    }

    #[test]
    fn what_the_bus_may_hold_is_a_part_of_the_budget() {
        for budget in [16 * MIB, 64 * MIB, 1_024 * MIB] {
            assert!(bus_bytes(budget, 64 << 10, false) <= budget / 16 * 5, "{budget}");
            assert!(bus_bytes(budget, 64 << 10, true) <= budget / 16 * 6, "{budget}");
            let waiting = client_queue(budget, 64 << 10) * (64 << 10);
            assert!(waiting <= bus_queue_bytes(budget, QUEUE_BYTES), "{budget}");
        }
        let queues = [client_queue(u64::MAX, 1_024), client_queue(u64::MAX, 64 << 10)];
        assert_eq!(queues, [CLIENT_QUEUE, 256]);
        assert_eq!(client_queue(16 * MIB, 16 * MIB), 1, "the client needs one");
        assert_eq!([lingering(16 * MIB), lingering(u64::MAX)], [187, LINGERING]);
    }

    #[test]
    fn the_warning_has_hysteresis() {
        let mut warning = Warning::default();
        let said = [799, 800, 900, 750, 800, 699, 799, 801].map(|permille| warning.observe(permille));
        assert_eq!(said, [false, true, false, false, false, false, false, true]);
    }
}
