//! The list of the keys of a fleet's tickets, as it stands in the Secret of the fleet: the operator writes it, and the nodes read
//! it.
//!
//! A Secret reaches the nodes of a fleet at different times. So each key says when it begins to count, and is written long
//! before: then all nodes have it and change to it at once.

/// Most keys of a list; the operator has three at most.
const MOST_KEYS: usize = 8;

/// A key, and when it counts.
#[derive(Clone, PartialEq, Eq)]
pub struct DatedKey {
    /// Seconds since 1970 from which on tickets are made with this key, until the next one counts.
    pub from: u64,
    /// The key: letters, digits and signs of ASCII.
    pub key: String,
}

impl std::fmt::Debug for DatedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatedKey").field("from", &self.from).finish_non_exhaustive()
    }
}

/// Keys in the order in which they count, one at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyList(Vec<DatedKey>);

impl KeyList {
    /// A list of these keys. `None` when there are none or too many, when they do not rise in time, or when one is not of
    /// letters, digits and signs.
    #[must_use]
    pub fn new(keys: Vec<DatedKey>) -> Option<Self> {
        let is_text =
            |key: &DatedKey| !key.key.is_empty() && key.key.bytes().all(|byte| byte.is_ascii_graphic());
        let rise = keys.windows(2).all(|pair| pair[0].from < pair[1].from);
        let fits = (1..=MOST_KEYS).contains(&keys.len()) && rise && keys.iter().all(is_text);
        fits.then_some(Self(keys))
    }

    /// Reads a list: a line for each key, with its seconds, a space and the key. Further words of a line, which a later version
    /// may write, count for nothing. `None` when it is no such list.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let read = |line: &str| {
            let mut words = line.split(' ');
            Some(DatedKey { from: words.next()?.parse().ok()?, key: words.next()?.to_owned() })
        };
        // One more than may be is enough to tell that there are too many.
        Self::new(text.lines().take(MOST_KEYS + 1).map(read).collect::<Option<_>>()?)
    }

    /// The list as [`KeyList::parse`] reads it.
    #[must_use]
    pub fn text(&self) -> String {
        self.0.iter().map(|DatedKey { from, key }| format!("{from} {key}\n")).collect()
    }

    /// The keys, in the order in which they count.
    #[must_use]
    pub fn keys(&self) -> &[DatedKey] {
        &self.0
    }

    /// Which of the keys counts at a time in seconds since 1970.
    #[must_use]
    pub fn current(&self, now: u64) -> usize {
        current(&self.0, |key| key.from, now)
    }
}

/// The last key that counts at a time. Before the first one that is the first, so that it serves at once whatever the clocks
/// say.
pub(super) fn current<T>(keys: &[T], from: impl Fn(&T) -> u64, now: u64) -> usize {
    keys.iter().rposition(|key| from(key) <= now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_it_was_written_and_shows_no_key() {
        let text = "0 first\n1800000000 p~2!\n1800604800 third\n";
        let list = KeyList::parse(text).unwrap();
        assert_eq!(list.text(), text);
        assert_eq!(KeyList::parse(text.trim()), Some(list.clone()));
        let shown = format!("{list:?}");
        assert!(shown.contains("1800604800") && !shown.contains("third"), "{shown}");
        assert_eq!(KeyList::parse("0 first\n1800000000 p~2! more of it\n1800604800 third "), Some(list));
        let nine: String = (0..9).map(|from| format!("{from} key\n")).collect();
        assert!(KeyList::parse(nine.trim_end_matches("8 key\n")).is_some());
        for wrong in
            ["", "key", "1", "1 ", "x key", "-1 key", "1 a\n\n2 b", "2 a\n1 b", "1 a\n1 b", "1 \u{e9}", &nine]
        {
            assert_eq!(KeyList::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_last_key_whose_time_has_come_counts_and_the_first_one_before() {
        let list = KeyList::parse("10 a\n20 b\n30 c").unwrap();
        for (now, index) in [(0, 0), (10, 0), (19, 0), (20, 1), (29, 1), (30, 2), (u64::MAX, 2)] {
            assert_eq!(list.current(now), index, "{now}");
        }
    }
}
