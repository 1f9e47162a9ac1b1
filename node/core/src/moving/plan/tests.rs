use super::*;
use crate::moving::MoveTask;

const MOST_SHARDS: usize = 8;

fn request(operation: &str, connections: u64, writes_per_second: u64) -> RebalanceRequest {
    RebalanceRequest {
        version: 1,
        operation: operation.to_owned(),
        connections,
        writes_per_second,
        connections_per_second: 500,
        min_age_millis: 0,
        lease_millis: 10_000,
    }
}

fn weights(shards: &[(u64, u64)]) -> Vec<Weight> {
    let weight = |&(connections, writes_per_second)| Weight { connections, writes_per_second };
    shards.iter().map(weight).collect()
}

fn tasks(orders: &[MoveOrder]) -> Vec<MoveTask> {
    let task = |order: &MoveOrder| match order {
        MoveOrder::Close(task) => *task,
        MoveOrder::Stop => panic!("an end"),
    };
    orders.iter().map(task).collect()
}

#[test]
fn an_operation_is_split_by_what_the_shards_have() {
    let mut moving = Moving::default();
    let shards = weights(&[(300, 10), (100, 90)]);
    let orders = tasks(&moving.request(&request("a", 40, 1_000), 7, &shards).expect("orders"));
    let seen: Vec<_> = orders.iter().map(|task| (task.share.connections, task.share.milliwrites)).collect();
    assert_eq!(seen, [(30, 100_000), (10, 900_000)]);
    let paces: Vec<_> = orders.iter().map(|task| task.milliconnections_per_second).collect();
    assert_eq!(paces, [375_000, 125_000]);
    assert!(moving.is_under_way(10_006) && !moving.is_under_way(10_007), "until its lease ends");
    let orders = tasks(&moving.request(&request("b", 2, 0), 7, &weights(&[(0, 0); 2])).expect("orders"));
    assert_eq!(orders[1].share, Share { connections: 1, milliwrites: Share::NO_BOUND });
}

#[test]
fn what_is_out_of_range_is_refused_with_a_sentence_and_changes_nothing() {
    let mut moving = Moving::default();
    let good = request("a", 1, 0);
    let wrong = [
        (RebalanceRequest { operation: String::new(), ..good.clone() }, MoveRefusal::Operation),
        (RebalanceRequest { operation: "x".repeat(65), ..good.clone() }, MoveRefusal::Operation),
        (RebalanceRequest { connections_per_second: 0, ..good.clone() }, MoveRefusal::Pace),
        (RebalanceRequest { lease_millis: 999, ..good.clone() }, MoveRefusal::Lease),
        (RebalanceRequest { lease_millis: u64::MAX, ..good.clone() }, MoveRefusal::Lease),
        (RebalanceRequest { min_age_millis: u64::MAX, ..good.clone() }, MoveRefusal::Age),
    ];
    for (request, refusal) in wrong {
        assert_eq!(moving.request(&request, 0, &weights(&[(1, 1)])), Err(refusal));
        assert!(!refusal.to_string().is_empty() && !moving.is_under_way(0));
    }
    let huge = RebalanceRequest {
        connections: u64::MAX,
        writes_per_second: u64::MAX,
        connections_per_second: u32::MAX,
        ..good
    };
    for _ in 0..2 {
        let orders = moving.request(&huge, 0, &weights(&[(9, 9); MOST_SHARDS])).expect("orders");
        let sum: u64 = tasks(&orders).iter().map(|task| task.share.connections).sum();
        assert_eq!(sum, MOST);
    }
}

#[test]
fn an_operation_that_is_asked_for_again_goes_on_and_another_one_begins_anew() {
    let mut moving = Moving::default();
    let shards = weights(&[(10, 0), (10, 0)]);
    let first = tasks(&moving.request(&request("a", 10, 0), 0, &shards).expect("orders"));
    let again = tasks(&moving.request(&request("a", 10, 0), 9_000, &shards).expect("orders"));
    assert_eq!(first, again);
    assert!(moving.is_under_way(18_999) && !moving.is_under_way(19_000));
    let report = |moved, done| MoveReport {
        operation: first[0].operation,
        moved: Share { connections: moved, milliwrites: 1_700 },
        done,
        hot_room: Some(HotRoom { topic: "room:1".to_owned(), writes_per_second: 9, members: 3 }),
    };
    let status = moving.status(9_000, &[report(5, true), report(2, false)]).expect("a status");
    assert_eq!((status.moved, status.moved_writes_per_second, status.done), (7, 3, false));
    let hot = HotRoom { topic: "room:1".to_owned(), writes_per_second: 18, members: 6 };
    assert_eq!(status.hot_room, Some(hot), "a room on two shards is one room");
    let other = tasks(&moving.request(&request("b", 10, 0), 9_001, &shards).expect("orders"));
    assert_ne!(other[0].operation, first[0].operation);
    let none = moving.status(9_001, &[report(5, true), report(5, true)]).expect("a status");
    assert_eq!((none.operation.as_str(), none.moved, none.done), ("b", 0, false), "reports of another one");
    let back = tasks(&moving.request(&request("a", 10, 0), 9_002, &shards).expect("orders"));
    assert_eq!(back, first);
    assert!(moving.end(9_003) && !moving.end(9_003) && !moving.is_under_way(9_003));
    assert_eq!(moving.status(9_003, &[]), None);
    let last = moving.last_status(&[report(5, true), report(5, true)]);
    assert_eq!((last.moved, last.done, last.operation.as_str()), (10, true, "a"));
    for number in 0..=REMEMBERED {
        moving.request(&request(&number.to_string(), 1, 0), 9_004, &shards).expect("orders");
    }
    let forgotten = tasks(&moving.request(&request("a", 10, 0), 9_005, &shards).expect("orders"));
    assert_ne!(forgotten[0].operation, first[0].operation);
}

/// Whatever is asked for in whatever order: what shards may do is what was asked for last, and never less than before while
/// that did not become less.
#[test]
fn the_parts_add_up_to_the_whole_and_are_not_taken_back() {
    arbtest::arbtest(|u| {
        let mut moving = Moving::default();
        let shards = u.int_in_range(1..=MOST_SHARDS)?;
        let (mut before, mut asked) = (vec![Share::default(); shards], (0, 0));
        for _ in 0..u.int_in_range(1..=10)? {
            let mut weights = Vec::new();
            for _ in 0..shards {
                let weight = Weight {
                    connections: u.int_in_range(0..=5)?,
                    writes_per_second: u.int_in_range(0..=1_000)?,
                };
                weights.push(weight);
            }
            let (connections, writes) = (u.int_in_range(0..=100)?, u.int_in_range(1..=100)?);
            let orders = moving.request(&request("a", connections, writes), 0, &weights).expect("orders");
            let now: Vec<_> = tasks(&orders).iter().map(|task| task.share).collect();
            let sum = |of: fn(&Share) -> u64| now.iter().map(of).sum::<u64>();
            assert_eq!(sum(|share| share.connections), connections);
            assert_eq!(sum(|share| share.milliwrites), writes * 1_000);
            let pace: u64 = tasks(&orders).iter().map(|task| task.milliconnections_per_second).sum();
            assert!(
                pace <= 500_000 + shards as u64
                    && tasks(&orders).iter().all(|task| task.milliconnections_per_second > 0)
            );
            for (now, before) in now.iter().zip(&before) {
                assert!(connections < asked.0 || now.connections >= before.connections);
                assert!(writes < asked.1 || now.milliwrites >= before.milliwrites);
            }
            (before, asked) = (now, (connections, writes));
        }
        Ok(())
    })
    .budget_ms(300);
}
