//! The newest version of a key that a view can see, found through the (key, row) order of an index.
//! For a key with very many versions, following the chain from each version to the previous one
//! takes too long.

use std::sync::Arc;

use pongo_core::engine::Engine;
use pongo_core::error::ReadError;
use pongo_core::fields::HeapRead;
use pongo_core::ids::RowId;
use pongo_core::table::TableView;
use pongo_index::ordered::{Edge, ReadPoint};

use super::OrderedIndexes;
use super::index::OrderedIndex;
use super::sources::{Context, SourceError};
use crate::index::versions::Newest;

/// Returns the last written row with this encoded key among the rows below the view's length. The
/// caller checks whether it is alive.
///
/// Costs a search in the index, which is brought up to date first if it lags.
pub(crate) fn newest(
    ordered: &OrderedIndexes,
    engine: &Arc<Engine>,
    view: &TableView,
    heap: &(dyn HeapRead + Sync),
    index: &Arc<OrderedIndex>,
    key: &[u8],
) -> Result<Newest, ReadError> {
    let sources = index.sources(ordered, engine, view, heap)?;
    if sources.scan_from.is_some() {
        return Ok(Newest::Unknown);
    }
    // The pairs of one key are ordered by row, and the rows in blocks precede all others.
    let end = Edge::BeforePair(key, RowId(view.len()));
    let recent = sources.runs.iter().filter_map(|recent| {
        let (found, row) = recent.run.get(recent.run.rank(end).checked_sub(1)?);
        (found == key).then_some(row)
    });
    if let Some(row) = recent.max() {
        return Ok(Newest::Row(row));
    }
    let Some((store, sorted)) = &sources.sorted else { return Ok(Newest::Nothing) };
    let mut context =
        Context { view, heap, index: Arc::clone(index), ordered, engine, own: None, wide: None };
    let mut rows = Vec::with_capacity(1);
    let found = context.cursor(store, sorted, end, false).and_then(|mut cursor| {
        // Without regard to visibility: a deleted newest version means that no version is alive.
        let all = ReadPoint { len: u64::MAX, seq: 0 };
        let taken = cursor.fill_block(&mut rows, 1, all);
        taken.map_err(|error| SourceError::Blocks(Arc::clone(store), error))
    });
    match found {
        Ok(_) => {
            // The pair has another key if the index has none of this one; rows with this key are
            // below the view's length.
            let Some(&row) = rows.first().filter(|row| row.0 < view.len()) else {
                return Ok(Newest::Nothing);
            };
            let mut found = Vec::with_capacity(key.len());
            context.key(row, &mut found)?;
            Ok(if found == key { Newest::Row(row) } else { Newest::Nothing })
        }
        Err(SourceError::Read(error)) => Err(error),
        Err(SourceError::Blocks(store, error)) => {
            ordered.handle_corruption(&store, &error);
            Ok(Newest::Unknown)
        }
    }
}
