//! Recomputes checksums after damage, according to docs/FORMAT.md. A checksum detects corruption
//! but does not protect against an attacker, so the checked content must be validated too. Written
//! from the document, without the library's own functions, which are not public.

use std::ops::Range;

use pongo_core::schema::StoredSchema;
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

use crate::fuzz::image::FuzzImage;

/// Page checksums: chunks, marks, segments, slots.
pub(crate) const PAGES: u64 = 1;
/// Checksums of blocks.
pub(crate) const SUMS: u64 = 2;
/// Checksums of tails and marks in the newest checkpoint.
pub(crate) const CHECKPOINT: u64 = 4;
/// Checksums of entries, and of the slots that refer to an entry.
pub(crate) const ENTRIES: u64 = 8;
/// Schema files, and the copies of their fingerprints.
pub(crate) const SCHEMAS: u64 = 16;
/// Zones.
pub(crate) const ZONES: u64 = 32;

const PAGE: usize = 4096;
const BLOCK: usize = 65536;
const SUPER_LEN: usize = 72;

fn checksum(bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, 0x504f_4e47_4f44_4201)
}

pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

pub(crate) fn set(bytes: &mut [u8], at: usize, value: u64) {
    if let Some(place) = bytes.get_mut(at..at.saturating_add(8)) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

fn put_u128(bytes: &mut [u8], at: usize, value: u128) {
    set(bytes, at, value as u64);
    set(bytes, at + 8, (value >> 64) as u64);
}

fn seal_page(file: &mut [u8], page: usize, len: usize) {
    if let Some(sum) = file.get(page..page + len).map(checksum) {
        set(file, page + len, sum);
    }
}

/// Recomputes the checksums selected by `what`, each after the data that it covers.
pub(crate) fn seal(image: &mut FuzzImage, what: u64) {
    if what & SCHEMAS != 0 {
        schemas(image);
    }
    if what & PAGES != 0 {
        pages(image);
    }
    if what & SUMS != 0 {
        sums(image);
    }
    if what & ZONES != 0 {
        for (_, file) in image.files.iter_mut().filter(|(path, _)| path.ends_with(".zones")) {
            let len = file.len().saturating_sub(8);
            let sum = checksum(&file[..len]);
            set(file, len, sum);
        }
    }
    if what & CHECKPOINT != 0 {
        checkpoint(image);
    }
    if what & ENTRIES != 0 {
        referenced(image);
        entries(image);
        links(image);
    }
    if what & PAGES != 0
        && let Some(file) = image.files.get_mut("super")
    {
        seal_page(file, 0, SUPER_LEN);
        seal_page(file, PAGE, SUPER_LEN);
    }
}

fn pages(image: &mut FuzzImage) {
    for (path, file) in &mut image.files {
        match path.rsplit_once('.').map_or("", |(_, kind)| kind) {
            "chunk" => seal_page(file, 0, 88),
            "marks" | "log" => seal_page(file, 0, 64),
            _ => {}
        }
    }
}

fn sums(image: &mut FuzzImage) {
    let chunks: Vec<String> = image.files.keys().filter(|path| path.ends_with(".chunk")).cloned().collect();
    for path in chunks {
        let blocks: Vec<u64> =
            image.files[&path].get(PAGE..).unwrap_or_default().chunks_exact(BLOCK).map(checksum).collect();
        if let Some(file) = image.files.get_mut(&path.replace(".chunk", ".sums")) {
            for (block, sum) in blocks.into_iter().enumerate() {
                set(file, 8 * block, sum);
            }
        }
    }
}

fn table_names(image: &FuzzImage) -> Vec<(u64, String)> {
    let schema = |number: u64| {
        let text = image.files.get(&format!("schema/{number}.1.schema"))?;
        let text = String::from_utf8_lossy(text);
        let name = text.lines().find_map(|line| line.strip_prefix("table "))?;
        Some((number, name.to_owned()))
    };
    (0..8).filter_map(schema).collect()
}

fn schemas(image: &mut FuzzImage) {
    for (path, text) in image.files.iter_mut().filter(|(path, _)| path.starts_with("schema/")) {
        let end = text.iter().rposition(|&byte| byte != b'\n').unwrap_or(0);
        let line = text[..end].iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        if text[line..].starts_with(b"checksum ") {
            let sum = xxh3_64(&text[..line]);
            text.truncate(line);
            text.extend_from_slice(format!("checksum {sum:016x}\n").as_bytes());
        }
        debug_assert!(path.ends_with(".schema"));
    }
    let names = table_names(image);
    let prints: Vec<(u64, String, u128)> = names
        .into_iter()
        .filter_map(|(number, name)| {
            let text = &image.files[&format!("schema/{number}.1.schema")];
            Some((number, name, StoredSchema::parse_bytes(text).ok()?.fingerprint()))
        })
        .collect();
    for (_, name, print) in &prints {
        let folder = format!("tables/{name}/");
        for (path, file) in image.files.iter_mut().filter(|(path, _)| path.starts_with(&folder)) {
            match path.rsplit_once('.').map_or("", |(_, kind)| kind) {
                "chunk" => put_u128(file, 72, *print),
                "zones" => put_u128(file, 48, *print),
                _ => {}
            }
        }
    }
    let Some((path, at)) = newest_checkpoint(image) else { return };
    let Some(file) = image.files.get_mut(&path) else { return };
    for (number, table) in tables_of(file, at).into_iter().enumerate() {
        if let Some((_, _, print)) = prints.iter().find(|(known, ..)| *known == number as u64) {
            put_u128(file, table.start + 32, *print);
        }
    }
}

/// Returns the file of the entry to which the newest slot refers, and its offset in the file.
pub(crate) fn newest_checkpoint(image: &FuzzImage) -> Option<(String, usize)> {
    let file = image.files.get("super")?;
    let slot = [0, PAGE]
        .into_iter()
        .max_by_key(|slot| (word(file, slot + 8).is_some_and(|word| word != 0), word(file, slot + 32)))?;
    entry_of(image, slot)
}

/// Returns the file of the entry to which a slot refers, and its offset in the file.
fn entry_of(image: &FuzzImage, slot: usize) -> Option<(String, usize)> {
    let file = image.files.get("super")?;
    let (segment, pos) = (word(file, slot + 48)?, word(file, slot + 56)?);
    let path = format!("journal/{segment}.log");
    let start = word(image.files.get(&path)?, 48)?;
    let at = usize::try_from(pos.checked_sub(start)?).ok()?.checked_add(PAGE)?;
    Some((path, at))
}

/// Returns the ranges of the tables' parts of a checkpoint in its file.
pub(crate) fn tables_of(file: &[u8], entry: usize) -> Vec<Range<usize>> {
    let count = word(file, entry + 64 + 32).unwrap_or(0).min(255);
    let mut tables = Vec::new();
    let mut at = entry + 64 + 40;
    for _ in 0..count {
        let marks = word(file, at + 48).unwrap_or(0).min(1 << 16) as usize;
        let end = at + 56 + 16 * marks;
        if end > file.len() {
            break;
        }
        tables.push(at..end);
        at = end;
    }
    tables
}

/// Returns the bytes of a range of a space, at most one block.
fn space_bytes(image: &FuzzImage, folder: &str, range: Range<u64>) -> Option<Vec<u8>> {
    if range.end < range.start || range.end - range.start > BLOCK as u64 {
        return None;
    }
    let mut all = vec![0; (range.end - range.start) as usize];
    for (_, file) in
        image.files.iter().filter(|(path, _)| path.starts_with(folder) && path.ends_with(".chunk"))
    {
        let (start, len) = (word(file, 48)?, word(file, 56)?);
        let (from, to) = (range.start.max(start), range.end.min(start.checked_add(len)?));
        if from < to {
            let at = PAGE + (from - start) as usize;
            let bytes = file.get(at..at + (to - from) as usize)?;
            all[(from - range.start) as usize..(to - range.start) as usize].copy_from_slice(bytes);
        }
    }
    Some(all)
}

/// Recomputes the checksums of tails and marks in the newest checkpoint.
fn checkpoint(image: &mut FuzzImage) {
    let Some((path, at)) = newest_checkpoint(image) else { return };
    let Some(file) = image.files.get(&path) else { return };
    let mut new = Vec::new();
    let read = |at| word(file, at).unwrap_or(0);
    let (len, summed, seq) = (read(at + 64 + 8), read(at + 64 + 16), read(at + 48));
    if let Some(tail) = space_bytes(image, "heap/", summed..len) {
        new.push((at + 64 + 24, checksum(&tail)));
    }
    let names = table_names(image);
    for (number, table) in tables_of(file, at).into_iter().enumerate() {
        let Some((_, name)) = names.iter().find(|(known, _)| *known == number as u64) else { continue };
        let folder = format!("tables/{name}/");
        let size =
            image.files.get(&format!("{folder}0.chunk")).and_then(|chunk| word(chunk, 64)).unwrap_or(1);
        let (rows, summed) = (read(table.start), read(table.start + 16));
        if let Some(tail) = space_bytes(image, &folder, summed..rows.saturating_mul(size)) {
            new.push((table.start + 24, checksum(&tail)));
        }
        for place in (table.start + 56..table.end).step_by(16) {
            if let Some(marks) = image.files.get(&format!("{folder}{}.marks", read(place))) {
                new.push((place + 8, marks_sum(marks, rows, seq)));
            }
        }
    }
    if let Some(file) = image.files.get_mut(&path) {
        new.into_iter().for_each(|(at, sum)| set(file, at, sum));
    }
}

/// Returns the checksum of the marks of rows below `len`, with deletions up to `seq`.
fn marks_sum(file: &[u8], len: u64, seq: u64) -> u64 {
    let (first, rows) = (word(file, 48).unwrap_or(0), word(file, 56).unwrap_or(0).min(1 << 32));
    let words = rows.next_multiple_of(512);
    let mut counted = Vec::new();
    for (number, bytes) in (0..2 * words).zip(file.get(PAGE..).unwrap_or_default().chunks_exact(8)) {
        let value = word(bytes, 0).unwrap_or(0);
        let row = first.saturating_add(number % words);
        if value != 0 && row < len && (number >= words || value <= seq) {
            counted.extend_from_slice(&number.to_le_bytes());
            counted.extend_from_slice(&value.to_le_bytes());
        }
    }
    checksum(&counted)
}

/// Returns the checksum of a whole entry.
pub(crate) fn entry_checksum(entry: &[u8]) -> u64 {
    let mut hasher = Xxh3::with_seed(0x6a6f_7572);
    hasher.update(&entry[..56]);
    hasher.update(&[0; 8]);
    hasher.update(&entry[64..]);
    match hasher.digest() {
        0 => checksum(b"zero"),
        sum => sum,
    }
}

pub(crate) fn entries(image: &mut FuzzImage) {
    for (_, file) in image.files.iter_mut().filter(|(path, _)| path.ends_with(".log")) {
        let mut at = PAGE;
        while at + 64 <= file.len() {
            let len = word(file, at + 8).unwrap_or(0).min(1 << 32) as usize;
            let whole = file[at..].starts_with(b"PJENTRY1") && len >= 64 && len.is_multiple_of(8);
            at = match file.get(at..at + len).filter(|_| whole).map(entry_checksum) {
                Some(sum) => {
                    set(file, at + 56, sum);
                    at + len
                }
                None => at + 8,
            };
        }
    }
}

/// Recomputes the checksums of data to which entries refer, from the chunks. The checksums of the
/// entries themselves are not updated.
pub(crate) fn referenced(image: &mut FuzzImage) {
    let names = table_names(image);
    let mut new = Vec::new();
    for (path, file) in image.files.iter().filter(|(path, _)| path.ends_with(".log")) {
        let mut at = PAGE;
        while at + 64 <= file.len() {
            let len = word(file, at + 8).unwrap_or(0).min(1 << 32) as usize;
            let whole = file[at..].starts_with(b"PJENTRY1") && len >= 64 && len.is_multiple_of(8);
            if whole && file.len() - at >= len {
                let found = referenced_by(image, &names, &file[..at + len], at + 64);
                new.extend(found.into_iter().map(|(at, sum)| (path.clone(), at, sum)));
                at += len;
            } else {
                at += 8;
            }
        }
    }
    for (path, at, sum) in new {
        if let Some(file) = image.files.get_mut(&path) {
            set(file, at, sum);
        }
    }
}

/// Returns the offsets of the checksums in the body of an entry, and their correct values.
fn referenced_by(
    image: &FuzzImage,
    names: &[(u64, String)],
    entry: &[u8],
    mut at: usize,
) -> Vec<(usize, u64)> {
    let mut sums = Vec::new();
    let mut before: Option<(String, Range<u64>)> = None;
    while let (Some(tag), Some(len)) = (word(entry, at), word(entry, at + 8)) {
        let content = at + 16;
        let end = len.checked_next_multiple_of(8).and_then(|len| content.checked_add(len as usize));
        let Some(end) = end.filter(|&end| end <= entry.len()) else { break };
        let read = |place: usize| word(entry, content + place).unwrap_or(0);
        let range = |from: u64, len: u64| from..from.saturating_add(len);
        match tag {
            2 => {
                let name = names.iter().find(|(number, _)| *number == read(0));
                let rows = range(read(16).saturating_mul(read(8)), read(24).saturating_mul(read(8)));
                before = name.map(|(_, name)| (format!("tables/{name}/"), rows));
            }
            3 => before = Some(("heap/".to_owned(), range(read(0), read(8)))),
            4 => {
                if let Some((folder, Range { mut start, end: last })) = before.take() {
                    for place in (content..end).step_by(8) {
                        let next = (start / BLOCK as u64 + 1).saturating_mul(BLOCK as u64).min(last);
                        let part = (start < next).then(|| space_bytes(image, &folder, start..next)).flatten();
                        sums.extend(part.map(|part| (place, checksum(&part))));
                        start = next;
                    }
                }
            }
            _ => before = None,
        }
        at = end;
    }
    sums
}

/// Copies to each slot the checksum of the entry to which it refers.
fn links(image: &mut FuzzImage) {
    for slot in [0, PAGE] {
        let sum = entry_of(image, slot).and_then(|(path, at)| word(image.files.get(&path)?, at + 56));
        if let (Some(sum), Some(file)) = (sum, image.files.get_mut("super")) {
            set(file, slot + 64, sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::image::{BASES, base_image};

    /// Checks that this implementation of the document agrees with the library: sealing an
    /// undamaged image changes nothing.
    #[test]
    fn sealing_a_sound_image_changes_nothing() {
        for number in 0..BASES {
            let mut image = base_image(number).clone();
            seal(&mut image, PAGES | CHECKPOINT | ENTRIES | SCHEMAS | ZONES);
            for (path, bytes) in &base_image(number).files {
                assert!(image.files[path] == *bytes, "base {number}, {path}");
            }
        }
    }
}
