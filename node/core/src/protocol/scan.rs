//! Reads JSON as strictly as the strictest of clients, without building anything.
//!
//! Payloads and refs are passed on as they came, so every client must be able to read what is let in here: with a
//! text that one reader takes and another refuses, a member could throw all members with the other reader out of a
//! room, again and again. Readers differ in three places, and here the strictest one counts: escapes of half a
//! surrogate pair, numbers that no double can hold, and nesting. Exactly those texts pass that `serde_json` reads
//! into a tree; a test checks it.
//!
//! It is one pass over the bytes, 16 of a string at a time. Nesting is one bit per level, so that depth costs no
//! memory.

use std::borrow::Cow;

use super::Malformed;
use crate::limits::MAX_JSON_DEPTH;

/// One bit per level tells an object from an array.
type Levels = u128;
const _: () = assert!(MAX_JSON_DEPTH < Levels::BITS as usize);

/// Bytes of a string that are looked at together.
const BLOCK: usize = 16;
/// A number without exponent and with at most so many bytes is far below the largest double, 1.8e308.
const SURELY_FINITE_BYTES: usize = 300;

/// A place in a JSON text.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

/// Checks that the text is one JSON value that every reader takes, nested at most [`MAX_JSON_DEPTH`] deep.
pub(super) fn check(text: &str) -> Result<(), Malformed> {
    let mut scanner = Scanner::new(text);
    scanner.value()?;
    scanner.end()
}

/// How many levels of arrays and objects a JSON text has at most at any place. It need not be valid.
#[must_use]
pub fn levels(text: &str) -> usize {
    let (mut scanner, mut depth, mut deepest) = (Scanner::new(text), 0_usize, 0);
    while let Ok(byte) = scanner.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' if scanner.string_rest().is_err() => break,
            _ => {}
        }
    }
    deepest
}

impl<'a> Scanner<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, Malformed> {
        let byte = self.peek().ok_or(Malformed)?;
        self.at += 1;
        Ok(byte)
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Takes the next byte that is no blank.
    pub(super) fn token(&mut self) -> Result<u8, Malformed> {
        self.skip_blanks();
        self.next()
    }

    /// Takes this byte, after blanks.
    pub(super) fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.token()? == byte { Ok(()) } else { Err(Malformed) }
    }

    /// What has not been looked at.
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Checks that only blanks follow.
    pub(super) fn end(&mut self) -> Result<(), Malformed> {
        self.skip_blanks();
        if self.at == self.text.len() { Ok(()) } else { Err(Malformed) }
    }

    /// The next string, unescaped.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, Malformed> {
        self.expect(b'"')?;
        let start = self.at;
        let escaped = self.string_rest()?;
        if escaped {
            serde_json::from_str(&self.text[start - 1..self.at]).map(Cow::Owned).map_err(|_| Malformed)
        } else {
            Ok(Cow::Borrowed(&self.text[start..self.at - 1]))
        }
    }

    /// The next value as its raw text.
    pub(super) fn value(&mut self) -> Result<&'a str, Malformed> {
        self.skip_blanks();
        let start = self.at;
        let (mut levels, mut depth): (Levels, usize) = (0, 0);
        loop {
            // Here a value begins.
            let opened = match self.token()? {
                b'"' => self.string_rest().map(|_| false)?,
                byte @ (b'-' | b'0'..=b'9') => self.number(byte).map(|()| false)?,
                b't' => self.word("rue")?,
                b'f' => self.word("alse")?,
                b'n' => self.word("ull")?,
                byte @ (b'[' | b'{') => {
                    if depth == MAX_JSON_DEPTH {
                        return Err(Malformed);
                    }
                    depth += 1;
                    levels = levels << 1 | Levels::from(byte == b'{');
                    true
                }
                _ => return Err(Malformed),
            };
            if opened && !self.closes_at_once(levels)? {
                continue;
            }
            if opened {
                (levels, depth) = (levels >> 1, depth - 1);
            }
            // Here a value has ended: closes the levels that end here, up to the next value.
            loop {
                if depth == 0 {
                    return Ok(&self.text[start..self.at]);
                }
                let is_object = levels & 1 == 1;
                match self.token()? {
                    b',' => {
                        if is_object {
                            self.key()?;
                        }
                        break;
                    }
                    b'}' if is_object => {}
                    b']' if !is_object => {}
                    _ => return Err(Malformed),
                }
                (levels, depth) = (levels >> 1, depth - 1);
            }
        }
    }

    /// After an opening bracket: takes the closing one if nothing is between, otherwise the first key of an object.
    fn closes_at_once(&mut self, levels: Levels) -> Result<bool, Malformed> {
        self.skip_blanks();
        let is_object = levels & 1 == 1;
        let closing = if is_object { b'}' } else { b']' };
        if self.peek() == Some(closing) {
            self.at += 1;
            return Ok(true);
        }
        if is_object {
            self.key()?;
        }
        Ok(false)
    }

    fn key(&mut self) -> Result<(), Malformed> {
        self.expect(b'"')?;
        self.string_rest()?;
        self.expect(b':')
    }

    /// Takes the rest of a word. Returns false, because a word never opens a level.
    fn word(&mut self, rest: &str) -> Result<bool, Malformed> {
        let found = self.text.as_bytes()[self.at..].starts_with(rest.as_bytes());
        self.at += rest.len();
        if found { Ok(false) } else { Err(Malformed) }
    }

    /// Takes the rest of a string and its closing quote; tells whether there are escapes in it.
    fn string_rest(&mut self) -> Result<bool, Malformed> {
        let mut escaped = false;
        loop {
            self.skip_plain();
            match self.next()? {
                b'"' => return Ok(escaped),
                b'\\' => {
                    escaped = true;
                    self.escape()?;
                }
                0..0x20 => return Err(Malformed),
                _ => {}
            }
        }
    }

    /// Skips bytes of a string that stand for themselves, in whole blocks only.
    fn skip_plain(&mut self) {
        while let Some(block) = self.text.as_bytes()[self.at..].first_chunk::<BLOCK>() {
            // The loop has no branch in it, so that it becomes a few vector instructions.
            let special =
                |byte: &u8| u8::from(*byte < 0x20) | u8::from(*byte == b'"') | u8::from(*byte == b'\\');
            if block.iter().fold(0, |any, byte| any | special(byte)) != 0 {
                break;
            }
            self.at += BLOCK;
        }
        let plain = |byte: &u8| *byte >= 0x20 && *byte != b'"' && *byte != b'\\';
        self.at += self.text.as_bytes()[self.at..].iter().take_while(|byte| plain(byte)).count();
    }

    /// Takes what follows a backslash. The two halves of a surrogate pair must come together.
    fn escape(&mut self) -> Result<(), Malformed> {
        match self.next()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(()),
            b'u' => match self.hex()? {
                0xd800..=0xdbff => {
                    let second = self.next()? == b'\\' && self.next()? == b'u';
                    if second && matches!(self.hex()?, 0xdc00..=0xdfff) { Ok(()) } else { Err(Malformed) }
                }
                0xdc00..=0xdfff => Err(Malformed),
                _ => Ok(()),
            },
            _ => Err(Malformed),
        }
    }

    fn hex(&mut self) -> Result<u32, Malformed> {
        let mut value = 0;
        for _ in 0..4 {
            value = value << 4 | char::from(self.next()?).to_digit(16).ok_or(Malformed)?;
        }
        Ok(value)
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }

    /// Takes the rest of a number that begins with `first`, which was taken already.
    fn number(&mut self, mut first: u8) -> Result<(), Malformed> {
        let start = self.at - 1;
        if first == b'-' {
            first = self.next()?;
        }
        match first {
            b'0' => {}
            b'1'..=b'9' => {
                self.digits();
            }
            _ => return Err(Malformed),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return Err(Malformed);
            }
        }
        let has_exponent = matches!(self.peek(), Some(b'e' | b'E'));
        if has_exponent {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(Malformed);
            }
        }
        let number = &self.text[start..self.at];
        if !has_exponent && number.len() <= SURELY_FINITE_BYTES {
            return Ok(());
        }
        if number.parse::<f64>().is_ok_and(f64::is_finite) { Ok(()) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use arbtest::arbtest;

    use super::*;

    /// Whether a strict reader, which builds a tree, takes the text.
    fn strict(text: &str) -> bool {
        serde_json::from_str::<serde_json::Value>(text).is_ok()
    }

    #[test]
    fn what_strict_readers_refuse_is_refused() {
        for bad in [
            r#""\ud83d""#,
            r#""\ude00""#,
            r#""\ud83d\ud83d""#,
            r#""\ud83dx""#,
            r#""\ud83d\n""#,
            r#"{"\ud83d":1}"#,
            "1e999",
            "-1e999",
            "[1,2e+400]",
            "1.e1",
            "01",
            "1e",
            "+1",
            "-",
            "nul",
            "[1,]",
            "{,}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            "[}",
            "\"\u{1}\"",
            r#""\x""#,
            r#""\u12g4""#,
            "",
            "1 2",
        ] {
            assert_eq!((check(bad), strict(bad)), (Err(Malformed), false), "{bad}");
        }
        let digits = "9".repeat(400);
        assert_eq!((check(&digits), strict(&digits)), (Err(Malformed), false));
        for good in [
            r#""\ud83d\ude00 \u0000 é""#,
            "1e308",
            "1e-999",
            "-0.0E+1",
            " { \"a\" : [ true , null , { } , [ ] ] } ",
            &"9".repeat(305),
            r#""0123456789abcdef\\0123456789abcdef\"""#,
        ] {
            assert_eq!((check(good), strict(good)), (Ok(()), true), "{good}");
        }
    }

    #[test]
    fn nesting_is_bounded_and_costs_nothing() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(check(&nested(MAX_JSON_DEPTH)), Ok(()));
        assert_eq!(check(&nested(MAX_JSON_DEPTH + 1)), Err(Malformed));
        let objects = format!("{}1{}", r#"{"a":"#.repeat(MAX_JSON_DEPTH), "}".repeat(MAX_JSON_DEPTH));
        assert_eq!(check(&objects), Ok(()));
        assert_eq!(check(&"[".repeat(30_000)), Err(Malformed));
        for (text, expected) in
            [("1", 0), ("{}", 1), (r#"{"a":[[1],"[[[{\"["],"b":{}}"#, 3), ("]]][", 1), ("[\"[", 1)]
        {
            assert_eq!(levels(text), expected, "{text}");
        }
        assert_eq!(levels(&nested(MAX_JSON_DEPTH + 1)), MAX_JSON_DEPTH + 1);
        // An echo nests it three levels deeper, which strict readers still take.
        let echo =
            format!(r#"["1","2","t","phx_reply",{{"status":"ok","response":{}}}]"#, nested(MAX_JSON_DEPTH));
        assert!(strict(&echo) && !strict(&echo.replacen('[', "[[[", 3).replacen(']', "]]]", 3)));
    }

    /// Random texts made of the pieces that matter, and damaged ones, against the reader that builds a tree.
    #[test]
    fn exactly_what_a_strict_reader_takes_passes() {
        const PIECES: [&str; 29] = [
            "[",
            "]",
            "{",
            "}",
            ",",
            ":",
            "\"",
            "\"a\"",
            "\"a\":",
            "\\",
            "\\u",
            "d83d",
            "\\ude00",
            "\\ud83d",
            "\\n",
            "0",
            "7",
            "-",
            ".",
            "e",
            "E+",
            "99",
            "400",
            "true",
            "null",
            " ",
            "é",
            "abcdefghijklmnop",
            "\u{1}",
        ];
        let mut taken = 0;
        arbtest(|u| {
            let mut text = String::new();
            for _ in 0..u.int_in_range(1..=12)? {
                text.push_str(u.choose::<&str>(&PIECES)?);
            }
            if u.arbitrary()? {
                text = format!("[{text}]");
            }
            if u.arbitrary()? {
                text = format!("\"{text}\"");
            }
            assert_eq!(check(&text).is_ok(), strict(&text), "{text:?}");
            taken += u32::from(strict(&text));
            Ok(())
        });
        assert!(taken > 0, "no text was JSON");
    }
}
