//! Where the token of a client stands in its request.

use super::query::Value;
use crate::{auth::Token, counters::RefuseReason};

/// The scheme of RFC 6750.
const SCHEME: &str = "bearer";

/// The token of a request: the one that was offered among its subprotocols, else that of its headers `Authorization`, else
/// that of the parameter which the configuration names.
///
/// # Errors
/// When it has several headers, or what stands in them or in the parameter is no text.
pub(crate) fn find<'h>(
    offered: Option<&str>,
    mut authorization: impl Iterator<Item = &'h [u8]>,
    param: Option<Value<'_>>,
) -> Result<Option<Token>, RefuseReason> {
    if let Some(offered) = offered {
        return Ok(Some(Token::new(offered)));
    }
    let (first, second) = (authorization.next(), authorization.next());
    if second.is_some() {
        return Err(RefuseReason::BadRequest);
    }
    if let Some(token) = first.and_then(of_header) {
        return std::str::from_utf8(token)
            .map(|token| Some(Token::new(token)))
            .map_err(|_| RefuseReason::Token);
    }
    match param {
        Some(Value::Nested) => Err(RefuseReason::Token),
        Some(Value::Text(text)) if !text.is_empty() => Ok(Some(Token::new(&text))),
        Some(Value::Text(_)) | None => Ok(None),
    }
}

/// The token of a header. Another scheme than ours is about a proxy in front, or a page with a password.
fn of_header(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.trim_ascii().split_at_checked(SCHEME.len())?;
    let is_ours =
        scheme.eq_ignore_ascii_case(SCHEME.as_bytes()) && rest.first().is_none_or(|byte| *byte == b' ');
    is_ours.then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(
        offered: Option<&str>,
        headers: &[&str],
        param: Option<Value<'_>>,
    ) -> Result<Option<Token>, RefuseReason> {
        find(offered, headers.iter().map(|value| value.as_bytes()), param)
    }

    #[test]
    fn a_token_is_offered_or_stands_in_a_header_or_in_the_named_parameter() {
        let param = |text: &'static str| Some(Value::Text(text.into()));
        for (offered, headers, param, token) in [
            (None, &[][..], None, None),
            (Some("o"), &["Bearer h"][..], param("p"), Some("o")),
            (None, &["Bearer h"], param("p"), Some("h")),
            (None, &["Basic dTpw"], param("p"), Some("p")),
            (None, &[], param("p"), Some("p")),
            (None, &[], param(""), None),
            (Some(""), &[], None, Some("")),
            (None, &["bEARER   a.b.c "], None, Some("a.b.c")),
            (None, &["Bearer"], None, Some("")),
            (None, &["Basic dTpw"], None, None),
            (None, &["Bearers a"], None, None),
            (None, &["Bear"], None, None),
        ] {
            let wanted = Ok(token.map(Token::new));
            assert_eq!(found(offered, headers, param), wanted, "{offered:?} {headers:?}");
        }
    }

    #[test]
    fn what_cannot_be_a_token_is_refused_and_not_taken_for_none() {
        assert_eq!(found(None, &["Bearer a", "Bearer b"], None), Err(RefuseReason::BadRequest));
        assert_eq!(found(None, &[], Some(Value::Nested)), Err(RefuseReason::Token));
        assert_eq!(find(None, [&b"Bearer \xff"[..]].into_iter(), None), Err(RefuseReason::Token));
    }
}
