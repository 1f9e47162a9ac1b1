//! Rates as GCRA (ITU-T I.371) counts them. A bucket is one number: the time until which what was taken would have lasted
//! at the rate. It may lie ahead of the present by as much as may be taken at once.

use crate::limits::BURST_SECONDS;

const SECOND_MICROS: u64 = 1_000_000;
/// How far a bucket may lie ahead, in microseconds.
pub(crate) const BURST_MICROS: u64 = BURST_SECONDS * SECOND_MICROS;
/// From here on a bucket is nearly full: 80 percent.
pub(crate) const NEAR_MICROS: u64 = BURST_MICROS / 5 * 4;

/// Microseconds that `count` things take at `rate` per second; 0 without a rate.
pub(crate) fn cost(count: u64, rate: u32) -> u64 {
    if rate == 0 { 0 } else { count * SECOND_MICROS / u64::from(rate) }
}

/// What became of a bucket that one thing more was to go into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Charged {
    /// The bucket now.
    pub(crate) micros: u64,
    /// It has become nearly full by this.
    pub(crate) near: bool,
}

/// Puts one thing into a bucket of `rate` per second, which is not 0.
///
/// # Errors
/// When it is full: the milliseconds until there is room.
pub(crate) fn charge(bucket: u64, now_micros: u64, rate: u32) -> Result<Charged, u64> {
    let (before, each) = (bucket.max(now_micros), cost(1, rate));
    let after = before + each;
    let ahead = after - now_micros;
    if ahead > BURST_MICROS {
        return Err((ahead - BURST_MICROS).div_ceil(1_000));
    }
    Ok(Charged { micros: after, near: before - now_micros < NEAR_MICROS && ahead >= NEAR_MICROS })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_seconds_worth_come_at_once_and_then_the_rate() {
        let (mut bucket, mut near, now) = (0, Vec::new(), 7_000_000);
        for number in 1..=50 {
            let charged = charge(bucket, now, 10).unwrap();
            bucket = charged.micros;
            if charged.near {
                near.push(number);
            }
        }
        assert_eq!((charge(bucket, now, 10), near), (Err(100), vec![40]));
        assert_eq!(charge(bucket, now + 99_000, 10), Err(1));
        assert!(charge(bucket, now + 100_000, 10).is_ok());
        assert_eq!(charge(bucket, now + 60_000_000, 10).unwrap().micros, now + 60_100_000);
    }

    #[test]
    fn no_more_than_burst_and_rate_ever_pass() {
        arbtest::arbtest(|u| {
            let (rate, mut bucket, mut now, mut passed) = (u.int_in_range(1..=1_000)?, 0, 1_000_000u64, 0u64);
            let begun = now;
            for _ in 0..300 {
                now += u.int_in_range(0..=20_000)?;
                match charge(bucket, now, rate) {
                    Ok(charged) => (bucket, passed) = (charged.micros, passed + 1),
                    Err(millis) => assert!(charge(bucket, now + millis * 1_000, rate).is_ok(), "it may then"),
                }
                let most = u64::from(rate) * (BURST_MICROS + now - begun) / 1_000_000 + 1;
                assert!(passed <= most, "{passed} of {most}");
            }
            Ok(())
        });
    }
}
