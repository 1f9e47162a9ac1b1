//! Requests of long-poll for sessions of other nodes, and their answers.
//!
//! A node subscribes to one subject for all of them, and NATS keeps the order of what one node sends to another. A request
//! has a subject for replies, on which NATS itself tells at once when nobody listens, so that the client of a node that has
//! ended learns it without waiting. Answers go to the subject of the node that asked. Nothing is remembered here of
//! requests under way: the shards do, each for its own clients, and bound the time.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use async_nats::{Message, StatusCode, Subscriber};
use futures::StreamExt;
use node_core::{
    limits::{CARRIED_AGE_MILLIS, CARRIED_MILLIS},
    longpoll::{
        Carried,
        parcel::{Parcel, Parts},
    },
    shard::Mail,
};

use super::{link::Link, post, subjects};

/// Most bytes of a request or an answer in one message; less where clients' messages are shorter, because the queue of the
/// client has room for as many of the longest of these. Every NATS takes that much.
pub(super) const PART_BYTES: usize = 256 * 1024;

/// The shard that something is for.
fn shard(carried: &Carried) -> u8 {
    match carried {
        Carried::Ask(ask) => ask.token.session().shard,
        Carried::Answer(answer) => answer.to.shard,
    }
}

/// Gives something back to the shard that wanted it carried.
pub(super) async fn give_back(carried: Carried, link: &Link) {
    let from = match &carried {
        Carried::Ask(ask) => ask.from.shard,
        Carried::Answer(answer) => answer.token.session().shard,
    };
    // A shard that does not take it either gives up in time.
    link.shards.hand(from, Mail::NotCarried(Box::new(carried))).await;
}

/// Takes what other nodes carry here.
pub(super) async fn hear(mut subscriber: Subscriber, link: Arc<Link>) {
    let mut parts = Parts::default();
    while let Some(message) = subscriber.next().await {
        let kind = subjects::kind(&message.subject);
        if kind != subjects::Kind::Carried {
            post::take(&message, kind, &link);
        } else if let Some((shard, mail)) = open(&message, &mut parts, &link)
            && !link.shards.hand(shard, mail).await
        {
            link.state.counts.dropped_in.fetch_add(1, Relaxed);
        }
    }
}

/// What a message says to a shard; none when a part of it is missing, it came too late or it cannot be read.
fn open(message: &Message, parts: &mut Parts, link: &Link) -> Option<(u8, Mail)> {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        let asker = subjects::asker(&message.subject)?;
        return Some((asker.shard, Mail::NobodyThere(asker)));
    }
    let counts = &link.state.counts;
    let malformed = |error| {
        counts.malformed.fetch_add(1, Relaxed);
        tracing::debug!(%error, "a long-poll request on the bus is given to nobody");
    };
    let parcel = Parcel::decode(&message.payload).map_err(malformed).ok()?;
    let now = link.state.clock_millis();
    parts.expire(now, CARRIED_MILLIS);
    if link.age(parcel.from, parcel.sent_millis) > CARRIED_AGE_MILLIS && parcel.asks() {
        counts.carried_late.fetch_add(1, Relaxed);
        return None;
    }
    let carried = parts.take(&parcel, now, link.parts_bytes).map_err(malformed).ok()??;
    let shard = shard(&carried);
    Some((
        shard,
        match carried {
            Carried::Ask(ask) => Mail::Ask(Box::new(ask)),
            Carried::Answer(answer) => Mail::Answer(Box::new(answer)),
        },
    ))
}
