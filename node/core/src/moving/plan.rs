//! The node's part: operations, and what each shard may do in them.

use std::collections::VecDeque;

use super::{MoveOrder, MoveRefusal, MoveReport, MoveTask, REMEMBERED, Share};
use crate::{
    admin::{self, HotRoom, RebalanceRequest, RebalanceStatus},
    limits::{MAX_AGE_MILLIS, MAX_LEASE_MILLIS, MAX_OPERATION_BYTES, MIN_LEASE_MILLIS},
};

const THOUSANDTHS: u64 = 1_000;
/// Nobody can ask for more than this, of connections or writes/s: parts of it can be multiplied without care.
const MOST: u64 = 1 << 40;

/// How much a shard has, by which an operation is split over the shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Weight {
    /// Its connections.
    pub connections: u64,
    /// Its writes/s.
    pub writes_per_second: u64,
}

/// One operation.
#[derive(Debug)]
struct Operation {
    name: String,
    number: u64,
    /// What each shard may do, by its position.
    shares: Vec<Share>,
    /// Until when it goes on, if nobody asks again; none once it has ended.
    lease_ends_millis: Option<u64>,
}

/// The operations of a node: the one under way, and some that were.
#[derive(Debug, Default)]
pub struct Moving {
    /// The last one is that under way, or was the last.
    operations: VecDeque<Operation>,
    last_number: u64,
}

impl Moving {
    /// Whether an operation is under way.
    #[must_use]
    pub fn is_under_way(&self, now_millis: u64) -> bool {
        self.under_way(now_millis).is_some()
    }

    fn under_way(&self, now_millis: u64) -> Option<&Operation> {
        self.operations.back().filter(|last| last.lease_ends_millis.is_some_and(|ends| now_millis < ends))
    }

    /// Begins an operation, or goes on with one, which ends any other. Returns the orders, one for each shard. Each counts when
    /// its shard has taken it, and when one has not, the same request is to be sent again.
    ///
    /// # Errors
    /// When a value of the request is out of its range.
    pub fn request(
        &mut self,
        request: &RebalanceRequest,
        now_millis: u64,
        shards: &[Weight],
    ) -> Result<Vec<MoveOrder>, MoveRefusal> {
        let (min_age_millis, lease_millis) = check(request)?;
        let mut operation = self.take(&request.operation, shards.len());
        operation.lease_ends_millis = Some(now_millis + u64::from(lease_millis));
        operation.allow(request, shards);
        let paces = paces(request.connections_per_second, &operation.shares);
        let order = |(share, milliconnections_per_second): (&Share, u64)| {
            MoveOrder::Close(MoveTask {
                operation: operation.number,
                share: *share,
                milliconnections_per_second,
                min_age_millis,
                lease_millis,
            })
        };
        let orders = operation.shares.iter().zip(paces).map(order).collect();
        self.operations.push_back(operation);
        if self.operations.len() > REMEMBERED {
            self.operations.pop_front();
        }
        Ok(orders)
    }

    /// The operation of this name as far as it is remembered, or a new one.
    fn take(&mut self, name: &str, shards: usize) -> Operation {
        let known = self.operations.iter().position(|operation| operation.name == name);
        if let Some(known) = known.and_then(|position| self.operations.remove(position)) {
            return known;
        }
        self.last_number += 1;
        Operation {
            name: name.to_owned(),
            number: self.last_number,
            shares: vec![Share::default(); shards],
            lease_ends_millis: None,
        }
    }

    /// Ends the operation under way. False when there is none.
    pub fn end(&mut self, now_millis: u64) -> bool {
        let was = self.is_under_way(now_millis);
        if let Some(last) = self.operations.back_mut() {
            last.lease_ends_millis = None;
        }
        was
    }

    /// The operation under way, with what the shards report; none when there is none.
    #[must_use]
    pub fn status(&self, now_millis: u64, reports: &[MoveReport]) -> Option<RebalanceStatus> {
        self.under_way(now_millis).map(|operation| operation.status(reports))
    }

    /// The same for the last operation, also when it has ended; empty when there was none.
    #[must_use]
    pub fn last_status(&self, reports: &[MoveReport]) -> RebalanceStatus {
        let none = RebalanceStatus { version: admin::VERSION, ..RebalanceStatus::default() };
        self.operations.back().map_or(none, |operation| operation.status(reports))
    }
}

impl Operation {
    /// Sets what the shards may do to what is asked for, in which earlier requests of the same operation are included.
    fn allow(&mut self, request: &RebalanceRequest, shards: &[Weight]) {
        let connections: Vec<_> = shards.iter().map(|shard| shard.connections).collect();
        let allowed: Vec<_> = self.shares.iter().map(|share| share.connections).collect();
        let allowed = extended(&allowed, request.connections.min(MOST), &connections);
        let milliwrites = if request.writes_per_second == 0 {
            vec![Share::NO_BOUND; shards.len()]
        } else {
            let writes: Vec<_> = shards.iter().map(|shard| shard.writes_per_second).collect();
            // A shard that had no bound begins with none of it: what it closed meanwhile is counted against its part.
            let bounded =
                |share: &Share| if share.milliwrites == Share::NO_BOUND { 0 } else { share.milliwrites };
            let allowed: Vec<_> = self.shares.iter().map(bounded).collect();
            extended(&allowed, request.writes_per_second.min(MOST) * THOUSANDTHS, &writes)
        };
        let shares = allowed.into_iter().zip(milliwrites);
        self.shares = shares.map(|(connections, milliwrites)| Share { connections, milliwrites }).collect();
    }

    fn status(&self, reports: &[MoveReport]) -> RebalanceStatus {
        let own = || reports.iter().filter(|report| report.operation == self.number);
        let milliwrites: u64 = own().map(|report| report.moved.milliwrites).sum();
        RebalanceStatus {
            version: admin::VERSION,
            operation: self.name.clone(),
            moved: own().map(|report| report.moved.connections).sum(),
            moved_writes_per_second: milliwrites / THOUSANDTHS,
            done: own().filter(|report| report.done).count() == self.shares.len(),
            hot_room: hottest(own().filter_map(|report| report.hot_room.as_ref())),
        }
    }
}

/// Of the hot rooms of the shards the one with most writes. A room that several shards name is one room.
fn hottest<'a>(rooms: impl Iterator<Item = &'a HotRoom>) -> Option<HotRoom> {
    let mut sums: Vec<HotRoom> = Vec::new();
    for room in rooms {
        if let Some(sum) = sums.iter_mut().find(|sum| sum.topic == room.topic) {
            sum.writes_per_second += room.writes_per_second;
            sum.members += room.members;
        } else {
            sums.push(room.clone());
        }
    }
    sums.into_iter().max_by_key(|room| room.writes_per_second)
}

/// The age and the lease of a request.
fn check(request: &RebalanceRequest) -> Result<(u32, u32), MoveRefusal> {
    if request.operation.is_empty() || request.operation.len() > MAX_OPERATION_BYTES {
        return Err(MoveRefusal::Operation);
    }
    if request.connections_per_second == 0 {
        return Err(MoveRefusal::Pace);
    }
    if !(MIN_LEASE_MILLIS..=MAX_LEASE_MILLIS).contains(&request.lease_millis) {
        return Err(MoveRefusal::Lease);
    }
    if request.min_age_millis > MAX_AGE_MILLIS {
        return Err(MoveRefusal::Age);
    }
    // Both are far below 2^32.
    Ok((request.min_age_millis as u32, request.lease_millis as u32))
}

/// Splits a whole into parts as large as the weights are to each other, which add up to the whole. Without any weight the
/// parts are equal.
fn split(whole: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    let equal = u128::from(sum == 0);
    let sum = if sum == 0 { weights.len() as u128 } else { sum };
    let (mut passed, mut given) = (0, 0);
    let part = |weight: &u64| {
        passed += u128::from(*weight) + equal;
        // The parts up to here together, rounded down: the last one ends at the whole.
        let until = u128::from(whole) * passed / sum;
        let part = until - given;
        given = until;
        part as u64
    };
    weights.iter().map(part).collect()
}

/// What each shard may do when the whole is now this: what it was allowed before, and its part of what was added. When the
/// whole became less, each is allowed less in the same measure.
fn extended(allowed: &[u64], whole: u64, weights: &[u64]) -> Vec<u64> {
    let before: u64 = allowed.iter().sum();
    if whole < before {
        return split(whole, allowed);
    }
    let added = split(whole - before, weights);
    allowed.iter().zip(added).map(|(part, more)| part + more).collect()
}

/// The paces of shards in thousandths of connections per second, by what they may close, so that all have done that at about
/// the same time. One that may close something has a pace, however slow.
fn paces(connections_per_second: u32, shares: &[Share]) -> Vec<u64> {
    let connections: Vec<_> = shares.iter().map(|share| share.connections).collect();
    let paces = split(u64::from(connections_per_second) * THOUSANDTHS, &connections);
    paces.into_iter().map(|pace| pace.max(1)).collect()
}

#[cfg(test)]
mod tests;
