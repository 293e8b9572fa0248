//! Conversions between [`Timestamp`] and the types of `jiff` and `chrono`, with the features of
//! these names.
//!
//! Their types have nanoseconds and a smaller range than [`Timestamp`]. Conversions to a
//! `Timestamp` round down to a whole microsecond and cannot fail; conversions from one return a
//! [`TimestampRangeError`] if the time is outside the other type's range.

use crate::fields::Timestamp;

/// A [`Timestamp`] outside the range of the type that it was to be converted to.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("the time {time} is outside the range of {target}")]
pub struct TimestampRangeError {
    time: Timestamp,
    target: &'static str,
}

crate::debug_is_display!(TimestampRangeError);

/// Rounds down to a whole microsecond.
#[cfg(feature = "jiff")]
impl From<jiff::Timestamp> for Timestamp {
    fn from(time: jiff::Timestamp) -> Self {
        // `as_microsecond` rounds toward zero. The range of `jiff` is far inside that of `i64`.
        Self::from_micros(time.as_nanosecond().div_euclid(1000) as i64)
    }
}

#[cfg(feature = "jiff")]
impl TryFrom<Timestamp> for jiff::Timestamp {
    type Error = TimestampRangeError;

    fn try_from(time: Timestamp) -> Result<Self, TimestampRangeError> {
        Self::from_microsecond(time.micros())
            .map_err(|_| TimestampRangeError { time, target: "jiff::Timestamp (years -9999 to 9999)" })
    }
}

/// Rounds down to a whole microsecond.
#[cfg(feature = "chrono")]
impl<Tz: chrono::TimeZone> From<chrono::DateTime<Tz>> for Timestamp {
    fn from(time: chrono::DateTime<Tz>) -> Self {
        // Seconds and the nanoseconds after them: rounds down, also before the epoch. A leap second
        // has nanoseconds of 10^9 and more. The range of `chrono` is inside that of `i64`.
        Self::from_micros(time.timestamp() * 1_000_000 + i64::from(time.timestamp_subsec_nanos() / 1000))
    }
}

#[cfg(feature = "chrono")]
impl TryFrom<Timestamp> for chrono::DateTime<chrono::Utc> {
    type Error = TimestampRangeError;

    fn try_from(time: Timestamp) -> Result<Self, TimestampRangeError> {
        Self::from_timestamp_micros(time.micros())
            .ok_or(TimestampRangeError { time, target: "chrono::DateTime<Utc> (years -262143 to 262142)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICROS: [i64; 7] = [
        0,
        1,
        -1,
        1_357_034_400_000_250,
        -62_135_596_800_000_000,
        253_402_207_199_999_999,
        -377_705_023_200_000_000,
    ];

    #[cfg(feature = "jiff")]
    #[test]
    fn converts_from_and_to_jiff() {
        for time in MICROS.map(Timestamp::from_micros) {
            let theirs = jiff::Timestamp::try_from(time).unwrap();
            assert_eq!(Timestamp::from(theirs), time);
            // Two implementations of RFC 3339 agree on years of four digits.
            if (0..=9999).contains(&theirs.to_zoned(jiff::tz::TimeZone::UTC).year()) {
                assert_eq!(theirs.to_string().parse::<Timestamp>(), Ok(time));
                assert_eq!(time.to_string().parse::<jiff::Timestamp>().unwrap(), theirs);
            }
        }
        let just_before = jiff::Timestamp::from_nanosecond(-1).unwrap();
        assert_eq!(Timestamp::from(just_before).micros(), -1);
        assert_eq!(Timestamp::from(jiff::Timestamp::MIN).micros(), jiff::Timestamp::MIN.as_microsecond());
        assert_eq!(Timestamp::from(jiff::Timestamp::MAX).micros(), jiff::Timestamp::MAX.as_microsecond());
        for time in [Timestamp::MIN, Timestamp::MAX] {
            let error = jiff::Timestamp::try_from(time).unwrap_err();
            assert!(error.to_string().contains("years -9999 to 9999"), "{error}");
        }
    }

    #[cfg(feature = "chrono")]
    #[test]
    fn converts_from_and_to_chrono() {
        use chrono::{DateTime, FixedOffset, Utc};

        for time in MICROS.map(Timestamp::from_micros) {
            let theirs = DateTime::<Utc>::try_from(time).unwrap();
            assert_eq!(Timestamp::from(theirs), time);
            assert_eq!(theirs.to_rfc3339().parse::<Timestamp>(), Ok(time));
        }
        let new_york =
            DateTime::<FixedOffset>::parse_from_rfc3339("2013-01-01T05:00:00.00025-05:00").unwrap();
        assert_eq!(Timestamp::from(new_york).micros(), 1_357_034_400_000_250);
        let just_before = DateTime::from_timestamp(-1, 999_999_999).unwrap();
        assert_eq!(Timestamp::from(just_before).micros(), -1);
        for theirs in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
            let time = Timestamp::from(theirs);
            assert_eq!(
                DateTime::<Utc>::try_from(time).unwrap().timestamp_micros(),
                theirs.timestamp_micros()
            );
        }
        assert!(DateTime::<Utc>::try_from(Timestamp::MAX).is_err());
    }
}
