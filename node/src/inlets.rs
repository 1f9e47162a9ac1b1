//! Where shards and the bus put what is for the server API.

use std::time::Instant;

use node_core::{
    api::{
        call::{Answer, Question},
        order::Report,
    },
    backend::Inquiry,
};
use tokio::sync::mpsc;

/// Reports of shards, and messages of other nodes, that may wait for the thread of the API. What does not fit is dropped, and
/// the answer that lacks it says that it is not whole.
pub const QUEUE: usize = 4_096;

/// Questions to the backend that may wait for the thread of the hooks, of all shards. A shard ends the wait for one that does
/// not fit itself.
pub const QUESTIONS: usize = 8_192;

/// A question to the backend, and when a shard asked it.
pub type Asked = (Instant, Box<Inquiry>);

/// Where shards report what they were ordered to do.
pub type Reports = mpsc::Sender<Box<Report>>;

/// Where shards put what other threads do for them.
#[derive(Debug, Clone)]
pub struct Outlets {
    /// What the server API has ordered.
    pub reports: Reports,
    /// Questions to the backend.
    pub inquiries: mpsc::Sender<Asked>,
}

/// What other nodes say for the API.
#[derive(Debug)]
pub enum Heard {
    /// A question to this node.
    Question(Box<Question>),
    /// An answer to one of this node's.
    Answer(Box<Answer>),
}

/// The ends that the API reads.
#[derive(Debug)]
pub struct Inlets {
    /// Reports of shards.
    pub reports: mpsc::Receiver<Box<Report>>,
    /// What other nodes say.
    pub heard: mpsc::Receiver<Heard>,
}

/// The queues: the ends of the shards, the end of the bus, those that the API reads, and the one that the hooks read.
#[must_use]
pub fn queues() -> (Outlets, mpsc::Sender<Heard>, Inlets, mpsc::Receiver<Asked>) {
    let (to_api, reports) = mpsc::channel(QUEUE);
    let (from_bus, heard) = mpsc::channel(QUEUE);
    let (to_backend, inquiries) = mpsc::channel(QUESTIONS);
    (Outlets { reports: to_api, inquiries: to_backend }, from_bus, Inlets { reports, heard }, inquiries)
}
