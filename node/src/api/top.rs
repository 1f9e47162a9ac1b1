//! The rooms of the fleet that are said most.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State};
use futures::future::join_all;
use node_core::{
    api::{
        call::{Call, Said},
        order::Order,
        top::{By, Figures, THOUSANDTHS, TOP_ROOMS, Top, USUAL_TOP_ROOMS},
    },
    config::TopicPattern,
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use super::{Api, auth::Reader, problem::Problem, read::Asked, topics::up_to};
use crate::mailbox::ShardHandle;

/// How long a node gives its shards another part of their rooms to look at, and how long a walk waits for the one before it: with
/// the last part it takes less time than the node that asks waits for.
const WALK: Duration = Duration::from_millis(500);

/// What a list may be asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Query {
    by: By,
    limit: Option<usize>,
}

/// The first rooms.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rooms {
    by: By,
    topics: Vec<Room>,
    unseen: u64,
    partial: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Room {
    topic: String,
    writes_per_second: u64,
    bytes_per_second: u64,
    members: u64,
    nodes: u64,
}

/// `GET /v1/topics/top`.
pub(super) async fn rooms(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
    Asked(Query { by, limit }): Asked<Query>,
) -> Result<Json<Rooms>, Problem> {
    let limit = up_to(TOP_ROOMS, limit.unwrap_or(USUAL_TOP_ROOMS))?;
    let all = api.everywhere(Call::Top { by, topics: caller.key().topics().to_vec() }).await;
    let (mut tops, mut partial) = (Vec::new(), all.is_partial());
    for said in all.said() {
        match said {
            Said::Top { top, partial: lacks } => {
                tops.push(top.clone());
                partial |= lacks;
            }
            _ => partial = true,
        }
    }
    let top = Top::sum(tops, by);
    let room = |(topic, figures): (_, Figures)| Room {
        topic,
        writes_per_second: figures.writes_per_second(),
        bytes_per_second: figures.bytes,
        members: figures.members,
        nodes: figures.nodes,
    };
    let unseen = if by == By::Writes { top.unseen.div_ceil(THOUSANDTHS) } else { top.unseen };
    let topics = top.rooms.into_iter().take(limit).map(room).collect();
    Ok(Json(Rooms { by, topics, unseen, partial }))
}

impl Api {
    /// The first rooms of this node, and whether its shards have looked at all of them.
    pub(crate) async fn top_here(&self, by: By, topics: &[TopicPattern]) -> (Top, bool) {
        let end = Instant::now() + WALK;
        // A walk keeps each shard from its clients for a little, so however many ask, the shards do one at a time.
        let Ok(_turn) = timeout_at(end, self.walks.lock()).await else {
            return (Top::default(), false);
        };
        let topics: Arc<[_]> = topics.into();
        let parts = self.app.shards.iter().map(|shard| self.top_of(shard, (by, &topics), end));
        let (tops, whole): (Vec<_>, Vec<_>) = join_all(parts).await.into_iter().unzip();
        let mut top = Top::sum(tops, by);
        top.change(by, |topic, figures| {
            figures.nodes = 1;
            // A shard with few of the members may not have named the room.
            figures.members = self.app.topics.members(topic).into();
        });
        (top, !whole.contains(&false))
    }

    /// The first rooms of a shard, and whether it has looked at all of them.
    async fn top_of(
        &self,
        shard: &ShardHandle,
        (by, topics): (By, &Arc<[TopicPattern]>),
        end: Instant,
    ) -> (Top, bool) {
        let (mut top, mut from) = (Top::default(), 0);
        loop {
            let order = Order::Top { by, topics: Arc::clone(topics), from };
            let Some(report) = self.order(shard.index(), order).await else { return (top, false) };
            top.append(report.top, by);
            match report.next {
                None => return (top, true),
                Some(next) if Instant::now() < end => from = next,
                Some(_) => return (top, false),
            }
        }
    }
}
