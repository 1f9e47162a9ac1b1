//! The rooms that are said most, without a metric for each.
//!
//! A room counts what it says for the moving of clients anyway ([`crate::topics::load`]). So nothing is sketched on the hot path,
//! as Space-Saving would (Metwally, Agrawal and El Abbadi, ICDT 2005, with a look-up and a change of order for each publish):
//! who asks has the shards walk over their rooms, and the order is exact.
//!
//! A shard names its first [`NAMED`] rooms, and so does a node of the sums over its shards. With them goes the most that a room
//! which is not named may have, as in the first phase of TPUT (Cao and Wang, PODC 2004); these bounds add up over shards and nodes.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

use serde::{Deserialize, Serialize};

/// Most rooms that a shard or a node names: twice as many as are asked for at most.
pub const NAMED: usize = 200;
/// Most rooms in the answer to a backend.
pub const TOP_ROOMS: usize = 100;
/// Rooms in the answer when no number was asked for.
pub const USUAL_TOP_ROOMS: usize = 10;
/// Rooms that one order looks at, patterns of a key counted as rooms: a shard is kept from its clients for so long, which is less
/// than a millisecond.
pub const LOOKS: usize = 16_384;

/// Thousandths of writes/s in one.
pub const THOUSANDTHS: u64 = 1_000;

/// By what rooms are ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// Frames of broadcasts queued to members per second.
    #[default]
    Writes,
    /// Bytes of these frames per second.
    Bytes,
    /// Members.
    Members,
}

/// A room with its figures: of a shard, a node or several nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Thousandths of writes/s to its members.
    pub milliwrites: u64,
    /// Bytes/s of these.
    pub bytes: u64,
    /// Its members.
    pub members: u64,
    /// The nodes that name it.
    pub nodes: u64,
}

impl Figures {
    /// The figure that rooms are ranked by; writes in thousandths.
    #[must_use]
    pub const fn of(&self, by: By) -> u64 {
        match by {
            By::Writes => self.milliwrites,
            By::Bytes => self.bytes,
            By::Members => self.members,
        }
    }

    /// Writes/s to its members, rounded up: what is said at all is not nothing.
    #[must_use]
    pub const fn writes_per_second(&self) -> u64 {
        self.milliwrites.div_ceil(THOUSANDTHS)
    }

    const fn add(&mut self, other: &Self) {
        self.milliwrites = self.milliwrites.saturating_add(other.milliwrites);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.members = self.members.saturating_add(other.members);
        self.nodes = self.nodes.saturating_add(other.nodes);
    }
}

/// Rooms in their order, most first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Top {
    /// The topics with their figures.
    pub rooms: Vec<(String, Figures)>,
    /// The most that a room which is not named has, and that the figure of a named one may lack.
    pub unseen: u64,
}

impl Top {
    /// Puts the rooms in order and keeps the first ones. Returns the most that a room has which goes.
    fn cut(&mut self, by: By, most: usize) -> u64 {
        self.rooms.sort_unstable_by(|(topic, one), (other_topic, other)| {
            (Reverse(one.of(by)), topic).cmp(&(Reverse(other.of(by)), other_topic))
        });
        let next = self.rooms.get(most).map_or(0, |(_, next)| next.of(by));
        self.rooms.truncate(most);
        next
    }

    /// Takes in other rooms of the same shard.
    pub fn append(&mut self, other: Self, by: By) {
        self.rooms.extend(other.rooms);
        let gone = self.cut(by, NAMED);
        self.unseen = self.unseen.max(other.unseen).max(gone);
    }

    /// Adds up what shards or nodes say, each of all of its rooms.
    #[must_use]
    pub fn sum(parts: impl IntoIterator<Item = Self>, by: By) -> Self {
        let (mut sums, mut unseen) = (HashMap::<String, Figures>::new(), 0_u64);
        for part in parts {
            unseen = unseen.saturating_add(part.unseen);
            for (topic, figures) in part.rooms {
                sums.entry(topic).or_default().add(&figures);
            }
        }
        let mut sum = Self { rooms: sums.into_iter().collect(), unseen };
        let gone = sum.cut(by, NAMED);
        sum.unseen = sum.unseen.saturating_add(gone);
        sum
    }

    /// Sets figures anew for each room, and the order that comes of it.
    pub fn change(&mut self, by: By, change: impl Fn(&str, &mut Figures)) {
        self.rooms.iter_mut().for_each(|(topic, figures)| change(topic, figures));
        self.cut(by, NAMED);
    }
}

/// The first rooms of a walk, by their keys.
#[derive(Debug)]
pub(crate) struct Best<K> {
    first: BinaryHeap<Reverse<(u64, K)>>,
    unseen: u64,
}

impl<K: Ord> Best<K> {
    /// None yet.
    pub(crate) const fn new() -> Self {
        Self { first: BinaryHeap::new(), unseen: 0 }
    }

    /// Whether a room with this figure is not among the first. One that has nothing never is.
    pub(crate) fn misses(&self, figure: u64) -> bool {
        let least = self.first.peek().map_or(0, |Reverse((least, _))| *least);
        figure == 0 || (self.first.len() == NAMED && figure <= least)
    }

    /// A room has this figure.
    pub(crate) fn offer(&mut self, figure: u64, key: K) {
        if self.misses(figure) {
            self.unseen = self.unseen.max(figure);
            return;
        }
        self.first.push(Reverse((figure, key)));
        if self.first.len() > NAMED
            && let Some(Reverse((gone, _))) = self.first.pop()
        {
            self.unseen = self.unseen.max(gone);
        }
    }

    /// The keys of the first ones, in no order, and the most that another one has.
    pub(crate) fn into_parts(self) -> (impl Iterator<Item = K>, u64) {
        (self.first.into_iter().map(|Reverse((_, key))| key), self.unseen)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{bus::LETTER_BYTES, limits::MAX_TOPIC_BYTES};

    fn room(topic: &str, milliwrites: u64) -> (String, Figures) {
        (topic.to_owned(), Figures { milliwrites, bytes: 7, members: 1, nodes: 1 })
    }

    #[test]
    fn a_list_goes_into_one_letter_of_the_bus() {
        // A byte of a topic is at most an escape of six in JSON.
        let most = Figures { milliwrites: u64::MAX, bytes: u64::MAX, members: u64::MAX, nodes: u64::MAX };
        let rooms = vec![("\u{1}".repeat(MAX_TOPIC_BYTES), most); NAMED];
        let json = serde_json::to_vec(&Top { rooms, unseen: u64::MAX }).expect("JSON");
        assert!(json.len() < LETTER_BYTES / 2, "{}", json.len());
    }

    #[test]
    fn what_shards_say_is_added_up_and_what_they_leave_out_is_too() {
        let first = Top { rooms: vec![room("a", 5), room("b", 3)], unseen: 2 };
        let second = Top { rooms: vec![room("b", 4), room("c", 4)], unseen: 1 };
        let sum = Top::sum([first, second], By::Writes);
        let named: Vec<_> =
            sum.rooms.iter().map(|(topic, of)| (&**topic, of.milliwrites, of.nodes)).collect();
        assert_eq!((named, sum.unseen), (vec![("b", 7, 2), ("a", 5, 1), ("c", 4, 1)], 3));
        assert_eq!(Top::sum([], By::Bytes), Top::default());
    }

    /// Many rooms on several shards, each of which walks over them in parts.
    #[test]
    fn no_room_has_more_than_the_list_says_and_the_bound() {
        arbtest::arbtest(|u| {
            let most = u.int_in_range(1..=3 * NAMED as u64)?;
            let mut truth = BTreeMap::<String, u64>::new();
            let mut shards = Vec::new();
            for _ in 0..u.int_in_range(1..=4)? {
                let mut shard = Top::default();
                for part in 0..u.int_in_range(1..=3)? {
                    let mut best = Best::new();
                    for number in 0..u.int_in_range(0..=most)? {
                        let milliwrites = u.int_in_range(0..=1_000)?;
                        let topic = format!("{part}:{number}");
                        *truth.entry(topic.clone()).or_default() += milliwrites;
                        best.offer(milliwrites, (topic, milliwrites));
                    }
                    let (first, unseen) = best.into_parts();
                    let rooms = first.map(|(topic, milliwrites)| room(&topic, milliwrites)).collect();
                    shard.append(Top { rooms, unseen }, By::Writes);
                }
                shards.push(shard);
            }
            let is_whole = shards.iter().all(|shard| shard.unseen == 0);
            let sum = Top::sum(shards, By::Writes);
            assert!(
                sum.rooms.len() <= NAMED && sum.rooms.is_sorted_by_key(|(_, of)| Reverse(of.milliwrites))
            );
            let said: BTreeMap<_, _> = sum.rooms.into_iter().collect();
            for (topic, milliwrites) in &truth {
                let listed = said.get(topic).map_or(0, |figures| figures.milliwrites);
                assert!(listed <= *milliwrites && *milliwrites <= listed + sum.unseen, "{topic}");
                assert!(!is_whole || listed == 0 || listed == *milliwrites, "{topic}");
            }
            Ok(())
        })
        .budget_ms(300);
    }
}
