//! Makes words of others fit for a status: one line, cut to a bound, and without anything that looks like a secret.

/// Most bytes that are kept of such words; three of them and their remedies fit into a condition.
const MAX_WORDS: usize = 240;
/// What stands in place of something that may be a secret.
pub(crate) const HIDDEN: &str = "[hidden]";
/// Words after which a secret may follow.
const TELLTALE: [&str; 8] =
    ["password", "passwd", "token", "secret", "authorization", "bearer", "apikey", "api-key"];

/// The first [`MAX_WORDS`] bytes of a message.
pub(crate) fn short(message: &str) -> String {
    let text = plain(message);
    match cut(&text) {
        Some(end) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// The last [`MAX_WORDS`] bytes of a log: the last lines of a process tell why it ended.
pub(crate) fn tail(log: &str) -> String {
    let text = plain(log);
    let from = text.len().saturating_sub(MAX_WORDS);
    match (from..=text.len()).find(|at| text.is_char_boundary(*at)) {
        Some(start) if start > 0 => format!("...{}", &text[start..]),
        _ => text,
    }
}

/// The message without the pod's name with which a refusal begins, and which is another one at each attempt.
pub(crate) fn without_pod(message: &str) -> &str {
    let rest = message.strip_prefix("pods \"").and_then(|rest| rest.split_once("\" is forbidden: "));
    rest.map_or(message, |(_, rest)| rest)
}

fn cut(text: &str) -> Option<usize> {
    (text.len() > MAX_WORDS)
        .then(|| (0..=MAX_WORDS).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default())
}

/// One line without anything that looks like a secret: the text after `password=` and the like, and user and password
/// of a URL.
fn plain(text: &str) -> String {
    let mut words = Vec::new();
    let mut hide = false;
    for word in text.split_whitespace() {
        let word: String = word.chars().filter(|c| !c.is_control()).collect();
        let (shown, next) = if hide { (HIDDEN.to_owned(), false) } else { hidden(&word) };
        // `Authorization: Bearer x` has two such words in a row.
        hide = next || (hide && is_telltale(&word));
        words.push(shown);
    }
    words.join(" ")
}

/// The word as it may be shown, and whether the next one is the secret.
fn hidden(word: &str) -> (String, bool) {
    if let (Some(scheme), Some(at)) = (word.find("://"), word.rfind('@'))
        && scheme + 3 < at
    {
        return (format!("{}{HIDDEN}{}", &word[..scheme + 3], &word[at..]), false);
    }
    if let Some(sign) = word.find(['=', ':'])
        && is_telltale(&word[..sign])
    {
        let empty = word[sign + 1..].is_empty();
        return if empty { (word.to_owned(), true) } else { (format!("{}{HIDDEN}", &word[..=sign]), false) };
    }
    (word.to_owned(), word.eq_ignore_ascii_case("bearer"))
}

/// Whether a key is one of the [`TELLTALE`] words, perhaps with something in front, as in `nats_password`.
pub(crate) fn is_telltale(key: &str) -> bool {
    let key = key.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_ascii_lowercase();
    TELLTALE.iter().any(|word| key.ends_with(word))
}

#[cfg(test)]
mod tests {
    use super::{HIDDEN, MAX_WORDS, short, tail};

    #[test]
    fn nothing_that_looks_like_a_secret_is_repeated() {
        for text in [
            "nats: password=hunter2 refused",
            "NATS_PASSWORD: hunter2",
            "\"password\":\"hunter2\"",
            "Authorization: Bearer hunter2",
            "cannot reach nats://user:hunter2@nats:4222",
            "--token=hunter2",
        ] {
            let shown = short(text);
            assert!(!shown.contains("hunter2") && shown.contains(HIDDEN), "{shown}");
        }
        let harmless = "secret \"chat-node\" not found: MountVolume.SetUp failed for volume \"secrets\"";
        assert_eq!(short(harmless), harmless, "the name of a Secret is none");
    }

    #[test]
    fn texts_are_one_bounded_line() {
        let long = "ä\n".repeat(10_000);
        for text in [short(&long), tail(&long)] {
            assert!(text.len() <= MAX_WORDS + 3 && !text.contains('\n'), "{text}");
        }
        assert!(tail(&format!("{} the end", "x".repeat(1_000))).ends_with("the end"));
    }
}
