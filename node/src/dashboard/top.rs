//! The rooms of this node that are said most, for the dashboard.

use node_core::{
    api::{
        call::Said,
        top::{By, Top},
    },
    config::TopicPattern,
};
use serde::Serialize;

use crate::api::Api;

/// Rooms of each list.
const ROOMS: usize = 10;
/// Thousandths of writes/s in one.
const THOUSANDTHS: u64 = 1_000;

/// The lists. Each is what the shards answered in time.
#[derive(Debug, Serialize)]
pub(super) struct TopRooms {
    by_writes: Vec<Room>,
    by_members: Vec<Room>,
}

#[derive(Debug, Serialize)]
struct Room {
    topic: String,
    members: u64,
    writes_per_second: u64,
    bytes_per_second: u64,
}

/// The first rooms of this node.
pub(super) async fn rooms(api: &Api) -> TopRooms {
    TopRooms { by_writes: first(api, By::Writes).await, by_members: first(api, By::Members).await }
}

async fn first(api: &Api, by: By) -> Vec<Room> {
    let Said::Top { top: Top { rooms, .. }, .. } = api.top_here(by, &[TopicPattern("*".to_owned())]).await
    else {
        return Vec::new();
    };
    let room = |(topic, figures): (String, node_core::api::top::Figures)| Room {
        topic,
        members: figures.members,
        writes_per_second: figures.milliwrites.div_ceil(THOUSANDTHS),
        bytes_per_second: figures.bytes,
    };
    rooms.into_iter().take(ROOMS).map(room).collect()
}
