//! The journal of an undamaged store, read as `docs/FORMAT.md` specifies and without the code of
//! the store: it determines which damage after the newest checkpoint cannot be told from a torn
//! tail.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::image::Image;

/// An entry after the newest checkpoint, or that checkpoint.
#[derive(Clone, Debug)]
struct Entry {
    path: String,
    bytes: Range<usize>,
    pos: u64,
    durable: u64,
    is_commit: bool,
    seq: u64,
}

/// The entries of the journal and the data that they refer to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    entries: Vec<Entry>,
    /// The segments of this generation: path, and position of the beginning.
    segments: Vec<(String, u64)>,
    /// Ranges of chunk files with rows or heap items that an entry refers to and does not contain.
    referenced: Vec<(String, Range<usize>)>,
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

impl Evidence {
    pub(crate) fn of(image: &Image) -> Self {
        let mut evidence = Self::default();
        let slots = &image.files["super"];
        let slot = [0, 4096].into_iter().filter(|&at| slots[at..].starts_with(b"PONGODB\n"));
        let slot = slot.max_by_key(|&at| word(slots, at + 32)).expect("a slot");
        let [salt, mut number, mut pos] = [40, 48, 56].map(|field| word(slots, slot + field));
        while let Some(file) = image.files.get(&format!("journal/{number}.log")) {
            let path = format!("journal/{number}.log");
            let start = word(file, 48);
            if word(file, 40) != salt || pos < start {
                break;
            }
            evidence.segments.push((path.clone(), start));
            loop {
                let at = (4096 + pos - start) as usize;
                if at + 64 > file.len() || &file[at..at + 8] != b"PJENTRY1" || word(file, at + 32) != pos {
                    break;
                }
                let len = word(file, at + 8) as usize;
                let entry = Entry {
                    path: path.clone(),
                    bytes: at..at + len,
                    pos,
                    durable: word(file, at + 40),
                    is_commit: word(file, at + 16) == 1,
                    seq: word(file, at + 48),
                };
                if entry.is_commit {
                    evidence.note_cited(image, &file[at + 64..at + len]);
                }
                evidence.entries.push(entry);
                pos += len as u64;
            }
            number += 1;
        }
        assert!(!evidence.entries.is_empty(), "the newest checkpoint is not where `super` says");
        evidence
    }

    fn note_cited(&mut self, image: &Image, mut body: &[u8]) {
        while !body.is_empty() {
            let (tag, len) = (word(body, 0), word(body, 8) as usize);
            let content = &body[16..16 + len];
            match tag {
                2 => {
                    let schema = &image.files[&format!("schema/{}.1.schema", word(content, 0))];
                    let schema = String::from_utf8_lossy(schema).into_owned();
                    let name = schema.lines().find_map(|line| line.strip_prefix("table ")).expect("a name");
                    let [size, first, referenced] = [8, 16, 24].map(|at| word(content, at));
                    self.note_bytes(
                        image,
                        &format!("tables/{name}"),
                        first * size..(first + referenced) * size,
                    );
                }
                3 => {
                    let (first, referenced) = (word(content, 0), word(content, 8));
                    self.note_bytes(image, "heap", first..first + referenced);
                }
                _ => {}
            }
            body = &body[16 + len..];
        }
    }

    fn note_bytes(&mut self, image: &Image, folder: &str, bytes: Range<u64>) {
        for number in 0.. {
            let path = format!("{folder}/{number}.chunk");
            let Some(file) = image.files.get(&path) else { return };
            let (start, len) = (word(file, 48), word(file, 56));
            let (from, to) = (bytes.start.max(start), bytes.end.min(start + len));
            if from < to {
                self.referenced.push((path, (4096 + from - start) as usize..(4096 + to - start) as usize));
            }
        }
    }

    /// Returns whether the journal of a damaged copy may end after commit `seq`, as one torn by a
    /// power cut does: all entries up to it are present, the next one is not, and nothing that is
    /// present says that the next one was durable.
    pub(crate) fn may_end_at(&self, seq: u64, base: &Image, damaged: &Image) -> bool {
        let files = |image: &Image| {
            let journal = |(path, _): &(&String, &_)| !path.starts_with("journal/");
            image.files.iter().filter(journal).map(|(path, bytes)| (path.clone(), bytes.clone())).collect()
        };
        let (others, known): (BTreeMap<_, _>, BTreeMap<_, _>) = (files(damaged), files(base));
        let is_whole = |path: &str, bytes: Range<usize>| {
            let found = damaged.files.get(path).and_then(|file| file.get(bytes.clone()));
            found == Some(&base.files[path][bytes])
        };
        let is_there = |entry: &Entry| is_whole(&entry.path, entry.bytes.clone());
        let Some(first_lost) = self.entries.iter().position(|entry| !is_there(entry)) else { return false };
        let lost = self.entries[first_lost].pos;
        let last = self.entries[..first_lost].iter().rev().map(|entry| entry.seq).next();
        let says_more = |entry: &Entry| is_there(entry) && entry.durable > lost;
        let begins_behind = |(path, start): &(String, u64)| *start > lost && is_whole(path, 0..72);
        others == known
            && last == Some(seq)
            && !self.entries[first_lost..].iter().any(says_more)
            && !self.segments.iter().any(begins_behind)
    }

    /// Returns the number of commits after the checkpoint, and the number of bytes referred to.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (
            self.entries.iter().filter(|entry| entry.is_commit).count(),
            self.referenced.iter().map(|(_, bytes)| bytes.len()).sum(),
        )
    }
}
