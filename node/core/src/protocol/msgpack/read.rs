//! Reads MessagePack, and writes it as JSON (<https://github.com/msgpack/msgpack/blob/master/spec.md>).
//!
//! A length that is declared is compared with what there is before anything else: nothing is allocated for it. Nesting is
//! bounded as in JSON, and what is written is bounded before each piece of it.

use std::fmt::{self, Write};

use super::{Translation, Unreadable};
use crate::limits::MAX_JSON_DEPTH;

/// What a value begins with.
enum Head {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    /// Its bytes follow.
    Text(usize),
    /// They follow.
    Bytes(usize),
    /// So many values follow.
    Array(usize),
    /// So many pairs follow.
    Map(usize),
}

/// A place in MessagePack.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Checks that nothing follows.
    pub(super) const fn end(&self) -> Result<(), Unreadable> {
        if self.rest.is_empty() { Ok(()) } else { Err(Unreadable::Malformed) }
    }

    /// Takes this byte if it comes next.
    pub(super) fn takes(&mut self, byte: u8) -> bool {
        match self.rest.strip_prefix(&[byte]) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Unreadable::Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Takes a number in big-endian order.
    fn fixed<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], Unreadable> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Unreadable::Malformed)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Takes a length of one, two or four bytes.
    fn length(&mut self, bytes: u8) -> Result<usize, Unreadable> {
        Ok(match bytes {
            1 => u8::from_be_bytes(self.fixed()?).into(),
            2 => u16::from_be_bytes(self.fixed()?).into(),
            // A pointer of this program has 64 bits.
            _ => u32::from_be_bytes(self.fixed()?) as usize,
        })
    }

    /// A count of values that take at least a byte each.
    fn count(&self, count: usize, each: usize) -> Result<usize, Unreadable> {
        if count <= self.rest.len() / each { Ok(count) } else { Err(Unreadable::Malformed) }
    }

    /// Takes the head of a value. Extensions are refused: JSON has no form for them.
    fn head(&mut self) -> Result<Head, Unreadable> {
        let [first] = self.fixed()?;
        Ok(match first {
            0x00..=0x7f => Head::Unsigned(first.into()),
            0x80..=0x8f => Head::Map(self.count(usize::from(first & 0x0f), 2)?),
            0x90..=0x9f => Head::Array(self.count(usize::from(first & 0x0f), 1)?),
            0xa0..=0xbf => Head::Text(usize::from(first & 0x1f)),
            0xc0 => Head::Nil,
            0xc2 => Head::Bool(false),
            0xc3 => Head::Bool(true),
            0xc4..=0xc6 => Head::Bytes(self.length(1 << (first - 0xc4))?),
            0xca => Head::Float(f32::from_be_bytes(self.fixed()?).into()),
            0xcb => Head::Float(f64::from_be_bytes(self.fixed()?)),
            0xcc => Head::Unsigned(u8::from_be_bytes(self.fixed()?).into()),
            0xcd => Head::Unsigned(u16::from_be_bytes(self.fixed()?).into()),
            0xce => Head::Unsigned(u32::from_be_bytes(self.fixed()?).into()),
            0xcf => Head::Unsigned(u64::from_be_bytes(self.fixed()?)),
            0xd0 => Head::Signed(i8::from_be_bytes(self.fixed()?).into()),
            0xd1 => Head::Signed(i16::from_be_bytes(self.fixed()?).into()),
            0xd2 => Head::Signed(i32::from_be_bytes(self.fixed()?).into()),
            0xd3 => Head::Signed(i64::from_be_bytes(self.fixed()?)),
            0xd9..=0xdb => Head::Text(self.length(1 << (first - 0xd9))?),
            0xdc | 0xdd => {
                let count = self.length(2 << (first - 0xdc))?;
                Head::Array(self.count(count, 1)?)
            }
            0xde | 0xdf => {
                let count = self.length(2 << (first - 0xde))?;
                Head::Map(self.count(count, 2)?)
            }
            0xe0..=0xff => Head::Signed(i64::from(first as i8)),
            0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8 => return Err(Unreadable::Malformed),
        })
    }

    /// Takes bytes, if the next value is some.
    pub(super) fn bytes(&mut self) -> Result<Option<&'a [u8]>, Unreadable> {
        let mut ahead = Reader::new(self.rest);
        let Head::Bytes(length) = ahead.head()? else { return Ok(None) };
        let data = ahead.take(length)?;
        *self = ahead;
        Ok(Some(data))
    }

    /// Takes a text.
    pub(super) fn text(&mut self) -> Result<&'a str, Unreadable> {
        match self.head()? {
            Head::Text(length) => self.text_of(length),
            _ => Err(Unreadable::Malformed),
        }
    }

    fn text_of(&mut self, length: usize) -> Result<&'a str, Unreadable> {
        std::str::from_utf8(self.take(length)?).map_err(|_| Unreadable::Malformed)
    }

    /// Takes a value and writes it as JSON.
    pub(super) fn value(&mut self, out: &mut Translation<'_>) -> Result<(), Unreadable> {
        self.nested(out, MAX_JSON_DEPTH)
    }

    /// The same with so many levels of arrays and maps at most.
    fn nested(&mut self, out: &mut Translation<'_>, levels: usize) -> Result<(), Unreadable> {
        match self.head()? {
            Head::Nil => out.put("null"),
            Head::Bool(true) => out.put("true"),
            Head::Bool(false) => out.put("false"),
            Head::Unsigned(number) => out.number(format_args!("{number}")),
            Head::Signed(number) => out.number(format_args!("{number}")),
            // The shortest text that reads as this number, with a point or an exponent in it.
            Head::Float(number) if number.is_finite() => out.number(format_args!("{number:?}")),
            Head::Text(length) => out.string(self.text_of(length)?),
            Head::Array(count) if levels > 0 => {
                out.put("[")?;
                for index in 0..count {
                    if index > 0 {
                        out.put(",")?;
                    }
                    self.nested(out, levels - 1)?;
                }
                out.put("]")
            }
            Head::Map(count) if levels > 0 => {
                out.put("{")?;
                for index in 0..count {
                    if index > 0 {
                        out.put(",")?;
                    }
                    out.string(self.text()?)?;
                    out.put(":")?;
                    self.nested(out, levels - 1)?;
                }
                out.put("}")
            }
            Head::Array(_) | Head::Map(_) => Err(Unreadable::TooDeep),
            Head::Float(_) | Head::Bytes(_) => Err(Unreadable::Malformed),
        }
    }
}

impl Translation<'_> {
    /// Appends a piece of JSON, if it fits.
    fn put(&mut self, piece: &str) -> Result<(), Unreadable> {
        if piece.len() > self.most_bytes.saturating_sub(self.json.len()) {
            return Err(Unreadable::TooBig);
        }
        self.json.push_str(piece);
        Ok(())
    }

    fn number(&mut self, number: fmt::Arguments<'_>) -> Result<(), Unreadable> {
        self.write_fmt(number).map_err(|_| Unreadable::TooBig)
    }

    /// Appends a string with its quotes.
    fn string(&mut self, text: &str) -> Result<(), Unreadable> {
        self.put("\"")?;
        let mut rest = text;
        while let Some(at) = rest.bytes().position(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
            let (plain, from) = rest.split_at(at);
            let (special, after) = from.split_at(1);
            self.put(plain)?;
            match special {
                "\"" => self.put("\\\"")?,
                "\\" => self.put("\\\\")?,
                "\n" => self.put("\\n")?,
                "\r" => self.put("\\r")?,
                "\t" => self.put("\\t")?,
                control => self.number(format_args!("\\u{:04x}", control.as_bytes()[0]))?,
            }
            rest = after;
        }
        self.put(rest)?;
        self.put("\"")
    }
}

impl Write for Translation<'_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        self.put(piece).map_err(|_| fmt::Error)
    }
}
