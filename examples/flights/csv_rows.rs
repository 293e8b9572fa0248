//! Conversion of a compressed CSV to structs: [`Columns`] parses the columns of one row by name,
//! [`read`] a whole file.
//!
//! A value that cannot be parsed is an error that contains the file, the line, the column and the
//! value; nothing is skipped.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::str::FromStr;

use csv::StringRecord;
use indicatif::{ProgressBar, ProgressStyle};
use pongo::prelude::*;

/// Error type of the example's functions.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// A row of a CSV file.
pub(crate) struct Columns<'a> {
    header: &'a StringRecord,
    row: &'a StringRecord,
}

impl<'a> Columns<'a> {
    /// Returns the text of a column.
    ///
    /// # Errors
    /// Returns an error if there is no such column.
    pub(crate) fn text(&self, column: &str) -> Result<&'a str, Error> {
        let place = self.header.iter().position(|name| name == column);
        let text = place.and_then(|place| self.row.get(place));
        text.ok_or_else(|| format!("there is no column `{column}`").into())
    }

    /// Parses the value of a column.
    ///
    /// # Errors
    /// Returns an error if there is no such column or its text cannot be parsed.
    pub(crate) fn get<T: FromStr<Err: fmt::Display>>(&self, column: &str) -> Result<T, Error> {
        let text = self.text(column)?;
        text.parse().map_err(|error| format!("column `{column}`, value {text:?}: {error}").into())
    }

    /// Parses the value of a column; `NA` is `None`.
    ///
    /// # Errors
    /// Returns an error if there is no such column or its text is neither `NA` nor can be parsed.
    pub(crate) fn maybe<T: FromStr<Err: fmt::Display>>(&self, column: &str) -> Result<Option<T>, Error> {
        if self.text(column)? == "NA" { Ok(None) } else { self.get(column).map(Some) }
    }

    /// Parses a timestamp written as `2013-01-01T10:00:00Z`.
    ///
    /// # Errors
    /// Returns an error if there is no such column or its text has another format.
    pub(crate) fn moment(&self, column: &str) -> Result<Timestamp, Error> {
        moment(self.text(column)?).map_err(|error| format!("column `{column}`, {error}").into())
    }
}

/// Parses a timestamp written as `2013-01-01T10:00:00Z`.
///
/// # Errors
/// Returns an error if the text has another format.
pub(crate) fn moment(text: &str) -> Result<Timestamp, Error> {
    let moment = seconds(text).and_then(Timestamp::from_secs);
    moment.ok_or_else(|| format!("value {text:?}: not like 2013-01-01T10:00:00Z").into())
}

/// Returns the seconds since 1970 of a timestamp written as `2013-01-01T10:00:00Z`.
fn seconds(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let three = |text: &str, sign: char| -> Option<[i64; 3]> {
        let mut parts = text.split(sign).map(|part| part.parse::<u16>().ok().map(i64::from));
        let three = [parts.next()??, parts.next()??, parts.next()??];
        if parts.next().is_none() { Some(three) } else { None }
    };
    let [year, month, day] = three(date, '-')?;
    let [hour, minute, second] = three(time, ':')?;
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let february = if leap(year) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let in_month = *months.get(usize::try_from(month - 1).ok()?)?;
    if year < 1970 || !(1..=in_month).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let years: i64 = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum();
    let days = years + months.iter().take(month as usize - 1).sum::<i64>() + day - 1;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Reads `folder/name.csv.zst` into one struct per row, with a progress bar on standard error if
/// that is a terminal.
///
/// # Errors
/// Returns an error if the file cannot be read, or at the first row that cannot be parsed.
pub(crate) fn read<T>(
    folder: &Path,
    name: &str,
    mut parse: impl FnMut(&Columns<'_>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let path = folder.join(format!("{name}.csv.zst"));
    let at = |error: Error| -> Error { format!("{}: {error}", path.display()).into() };
    let file = File::open(&path).map_err(|error| at(error.into()))?;
    let length = file.metadata().map_err(|error| at(error.into()))?.len();
    let style = ProgressStyle::with_template("reading {msg:8} {wide_bar} {percent:>3} %  {elapsed}")?;
    let bar = ProgressBar::new(length).with_style(style).with_message(name.to_owned());
    let plain = zstd::Decoder::new(bar.wrap_read(file)).map_err(|error| at(error.into()))?;
    let mut reader = csv::Reader::from_reader(plain);
    let header = reader.headers().map_err(|error| at(error.into()))?.clone();
    let mut row = StringRecord::new();
    let mut rows = Vec::new();
    while reader.read_record(&mut row).map_err(|error| at(error.into()))? {
        let line = row.position().map_or(0, csv::Position::line);
        let parsed = parse(&Columns { header: &header, row: &row });
        rows.push(parsed.map_err(|error| at(format!("line {line}: {error}").into()))?);
    }
    bar.finish_and_clear();
    Ok(rows)
}
