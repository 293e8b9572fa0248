//! A cursor of arbitrary bytes is a position in the order, or an error.

use pongo::prelude::*;

use crate::fuzz::image::still_store;
use crate::{Bytes, Note, RandomSource, Seat, Stop};

/// Tests a cursor. The first byte selects the index (low bits) and whether the first 8 bytes of the
/// cursor are replaced by those of a valid cursor of that index (bit 4); the rest is the cursor.
pub fn cursor(data: &[u8]) {
    let (store, world) = still_store();
    let snapshot = store.begin_read().expect("nothing goes wrong");
    let mut bytes = Bytes(data);
    let how = bytes.below(256);
    let seats = snapshot.table::<Seat>().expect("the table");
    let stops = snapshot.table::<Stop>().expect("the table");
    let notes = snapshot.external::<Note>().expect("the table");
    let right = |range: &mut dyn FnMut() -> Option<Cursor>| {
        let own = range().expect("one row was given").to_bytes();
        let mut cursor = bytes.0.to_vec();
        if how & 16 != 0 {
            cursor.resize(cursor.len().max(8), 0);
            cursor[..8].copy_from_slice(&own[..8]);
        }
        // A parsed cursor is written back with the same bytes.
        let known = Cursor::from_bytes(&own).expect("as it was kept");
        assert_eq!(known.to_bytes(), own);
        cursor
    };
    macro_rules! through {
        ($range:expr, $rows:expr) => {{
            let mut begun = $range.expect("a range");
            let cursor = right(&mut || {
                begun.next();
                begun.cursor().expect("a row that can be read")
            });
            assert_eq!(Cursor::from_bytes(&cursor).is_none(), cursor.len() < 16);
            if let Some(cursor) = Cursor::from_bytes(&cursor) {
                let rest = |range: Result<_, pongo::ReadError>| match range {
                    Ok(range) => pongo_count(range),
                    Err(error) => {
                        assert!(!error.to_string().is_empty());
                        0
                    }
                };
                let (all, after) = ($rows, rest($range.expect("a range").start_after(&cursor)));
                assert!(after <= all, "{after} rows after a cursor, of {all}");
                (all, after, Some(cursor))
            } else {
                ($rows, 0, None)
            }
        }};
    }
    fn pongo_count<T>(range: impl Iterator<Item = Result<T, pongo::ReadError>>) -> usize {
        let mut count = 0;
        for item in range {
            item.expect("rows that can be read");
            count += 1;
        }
        count
    }
    // The rows before a cursor, the row of the cursor, and the rows after it are all rows.
    macro_rules! both_ways {
        ($range:expr, $rows:expr) => {{
            if let (all, after, Some(cursor)) = through!($range, $rows)
                && let Ok(before) = $range.expect("a range").end_before(&cursor)
            {
                let before = pongo_count(before);
                assert!((all..=all + 1).contains(&(before + after + 1)), "{before} and {after} of {all}");
            }
        }};
    }
    match how % 16 % 5 {
        0 => both_ways!(stops.range(..), world.stops.len()),
        1 => both_ways!(stops.by(Stop::VISITS).all(), world.stops.len()),
        2 => both_ways!(seats.range(..), world.seats.len()),
        3 => {
            let (&who, _) = world.seats.values().next().map(|(who, version)| (who, version)).expect("a seat");
            both_ways!(seats.by(Seat::WHO).eq(who), 1);
        }
        _ => {
            through!(notes.range(..), world.notes.len());
        }
    }
}
