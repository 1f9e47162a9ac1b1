use super::*;

/// Connections of a made-up shard: the room of each and when it came.
struct World {
    course: Course,
    connections: Vec<Option<(usize, u64)>>,
    /// Thousandths of writes/s to each member; none is not known.
    rates: Vec<Option<u64>>,
    /// When each connection was closed, and its load.
    closed: Vec<(u64, usize, u64)>,
    now_millis: u64,
}

impl World {
    fn new(connections: Vec<(usize, u64)>, rates: Vec<Option<u64>>) -> Self {
        let connections = connections.into_iter().map(Some).collect();
        Self { course: Course::default(), connections, rates, closed: Vec::new(), now_millis: 100_000 }
    }

    fn members(&self, room: usize) -> u64 {
        self.connections.iter().flatten().filter(|(of, _)| *of == room).count() as u64
    }

    /// One tick, as `node/core/src/shard/moving.rs` does it.
    fn tick(&mut self) {
        self.now_millis += TICK_MILLIS;
        if !self.course.begin_tick(self.now_millis) {
            return;
        }
        let min_age = self.course.min_age_millis(self.now_millis);
        let mut looks = 0;
        while looks < 50
            && let Some(index) = self.course.next(self.connections.len(), self.now_millis)
        {
            looks += 1;
            let Some((room, came)) = self.connections.get(index).copied().flatten() else { continue };
            if self.now_millis - came < min_age {
                continue;
            }
            let (id, rate) = (RoomId(room as u32), self.rates[room]);
            if let Some(rate) = rate {
                self.course.note_room(id, rate * self.members(room));
            }
            if !self.course.may_take_from(id, self.members(room)) {
                continue;
            }
            if self.course.look(rate.map_or(Candidate::Unknown, Candidate::Load)) {
                self.course.take_from(id, self.members(room));
                self.connections[index] = None;
                self.closed.push((self.now_millis, room, rate.unwrap_or(0)));
            }
        }
    }

    fn ticks(&mut self, count: u64) {
        (0..count).for_each(|_| self.tick());
    }

    fn moved(&self) -> Share {
        self.course.record.report.moved
    }
}

fn task(operation: u64, connections: u64, milliwrites: u64, pace: u64) -> MoveTask {
    MoveTask {
        operation,
        share: Share { connections, milliwrites },
        milliconnections_per_second: pace * 1_000,
        min_age_millis: 0,
        lease_millis: 600_000,
    }
}

fn each_once(walk: Walk) -> bool {
    let mut walk = walk;
    let mut seen: Vec<_> = std::iter::from_fn(|| walk.next()).collect();
    seen.sort_unstable();
    seen.into_iter().eq(0..walk.size)
}

#[test]
fn a_walk_goes_to_each_place_once() {
    assert!([0, 1, 2, 3, 100, 4_096, 5_000].into_iter().all(|end| each_once(Walk::over(end))));
}

/// Whatever connections there are and whatever is asked for, once or several times.
#[test]
fn never_more_than_asked_never_faster_and_never_the_young() {
    arbtest::arbtest(|u| {
        let rooms = u.int_in_range(1..=20)?;
        let mut rates = Vec::new();
        for _ in 0..rooms {
            let rate = u.int_in_range(0..=50_000)?;
            rates.push(u.ratio(9, 10)?.then_some(rate));
        }
        let mut connections = Vec::new();
        for _ in 0..u.int_in_range(0..=300)? {
            connections.push((u.int_in_range(0..=rooms - 1)?, u.int_in_range(0..=100_000)?));
        }
        let sizes: Vec<_> =
            (0..rooms).map(|room| connections.iter().filter(|of| of.0 == room).count()).collect();
        let mut newcomers = 0;
        let mut world = World::new(connections, rates);
        let pace = u.int_in_range(1..=200)?;
        let min_age_millis: u32 = u.int_in_range(0..=100_000)?;
        let (mut most_connections, mut most_writes) = (0, 0);
        let bounded = u.arbitrary()?;
        for _ in 0..u.int_in_range(1..=3)? {
            most_connections += u.int_in_range(0..=100)?;
            most_writes += u.int_in_range(0..=1_000_000)?;
            let writes = if bounded { most_writes } else { Share::NO_BOUND };
            let task = MoveTask { min_age_millis, ..task(1, most_connections, writes, pace) };
            world.course.begin(task, world.now_millis);
            world.ticks(u.int_in_range(0..=400)?);
            // Clients that came meanwhile are not of this operation.
            world.connections.push(Some((0, world.now_millis)));
            newcomers += 1;
        }
        let moved = world.moved();
        assert_eq!(moved.connections, world.closed.len() as u64);
        assert_eq!(moved.milliwrites, world.closed.iter().map(|(.., load)| load).sum::<u64>());
        assert!(moved.connections <= most_connections);
        assert!(!bounded || moved.milliwrites <= most_writes);
        assert!(!bounded || world.closed.iter().all(|(.., load)| *load > 0), "nobody is moved for nothing");
        for (from, (begin, ..)) in world.closed.iter().enumerate() {
            for (count, (end, ..)) in (1u64..).zip(&world.closed[from..]) {
                let most = pace * (end - begin + CATCH_UP_MILLIS) / 1_000 + 1;
                assert!(count <= most, "{count} within {} ms at {pace}/s", end - begin);
            }
        }
        for (room, size) in sizes.into_iter().enumerate() {
            // A small room may have gone as a whole before others came.
            if size as u64 <= SMALL_ROOM {
                continue;
            }
            let size = size + if room == 0 { newcomers } else { 0 };
            let taken = world.closed.iter().filter(|(_, of, _)| *of == room).count();
            assert!(taken * 4 <= size * 3 + 3, "{taken} of {size}");
        }
        Ok(())
    })
    .budget_ms(1_000);
}

fn crowd(rooms: usize, each: usize) -> Vec<(usize, u64)> {
    (0..rooms * each).map(|connection| (connection / each, 0)).collect()
}

#[test]
fn few_clients_of_busy_rooms_go_and_those_of_many_rooms() {
    // 10 rooms with 50/s to each of 20 members, and 40 rooms with 1/s.
    let rates = (0..50).map(|room| Some(if room % 5 == 0 { 50_000 } else { 1_000 })).collect();
    let mut world = World::new(crowd(50, 20), rates);
    world.course.begin(task(1, 1_000, 2_000_000, 1_000), world.now_millis);
    world.ticks(400);
    assert!(world.course.record.report.done);
    assert!(world.closed.iter().all(|(.., load)| *load == 50_000), "quiet clients stay");
    assert!((39..=40).contains(&world.closed.len()), "{}", world.closed.len());
    for room in (0..50).step_by(5) {
        let taken = world.closed.iter().filter(|(_, of, _)| *of == room).count();
        assert!((1..=15).contains(&taken), "{taken} of room {room}");
    }
}

#[test]
fn a_room_larger_than_what_moving_can_help_with_is_named() {
    let mut world = World::new(crowd(1, 100), vec![Some(1_000)]);
    world.course.begin(task(1, 1_000, 90_000, 1_000), world.now_millis);
    world.ticks(400);
    assert_eq!((world.moved().connections, world.course.record.report.done), (75, true), "a quarter stays");
    assert_eq!(world.course.take_stuck(), Some((RoomId(0), 15_000)));
    assert_eq!(world.course.take_stuck(), None, "once");
}

#[test]
fn rooms_that_are_too_young_are_waited_for() {
    let mut world = World::new(crowd(2, 4), vec![None, None]);
    world.course.begin(task(1, 8, 8_000, 100), world.now_millis);
    world.ticks(40);
    assert!(world.closed.is_empty() && !world.course.record.report.done);
    world.rates = vec![Some(1_000), None];
    world.ticks(40);
    assert_eq!(
        (world.moved(), world.course.record.report.done),
        (Share { connections: 4, milliwrites: 4_000 }, false)
    );
    world.ticks(YOUNG_MILLIS / TICK_MILLIS);
    assert!(world.course.record.report.done, "not for ever");
}

#[test]
fn the_lease_ends_it_and_the_same_operation_goes_on_where_it_was() {
    let mut world = World::new(crowd(10, 10), vec![Some(1_000); 10]);
    let short = MoveTask { lease_millis: 1_000, ..task(1, 50, Share::NO_BOUND, 20) };
    world.course.begin(short, world.now_millis);
    world.ticks(100);
    let first = world.moved().connections;
    assert!((15..=20).contains(&first) && !world.course.is_under_way(), "{first} in a second at 20/s");
    world.course.begin(task(2, 5, Share::NO_BOUND, 20), world.now_millis);
    world.ticks(100);
    assert_eq!(world.moved().connections, 5);
    world.course.begin(short, world.now_millis);
    assert_eq!(world.moved().connections, first);
    world.ticks(10);
    world.course.stop();
    world.ticks(100);
    assert!(world.moved().connections <= first + 10);
    world.course.begin(task(1, 50, Share::NO_BOUND, 1_000), world.now_millis);
    world.ticks(100);
    assert_eq!((world.moved().connections, world.closed.len()), (50, 55));
    let report = world.course.take_report().expect("news");
    assert!(report.done && report.operation == 1 && world.course.take_report().is_none());
}
