//! The account of one connection: the publishes that it was owed and those that it got.
//!
//! Each room numbers its publishes. A connection is owed every publish whose number was given out after its join
//! reply had been read, until the connection ends. A window remembers single messages, as IPsec's anti-replay check
//! does (RFC 4303, appendix A2): it is a bitmap in words that are aligned to the numbers, and a word leaves at the
//! front when it is full. The first word is part of the ledger; more are allocated only while messages are out of
//! order by more than that.

use std::collections::VecDeque;

/// Publishes per word of the window.
const WORD: u32 = 64;
/// So many words of one room's publishes may be on their way to a connection out of order. Beyond that, publishes
/// that are missing in the oldest word count as lost.
const WINDOW_WORDS: usize = 64;

/// The account of one connection in its room: 24 bytes while its messages come in order.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    joined_at: u32,
    /// A multiple of [`WORD`]; every publish below it is decided: received or lost.
    base: u32,
    /// Bit `i` is the publish `base + i`; set when it arrived or is not owed.
    first: u64,
    /// The words after the first, behind one pointer because nearly no ledger has any.
    more: Option<Box<More>>,
}

/// Words of the window.
#[derive(Debug, Default)]
struct More {
    words: VecDeque<u64>,
}

/// The meaning of one message's arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receipt {
    /// It is owed, and arrived for the first time.
    Counted,
    /// It arrived before, or came so late that it had been given up.
    Duplicate,
    /// It was sent before this connection was known to have joined: it may come, but is not owed.
    Early,
}

impl Ledger {
    /// Starts an account: `next` is the room's next publish number, read after the join reply.
    pub(super) fn open(next: u32) -> Ledger {
        Ledger { joined_at: next, base: next - next % WORD, first: (1 << (next % WORD)) - 1, more: None }
    }

    /// Records publish `number`; numbers that are given up as lost are handed to `lost`.
    #[inline]
    pub(super) fn receive(&mut self, number: u32, lost: impl FnMut(u32)) -> Receipt {
        if number < self.joined_at {
            return Receipt::Early;
        }
        if number < self.base {
            return Receipt::Duplicate;
        }
        let offset = number - self.base;
        if offset >= WORD {
            return self.receive_ahead(number, lost);
        }
        let bit = 1 << offset;
        if self.first & bit != 0 {
            return Receipt::Duplicate;
        }
        self.first |= bit;
        if self.first == u64::MAX {
            self.advance();
        }
        Receipt::Counted
    }

    #[cold]
    fn receive_ahead(&mut self, number: u32, mut lost: impl FnMut(u32)) -> Receipt {
        while (number - self.base) / WORD >= WINDOW_WORDS as u32 {
            missing(self.base, self.first, self.base + WORD, &mut lost);
            self.first = u64::MAX;
            self.advance();
        }
        let offset = number - self.base;
        if offset < WORD {
            return self.receive(number, lost);
        }
        let word = (offset / WORD - 1) as usize;
        let more = &mut self.more.get_or_insert_default().words;
        if more.len() <= word {
            more.resize(word + 1, 0);
        }
        let bit = 1 << (offset % WORD);
        if more[word] & bit != 0 {
            return Receipt::Duplicate;
        }
        more[word] |= bit;
        Receipt::Counted
    }

    /// Drops full words.
    fn advance(&mut self) {
        while self.first == u64::MAX {
            self.base += WORD;
            self.first = self.more.as_mut().and_then(|more| more.words.pop_front()).unwrap_or(0);
        }
        if self.more.as_ref().is_some_and(|more| more.words.is_empty()) {
            self.more = None;
        }
    }

    /// Marks a publish that is not expected: the connection sent it and its server does not echo.
    pub(super) fn excuse(&mut self, number: u32) {
        self.receive(number, |_| ());
    }

    /// Hands every number below `next` that has not arrived to `take`, in order.
    pub(super) fn missing_below(&self, next: u32, mut take: impl FnMut(u32)) {
        missing(self.base, self.first, next, &mut take);
        let mut base = self.base.saturating_add(WORD);
        for word in self.more.iter().flat_map(|more| &more.words) {
            missing(base, *word, next, &mut take);
            base = base.saturating_add(WORD);
        }
        for number in base..next {
            take(number);
        }
    }

    /// How many publishes below `next` have not arrived.
    pub(super) fn outstanding(&self, next: u32) -> u32 {
        let more: u32 = self.more.iter().flat_map(|more| &more.words).map(|word| word.count_ones()).sum();
        next.saturating_sub(self.base).saturating_sub(self.first.count_ones() + more)
    }

    /// How many publishes this account was owed when the room's next number is `next`.
    pub(super) fn owed(&self, next: u32) -> u32 {
        next.saturating_sub(self.joined_at)
    }
}

/// Hands the numbers of one word that are below `next` and not set to `take`.
fn missing(base: u32, word: u64, next: u32, take: &mut impl FnMut(u32)) {
    for number in base..next.min(base.saturating_add(WORD)) {
        if word & (1 << (number - base)) == 0 {
            take(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, seq::SliceRandom};
    use std::collections::BTreeSet;

    #[test]
    fn in_order_leaves_nothing_outstanding_and_takes_no_memory() {
        for first in [0, 5, 63, 64, 127] {
            let mut ledger = Ledger::open(first);
            assert_eq!(ledger.outstanding(first), 0);
            if first > 0 {
                assert_eq!(ledger.receive(first - 1, |_| panic!("nothing is lost")), Receipt::Early);
            }
            for number in first..2000 {
                assert_eq!(ledger.receive(number, |_| panic!("nothing is lost")), Receipt::Counted);
                assert_eq!(ledger.outstanding(number + 1), 0);
                assert!(ledger.more.is_none());
            }
            assert_eq!(ledger.receive(1999, |_| ()), Receipt::Duplicate);
            assert_eq!(ledger.owed(2000), 2000 - first);
        }
        assert_eq!(size_of::<Ledger>(), 24);
    }

    #[test]
    fn a_gap_is_lost_once_the_window_has_passed() {
        let window = WORD * WINDOW_WORDS as u32;
        let mut ledger = Ledger::open(0);
        let mut lost = Vec::new();
        for number in (0..2 * window).filter(|n| *n != 7) {
            ledger.receive(number, |n| lost.push(n));
        }
        assert_eq!(lost, [7]);
        assert_eq!(ledger.outstanding(2 * window), 0);
        assert_eq!(ledger.receive(10 * window, |n| lost.push(n)), Receipt::Counted);
        assert_eq!(ledger.outstanding(10 * window + 1) as usize + lost.len() - 1, 8 * window as usize);
    }

    #[test]
    fn an_excused_publish_is_not_outstanding() {
        let mut ledger = Ledger::open(3);
        ledger.excuse(4);
        assert_eq!(ledger.outstanding(5), 1);
        assert_eq!(ledger.receive(3, |_| ()), Receipt::Counted);
        assert_eq!(ledger.outstanding(5), 0);
    }

    #[test]
    fn agrees_with_a_set_under_random_reorder_loss_and_duplication() {
        let seed: u64 = rand::random();
        println!("seed {seed}");
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        for round in 0..200 {
            let first = random.random_range(0..1000);
            let total = random.random_range(1..9000u32);
            let mut order: Vec<u32> = (first..first + total).filter(|_| !random.random_bool(0.02)).collect();
            for chunk in order.chunks_mut(if round % 2 == 0 { 100 } else { 1500 }) {
                chunk.shuffle(&mut random);
            }
            let mut ledger = Ledger::open(first);
            let (mut seen, mut lost) = (BTreeSet::new(), BTreeSet::new());
            for number in order {
                assert_eq!(ledger.receive(number, |n| assert!(lost.insert(n))), Receipt::Counted, "{number}");
                assert!(seen.insert(number));
                assert_eq!(ledger.receive(number, |_| ()), Receipt::Duplicate);
            }
            let outstanding = ledger.outstanding(first + total) as usize;
            let given_up = lost.len();
            ledger.missing_below(first + total, |n| assert!(lost.insert(n), "{n} was given up twice"));
            assert_eq!(lost.len() - given_up, outstanding);
            let expected: BTreeSet<u32> = (first..first + total).filter(|n| !seen.contains(n)).collect();
            assert_eq!(lost, expected);
        }
    }
}
