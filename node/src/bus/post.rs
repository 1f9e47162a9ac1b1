//! Questions and answers of the server API between nodes.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use async_nats::{Message, Subscriber};
use futures::StreamExt;
use node_core::{
    api::call::{Answer, DEADLINE_MILLIS, Question, VERSION},
    bus::{LETTER_BYTES, Letter, To},
};

use super::{link::Link, subjects};
use crate::inlets::Heard;

/// The subject that a letter goes to.
pub(super) fn subject(letter: &Letter, link: &Link) -> String {
    match letter.to {
        To::All => subjects::questions(&link.cluster),
        To::Node(node) => subjects::question(&link.cluster, node),
        To::Asker(node) => subjects::answer(&link.cluster, node),
    }
}

/// Takes the questions that are for all nodes.
pub(super) async fn hear(mut subscriber: Subscriber, link: Arc<Link>) {
    while let Some(message) = subscriber.next().await {
        take(&message, subjects::Kind::Question, &link);
    }
}

/// Takes one question or answer; one that the API has no room for is dropped, and who asks says that its answer is not whole.
pub(super) fn take(message: &Message, kind: subjects::Kind, link: &Link) {
    let Some(heard) = read(&message.payload, kind, link) else {
        link.state.counts.malformed.fetch_add(1, Relaxed);
        return;
    };
    if let Heard::Question(question) = &heard
        && link.age(question.from, question.sent_millis) > DEADLINE_MILLIS
    {
        return; // nobody waits for it any more
    }
    link.api.try_send(heard).ok();
}

fn read(bytes: &[u8], kind: subjects::Kind, link: &Link) -> Option<Heard> {
    let heard = match kind {
        subjects::Kind::Answer => {
            let answer: Answer = serde_json::from_slice(bytes).ok()?;
            (answer.version, Heard::Answer(Box::new(answer)))
        }
        subjects::Kind::Question | subjects::Kind::Carried => {
            let question: Question = serde_json::from_slice(bytes).ok()?;
            if question.from == link.boot_id {
                return None; // what one says does not come back to it
            }
            (question.version, Heard::Question(Box::new(question)))
        }
    };
    (heard.0 == VERSION).then_some(heard.1)
}

/// Whether a letter is so short that the bus takes it.
pub(super) const fn fits(letter: &Letter) -> bool {
    letter.bytes.len() <= LETTER_BYTES
}
