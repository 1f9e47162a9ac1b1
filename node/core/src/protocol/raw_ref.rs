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
}
