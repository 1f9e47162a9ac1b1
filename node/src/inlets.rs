//! Where shards and the bus put what is for the server API, and for the backend.

use std::{sync::Arc, time::Instant};

use node_core::{
    api::{
        call::{Answer, Question},
        news::{Batch, Listening},
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

/// Turns of shards with events that may wait for the thread of the API. What does not fit is dropped and counted, and those who
/// listen are told.
pub const WAITING_TURNS: usize = 64;

/// What other nodes say for the API.
#[derive(Debug)]
pub enum Heard {
    /// A question to this node.
    Question(Box<Question>),
    /// An answer to one of this node's.
    Answer(Box<Answer>),
}

/// The ends into which shards put something.
#[derive(Debug, Clone)]
pub struct Outlets {
    /// Where they report what they were ordered to do.
    reports: mpsc::Sender<Box<Report>>,
    news: mpsc::Sender<Box<Batch>>,
    inquiries: mpsc::Sender<Asked>,
    /// What they are to tell without an order.
    pub listening: Arc<Listening>,
}

impl Outlets {
    /// Hands over the report of an order. The API does not wait for ever, and says that its answer is not whole.
    pub(crate) fn report(&self, report: Box<Report>) {
        self.reports.try_send(report).ok();
    }

    /// Hands over a question to the backend. The shard ends the wait itself when no answer comes.
    pub(crate) fn ask(&self, inquiry: Box<Inquiry>) {
        self.inquiries.try_send((Instant::now(), inquiry)).ok();
    }

    /// Hands over what happened in a turn.
    pub(crate) fn tell(&self, batch: Box<Batch>) {
        let events = batch.events();
        if self.news.try_send(batch).is_err() {
            self.listening.lose(events);
        }
    }
}

/// The ends that the API reads.
#[derive(Debug)]
pub struct Inlets {
    /// Reports of shards.
    pub reports: mpsc::Receiver<Box<Report>>,
    /// What happened in turns of shards.
    pub news: mpsc::Receiver<Box<Batch>>,
    /// What other nodes say.
    pub heard: mpsc::Receiver<Heard>,
}

/// The ways from the shards, the way of the bus to the API, and where they end: at the API, and at the hooks.
#[must_use]
pub fn ways() -> (Outlets, mpsc::Sender<Heard>, Inlets, mpsc::Receiver<Asked>) {
    let (reports, to_reports) = mpsc::channel(QUEUE);
    let (news, to_news) = mpsc::channel(WAITING_TURNS);
    let (heard, to_heard) = mpsc::channel(QUEUE);
    let (inquiries, asked) = mpsc::channel(QUESTIONS);
    let outlets = Outlets { reports, news, listening: Arc::default(), inquiries };
    (outlets, heard, Inlets { reports: to_reports, news: to_news, heard: to_heard }, asked)
}
