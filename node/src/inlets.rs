//! Where shards and the bus put what is for the server API.

use node_core::api::{
    call::{Answer, Question},
    order::Report,
};
use tokio::sync::mpsc;

/// Reports of shards, and messages of other nodes, that may wait for the thread of the API. What does not fit is dropped, and
/// the answer that lacks it says that it is not whole.
pub const QUEUE: usize = 4_096;

/// Where shards report what they were ordered to do.
pub type Reports = mpsc::Sender<Box<Report>>;

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
