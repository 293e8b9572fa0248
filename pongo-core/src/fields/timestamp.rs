//! A point in time in UTC, with microsecond precision. Its text form is in `timestamp_text`, its
//! conversions from and to types of other crates are in `conversions`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::fields::maybe::record_cell;
use crate::record::{FieldType, KeyField};
use crate::schema::Kind;
use crate::unpadded::Unpadded;

const MICROS_PER_SECOND: i64 = 1_000_000;

/// Microseconds since 1970-01-01T00:00:00Z, without leap seconds; negative before. Covers about
/// 292,000 years in both directions.
///
/// ```
/// use pongo::Timestamp;
///
/// let take_off = Timestamp::from_micros(1_357_034_400_000_250);
/// assert_eq!(take_off.to_string(), "2013-01-01T10:00:00.000250Z");
/// assert_eq!("2013-01-01T05:00:00.00025-05:00".parse(), Ok(take_off));
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

/// Rounds down to a whole microsecond, and to [`MIN`](Timestamp::MIN) and [`MAX`](Timestamp::MAX).
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Self::from_system_time(time)
    }
}

/// Returns the same time. On Linux, whose system time has 64 bits of seconds, this never panics;
/// [`to_system_time`](Timestamp::to_system_time) returns an `Option` instead.
impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        time.to_system_time().unwrap_or_else(|| panic!("the system's clock cannot represent {time}"))
    }
}

impl FieldType for Timestamp {
    const KIND: Kind = Kind::Timestamp;
    const ABSENT_VALUE: Self = Self::EPOCH;
    const UNPADDED: Option<Unpadded<Self>> = Some(Unpadded::of_into_bytes());
}

impl KeyField for Timestamp {}

record_cell!(Timestamp);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_time_both_ways() {
        for micros in [0, 1, -1, 1_700_000_000_123_456, -1_700_000_000_123_456, i64::MAX, i64::MIN + 1] {
            let time = Timestamp::from_micros(micros);
            assert_eq!(Timestamp::from(time.to_system_time().unwrap()), time);
            assert_eq!(Timestamp::from(SystemTime::from(time)), time);
        }
        let just_before = UNIX_EPOCH - Duration::from_nanos(1);
        assert_eq!(Timestamp::from(just_before).micros(), -1, "rounds down, also before the epoch");
        assert_eq!(Timestamp::from(UNIX_EPOCH + Duration::from_secs(1 << 60)), Timestamp::MAX);
        assert_eq!(Timestamp::from(UNIX_EPOCH - Duration::from_secs(1 << 60)), Timestamp::MIN);
        assert_eq!(Timestamp::from_secs(i64::MAX), None);
    }
}
