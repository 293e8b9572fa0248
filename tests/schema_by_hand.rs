//! Records whose traits are implemented by hand: a layout that the schema file cannot describe is
//! an error, and the store stays readable.

use std::error::Error;
use std::io;

use pongo::prelude::*;
use pongo_core::padding::Unpadded;
use pongo_core::record::FieldType;
use pongo_core::schema::{Field, Kind, Schema};
use pongo_test_support::Outcome;
use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

#[pongo::record]
struct Good {
    #[pongo(key)]
    id: u64,
}

macro_rules! by_hand {
    ($name:ident, $table:literal, $field:expr, $key:expr) => {
        #[derive(TryFromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        struct $name {
            id: u64,
        }

        impl FieldType for $name {
            const KIND: Kind = Kind::U64;
            const ABSENT_VALUE: Self = Self { id: 0 };
            const UNPADDED: Option<Unpadded<Self>> = Some(Unpadded::of_into_bytes());
        }

        impl PongoRecord for $name {
            type Key = u64;
            type KeyBytes = [u8; 8];
            const SCHEMA: &'static Schema = &Schema {
                table: $table,
                record: stringify!($name),
                size: 8,
                align: 8,
                fields: &[$field],
                key: $key,
                indexes: &[],
            };

            fn key(&self) -> u64 {
                self.id
            }

            fn key_bytes(&self) -> [u8; 8] {
                self.id.to_le_bytes()
            }

            fn encode_key(key: &u64) -> [u8; 8] {
                key.to_le_bytes()
            }
        }
    };
}

by_hand!(TwoWords, "two_words", Field { name: "my id", kind: Kind::U64, offset: 0, size: 8 }, &[0]);
by_hand!(Hole, "hole", Field { name: "id", kind: Kind::U32, offset: 4, size: 4 }, &[0]);
by_hand!(NoKey, "no_key", Field { name: "id", kind: Kind::U64, offset: 0, size: 8 }, &[]);
by_hand!(Right, "right", Field { name: "id", kind: Kind::U64, offset: 0, size: 8 }, &[0]);

/// Returns whether an error or one of its sources is an I/O error of this kind.
fn is_invalid_input(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::InvalidInput)
        {
            return true;
        }
        next = error.source();
    }
    false
}

fn put<T: PongoRecord>(store: &Store, row: &T) -> Outcome {
    let tx = store.begin_write()?;
    tx.table::<T>()?.put(row)?;
    tx.commit()?;
    Ok(())
}

#[test]
fn schema_that_cannot_be_read_is_refused() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("store");
    // SAFETY: only this test uses the folder.
    let open = || unsafe { Store::open(&path) };
    for attempt in 0..3 {
        let store = open()?;
        put(&store, &Good { id: attempt })?;
        let error = match attempt {
            0 => put(&store, &TwoWords { id: 1 }),
            1 => put(&store, &Hole { id: 1 }),
            _ => put(&store, &NoKey { id: 1 }),
        };
        let error = error.err().ok_or("the schema is refused")?;
        assert!(is_invalid_input(&*error), "{error:?}");
        drop(store);
        let store = open()?;
        assert_eq!(store.begin_read()?.table::<Good>()?.count(..)?, attempt + 1);
        put(&store, &Right { id: attempt })?;
        assert_eq!(store.stats()?.tables.len(), 2);
    }
    Ok(())
}
