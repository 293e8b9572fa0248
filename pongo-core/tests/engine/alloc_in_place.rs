//! Filling rows in place, for tables whose rows the tests handle as bytes.

use std::sync::Arc;

use pongo_core::engine::EngineTransaction;
use pongo_core::error::WriteError;
use pongo_core::padding::Unpadded;
use pongo_core::record::{FieldType, PongoRecord};
use pongo_core::schema::{Kind, Schema};
use pongo_core::table::TableCore;
use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

#[derive(TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
struct Bytes<const N: usize>([u8; N]);

impl<const N: usize> FieldType for Bytes<N> {
    const KIND: Kind = Kind::Array { of: &Kind::U8, len: N };
    const ABSENT_VALUE: Self = Self([0; N]);
    const UNPADDED: Option<Unpadded<Self>> = Some(Unpadded::of_into_bytes());
}

impl<const N: usize> PongoRecord for Bytes<N> {
    type Key = ();
    type KeyBytes = [u8; 0];
    const SCHEMA: &'static Schema =
        &Schema { table: "bytes", record: "Bytes", size: N, align: 1, fields: &[], key: &[], indexes: &[] };

    fn key(&self) {}

    fn key_bytes(&self) -> [u8; 0] {
        []
    }

    fn encode_key((): &()) -> [u8; 0] {
        []
    }
}

/// Appends rows as [`EngineTransaction::append`] does, but by [`EngineTransaction::alloc`].
pub(crate) fn append(
    guard: &mut EngineTransaction,
    table: &Arc<TableCore>,
    rows: &[u8],
) -> Result<(), WriteError> {
    match table.row_size() {
        16 => fill::<16>(guard, table, rows),
        24 => fill::<24>(guard, table, rows),
        1000 => fill::<1000>(guard, table, rows),
        4104 => fill::<4104>(guard, table, rows),
        other => panic!("no type for rows of {other} bytes"),
    }
}

fn fill<const N: usize>(
    guard: &mut EngineTransaction,
    table: &Arc<TableCore>,
    rows: &[u8],
) -> Result<(), WriteError> {
    // These rows are returned: the next ones are at the same addresses, and must be zero again.
    guard
        .alloc::<Bytes<N>>(table, rows.len() / N, Unpadded::of_into_bytes())?
        .iter_mut()
        .for_each(|row| row.0.fill(0xdd));
    let mut new = guard.alloc::<Bytes<N>>(table, rows.len() / N, Unpadded::of_into_bytes())?;
    for (new, row) in new.iter_mut().zip(rows.chunks_exact(N)) {
        assert!(new.0.iter().all(|byte| *byte == 0), "old bytes shine through");
        new.0.copy_from_slice(row);
    }
    new.keep()
}

/// Reserves space for rows and returns it.
pub(crate) fn discard(guard: &mut EngineTransaction, table: &Arc<TableCore>, rows: usize) {
    drop(guard.alloc::<Bytes<24>>(table, rows, Unpadded::of_into_bytes()).expect("there is space"));
}
