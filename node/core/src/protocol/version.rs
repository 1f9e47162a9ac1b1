//! The versions of serializers that clients ask for, read as Elixir's `Version` reads them (semver 2.0.0).

/// Major and minor number of a version that `~> MAJOR.MINOR.0` matches. `None` when it is no version, or one before the
/// first of its line, as `2.0.0-rc.1` is: Phoenix asks for `~> 1.0.0` and `~> 2.0.0`.
pub(super) fn minor_line(text: &str) -> Option<(&str, &str)> {
    let (version, build) = split(text, '+');
    let (numbers, pre) = split(version, '-');
    let (major, rest) = numbers.split_once('.')?;
    let (minor, patch) = rest.split_once('.')?;
    let is_pre = |part: &str| is_identifier(part) && (is_number(part) || !has_digits_only(part));
    let is_version = [major, minor, patch].into_iter().all(is_number)
        && pre.is_none_or(|pre| pre.split('.').all(is_pre))
        && build.is_none_or(|build| build.split('.').all(is_identifier));
    let comes_before = patch == "0" && pre.is_some();
    (is_version && !comes_before).then_some((major, minor))
}

/// What stands behind the plus of a version.
pub(super) fn build(text: &str) -> Option<&str> {
    split(text, '+').1
}

/// What stands before and behind the first separator.
fn split(text: &str, separator: char) -> (&str, Option<&str>) {
    text.split_once(separator).map_or((text, None), |(before, behind)| (before, Some(behind)))
}

fn has_digits_only(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether this is a number without leading zeros.
fn is_number(text: &str) -> bool {
    !text.is_empty() && has_digits_only(text) && (text == "0" || !text.starts_with('0'))
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_elixir_reads_them() {
        for (text, line) in [
            ("1.0.0", Some(("1", "0"))),
            ("2.0.99999999999999999999999", Some(("2", "0"))),
            ("2.0.0+build.01", Some(("2", "0"))),
            ("2.0.1-rc.1", Some(("2", "0"))),
            ("2.0.1-rc-a.0+b-c", Some(("2", "0"))),
            ("2.1.0", Some(("2", "1"))),
            ("2.0.0-rc.1", None),
            ("2.0.1-01", None),
            ("2.0.1-", None),
            ("2.0.1-a..b", None),
            ("2.0.1-\u{e4}", None),
            ("2.0.0+", None),
            ("2.0.0+a+b", None),
            ("2.0.0 ", None),
            ("02.0.0", None),
            ("2.00.0", None),
            ("+2.0.0", None),
            ("2.0", None),
            ("2.0.0.0", None),
            ("2..0", None),
            ("", None),
        ] {
            assert_eq!(minor_line(text), line, "{text:?}");
        }
    }
}
