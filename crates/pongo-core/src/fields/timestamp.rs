//! A point in time in UTC, with microsecond precision.

use core::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::fields::maybe::record_cell;
use crate::record::{FieldType, KeyField};
use crate::schema::Kind;

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Microseconds since 1970-01-01T00:00:00Z, without leap seconds; negative before. Covers about
/// 292,000 years in both directions.
///
/// ```
/// use pongo_core::fields::Timestamp;
///
/// let take_off = Timestamp::from_micros(1_357_034_400_000_250);
/// assert_eq!(take_off.to_string(), "2013-01-01T10:00:00.000250Z");
/// assert!(take_off < Timestamp::now());
/// ```
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);
    /// The earliest time that can be represented.
    pub const MIN: Self = Self(i64::MIN);
    /// The latest time that can be represented.
    pub const MAX: Self = Self(i64::MAX);

    /// Returns the time `micros` microseconds after (or before) the epoch.
    #[must_use]
    #[inline]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Returns the time `seconds` seconds after (or before) the epoch; `None` if its microseconds
    /// overflow an `i64`.
    #[must_use]
    #[inline]
    pub const fn from_secs(seconds: i64) -> Option<Self> {
        match seconds.checked_mul(MICROS_PER_SECOND) {
            Some(micros) => Some(Self(micros)),
            None => None,
        }
    }

    /// Returns the microseconds since the epoch.
    #[must_use]
    #[inline]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Returns the current time of the system's clock.
    #[must_use]
    pub fn now() -> Self {
        Self::from_system_time(SystemTime::now())
    }

    /// Returns the last whole microsecond at or before `time`; [`MIN`](Self::MIN) or
    /// [`MAX`](Self::MAX) if that is out of range.
    #[must_use]
    pub fn from_system_time(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(i64::try_from(after.as_micros()).unwrap_or(i64::MAX)),
            Err(error) => {
                let nanos = error.duration().as_nanos();
                Self(i64::try_from(nanos.div_ceil(1000)).map_or(i64::MIN, |micros| -micros))
            }
        }
    }

    /// Converts to the system's type; returns `None` if that cannot represent the time, which does
    /// not happen on Linux.
    #[must_use]
    pub fn to_system_time(self) -> Option<SystemTime> {
        let distance = Duration::from_micros(self.0.unsigned_abs());
        if self.0 >= 0 { UNIX_EPOCH.checked_add(distance) } else { UNIX_EPOCH.checked_sub(distance) }
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Self::from_system_time(time)
    }
}

/// Converts a day number counted from 1970-01-01 to year, month and day in the proleptic Gregorian
/// calendar.
///
/// Counts in eras of 400 years that begin on a 1 March, so that the leap day is the last day of its
/// year (Howard Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// RFC 3339 in UTC. The fraction is omitted if it is zero, and a year of more than four digits has
/// a sign (ISO 8601).
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.div_euclid(MICROS_PER_SECOND);
        let micros = self.0.rem_euclid(MICROS_PER_SECOND);
        let (year, month, day) = civil(seconds.div_euclid(SECONDS_PER_DAY));
        let second_of_day = seconds.rem_euclid(SECONDS_PER_DAY);
        let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
        if (0..=9999).contains(&year) {
            write!(f, "{year:04}")?;
        } else {
            write!(f, "{year:+05}")?;
        }
        write!(f, "-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if micros != 0 {
            write!(f, ".{micros:06}")?;
        }
        f.write_str("Z")
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FieldType for Timestamp {
    const KIND: Kind = Kind::Timestamp;
    const BLANK: Self = Self::EPOCH;
}

impl KeyField for Timestamp {}

record_cell!(Timestamp);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_known_moments() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00Z"),
            (1_709_164_800_000_000, "2024-02-29T00:00:00Z"),
            (4_107_542_399_000_001, "2100-02-28T23:59:59.000001Z"),
            (-62_135_596_800_000_000, "0001-01-01T00:00:00Z"),
            (-62_167_219_200_000_000, "0000-01-01T00:00:00Z"),
            (-62_167_219_200_000_001, "-0001-12-31T23:59:59.999999Z"),
            (253_402_300_799_999_999, "9999-12-31T23:59:59.999999Z"),
            (253_402_300_800_000_000, "+10000-01-01T00:00:00Z"),
            (i64::MAX, "+294247-01-10T04:00:54.775807Z"),
            (i64::MIN, "-290308-12-21T19:59:05.224192Z"),
        ] {
            assert_eq!(Timestamp::from_micros(micros).to_string(), text);
        }
    }

    #[test]
    fn days_of_four_centuries_are_consecutive() {
        let (mut year, mut month, mut day) = civil(-200_000);
        for days in -199_999..200_000 {
            let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
            let last =
                [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month as usize - 1];
            if day < last {
                day += 1;
            } else if month < 12 {
                (month, day) = (month + 1, 1);
            } else {
                (year, month, day) = (year + 1, 1, 1);
            }
            assert_eq!(civil(days), (year, month, day));
        }
    }

    #[test]
    fn system_time_both_ways() {
        for micros in [0, 1, -1, 1_700_000_000_123_456, -1_700_000_000_123_456, i64::MAX, i64::MIN + 1] {
            let time = Timestamp::from_micros(micros);
            assert_eq!(Timestamp::from(time.to_system_time().unwrap()), time);
        }
        let just_before = UNIX_EPOCH - Duration::from_nanos(1);
        assert_eq!(Timestamp::from(just_before).micros(), -1, "rounds down, also before the epoch");
        assert_eq!(Timestamp::from(UNIX_EPOCH + Duration::from_secs(1 << 60)), Timestamp::MAX);
        assert_eq!(Timestamp::from(UNIX_EPOCH - Duration::from_secs(1 << 60)), Timestamp::MIN);
        assert_eq!(Timestamp::from_secs(i64::MAX), None);
    }
}
