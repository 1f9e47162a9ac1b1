//! A shard that falls asleep while others send to it.

use std::sync::Arc;

use interleavings::sleep::Sleep;
use loom::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

#[derive(Debug)]
struct Shard {
    sleep: Sleep,
    /// Items in the queue. The queue itself orders nothing here, so that the tests show what the sleep orders.
    items: AtomicUsize,
    /// Times that the shard was woken.
    woken: AtomicUsize,
}

impl Shard {
    fn new() -> Arc<Self> {
        let (items, woken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { sleep: Sleep::default(), items, woken })
    }

    fn send(&self) {
        self.items.fetch_add(1, Relaxed);
        if self.sleep.is_to_be_woken() {
            self.woken.fetch_add(1, Relaxed);
        }
    }

    /// Returns whether the shard fell asleep.
    fn park(&self) -> bool {
        self.sleep.begin(|| self.items.load(Relaxed) == 0)
    }
}

/// Runs a test in every order with at most three switches away from a thread that could go on, which takes a second;
/// without a bound it takes half a minute. If one of the fences is removed, each test here fails.
fn explore(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}

fn sender(shard: &Arc<Shard>) -> thread::JoinHandle<()> {
    let shard = Arc::clone(shard);
    thread::spawn(move || shard.send())
}

#[test]
fn a_shard_never_sleeps_on_an_item() {
    explore(|| {
        let shard = Shard::new();
        let sender = sender(&shard);
        let asleep = shard.park();
        sender.join().expect("no panic");
        assert!(!asleep || shard.woken.load(Relaxed) == 1, "it sleeps and nobody wakes it");
    });
}

#[test]
fn of_two_senders_one_wakes_it() {
    explore(|| {
        let shard = Shard::new();
        let senders = [sender(&shard), sender(&shard)];
        let asleep = shard.park();
        senders.into_iter().for_each(|sender| sender.join().expect("no panic"));
        let woken = shard.woken.load(Relaxed);
        assert!(woken <= 1 && (!asleep || woken == 1), "asleep: {asleep}, woken: {woken} times");
    });
}

#[test]
fn a_shard_that_was_woken_and_sleeps_again_is_woken_again() {
    explore(|| {
        let shard = Shard::new();
        let sender = sender(&shard);
        if shard.park() {
            shard.sleep.end();
        }
        shard.items.swap(0, Relaxed);
        let asleep = shard.park();
        sender.join().expect("no panic");
        let left = shard.items.load(Relaxed);
        assert!(!asleep || left == 0 || shard.woken.load(Relaxed) > 0, "it sleeps on {left} items");
    });
}
