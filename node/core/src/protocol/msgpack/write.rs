//! Writes MessagePack, and JSON as MessagePack.
//!
//! Arrays and maps begin with their lengths, which JSON tells only at their ends. So it is gone over twice: once to count,
//! and once to write. The JSON was checked when it came, so that all here is total: a text that is no JSON would give
//! some MessagePack that means nothing.

pub(super) const NIL: u8 = 0xc0;
const FALSE: u8 = 0xc2;
const TRUE: u8 = 0xc3;
const FLOAT_32: u8 = 0xca;
const FLOAT_64: u8 = 0xcb;
pub(super) const ARRAY_OF_5: u8 = 0x95;
pub(super) const MAP_OF_2: u8 = 0x82;
pub(super) const MAP_OF_3: u8 = 0x83;

/// The first byte of a type for each size of its length, and what is added to the length where it fits in that byte.
struct Lengths {
    /// With lengths below `short_end` in the byte itself.
    short: u8,
    short_end: usize,
    one_byte: Option<u8>,
    two_bytes: u8,
    four_bytes: u8,
}

const TEXT: Lengths =
    Lengths { short: 0xa0, short_end: 32, one_byte: Some(0xd9), two_bytes: 0xda, four_bytes: 0xdb };
const BYTES: Lengths =
    Lengths { short: 0, short_end: 0, one_byte: Some(0xc4), two_bytes: 0xc5, four_bytes: 0xc6 };
const ARRAY: Lengths =
    Lengths { short: 0x90, short_end: 16, one_byte: None, two_bytes: 0xdc, four_bytes: 0xdd };
const MAP: Lengths =
    Lengths { short: 0x80, short_end: 16, one_byte: None, two_bytes: 0xde, four_bytes: 0xdf };

/// Writes the shortest head for a length, which is below 2^32: a message has 16 MiB at most.
fn length(out: &mut Vec<u8>, lengths: &Lengths, length: usize) {
    if length < lengths.short_end {
        out.push(lengths.short | length as u8);
    } else if let (Some(first), Ok(length)) = (lengths.one_byte, u8::try_from(length)) {
        out.extend_from_slice(&[first, length]);
    } else if let Ok(length) = u16::try_from(length) {
        out.push(lengths.two_bytes);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(lengths.four_bytes);
        out.extend_from_slice(&(length as u32).to_be_bytes());
    }
}

pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    length(out, &TEXT, text.len());
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn bytes(out: &mut Vec<u8>, data: &[u8]) {
    length(out, &BYTES, data.len());
    out.extend_from_slice(data);
}

/// Writes valid JSON.
pub(super) fn json(out: &mut Vec<u8>, json: &str) {
    let mut counts = counts(json).into_iter();
    for token in Tokens(json) {
        match token {
            Token::Array => length(out, &ARRAY, counts.next().unwrap_or_default() as usize),
            // Keys and values were counted.
            Token::Object => length(out, &MAP, counts.next().unwrap_or_default() as usize / 2),
            Token::End => {}
            Token::Text(quoted) => string(out, quoted),
            Token::Word(b'n') => out.push(NIL),
            Token::Word(first) => out.push(if first == b't' { TRUE } else { FALSE }),
            Token::Number(digits) => number(out, digits),
        }
    }
}

/// How many values each array and object has, in the order in which they begin. Keys count as values.
fn counts(json: &str) -> Vec<u32> {
    let (mut counts, mut open): (Vec<u32>, Vec<usize>) = (Vec::new(), Vec::new());
    for token in Tokens(json) {
        if let Token::End = token {
            open.pop();
            continue;
        }
        if let Some(count) = open.last().and_then(|index| counts.get_mut(*index)) {
            *count += 1;
        }
        if let Token::Array | Token::Object = token {
            open.push(counts.len());
            counts.push(0);
        }
    }
    counts
}

/// A string with its quotes.
fn string(out: &mut Vec<u8>, quoted: &str) {
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(quoted);
    if !inner.contains('\\') {
        return text(out, inner);
    }
    match serde_json::from_str::<String>(quoted) {
        Ok(unescaped) => text(out, &unescaped),
        Err(_) => text(out, inner),
    }
}

/// A whole number that 64 bits hold stays one; any other becomes a float, as in a reader of JSON, and a float of 32 bits
/// when that is the same number.
fn number(out: &mut Vec<u8>, digits: &str) {
    if digits != "-0" && !digits.contains(['.', 'e', 'E']) {
        if let Ok(number) = digits.parse::<u64>() {
            return unsigned(out, number);
        }
        if let Ok(number) = digits.parse::<i64>() {
            return negative(out, number);
        }
    }
    let number: f64 = digits.parse().unwrap_or_default();
    let short = number as f32;
    if f64::from(short) == number {
        out.push(FLOAT_32);
        out.extend_from_slice(&short.to_be_bytes());
    } else {
        out.push(FLOAT_64);
        out.extend_from_slice(&number.to_be_bytes());
    }
}

fn unsigned(out: &mut Vec<u8>, number: u64) {
    if number < 0x80 {
        out.push(number as u8);
    } else if let Ok(number) = u8::try_from(number) {
        out.extend_from_slice(&[0xcc, number]);
    } else if let Ok(number) = u16::try_from(number) {
        out.push(0xcd);
        out.extend_from_slice(&number.to_be_bytes());
    } else if let Ok(number) = u32::try_from(number) {
        out.push(0xce);
        out.extend_from_slice(&number.to_be_bytes());
    } else {
        out.push(0xcf);
        out.extend_from_slice(&number.to_be_bytes());
    }
}

/// A number below 0.
fn negative(out: &mut Vec<u8>, number: i64) {
    if number >= -0x20 {
        out.push(number as u8);
    } else if let Ok(number) = i8::try_from(number) {
        out.extend_from_slice(&[0xd0, number as u8]);
    } else if let Ok(number) = i16::try_from(number) {
        out.push(0xd1);
        out.extend_from_slice(&number.to_be_bytes());
    } else if let Ok(number) = i32::try_from(number) {
        out.push(0xd2);
        out.extend_from_slice(&number.to_be_bytes());
    } else {
        out.push(0xd3);
        out.extend_from_slice(&number.to_be_bytes());
    }
}

/// A part of a JSON text.
enum Token<'a> {
    /// `[`.
    Array,
    /// `{`.
    Object,
    /// `]` or `}`.
    End,
    /// A string or key with its quotes.
    Text(&'a str),
    /// The first letter of `null`, `true` or `false`.
    Word(u8),
    Number(&'a str),
}

/// The parts of the rest of a JSON text, without what only separates them.
struct Tokens<'a>(&'a str);

impl<'a> Tokens<'a> {
    /// Takes so many bytes, or to the end where fewer are left.
    fn take(&mut self, count: usize) -> &'a str {
        let (taken, rest) = self.0.split_at_checked(count).unwrap_or((self.0, ""));
        self.0 = rest;
        taken
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let begins =
            self.0.bytes().position(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b':'));
        self.take(begins.unwrap_or(self.0.len()));
        let bytes = self.0.as_bytes();
        let end_of = |is_part: fn(&u8) -> bool| bytes.iter().take_while(|byte| is_part(byte)).count();
        Some(match bytes.first()? {
            b'[' => {
                self.take(1);
                Token::Array
            }
            b'{' => {
                self.take(1);
                Token::Object
            }
            b']' | b'}' => {
                self.take(1);
                Token::End
            }
            b'"' => {
                let mut end = 1;
                while let Some(byte) = bytes.get(end)
                    && *byte != b'"'
                {
                    end += if *byte == b'\\' { 2 } else { 1 };
                }
                Token::Text(self.take(end + 1))
            }
            b'-' | b'0'..=b'9' => {
                let is_part = |byte: &u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
                Token::Number(self.take(end_of(is_part)))
            }
            first => {
                let count = end_of(u8::is_ascii_alphabetic).max(1);
                self.take(count);
                Token::Word(*first)
            }
        })
    }
}
