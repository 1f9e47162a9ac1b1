//! One shard as a state machine: connections, rooms and queues, without a socket or a clock.
//!
//! The thread around it begins a turn ([`Shard::begin_turn`]), tells what happened ([`Shard::handle`], [`Shard::accept`]),
//! lets pass what is due ([`Shard::handle_timeout`]), hands over input ([`Shard::on_data`]), writes each connection that
//! [`Shard::next_flush`] names, and ends the turn ([`Shard::end_turn`]). Whatever else is to be done it finds in
//! [`Shard::take_effects`]. Between turns it sleeps until [`Shard::next_deadline`].
//!
//! The files below each other: `state` is what a shard is made of; `ending`, `say`, `window` and `goodbye` are what a
//! connection and a room do, each using those before it; `memory`, `pace`, `tick`, `dispatch` and `input` decide on them;
//! `driver` is the outside.

mod dispatch;
mod driver;
mod ending;
mod event;
mod gauge;
mod goodbye;
mod input;
mod intake;
mod memory;
mod pace;
mod say;
mod state;
mod tick;
mod timers;
mod window;

// The fuzz targets drive the shard with the harness of its tests.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod tests;

pub use event::{Effect, Event, Progress, Times};
pub use state::{Places, Shard, ShardOptions};
