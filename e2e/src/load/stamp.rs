//! The stamp in each publish's payload, which is the same for all dialects, and by which a delivery is recognised
//! without parsing JSON.
//!
//! A stamp has the run, the publish's number in the room, the intended time of sending, and the sender. By the run,
//! messages of another generator (or of a person) in the same room are told from our own.

use memchr::memmem;
use std::io::Write;
use std::sync::LazyLock;

/// The content of a stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Random number of the run.
    pub(super) run: u32,
    /// Number of the publish in its room.
    pub(super) number: u32,
    /// When the schedule wanted it sent, nanoseconds since the run's origin.
    pub(super) intended_ns: u64,
    /// Connection that sent it.
    pub(super) sender: u32,
}

const MARK: &[u8] = br#""lg":""#;
/// The same in a payload that a server has put into a JSON string.
const ESCAPED: &[u8] = br#"\"lg\":\""#;
/// Bytes of a stamp: 8 + 8 + 16 + 8 hexadecimal digits and three dots.
const STAMP: usize = 43;
/// Bytes of the payload object around the padding: `{"lg":"<stamp>","pad":""}`.
pub(super) const MIN_PAYLOAD: usize = 8 + STAMP + 10;

/// Bytes of [`TEXT`].
const TEXT_BYTES: usize = 16 << 10;
/// What paddings are cut from: words, numbers and hashes as records of applications have them, of which DEFLATE leaves about
/// half. A server that does not compress does the same work for any padding.
static TEXT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    const WORDS: [&str; 12] = [
        "price", "user", "status", "updated", "position", "latency", "region", "channel", "message",
        "pending", "eu-west", "room",
    ];
    let (mut text, mut random) = (Vec::with_capacity(TEXT_BYTES + 64), 12_345_u32);
    while text.len() < TEXT_BYTES {
        // xorshift: the same text in each run.
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        let word = |shift: u32| WORDS[(random >> shift) as usize % WORDS.len()];
        append(&mut text, format_args!("{}: {}, {}: {random:x}, ", word(8), random % 10_000, word(16)));
    }
    text.truncate(TEXT_BYTES);
    text
});

/// Appends the payload object of a publish; it has `size` bytes, and at least [`MIN_PAYLOAD`].
pub(super) fn payload(out: &mut Vec<u8>, stamp: &Stamp, size: usize) {
    let Stamp { run, number, intended_ns, sender } = stamp;
    append(out, format_args!(r#"{{"lg":"{run:08x}.{number:08x}.{intended_ns:016x}.{sender:08x}","pad":""#));
    let mut left = size.saturating_sub(MIN_PAYLOAD);
    while left > 0 {
        let part = &TEXT[..left.min(TEXT_BYTES)];
        out.extend_from_slice(part);
        left -= part.len();
    }
    out.extend_from_slice(br#""}"#);
}

/// Appends formatted text.
pub(super) fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a Vec cannot fail.
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok());
}

/// Finds stamps. A server puts the stamp of most messages at the same place, so that place is looked at first.
pub(super) struct Finder {
    place: usize,
    mark: &'static [u8],
    plain: memmem::Finder<'static>,
    escaped: memmem::Finder<'static>,
}

impl Default for Finder {
    fn default() -> Finder {
        Finder {
            place: 0,
            mark: MARK,
            plain: memmem::Finder::new(MARK),
            escaped: memmem::Finder::new(ESCAPED),
        }
    }
}

impl Finder {
    /// The stamp of a delivery, or `None` when the message is not one.
    #[inline]
    pub(super) fn find(&mut self, message: &[u8]) -> Option<Stamp> {
        if !message.get(self.place..).is_some_and(|rest| rest.starts_with(self.mark)) {
            self.search(message)?;
        }
        let text: &[u8; STAMP] = message.get(self.place + self.mark.len()..)?.first_chunk()?;
        if [text[8], text[17], text[34]] != [b'.'; 3] {
            return None;
        }
        Some(Stamp {
            run: hex(text, 0),
            number: hex(text, 9),
            intended_ns: u64::from(hex(text, 18)) << 32 | u64::from(hex(text, 26)),
            sender: hex(text, 35),
        })
    }

    #[cold]
    fn search(&mut self, message: &[u8]) -> Option<()> {
        (self.place, self.mark) = match self.plain.find(message) {
            Some(place) => (place, MARK),
            None => (self.escaped.find(message)?, ESCAPED),
        };
        Some(())
    }
}

/// Eight lower-case hexadecimal digits, all at once: a digit's value is its low nibble, a letter's nine more. Other
/// characters give some number; such a stamp has another run than ours.
fn hex(text: &[u8; STAMP], at: usize) -> u32 {
    let mut digits = [0; 8];
    digits.copy_from_slice(&text[at..at + 8]);
    let digits = u64::from_be_bytes(digits);
    let nibbles = (digits & 0x0f0f_0f0f_0f0f_0f0f) + ((digits >> 6) & 0x0101_0101_0101_0101) * 9;
    let bytes = (nibbles | nibbles >> 4) & 0x00ff_00ff_00ff_00ff;
    let pairs = (bytes | bytes >> 8) & 0x0000_ffff_0000_ffff;
    (pairs | pairs >> 16) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_json_of_the_asked_size_and_reads_back() {
        let stamp = Stamp { run: 0xdead_beef, number: 77, intended_ns: 0x0123_4567_89ab_cdef, sender: 4 };
        let mut finder = Finder::default();
        for (size, before) in [(0, 3), (MIN_PAYLOAD, 9), (MIN_PAYLOAD + 1, 9), (512, 0)] {
            let mut out = Vec::new();
            payload(&mut out, &stamp, size);
            let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(out.len(), size.max(MIN_PAYLOAD));
            assert!(value["pad"].is_string());
            out.splice(..0, std::iter::repeat_n(b' ', before));
            assert_eq!(finder.find(&out), Some(stamp));
            assert_eq!(finder.find(&out[..out.len() - size.max(MIN_PAYLOAD) + 20]), None, "cut");
        }
        assert_eq!(finder.find(b""), None);
        let mut out = vec![b' '; 600];
        payload(&mut out, &stamp, 0);
        assert_eq!(finder.find(&out), Some(stamp));
        assert_eq!(finder.find(&out[600..]), Some(stamp), "a message shorter than where the last one had it");
        let string = serde_json::to_string(std::str::from_utf8(&out[600..]).unwrap()).unwrap();
        assert_eq!(finder.find(string.as_bytes()), Some(stamp), "in a string");
        assert_eq!(finder.find(&out[600..]), Some(stamp));
        assert_eq!(finder.find(br#"{"lg":"hello, this is a person who writes forty-three"}"#), None);
    }
}
