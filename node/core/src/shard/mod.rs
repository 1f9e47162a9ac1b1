//! One shard as a state machine: connections, rooms and queues, without a socket or a clock.
//!
//! The thread around it begins a turn ([`Shard::begin_turn`]), reports events ([`Shard::handle`], [`Shard::accept`]),
//! handles the deadlines that have come ([`Shard::handle_timeout`]), hands over input ([`Shard::on_data`]), writes
//! each connection that [`Shard::next_flush`] names, and ends the turn ([`Shard::end_turn`]). All other things that
//! it has to do are in [`Shard::take_effects`]. Between turns it sleeps until [`Shard::next_deadline`].
//!
//! The files from below to above: `state` has the parts of a shard; `ending`, `say`, `window`, `hooks`, `channel` and
//! `goodbye` are the actions of a connection and a room, each using the ones before it; `lengths`, `memory`, `pace`, `identity`,
//! `tick`, `moving`, `orders`, `top`, `dev`, `dispatch` and `input` decide which actions are taken; `polled` and `asking` are the
//! two sides of long-poll, and `carried` has what these do when they are on different nodes; `driver` is what the thread calls.

mod asking;
mod backend;
mod bounds;
mod by_policy;
mod carried;
mod channel;
mod dev;
mod dispatch;
mod driver;
mod ending;
mod event;
mod gauge;
mod goodbye;
mod hooks;
mod identity;
mod input;
mod inquiries;
mod intake;
mod lately;
mod lengths;
mod memory;
mod moving;
mod news;
mod orders;
mod origin;
mod pace;
mod polled;
mod realtime;
mod say;
mod state;
mod tick;
mod timers;
mod top;
mod window;

// The fuzz targets drive the shard with the harness of its tests.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod tests;

pub use by_policy::{ByPolicy, PolicyCounts};
pub use event::{Accepted, Effect, Event, Mail, Outgoing, Progress, Times};
pub use lately::{Latencies, Recent};
pub use state::{Places, Shard, ShardOptions};
