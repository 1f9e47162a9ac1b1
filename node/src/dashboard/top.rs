//! The rooms of this node that are said most, for the dashboard.

use node_core::{
    api::top::{By, Figures},
    config::TopicPattern,
};
use serde::Serialize;

use crate::api::Api;

/// Rooms of each list.
const ROOMS: usize = 10;

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
    let (top, _) = api.top_here(by, &[TopicPattern("*".to_owned())]).await;
    let room = |(topic, figures): (String, Figures)| Room {
        topic,
        members: figures.members,
        writes_per_second: figures.writes_per_second(),
        bytes_per_second: figures.bytes,
    };
    top.rooms.into_iter().take(ROOMS).map(room).collect()
}
