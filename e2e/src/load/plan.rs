//! The plan of a run: which connection is in which room and on which worker, and which room and worker have a
//! publish.
//!
//! It is pure arithmetic, so that workers share no table of connections.

/// The shape of a run. All counts are at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Connections in total.
    pub(super) connections: u32,
    /// Rooms in total, at most as many as connections.
    pub(super) rooms: u32,
    /// Worker threads.
    pub(super) workers: u32,
}

impl Plan {
    /// A plan for `connections` in `rooms`, with as many workers as it takes to keep each worker's
    /// descriptor table within `per_worker` sockets, and at least `min_workers`.
    pub(super) fn new(connections: u32, rooms: u32, min_workers: u32, per_worker: u32) -> Plan {
        let connections = connections.max(1);
        let rooms = rooms.clamp(1, connections);
        let mut plan = Plan { connections, rooms, workers: min_workers.clamp(1, connections) };
        while plan.largest_share() > per_worker.max(1) && plan.workers < connections {
            plan.workers += 1;
        }
        plan
    }

    /// The room of a connection: rooms are filled evenly.
    pub(super) fn room_of(&self, connection: u32) -> u32 {
        connection % self.rooms
    }

    /// The worker of a connection. A room lives on one worker where there are enough rooms; with few rooms
    /// each room is spread over all workers.
    #[cfg(test)]
    pub(super) fn worker_of(&self, connection: u32) -> u32 {
        if self.rooms >= self.workers {
            self.room_of(connection) % self.workers
        } else {
            (connection / self.rooms) % self.workers
        }
    }

    /// The connections of one worker, in order.
    pub(super) fn connections_of(&self, worker: u32) -> impl Iterator<Item = u32> {
        let Plan { connections, rooms, workers } = *self;
        let whole = rooms >= workers;
        let (first, step) = if whole { (0, 1) } else { (worker, workers) };
        (first..connections.div_ceil(rooms)).step_by(step as usize).flat_map(move |round| {
            let (first, step) = if whole { (worker, workers) } else { (0, 1) };
            (first..rooms)
                .step_by(step as usize)
                .map(move |room| u64::from(round) * u64::from(rooms) + u64::from(room))
                .filter(move |connection| *connection < u64::from(connections))
                .map(|connection| connection as u32)
        })
    }

    /// Whether this connection is one of every `nth` members of its room; never when `nth` is 0.
    pub(super) fn is_every(&self, connection: u32, nth: u32) -> bool {
        nth > 0 && (connection / self.rooms).is_multiple_of(nth)
    }

    /// Room and worker of the `k`-th publish of the run: rooms take turns.
    pub(super) fn publish(&self, k: u64) -> (u32, u32) {
        let rooms = u64::from(self.rooms);
        let room = (k % rooms) as u32;
        let worker = if self.rooms >= self.workers {
            room % self.workers
        } else {
            ((k / rooms) % u64::from(self.workers)) as u32
        };
        (room, worker)
    }

    /// Index of a room in its worker's own list of rooms.
    pub(super) fn local_room(&self, room: u32) -> usize {
        if self.rooms >= self.workers { (room / self.workers) as usize } else { room as usize }
    }

    /// How many rooms a worker's own list has at most.
    pub(super) fn local_rooms(&self) -> usize {
        if self.rooms >= self.workers {
            self.rooms.div_ceil(self.workers) as usize
        } else {
            self.rooms as usize
        }
    }

    fn largest_share(&self) -> u32 {
        if self.rooms >= self.workers {
            self.rooms.div_ceil(self.workers).saturating_mul(self.connections.div_ceil(self.rooms))
        } else {
            self.rooms.saturating_mul(self.connections.div_ceil(self.rooms).div_ceil(self.workers))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_publish_finds_a_member_on_its_worker() {
        for (connections, rooms, workers) in [(2000, 20, 2), (100, 1, 4), (1000, 3, 8), (7, 7, 3), (5, 9, 2)]
        {
            let plan = Plan::new(connections, rooms, workers, 18_000);
            for k in 0..u64::from(plan.rooms) * u64::from(plan.workers) * 2 {
                let (room, worker) = plan.publish(k);
                let found =
                    (0..plan.connections).any(|c| plan.room_of(c) == room && plan.worker_of(c) == worker);
                assert!(found, "{plan:?} publish {k}: room {room} has nobody on worker {worker}");
            }
        }
    }

    #[test]
    fn shares_stay_within_the_descriptor_table() {
        for (connections, rooms) in [(100_000, 1_000), (100_000, 1), (100_000, 3), (36_001, 2)] {
            let plan = Plan::new(connections, rooms, 1, 18_000);
            let mut share = vec![0u32; plan.workers as usize];
            for c in 0..plan.connections {
                share[plan.worker_of(c) as usize] += 1;
            }
            assert!(share.iter().all(|n| *n <= 18_000), "{plan:?}: {share:?}");
        }
    }

    #[test]
    fn every_connection_has_one_worker() {
        for (connections, rooms, workers) in
            [(2000, 20, 2), (100, 1, 4), (1001, 3, 8), (7, 7, 3), (99, 10, 4)]
        {
            let plan = Plan { connections, rooms, workers };
            let mut all = Vec::new();
            for worker in 0..workers {
                let own: Vec<u32> = plan.connections_of(worker).collect();
                assert!(own.is_sorted() && own.iter().all(|c| plan.worker_of(*c) == worker));
                all.extend(own);
            }
            all.sort_unstable();
            assert!(all.into_iter().eq(0..connections), "{plan:?}");
        }
    }

    #[test]
    fn slow_members_are_spread_over_the_rooms() {
        let plan = Plan::new(1000, 10, 1, 18_000);
        for room in 0..10 {
            let slow = (0..1000).filter(|c| plan.room_of(*c) == room && plan.is_every(*c, 20)).count();
            assert_eq!(slow, 5);
        }
        assert!(!plan.is_every(0, 0));
    }

    #[test]
    fn rooms_have_distinct_places_on_a_worker() {
        let plan = Plan::new(1000, 10, 4, 18_000);
        for worker in 0..plan.workers {
            let mut places: Vec<usize> = (0..plan.rooms)
                .filter(|room| room % plan.workers == worker)
                .map(|room| plan.local_room(room))
                .collect();
            assert!(places.iter().all(|place| *place < plan.local_rooms()));
            places.dedup();
            assert_eq!(places.len(), (0..plan.rooms).filter(|room| room % plan.workers == worker).count());
        }
    }
}
