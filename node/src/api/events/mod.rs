//! `GET /v1/events`: what happens on this node, as server-sent events (WHATWG HTML, section 9.2).
//!
//! Shards tell what happens to their connections only while a stream asks for it, in batches, before a client hears of it; what is known of
//! the node as a whole is looked at once a second. Each stream has a queue of its own, so that a slow reader holds nobody up.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use node_core::{
    admin::NodePhase,
    api::{
        keys::digest,
        news::{Batch, Listening, Sort, Sorts},
    },
};
use tokio::{
    sync::{Notify, mpsc},
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{Api, auth::Reader, problem::Problem, problem::Sort as Problems, read::Asked};
use crate::{api_counts::Counts, app::App, inlets::WAITING_TURNS, secrets, sysinfo};
use filter::{Filter, Query};
use line::Line;
use stream::Stream;
use watch::Seen;

mod filter;
mod line;
mod stream;
mod watch;

/// Streams at a time: with their queues 4 MiB, and half of the connections that one address may have at the admin port.
const EVENT_STREAMS: usize = 16;
/// How often the node as a whole is looked at, and whether the keys of those who listen are still good.
const BEAT: Duration = Duration::from_secs(1);
/// How long a node that ends waits for streams to take what it said last.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often it looks whether they have.
const LOOK: Duration = Duration::from_millis(10);

/// Those who listen.
#[derive(Debug)]
pub(super) struct Hub {
    listening: Arc<Listening>,
    state: Mutex<Listeners>,
    /// Somebody has begun to listen, or the node ends.
    called: Notify,
}

#[derive(Debug, Default)]
struct Listeners {
    streams: Vec<Arc<Stream>>,
    /// The number of the last event.
    number: u64,
    /// The node as it was looked at last, while somebody listens.
    seen: Option<Seen>,
    is_ending: bool,
}

impl Hub {
    pub(super) fn new(listening: Arc<Listening>) -> Self {
        Self { listening, state: Mutex::default(), called: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, Listeners> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_heard(&self) -> bool {
        !self.state().streams.is_empty()
    }

    /// Takes a stream in.
    fn open(&self, app: &App, stream: Stream) -> Result<Arc<Stream>, Problem> {
        let state = &mut *self.state();
        if state.is_ending {
            return Err(Problem::new(Problems::Busy, "the node ends", "listen at another node"));
        }
        if state.streams.len() >= EVENT_STREAMS {
            let detail = format!("{EVENT_STREAMS} streams of events are open already");
            return Err(Problem::new(Problems::Busy, detail, "end one of them, or try again after a second"));
        }
        if state.streams.is_empty() {
            state.seen = Some(Seen::of(app));
            // What was lost before was for others.
            self.listening.take_lost();
        }
        let stream = Arc::new(stream);
        state.streams.push(Arc::clone(&stream));
        self.ask(state, &app.api_counts);
        self.called.notify_one();
        Ok(stream)
    }

    /// Forgets a stream.
    fn close(&self, counts: &Counts, stream: &Arc<Stream>) {
        let state = &mut *self.state();
        state.streams.retain(|other| !Arc::ptr_eq(other, stream));
        self.ask(state, counts);
    }

    /// Asks shards for what somebody listens for.
    fn ask(&self, state: &Listeners, counts: &Counts) {
        counts.streaming(state.streams.len() as u64);
        let sorts = state.streams.iter().map(|stream| stream.filter.sorts);
        self.listening.listen(sorts.fold(Sorts::default(), Sorts::or));
    }
}

impl Listeners {
    /// Tells an event to those who listen for it. It is written once, and only if somebody has room for it.
    fn tell(&mut self, app: &App, sort: Sort, line: &Line<'_>) {
        self.number += 1;
        let mut frame = None;
        for stream in self.streams.iter().filter(|stream| stream.filter.passes(sort, line)) {
            let write = || line.frame(sort, app, self.number);
            if stream.push(|| frame.get_or_insert_with(write).clone()) {
                app.api_counts.told();
            } else {
                app.api_counts.lost(1);
            }
        }
    }

    /// Events of shards were lost on their way here. Nobody knows for whom they were.
    fn lose(&self, app: &App, events: u64) {
        if events == 0 {
            return;
        }
        for stream in &self.streams {
            if !stream.filter.sorts.and(Sorts::OF_SHARDS).is_empty() {
                stream.lose(events);
                app.api_counts.lost(events);
            }
        }
    }

    /// Tells what has changed about the node. True when the node has left.
    fn compare(&mut self, app: &App, after: Seen) -> bool {
        let Some(before) = self.seen.take() else { return false };
        for (sort, line) in watch::changes(&before, &after) {
            self.tell(app, sort, &Line { at_millis: sysinfo::unix_millis(), ..line });
        }
        let has_left = before.phase != NodePhase::Closed && after.phase == NodePhase::Closed;
        self.seen = Some(after);
        has_left
    }
}

impl Api {
    /// Tells what happened in a turn of a shard.
    fn deliver(&self, batch: &Batch) {
        let state = &mut *self.events.state();
        for news in &batch.news {
            state.tell(&self.app, news.what.sort(), &Line::of(news));
        }
        state.lose(&self.app, batch.lost + self.events.listening.take_lost());
    }

    /// Looks at the node, and at those who listen.
    fn look(&self) {
        let state = &mut *self.events.state();
        state.lose(&self.app, self.events.listening.take_lost());
        let has_left = state.compare(&self.app, Seen::of(&self.app));
        let now = Instant::now();
        state.streams.retain(|stream| {
            let stays =
                self.is_still_good(&stream.filter.key, stream.digest.as_deref()) && !stream.is_stalled(now);
            if !stays {
                stream.cut();
            }
            stays
        });
        if has_left {
            state.streams.iter().for_each(|stream| stream.finish());
        }
        self.events.ask(state, &self.app.api_counts);
    }

    /// The node has left, whether or not connections are left.
    fn look_last(&self) {
        let state = &mut *self.events.state();
        let mut seen = Seen::of(&self.app);
        seen.phase = NodePhase::Closed;
        state.compare(&self.app, seen);
        state.streams.iter().for_each(|stream| stream.finish());
    }

    /// Ends all streams after what they were told, and takes no more of them: the node ends. Waits until they have taken it, for
    /// [`LAST_WORDS`] at most.
    pub async fn end_events(&self) {
        self.events.state().is_ending = true;
        self.events.called.notify_one();
        let taken = async {
            while self.events.is_heard() {
                sleep(LOOK).await;
            }
        };
        timeout(LAST_WORDS, taken).await.ok();
    }
}

/// Hands over what happens to those who listen, until the task is dropped.
pub(super) async fn run(api: &Api, mut news: mpsc::Receiver<Box<Batch>>) {
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(batch) = news.recv() => api.deliver(&batch),
            _ = beat.tick(), if api.events.is_heard() => {
                // What happened before the node left is told before its end.
                for _ in 0..WAITING_TURNS {
                    let Ok(batch) = news.try_recv() else { break };
                    api.deliver(&batch);
                }
                api.look();
            }
            () = api.events.called.notified() => {
                if api.events.state().is_ending {
                    while let Ok(batch) = news.try_recv() {
                        api.deliver(&batch);
                    }
                    api.look_last();
                }
            }
        }
    }
}

/// `GET /v1/events`.
pub(super) async fn listen(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
    headers: HeaderMap,
    Asked(query): Asked<Query>,
) -> Result<Response, Problem> {
    let filter = Filter::read(query, caller.key())?;
    let digest = secrets::bearer(&headers).map(digest);
    let stream = api.events.open(&api.app, Stream::new(filter, digest))?;
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, stream::body(api, stream)).into_response())
}
