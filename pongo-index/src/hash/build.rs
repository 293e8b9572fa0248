//! Creating, opening and rebuilding an index.
//!
//! A build is an *epoch*: a separate set of files with an unused number in the same folder. One
//! store of the root word replaces the previous epoch by the new one. A build that fails before
//! this store leaves files that nothing refers to. The next build removes them.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use pongo_core::storage::Storage;

use super::allocator::SegmentAllocator;
use super::error::{BoxedError, HashError};
use super::header::{IndexHeader, IndexIdentity};
use super::layout::{
    HashRoot, MIN_TOP_BITS, PRESIZED, SegmentKind, TopEntry, account_word, entry, head_word, max_depth,
};
use super::maps::{HashFolder, Maps};
use super::read::HashView;
use super::segment::SegmentImage;
use super::sum;
use super::write::BATCH;
use super::{Candidate, HashIndex, KeyHasher};

/// Maximum number of presized segments of a build, as a power of two: half of the segment numbers.
const MAX_PRESIZED_BITS: u32 = 24;

/// The row access of an empty index, which requests no hashes.
struct NoRows;

impl KeyHasher for NoRows {
    fn hash(&self, _: pongo_core::ids::RowId) -> u64 {
        0
    }
}

impl HashIndex {
    /// Creates an empty index in folder `dir`, with room for about `expected_rows`. Replaces an
    /// existing index. *Writer.*
    ///
    /// # Errors
    ///
    /// [`HashError::Full`] and [`HashError::Io`].
    pub fn create(
        storage: &Arc<dyn Storage>,
        dir: &str,
        identity: IndexIdentity,
        expected_rows: u64,
    ) -> Result<HashIndex, HashError> {
        HashIndex::rebuild(storage, dir, identity, expected_rows, &NoRows, std::iter::empty())
    }

    /// Opens the index in folder `dir`.
    ///
    /// Maps all its files and checks the head and the top, but not the segments. The caller must
    /// know that the files are unchanged since the last sync, or that the kernel has kept their
    /// pages since they were written.
    ///
    /// # Errors
    ///
    /// [`HashError::Missing`], [`Foreign`](HashError::Foreign), [`Version`](HashError::Version) and
    /// [`Damaged`](HashError::Damaged) require a rebuild. [`HashError::Io`] if the storage fails.
    pub fn open(
        storage: &Arc<dyn Storage>,
        dir: &str,
        identity: IndexIdentity,
    ) -> Result<HashIndex, HashError> {
        let folder = HashFolder { storage: storage.clone(), dir: dir.to_owned() };
        let head = IndexHeader::open(&folder, identity)?;
        let word = head.root_word();
        let Some(root) = HashRoot::from_word(word) else {
            return Err(folder
                .damaged(format!("the root is {word:#x}: the index was never finished"))
                .into());
        };
        let index = HashIndex { head, first: Maps::new(folder, root.epoch), checked: AtomicU64::new(0) };
        index.check_opened()?;
        Ok(index)
    }

    fn check_opened(&self) -> Result<(), BoxedError> {
        loop {
            let view = self.view()?;
            let result = self.check_view(view);
            // A writer in another process may have published a new root during the check.
            if result.is_ok() || self.head.root_word() == view.root.to_word() {
                return result;
            }
        }
    }

    fn check_view(&self, view: HashView<'_>) -> Result<(), BoxedError> {
        let writer = SegmentAllocator { head: &self.head, view, live: true };
        let (pieces, _) = writer.counts()?;
        for piece in 0..pieces {
            view.maps.piece(piece)?;
        }
        for at in 0..1_usize << view.root.bits {
            let entry = TopEntry(view.top.load(at, std::sync::atomic::Ordering::Acquire));
            view.resolve(entry)?;
            // The account is read after the entry, because a writer stores the account before the
            // entry.
            let (_, allocated) = writer.counts()?;
            let generation = writer.get(account_word::GENERATION);
            if u64::from(entry.segment()) >= allocated || entry.generation() > generation {
                return Err(writer.damaged(format!(
                    "top entry {at} names segment {} of {allocated}, generation {} of {generation}",
                    entry.segment(),
                    entry.generation()
                )));
            }
        }
        Ok(())
    }

    /// Rebuilds the index from the entries of `source`, presized for `expected_rows`. Replaces an
    /// existing index in the folder. *Writer.*
    ///
    /// Handles of this process and of others switch to the new index automatically, but keep the
    /// space of the old one allocated until they are dropped. Every item becomes one entry, also if
    /// a key occurs more than once.
    ///
    /// Costs about 20 ns per item, plus the cost of `source` and, if there are many more items than
    /// expected, of `keys`. Needs 24 MiB of memory.
    ///
    /// # Errors
    ///
    /// [`HashError::Full`], [`HashError::Io`] and [`HashError::RowTooLarge`]. An index of
    /// `identity` that was in the folder is still in force then.
    pub fn rebuild(
        storage: &Arc<dyn Storage>,
        dir: &str,
        identity: IndexIdentity,
        expected_rows: u64,
        keys: &dyn KeyHasher,
        source: impl IntoIterator<Item = (u64, Candidate)>,
    ) -> Result<HashIndex, HashError> {
        HashIndex::try_rebuild(storage, dir, identity, expected_rows, keys, source.into_iter().map(Ok))
    }

    /// Rebuilds the index as [`rebuild`](Self::rebuild) does, from a source that can fail. Stops at
    /// the first error of the source. *Writer.*
    ///
    /// # Errors
    ///
    /// As [`rebuild`](Self::rebuild), and the errors of the source. The index that was in the
    /// folder is still in force then too.
    pub fn try_rebuild<E: From<HashError>>(
        storage: &Arc<dyn Storage>,
        dir: &str,
        identity: IndexIdentity,
        expected_rows: u64,
        keys: &dyn KeyHasher,
        source: impl IntoIterator<Item = Result<(u64, Candidate), E>>,
    ) -> Result<HashIndex, E> {
        let mut failed = None;
        let source = source.into_iter().map_while(|item| item.map_err(|error| failed = Some(error)).ok());
        let folder = HashFolder { storage: storage.clone(), dir: dir.to_owned() };
        let prepare = || {
            make_folders(&folder)?;
            let head = IndexHeader::prepare(&folder, identity)?;
            let before = HashRoot::from_word(head.root_word());
            let epoch = new_epoch(&folder, before)?;
            remove_files(&folder, |of| Some(of) != before.map(|root| root.epoch))?;
            sum::prepare(&folder)?;
            Ok((head, before, epoch))
        };
        let (head, before, epoch) = prepare().map_err(|fault: BoxedError| HashError::from(fault))?;
        let account = before.map_or(0, |root| 1 - root.account);
        let maps = Maps::new(folder.clone(), epoch);
        let filled = fill(&head, &maps, account, expected_rows, keys, source);
        let root = match (filled, failed) {
            (Ok(root), None) => root,
            (filled, failed) => {
                // Nothing refers to the remaining files. The next build removes them.
                let _ = remove_files(&folder, |of| of == epoch);
                let fault = filled.err().map(|fault| HashError::from(fault).into());
                return Err(failed.or(fault).expect("one of them is why this arm was taken"));
            }
        };
        head.publish(root);
        let _ = remove_files(&folder, |of| of != epoch);
        Ok(HashIndex { head, first: maps, checked: AtomicU64::new(0) })
    }
}

/// Creates and fills the files of an epoch that no root refers to. Returns the root that refers to
/// them.
fn fill(
    head: &IndexHeader,
    maps: &Maps,
    account: usize,
    expected_rows: u64,
    keys: &dyn KeyHasher,
    source: impl IntoIterator<Item = (u64, Candidate)>,
) -> Result<HashRoot, BoxedError> {
    let depth =
        (0..MAX_PRESIZED_BITS).find(|&depth| expected_rows <= PRESIZED << depth).unwrap_or(MAX_PRESIZED_BITS);
    let bits = depth.max(MIN_TOP_BITS);
    debug_assert!(depth <= max_depth(1 << depth), "a presized index is no deeper than one that grew");
    let root = HashRoot { epoch: maps.epoch, account, bits };
    let mut writer =
        SegmentAllocator { head, view: HashView { maps, top: maps.make_top(bits)?, root }, live: false };
    for word in 0..head_word::ACCOUNT_WORDS {
        writer.set(word, 0);
    }
    writer.set(account_word::EPOCH, u64::from(maps.epoch));
    writer.ensure(1 << depth)?;
    let generation = writer.generation()?;
    for i in 0..1_u64 << depth {
        let (number, segment) = writer.take()?;
        let prefix = i.checked_shl(64 - depth).unwrap_or(0);
        // The files are new and contain zeros after the header.
        let image = SegmentImage::new(SegmentKind::Base { depth }, number, prefix);
        for (word, &value) in image.header().iter().enumerate() {
            segment.set(word, value);
        }
        let run = 1_usize << (bits - depth);
        for at in i as usize * run..(i as usize + 1) * run {
            writer.view.top.store(
                at,
                TopEntry::new(number, generation).0,
                std::sync::atomic::Ordering::Release,
            );
        }
    }

    let mut source = source.into_iter();
    let mut hashes = Vec::new();
    let mut batch = Vec::new();
    loop {
        hashes.clear();
        batch.clear();
        for (hash, Candidate { row, deleted }) in source.by_ref().take(BATCH) {
            if row > entry::MAX_ROW {
                return Err(Box::new(HashError::RowTooLarge { row }));
            }
            hashes.push(hash);
            batch.push((hash, entry::pack(hash, row, deleted)));
        }
        if batch.is_empty() {
            return Ok(writer.view.root);
        }
        writer.reserve(&hashes, keys)?;
        writer.put_all(batch.iter().copied())?;
    }
}

/// Creates the index's folder and its parent folders.
fn make_folders(folder: &HashFolder) -> Result<(), BoxedError> {
    let ends = folder.dir.match_indices('/').map(|(end, _)| end).chain([folder.dir.len()]);
    for end in ends {
        let path = &folder.dir[..end];
        folder.storage.create_dir(path).map_err(|error| HashError::io("make", path, error))?;
    }
    Ok(())
}

/// Returns an epoch number that neither the root nor any file has, so that no handle has mapped
/// files of this epoch.
fn new_epoch(folder: &HashFolder, before: Option<HashRoot>) -> Result<u32, BoxedError> {
    let names =
        folder.storage.list(&folder.dir).map_err(|error| HashError::io("list", &folder.dir, error))?;
    let mut taken: Vec<u32> = names.iter().filter_map(|name| Maps::epoch_of(name)).collect();
    taken.extend(before.map(|root| root.epoch));
    match taken.iter().max() {
        Some(&u32::MAX) => Ok((1..).find(|epoch| !taken.contains(epoch)).expect("fewer files than numbers")),
        last => Ok(last.map_or(1, |last| last + 1)),
    }
}

/// Removes the files of all epochs for which `which` returns `true`.
fn remove_files(folder: &HashFolder, which: impl Fn(u32) -> bool) -> Result<(), BoxedError> {
    let names =
        folder.storage.list(&folder.dir).map_err(|error| HashError::io("list", &folder.dir, error))?;
    for name in names.iter().filter(|name| Maps::epoch_of(name).is_some_and(&which)) {
        let path = folder.path(name);
        folder.storage.remove(&path).map_err(|error| HashError::io("remove", &path, error))?;
    }
    Ok(())
}
