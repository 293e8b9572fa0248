//! What of one file is on the disk for sure, and what a power cut may leave of the rest: of each sector of 512 bytes any
//! version it has had since the last sync, and any length.

use std::collections::BTreeMap;

use crate::random::Random;

const SECTOR: usize = 512;
/// More versions of one sector are not told apart: what is in between goes.
const VERSIONS: usize = 12;

type Sector = [u8; SECTOR];

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Image {
    durable: Vec<u8>,
    /// Versions since the last sync, oldest first.
    dirty: BTreeMap<usize, Vec<Sector>>,
    /// Lengths since the last sync, oldest first.
    lens: Vec<usize>,
}

/// How a power cut chooses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Leave {
    /// Nothing that was not synced.
    Oldest,
    /// Everything.
    Newest,
    /// Whatever comes.
    Any,
}

impl Image {
    pub(crate) fn holding(bytes: Vec<u8>) -> Self {
        Self { durable: bytes, ..Self::default() }
    }

    fn durable_sector(&self, index: usize) -> Sector {
        let mut sector = [0; SECTOR];
        let start = (index * SECTOR).min(self.durable.len());
        let end = (start + SECTOR).min(self.durable.len());
        sector[..end - start].copy_from_slice(&self.durable[start..end]);
        sector
    }

    /// The file is so long now.
    pub(crate) fn note_len(&mut self, len: u64) {
        if *self.lens.last().unwrap_or(&self.durable.len()) != len as usize {
            self.lens.push(len as usize);
        }
    }

    /// The bytes at a multiple of the sector size are these now.
    pub(crate) fn note_bytes(&mut self, at: u64, bytes: &[u8]) {
        for (i, part) in bytes.chunks(SECTOR).enumerate() {
            let index = at as usize / SECTOR + i;
            let mut sector = [0; SECTOR];
            sector[..part.len()].copy_from_slice(part);
            let durable = self.durable_sector(index);
            let known = self.dirty.get(&index).and_then(|versions| versions.last());
            if sector == *known.unwrap_or(&durable) {
                continue;
            }
            let versions = self.dirty.entry(index).or_default();
            if versions.len() == VERSIONS {
                versions.remove(VERSIONS / 2);
            }
            versions.push(sector);
        }
    }

    fn store(&mut self, index: usize, sector: &Sector) {
        let start = (index * SECTOR).min(self.durable.len());
        let end = (start + SECTOR).min(self.durable.len());
        self.durable[start..end].copy_from_slice(&sector[..end - start]);
    }

    /// Everything so far is on the disk.
    pub(crate) fn synced(&mut self) {
        self.settle(&mut Random(0), Leave::Newest);
    }

    /// What was not synced is left as it comes; nothing of it will be written by a later sync.
    pub(crate) fn settle(&mut self, random: &mut Random, leave: Leave) {
        if let Some(&last) = self.lens.last() {
            let len = match leave {
                Leave::Oldest => self.durable.len(),
                Leave::Newest => last,
                Leave::Any => {
                    let place = random.below(self.lens.len() as u64 + 1) as usize;
                    place.checked_sub(1).map_or(self.durable.len(), |place| self.lens[place])
                }
            };
            self.durable.resize(len, 0);
            self.lens.clear();
        }
        for (index, versions) in std::mem::take(&mut self.dirty) {
            let place = match leave {
                Leave::Oldest => 0,
                Leave::Newest => versions.len(),
                Leave::Any => random.below(versions.len() as u64 + 1) as usize,
            };
            if let Some(place) = place.checked_sub(1) {
                self.store(index, &versions[place]);
            }
        }
    }

    /// What is on the disk for sure.
    pub(crate) fn durable(&self) -> &[u8] {
        &self.durable
    }
}
