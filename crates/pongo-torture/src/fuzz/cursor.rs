//! A cursor of any bytes leads somewhere in the order, or is an error.

use pongo::prelude::*;

use crate::fuzz::image::still_store;
use crate::{Bytes, Choice, Note, Seat, Stop};

/// The first byte says which index (low bits) and whether the cursor is one of that index (bit 4: its first 8 bytes are
/// put right); the rest is the cursor.
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
        // Back from where it stopped: the same bytes.
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
                let (all, after) = ($rows, rest($range.expect("a range").after(&cursor)));
                assert!(after <= all, "{after} rows behind a cursor, of {all}");
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
    // What lies before a cursor, the row of the cursor, and what lies behind it, are all.
    macro_rules! both_ways {
        ($range:expr, $rows:expr) => {{
            if let (all, after, Some(cursor)) = through!($range, $rows)
                && let Ok(before) = $range.expect("a range").before(&cursor)
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
            both_ways!(seats.by(Seat::WHO).equal(who), 1);
        }
        _ => {
            through!(notes.range(..), world.notes.len());
        }
    }
}
