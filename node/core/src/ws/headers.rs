//! Looks for headers of a request.

use crate::counters::RefuseReason;

/// The values of all headers of a name.
pub(crate) fn values<'a, 'h>(
    headers: &'a [httparse::Header<'h>],
    name: &'a str,
) -> impl DoubleEndedIterator<Item = &'h [u8]> + 'a {
    headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

/// The value of a header that may occur once.
pub(crate) fn single<'h>(
    headers: &[httparse::Header<'h>],
    name: &str,
) -> Result<Option<&'h [u8]>, RefuseReason> {
    let mut values = values(headers, name);
    match (values.next(), values.next()) {
        (first, None) => Ok(first),
        _ => Err(RefuseReason::BadRequest),
    }
}

/// Whether a comma-separated header holds a token.
pub(crate) fn has_token(headers: &[httparse::Header<'_>], name: &str, token: &str) -> bool {
    let is_token = |part: &[u8]| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes());
    values(headers, name).any(|value| value.split(|byte| *byte == b',').any(is_token))
}
