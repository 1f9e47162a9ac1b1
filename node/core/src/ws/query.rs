//! The query of a request as Plug reads it (plug/lib/plug/conn/query.ex): of several parameters with one name the last
//! counts, `a[]` and `a[b]` make `a` a list or a map, and nothing in it may be anything but UTF-8 once it is decoded.

use std::borrow::Cow;

use super::target::unescape;
use crate::counters::RefuseReason;

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// A text.
    Text(Cow<'a, str>),
    /// A list or a map.
    Nested,
}

impl Value<'_> {
    /// The text, unless it is a list or a map.
    pub(crate) fn into_text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.into_owned()),
            Self::Nested => None,
        }
    }
}

/// What counts of the values of one name: the last. The parts of a list or a map are one value, which stands where the first
/// of them does.
#[derive(Default)]
struct Last<'a> {
    value: Option<Value<'a>>,
    is_nested: bool,
}

impl<'a> Last<'a> {
    fn add(&mut self, value: Value<'a>) {
        if value == Value::Nested && std::mem::replace(&mut self.is_nested, true) {
            return;
        }
        self.value = Some(value);
    }
}

/// The parameters that the node knows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters<'a> {
    /// The version of the serializer.
    pub(crate) vsn: Option<Value<'a>>,
    /// The token of a long-poll session.
    pub(crate) token: Option<Value<'a>>,
    /// The user that the client says it is.
    pub(crate) user_id: Option<Value<'a>>,
    /// Whether the client asks to be refused, which dev mode does.
    pub(crate) refuse: bool,
}

impl<'a> Parameters<'a> {
    /// Reads a query, the part of a target behind the question mark.
    ///
    /// # Errors
    /// [`RefuseReason::BadRequest`] when anything in it is not UTF-8, also in a parameter that nobody knows.
    pub(crate) fn read(query: &'a str) -> Result<Self, RefuseReason> {
        let (mut vsn, mut token, mut user_id) = (Last::default(), Last::default(), Last::default());
        let mut refuse = false;
        for pair in pairs(query) {
            let (name, value) = pair?;
            match &*name {
                "vsn" => vsn.add(value),
                "token" => token.add(value),
                "user_id" => user_id.add(value),
                "refuse" => refuse = true,
                _ => {}
            }
        }
        Ok(Self { vsn: vsn.value, token: token.value, user_id: user_id.value, refuse })
    }
}

/// The parameter of a name in a query that [`Parameters::read`] has found good.
pub(crate) fn last<'a>(query: &'a str, name: &str) -> Option<Value<'a>> {
    let mut last = Last::default();
    pairs(query).filter_map(Result::ok).filter(|(key, _)| key == name).for_each(|(_, value)| last.add(value));
    last.value
}

/// The last text of a name that the condition holds for, in such a query.
pub(crate) fn last_text<'a>(
    query: &'a str,
    name: &str,
    is_meant: impl Fn(&str) -> bool,
) -> Option<Value<'a>> {
    let of_name = pairs(query).filter_map(Result::ok).filter(|(key, _)| key == name);
    of_name
        .filter(|(_, value)| matches!(value, Value::Text(text) if is_meant(text)))
        .last()
        .map(|(_, value)| value)
}

/// The parameters of a query in their order.
fn pairs(query: &str) -> impl Iterator<Item = Result<(Cow<'_, str>, Value<'_>), RefuseReason>> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (decode(key)?, decode(value)?);
        Ok(match key.strip_suffix(']').and_then(|key| key.find('[')) {
            Some(end) if end > 0 => (key[..end].to_owned().into(), Value::Nested),
            _ => (key, Value::Text(value)),
        })
    })
}

fn decode(text: &str) -> Result<Cow<'_, str>, RefuseReason> {
    match unescape(text) {
        Cow::Borrowed(_) => Ok(text.into()),
        Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).map_err(|_| RefuseReason::BadRequest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vsn(query: &str) -> Option<Value<'_>> {
        Parameters::read(query).expect(query).vsn
    }

    #[test]
    fn the_last_of_a_name_counts_and_brackets_make_lists_and_maps() {
        let text = |text: &'static str| Some(Value::Text(text.into()));
        for (query, value) in [
            ("", None),
            ("vsn", text("")),
            ("vsn=", text("")),
            ("&&vsn=1.0.0&", text("1.0.0")),
            ("vsn=1&a=b=c&vsn=2", text("2")),
            ("%76sn=2%2E0.0", text("2.0.0")),
            ("vsn=a+b%2Bc", text("a b+c")),
            // A percent sign without two digits stands for itself, and a sign is no digit.
            ("vsn=%zz%4&x=%", text("%zz%4")),
            ("vsn=%+1", text("% 1")),
            ("vsn[]=1", Some(Value::Nested)),
            ("vsn=1&vsn[a][]=1", Some(Value::Nested)),
            ("vsn%5Ba%5D=1", Some(Value::Nested)),
            ("vsn[]=1&vsn=2", text("2")),
            ("vsn[]=1&vsn=2&vsn[]=3", text("2")),
            ("vsn[]=1&vsn=2&vsn[a]=3&vsn=4", text("4")),
            ("vsn[=1&vsn]=2&[vsn]=3&[]=4&vsn[]x=5", None),
        ] {
            assert_eq!(vsn(query), value, "{query}");
        }
        let known = Parameters::read("user_id=%C3%BC&refuse[a]=1").expect("UTF-8");
        assert_eq!((known.user_id, known.refuse), (text("\u{fc}"), true));
        assert_eq!(
            [last("a=1&%61=2&b=3", "a"), last("a[]=1", "a"), last("a=1", "b")],
            [text("2"), Some(Value::Nested), None]
        );
    }

    #[test]
    fn what_is_not_utf_8_is_refused_wherever_it_stands() {
        for query in ["x=%ff%fe", "%ff=1", "vsn=2.0.0&a[%ff]=1", "x=%C3", "x=%ED%A0%80"] {
            assert_eq!(Parameters::read(query), Err(RefuseReason::BadRequest), "{query}");
        }
    }
}
