//! Conversion of bytes to changes of an image. Most bytes in the files of a small store are zero,
//! so offsets are chosen among the nonzero words and the ones right after the last.

use crate::fuzz::image::{BASES, FuzzImage, base_image};
use crate::{Bytes, RandomSource};

/// Maximum number of changes.
const MAX_CHANGES: usize = 48;
/// Maximum length of a file.
const LONGEST: usize = 1 << 20;

/// Applies the changes that the bytes describe.
pub(crate) fn damage(image: &mut FuzzImage, bytes: &mut Bytes<'_>) {
    for _ in 0..MAX_CHANGES {
        if bytes.is_empty() {
            return;
        }
        change(image, bytes);
    }
}

/// Chooses the path of a file.
fn path(image: &FuzzImage, bytes: &mut Bytes<'_>) -> Option<String> {
    let place = bytes.below(image.files.len() as u64) as usize;
    image.files.keys().nth(place).cloned()
}

/// Returns the offsets of the nonzero words.
fn words(file: &[u8]) -> Vec<usize> {
    let words = file.chunks(8).enumerate().filter(|(_, word)| word.iter().any(|&byte| byte != 0));
    words.map(|(at, _)| 8 * at).collect()
}

/// Chooses the offset of a nonzero word, or of a word right after the last of these.
fn place(file: &[u8], bytes: &mut Bytes<'_>) -> usize {
    let some = words(file);
    let chosen = bytes.below(some.len() as u64 + 8) as usize;
    match some.get(chosen) {
        Some(&at) => at,
        None => some.last().map_or(0, |last| last + 8) + 8 * (chosen - some.len()),
    }
}

/// Returns a changed number.
pub(crate) fn number(bytes: &mut Bytes<'_>, old: u64) -> u64 {
    match bytes.below(9) {
        0 => 0,
        1 => u64::MAX,
        2 => 1 << bytes.below(64),
        3 => old ^ 1 << bytes.below(64),
        4 => old.wrapping_add(bytes.below(32)),
        5 => old.wrapping_sub(bytes.below(32)),
        6 => (1_u64 << bytes.below(64)).wrapping_sub(1 + bytes.below(16)),
        7 => bytes.below(256),
        _ => (0..8).fold(0, |number, _| number << 8 | bytes.below(256)),
    }
}

fn change(image: &mut FuzzImage, bytes: &mut Bytes<'_>) {
    let what = bytes.below(16);
    let Some(path) = path(image, bytes) else { return };
    match what {
        // Change a word, which most data consists of.
        0..8 => {
            let Some(file) = image.files.get_mut(&path) else { return };
            let at = place(file, bytes);
            if let Some(word) = file.get_mut(at..at + 8) {
                let old = word.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte));
                word.copy_from_slice(&number(bytes, old).to_le_bytes());
            }
        }
        // Some bytes.
        8..11 => {
            let Some(file) = image.files.get_mut(&path) else { return };
            let at = place(file, bytes) + bytes.below(8) as usize;
            let len = 1 + bytes.below(12) as usize;
            for byte in file.iter_mut().skip(at).take(len) {
                *byte = bytes.below(256) as u8;
            }
        }
        // Change the length.
        11 => {
            let Some(file) = image.files.get_mut(&path) else { return };
            let len = match bytes.below(4) {
                0 => place(file, bytes) + bytes.below(8) as usize,
                1 => file.len() / 4096 * bytes.below(256) as usize / 256 * 4096,
                2 => file.len() + 4096 * bytes.below(32) as usize,
                _ => bytes.below(256) as usize,
            };
            file.resize(len.min(LONGEST), 0);
        }
        12 => {
            image.files.remove(&path);
        }
        // Copy another file, or the same file of another store.
        13 => {
            let other = if bytes.below(2) == 0 {
                let Some(other) = self::path(image, bytes) else { return };
                image.files.get(&other).cloned()
            } else {
                base_image(bytes.below(BASES as u64) as usize).files.get(&path).cloned()
            };
            if let Some(other) = other {
                image.files.insert(path, other);
            }
        }
        // Copy a page over another.
        14 => {
            let Some(file) = image.files.get_mut(&path) else { return };
            let pages = (file.len() / 4096) as u64;
            let (from, to) = (bytes.below(pages) as usize * 4096, bytes.below(pages) as usize * 4096);
            if pages > 0 {
                file.copy_within(from..from + 4096, to);
            }
        }
        // Swap two files.
        _ => {
            let Some(other) = self::path(image, bytes) else { return };
            let (Some(first), Some(second)) = (image.files.remove(&path), image.files.remove(&other)) else {
                return;
            };
            image.files.insert(path, second);
            image.files.insert(other, first);
        }
    }
}

/// Returns inputs of the target `open_image`: in two of its stores, each word of each file is
/// replaced by each of several numbers, and everything is sealed again. Of rows and heap bytes,
/// only the first ones are changed.
#[must_use]
pub fn one_word_each() -> Vec<Vec<u8>> {
    const NUMBERS: [&[u8]; 9] =
        [&[0], &[1], &[2, 63], &[2, 62], &[2, 40], &[4, 1], &[5, 1], &[3, 0], &[7, 3]];
    let mut inputs = Vec::new();
    for base in 0..2 {
        for (number, (path, file)) in (0..).zip(&base_image(base as usize).files) {
            let is_rows = path.ends_with(".chunk");
            let most = if is_rows { 40 } else { 1200 };
            for place in 0..(words(file).len() + 4).min(most) as u16 {
                let [high, low] = place.to_be_bytes();
                // Like `place` reads it: one byte if there are few words.
                let place = if words(file).len() + 8 <= 256 { vec![low] } else { vec![high, low] };
                for value in NUMBERS {
                    // The page cache is intact (bit 2), and all checksums are recomputed.
                    inputs.push([&[base | 4, 63, 0, number][..], &place, value].concat());
                }
            }
        }
    }
    inputs
}
