//! The server API: HTTP for the backend of an application, on the admin port and on a port of its own.
//!
//! Any node answers for the fleet. What concerns all of it is asked of this node and of the others at the same time, under a
//! deadline, and an answer that lacks a node says so. Nothing here runs on a shard but orders ([`node_core::api::order`]).

use std::{
    net::TcpListener,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{HeaderValue, header},
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};
use node_core::{
    api::{call::Answer, news::Listening, order::Report, request::BODY_BYTES, seen::Seen},
    broadcast::NodeTag,
    longpoll::peers::Peers,
    visitors::{BOUNDS, Bounds},
};
use shell::http::Port;
use tokio::sync::Semaphore;

use crate::{
    app::App,
    bus::fleet::Fleet,
    for_programs,
    inlets::{Heard, Inlets},
    mailbox::{BusSender, ShardHandle},
};

mod auth;
mod events;
mod figures;
mod fleet;
mod local;
mod openapi;
mod people;
pub mod problem;
mod publish;
mod read;
mod top;
mod topics;
mod waiting;

pub use openapi::document;

use events::Hub;
use waiting::Waiting;

/// Requests at a time; a further one is told to come again.
const AT_A_TIME: usize = 256;
/// Bytes of the bodies of all requests that are answered at a time.
const BODIES_BYTES: usize = 64 << 20;
/// Questions of other nodes that are answered at a time; a further one is dropped, and who asks says that its answer is not whole.
const QUESTIONS: usize = 256;
/// The bounds of the port of the API, whose clients are few and keep their connections: a backend with several processes, each
/// with a pool.
const PORT: Bounds = Bounds {
    connections: 1_024,
    per_address: 256,
    exchange_millis: 30_000,
    idle_millis: 90_000,
    streams: Some(32),
    ..BOUNDS
};

/// The server API of one node.
#[derive(Debug)]
pub struct Api {
    app: Arc<App>,
    bus: Option<BusSender>,
    fleet: Arc<Mutex<Fleet>>,
    reports: Waiting<Report>,
    answers: Waiting<Answer>,
    seen: Mutex<Seen>,
    next: AtomicU64,
    peers: Arc<Peers>,
    places: Arc<Semaphore>,
    /// In steps of [`STEP_BYTES`].
    bodies: Arc<Semaphore>,
    questions: Arc<Semaphore>,
    events: Hub,
    /// Walks over all rooms, one at a time.
    walks: tokio::sync::Mutex<()>,
}

/// The steps in which bodies are counted.
const STEP_BYTES: usize = 1_024;

impl Api {
    /// The API of a node. `bus` is the way to the others, if there are some.
    #[must_use]
    pub fn new(
        app: Arc<App>,
        bus: Option<BusSender>,
        (fleet, peers, listening): (Arc<Mutex<Fleet>>, Arc<Peers>, Arc<Listening>),
    ) -> Self {
        Self {
            app,
            bus,
            fleet,
            reports: Waiting::default(),
            answers: Waiting::default(),
            seen: Mutex::default(),
            // Nobody else on the bus is to know which numbers are waited for.
            next: AtomicU64::new(rand::random::<u64>() >> 1),
            peers,
            places: Arc::new(Semaphore::new(AT_A_TIME)),
            bodies: Arc::new(Semaphore::new(BODIES_BYTES / STEP_BYTES)),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
            events: Hub::new(listening),
            walks: tokio::sync::Mutex::default(),
        }
    }

    /// The shards of the node.
    #[must_use]
    pub fn shards(&self) -> &[ShardHandle] {
        &self.app.shards
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Relaxed)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tag(&self) -> NodeTag {
        NodeTag::of(self.app.boot_id)
    }
}

/// The routes.
pub fn router(api: Arc<Api>) -> Router {
    let guarded = Router::new()
        .route("/v1/publish", post(publish::one))
        .route("/v1/publish/batch", post(publish::batch))
        .route("/v1/topics", get(topics::list))
        .route("/v1/topics/top", get(top::rooms))
        .route("/v1/topics/{topic}", get(topics::one))
        .route("/v1/users/{user}/connections", get(people::connections))
        .route("/v1/connections/{connection}", get(people::connection))
        .route("/v1/disconnect", post(people::disconnect))
        .route("/v1/kick", post(people::kick))
        .route("/v1/refresh", post(people::refresh))
        .route("/v1/node", get(figures::node))
        .route("/v1/fleet", get(figures::fleet))
        .route("/v1/events", get(events::listen))
        .method_not_allowed_fallback(auth::other_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), auth::authorize))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), count));
    Router::new().route("/v1/openapi.json", get(openapi::serve)).merge(guarded).with_state(api)
}

/// Counts a request when it is answered.
async fn count(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    if let Some(path) = path {
        api.app.api_counts.answered(path.as_str(), response.status().as_u16());
    }
    response
}

/// No cache is to keep these answers.
async fn not_kept(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Hands over what shards and other nodes say, and serves the API at a port of its own if there are listeners; until the task is
/// dropped.
///
/// # Errors
/// When the runtime does not take a listener.
pub async fn serve(api: Arc<Api>, inlets: Inlets, listeners: Vec<TcpListener>) -> std::io::Result<()> {
    let Inlets { mut reports, news, mut heard } = inlets;
    let told = events::run(&api, news);
    let hear = async {
        loop {
            tokio::select! {
                Some(report) = reports.recv() => api.reports.answer(report.number, *report),
                Some(heard) = heard.recv() => match heard {
                    Heard::Answer(answer) => api.answers.answer(answer.number, *answer),
                    Heard::Question(question) => {
                        if let Ok(place) = Arc::clone(&api.questions).try_acquire_owned() {
                            let api = Arc::clone(&api);
                            tokio::spawn(async move {
                                api.reply(*question).await;
                                drop(place);
                            });
                        }
                    }
                },
                else => std::future::pending().await,
            }
        }
    };
    let hear = async { tokio::join!(hear, told) };
    if listeners.is_empty() {
        hear.await;
        return Ok(());
    }
    let routes = router(Arc::clone(&api))
        .fallback(auth::no_such_path)
        .layer(middleware::map_response(not_kept))
        .layer(middleware::map_response(for_programs::only));
    let port = Port::new(listeners, PORT)?;
    tokio::select! {
        _ = hear => {}
        () = port.serve(routes, std::future::pending()) => {}
    }
    Ok(())
}
