//! What the server API counts: requests by route and status, publications, and events that are told.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The routes, as metrics name them.
pub const ROUTES: [&str; 13] = [
    "/v1/publish",
    "/v1/publish/batch",
    "/v1/topics",
    "/v1/topics/top",
    "/v1/topics/{topic}",
    "/v1/users/{user}/connections",
    "/v1/connections/{connection}",
    "/v1/disconnect",
    "/v1/kick",
    "/v1/refresh",
    "/v1/node",
    "/v1/fleet",
    "/v1/events",
];

/// The classes of statuses.
const CLASSES: [&str; 3] = ["2xx", "4xx", "5xx"];

/// The counters.
#[derive(Debug, Default)]
pub struct Counts {
    requests: [[AtomicU64; CLASSES.len()]; ROUTES.len()],
    published: AtomicU64,
    streams: AtomicU64,
    told: AtomicU64,
    lost: AtomicU64,
}

impl Counts {
    /// Counts an answer to a request for this route with this status.
    pub fn answered(&self, route: &str, status: u16) {
        let class = match status {
            200..=299 => 0,
            500.. => 2,
            _ => 1,
        };
        if let Some(route) = ROUTES.iter().position(|known| *known == route) {
            self.requests[route][class].fetch_add(1, Relaxed);
        }
    }

    /// Counts a publication to one topic.
    pub fn published(&self) {
        self.published.fetch_add(1, Relaxed);
    }

    /// Publications so far, one for each topic.
    pub fn publications(&self) -> u64 {
        self.published.load(Relaxed)
    }

    /// Sets how many streams of events are open.
    pub fn streaming(&self, streams: u64) {
        self.streams.store(streams, Relaxed);
    }

    /// Counts an event that was queued for one stream.
    pub fn told(&self) {
        self.told.fetch_add(1, Relaxed);
    }

    /// Counts events that one stream misses.
    pub fn lost(&self, events: u64) {
        self.lost.fetch_add(events, Relaxed);
    }

    /// Open streams of events, events that were queued for them so far, and those that they missed.
    pub fn events(&self) -> [u64; 3] {
        [&self.streams, &self.told, &self.lost].map(|count| count.load(Relaxed))
    }

    /// Requests so far, by route and class of status.
    pub fn requests(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let rows = ROUTES.iter().zip(&self.requests);
        rows.flat_map(|(route, row)| {
            CLASSES.iter().zip(row).map(|(class, count)| (*route, *class, count.load(Relaxed)))
        })
    }
}
