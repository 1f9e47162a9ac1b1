//! Chooses the shard that gets a new connection.
//!
//! The kernel spreads connections over the shards' listeners by a hash, evenly enough while they arrive. It knows
//! nothing of connections that ended, or of a shard whose descriptor table is full, so the shard that accepted a
//! connection hands it on when another has more room.

/// By how much a shard may exceed the emptiest: a fiftieth of its connections and a few, so that a few chance
/// differences at the start move nothing.
const SLACK_FRACTION: u32 = 50;
const SLACK: u32 = 16;

/// What the shard does with a socket that it accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It stays.
    Here,
    /// It goes to this shard.
    At(usize),
    /// No shard has room.
    Nowhere,
}

/// The place for one more socket of shard `index`, given what each holds and how many one can hold.
pub fn place(index: usize, held: impl Iterator<Item = u32>, capacity: u32) -> Place {
    let (mut own, mut emptiest, mut least) = (0, index, u32::MAX);
    for (shard, count) in held.enumerate() {
        if shard == index {
            own = count;
        }
        if count < least {
            (emptiest, least) = (shard, count);
        }
    }
    let bound = least.saturating_add(least / SLACK_FRACTION).saturating_add(SLACK);
    if own < capacity && own <= bound {
        Place::Here
    } else if least < capacity {
        Place::At(emptiest)
    } else {
        Place::Nowhere
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_emptiest_gets_what_is_beyond_the_slack_or_the_capacity() {
        let place = |index, held: &[u32], capacity| place(index, held.iter().copied(), capacity);
        assert_eq!(place(0, &[0, 0], 10), Place::Here);
        assert_eq!(place(0, &[16, 0], 100), Place::Here);
        assert_eq!(place(0, &[17, 0], 100), Place::At(1));
        assert_eq!(place(2, &[10_000, 5_000, 5_117], u32::MAX), Place::At(1));
        assert_eq!(place(2, &[10_000, 5_000, 5_116], u32::MAX), Place::Here);
        assert_eq!(place(0, &[10, 9], 10), Place::At(1));
        assert_eq!(place(0, &[10, 10], 10), Place::Nowhere);
    }

    #[test]
    fn a_long_run_of_uneven_ends_stays_within_a_tenth() {
        arbtest::arbtest(|u| {
            let shards = u.int_in_range(2..=8)?;
            let mut held = vec![0u32; shards];
            // The listeners of some shards get more connections, and connections end on any shard.
            for _ in 0..20_000 {
                let at = u.int_in_range(0..=shards - 1)?.min(u.int_in_range(0..=shards - 1)?);
                match place(at, held.iter().copied(), u32::MAX) {
                    Place::Here => held[at] += 1,
                    Place::At(other) => held[other] += 1,
                    Place::Nowhere => unreachable!("no bound"),
                }
            }
            let (least, most) = (held.iter().min().unwrap(), held.iter().max().unwrap());
            assert!(most - least <= least / SLACK_FRACTION + SLACK + 1, "{held:?}");
            Ok(())
        });
    }
}
