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
    backend::{Decision, Inquiry, Verdict, breaker::Breaker},
    shard::Mail,
};
use tokio::sync::mpsc;

use client::Client;

use crate::{app::App, hook_counts::Failure, inlets::Asked, mailbox::ShardHandle};

mod body;
mod client;

/// How often a backend that does not answer is told in the log.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Asks for as long as the node runs.
pub async fn serve(app: Arc<App>, mut inquiries: mpsc::Receiver<Asked>, secrets: PathBuf) {
    let mut client = Client::new(secrets);
    let (mut breaker, mut told) = (Breaker::default(), None);
    let mut under_way = FuturesUnordered::new();
    loop {
        let config = app.config.load();
        let most = config.hooks.as_ref().map_or(1, |hooks| hooks.max_in_flight as usize);
        tokio::select! {
            next = inquiries.recv(), if under_way.len() < most => {
                let Some((at, inquiry)) = next else { return };
                let Some(hooks) = &config.hooks else {
                    settle(&app.shards, &inquiry, None);
                    continue;
                };
                if breaker.may_ask(app.now_millis()) {
                    let answer = client.ask(hooks, config.limits.max_frame_bytes, at, &inquiry);
                    under_way.push(async move { (answer.await, at, inquiry) });
                } else {
                    app.hook_counts.failed(Failure::Open);
                    settle(&app.shards, &inquiry, None);
                }
            }
            Some((answer, at, inquiry)) = under_way.next() => {
                breaker.answered(app.now_millis(), answer.is_ok(), rand::random_range(0..1_000));
                app.hook_counts.set_open(breaker.is_open());
                let decision = match answer {
                    Ok(decision) => {
                        app.hook_counts.answered(u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX));
                        Some(decision)
                    }
                    Err(error) => {
                        app.hook_counts.failed(error.failure);
                        if told.is_none_or(|told: Instant| told.elapsed() >= LOG_EVERY) {
                            told = Some(Instant::now());
                            tracing::warn!(not_asked = breaker.is_open(), "hooks: the backend gives no usable answer: {error}");
                        }
                        None
                    }
                };
                settle(&app.shards, &inquiry, decision);
            }
        }
    }
}

/// Tells the shard. One whose mailbox is full ends the wait itself.
fn settle(shards: &[ShardHandle], inquiry: &Inquiry, decision: Option<Decision>) {
    let Inquiry { connection, number, .. } = inquiry;
    let verdict = Verdict { connection: *connection, number: *number, decision };
    if let Some(shard) = shards.get(usize::from(connection.shard)) {
        shard.send(Mail::Verdict(Box::new(verdict))).ok();
    }
}
