//! What is asked of this node alone: its registry of topics, and its shards by orders.

use std::time::Duration;

use futures::future::join_all;
use node_core::{
    api::{
        call::{Call, Said, TopicLine},
        order::{Listed, Order, Ordered, Report, Who},
        request::Publication,
    },
    shard::Mail,
};
use tokio::time::{sleep, timeout};

use super::Api;
use crate::mailbox::ShardHandle;

/// How long a shard may take for an order.
const SHARD_PATIENCE: Duration = Duration::from_millis(800);
/// How long a full mailbox is waited for.
const ROOM_PATIENCE: Duration = Duration::from_millis(200);
/// Pause between two looks at a full mailbox: nothing announces that it has room again.
const LOOK: Duration = Duration::from_millis(1);

impl Api {
    /// Carries a call out on this node.
    pub(super) async fn here(&self, call: &Call) -> Said {
        match call {
            Call::Members { topic } => Said::Members(self.app.topics.members(topic).into()),
            Call::Topics { prefix, after, limit } => {
                let (topics, more) = self.app.topics.list(prefix, after, *limit);
                let line =
                    |(topic, members): (_, u32)| TopicLine { topic, members: members.into(), nodes: 1 };
                Said::Topics { topics: topics.into_iter().map(line).collect(), more }
            }
            Call::List { who, limit } => self.list(who, *limit).await,
            Call::Disconnect { who, topic, goodbye } => {
                let (who, topic, goodbye) = (who.clone(), topic.clone(), goodbye.clone());
                self.done(who.as_ref(), &Order::Disconnect { who: who.clone(), topic, goodbye }).await
            }
            Call::Leave { topic, who } => {
                self.done(who.as_ref(), &Order::Leave { topic: topic.clone(), who: who.clone() }).await
            }
            Call::Refresh { user, within_millis } => {
                let order = Order::Refresh { user: user.clone(), within_millis: *within_millis };
                self.done(None, &order).await
            }
            Call::Say(publication) => self.say_here(publication).await,
            Call::Top { by, topics } => {
                let (top, whole) = self.top_here(*by, topics).await;
                Said::Top { top, partial: !whole }
            }
            Call::Claim(used) => Said::Claim(self.seen().claim(*used, self.app.now_millis())),
            Call::Settle(used, outcome) => {
                match outcome {
                    Some(outcome) => self.seen().settle(*used, *outcome, self.app.now_millis()),
                    None => self.seen().release(*used),
                }
                Said::Done { count: 0, partial: false }
            }
        }
    }

    /// The shards that may have connections that are meant.
    fn shards_of(&self, who: Option<&Who>) -> Vec<u8> {
        match who {
            Some(Who::Connection(connection)) if connection.node != self.tag() => Vec::new(),
            Some(Who::Connection(connection)) if usize::from(connection.shard) < self.app.shards.len() => {
                vec![connection.shard]
            }
            Some(Who::Connection(_)) => Vec::new(),
            Some(Who::User(_)) | None => self.app.shards.iter().map(ShardHandle::index).collect(),
        }
    }

    async fn list(&self, who: &Who, limit: usize) -> Said {
        let order = || Order::List { who: who.clone(), limit };
        let asked = self.shards_of(Some(who)).into_iter().map(|shard| self.order(shard, order()));
        let (mut connections, mut more, mut partial) = (Vec::<Listed>::new(), false, false);
        for report in join_all(asked).await {
            match report {
                Some(report) => {
                    more |= report.more;
                    connections.extend(report.connections);
                }
                None => partial = true,
            }
        }
        more |= connections.len() > limit;
        connections.truncate(limit);
        Said::Connections { connections, more, partial }
    }

    /// Gives an order to shards until it is carried out on all that are meant.
    async fn done(&self, who: Option<&Who>, order: &Order) -> Said {
        let asked = self.shards_of(who).into_iter().map(|shard| self.done_on(shard, order));
        let (mut count, mut partial) = (0, false);
        for (done, is_whole) in join_all(asked).await {
            count += done;
            partial |= !is_whole;
        }
        Said::Done { count, partial }
    }

    /// The same on one shard; on how many connections, and whether it reported in time.
    async fn done_on(&self, shard: u8, order: &Order) -> (u64, bool) {
        let mut count = 0;
        loop {
            let Some(Report { done, more, .. }) = self.order(shard, order.clone()).await else {
                return (count, false);
            };
            count += done;
            if !more || done == 0 {
                return (count, true);
            }
        }
    }

    async fn say_here(&self, publication: &Publication) -> Said {
        let config = self.app.config.load_full();
        // Another node may know other topics, or allow shorter messages.
        let Ok(said) = publication.read(&config) else { return Said::Done { count: 0, partial: true } };
        let Some(except) = said.except else { return Said::Done { count: 0, partial: true } };
        let (mut count, mut partial) = (0, false);
        for broadcast in said.broadcasts {
            let Some(content) = broadcast.unpack() else { continue };
            self.app.api_counts.published();
            for shard in self.app.topics.shards(content.topic).iter() {
                let order = Order::Say { broadcast: broadcast.clone(), except: except.clone() };
                match self.order(shard, order).await {
                    Some(_) => count += 1,
                    None => partial = true,
                }
            }
        }
        Said::Done { count, partial }
    }

    /// Gives a shard an order, and waits for its report; none when it takes too long.
    pub(super) async fn order(&self, shard: u8, order: Order) -> Option<Report> {
        let number = self.number();
        let mut wait = self.reports.wait(number);
        if !self.send(shard, Mail::Order(Box::new(Ordered { number, order }))).await {
            return None;
        }
        self.app.shards.get(usize::from(shard))?.ring();
        timeout(SHARD_PATIENCE, wait.next()).await.ok().flatten()
    }

    /// Puts something into the mailbox of a shard without waking it. False when it has no room for too long.
    pub(super) async fn send(&self, shard: u8, mut mail: Mail) -> bool {
        let Some(handle) = self.app.shards.get(usize::from(shard)) else { return false };
        let mut waited = Duration::ZERO;
        while let Err(back) = handle.push(mail) {
            if waited >= ROOM_PATIENCE {
                return false;
            }
            mail = back;
            handle.ring();
            sleep(LOOK).await;
            waited += LOOK;
        }
        true
    }
}
