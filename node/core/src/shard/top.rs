//! The rooms of a shard that are said most, which it looks for when it is asked.

use super::state::Shard;
use crate::{
    api::top::{Best, By, Figures, LOOKS, Top},
    config::TopicPattern,
    topic::TopicKind,
    topics::room::{Room, RoomId},
};

impl Shard {
    /// The first rooms of those from a place of the table on whose topics match one of the patterns, if there are any; and where
    /// to go on when [`LOOKS`] were taken before the end.
    pub(super) fn top_rooms(&self, by: By, patterns: &[TopicPattern], from: usize) -> (Top, Option<usize>) {
        let (mut best, mut looks, mut next) = (Best::new(), 0, None);
        for (place, room) in self.topics.places(from) {
            if looks >= LOOKS {
                next = Some(place);
                break;
            }
            looks += 1;
            let Some(room) = room else { continue };
            if !patterns.is_empty() {
                looks += patterns.len();
                if !patterns.iter().any(|pattern| pattern.matches(room.shared().name())) {
                    continue;
                }
            }
            let figure = self.figures(room).of(by);
            // The name is elsewhere in memory, so it is looked at for the few that are among the first.
            if best.misses(figure) || room.shared().name().kind() == TopicKind::Shared {
                best.offer(figure, RoomId(place as u32));
            }
        }
        let (first, unseen) = best.into_parts();
        let rooms = first.map(|id| {
            let room = self.topics.get(id);
            (room.shared().topic().to_string(), self.figures(room))
        });
        let mut top = Top::default();
        top.append(Top { rooms: rooms.collect(), unseen }, by);
        (top, next)
    }

    fn figures(&self, room: &Room) -> Figures {
        let rates = room.load().rates(self.now_millis);
        Figures {
            milliwrites: rates.milliwrites_each.saturating_mul(room.hearing()),
            bytes: rates.bytes,
            members: room.members().len() as u64,
            nodes: 1,
        }
    }
}
