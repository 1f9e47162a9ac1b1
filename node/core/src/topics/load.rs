//! How much is said to the members of a room, in twenty bytes.
//!
//! Deliveries to a member, and bytes to all of them, are counted in windows of [`WINDOW_MILLIS`], of which the present and the last
//! are kept. What a room says is known once a whole window has been counted; until then nobody may take it for little.

/// The binary logarithm of a window's milliseconds: long enough that a room that says something each second is no guess,
/// short enough that a room which begins to speak shows it within the time that a new node takes to start.
const WINDOW_BITS: u32 = 11;
/// Length of a window in milliseconds.
const WINDOW_MILLIS: u64 = 1 << WINDOW_BITS;
/// Deliveries are counted in thousandths, because those of a member are a fraction where the sender hears nothing.
const THOUSANDTHS: u64 = 1_000;

/// The window before the present one: there was none, or it was not counted from its begin.
const UNKNOWN: u32 = u32::MAX;
/// The present window was not counted from its begin, and there is none before it.
const BEGUN: u32 = u32::MAX - 1;

/// Deliveries to a member of a room, lately.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// The number of the present window.
    window: u32,
    /// Thousandths of deliveries in the window before, or [`UNKNOWN`] or [`BEGUN`].
    last: u32,
    /// The same in the present window.
    present: u32,
    /// Bytes to all members in the window before; none when it was not counted from its begin.
    last_bytes: u32,
    /// The same in the present window. Beyond 4 GiB in a window, more than a shard can write, it counts no further.
    present_bytes: u32,
}

/// What is said per second, as far as it was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rates {
    /// Thousandths of writes to each member.
    pub(crate) milliwrites_each: u64,
    /// Bytes to all members.
    pub(crate) bytes: u64,
}

/// The number of the window. A shard has no 2^32 of them.
const fn window(now_millis: u64) -> u32 {
    (now_millis >> WINDOW_BITS) as u32
}

/// What was counted in the last window and the present one, per second.
const fn per_second(last: u32, present: u32, now_millis: u64) -> u64 {
    let millis = WINDOW_MILLIS + now_millis % WINDOW_MILLIS;
    (last as u64 + present as u64) * 1_000 / millis
}

impl Default for Load {
    fn default() -> Self {
        Self { window: 0, last: BEGUN, present: 0, last_bytes: 0, present_bytes: 0 }
    }
}

impl Load {
    /// The room is open from now on.
    pub(crate) fn begin(&mut self, now_millis: u64) {
        *self = Self { window: window(now_millis), ..Self::default() };
    }

    /// So many frames of so many bytes in all were queued to so many members that hear.
    #[inline]
    pub(crate) fn note(&mut self, (writes, bytes): (u64, u64), listeners: u64, now_millis: u64) {
        let now = window(now_millis);
        if now != self.window {
            self.roll(now);
        }
        let each = writes * THOUSANDTHS / listeners.max(1);
        let each = u32::try_from(each).unwrap_or(u32::MAX);
        self.present = self.present.saturating_add(each).min(BEGUN - 1);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.present_bytes = self.present_bytes.saturating_add(bytes);
    }

    #[cold]
    const fn roll(&mut self, now: u32) {
        (self.last, self.last_bytes) = match (now.wrapping_sub(self.window), self.last) {
            (1, BEGUN) => (UNKNOWN, 0),
            (1, _) => (self.present, self.present_bytes),
            _ => (0, 0),
        };
        self.window = now;
        (self.present, self.present_bytes) = (0, 0);
    }

    /// The windows as they are at this time.
    const fn seen(&self, now_millis: u64) -> Self {
        let mut seen = *self;
        let now = window(now_millis);
        if now != seen.window {
            seen.roll(now);
        }
        seen
    }

    /// Thousandths of writes/s to each member over the last whole window and the present one; none when no whole window was
    /// counted.
    pub(crate) const fn per_second(&self, now_millis: u64) -> Option<u64> {
        let seen = self.seen(now_millis);
        if seen.last >= BEGUN {
            return None;
        }
        Some(per_second(seen.last, seen.present, now_millis))
    }

    /// What is said over the same time, as far as it was counted: of a room that opened within the last two windows, less than
    /// what it says.
    pub(crate) const fn rates(&self, now_millis: u64) -> Rates {
        let seen = self.seen(now_millis);
        let last = if seen.last >= BEGUN { 0 } else { seen.last };
        Rates {
            milliwrites_each: per_second(last, seen.present, now_millis),
            bytes: per_second(seen.last_bytes, seen.present_bytes, now_millis),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_seen_as_it_is_once_it_is_known() {
        arbtest::arbtest(|u| {
            let begin = u.int_in_range(0..=10_000_000u64)?;
            let every = u.int_in_range(1..=500u64)?;
            let members = u.int_in_range(1..=50u64)?;
            let mut load = Load::default();
            load.begin(begin);
            let mut now = begin;
            while now < begin + 20_000 {
                now += every;
                load.note((members, members * 10), members, now);
                let known = load.per_second(now);
                let age = now - begin;
                assert!(known.is_none() || age > WINDOW_MILLIS, "after {age} ms");
                assert!(known.is_some() || age <= 2 * WINDOW_MILLIS, "after {age} ms");
                // One more or fewer may fall into the time that is looked at.
                let true_rate = 1_000_000 / every;
                assert!(known.is_none_or(|rate| rate.abs_diff(true_rate) <= 1_000_000 / WINDOW_MILLIS + 1));
                let counted = load.rates(now);
                assert!(known.is_none_or(|rate| rate == counted.milliwrites_each));
                // Each of the writes has ten bytes, and both are rounded down.
                let bytes = counted.milliwrites_each * members / 100;
                assert!(counted.bytes.abs_diff(bytes) <= members + 1, "{} {bytes}", counted.bytes);
            }
            Ok(())
        })
        .budget_ms(200);
    }

    #[test]
    fn silence_is_known_after_a_whole_window_and_what_was_said_is_forgotten() {
        let mut load = Load::default();
        load.begin(100);
        load.note((9, 90), 3, 200);
        assert_eq!(load.per_second(WINDOW_MILLIS), None, "the first window was not whole");
        let counted = Rates {
            milliwrites_each: 3_000 * 1_000 / (WINDOW_MILLIS + 200),
            bytes: 90 * 1_000 / (WINDOW_MILLIS + 200),
        };
        assert_eq!(load.rates(200), counted, "what was counted is not nothing");
        assert_eq!(load.rates(WINDOW_MILLIS), Rates { milliwrites_each: 0, bytes: 0 });
        assert_eq!(load.per_second(2 * WINDOW_MILLIS), Some(0));
        load.note((6, 60), 3, 2 * WINDOW_MILLIS);
        assert_eq!(load.rates(3 * WINDOW_MILLIS).bytes, 60 * 1_000 / WINDOW_MILLIS);
        assert_eq!(load.per_second(3 * WINDOW_MILLIS), Some(2_000 * 1_000 / WINDOW_MILLIS));
        assert_eq!(load.per_second(4 * WINDOW_MILLIS), Some(0));
        load.note((u64::from(u32::MAX), u64::MAX), 1, 4 * WINDOW_MILLIS);
        load.note((1, 1), 1, 4 * WINDOW_MILLIS);
        assert!(load.per_second(5 * WINDOW_MILLIS).is_some(), "a huge number is no mark");
    }
}
