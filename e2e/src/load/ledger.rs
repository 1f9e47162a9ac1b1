//! What one connection was owed and what it got.
//!
//! Each room numbers its publishes. A connection is owed every publish whose number was given out after its
//! join reply had been read, until its connection ends. The window that remembers single messages is that of
//! IPsec's anti-replay check (RFC 4303, appendix A2): a lower bound and a bitmap above it.

/// How many publishes of one room may be on their way to a connection out of order before the oldest one
/// missing is taken for lost.
pub(super) const WINDOW: u32 = 256;
const WORDS: usize = WINDOW as usize / 64;

/// The account of one connection in its room.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    joined_at: u32,
    /// Everything below is decided: received or lost.
    floor: u32,
    /// Bit `i` is the publish `floor + i`.
    mask: [u64; WORDS],
}

/// What the arrival of one message meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receipt {
    /// Owed, and here for the first time.
    Counted,
    /// Arrived before, or so late that it had been given up.
    Duplicate,
    /// Sent before this connection was known to have joined: legal, owed to nobody.
    Early,
}

impl Ledger {
    /// Starts an account: `next` is the room's next publish number, read after the join reply.
    pub(super) fn open(next: u32) -> Ledger {
        Ledger { joined_at: next, floor: next, mask: [0; WORDS] }
    }

    /// Takes note of publish `number`; numbers given up for lost are handed to `lost`.
    pub(super) fn receive(&mut self, number: u32, mut lost: impl FnMut(u32)) -> Receipt {
        if number < self.joined_at {
            return Receipt::Early;
        }
        if number < self.floor {
            return Receipt::Duplicate;
        }
        if number - self.floor >= WINDOW {
            let give_up = number - self.floor - (WINDOW - 1);
            self.missing_below(self.floor + give_up, &mut lost);
            self.advance(give_up);
        }
        let (word, bit) = place(number - self.floor);
        if self.mask[word] & bit != 0 {
            return Receipt::Duplicate;
        }
        self.mask[word] |= bit;
        let done = self
            .mask
            .iter()
            .position(|word| *word != u64::MAX)
            .map_or(WINDOW, |full| full as u32 * 64 + self.mask[full].trailing_ones());
        self.advance(done);
        Receipt::Counted
    }

    /// Hands every number below `next` that has not arrived to `missing`, in order.
    pub(super) fn missing_below(&self, next: u32, mut missing: impl FnMut(u32)) {
        for number in self.floor..next {
            let offset = number - self.floor;
            let (word, bit) = place(offset.min(WINDOW - 1));
            if offset >= WINDOW || self.mask[word] & bit == 0 {
                missing(number);
            }
        }
    }

    /// How many publishes below `next` have not arrived.
    pub(super) fn outstanding(&self, next: u32) -> u32 {
        let received: u32 = self.mask.iter().map(|word| word.count_ones()).sum();
        next.saturating_sub(self.floor).saturating_sub(received)
    }

    /// How many publishes this account was owed when the room's next number is `next`.
    pub(super) fn owed(&self, next: u32) -> u32 {
        next.saturating_sub(self.joined_at)
    }

    fn advance(&mut self, by: u32) {
        self.floor += by;
        let (words, bits) = ((by / 64) as usize, by % 64);
        for i in 0..WORDS {
            let low = self.mask.get(i + words).copied().unwrap_or(0);
            let high = self.mask.get(i + words + 1).copied().unwrap_or(0);
            self.mask[i] = if bits == 0 { low } else { low >> bits | high << (64 - bits) };
        }
    }
}

fn place(offset: u32) -> (usize, u64) {
    ((offset / 64) as usize, 1 << (offset % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, seq::SliceRandom};
    use std::collections::BTreeSet;

    #[test]
    fn in_order_leaves_nothing_outstanding() {
        let mut ledger = Ledger::open(5);
        assert_eq!(ledger.receive(4, |_| panic!("nothing is lost")), Receipt::Early);
        for number in 5..2000 {
            assert_eq!(ledger.receive(number, |_| panic!("nothing is lost")), Receipt::Counted);
            assert_eq!(ledger.outstanding(number + 1), 0);
        }
        assert_eq!(ledger.receive(1999, |_| ()), Receipt::Duplicate);
        assert_eq!(ledger.owed(2000), 1995);
    }

    #[test]
    fn a_gap_is_lost_once_the_window_has_passed() {
        let mut ledger = Ledger::open(0);
        let mut lost = Vec::new();
        for number in (0..1000).filter(|n| *n != 7) {
            ledger.receive(number, |n| lost.push(n));
        }
        assert_eq!(lost, [7]);
        assert_eq!(ledger.outstanding(1000), 0);
    }

    #[test]
    fn agrees_with_a_set_under_random_reorder_loss_and_duplication() {
        let seed: u64 = rand::random();
        println!("seed {seed}");
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        for _ in 0..200 {
            let first = random.random_range(0..1000);
            let total = random.random_range(1..2000u32);
            let mut order: Vec<u32> = (first..first + total).filter(|_| !random.random_bool(0.02)).collect();
            for chunk in order.chunks_mut(100) {
                chunk.shuffle(&mut random);
            }
            let mut ledger = Ledger::open(first);
            let (mut seen, mut lost) = (BTreeSet::new(), BTreeSet::new());
            for number in order {
                assert_eq!(ledger.receive(number, |n| assert!(lost.insert(n))), Receipt::Counted, "{number}");
                assert!(seen.insert(number));
                assert_eq!(ledger.receive(number, |_| ()), Receipt::Duplicate);
            }
            ledger.missing_below(first + total, |n| assert!(lost.insert(n), "{n} was given up twice"));
            let expected: BTreeSet<u32> = (first..first + total).filter(|n| !seen.contains(n)).collect();
            assert_eq!(lost, expected);
        }
    }
}
