//! Asks the backend for the shards: bounded in flight, signed, in time, over connections that are kept alive.
//!
//! A shard ends each wait by itself, so what is lost here costs a client no more than its time. The thread has a task for
//! each question that the backend has; others wait in the queue, and their time goes on.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream::FuturesUnordered};
use node_core::{
    backend::{
        Decision, Inquiry, Verdict,
        breaker::{Breaker, Outcome, Ticket},
    },
    config::Hooks,
    shard::Mail,
};
use tokio::sync::mpsc;

use client::Client;

use crate::{app::App, hook_counts::Failure, inlets::Asked, mailbox::ShardHandle};

mod body;
mod client;

/// How often a backend that does not answer is told in the log.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// A question of whose time less than this part is left is not asked.
const LEAST_PART: u32 = 10;

/// The backend that is asked now.
#[derive(Default)]
struct Backend {
    url: String,
    breaker: Breaker,
}

impl Backend {
    /// What is known of one backend says nothing of another.
    fn at(&mut self, url: &str) -> &mut Breaker {
        if self.url != url {
            *self = Self { url: url.to_owned(), breaker: Breaker::default() };
        }
        &mut self.breaker
    }
}

/// Asks for as long as the node runs.
pub async fn serve(app: Arc<App>, mut inquiries: mpsc::Receiver<Asked>, secrets: PathBuf) {
    let mut client = Client::new(secrets);
    let (mut backend, mut told) = (Backend::default(), None);
    let mut under_way = FuturesUnordered::new();
    loop {
        let most = app.config.load().hooks.as_ref().map_or(1, |hooks| hooks.max_in_flight as usize);
        tokio::select! {
            next = inquiries.recv(), if under_way.len() < most => {
                let Some((at, inquiry)) = next else { return };
                // As it is now: it may have changed while nothing was asked.
                let config = app.config.load();
                match begin(&app, config.hooks.as_ref(), &mut backend, at, &inquiry) {
                    None => settle(&app.shards, &inquiry, None),
                    Some((hooks, ticket)) => {
                        let answer = client.ask(hooks, config.limits.max_frame_bytes, at, &inquiry);
                        under_way.push(async move { (answer.await, ticket, at, inquiry) });
                    }
                }
            }
            Some((answer, ticket, at, inquiry)) = under_way.next() => {
                let outcome = answer.as_ref().map_or_else(|error| error.outcome(&inquiry), |_| Outcome::There);
                backend.breaker.settle(app.now_millis(), ticket, outcome, rand::random_range(0..1_000));
                app.hook_counts.set_open(backend.breaker.is_open());
                let decision = match answer {
                    Ok(decision) => {
                        app.hook_counts.answered(u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX));
                        Some(decision)
                    }
                    Err(error) => {
                        app.hook_counts.failed(error.failure);
                        if told.is_none_or(|told: Instant| told.elapsed() >= LOG_EVERY) {
                            told = Some(Instant::now());
                            let not_asked = backend.breaker.is_open();
                            tracing::warn!(not_asked, "hooks: the backend gives no usable answer: {error}");
                        }
                        None
                    }
                };
                settle(&app.shards, &inquiry, decision);
            }
        }
    }
}

/// Whether the backend is asked: where, and the ticket of its breaker.
fn begin<'a>(
    app: &App,
    hooks: Option<&'a Hooks>,
    backend: &mut Backend,
    at: Instant,
    inquiry: &Inquiry,
) -> Option<(&'a Hooks, Ticket)> {
    let hooks = hooks?;
    let within = Duration::from_millis(inquiry.within_millis);
    // With little time left the backend would do something for nothing. It is not to blame for the wait either.
    if at.elapsed() + within / LEAST_PART > within {
        app.hook_counts.failed(Failure::Timeout);
        return None;
    }
    let breaker = backend.at(&hooks.url);
    let ticket = breaker.may_ask(app.now_millis());
    app.hook_counts.set_open(breaker.is_open());
    if ticket.is_none() {
        app.hook_counts.failed(Failure::Open);
    }
    ticket.map(|ticket| (hooks, ticket))
}

/// Tells the shard, which takes a verdict however full its mailbox is.
fn settle(shards: &[ShardHandle], inquiry: &Inquiry, decision: Option<Decision>) {
    let Inquiry { connection, number, .. } = inquiry;
    let verdict = Verdict { connection: *connection, number: *number, decision };
    if let Some(shard) = shards.get(usize::from(connection.shard)) {
        shard.send(Mail::Verdict(Box::new(verdict))).ok();
    }
}
