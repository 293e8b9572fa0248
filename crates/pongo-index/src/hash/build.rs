//! Making, opening and rebuilding an index.
//!
//! A build is an *epoch*: files of its own, with a number that no file in the folder has, made beside those of the epoch
//! in force and put in their place by one store of the root word. A build that does not get that far leaves files that
//! nothing names, which the next build removes.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use pongo_core::storage::Storage;

use super::account::Writer;
use super::error::{Fault, HashError};
use super::head::Head;
use super::layout::{
    Kind, MIN_TOP_BITS, PRESIZED, Root, TopEntry, account_word, entry, head_word, max_depth,
};
use super::maps::{Folder, Maps};
use super::read::View;
use super::segment::Image;
use super::sum;
use super::write::BATCH;
use super::{Candidate, HashIndex, KeyHashes};

/// Whose index it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The store's uuid.
    pub store: u128,
    /// The fingerprint of the table and of the key.
    pub table: u128,
}

/// Segments of a build, as a power of two, at most: half of what there are numbers for.
const MAX_PRESIZED_BITS: u32 = 24;

/// An index without rows asks for no hashes.
struct NoRows;

impl KeyHashes for NoRows {
    fn hash(&self, _: pongo_core::ids::RowId) -> u64 {
        0
    }
}

impl HashIndex {
    /// *Writer.* Makes an empty index in folder `dir`, in place of any that is there, with room for about `expected_rows`.
    ///
    /// # Errors
    ///
    /// [`HashError::Full`] and [`HashError::Io`].
    pub fn create(
        storage: &Arc<dyn Storage>,
        dir: &str,
        identity: Identity,
        expected_rows: u64,
    ) -> Result<HashIndex, HashError> {
        HashIndex::rebuild(storage, dir, identity, expected_rows, &NoRows, std::iter::empty())
    }

    /// Opens the index in folder `dir`. Maps all its files and looks at head and top, not at the segments: that its files
    /// are as they were when last synced, or were never out of the kernel's hands, is for the caller to know.
    ///
    /// # Errors
    ///
    /// [`HashError::Missing`], [`Foreign`](HashError::Foreign), [`Version`](HashError::Version),
    /// [`Damaged`](HashError::Damaged): rebuild it. [`HashError::Io`].
    pub fn open(storage: &Arc<dyn Storage>, dir: &str, identity: Identity) -> Result<HashIndex, HashError> {
        let folder = Folder { storage: storage.clone(), dir: dir.to_owned() };
        let head = Head::open(&folder, identity)?;
        let word = head.root_word();
        let Some(root) = Root::from_word(word) else {
            return Err(folder
                .damaged(format!("the root is {word:#x}: the index was never finished"))
                .into());
        };
        let index = HashIndex { head, first: Maps::new(folder, root.epoch), checked: AtomicU64::new(0) };
        index.check_opened()?;
        Ok(index)
    }

    fn check_opened(&self) -> Result<(), Fault> {
        loop {
            let view = self.view()?;
            let result = self.check_view(view);
            // A writer of another process may have put something else in force while this one looked.
            if result.is_ok() || self.head.root_word() == view.root.to_word() {
                return result;
            }
        }
    }

    fn check_view(&self, view: View<'_>) -> Result<(), Fault> {
        let writer = Writer { head: &self.head, view, live: true };
        let (pieces, _) = writer.counts()?;
        for piece in 0..pieces {
            view.maps.piece(piece)?;
        }
        for at in 0..1_usize << view.root.bits {
            let entry = TopEntry(view.top.load(at, std::sync::atomic::Ordering::Acquire));
            view.resolve(entry)?;
            // The account is read behind the entry, which a writer stores behind the account.
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

    /// *Writer.* Builds the index anew from what `source` gives, presized for `expected_rows`, and puts it in the place of
    /// any that is in the folder. Handles of this and other processes go over to it by themselves, but keep the space of
    /// the old one until they are dropped. One entry goes in for each item, whether or not a key occurs twice.
    ///
    /// Costs some 20 ns an item beside what `source` and, if there are many more items than expected, `keys` cost; 24 MiB
    /// of memory.
    ///
    /// # Errors
    ///
    /// [`HashError::Full`], [`HashError::Io`], [`HashError::RowTooLarge`]: the index that was in the folder, if it was
    /// `identity`'s, is still in force.
    pub fn rebuild(
        storage: &Arc<dyn Storage>,
        dir: &str,
        identity: Identity,
        expected_rows: u64,
        keys: &dyn KeyHashes,
        source: impl IntoIterator<Item = (u64, Candidate)>,
    ) -> Result<HashIndex, HashError> {
        HashIndex::try_rebuild(storage, dir, identity, expected_rows, keys, source.into_iter().map(Ok))
    }

    /// *Writer.* As [`rebuild`](Self::rebuild) from a source that can fail, at its first error.
    ///
    /// # Errors
    ///
    /// As [`rebuild`](Self::rebuild), and the source's: the index that was in the folder is still in force then too.
    pub fn try_rebuild<E: From<HashError>>(
        storage: &Arc<dyn Storage>,
        dir: &str,
        identity: Identity,
        expected_rows: u64,
        keys: &dyn KeyHashes,
        source: impl IntoIterator<Item = Result<(u64, Candidate), E>>,
    ) -> Result<HashIndex, E> {
        let mut failed = None;
        let source = source.into_iter().map_while(|item| item.map_err(|error| failed = Some(error)).ok());
        let folder = Folder { storage: storage.clone(), dir: dir.to_owned() };
        let prepare = || {
            make_folders(&folder)?;
            let head = Head::prepare(&folder, identity)?;
            let before = Root::from_word(head.root_word());
            let epoch = new_epoch(&folder, before)?;
            remove_files(&folder, |of| Some(of) != before.map(|root| root.epoch))?;
            sum::prepare(&folder)?;
            Ok((head, before, epoch))
        };
        let (head, before, epoch) = prepare().map_err(|fault: Fault| HashError::from(fault))?;
        let account = before.map_or(0, |root| 1 - root.account);
        let maps = Maps::new(folder.clone(), epoch);
        let filled = fill(&head, &maps, account, expected_rows, keys, source);
        let root = match (filled, failed) {
            (Ok(root), None) => root,
            (filled, failed) => {
                // What is left of it is in nobody's way; the next build removes it.
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

/// Makes the files of an epoch that no root names. Gives the root that names them.
fn fill(
    head: &Head,
    maps: &Maps,
    account: usize,
    expected_rows: u64,
    keys: &dyn KeyHashes,
    source: impl IntoIterator<Item = (u64, Candidate)>,
) -> Result<Root, Fault> {
    let depth =
        (0..MAX_PRESIZED_BITS).find(|&depth| expected_rows <= PRESIZED << depth).unwrap_or(MAX_PRESIZED_BITS);
    let bits = depth.max(MIN_TOP_BITS);
    debug_assert!(depth <= max_depth(1 << depth), "a presized index is no deeper than one that grew");
    let root = Root { epoch: maps.epoch, account, bits };
    let mut writer = Writer { head, view: View { maps, top: maps.make_top(bits)?, root }, live: false };
    for word in 0..head_word::ACCOUNT_WORDS {
        writer.set(word, 0);
    }
    writer.set(account_word::EPOCH, u64::from(maps.epoch));
    writer.ensure(1 << depth)?;
    let generation = writer.generation()?;
    for i in 0..1_u64 << depth {
        let (number, segment) = writer.take()?;
        let prefix = i.checked_shl(64 - depth).unwrap_or(0);
        // The files are new, and zero behind the header.
        let image = Image::new(Kind::Base { depth }, number, prefix);
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
        for (hash, Candidate { row, dead }) in source.by_ref().take(BATCH) {
            if row > entry::MAX_ROW {
                return Err(Box::new(HashError::RowTooLarge { row }));
            }
            hashes.push(hash);
            batch.push((hash, entry::pack(hash, row, dead)));
        }
        if batch.is_empty() {
            return Ok(writer.view.root);
        }
        writer.reserve(&hashes, keys)?;
        writer.put_all(batch.iter().copied())?;
    }
}

/// Makes the index's folder and those it lies in.
fn make_folders(folder: &Folder) -> Result<(), Fault> {
    let ends = folder.dir.match_indices('/').map(|(end, _)| end).chain([folder.dir.len()]);
    for end in ends {
        let path = &folder.dir[..end];
        folder.storage.create_dir(path).map_err(|error| HashError::io("make", path, error))?;
    }
    Ok(())
}

/// A number that neither the root nor any file has, so that no handle has maps of it.
fn new_epoch(folder: &Folder, before: Option<Root>) -> Result<u32, Fault> {
    let names =
        folder.storage.list(&folder.dir).map_err(|error| HashError::io("list", &folder.dir, error))?;
    let mut taken: Vec<u32> = names.iter().filter_map(|name| Maps::epoch_of(name)).collect();
    taken.extend(before.map(|root| root.epoch));
    match taken.iter().max() {
        Some(&u32::MAX) => Ok((1..).find(|epoch| !taken.contains(epoch)).expect("fewer files than numbers")),
        last => Ok(last.map_or(1, |last| last + 1)),
    }
}

/// Removes the files of epochs that `which` picks.
fn remove_files(folder: &Folder, which: impl Fn(u32) -> bool) -> Result<(), Fault> {
    let names =
        folder.storage.list(&folder.dir).map_err(|error| HashError::io("list", &folder.dir, error))?;
    for name in names.iter().filter(|name| Maps::epoch_of(name).is_some_and(&which)) {
        let path = folder.path(name);
        folder.storage.remove(&path).map_err(|error| HashError::io("remove", &path, error))?;
    }
    Ok(())
}
