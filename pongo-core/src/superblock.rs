//! The `super` file: two slots in separate pages, written alternately. A slot is only a pointer: to
//! the format version, the store, the recovery generation, and the position of the newest
//! checkpoint entry in the journal.
//!
//! Guarantee: after [`Superblock::advance`] returned, the new slot is on disk and the old one is
//! unchanged. A torn slot has an invalid checksum, and the other slot is used.

use std::sync::Arc;

use crate::codec::{ByteReader, LIMIT, Put, page_is_sealed, sealed_page};
use crate::error::{OpenError, StorageError};
use crate::guard::{fails, removable};
use crate::ids::{JournalPos, Salt};
use crate::storage::{File, PAGE, Storage};

/// The format version that this library writes. A store of an older version is upgraded when it is
/// opened.
pub const FORMAT_VERSION: u32 = 2;
/// The oldest format version that can be read.
const OLDEST: u32 = 1;
/// The first version in which journal entries have checksums of the bytes they reference.
pub(crate) const REFERENCED_SUMS: u32 = 2;

pub(crate) const PATH: &str = "super";
const MAGIC: [u8; 8] = *b"PONGODB\n";
const BYTE_ORDER: u32 = 0x0102_0304;
const CONTENT: usize = 8 + 4 + 4 + 16 + 8 * 5;

/// The content of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    /// Format version of the store to which this slot leads.
    pub(crate) format: u32,
    pub(crate) store: u128,
    /// Number of slots written since the store was created; the higher of two is the newer.
    pub(crate) generation: u64,
    pub(crate) salt: Salt,
    pub(crate) segment: u64,
    pub(crate) checkpoint: JournalPos,
    pub(crate) checkpoint_checksum: u64,
}

impl Slot {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(PAGE as usize);
        out.extend_from_slice(&MAGIC);
        out.put_u32(BYTE_ORDER);
        out.put_u32(self.format);
        out.put_u128(self.store);
        out.put_u64(self.generation);
        out.put_u64(self.salt.0);
        out.put_u64(self.segment);
        out.put_u64(self.checkpoint.0);
        out.put_u64(self.checkpoint_checksum);
        debug_assert_eq!(out.len(), CONTENT);
        sealed_page(out)
    }

    fn decode(page: &[u8]) -> Option<Self> {
        if fails!("super.slot.checksum", !page_is_sealed(page, CONTENT)) {
            return None;
        }
        let mut reader = ByteReader::new(page);
        reader.take(12)?;
        let slot = Self {
            format: reader.u32()?,
            store: reader.u128()?,
            generation: reader.u64()?,
            salt: Salt(reader.u64()?),
            segment: reader.u64()?,
            checkpoint: JournalPos(reader.u64()?),
            checkpoint_checksum: reader.u64()?,
        };
        let sane = [slot.generation, slot.salt.0, slot.segment, slot.checkpoint.0].iter().all(|&n| n < LIMIT);
        sane.then_some(slot)
    }
}

/// The open `super` file.
#[derive(Debug)]
pub(crate) struct Superblock {
    file: Arc<dyn File>,
    newest: Slot,
}

impl Superblock {
    /// Writes the first slot of a new store. Does not sync the folder: the recovery that follows
    /// does.
    pub(crate) fn create(storage: &dyn Storage, slot: Slot) -> Result<Self, StorageError> {
        let temporary = "super.new";
        let _ = storage.remove(temporary);
        let file = storage.create(temporary).map_err(StorageError::io("making", temporary))?;
        file.allocate(0, 2 * PAGE).map_err(StorageError::io("allocating", temporary))?;
        file.write_at(&slot.encode(), slot.generation % 2 * PAGE)
            .map_err(StorageError::io("writing", temporary))?;
        removable!("super.create.sync", file.sync()).map_err(StorageError::io("syncing", temporary))?;
        storage.rename(temporary, PATH).map_err(StorageError::io("renaming", temporary))?;
        Ok(Self { file, newest: slot })
    }

    /// Reads both slots and uses the newer valid one. The older one is used only if the newer is
    /// torn: then the newer was never durable.
    ///
    /// Slots of all format versions are sealed the same way and have their generation at the same
    /// position. If the newer slot has a version that this library does not read, the older slot is
    /// not used even if it is readable: it leads to an older state of the store.
    pub(crate) fn open(storage: &dyn Storage) -> Result<(Self, Slot), OpenError> {
        let file = storage.open(PATH).map_err(StorageError::io("opening", PATH))?;
        let len = file.len().map_err(StorageError::io("measuring", PATH))?;
        let mut newest: Option<(Slot, Result<(), Foreign>)> = None;
        let mut foreign = None;
        // Set for a page with the right identification whose checksum is invalid: a damaged store,
        // not another file.
        let mut ours = false;
        for index in 0..2 {
            let mut page = vec![0; PAGE as usize];
            if len < (index + 1) * PAGE {
                continue;
            }
            file.read_at(&mut page, index * PAGE).map_err(StorageError::io("reading", PATH))?;
            match Slot::decode(&page) {
                Some(slot) if newest.as_ref().is_none_or(|(known, _)| known.generation < slot.generation) => {
                    newest = Some((slot, identify(&page)));
                }
                Some(_) => {}
                None if page.iter().all(|&byte| byte == 0) => {}
                None => match identify(&page) {
                    Ok(()) => ours = true,
                    Err(other) => foreign = foreign.or(Some(other)),
                },
            }
        }
        let newest = match newest {
            Some((slot, Ok(()))) => Some(slot),
            Some((_, Err(other))) => {
                (foreign, ours) = (Some(other), false);
                None
            }
            None => None,
        };
        let path = storage.name();
        match (newest, foreign) {
            (Some(newest), _) => Ok((Self { file, newest }, newest)),
            (None, Some(Foreign::Magic(found))) if !ours => Err(OpenError::NotAStore {
                path,
                found: format!(
                    "a `super` file that begins with `{}` instead of `{}`",
                    found.escape_ascii(),
                    MAGIC.escape_ascii()
                ),
            }),
            (None, Some(Foreign::ByteOrder)) => {
                Err(OpenError::ByteOrder { path, expected: "little-endian", found: "big-endian" })
            }
            (None, Some(Foreign::Version(found))) => {
                Err(OpenError::Version { path, expected: FORMAT_VERSION, found })
            }
            (None, None) if len < 2 * PAGE => Err(StorageError::corrupt(
                PATH,
                len,
                format!("{} bytes with a slot that checks", 2 * PAGE),
                format!("a file of {len} bytes without one"),
            )
            .into()),
            (None, _) => {
                Err(StorageError::corrupt(PATH, 0, "a slot whose checksum is right", "none in either page")
                    .into())
            }
        }
    }

    /// Returns the newest slot.
    pub(crate) fn newest(&self) -> &Slot {
        &self.newest
    }

    /// Returns the segment that the newest slot names.
    pub(crate) fn segment(&self) -> u64 {
        self.newest.segment
    }

    /// Writes the newest slot over the older one too.
    pub(crate) fn repeat(&mut self) -> Result<(), StorageError> {
        self.advance(self.newest)
    }

    /// Writes the next slot over the older one and syncs it.
    pub(crate) fn advance(&mut self, mut slot: Slot) -> Result<(), StorageError> {
        slot.format = FORMAT_VERSION;
        slot.generation = self.newest.generation + 1;
        slot.store = self.newest.store;
        self.file
            .write_at(&slot.encode(), slot.generation % 2 * PAGE)
            .map_err(StorageError::io("writing", PATH))?;
        removable!("super.advance.sync", self.file.sync()).map_err(StorageError::io("syncing", PATH))?;
        self.newest = slot;
        Ok(())
    }
}

enum Foreign {
    Magic([u8; 8]),
    ByteOrder,
    Version(u32),
}

fn identify(page: &[u8]) -> Result<(), Foreign> {
    let mut reader = ByteReader::new(page);
    let magic: [u8; 8] = reader.take(8).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
    if magic != MAGIC {
        return Err(Foreign::Magic(magic));
    }
    match reader.u32() {
        Some(BYTE_ORDER) => {}
        Some(order) if order == BYTE_ORDER.swap_bytes() => return Err(Foreign::ByteOrder),
        _ => return Ok(()),
    }
    match reader.u32() {
        Some(version) if !(OLDEST..=FORMAT_VERSION).contains(&version) => Err(Foreign::Version(version)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    fn slot(generation: u64) -> Slot {
        Slot {
            format: FORMAT_VERSION,
            store: 7,
            generation,
            salt: Salt(1),
            segment: 0,
            checkpoint: JournalPos(generation * 64),
            checkpoint_checksum: 9,
        }
    }

    #[test]
    fn a_torn_slot_leaves_the_other() {
        let storage = MemoryStorage::new();
        let mut superblock = Superblock::create(&storage, slot(0)).unwrap();
        superblock.advance(slot(0)).unwrap();
        superblock.advance(slot(0)).unwrap();
        assert_eq!(superblock.newest.generation, 2);
        let file = storage.open(PATH).unwrap();
        file.write_at(&[0xff; 512], 0).unwrap();
        let (reopened, slot) = Superblock::open(&storage).unwrap();
        assert_eq!(reopened.newest.generation, 1);
        assert_eq!(slot.generation, 1);
    }

    #[test]
    fn corrupt_slot_leaves_the_other() {
        let storage = MemoryStorage::new();
        let mut superblock = Superblock::create(&storage, slot(0)).unwrap();
        superblock.advance(slot(0)).unwrap();
        superblock.advance(slot(0)).unwrap();
        let file = storage.open(PATH).unwrap();
        let mut page = [0; CONTENT + 8];
        file.read_at(&mut page, 0).unwrap();
        for bit in 0..page.len() * 8 {
            let (at, mut flipped) = (bit / 8, page);
            flipped[at] ^= 1 << (bit % 8);
            file.write_at(&flipped, 0).unwrap();
            assert_eq!(Superblock::open(&storage).unwrap().1.generation, 1, "bit {bit}");
        }
    }

    /// Checks that the newer slot decides: the other leads to an earlier state of the store.
    #[test]
    fn the_newest_slot_says_the_version() {
        let storage = MemoryStorage::new();
        let file = storage.create(PATH).unwrap();
        let write = |generation: u64, format: u32| {
            let slot = Slot { format, ..slot(generation) };
            file.write_at(&slot.encode(), generation % 2 * PAGE).unwrap();
        };
        // Upgraded half way, by a program that is newer than this one.
        for (older, newer) in [(0, 1), (2, 1), (2, 3)] {
            write(older.min(newer), FORMAT_VERSION);
            write(older.max(newer), FORMAT_VERSION + 1);
            let error = Superblock::open(&storage).unwrap_err();
            assert!(
                matches!(error, OpenError::Version { found, .. } if found == FORMAT_VERSION + 1),
                "{error}"
            );
            assert!(error.to_string().contains(&format!("version {}", FORMAT_VERSION + 1)), "{error}");
        }
        // Upgraded half way by this program, and then used by the older one.
        write(4, FORMAT_VERSION);
        write(5, OLDEST);
        assert_eq!(Superblock::open(&storage).unwrap().1.format, OLDEST);
        write(6, FORMAT_VERSION);
        let (mut superblock, slot) = Superblock::open(&storage).unwrap();
        assert_eq!((slot.format, slot.generation), (FORMAT_VERSION, 6));
        superblock.repeat().unwrap();
        let mut page = [0; 2 * PAGE as usize];
        file.read_at(&mut page, 0).unwrap();
        for at in [12, PAGE as usize + 12] {
            assert_eq!(page[at..at + 4], FORMAT_VERSION.to_le_bytes());
        }
    }

    #[test]
    fn other_version_or_order_is_named() {
        for (at, bytes, word) in [
            (12, 9u32.to_le_bytes(), "version 9"),
            (8, 0x0102_0304u32.to_be_bytes(), "big-endian"),
            (0, *b"SQLi", "not a PongoDB store"),
        ] {
            let storage = MemoryStorage::new();
            Superblock::create(&storage, slot(0)).unwrap();
            storage.open(PATH).unwrap().write_at(&bytes, at).unwrap();
            let message = Superblock::open(&storage).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }
}
