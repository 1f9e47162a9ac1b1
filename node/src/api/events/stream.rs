//! One stream of events: its queue, and how it ends.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::stream::unfold;
use tokio::{sync::Notify, time::timeout};

use super::{super::Api, filter::Filter, line};

/// Bytes of events that wait for one stream, with their places in the queue. What does not fit is counted, and the stream is told.
const EVENT_QUEUE_BYTES: usize = 256 << 10;
/// From so many bytes on a piece of the answer takes no further event.
const PIECE_BYTES: usize = 16 << 10;
/// So long nothing is said before a comment shows that the stream is alive. Proxies mostly give up after 30 s or a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A stream that takes nothing for so long, although something waits, is ended.
const STALLED: Duration = Duration::from_secs(30);
/// What each stream begins with: when a client whose connection ended comes back, in milliseconds.
const BEGINNING: &[u8] = b"retry: 3000\n\n";
/// A comment.
const COMMENT: &[u8] = b": nothing happened\n\n";

/// A stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) filter: Filter,
    /// The digest of the key that it was opened with, if one was given.
    pub(super) digest: Option<String>,
    queue: Mutex<Queue>,
    /// Something came into an empty queue, or the stream ends.
    ready: Notify,
}

#[derive(Debug)]
struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// Events that did not fit since the last one that did.
    lost: u64,
    /// Since when the first of these waits, or when something was taken last.
    since: Instant,
    end: End,
}

/// Whether a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Not yet.
    Open,
    /// When all that waits was taken.
    AfterAll,
    /// Without what waits.
    AtOnce,
}

/// What is there to be sent.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    /// Some events.
    Piece(Bytes),
    /// Nothing now.
    Nothing,
    /// The end.
    Over,
}

const fn cost(frame: &Bytes) -> usize {
    frame.len() + size_of::<Bytes>()
}

impl Stream {
    pub(super) fn new(filter: Filter, digest: Option<String>) -> Self {
        let queue =
            Queue { frames: VecDeque::new(), bytes: 0, lost: 0, since: Instant::now(), end: End::Open };
        let stream = Self { filter, digest, queue: Mutex::new(queue), ready: Notify::new() };
        stream.lock().put(Bytes::from_static(BEGINNING));
        stream
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an event. False when it does not fit: then it is counted. One that has lost something loses all until half of its
    /// queue is taken, so that a slow reader is told once in a while and not between any two events.
    pub(super) fn push(&self, frame: impl FnOnce() -> Bytes) -> bool {
        let queue = &mut *self.lock();
        if queue.lost > 0 && queue.bytes > EVENT_QUEUE_BYTES / 2 {
            queue.lost += 1;
            return false;
        }
        let frame = frame();
        if queue.bytes + cost(&frame) > EVENT_QUEUE_BYTES {
            queue.lost += 1;
            return false;
        }
        queue.tell_lost();
        queue.put(frame);
        self.ready.notify_one();
        true
    }

    /// Counts events that were lost on their way here.
    pub(super) fn lose(&self, events: u64) {
        self.lock().lost += events;
        self.ready.notify_one();
    }

    /// Ends the stream after all that it was told.
    pub(super) fn finish(&self) {
        let queue = &mut *self.lock();
        if queue.end == End::Open {
            queue.end = End::AfterAll;
        }
        self.ready.notify_one();
    }

    /// Ends the stream, and drops what waits for it.
    pub(super) fn cut(&self) {
        let queue = &mut *self.lock();
        (queue.frames, queue.bytes, queue.lost) = (VecDeque::new(), 0, 0);
        queue.end = End::AtOnce;
        self.ready.notify_one();
    }

    /// Whether it has taken nothing for too long.
    pub(super) fn is_stalled(&self, now: Instant) -> bool {
        let queue = self.lock();
        !queue.frames.is_empty() && now.saturating_duration_since(queue.since) > STALLED
    }

    fn take(&self) -> Taken {
        let queue = &mut *self.lock();
        if queue.end == End::AtOnce {
            return Taken::Over;
        }
        queue.since = Instant::now();
        let mut piece = BytesMut::new();
        while piece.len() < PIECE_BYTES
            && let Some(frame) = queue.frames.pop_front()
        {
            queue.bytes -= cost(&frame);
            piece.extend_from_slice(&frame);
        }
        if queue.frames.is_empty() && queue.lost > 0 {
            piece.extend_from_slice(&line::lost(std::mem::take(&mut queue.lost)));
        }
        if !piece.is_empty() {
            return Taken::Piece(piece.freeze());
        }
        if queue.end == End::Open { Taken::Nothing } else { Taken::Over }
    }

    /// The next piece, or a comment when there is none for long; none at the end.
    async fn next(&self) -> Option<Bytes> {
        loop {
            match self.take() {
                Taken::Piece(piece) => return Some(piece),
                Taken::Over => return None,
                // Something that came meanwhile is remembered.
                Taken::Nothing => {
                    if timeout(KEEP_ALIVE, self.ready.notified()).await.is_err() {
                        return Some(Bytes::from_static(COMMENT));
                    }
                }
            }
        }
    }
}

impl Queue {
    fn put(&mut self, frame: Bytes) {
        if self.frames.is_empty() {
            self.since = Instant::now();
        }
        self.bytes += cost(&frame);
        self.frames.push_back(frame);
    }

    fn tell_lost(&mut self) {
        if self.lost > 0 {
            let lost = line::lost(std::mem::take(&mut self.lost));
            self.put(lost);
        }
    }
}

/// What is sent to the one who listens. When it is dropped, as with the connection, the stream is forgotten.
struct Tail {
    api: Arc<Api>,
    stream: Arc<Stream>,
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.api.events.close(&self.api.app.api_counts, &self.stream);
    }
}

/// The body of the answer.
pub(super) fn body(api: Arc<Api>, stream: Arc<Stream>) -> Body {
    let tail = Tail { api, stream };
    Body::from_stream(unfold(tail, async |tail| {
        let piece = tail.stream.next().await?;
        Some((Ok::<_, Infallible>(piece), tail))
    }))
}

#[cfg(test)]
mod tests {
    use node_core::api::keys::Key;

    use super::*;

    fn stream() -> Stream {
        let filter = Filter::read(Default::default(), &Key::admin()).expect("it asks for all");
        let stream = Stream::new(filter, None);
        assert_eq!(taken(&stream), "retry: 3000\n\n");
        stream
    }

    fn taken(stream: &Stream) -> String {
        match stream.take() {
            Taken::Piece(piece) => String::from_utf8(piece.to_vec()).expect("text"),
            other => panic!("{other:?}"),
        }
    }

    fn event(number: usize) -> Bytes {
        format!("{number:06}{}\n", "x".repeat(100)).into()
    }

    /// Pushes events until one does not fit; how many did.
    fn fill(stream: &Stream) -> usize {
        (0..).find(|number| !stream.push(|| event(*number))).expect("it is bounded")
    }

    #[test]
    fn a_queue_is_bounded_and_what_did_not_fit_is_told_where_it_is_missing() {
        let stream = stream();
        let fit = fill(&stream);
        assert!((EVENT_QUEUE_BYTES / 256..EVENT_QUEUE_BYTES / 107).contains(&fit), "{fit}");
        assert!(stream.lock().bytes <= EVENT_QUEUE_BYTES);
        for _ in 0..4 {
            let unwritten = || panic!("an event that does not fit is not written");
            assert!(!stream.push(unwritten));
        }
        let mut all = String::new();
        while stream.lock().bytes > EVENT_QUEUE_BYTES / 2 {
            all += &taken(&stream);
        }
        assert!(stream.push(|| event(900_000)));
        while !stream.lock().frames.is_empty() {
            all += &taken(&stream);
        }
        let (before, after) = all.split_once("event: lost\ndata: {\"count\":5}\n\n").expect("it is told");
        assert_eq!(before.lines().count(), fit);
        assert!(after.starts_with("900000") && !after.contains("lost"), "{after}");
        assert_eq!((stream.take(), stream.lock().bytes), (Taken::Nothing, 0));
    }

    #[test]
    fn what_was_lost_is_told_also_when_nothing_follows() {
        let stream = stream();
        let fit = fill(&stream);
        let mut all = String::new();
        while !stream.lock().frames.is_empty() {
            all += &taken(&stream);
        }
        assert!(all.ends_with("event: lost\ndata: {\"count\":1}\n\n"), "{}", all.len());
        assert_eq!(all.matches('x').count(), 100 * fit);
        stream.lose(7);
        assert_eq!(taken(&stream), "event: lost\ndata: {\"count\":7}\n\n");
    }

    #[test]
    fn a_stream_ends_after_what_it_was_told_or_at_once() {
        let one = stream();
        assert!(one.push(|| event(1)));
        one.finish();
        assert!(taken(&one).starts_with("000001"));
        assert_eq!(one.take(), Taken::Over);
        let one = stream();
        assert!(one.push(|| event(1)));
        one.cut();
        assert_eq!((one.take(), one.lock().bytes), (Taken::Over, 0));
        one.finish();
        assert_eq!(one.take(), Taken::Over);
    }

    #[test]
    fn who_takes_nothing_of_what_waits_is_stalled() {
        let stream = stream();
        let later = || Instant::now() + STALLED + Duration::from_secs(1);
        assert!(!stream.is_stalled(later()), "nothing waits");
        assert!(stream.push(|| event(1)));
        assert!(!stream.is_stalled(Instant::now()) && stream.is_stalled(later()));
        taken(&stream);
        assert!(!stream.is_stalled(later()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_stream_shows_that_it_is_alive() {
        let stream = stream();
        let begun = tokio::time::Instant::now();
        assert_eq!(stream.next().await.as_deref(), Some(COMMENT));
        assert_eq!(begun.elapsed().as_secs(), KEEP_ALIVE.as_secs());
        assert!(stream.push(|| event(1)));
        assert!(stream.next().await.is_some_and(|piece| piece.starts_with(b"000001")));
        stream.finish();
        assert_eq!(stream.next().await, None);
    }
}
