//! The text form of a [`Timestamp`]: RFC 3339, with signed years of more than four digits as in
//! ISO 8601.

use core::fmt;
use core::str::FromStr;

use crate::fields::Timestamp;
use crate::fields::fixed_str::quoted;

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

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

/// Converts a date in the proleptic Gregorian calendar to a day number counted from 1970-01-01: the
/// inverse of [`civil`] (Howard Hinnant's `days_from_civil`). The year must be below 10^9 in
/// absolute value, and month and day must be valid.
fn day_number(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Returns the number of days of a month.
fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// RFC 3339 in UTC. The fraction is omitted if it is zero, and a year of more than four digits has
/// a sign (ISO 8601).
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.micros().div_euclid(MICROS_PER_SECOND);
        let micros = self.micros().rem_euclid(MICROS_PER_SECOND);
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

/// An error while parsing a [`Timestamp`].
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the text {text:?} is no time: {expected} at byte {at}; a time is written like 2013-01-01T10:00:00Z or \
     2013-01-01T05:00:00.25-05:00"
)]
pub struct TimestampError {
    text: String,
    expected: &'static str,
    at: usize,
}

crate::debug_is_display!(TimestampError);

impl TimestampError {
    /// Returns the text, or its beginning and `…`.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Parses RFC 3339: what `Display` writes, with any offset from UTC, and `t`, `z` or a space as in
/// RFC 3339. Digits after the sixth of a fraction are dropped. Second 60 is the first second of
/// the next minute, since a [`Timestamp`] has no leap seconds.
impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let mut parser = Parser { bytes: text.as_bytes(), at: 0 };
        parser.time().map_err(|expected| TimestampError { text: quoted(text), expected, at: parser.at })
    }
}

/// The rest of a text that is being parsed. Methods return what they expected as an error.
struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn time(&mut self) -> Result<Timestamp, &'static str> {
        let year = self.year()?;
        self.one_of(b"-", "expected `-` after the year")?;
        let month = self.number(2, 1, 12, "expected a month from 01 to 12")?;
        self.one_of(b"-", "expected `-` after the month")?;
        let days = days_in_month(year, month);
        let day = self.number(2, 1, days, "expected a day of this month, with two digits")?;
        self.one_of(b"Tt ", "expected `T` after the date")?;
        let hour = self.number(2, 0, 23, "expected an hour from 00 to 23")?;
        self.one_of(b":", "expected `:` after the hour")?;
        let minute = self.number(2, 0, 59, "expected a minute from 00 to 59")?;
        self.one_of(b":", "expected `:` after the minute")?;
        let second = self.number(2, 0, 60, "expected a second from 00 to 60")?;
        let micros = self.fraction()?;
        let offset = self.offset()?;
        if self.at < self.bytes.len() {
            return Err("expected the end of the text");
        }
        let seconds =
            day_number(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second - offset;
        // In 128 bits: the product can exceed an `i64` where the sum does not.
        let micros = i128::from(seconds) * i128::from(MICROS_PER_SECOND) + i128::from(micros);
        i64::try_from(micros)
            .map(Timestamp::from_micros)
            .map_err(|_| "expected a year between -290308 and +294247")
    }

    /// Four digits, or a sign and four to nine digits.
    fn year(&mut self) -> Result<i64, &'static str> {
        const EXPECTED: &str = "expected a year of four digits, or a sign and four to nine digits";
        let sign = match self.bytes.first() {
            Some(b'-') => -1,
            Some(b'+') => 1,
            _ => return self.number(4, 0, 9999, EXPECTED),
        };
        self.at += 1;
        let digits = self.bytes[1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(4..=9).contains(&digits) {
            return Err(EXPECTED);
        }
        Ok(sign * self.number(digits, 0, 999_999_999, EXPECTED)?)
    }

    /// Parses exactly `digits` digits, at most nine, as a number within bounds.
    fn number(
        &mut self,
        digits: usize,
        from: i64,
        to: i64,
        expected: &'static str,
    ) -> Result<i64, &'static str> {
        let Some(bytes) = self.bytes.get(self.at..self.at + digits) else { return Err(expected) };
        let mut number = 0;
        for byte in bytes {
            if !byte.is_ascii_digit() {
                return Err(expected);
            }
            number = number * 10 + i64::from(byte - b'0');
        }
        if number < from || number > to {
            return Err(expected);
        }
        self.at += digits;
        Ok(number)
    }

    fn one_of(&mut self, bytes: &[u8], expected: &'static str) -> Result<u8, &'static str> {
        match self.bytes.get(self.at) {
            Some(byte) if bytes.contains(byte) => {
                self.at += 1;
                Ok(*byte)
            }
            _ => Err(expected),
        }
    }

    /// Parses an optional fraction of a second and returns its whole microseconds.
    fn fraction(&mut self) -> Result<i64, &'static str> {
        if self.bytes.get(self.at) != Some(&b'.') {
            return Ok(0);
        }
        self.at += 1;
        let rest = &self.bytes[self.at..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return Err("expected digits after the point");
        }
        let six = rest[..digits].iter().copied().chain(core::iter::repeat(b'0')).take(6);
        self.at += digits;
        Ok(six.fold(0, |micros, digit| micros * 10 + i64::from(digit - b'0')))
    }

    /// Parses `Z` or an offset like `-05:00` and returns its seconds.
    fn offset(&mut self) -> Result<i64, &'static str> {
        let sign = match self.one_of(b"Zz+-", "expected `Z` or an offset like -05:00")? {
            b'+' => 1,
            b'-' => -1,
            _ => return Ok(0),
        };
        let hours = self.number(2, 0, 23, "expected the hours of the offset")?;
        self.one_of(b":", "expected `:` in the offset")?;
        let minutes = self.number(2, 0, 59, "expected the minutes of the offset")?;
        Ok(sign * (hours * 3600 + minutes * 60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_it_displays() {
        for micros in [0, 1, -1, 951_782_400_000_000, -62_167_219_200_000_001, i64::MAX, i64::MIN] {
            let time = Timestamp::from_micros(micros);
            assert_eq!(time.to_string().parse(), Ok(time));
        }
        for days in (-900_000..900_000).step_by(97) {
            let (year, month, day) = civil(days);
            assert_eq!(day_number(year, month, day), days);
        }
    }

    #[test]
    fn parses_offsets_and_fractions() {
        for (text, micros) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01t00:00:00z", 0),
            ("1970-01-01 01:00:00+01:00", 0),
            ("1969-12-31T19:00:00-05:00", 0),
            ("1970-01-01T00:00:00.5Z", 500_000),
            ("1970-01-01T00:00:00.1234567899Z", 123_456),
            ("1969-12-31T23:59:59.9999999Z", -1),
            ("1969-12-31T23:59:60Z", 0),
            ("+1970-01-01T00:00:00Z", 0),
        ] {
            assert_eq!(text.parse(), Ok(Timestamp::from_micros(micros)), "{text}");
        }
    }

    #[test]
    fn rejects_other_texts() {
        for (text, at) in [
            ("", 0),
            ("1970", 4),
            ("70-01-01T00:00:00Z", 0),
            ("1970-13-01T00:00:00Z", 5),
            ("1970-02-29T00:00:00Z", 8),
            ("1970-01-01", 10),
            ("1970-01-01T24:00:00Z", 11),
            ("1970-01-01T00:00:61Z", 17),
            ("1970-01-01T00:00:00", 19),
            ("1970-01-01T00:00:00.Z", 20),
            ("1970-01-01T00:00:00Zjunk", 20),
            ("1970-01-01T00:00:00+1:00", 20),
            ("+294247-01-10T04:00:54.775808Z", 30),
            ("-290308-12-21T19:59:05.224191Z", 30),
            ("+9999999999-01-01T00:00:00Z", 1),
            ("１970-01-01T00:00:00Z", 0),
        ] {
            let error = text.parse::<Timestamp>().unwrap_err();
            assert_eq!((error.at, error.text()), (at, text), "{error}");
        }
    }

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
}
