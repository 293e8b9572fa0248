//! Regression tests for the defects that were found, each as small as possible.

use std::sync::Arc;

use pongo::prelude::*;
use pongo_core::storage::Storage;
use pongo_crashtest::{Seat, Stop};

use crate::bases;
use crate::image::{Image, Kernel};

fn open(image: &Image) -> Store {
    bases::open(image.storage(Kernel::Same)).unwrap()
}

/// Creates a store, with one of these stops inserted in each session. Returns the files at the end
/// of each session.
fn lives(ids: &[u64]) -> Vec<Image> {
    let storage = Image::default().storage(Kernel::Same);
    let mut images: Vec<Image> = Vec::new();
    for &id in ids {
        let store = bases::open(storage.clone()).unwrap();
        let tx = store.begin_write().unwrap();
        tx.table::<Stop>().unwrap().put(&Stop::new(id, 0, Text::EMPTY)).unwrap();
        let seat = Seat { row: 0, place: id as u16, even: true, _pad: [0; 3], who: 2 * id, version: 1 };
        tx.table::<Seat>().unwrap().put(&seat).unwrap();
        tx.commit().unwrap();
        store.close().unwrap();
        let storage: &dyn Storage = &*storage;
        images.push(Image::of(storage, images.last().unwrap_or(&Image::default())));
    }
    images
}

/// Seed 7, `large, closed`: the folder `hash` was in the state of an earlier close. Its checksum
/// was valid, and rows that were inserted since then were not found.
#[test]
fn earlier_hash_index_is_rejected() {
    let images = lives(&[1, 2, 3]);
    for older in &images[..2] {
        for part in ["hash/stops/", "hash/seats/", "hash/seats.u0/", "hash/"] {
            let mut image = images[2].clone();
            let of_part = older.files.iter().filter(|(path, _)| path.starts_with(part));
            image.files.extend(of_part.map(|(path, bytes)| (path.clone(), bytes.clone())));
            assert!(image != images[2]);
            let store = open(&image);
            let snapshot = store.begin_read().unwrap();
            let (stops, seats) = (snapshot.table::<Stop>(), snapshot.table::<Seat>());
            assert_eq!(stops.is_err(), ["hash/stops/", "hash/"].contains(&part), "{part}: {stops:?}");
            assert_eq!(seats.is_err(), part != "hash/stops/", "{part}: {seats:?}");
            drop(snapshot);
            store.rebuild_indexes().unwrap();
            let snapshot = store.begin_read().unwrap();
            assert!(snapshot.table::<Stop>().unwrap().get(3).unwrap().is_some());
            assert_eq!(snapshot.table::<Seat>().unwrap().by(Seat::WHO).eq(6).unwrap().count(), 1);
        }
    }
}

/// Seed 8, `large, closed`: `tables/seats/0.marks`, bit 4 of byte 4104, which marks row 1 as
/// deleted at commit 16, while there were 14 commits. The row existed until commit 16 was made, and
/// then it was missing.
#[test]
fn mark_of_future_commit_is_detected() {
    for (looked_at, at) in [(true, 2), (false, 2), (true, 4), (false, 4)] {
        let mut image = lives(&[1, 1, 2]).pop().unwrap();
        let marks = image.files.get_mut("tables/stops/0.marks").unwrap();
        // Rows 0 and 1 are versions of stop 1, row 2 is stop 2.
        let word = 4096 + 8 * at;
        assert_eq!(marks[word..word + 8], [0; 8]);
        Arc::make_mut(marks)[word] = 4;
        let storage = image.storage(Kernel::Same);
        let store = bases::open(storage).unwrap();
        if looked_at {
            let snapshot = store.begin_read().unwrap();
            // Every read of a row of the chunk detects it.
            let stops = snapshot.table::<Stop>().unwrap();
            let found = [
                stops.get(1).unwrap_err(),
                stops.rows().find_map(Result::err).unwrap(),
                stops.range(..).and_then(pongo::Range::count_rows).unwrap_err(),
            ];
            for error in found {
                assert!(error.to_string().contains("tables/stops/0.marks"), "{error}");
            }
        }
        let error = store.begin_write().unwrap_err();
        assert!(error.to_string().contains("tables/stops/0.marks"), "{error}");
    }
}
