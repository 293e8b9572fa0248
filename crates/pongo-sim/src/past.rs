//! What of one file is on the disk for sure, and what a power cut may leave of the rest: of each sector of 512 bytes any
//! version it has had since the last sync, and any length.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use pongo_core::storage::PAGE;
use xxhash_rust::xxh3::xxh3_64;

use crate::leave::{Draw, Leave};

const SECTOR: usize = 512;
/// More versions of one sector are not told apart: what is in between goes. As many as it has words.
const VERSIONS: usize = 64;

type Sector = [u8; SECTOR];

/// A file's bytes, shared by all images that have the same.
#[derive(Default, Debug)]
pub(crate) struct Content {
    pub(crate) bytes: Vec<u8>,
    /// Pages that were written or set aside; all others are holes.
    pub(crate) allocated: BTreeSet<u64>,
    hash: OnceLock<u64>,
}

impl Clone for Content {
    fn clone(&self) -> Self {
        // Whoever clones is about to change it.
        Self { bytes: self.bytes.clone(), allocated: self.allocated.clone(), hash: OnceLock::new() }
    }
}

impl Content {
    /// All of it set aside.
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

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Past {
    durable: Arc<Content>,
    /// Versions since the last sync, oldest first.
    dirty: BTreeMap<usize, Vec<Sector>>,
    /// Lengths since the last sync, oldest first.
    lens: Vec<usize>,
    /// Pages set aside or written, durable or not.
    allocated: BTreeSet<u64>,
}

impl Past {
    pub(crate) fn holding(content: &Arc<Content>) -> Self {
        Self { durable: Arc::clone(content), allocated: content.allocated.clone(), ..Self::default() }
    }

    /// The file is so long now.
    pub(crate) fn note_len(&mut self, len: u64) {
        let before = *self.lens.last().unwrap_or(&self.durable.bytes.len());
        if before != len as usize {
            self.lens.push(len as usize);
        }
        if (len as usize) < before {
            drop(self.allocated.split_off(&len.div_ceil(PAGE)));
            // What was cut off reads as zero should the file grow again.
            let sectors = (len as usize).div_ceil(SECTOR)..before.div_ceil(SECTOR);
            sectors.for_each(|index| self.note_sector(index, [0; SECTOR]));
        }
    }

    /// These bytes were written or set aside.
    pub(crate) fn note_allocated(&mut self, from: u64, to: u64) {
        self.allocated.extend(from / PAGE..to.div_ceil(PAGE));
    }

    /// Whether a store at this byte would go into a hole.
    pub(crate) fn is_hole(&self, at: u64) -> bool {
        !self.allocated.contains(&(at / PAGE))
    }

    /// The bytes at a multiple of the sector size are these now.
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

    /// What a power cut leaves if it comes now. Changes nothing.
    pub(crate) fn draw(&self, draw: &mut Draw<'_>) -> Arc<Content> {
        if self.lens.is_empty() && self.dirty.is_empty() {
            return Arc::clone(&self.durable);
        }
        draw.next_file();
        let mut content = Content::clone(&self.durable);
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

    /// Everything so far is on the disk.
    pub(crate) fn synced(&mut self) {
        if !self.dirty.is_empty() || !self.lens.is_empty() {
            let mut random = crate::Random(0);
            self.settle(&mut Draw::new(&mut random, Leave::Newest));
        }
        if self.durable.allocated != self.allocated {
            Arc::make_mut(&mut self.durable).allocated = self.allocated.clone();
        }
    }

    /// What was not synced is left as it comes; nothing of it will be written by a later sync.
    pub(crate) fn settle(&mut self, draw: &mut Draw<'_>) {
        self.durable = self.draw(draw);
        self.dirty.clear();
        self.lens.clear();
    }
}
