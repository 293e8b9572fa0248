//! One chunk file: its header, its block checksums, its marks once a row in it was deleted, and its
//! zones once a filter requested them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::BLOCK;
use crate::codec::{ByteReader, Put, checksum, page_is_sealed, sealed_page};
use crate::error::StorageError;
use crate::guard::{fails, removable};
use crate::ids::{ChunkId, TableId};
use crate::marks::Marks;
use crate::storage::{File, PAGE, Reopened, Storage};
use crate::zones::ZoneSlot;

const MAGIC: [u8; 8] = *b"PONGOCHK";
const VERSION: u64 = 1;
const CONTENT: usize = 8 + 8 + 16 + 8 * 5 + 16;
/// Bytes before the first row byte of a chunk file.
pub(crate) const HEADER: u64 = PAGE;

/// The values that all chunk headers of one space share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SpaceIdentity {
    pub(crate) store: u128,
    /// `None` for the heap.
    pub(crate) table: Option<TableId>,
    /// Bytes of a row; 1 in the heap.
    pub(crate) row_size: u64,
    /// The layout's fingerprint; 0 in the heap.
    pub(crate) fingerprint: u128,
}

/// A chunk of a space.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) id: ChunkId,
    /// The chunk's first byte in the space; a multiple of the block size.
    pub(crate) start: u64,
    /// Length in bytes of the space; a multiple of the block size.
    pub(crate) len: u64,
    pub(crate) path: String,
    file: Arc<Reopened>,
    /// Whether this process knows that all the file's space is allocated.
    preallocated: Mutex<bool>,
    sums: Mutex<Vec<u64>>,
    /// Dropped again while no thread holds the chunk.
    pub(crate) marks: OnceLock<Marks>,
    /// Whether the chunk has marks, loaded or not.
    marked: AtomicBool,
    /// Whether the chunk's marks were compared with the checkpoint's record of them.
    pub(crate) marks_compared: AtomicBool,
    /// Whether this process announced the marks to the other processes.
    pub(crate) announced: AtomicBool,
    pub(crate) zones: ZoneSlot,
}

impl Chunk {
    fn new(id: ChunkId, start: u64, len: u64, path: String, file: Arc<Reopened>) -> Self {
        Self {
            id,
            start,
            len,
            path,
            file,
            preallocated: Mutex::new(false),
            sums: Mutex::default(),
            marks: OnceLock::new(),
            marked: AtomicBool::new(false),
            marks_compared: AtomicBool::new(false),
            announced: AtomicBool::new(false),
            zones: ZoneSlot::default(),
        }
    }

    /// Returns whether the chunk has marks.
    pub(crate) fn is_marked(&self) -> bool {
        self.marked.load(Ordering::Acquire)
    }

    /// Notes that the chunk has marks. The caller then notifies the space.
    pub(crate) fn set_marked(&self) {
        self.marked.store(true, Ordering::Release);
    }

    pub(crate) fn end(&self) -> u64 {
        self.start + self.len
    }

    /// Creates the file under a temporary name with all its space preallocated, without syncing or
    /// renaming it.
    pub(crate) fn create(
        storage: &dyn Storage,
        dir: &str,
        identity: &SpaceIdentity,
        id: ChunkId,
        start: u64,
        len: u64,
    ) -> Result<Self, StorageError> {
        let path = format!("{dir}/{id}.chunk");
        let temporary = format!("{path}.new");
        // No chunk with this number exists: the files beside it belonged to one that never got its
        // name. If they stayed, they would be used for the new chunk.
        let beside = ["marks", "sums", "zones"].map(|kind| format!("{dir}/{id}.{kind}"));
        for leftover in beside.iter().chain([&temporary]) {
            match storage.remove(leftover) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StorageError::io("removing", leftover.as_str())(error));
                }
                _ => {}
            }
        }
        let file = storage.create(&temporary).map_err(StorageError::io("making", &temporary))?;
        let filled = file
            .allocate(0, HEADER + len)
            .and_then(|()| file.write_at(&sealed_page(header(identity, id, start, len)), 0));
        if let Err(error) = filled {
            let _ = storage.remove(&temporary);
            return Err(StorageError::io("allocating", &temporary)(error));
        }
        let file = Reopened::made(storage, temporary, HEADER + len, file);
        let mut chunk = Self::new(id, start, len, path, file);
        chunk.preallocated = Mutex::new(true);
        Ok(chunk)
    }

    /// Syncs a new chunk's file and renames it to its final name. The caller syncs the folder.
    pub(crate) fn publish_name(&self, storage: &dyn Storage) -> Result<(), StorageError> {
        let temporary = format!("{}.new", self.path);
        let file = self.file.to_sync(storage).map_err(StorageError::io("opening", &temporary))?;
        removable!("chunk.settle.sync", file.sync()).map_err(StorageError::io("syncing", &temporary))?;
        storage.rename(&temporary, &self.path).map_err(StorageError::io("renaming", &temporary))?;
        self.file.renamed(&self.path);
        Ok(())
    }

    /// Opens chunk `id`, which begins at `start`. Returns `None` if its file does not exist.
    ///
    /// Returns an error if the header is invalid, does not match the space, the id and the start,
    /// or does not match the length of the file.
    pub(crate) fn open(
        storage: &dyn Storage,
        dir: &str,
        identity: &SpaceIdentity,
        id: ChunkId,
        start: u64,
    ) -> Result<Option<Self>, StorageError> {
        let path = format!("{dir}/{id}.chunk");
        let file = match storage.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StorageError::io("opening", path)(error)),
        };
        let actual = file.len().map_err(StorageError::io("measuring", path.as_str()))?;
        let mut page = vec![0; PAGE as usize];
        if actual < PAGE {
            return Err(StorageError::corrupt(
                path,
                actual,
                "a chunk header of 4096 bytes",
                "the end of the file",
            ));
        }
        file.read_at(&mut page, 0).map_err(StorageError::io("reading", path.as_str()))?;
        if fails!("chunk.header.checksum", !page_is_sealed(&page, CONTENT)) || !page.starts_with(&MAGIC) {
            return Err(StorageError::corrupt(
                path,
                0,
                "a chunk header",
                "another header, or a wrong checksum",
            ));
        }
        let len = read_len(&page).unwrap_or(0);
        let expected = header(identity, id, start, len);
        if fails!("chunk.header.identity", page[..CONTENT] != expected) {
            let at = page.iter().zip(&expected).position(|(found, wanted)| found != wanted).unwrap_or(0);
            return Err(StorageError::corrupt(
                path,
                at as u64,
                format!("the header of chunk {id} of this table, beginning at byte {start}"),
                "the header of another store, table, layout or place",
            ));
        }
        if len == 0 || !len.is_multiple_of(BLOCK) || start.checked_add(len).is_none_or(|end| end > 1 << 45) {
            return Err(StorageError::corrupt(path, 0, "a length in whole blocks", format!("{len}")));
        }
        if actual != HEADER + len {
            return Err(StorageError::corrupt(
                path,
                actual.min(HEADER + len),
                format!("a file of {} bytes", HEADER + len),
                format!("{actual} bytes"),
            ));
        }
        let file = Reopened::opened(storage, path.clone(), HEADER + len, file);
        Ok(Some(Self::new(id, start, len, path, file)))
    }

    /// Returns the open file, reopening it if it was closed: a process has few descriptors and may
    /// have many chunks.
    pub(crate) fn file(&self, storage: &dyn Storage) -> Result<Arc<dyn File>, StorageError> {
        self.file.file(storage).map_err(|error| self.not_opened(error))
    }

    /// Returns the file for writing, with all its space allocated. A copied store may have holes in
    /// its files, or share blocks with the original.
    pub(crate) fn file_to_write(&self, storage: &dyn Storage) -> Result<Arc<dyn File>, StorageError> {
        let file = self.file.file_to_write(storage).map_err(|error| self.not_opened(error))?;
        // The lock is held during the allocation. Where a file system has no call for it,
        // `allocate` reads zeros and writes zeros over them, and no other thread may start to write
        // rows in between.
        let mut preallocated = self.preallocated.lock().unwrap_or_else(PoisonError::into_inner);
        if !*preallocated {
            file.allocate(0, HEADER + self.len)
                .map_err(StorageError::io("allocating", self.path.as_str()))?;
            *preallocated = true;
        }
        Ok(file)
    }

    fn not_opened(&self, error: std::io::Error) -> StorageError {
        match error.kind() {
            std::io::ErrorKind::NotFound => StorageError::SnapshotTooOld { file: self.path.clone() },
            _ => StorageError::io("opening", self.path.as_str())(error),
        }
    }

    /// Returns the file's [`Reopened`], for callers that open it themselves.
    pub(crate) fn reopened(&self) -> &Arc<Reopened> {
        &self.file
    }

    /// Syncs the file (`fdatasync`).
    pub(crate) fn sync(&self, storage: &dyn Storage) -> Result<(), StorageError> {
        let file = self.file.to_sync(storage).map_err(|error| self.not_opened(error))?;
        file.sync().map_err(StorageError::io(StorageError::SYNCING, self.path.as_str()))
    }

    fn sums_path(&self) -> String {
        format!("{}.sums", self.path.trim_end_matches(".chunk"))
    }

    /// Returns the stored checksum of block `index` of this chunk, whose first `summed` blocks have
    /// one. Later values in the file are being written, or were written by a process that crashed.
    pub(crate) fn block_sum(
        &self,
        storage: &dyn Storage,
        index: u64,
        summed: u64,
    ) -> Result<u64, StorageError> {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let index = index as usize;
        if sums.len() <= index {
            let path = self.sums_path();
            let file = storage.open(&path).map_err(StorageError::io("opening", path.as_str()))?;
            let len = file.len().map_err(StorageError::io("measuring", path.as_str()))?;
            let blocks = (len / 8).min(summed) as usize;
            if blocks <= index {
                return Err(StorageError::corrupt(
                    path,
                    len,
                    "the checksum of a block",
                    "the end of the file",
                ));
            }
            let mut bytes = vec![0; blocks * 8];
            file.read_at(&mut bytes, 0).map_err(StorageError::io("reading", path.as_str()))?;
            *sums = bytes
                .chunks_exact(8)
                .map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")))
                .collect();
        }
        Ok(sums[index])
    }

    /// Stores the checksums of blocks `first..` of this chunk and syncs them.
    pub(crate) fn write_sums(
        &self,
        storage: &dyn Storage,
        first: u64,
        new: &[u64],
    ) -> Result<(), StorageError> {
        let path = self.sums_path();
        let file = match storage.open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => storage.create(&path),
            opened => opened,
        }
        .map_err(StorageError::io("opening", path.as_str()))?;
        let bytes: Vec<u8> = new.iter().flat_map(|sum| sum.to_le_bytes()).collect();
        file.write_at(&bytes, first * 8).map_err(StorageError::io("writing", path.as_str()))?;
        removable!("sums.sync", file.sync()).map_err(StorageError::io("syncing", path.as_str()))?;
        // The checksums that were read stay in memory: the thread that read them verifies blocks
        // without a descriptor.
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        sums.truncate(first as usize);
        if sums.len() as u64 == first {
            sums.extend_from_slice(new);
        }
        Ok(())
    }
}

/// Returns the checksum of a block's bytes.
pub(crate) fn sum_of(block: &[u8]) -> u64 {
    checksum(block)
}

fn header(identity: &SpaceIdentity, id: ChunkId, start: u64, len: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(PAGE as usize);
    out.extend_from_slice(&MAGIC);
    out.put_u64(VERSION);
    out.put_u128(identity.store);
    out.put_u64(identity.table.map_or(u64::MAX, |table| u64::from(table.0)));
    out.put_u64(id.0);
    out.put_u64(start);
    out.put_u64(len);
    out.put_u64(identity.row_size);
    out.put_u128(identity.fingerprint);
    debug_assert_eq!(out.len(), CONTENT);
    out
}

fn read_len(page: &[u8]) -> Option<u64> {
    let mut reader = ByteReader::new(page);
    reader.take(8 + 8 + 16 + 8 * 3)?;
    reader.u64()
}
