//! Journal entries with correct checksums and arbitrary content, after the checkpoint of a closed
//! store: they are scanned, and replayed or rejected.

use std::ops::Range;

use crate::fuzz::damage::number;
use crate::fuzz::image::{FuzzImage, base_image, quiet};
use crate::fuzz::seal::{self, entry_checksum, newest_checkpoint, seal, set, tables_of, word};
use crate::fuzz::survey::live_with;
use crate::{Bytes, RandomSource};

const PAGE: usize = 4096;
/// Bytes reserved for entries.
const ROOM: usize = 64 << 10;
const MOST_ENTRIES: u64 = 6;
/// Number of bytes covered by one checksum.
const BLOCK: u64 = 64 << 10;

/// The state after the entries so far, if all were accepted.
struct State {
    salt: u64,
    pos: u64,
    seq: u64,
    heap: u64,
    /// Number of rows and bytes per row, by table.
    tables: Vec<(u64, u64)>,
}

/// Writes journal entries and opens the store. Bits of the first byte: 0: the page cache is intact
/// since the store was written; 1: the segment ends right after the entries; 2: there is a schema
/// of a table that no entry names; 3: ordered indexes are kept; 4: checksums of data to which
/// entries refer are wrong; 5: there are no such checksums. The rest of the bytes describes
/// entries.
pub fn journal(data: &[u8]) {
    let mut bytes = Bytes(data);
    let how = bytes.below(256);
    let mut image = base_image(1).clone();
    let (path, at) = newest_checkpoint(&image).expect("the store was closed");
    let mut state = state(&image, &path, at).expect("a whole checkpoint");
    let mut end = at + word(&image.files[&path], at + 8).expect("a whole entry") as usize;
    let file = image.files.get_mut(&path).expect("not found");
    file.resize(PAGE + ROOM, 0);
    set(file, 56, ROOM as u64);
    let has_sums = how & 32 == 0;
    for _ in 0..=bytes.below(MOST_ENTRIES) {
        let entry = entry(&mut bytes, &mut state, has_sums);
        if let Some(place) = file.get_mut(end..end + entry.len()) {
            place.copy_from_slice(&entry);
            end += entry.len();
        }
        if bytes.is_empty() {
            break;
        }
    }
    if how & 16 == 0 {
        seal::referenced(&mut image);
        seal::entries(&mut image);
    }
    let file = image.files.get_mut(&path).expect("not found");
    if how & 2 != 0 {
        file.truncate(end.next_multiple_of(8));
    }
    if how & 4 != 0 {
        new_table(&mut image);
    }
    seal(&mut image, seal::PAGES | seal::SCHEMAS);
    live_with(&image.load(how & 1 != 0), quiet().ordered(how & 8 != 0));
}

fn state(image: &FuzzImage, path: &str, at: usize) -> Option<State> {
    let file = &image.files[path];
    let mut tables = Vec::new();
    for (number, table) in tables_of(file, at).into_iter().enumerate() {
        let schema =
            String::from_utf8_lossy(image.files.get(&format!("schema/{number}.1.schema"))?).into_owned();
        let size = schema.lines().find_map(|line| line.strip_prefix("size "))?.parse().ok()?;
        tables.push((word(file, table.start)?, size));
    }
    Some(State {
        salt: word(file, at + 24)?,
        pos: word(file, at + 32)? + word(file, at + 8)?,
        seq: word(file, at + 48)?,
        heap: word(file, at + 64 + 8)?,
        tables,
    })
}

/// Adds the schema of a table that no entry contains yet, as a crash before its commit leaves it.
fn new_table(image: &mut FuzzImage) {
    let stops = image.files.values().find(|file| file.starts_with(b"pongo schema 1\ntable stops\n"));
    if let Some(stops) = stops {
        let text = String::from_utf8_lossy(stops).replace("table stops\n", "table more\n");
        image.files.insert("schema/3.1.schema".to_owned(), text.into_bytes());
    }
}

/// Returns the correct number, or sometimes another.
fn near(bytes: &mut Bytes<'_>, right: u64) -> u64 {
    match bytes.below(8) {
        0..6 => right,
        6 => right.wrapping_add(bytes.below(16)).wrapping_sub(8),
        _ => number(bytes, right),
    }
}

fn put(out: &mut Vec<u8>, words: &[u64]) {
    words.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
}

fn padded(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(8), 0);
}

/// Creates an entry with its checksum.
fn entry(bytes: &mut Bytes<'_>, state: &mut State, has_sums: bool) -> Vec<u8> {
    let mut entry = vec![0; 64];
    let kind = if bytes.one_in(12) { number(bytes, 1) } else { 1 };
    for _ in 0..bytes.below(5) {
        section(bytes, state, &mut entry, has_sums);
    }
    let len = entry.len() as u64;
    let header = [
        u64::from_le_bytes(*b"PJENTRY1"),
        if bytes.one_in(16) { near(bytes, len) } else { len },
        kind,
        if bytes.one_in(16) { near(bytes, state.salt) } else { state.salt },
        if bytes.one_in(16) { near(bytes, state.pos) } else { state.pos },
        near(bytes, state.pos),
        near(bytes, state.seq + 1),
        0,
    ];
    for (place, word) in header.into_iter().enumerate() {
        set(&mut entry, 8 * place, word);
    }
    let sum = entry_checksum(&entry);
    set(&mut entry, 56, sum);
    state.pos += len;
    state.seq += 1;
    entry
}

fn section(bytes: &mut Bytes<'_>, state: &mut State, entry: &mut Vec<u8>, has_sums: bool) {
    let mut content = Vec::new();
    let mut referenced = 0..0;
    let tag = match bytes.below(8) {
        0 => {
            new_table_section(bytes, state, &mut content);
            1
        }
        1..5 => {
            referenced = rows(bytes, state, &mut content);
            2
        }
        5 | 6 => {
            referenced = heap(bytes, state, &mut content);
            3
        }
        _ => {
            for _ in 0..bytes.below(32) {
                content.push(bytes.below(256) as u8);
            }
            bytes.below(6)
        }
    };
    let len = near(bytes, content.len() as u64);
    put(entry, &[tag, len]);
    padded(entry, &content);
    if has_sums && !referenced.is_empty() {
        // The values are filled in when the position of the entry is known.
        let count = (referenced.end - 1) / BLOCK - referenced.start / BLOCK + 1;
        put(entry, &[4, 8 * count]);
        (0..count).for_each(|sum| put(entry, &[sum]));
    }
}

fn new_table_section(bytes: &mut Bytes<'_>, state: &mut State, out: &mut Vec<u8>) {
    put(out, &[near(bytes, state.tables.len() as u64)]);
    let schema = pongo_core::schema::StoredSchema::from(<crate::Stop as pongo::PongoRecord>::SCHEMA);
    let print = schema.fingerprint();
    put(out, &[near(bytes, print as u64), (print >> 64) as u64]);
    state.tables.push((0, schema.size as u64));
}

/// Appends rows. Returns the byte range of those that the entry refers to instead of containing
/// them.
fn rows(bytes: &mut Bytes<'_>, state: &mut State, out: &mut Vec<u8>) -> Range<u64> {
    let table = bytes.below(state.tables.len() as u64 + 1);
    let (len, size) = state.tables.get(table as usize).copied().unwrap_or((0, 8));
    let (inline, referenced) = (bytes.below(6), if bytes.one_in(4) { bytes.below(5) } else { 0 });
    let (pairs, deleted_rows) = (bytes.below(4), bytes.below(4));
    let end = len + inline + referenced;
    let head = [
        near(bytes, table),
        near(bytes, size),
        near(bytes, len),
        near(bytes, referenced),
        near(bytes, inline * size),
        near(bytes, pairs),
        near(bytes, deleted_rows),
    ];
    put(out, &head);
    for _ in 0..pairs {
        let new = len + bytes.below(end - len);
        let old = bytes.below(new);
        put(out, &[near(bytes, new), near(bytes, old)]);
    }
    for _ in 0..deleted_rows {
        let row = bytes.below(end);
        put(out, &[near(bytes, row)]);
    }
    let mut all = Vec::new();
    for _ in 0..inline * size.min(64) / 8 {
        // Small numbers: existing keys, and heap addresses.
        let what = bytes.below(8);
        put(&mut all, &[if what < 6 { bytes.below(64) << (8 * (what / 3)) } else { number(bytes, 0) }]);
    }
    all.resize((inline * size) as usize, 0);
    padded(out, &all);
    if let Some(table) = state.tables.get_mut(table as usize) {
        table.0 = end;
    }
    len * size..(len + referenced) * size
}

fn heap(bytes: &mut Bytes<'_>, state: &mut State, out: &mut Vec<u8>) -> Range<u64> {
    let (referenced, inline) = (8 * bytes.below(4), bytes.below(40));
    put(out, &[near(bytes, state.heap), near(bytes, referenced), near(bytes, inline)]);
    let all: Vec<u8> = (0..inline).map(|_| bytes.below(256) as u8).collect();
    padded(out, &all);
    let first = state.heap;
    state.heap += referenced + inline;
    first..first + referenced
}
