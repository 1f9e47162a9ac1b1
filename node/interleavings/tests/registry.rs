//! The registry of topics, whose shards open and close them at the same time.

use std::sync::Arc;

use interleavings::route::{Registry, SharedRoom};
use loom::{model::Builder, thread};
use node_core::topic::TopicName;

/// Runs a test in every order with at most so many switches away from a thread that could go on. More switches find
/// nothing new in these tests, and take minutes.
fn explore(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}

fn open(registry: &Registry, topic: &str, shard: u8, most: u32) -> Option<Arc<SharedRoom>> {
    registry.open(TopicName::parse(topic).expect("a topic"), shard, most)
}

#[test]
fn a_topic_that_one_shard_closes_stays_open_for_another() {
    explore(|| {
        let registry = Arc::new(Registry::new([1, 2]));
        let first = open(&registry, "t", 0, 9).expect("a place");
        let other = Arc::clone(&registry);
        let closer = thread::spawn(move || other.close(&first, 0));
        let room = open(&registry, "t", 1, 9).expect("a place");
        closer.join().expect("no panic");
        assert_eq!(room.shards().iter().collect::<Vec<_>>(), [1]);
        assert_eq!(registry.shards("t"), room.shards(), "the room that is found is another");
        registry.close(&room, 1);
        assert_eq!((registry.topics(), registry.shards("t").is_empty()), (0, true));
    });
}

#[test]
fn two_shards_that_open_the_last_topic_at_once_take_one_place() {
    explore(|| {
        let registry = Arc::new(Registry::new([1, 2]));
        let other = Arc::clone(&registry);
        let opener = thread::spawn(move || open(&other, "a", 0, 1).is_some());
        let here = open(&registry, "b", 1, 1).is_some();
        let there = opener.join().expect("no panic");
        assert!(here != there, "one of two has the only place");
        assert_eq!(registry.topics(), 1);
    });
}

#[test]
fn two_members_that_join_at_once_take_one_place() {
    explore(|| {
        let registry = Registry::new([1, 2]);
        let room = open(&registry, "t", 0, 9).expect("a place");
        let other = Arc::clone(&room);
        let joiner = thread::spawn(move || other.claim(1));
        let here = room.claim(1);
        let there = joiner.join().expect("no panic");
        assert!(here != there, "one of two has the only place");
        assert_eq!(room.members(), 1);
    });
}

/// A shard opens a topic before it answers the join, and a thread that learns of that answer must find the shard in
/// the mask.
#[test]
fn who_was_told_of_a_join_finds_its_shard() {
    explore(|| {
        let registry = Arc::new(Registry::new([1, 2]));
        let room = open(&registry, "t", 0, 9).expect("a place");
        let told = Arc::new(loom::sync::atomic::AtomicBool::new(false));
        let (other, telling) = (Arc::clone(&registry), Arc::clone(&told));
        let joiner = thread::spawn(move || {
            let joined = open(&other, "t", 1, 9);
            telling.store(true, loom::sync::atomic::Ordering::Release);
            joined.is_some()
        });
        if told.load(loom::sync::atomic::Ordering::Acquire) {
            assert_eq!(room.shards().iter().collect::<Vec<_>>(), [0, 1]);
        }
        assert!(joiner.join().expect("no panic"));
    });
}
