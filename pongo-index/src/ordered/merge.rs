//! A merge creates the next version of an index from a version and a run. Blocks and parts without
//! changes are reused. Nothing here syncs or publishes what it writes: see `store`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pongo_core::ids::RowId;
use xxhash_rust::xxh3::xxh3_64;

use super::block::{FULL, FULL_BYTES, Item, encode, full_key};
use super::cache::Shared;
use super::directory::{BlockIndex, Directory, Entry, EntryRef, PART_FULL, PART_LOW, Part};
use super::hidden::{Hidden, HiddenGroup};
use super::merge_buffer::MergeBuffer;
use super::{KeyExtractor, OrderedError, Run};

/// Minimum number of pairs in a rewritten block; a smaller one is joined with the next block.
const LOW: usize = FULL / 8;
/// With long keys, blocks take at most this many bytes of whole keys, to bound a merge's memory
/// use.
const BLOCK_KEY_BYTES: usize = 1 << 20;
const FEWEST: usize = 16;
/// With [`Rewrite::Deleted`], a block is rewritten if at least one in this many of its pairs is
/// dropped.
const SPARSE: usize = 8;
/// Approximate bytes of blocks per write to the store.
const BATCH: usize = 1 << 20;

/// Which blocks a merge rewrites.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rewrite {
    /// Blocks that receive pairs of the run.
    Touched,
    /// These, and blocks in which `drop` selects at least an eighth of the pairs. Costs reading
    /// every pair.
    Deleted,
    /// All blocks: `drop` is applied to every pair, and no block remains half empty.
    All,
}

/// State of a merge.
pub(super) struct Merge<'a> {
    shared: &'a Shared,
    keys: &'a dyn KeyExtractor,
    drop: &'a (dyn Fn(RowId) -> bool + Sync),
    stop: &'a AtomicBool,
    rewrite: Rewrite,
    /// The next free block number.
    pub(super) next: u64,
    /// Numbers that the old version refers to and the new one does not.
    pub(super) retired: Vec<u64>,
    /// The parts of the new version.
    parts: Vec<Arc<Part>>,
    /// Entries after the last part that are in no part yet.
    pending: Vec<Entry>,
    batch: Vec<(u64, Vec<u8>)>,
    batched: usize,
    /// Maximum number of pairs per block with keys of this length.
    full: usize,
    scratch: Vec<u8>,
}

impl<'a> Merge<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        keys: &'a dyn KeyExtractor,
        drop: &'a (dyn Fn(RowId) -> bool + Sync),
        stop: &'a AtomicBool,
        rewrite: Rewrite,
        next: u64,
    ) -> Merge<'a> {
        Merge {
            shared,
            keys,
            drop,
            stop,
            rewrite,
            next,
            retired: Vec::new(),
            parts: Vec::new(),
            pending: Vec::new(),
            batch: Vec::new(),
            batched: 0,
            full: FULL,
            scratch: Vec::new(),
        }
    }

    /// Writes the blocks and parts of the next version.
    pub(super) fn run(&mut self, old: &Directory, run: &Run) -> Result<Directory, OrderedError> {
        self.full = (BLOCK_KEY_BYTES / run.key_len_bound().max(1)).clamp(FEWEST, FULL);
        let mut gathered = MergeBuffer::default();
        let mut taken = 0;
        let mut spot = BlockIndex { part: 0, block: 0 };
        let mut entered = None;
        // The last part that was examined, and which of its blocks have many pairs to be dropped.
        let mut sparse: (usize, Vec<bool>) = (usize::MAX, Vec::new());
        if old.parts.is_empty() {
            gathered.clear();
            self.emit(&gathered, None, run, 0..run.len(), true)?;
        }
        while let Some(part) = old.parts.get(spot.part) {
            if self.rewrite == Rewrite::Deleted && sparse.0 != spot.part {
                sparse = (spot.part, self.sparse(part)?);
            }
            let is_sparse = |block: Option<usize>| match block {
                Some(block) => sparse.1.get(block) == Some(&true),
                None => sparse.1.contains(&true),
            };
            if spot.block == 0 && self.rewrite != Rewrite::All && !is_sparse(None) {
                let upto = upto(old, BlockIndex { part: spot.part + 1, block: 0 }, run, taken);
                if upto == taken {
                    self.take_over(part)?;
                    spot = BlockIndex { part: spot.part + 1, block: 0 };
                    continue;
                }
            }
            let enter = |this: &mut Self, entered: &mut Option<usize>, index: usize| {
                if *entered != Some(index) {
                    *entered = Some(index);
                    this.retired.push(old.parts[index].number);
                }
            };
            enter(self, &mut entered, spot.part);
            let began = spot.part;
            let first = part.entry(spot.block);
            let mut next = old.next(spot);
            let mut end = upto(old, next, run, taken);
            if end == taken && self.rewrite != Rewrite::All && !is_sparse(Some(spot.block)) {
                self.pending.push(first.to_entry());
            } else {
                gathered.clear();
                self.gather(&mut gathered, first)?;
                while gathered.len() + (end - taken) < LOW {
                    let Some(more) = old.entry(next) else { break };
                    enter(self, &mut entered, next.part);
                    self.gather(&mut gathered, more)?;
                    next = old.next(next);
                    end = upto(old, next, run, taken);
                }
                gathered.load_full_keys(self.keys)?;
                let is_last = old.entry(next).is_none();
                self.emit(&gathered, Some(first), run, taken..end, is_last)?;
                taken = end;
            }
            spot = next;
            if spot.part != began && spot.block == 0 && self.pending.len() >= PART_LOW {
                self.write_parts()?;
            }
        }
        self.write_parts()?;
        self.flush()?;
        Directory::new(std::mem::take(&mut self.parts))
    }

    /// Reuses a part of the old version as a whole, or, if the pending entries before it are too
    /// few for a part, adds its entries to them.
    fn take_over(&mut self, part: &Arc<Part>) -> Result<(), OrderedError> {
        if self.pending.is_empty() || self.pending.len() >= PART_LOW {
            self.write_parts()?;
            self.parts.push(part.clone());
        } else {
            self.retired.push(part.number);
            self.pending.extend((0..part.len()).map(|i| part.entry(i).to_entry()));
        }
        Ok(())
    }

    /// Returns which blocks of a part have many pairs to be dropped.
    fn sparse(&self, part: &Part) -> Result<Vec<bool>, OrderedError> {
        let mut rows = Vec::new();
        let mut sparse = Vec::with_capacity(part.len());
        for i in 0..part.len() {
            if self.stop.load(Ordering::Relaxed) {
                return Err(OrderedError::Stopped);
            }
            rows.clear();
            let leaf = self.shared.peek(part.entry(i))?;
            leaf.push_rows(0..leaf.len(), true, &mut rows);
            let dropped = rows.iter().filter(|&&row| (self.drop)(row)).count();
            sparse.push(dropped * SPARSE >= rows.len());
        }
        Ok(sparse)
    }

    fn gather(&mut self, gathered: &mut MergeBuffer, entry: EntryRef<'_>) -> Result<(), OrderedError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(OrderedError::Stopped);
        }
        gathered.extend_from(&self.shared.read(entry)?, self.drop);
        self.retired.push(entry.number);
        Ok(())
    }

    /// Writes the blocks for the gathered pairs and the pairs `range` of the run. `first` is the
    /// directory's entry of the first gathered block.
    fn emit(
        &mut self,
        gathered: &MergeBuffer,
        first: Option<EntryRef<'_>>,
        run: &Run,
        range: std::ops::Range<usize>,
        is_last: bool,
    ) -> Result<(), OrderedError> {
        let total = gathered.len() + range.len();
        if total == 0 {
            return Ok(());
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut old = 0;
        let mut upcoming = None;
        let mut fresh = range.clone();
        // If pairs arrive in key order, only the last block ever grows, so blocks are filled
        // completely.
        let appended = is_last
            && match range.clone().next() {
                Some(i) => {
                    let (key, row) = run.get(i);
                    gathered.before(0, key, row.0, self.keys, &mut scratch)?.0 == gathered.len()
                }
                None => false,
            };
        let blocks = total.div_ceil(self.full);
        let mut left = total;
        for block in 0..blocks {
            if self.stop.load(Ordering::Relaxed) {
                return Err(OrderedError::Stopped);
            }
            let size = if appended { self.full.min(left) } else { left.div_ceil(blocks - block) };
            left -= size;
            let mut items: Vec<Item<'_>> = Vec::with_capacity(size);
            let old_before = old;
            while items.len() < size {
                if upcoming.is_none()
                    && let Some(i) = fresh.next()
                {
                    let (key, row) = run.get(i);
                    let (at, same) = gathered.before(old, key, row.0, self.keys, &mut scratch)?;
                    upcoming = Some((at, Item { key, row: row.0, is_truncated: false, same }));
                }
                let upto = upcoming.map_or(gathered.len(), |(at, _)| at).min(old + size - items.len());
                items.extend((old..upto).map(|i| gathered.item(i)));
                old = upto;
                if items.len() < size
                    && let Some((_, item)) = upcoming.take()
                {
                    items.push(item);
                }
            }
            let ambiguous = (gathered.ambiguous() * (old - old_before)).div_ceil(gathered.len().max(1));
            let known = if old > old_before { gathered.known() } else { None };
            self.write_block(&items, known, ambiguous, first.filter(|_| block == 0), &mut scratch)?;
            if self.pending.len() >= 2 * PART_FULL {
                let rest = self.pending.split_off(PART_FULL);
                self.write_parts()?;
                self.pending = rest;
            }
        }
        self.scratch = scratch;
        Ok(())
    }

    /// Writes these pairs as a block, or as several if they take too many bytes for one.
    fn write_block(
        &mut self,
        items: &[Item<'_>],
        known: Option<usize>,
        ambiguous: usize,
        first: Option<EntryRef<'_>>,
        scratch: &mut Vec<u8>,
    ) -> Result<(), OrderedError> {
        let (bytes, each) = encode(items, known, ambiguous);
        let pieces = (each * items.len()).div_ceil(FULL_BYTES).min(items.len() / FEWEST);
        if pieces > 1 {
            for (i, piece) in items.chunks(items.len().div_ceil(pieces)).enumerate() {
                let ambiguous = (ambiguous * piece.len()).div_ceil(items.len());
                self.write_block(piece, known, ambiguous, first.filter(|_| i == 0), scratch)?;
            }
            return Ok(());
        }
        let first_key = match (items[0].is_truncated, first) {
            (false, _) => items[0].key.to_vec(),
            (true, Some(first)) if first.first_row == items[0].row => first.first_key.to_vec(),
            (true, _) => {
                full_key(self.keys, items[0].row, scratch)?;
                scratch.clone()
            }
        };
        self.pending.push(Entry {
            number: self.next,
            sum: xxh3_64(&bytes),
            first_key,
            first_row: items[0].row,
            bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            pairs: items.len() as u16,
            hidden: Hidden::default(),
        });
        self.put(bytes)
    }

    /// Writes the pending entries as parts.
    fn write_parts(&mut self) -> Result<(), OrderedError> {
        let pending = std::mem::take(&mut self.pending);
        for entries in Part::split(&pending) {
            let bytes = Part::encode(entries);
            // Decoded like a stored part, so that an unreadable one is never written.
            let mut part = Part::read(self.next, xxh3_64(&bytes), &bytes)?;
            part.hidden = HiddenGroup::of(entries.iter().map(|entry| entry.hidden.clone()).collect());
            self.parts.push(Arc::new(part));
            self.put(bytes)?;
        }
        Ok(())
    }

    fn put(&mut self, bytes: Vec<u8>) -> Result<(), OrderedError> {
        self.batched += bytes.len();
        self.batch.push((self.next, bytes));
        self.next += 1;
        if self.batched >= BATCH {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), OrderedError> {
        self.batched = 0;
        Ok(self.shared.blocks.put(std::mem::take(&mut self.batch))?)
    }
}

/// Returns the number of the run's pairs before the block at `spot`. The first `taken` are known to
/// be before it.
fn upto(old: &Directory, spot: BlockIndex, run: &Run, taken: usize) -> usize {
    match old.entry(spot) {
        Some(entry) => run.before(taken, entry.first_key, entry.first_row),
        None => run.len(),
    }
}
