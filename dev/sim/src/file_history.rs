//! The durable content of a file, and the changes since: a power cut may leave any version that
//! each sector of 512 bytes has had since the last sync, and any length.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use pongo_core::storage::PAGE;
use xxhash_rust::xxh3::xxh3_64;

use crate::crash_policy::{CrashPolicy, CrashSampler};

const SECTOR: usize = 512;
/// Maximum number of versions kept per sector; beyond that, a middle one is dropped. A sector has
/// this number of words.
const VERSIONS: usize = 64;

type Sector = [u8; SECTOR];

/// Bytes of a file, shared by all images with the same bytes.
#[derive(Default, Debug)]
pub(crate) struct FileContent {
    pub(crate) bytes: Vec<u8>,
    /// Pages that were written or allocated; all others are holes.
    pub(crate) allocated: BTreeSet<u64>,
    hash: OnceLock<u64>,
}

impl Clone for FileContent {
    fn clone(&self) -> Self {
        // A clone is made to be changed, so the hash is not copied.
        Self { bytes: self.bytes.clone(), allocated: self.allocated.clone(), hash: OnceLock::new() }
    }
}

impl FileContent {
    /// Creates content whose pages are all allocated.
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        let allocated = (0..(bytes.len() as u64).div_ceil(PAGE)).collect();
        Self { bytes, allocated, hash: OnceLock::new() }
    }

    pub(crate) fn hash(&self) -> u64 {
        *self.hash.get_or_init(|| xxh3_64(&self.bytes))
    }

    fn sector(&self, index: usize) -> Sector {
        let mut sector = [0; SECTOR];
        let start = (index * SECTOR).min(self.bytes.len());
        let end = (start + SECTOR).min(self.bytes.len());
        sector[..end - start].copy_from_slice(&self.bytes[start..end]);
        sector
    }

    fn store(&mut self, index: usize, sector: &Sector) {
        let start = (index * SECTOR).min(self.bytes.len());
        let end = (start + SECTOR).min(self.bytes.len());
        self.bytes[start..end].copy_from_slice(&sector[..end - start]);
        if start < end {
            self.allocated.insert(start as u64 / PAGE);
        }
    }

    fn resize(&mut self, len: usize) {
        if len < self.bytes.len() {
            drop(self.allocated.split_off(&(len as u64).div_ceil(PAGE)));
        }
        self.bytes.resize(len, 0);
    }
}

/// History of a file; see the module documentation.
#[derive(Debug, Default)]
pub(crate) struct FileHistory {
    durable: Arc<FileContent>,
    /// Versions since the last sync, oldest first.
    dirty: BTreeMap<usize, Vec<Sector>>,
    /// Lengths since the last sync, oldest first.
    lens: Vec<usize>,
    /// Pages allocated or written, durable or not.
    allocated: BTreeSet<u64>,
}

impl FileHistory {
    pub(crate) fn holding(content: &Arc<FileContent>) -> Self {
        Self { durable: Arc::clone(content), allocated: content.allocated.clone(), ..Self::default() }
    }

    /// Records the current length of the file.
    pub(crate) fn note_len(&mut self, len: u64) {
        let before = *self.lens.last().unwrap_or(&self.durable.bytes.len());
        if before != len as usize {
            self.lens.push(len as usize);
        }
        if (len as usize) < before {
            drop(self.allocated.split_off(&len.div_ceil(PAGE)));
            // The truncated bytes read as zero if the file grows again.
            let sectors = (len as usize).div_ceil(SECTOR)..before.div_ceil(SECTOR);
            sectors.for_each(|index| self.note_sector(index, [0; SECTOR]));
        }
    }

    /// Records that these bytes were written or allocated.
    pub(crate) fn note_allocated(&mut self, from: u64, to: u64) {
        self.allocated.extend(from / PAGE..to.div_ceil(PAGE));
    }

    /// Returns whether a store at this byte would go to a hole.
    pub(crate) fn is_hole(&self, at: u64) -> bool {
        !self.allocated.contains(&(at / PAGE))
    }

    /// Records the current bytes from `at`, a multiple of the sector size.
    pub(crate) fn note_bytes(&mut self, at: u64, bytes: &[u8]) {
        for (i, part) in bytes.chunks(SECTOR).enumerate() {
            let mut sector = [0; SECTOR];
            sector[..part.len()].copy_from_slice(part);
            self.note_sector(at as usize / SECTOR + i, sector);
        }
    }

    fn note_sector(&mut self, index: usize, sector: Sector) {
        let known = self.dirty.get(&index).and_then(|versions| versions.last());
        let same = match known {
            Some(known) => *known == sector,
            None => self.durable.sector(index) == sector,
        };
        if same {
            return;
        }
        let versions = self.dirty.entry(index).or_default();
        if versions.len() == VERSIONS {
            versions.remove(VERSIONS / 2);
        }
        versions.push(sector);
    }

    /// Returns the content that a power cut at this moment leaves. Changes nothing.
    pub(crate) fn draw(&self, draw: &mut CrashSampler<'_>) -> Arc<FileContent> {
        if self.lens.is_empty() && self.dirty.is_empty() {
            return Arc::clone(&self.durable);
        }
        draw.next_file();
        let mut content = FileContent::clone(&self.durable);
        if let Some(place) = draw.version(self.lens.len()) {
            content.resize(self.lens[place]);
        }
        for (&index, versions) in &self.dirty {
            if let Some(place) = draw.version(versions.len()) {
                content.store(index, &versions[place]);
            }
        }
        Arc::new(content)
    }

    /// Records that everything so far is durable.
    pub(crate) fn synced(&mut self) {
        if !self.dirty.is_empty() || !self.lens.is_empty() {
            let mut random = crate::Random(0);
            self.apply_policy(&mut CrashSampler::new(&mut random, CrashPolicy::Newest));
        }
        if self.durable.allocated != self.allocated {
            Arc::make_mut(&mut self.durable).allocated = self.allocated.clone();
        }
    }

    /// Makes a random choice of the unsynced changes durable and drops the others; no later sync
    /// writes them.
    pub(crate) fn apply_policy(&mut self, draw: &mut CrashSampler<'_>) {
        self.durable = self.draw(draw);
        self.dirty.clear();
        self.lens.clear();
    }
}
