//! The keys of the nodes' TLS tickets, and when they change.
//!
//! Kubelets see a Secret up to a minute and a half apart. So the next key is written a day before it counts, and the one before
//! it stays for as long as tickets of it are good. Between the two, all nodes have all keys that any ticket needs.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use node_core::tls::{DatedKey, KeyList, TICKET_PERIOD_MILLIS};

use crate::names::{TICKET_KEY, TICKET_KEYS};

/// Time in seconds for which tickets are made with one key.
const ROTATION_SECONDS: u64 = 7 * 86_400;
/// Time in seconds between the moment at which the next key is written and the one at which it counts.
const AHEAD_SECONDS: u64 = 86_400;
/// Time in seconds for which the key before is kept: a ticket is good for its period of time and the next one.
const KEPT_SECONDS: u64 = 2 * TICKET_PERIOD_MILLIS / 1_000;

/// Values of a Secret by their keys.
type Values = BTreeMap<String, ByteString>;

/// The list with which a Secret begins, at a time in milliseconds since 1970: one key, which counts at once. `key` must consist
/// of letters and digits.
#[must_use]
pub fn first(now: u64, key: &str) -> String {
    format!("{} {key}\n", now / 1_000)
}

/// What is to be written into a Secret at a time in milliseconds since 1970, by key; `None` is for a key that is removed.
/// `live` has the values that are there, and `known` those that were seen last. A list that nobody can read is made anew, from
/// none of the keys that there were; one that is not there comes back. `fresh` must be random letters and digits.
#[must_use]
pub fn changes(live: &Values, known: &Values, now: u64, fresh: &str) -> BTreeMap<String, Option<ByteString>> {
    let now = now / 1_000;
    let there = list(live);
    let before = match &there {
        None if live.contains_key(TICKET_KEYS) => None,
        None => list(known).or_else(|| taken_over(live, now)),
        there => there.clone(),
    };
    let keys = rotated(before.map_or_else(Vec::new, |list| list.keys().to_vec()), now, fresh);
    let has_one_key = text(live, TICKET_KEY).is_some_and(|one| keys.iter().any(|key| key.key == one));
    let mut changes = BTreeMap::new();
    // It is none only when `fresh` is not of letters and digits.
    if let Some(list) = KeyList::new(keys)
        && there.as_ref() != Some(&list)
    {
        changes.insert(TICKET_KEYS.to_owned(), Some(ByteString(list.text().into_bytes())));
    }
    if live.contains_key(TICKET_KEY) && !has_one_key {
        changes.insert(TICKET_KEY.to_owned(), None);
    }
    changes
}

/// Whether something is to be written into a Secret with these values at a time in milliseconds since 1970.
#[must_use]
pub fn is_due(values: &Values, now: u64) -> bool {
    !changes(values, values, now, "next").is_empty()
}

/// The keys as they should be at a time in seconds since 1970.
fn rotated(mut keys: Vec<DatedKey>, now: u64, fresh: &str) -> Vec<DatedKey> {
    // A key that counts later than any is written for is of a clock that went ahead.
    keys.retain(|key| key.from <= now + 2 * AHEAD_SECONDS);
    let Some(current) = keys.iter().rposition(|key| key.from <= now).or((!keys.is_empty()).then_some(0))
    else {
        return vec![DatedKey { from: now, key: fresh.to_owned() }];
    };
    let since = keys[current].from;
    if current + 1 == keys.len() && since + ROTATION_SECONDS <= now + AHEAD_SECONDS {
        keys.push(DatedKey { from: now + AHEAD_SECONDS, key: fresh.to_owned() });
    }
    if since + KEPT_SECONDS <= now {
        keys.drain(..current);
    }
    keys
}

/// The one key of a Secret from before keys were rotated. Nodes of then go on reading it where it is, until it is erased.
fn taken_over(live: &Values, now: u64) -> Option<KeyList> {
    KeyList::new(vec![DatedKey { from: now, key: text(live, TICKET_KEY)?.to_owned() }])
}

fn list(values: &Values) -> Option<KeyList> {
    KeyList::parse(text(values, TICKET_KEYS)?)
}

fn text<'a>(values: &'a Values, key: &str) -> Option<&'a str> {
    std::str::from_utf8(&values.get(key)?.0).ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;
    /// A time in seconds.
    const BEGIN: u64 = 1_800_000_000;

    fn values(pairs: &[(&str, &str)]) -> Values {
        pairs.iter().map(|(key, text)| ((*key).to_owned(), ByteString(text.as_bytes().to_vec()))).collect()
    }

    /// What [`changes`] says at a time in seconds, as texts.
    fn wanted(live: &Values, now: u64, fresh: &str) -> Vec<(String, Option<String>)> {
        let text = |value: ByteString| String::from_utf8(value.0).unwrap();
        let changes = changes(live, &Values::new(), now * 1_000, fresh).into_iter();
        changes.map(|(key, value)| (key, value.map(text))).collect()
    }

    /// Writes what is wanted.
    fn write(live: &mut Values, now: u64, fresh: &str) -> bool {
        let changes = changes(live, &Values::new(), now * 1_000, fresh);
        assert_eq!(is_due(live, now * 1_000), !changes.is_empty());
        let is_any = !changes.is_empty();
        for (key, value) in changes {
            match value {
                Some(value) => live.insert(key, value),
                None => live.remove(&key),
            };
        }
        assert!(!is_due(live, now * 1_000), "one write is enough");
        is_any
    }

    #[test]
    fn a_key_is_written_a_day_before_it_counts_and_erased_a_day_after_the_next_one() {
        let mut live = values(&[(TICKET_KEYS, &first(BEGIN * 1_000, "a"))]);
        let mut writes = Vec::new();
        for hour in 0..24 * 23 {
            let now = BEGIN + hour * 3_600;
            if write(&mut live, now, &format!("key{hour}")) {
                writes.push((hour / 24, text(&live, TICKET_KEYS).unwrap().replace('\n', ", ")));
            }
        }
        let at = |day: u64| BEGIN + day * DAY;
        let (a, b, c) = (at(0), at(7), at(14));
        assert_eq!(
            writes,
            [
                (6, format!("{a} a, {b} key144")),
                (8, format!("{b} key144")),
                (13, format!("{b} key144, {c} key312")),
                (15, format!("{c} key312")),
                (20, format!("{c} key312, {} key480", at(21))),
                (22, format!("{} key480", at(21))),
            ]
        );
    }

    /// At each moment, a node that read the list up to a day ago and another that reads it now open each other's tickets.
    #[test]
    fn nodes_with_lists_of_different_moments_know_each_others_keys() {
        let mut live = values(&[(TICKET_KEY, "a")]);
        let mut lists: Vec<KeyList> = Vec::new();
        for hour in 0..24 * 30 {
            let now = BEGIN + hour * 3_600;
            write(&mut live, now, &format!("key{hour}"));
            lists.push(list(&live).unwrap());
            for late in lists.iter().rev().take(24) {
                let (late_key, key) = (&late.keys()[late.current(now)], &lists[lists.len() - 1]);
                assert_eq!(late_key, &key.keys()[key.current(now)], "hour {hour}");
                // Tickets of the last 23 hours are of keys that are there.
                let then = &late.keys()[late.current(now - 23 * 3_600)];
                assert!(hour < 24 || key.keys().contains(then), "hour {hour}");
            }
        }
    }

    #[test]
    fn the_one_key_of_before_is_taken_over_and_removed_when_it_is_erased() {
        let mut live = values(&[(TICKET_KEY, "old\n"), ("admin-token", "x")]);
        let list = (TICKET_KEYS.to_owned(), Some(format!("{BEGIN} old\n")));
        assert_eq!(wanted(&live, BEGIN, "new"), [list]);
        write(&mut live, BEGIN, "new");
        write(&mut live, BEGIN + 6 * DAY, "new");
        assert!(live.contains_key(TICKET_KEY));
        let gone = (TICKET_KEY.to_owned(), None);
        let list = (TICKET_KEYS.to_owned(), Some(format!("{} new\n", BEGIN + 7 * DAY)));
        assert_eq!(wanted(&live, BEGIN + 8 * DAY, "third"), [gone, list]);
        write(&mut live, BEGIN + 8 * DAY, "third");
        assert_eq!(live.len(), 2);
        // One that fits no list is replaced.
        let odd = values(&[(TICKET_KEY, "two words")]);
        let list = (TICKET_KEYS.to_owned(), Some(format!("{BEGIN} new\n")));
        assert_eq!(wanted(&odd, BEGIN, "new"), [(TICKET_KEY.to_owned(), None), list]);
    }

    #[test]
    fn a_list_that_is_gone_comes_back_and_one_that_nobody_can_read_is_made_anew() {
        let known = values(&[(TICKET_KEYS, "1800000000 a\n")]);
        let back = changes(&Values::new(), &known, BEGIN * 1_000, "new");
        assert_eq!(back[TICKET_KEYS], Some(ByteString(b"1800000000 a\n".to_vec())));
        let anew = Some(ByteString(format!("{BEGIN} new\n").into_bytes()));
        for broken in ["", "a", "2 b\n1 a", "new"] {
            for known in [&Values::new(), &known] {
                let live = values(&[(TICKET_KEYS, broken)]);
                let written = changes(&live, known, BEGIN * 1_000, "new");
                assert_eq!(written, [(TICKET_KEYS.to_owned(), anew.clone())].into(), "{broken:?}");
            }
        }
    }

    /// Any other text in the place of the list does that, while an operator runs.
    #[test]
    fn all_tickets_can_be_made_void_also_those_of_the_one_key_of_before() {
        let known = values(&[(TICKET_KEY, "old"), (TICKET_KEYS, &format!("{BEGIN} old\n"))]);
        let live = values(&[(TICKET_KEY, "old"), (TICKET_KEYS, "new")]);
        assert!(is_due(&live, BEGIN * 1_000));
        let anew = Some(ByteString(format!("{BEGIN} fresh\n").into_bytes()));
        let wanted = [(TICKET_KEY.to_owned(), None), (TICKET_KEYS.to_owned(), anew)];
        assert_eq!(changes(&live, &known, BEGIN * 1_000, "fresh"), wanted.into());
    }

    #[test]
    fn what_a_later_version_writes_behind_a_key_is_left_there() {
        let live = values(&[(TICKET_KEYS, &format!("{BEGIN} a more\n"))]);
        assert!(!is_due(&live, BEGIN * 1_000));
    }

    #[test]
    fn a_fleet_that_was_not_looked_at_for_long_gets_its_next_key_with_a_day_before_it_counts() {
        let live = values(&[(TICKET_KEYS, "1 a\n2 b\n")]);
        let list = (TICKET_KEYS.to_owned(), Some(format!("2 b\n{} new\n", BEGIN + DAY)));
        assert_eq!(wanted(&live, BEGIN, "new"), [list]);
    }

    #[test]
    fn a_clock_that_went_ahead_stops_no_rotation() {
        let far = BEGIN + 365 * DAY;
        let live = values(&[(TICKET_KEYS, &format!("{BEGIN} a\n{far} b\n"))]);
        let list = (TICKET_KEYS.to_owned(), Some(format!("{BEGIN} a\n")));
        assert_eq!(wanted(&live, BEGIN + 60, "new"), [list]);
        let live = values(&[(TICKET_KEYS, &format!("{far} a\n"))]);
        let list = (TICKET_KEYS.to_owned(), Some(format!("{BEGIN} new\n")));
        assert_eq!(wanted(&live, BEGIN, "new"), [list]);
        // A clock that is a little behind changes nothing.
        let live = values(&[(TICKET_KEYS, &format!("{BEGIN} a\n"))]);
        assert!(!is_due(&live, (BEGIN - 60) * 1_000));
    }
}
