//! The ChannelClusters that are to be looked at. What changes comes before what is seen for the first time: when an
//! operator starts, thousands are seen at once, and the change of one is not to wait for all of them. The queue of kube's
//! controller has no order, so it is given no more than it can begin with.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::Stream;
use kube::runtime::controller::ReconcileRequest;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::store::{Guarded, Request};

/// Reconciles at a time.
pub const CONCURRENCY: u16 = 16;
/// Changes that come within this time are handled as one.
const DEBOUNCE: Duration = Duration::from_millis(500);

/// Why a ChannelCluster is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// It, or an object of it, has changed or is gone.
    Change,
    /// It, or an object of it, is seen for the first time.
    Sight,
}

/// Its place in the queue: first by cause, then by when it came.
type Place = (Cause, u64);

#[derive(Debug, Default)]
struct Queue {
    waiting: BTreeMap<Place, (Request, Instant)>,
    places: HashMap<Request, Place>,
    /// Given to the controller, which has not ended its reconcile.
    running: HashSet<Request>,
    last: u64,
}

impl Queue {
    fn push(&mut self, request: Request, cause: Cause, due: Instant) {
        let due = match self.places.get(&request) {
            Some(place) if place.0 <= cause => return,
            Some(place) => self.waiting.remove(place).map_or(due, |(_, before)| before.min(due)),
            None => due,
        };
        self.last += 1;
        let place = (cause, self.last);
        self.waiting.insert(place, (request.clone(), due));
        self.places.insert(request, place);
    }

    /// Takes the next that is due and does not run; otherwise says when one is.
    fn pop(&mut self, now: Instant) -> Result<Request, Option<Instant>> {
        let mut first = None;
        let mut next = None;
        for (place, (request, due)) in &self.waiting {
            if self.running.contains(request) {
                continue;
            }
            if *due <= now {
                next = Some(*place);
                break;
            }
            first = Some(first.map_or(*due, |first: Instant| first.min(*due)));
        }
        let Some((request, _)) = next.and_then(|place| self.waiting.remove(&place)) else {
            return Err(first);
        };
        self.places.remove(&request);
        Ok(request)
    }
}

/// ChannelClusters that are to be looked at and that the controller has not taken yet: each once, however much changed.
#[derive(Debug, Default)]
pub struct Pending {
    queue: Mutex<Queue>,
    more: Notify,
}

impl Pending {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a ChannelCluster.
    pub fn push(&self, request: Request, cause: Cause) {
        self.queue().push(request, cause, Instant::now() + DEBOUNCE);
        self.more.notify_one();
    }

    /// Takes the next ChannelCluster without waiting until it is due.
    pub fn pop(&self) -> Option<Request> {
        self.queue().pop(Instant::now() + DEBOUNCE).ok()
    }

    /// Notes that the controller has ended a reconcile.
    pub fn done(&self, request: &Request) {
        self.queue().running.remove(request);
        self.more.notify_one();
    }

    /// A stream of them for the controller, which never ends. A watch that fails cannot hold it up.
    pub fn stream(self: Arc<Self>) -> impl Stream<Item = Result<ReconcileRequest<Guarded>, Infallible>> {
        futures::stream::unfold(self, |pending| async {
            let next = pending.next().await;
            Some((Ok(next.into()), pending))
        })
    }

    async fn next(&self) -> Request {
        loop {
            let wait = {
                let mut queue = self.queue();
                let free = queue.running.len() < usize::from(CONCURRENCY);
                match free.then(|| queue.pop(Instant::now())) {
                    Some(Ok(next)) => {
                        queue.running.insert(next.clone());
                        return next;
                    }
                    Some(Err(due)) => due,
                    None => None,
                }
            };
            let due = async {
                match wait {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.more.notified() => {}
                () = due => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn of(name: &str) -> Request {
        Request::new(name).within("n")
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_comes_before_what_is_seen_for_the_first_time() {
        let pending = Pending::default();
        for number in 0..100 {
            pending.push(of(&format!("s{number}")), Cause::Sight);
        }
        assert!(pending.next().now_or_never().is_none(), "what comes within half a second is one change");
        tokio::time::advance(DEBOUNCE).await;
        let mut given = Vec::new();
        for number in 0..CONCURRENCY {
            given.push(pending.next().await);
            assert_eq!(given.last(), Some(&of(&format!("s{number}"))), "in the order of their coming");
        }
        pending.push(of("c"), Cause::Change);
        pending.push(of("s90"), Cause::Change);
        tokio::time::advance(DEBOUNCE).await;
        assert!(pending.next().now_or_never().is_none(), "no more than can be begun with");
        pending.done(&given[3]);
        assert_eq!(pending.next().await, of("c"));
        pending.done(&given[4]);
        assert_eq!(pending.next().await, of("s90"), "also when it waited already");
        pending.done(&given[5]);
        assert_eq!(pending.next().await, of("s16"));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_runs_is_given_again_when_it_has_ended() {
        let pending = Pending::default();
        pending.push(of("a"), Cause::Change);
        assert_eq!(pending.next().await, of("a"));
        pending.push(of("a"), Cause::Change);
        pending.push(of("a"), Cause::Sight);
        pending.push(of("b"), Cause::Sight);
        assert_eq!(pending.next().await, of("b"));
        tokio::time::advance(DEBOUNCE).await;
        assert!(pending.next().now_or_never().is_none());
        pending.done(&of("a"));
        assert_eq!(pending.next().await, of("a"));
        assert!(pending.pop().is_none(), "once, however much changed");
    }
}
