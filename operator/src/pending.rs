//! The ChannelClusters that are to be looked at, and when. What changes comes before what is seen for the first time or is looked
//! at again: when an operator starts, thousands are seen at once, and the change of one is not to wait for all of them. The
//! queue of kube's controller has no order, so it is given no more than it can begin with, and no pause goes into it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crds::ChannelCluster;
use futures::Stream;
use kube::core::DeserializeGuard;
use kube::runtime::controller::ReconcileRequest;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A ChannelCluster, or an object that could not be read as one.
pub type Guarded = DeserializeGuard<ChannelCluster>;

/// A ChannelCluster that is to be looked at.
pub type Request = ObjectRef<Guarded>;

/// Reconciles at a time.
pub const CONCURRENCY: u16 = 16;
/// Changes that come within this time are handled as one.
const DEBOUNCE: Duration = Duration::from_millis(500);
/// Each of so many turns is that of the request that waits longest, whatever its cause: changes that never end hold nobody up.
const FAIR: u64 = 8;

/// Why a ChannelCluster is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// It, or an object of it, has changed or is gone.
    Change,
    /// It, or an object of it, is seen for the first time, or it is looked at again after a pause.
    Sight,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    cause: Cause,
    /// When it is due.
    due: Instant,
    /// Its number among all that came.
    number: u64,
    /// Whether it was due, and is in [`Queue::ready`].
    ready: bool,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: HashMap<Request, Wait>,
    /// Those that are not due yet.
    later: BTreeMap<(Instant, u64), Request>,
    /// Those that are.
    ready: BTreeMap<(Cause, u64), Request>,
    /// Given to the controller, which has not ended their reconciles.
    running: HashSet<Request>,
    pushed: u64,
    turns: u64,
}

impl Queue {
    fn push(&mut self, request: Request, cause: Cause, due: Instant) {
        self.pushed += 1;
        let new = Wait { cause, due, number: self.pushed, ready: false };
        let wait = match self.take(&request) {
            Some(before) => Wait { cause: before.cause.min(cause), due: before.due.min(due), ..before },
            None => new,
        };
        self.put(request, wait);
    }

    fn take(&mut self, request: &Request) -> Option<Wait> {
        let wait = self.waiting.remove(request)?;
        if wait.ready {
            self.ready.remove(&(wait.cause, wait.number));
        } else {
            self.later.remove(&(wait.due, wait.number));
        }
        Some(wait)
    }

    fn put(&mut self, request: Request, wait: Wait) {
        if wait.ready {
            self.ready.insert((wait.cause, wait.number), request.clone());
        } else {
            self.later.insert((wait.due, wait.number), request.clone());
        }
        self.waiting.insert(request, wait);
    }

    /// Takes the next that is due and does not run; otherwise says when one will be due.
    fn pop(&mut self, now: Instant) -> Result<Request, Option<Instant>> {
        while let Some(first) = self.later.first_entry().filter(|first| first.key().0 <= now) {
            let request = first.remove();
            if let Some(wait) = self.waiting.get_mut(&request) {
                wait.ready = true;
                self.ready.insert((wait.cause, wait.number), request);
            }
        }
        let mut free = self.ready.iter().filter(|(_, request)| !self.running.contains(request));
        let next = match (self.turns + 1).is_multiple_of(FAIR) {
            true => free.min_by_key(|((_, number), _)| *number),
            false => free.next(),
        };
        let Some(request) = next.map(|(_, request)| request.clone()) else {
            return Err(self.later.keys().next().map(|(due, _)| *due));
        };
        self.turns += 1;
        self.take(&request);
        Ok(request)
    }

    /// Notes that a reconcile has ended. What it has written itself comes back from the watches in a moment, so another look at
    /// the same ChannelCluster waits for that.
    fn done(&mut self, request: &Request, now: Instant) {
        self.running.remove(request);
        if let Some(wait) = self.take(request) {
            self.put(request.clone(), Wait { due: wait.due.max(now + DEBOUNCE), ready: false, ..wait });
        }
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
        self.push_after(request, cause, DEBOUNCE);
    }

    /// Adds a ChannelCluster that is to be looked at after a pause, or before it if anything else asks for that.
    pub fn push_after(&self, request: Request, cause: Cause, pause: Duration) {
        self.queue().push(request, cause, Instant::now() + pause);
        self.more.notify_one();
    }

    /// Takes what would be next, were it due.
    pub fn pop(&self) -> Option<Request> {
        self.queue().pop(Instant::now() + DEBOUNCE).ok()
    }

    /// Notes that the controller has ended a reconcile.
    pub fn done(&self, request: &Request) {
        self.queue().done(request, Instant::now());
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
        for done in &given[..3] {
            pending.done(done);
        }
        let mut next = Vec::new();
        for _ in 0..3 {
            next.push(pending.next().await);
        }
        assert_eq!(
            next,
            [of("s90"), of("c"), of("s16")],
            "also one that waited already, and before the new one"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn changes_that_never_end_hold_nobody_up() {
        let pending = Pending::default();
        pending.push(of("s"), Cause::Sight);
        for number in 0..FAIR {
            pending.push(of(&format!("c{number}")), Cause::Change);
        }
        let mut given = Vec::new();
        for _ in 0..FAIR {
            let next = pending.next().await;
            pending.done(&next);
            given.push(next);
        }
        assert_eq!(given.last(), Some(&of("s")), "{given:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_when_it_is_over_or_something_changes() {
        let pending = Pending::default();
        pending.push_after(of("a"), Cause::Sight, Duration::from_secs(300));
        pending.push_after(of("b"), Cause::Sight, Duration::from_secs(300));
        tokio::time::advance(Duration::from_secs(200)).await;
        assert!(pending.next().now_or_never().is_none());
        pending.push(of("b"), Cause::Sight);
        let since = Instant::now();
        assert_eq!((pending.next().await, since.elapsed()), (of("b"), DEBOUNCE));
        assert_eq!(pending.next().await, of("a"));
        assert!(since.elapsed() >= Duration::from_secs(100));
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
        assert!(pending.next().now_or_never().is_none(), "its own writes come back first");
        assert_eq!(pending.next().await, of("a"));
        assert!(pending.pop().is_none(), "once, however much changed");
    }
}
