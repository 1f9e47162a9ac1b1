//! A node that closes connections so that their clients come back on other nodes, as `node_core::moving` does it: which
//! connections, at which pace, and until when.

use node_core::admin::{RebalanceRequest, RebalanceStatus};

use super::cohort::{Cohort, born};

/// What a node moves.
#[derive(Clone, Debug)]
pub(super) struct Moving {
    request: RebalanceRequest,
    /// The second in which it was asked for last.
    asked: u32,
    /// The second in which the operation began here.
    began: u32,
    /// The second in which it ends unless it is asked for again.
    until: u32,
    moved: f64,
    shed: f64,
    done: bool,
}

impl Moving {
    /// Begins, or goes on with what an operation of the same id did.
    pub(super) fn asked(before: Option<Self>, request: RebalanceRequest, now: u32) -> Self {
        let until = now + u32::try_from(request.lease_millis / 1_000).unwrap_or(u32::MAX).min(3_600);
        match before.filter(|moving| moving.request.operation == request.operation) {
            Some(before) => Self { request, asked: now, until, done: false, ..before },
            None => Self { request, asked: now, began: now, until, moved: 0.0, shed: 0.0, done: false },
        }
    }

    /// Whether it still runs.
    pub(super) const fn runs(&self, now: u32) -> bool {
        now < self.until
    }

    /// What the node says of it.
    pub(super) fn says(&self) -> RebalanceStatus {
        RebalanceStatus {
            operation: self.request.operation.clone(),
            moved: self.moved.round() as u64,
            moved_writes_per_second: self.shed.round() as u64,
            done: self.done,
            ..RebalanceStatus::default()
        }
    }

    /// How many of each of these clients are closed in a second; `per_client` are the writes/s of a client by group. Where
    /// writes/s are to go, clients with many of them are closed rather than others.
    pub(super) fn second(&mut self, clients: &[Cohort], per_client: &[f64]) -> Vec<f64> {
        let young = self.request.min_age_millis.div_ceil(1_000);
        let may = |c: &Cohort| {
            c.born <= born(self.began) && (young == 0 || u64::from(c.born) + young <= u64::from(self.asked))
        };
        let by_writes = self.request.writes_per_second > 0;
        let weight = |c: &Cohort| match may(c) {
            true if by_writes => c.count * per_client[c.group],
            true => c.count,
            false => 0.0,
        };
        let all: f64 = clients.iter().map(weight).sum();
        let there: f64 = clients.iter().filter(|c| weight(c) > 0.0).map(|c| c.count).sum();
        let left = self.request.connections as f64 - self.moved;
        let mut count = left.min(self.request.connections_per_second.into()).min(there);
        if by_writes && all > 0.0 {
            let each = clients.iter().map(|c| weight(c) * per_client[c.group]).sum::<f64>() / all;
            count = count.min((self.request.writes_per_second as f64 - self.shed) / each);
        }
        if count < 0.5 {
            self.done = true;
            return vec![0.0; clients.len()];
        }
        let closed: Vec<f64> = clients.iter().map(|c| (count * weight(c) / all).min(c.count)).collect();
        self.moved += closed.iter().sum::<f64>();
        self.shed += clients.iter().zip(&closed).map(|(c, closed)| closed * per_client[c.group]).sum::<f64>();
        closed
    }
}

#[cfg(test)]
mod tests {
    use node_core::admin::{RebalanceRequest, VERSION};

    use super::super::cohort::Cohort;
    use super::Moving;

    fn request(connections: u64, writes: u64) -> RebalanceRequest {
        RebalanceRequest {
            version: VERSION,
            operation: "a".to_owned(),
            connections,
            writes_per_second: writes,
            connections_per_second: 100,
            min_age_millis: 0,
            lease_millis: 30_000,
        }
    }

    fn clients(group: usize, count: f64) -> Cohort {
        Cohort { group, born: 0, moved: false, count }
    }

    #[test]
    fn never_more_is_moved_than_was_asked_and_busy_clients_go_first() {
        let all = [clients(0, 1_000.0), clients(1, 1_000.0)];
        let mut moving = Moving::asked(None, request(250, 0), 10);
        let moved: f64 = (11..20).map(|_| moving.second(&all, &[1.0, 9.0]).iter().sum::<f64>()).sum();
        assert!((moved - 250.0).abs() < 1e-6 && moving.says().done, "{moved}");
        // The same operation goes on; it does not begin anew.
        let mut again = Moving::asked(Some(moving), request(260, 0), 20);
        assert!((again.second(&all, &[1.0, 9.0]).iter().sum::<f64>() - 10.0).abs() < 1e-6);
        let mut busy = Moving::asked(None, request(10_000, 820), 10);
        let first = busy.second(&all, &[1.0, 9.0]);
        assert!((first[0] - 10.0).abs() < 1e-6 && (first[1] - 90.0).abs() < 1e-6, "{first:?}");
        assert!(busy.second(&all, &[1.0, 9.0]).iter().sum::<f64>() < 1e-6 && busy.says().done);
        assert!(busy.runs(39) && !busy.runs(40), "the lease");
    }
}
