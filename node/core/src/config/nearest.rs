//! The key that somebody meant who wrote another one.

/// The most alike of some words, if any is alike enough for a slip of the pen: letters that were left out, added,
/// exchanged or swapped, one for each three letters of the word. Upper and lower case count as the same.
#[must_use]
pub fn nearest<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (word.chars().count() / 3).max(1);
    let distances = words.into_iter().map(|other| (distance(word, other), other));
    distances
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

/// Restricted Damerau-Levenshtein distance ("optimal string alignment"): the least number of letters that are left out,
/// added, exchanged, or swapped with their neighbour.
fn distance(one: &str, other: &str) -> usize {
    let letters = |text: &str| text.to_lowercase().chars().collect::<Vec<_>>();
    let (one, other) = (letters(one), letters(other));
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in one.iter().enumerate() {
        let mut now = vec![row + 1];
        for (column, with) in other.iter().enumerate() {
            let exchanged = last[column] + usize::from(letter != with);
            let mut least = exchanged.min(last[column + 1] + 1).min(now[column] + 1);
            if row > 0 && column > 0 && *letter == other[column - 1] && one[row - 1] == *with {
                least = least.min(before[column - 1] + 1);
            }
            now.push(least);
        }
        before = std::mem::replace(&mut last, now);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_pen_are_counted() {
        for (one, other, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("ab", "ba", 1),
            ("limits", "Limit", 1),
            ("maxFrames", "maxFrameBytes", 4),
            ("abc", "cab", 2),
        ] {
            assert_eq!((distance(one, other), distance(other, one)), (expected, expected), "{one} {other}");
        }
    }

    #[test]
    fn only_what_is_alike_is_proposed() {
        let keys = ["maxRooms", "maxConnections", "maxFrameBytes", "path"];
        for (word, meant) in [
            ("maxConection", Some("maxConnections")),
            ("maxroms", Some("maxRooms")),
            ("MAXROOMS", Some("maxRooms")),
            ("paht", Some("path")),
            ("xyz", None),
            ("", None),
            ("bus", None),
        ] {
            assert_eq!(nearest(word, keys), meant, "{word}");
        }
    }
}
