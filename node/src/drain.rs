//! How a node leaves: the stages, who asked for them, and the orders to the shards.
//!
//! Two parties ask: the operator through the admin port (and it may take the node back), and the kubelet with SIGTERM,
//! after which nothing takes it back. Shards know only "close at this rate" and "stop closing"; readiness is decided
//! here.

use std::sync::{Mutex, MutexGuard, PoisonError};

use node_core::admin::{DrainRequest, DrainStage, Phase};

use crate::mailbox::{DrainCommand, ShardHandle, ToShard};

/// The pace that closes everything in one turn.
pub const AT_ONCE: u32 = u32::MAX;

/// Why a drain order was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DrainError {
    /// SIGTERM came first.
    #[error("the process is ending and cannot be taken back; start another node instead")]
    Ending,
    /// The pace is zero.
    #[error("connectionsPerSecond: 0 never ends; use at least 1")]
    Pace,
    /// A shard's mailbox was full.
    #[error("a shard did not take the order because its mailbox is full; send it again")]
    Busy,
}

#[derive(Debug, Default)]
struct State {
    stage: Option<DrainStage>,
    ending: bool,
}

/// The drain of this node.
#[derive(Debug, Default)]
pub struct Drain(Mutex<State>);

impl Drain {
    /// What the node says about itself, given how many connections it holds and whether it may have become ready at all.
    pub fn phase(&self, connections: u64, started: bool) -> Phase {
        match self.state().stage {
            Some(DrainStage::Close) if connections == 0 => Phase::Closed,
            Some(DrainStage::Close) => Phase::Closing,
            Some(DrainStage::Unready) => Phase::Unready,
            None if started => Phase::Serving,
            None => Phase::Starting,
        }
    }

    /// Carries out the operator's request.
    ///
    /// # Errors
    /// When the process ends anyway and the request would hold it back, when the pace is zero, or a shard is too busy.
    pub fn request(
        &self,
        request: &DrainRequest,
        default_pace: u32,
        shards: &[ShardHandle],
    ) -> Result<(), DrainError> {
        let mut state = self.state();
        if state.ending && request.stage == DrainStage::Unready {
            return Err(DrainError::Ending);
        }
        let pace = request.connections_per_second.unwrap_or(default_pace);
        if pace == 0 {
            return Err(DrainError::Pace);
        }
        match request.stage {
            // From Close back to Unready: the node serves again, but stays out of the endpoints.
            DrainStage::Unready if state.stage == Some(DrainStage::Close) => stop_all(shards)?,
            DrainStage::Unready => {}
            DrainStage::Close => close_all(shards, pace)?,
        }
        state.stage = Some(request.stage);
        Ok(())
    }

    /// Takes the node back into service.
    ///
    /// # Errors
    /// When the process is ending, or a shard is too busy.
    pub fn cancel(&self, shards: &[ShardHandle]) -> Result<(), DrainError> {
        let mut state = self.state();
        if state.ending {
            return Err(DrainError::Ending);
        }
        stop_all(shards)?;
        state.stage = None;
        Ok(())
    }

    /// The process was told to end: unready from now on, and nothing takes it back. A close under way goes on. Returns
    /// whether there is one, that is whether endpoints have long been told.
    pub fn end(&self) -> bool {
        let mut state = self.state();
        state.ending = true;
        *state.stage.get_or_insert(DrainStage::Unready) == DrainStage::Close
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stop_all(shards: &[ShardHandle]) -> Result<(), DrainError> {
    for shard in shards {
        shard.send(ToShard::Drain(DrainCommand::Stop)).map_err(|_| DrainError::Busy)?;
    }
    Ok(())
}

fn close_all(shards: &[ShardHandle], pace: u32) -> Result<(), DrainError> {
    let connections: Vec<u64> = shards.iter().map(|shard| shard.stats().load().connections).collect();
    for (shard, connections_per_second) in shards.iter().zip(split(pace, &connections)) {
        let order = DrainCommand::Close { connections_per_second };
        shard.send(ToShard::Drain(order)).map_err(|_| DrainError::Busy)?;
    }
    Ok(())
}

/// Splits a pace by how many connections each shard has, so that all are empty at about the same time. Each gets at
/// least 1, for connections that arrived since.
fn split(pace: u32, connections: &[u64]) -> Vec<u32> {
    let total: u64 = connections.iter().sum::<u64>().max(1);
    let share = |count: u64| u128::from(pace) * u128::from(count) / u128::from(total);
    connections.iter().map(|&count| u32::try_from(share(count)).unwrap_or(AT_ONCE).max(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::{Mailbox, mailbox};

    fn request(stage: DrainStage, pace: Option<u32>) -> DrainRequest {
        DrainRequest { version: 1, stage, connections_per_second: pace }
    }

    fn orders(mailbox: &Mailbox) -> Vec<DrainCommand> {
        let items = std::iter::from_fn(|| mailbox.pop());
        items
            .map(|item| match item {
                ToShard::Drain(order) => order,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn the_pace_follows_the_connections() {
        assert_eq!(split(500, &[300, 100]), [375, 125]);
        assert_eq!(split(500, &[0, 0]), [1, 1]);
        assert_eq!(split(1, &[10, 10]), [1, 1]);
        assert_eq!(split(AT_ONCE, &[u64::MAX / 4, 1]).len(), 2);
    }

    #[test]
    fn the_operator_goes_back_and_forth() {
        let (shard, inbox) = mailbox(0).unwrap();
        let shards = [shard];
        let drain = Drain::default();
        assert_eq!((drain.phase(1, false), drain.phase(1, true)), (Phase::Starting, Phase::Serving));
        drain.request(&request(DrainStage::Unready, None), 500, &shards).unwrap();
        assert_eq!((drain.phase(1, true), orders(&inbox)), (Phase::Unready, vec![]));
        drain.request(&request(DrainStage::Close, Some(7)), 500, &shards).unwrap();
        assert_eq!((drain.phase(1, true), drain.phase(0, true)), (Phase::Closing, Phase::Closed));
        assert!(matches!(orders(&inbox)[..], [DrainCommand::Close { .. }]));
        drain.request(&request(DrainStage::Unready, None), 500, &shards).unwrap();
        assert_eq!((drain.phase(1, true), orders(&inbox)), (Phase::Unready, vec![DrainCommand::Stop]));
        drain.cancel(&shards).unwrap();
        assert_eq!(drain.phase(1, true), Phase::Serving);
        let zero = drain.request(&request(DrainStage::Close, Some(0)), 500, &shards);
        assert_eq!((zero, drain.phase(1, true)), (Err(DrainError::Pace), Phase::Serving));
    }

    #[test]
    fn nothing_takes_an_ending_process_back() {
        let (shard, inbox) = mailbox(0).unwrap();
        let shards = [shard];
        let drain = Drain::default();
        assert!(!drain.end());
        assert_eq!(drain.phase(1, true), Phase::Unready);
        assert_eq!(drain.cancel(&shards), Err(DrainError::Ending));
        drain.request(&request(DrainStage::Close, None), 500, &shards).unwrap();
        assert!(drain.end());
        assert_eq!(drain.phase(1, true), Phase::Closing);
        let back = drain.request(&request(DrainStage::Unready, None), 500, &shards);
        assert_eq!((back, orders(&inbox).len()), (Err(DrainError::Ending), 1));
    }

    #[test]
    fn a_full_mailbox_is_told() {
        let (shard, _inbox) = mailbox(0).unwrap();
        while shard.push(ToShard::Shutdown).is_ok() {}
        let drain = Drain::default();
        let result = drain.request(&request(DrainStage::Close, None), 500, &[shard]);
        assert_eq!((result, drain.phase(1, true)), (Err(DrainError::Busy), Phase::Serving));
    }
}
