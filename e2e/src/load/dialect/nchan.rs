//! nchan's `nchan_pubsub` location over WebSocket: the upgrade itself subscribes, every text frame that the client
//! sends is a publish and every one that it gets a message. The location must begin with new messages only
//! (`nchan_subscriber_first_message newest`).

use super::{base, parameter};

pub(super) fn path(out: &mut Vec<u8>, given: &str, topic: &str) {
    base(out, given, "/pubsub");
    parameter(out, format_args!("room={topic}"));
}
