//! A `join_ref` kept for as long as a channel is joined.

use std::fmt;

/// Bytes that fit without an allocation: a counter in quotes.
const INLINE_BYTES: usize = 14;

/// Raw JSON of a ref in 16 bytes; longer ones than a counter are boxed.
#[derive(Clone, PartialEq, Eq)]
pub struct RawRef(Repr);

#[derive(Clone, PartialEq, Eq)]
enum Repr {
    Inline {
        length: u8,
        bytes: [u8; INLINE_BYTES],
    },
    // The text is boxed twice: a thin pointer keeps the enum at 16 bytes.
    #[expect(clippy::box_collection)]
    Heap(Box<String>),
}

impl RawRef {
    /// Keeps a copy of `raw`.
    #[must_use]
    pub fn new(raw: &str) -> Self {
        let mut bytes = [0; INLINE_BYTES];
        match (bytes.get_mut(..raw.len()), u8::try_from(raw.len())) {
            (Some(prefix), Ok(length)) => {
                prefix.copy_from_slice(raw.as_bytes());
                Self(Repr::Inline { length, bytes })
            }
            _ => Self(Repr::Heap(Box::new(raw.to_owned()))),
        }
    }

    /// Memory in bytes beside the 16: none for a counter.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Repr::Inline { .. } => 0,
            Repr::Heap(text) => size_of::<String>() + text.capacity(),
        }
    }

    /// The JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            // The bytes were made from a str of this length, so they always are one.
            Repr::Inline { length, bytes } => {
                std::str::from_utf8(&bytes[..usize::from(*length)]).unwrap_or(super::NULL)
            }
            Repr::Heap(text) => text,
        }
    }
}

impl fmt::Debug for RawRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a channel keeps of the refs of its join. Phoenix has two places for them: its transport has the `join_ref` as it
/// came, and the channel takes the `ref` of the join where that is null (`join_ref || ref` in
/// phoenix/lib/phoenix/channel/server.ex).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRef(RawRef);

/// Begins the text of a channel that was joined without a `join_ref`, and with this `ref`. No JSON begins with it.
const WITHOUT: u8 = b'~';

impl JoinRef {
    /// Keeps a copy of the refs of a join, which are raw JSON.
    #[must_use]
    #[inline]
    pub fn new(join_ref: &str, reference: &str) -> Self {
        if join_ref == super::NULL && reference != super::NULL {
            return Self::without(reference);
        }
        Self(RawRef::new(join_ref))
    }

    #[cold]
    fn without(reference: &str) -> Self {
        Self(RawRef::new(&format!("{}{reference}", char::from(WITHOUT))))
    }

    /// The `join_ref` as it came, with which messages of the client are compared, and which the end of the channel has; and that of
    /// what the channel replies and pushes.
    #[must_use]
    #[inline]
    pub fn given_and_own(&self) -> (&str, &str) {
        let text = self.0.as_str();
        if text.as_bytes().first() == Some(&WITHOUT) { (super::NULL, &text[1..]) } else { (text, text) }
    }

    /// The `join_ref` as it came.
    #[must_use]
    #[inline]
    pub fn given(&self) -> &str {
        self.given_and_own().0
    }

    /// Memory in bytes beside the 16, as of [`RawRef::heap_bytes`].
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_short_and_long_text_in_16_bytes() {
        assert_eq!(size_of::<RawRef>(), 16);
        for text in ["null", "\"1\"", "", "12345678901234", "123456789012345", "\"\u{e4}\u{1f600}\""] {
            assert_eq!(RawRef::new(text).as_str(), text);
        }
        assert_ne!(RawRef::new("1"), RawRef::new("\"1\""));
    }

    #[test]
    fn a_channel_joined_without_a_join_ref_replies_with_the_ref_of_its_join() {
        assert_eq!(size_of::<JoinRef>(), 16);
        for (join_ref, reference, of_channel) in [
            ("\"1\"", "\"2\"", "\"1\""),
            ("null", "\"2\"", "\"2\""),
            ("null", "12345678901234567890", "12345678901234567890"),
            ("null", "null", "null"),
            ("{}", "null", "{}"),
        ] {
            let kept = JoinRef::new(join_ref, reference);
            assert_eq!(kept.given_and_own(), (join_ref, of_channel));
        }
    }
}
