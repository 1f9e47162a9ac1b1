//! The dates of a certificate (RFC 5280, section 4.1), of which rustls tells nothing to a server.

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The version of a certificate, which those of version 1 do not have.
const VERSION: u8 = 0xa0;
const DAY: u64 = 86_400;

/// Between which times a certificate is good, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub from: u64,
    /// The last one.
    pub to: u64,
}

impl Validity {
    /// Reads the dates of a certificate in DER. `None` when it has none that can be read, or one before 1970.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let (_, certificate, _) = element(certificate)?;
        let (_, mut rest, _) = element(certificate)?;
        if rest.first() == Some(&VERSION) {
            rest = element(rest)?.2;
        }
        // Behind the serial number, the algorithm of the signature and the issuer.
        for _ in 0..3 {
            rest = element(rest)?.2;
        }
        let (tag, validity, _) = element(rest)?;
        let (from_tag, from, rest) = element(validity)?;
        let (to_tag, to, _) = element(rest)?;
        let dates = Self { from: seconds(from_tag, from)?, to: seconds(to_tag, to)? };
        (tag == SEQUENCE).then_some(dates)
    }

    /// Whether a certificate that is renewed as usual would be another one by now: less than a fifth of its time is left, and
    /// less than 7 days. cert-manager renews when a third is left. `now` in seconds since 1970.
    #[must_use]
    pub fn is_nearly_over(&self, now: u64) -> bool {
        let left = self.to.saturating_sub(now);
        left < (self.to.saturating_sub(self.from) / 5).min(7 * DAY)
    }
}

/// The first element of DER: its tag, its content, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, short], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = match short {
        0..=0x7f => (usize::from(short), rest),
        0x81..=0x83 => {
            let (length, rest) = rest.split_at_checked(usize::from(short - 0x80))?;
            (length.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// A time (RFC 5280, section 4.1.2.5), which is in seconds and UTC, as seconds since 1970.
fn seconds(tag: u8, text: &[u8]) -> Option<u64> {
    let digits = text.strip_suffix(b"Z")?;
    let pairs = digits.chunks_exact(2);
    if !digits.iter().all(u8::is_ascii_digit) || !pairs.remainder().is_empty() {
        return None;
    }
    let pairs: Vec<u64> =
        pairs.map(|pair| u64::from(pair[0] - b'0') * 10 + u64::from(pair[1] - b'0')).collect();
    let (year, rest) = match (tag, &pairs[..]) {
        // Years from 50 on are of the last century.
        (UTC_TIME, [year, rest @ ..]) => (if *year < 50 { 2_000 + year } else { 1_900 + year }, rest),
        (GENERALIZED_TIME, [century, year, rest @ ..]) => (century * 100 + year, rest),
        _ => return None,
    };
    let &[month @ 1..=12, day @ 1..=31, hour @ 0..24, minute @ 0..60, second @ 0..=60] = rest else {
        return None;
    };
    // Days since the first of March of the year 0, of which the last day of February is the last one of a year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let since_1970 = days.checked_sub(719_468)?;
    Some(since_1970 * DAY + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (tag, text, time) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "261129200000Z", Some(1_795_982_400)),
            (UTC_TIME, "000229235959Z", Some(951_868_799)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000)),
            (GENERALIZED_TIME, "21000301000000Z", Some(4_107_542_400)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (UTC_TIME, "691231235959Z", None),
            (GENERALIZED_TIME, "00000101000000Z", None),
            (UTC_TIME, "261329200000Z", None),
            (UTC_TIME, "2611292000Z", None),
            (UTC_TIME, "261129200000", None),
            (UTC_TIME, "26112920000xZ", None),
            (0x04, "261129200000Z", None),
        ] {
            assert_eq!(seconds(tag, text.as_bytes()), time, "{text}");
        }
    }

    /// A certificate of which only the dates are real.
    fn certificate(version: &[u8], from: &str, to: &str) -> Vec<u8> {
        let of = |tag: u8, content: &[u8]| [&[tag, 0x82, 0, content.len() as u8], content].concat();
        let dates = of(SEQUENCE, &[of(UTC_TIME, from.as_bytes()), of(UTC_TIME, to.as_bytes())].concat());
        let parts = [version, &of(2, &[7]), &of(SEQUENCE, &[]), &of(SEQUENCE, &[1; 40]), &dates];
        of(SEQUENCE, &of(SEQUENCE, &parts.concat()))
    }

    #[test]
    fn the_dates_of_a_certificate_are_read_and_nothing_else_breaks_it() {
        let dates = Validity { from: 0, to: 951_868_799 };
        for version in [&[][..], &[VERSION, 3, 2, 1, 2]] {
            let whole = certificate(version, "700101000000Z", "000229235959Z");
            assert_eq!(Validity::of(&whole), Some(dates));
            for end in 0..whole.len() {
                assert_eq!(Validity::of(&whole[..end]), None);
            }
        }
        assert_eq!(Validity::of(&[SEQUENCE, 0x84, 0, 0, 0, 0]), None);
        assert_eq!(Validity::of(&[0; 64]), None);
    }

    #[test]
    fn the_end_is_near_when_it_should_have_been_renewed() {
        let (long, short) = (Validity { from: 0, to: 90 * DAY }, Validity { from: 0, to: 5 * DAY });
        assert!(!long.is_nearly_over(83 * DAY) && long.is_nearly_over(83 * DAY + 1));
        assert!(!short.is_nearly_over(4 * DAY) && short.is_nearly_over(4 * DAY + 1));
        assert!(long.is_nearly_over(91 * DAY) && !long.is_nearly_over(0));
    }
}
