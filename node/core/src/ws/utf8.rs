//! UTF-8 that comes in parts: whether a text can still begin so.

use super::frame::WsError;

/// Longest character in bytes.
const LONGEST: usize = 4;

/// The end of what has come of a text, as far as it is the beginning of a character.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Utf8 {
    tail: [u8; LONGEST],
    tail_bytes: u8,
}

impl Utf8 {
    /// Takes the next part of the text.
    ///
    /// # Errors
    /// [`WsError::Utf8`] as soon as no text begins with what has come.
    pub(super) fn push(&mut self, mut part: &[u8]) -> Result<(), WsError> {
        while self.tail_bytes > 0
            && let Some((&byte, rest)) = part.split_first()
        {
            // A character of four bytes is never a tail, so that there is a place for one more.
            let end = usize::from(self.tail_bytes) + 1;
            self.tail[end - 1] = byte;
            let seen = self.tail;
            self.tail_bytes = 0;
            self.begin(&seen[..end])?;
            part = rest;
        }
        self.begin(part)
    }

    /// Takes a part that begins with a character.
    fn begin(&mut self, part: &[u8]) -> Result<(), WsError> {
        let Err(error) = std::str::from_utf8(part) else { return Ok(()) };
        // There is a length where the bytes are wrong whatever follows them.
        if error.error_len().is_some() {
            return Err(WsError::Utf8);
        }
        let tail = &part[error.valid_up_to()..];
        self.tail[..tail.len()].copy_from_slice(tail);
        self.tail_bytes = tail.len() as u8;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many bytes are taken before the fault is told; all of them where there is none.
    fn taken(text: &[u8], part: usize) -> usize {
        let mut utf8 = Utf8::default();
        let mut parts = text.chunks(part).enumerate();
        parts.find(|(_, part)| utf8.push(part).is_err()).map_or(text.len(), |(number, _)| number * part)
    }

    #[test]
    fn a_fault_is_told_with_the_byte_that_makes_it() {
        for (text, good) in [
            (&b""[..], 0),
            ("a\u{e4}\u{20ac}\u{1f600}z".as_bytes(), 11),
            // A character that is not complete may still become one.
            (b"\xf0\x9f\x98", 3),
            (b"ab\x80", 2),
            (b"ab\xff", 2),
            (b"\xc0\x80", 0),
            (b"\xe0\x80\x80", 1),
            // Half of a surrogate pair.
            (b"\xed\xa0\x80", 1),
            (b"\xf4\x90\x80\x80", 1),
            (b"\xf5\x80", 0),
            (b"\xc3(", 1),
            (b"\xe2\x82(", 2),
        ] {
            assert_eq!(taken(text, 1), good, "{text:x?}");
        }
    }

    #[test]
    fn parts_of_any_length_are_one_text() {
        let good = "a\u{e4}\u{20ac}\u{1f600}".repeat(20);
        let mut bad = good.clone().into_bytes();
        bad.push(0xff);
        for part in 1..50 {
            assert_eq!(taken(good.as_bytes(), part), good.len(), "{part}");
            assert!(taken(&bad, part) < bad.len(), "{part}");
        }
    }
}
