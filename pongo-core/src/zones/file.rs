//! `C.zones`: the zone maps of chunk C, stored so that the next process does not need to scan its
//! rows.
//!
//! Written only for a chunk whose rows a durable checkpoint covers, and bound to the checksums of
//! its blocks: a file that does not belong to exactly these bytes is not trusted. The file is not
//! synced: if a power cut leaves it incomplete, its checksum does not match and it is rebuilt.

use std::sync::Arc;

use super::{ZonePlan, Zones};
use crate::codec::{ByteReader, Put, checksum};
use crate::guard::fails;
use crate::ids::{ChunkId, RowId};
use crate::space::SpaceIdentity;
use crate::storage::Storage;

const MAGIC: [u8; 8] = *b"PONGOZON";
const VERSION: u64 = 1;
const HEAD: usize = 8 + 8 + 16 + 8 + 8 + 16 + 8 * 5;

/// The properties that a zones file must match to be trusted.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) plan: &'a Arc<ZonePlan>,
    pub(super) identity: &'a SpaceIdentity,
    pub(super) chunk: ChunkId,
    /// The first row that begins in the chunk.
    pub(super) first: RowId,
    /// The number of rows that begin in the chunk.
    pub(super) rows: u64,
    /// The checksum of the checksums of the blocks that these rows touch.
    pub(super) sums: u64,
}

impl Subject<'_> {
    fn head(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD);
        out.extend_from_slice(&MAGIC);
        out.put_u64(VERSION);
        out.put_u128(self.identity.store);
        out.put_u64(self.identity.table.map_or(u64::MAX, |table| u64::from(table.0)));
        out.put_u64(self.chunk.0);
        out.put_u128(self.identity.fingerprint);
        out.put_u64(self.first.0);
        out.put_u64(self.rows);
        out.put_u64(self.plan.zone_rows);
        out.put_u64(self.plan.stride as u64);
        out.put_u64(self.sums);
        debug_assert_eq!(out.len(), HEAD);
        out
    }

    fn zones(&self) -> usize {
        self.rows.div_ceil(self.plan.zone_rows) as usize
    }
}

/// Writes the file under a temporary name and renames it. Errors are ignored: without the file, the
/// next process scans the rows again.
pub(super) fn save(storage: &dyn Storage, path: &str, subject: &Subject<'_>, zones: &Zones) {
    let mut bytes = subject.head();
    bytes.extend_from_slice(&zones.entries);
    let sum = checksum(&bytes);
    bytes.put_u64(sum);
    let temporary = format!("{path}.new");
    // An existing file belongs to another process that is writing it, or to one that was killed;
    // recovery removes the latter.
    let Ok(file) = storage.create(&temporary) else { return };
    let written = file.write_at(&bytes, 0).and_then(|()| storage.rename(&temporary, path));
    if written.is_err() {
        let _ = storage.remove(&temporary);
    }
}

/// Reads the file, if it exists and every byte is valid.
pub(super) fn load(storage: &dyn Storage, path: &str, subject: &Subject<'_>) -> Option<Zones> {
    let file = storage.open(path).ok()?;
    let entries = (subject.zones() + 1) * subject.plan.stride;
    let len = HEAD + entries + 8;
    if file.len().ok()? != len as u64 {
        return None;
    }
    let mut bytes = vec![0; len];
    file.read_at(&mut bytes, 0).ok()?;
    let (content, sum) = bytes.split_at(HEAD + entries);
    if fails!("zones.checksum", ByteReader::new(sum).u64() != Some(checksum(content)))
        || fails!("zones.identity", content[..HEAD] != subject.head())
    {
        return None;
    }
    let entries = content[HEAD..].to_vec();
    let plan = subject.plan;
    if plan.stride > 0 && !entries.chunks_exact(plan.stride).all(|entry| plan.is_sound(entry)) {
        return None;
    }
    Some(Zones { plan: Arc::clone(plan), first: subject.first, rows: subject.rows, entries })
}
