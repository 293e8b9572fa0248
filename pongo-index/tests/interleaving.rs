//! Look-ups with a writer that runs in the middle: the reader's closure calls the writer between
//! two lines of one probe. The segment that the reader uses is retired and reused for other keys.
//! The reader must still find its key.

mod support;

use std::cell::Cell;

use pongo_core::ids::RowId;
use pongo_index::{Candidate, HashIndex};
use support::{DIR, IDENTITY, Rows, memory, mix};

/// The hash that keys 0 to 8 share. Eight of them fill the home line, the ninth is stored in the
/// next one.
const HASH: u64 = 0xBEEF_CAFE;
const LAST: u64 = 8;

fn hashes(prefix: u64, bits: u32, n: u64) -> Vec<u64> {
    (0..n).map(|i| prefix << (64 - bits) | mix(i ^ prefix << 32) >> bits).collect()
}

/// Creates an index with 64 segments and a top of nine bits, and the rows of the nine keys.
fn sample() -> (HashIndex, Rows) {
    let mut rows = Rows::of(0..=LAST);
    rows.same = (0..=LAST).map(|key| (key, HASH)).collect();
    let index = HashIndex::create(&memory(), DIR, IDENTITY, 200_000).unwrap();
    let stats = index.stats().unwrap();
    assert_eq!((stats.segments, stats.depth), (64, 9));
    (index, rows)
}

/// Looks up the last key, and runs `work` at the first candidate. Returns the result and the number
/// of candidates.
fn overtaken(index: &HashIndex, work: impl Fn()) -> (Option<Candidate>, u32) {
    let met = Cell::new(0);
    let found = index.find(HASH, |c| {
        met.set(met.get() + 1);
        if met.get() == 1 {
            work();
        }
        (c.row == RowId(LAST)).then_some(c)
    });
    (found.unwrap(), met.get())
}

#[test]
fn segment_reused_under_a_reader() {
    let (index, rows) = sample();
    (0..=LAST).for_each(|key| index.insert(HASH, RowId(key)).unwrap());
    let (found, met) = overtaken(&index, || {
        index.reserve(&hashes(0, 6, 4000), &rows).unwrap();
        index.reserve(&hashes(1, 6, 4000), &rows).unwrap();
    });
    assert_eq!(found, Some(Candidate { row: RowId(LAST), deleted: false }));
    assert!(met > LAST as u32 + 1, "the look-up restarted: {met} candidates");
}

#[test]
fn segment_reused_under_bigger_top() {
    let (index, rows) = sample();
    (0..=LAST).for_each(|key| index.insert(HASH, RowId(key)).unwrap());
    // The segment reaches a depth of nine bits. Its next split grows the top, so the old top and
    // the entry that the reader has read stay unchanged.
    index.reserve(&hashes(0, 6, 24_000), &rows).unwrap();
    assert_eq!(index.stats().unwrap().depth, 9);
    let (found, met) = overtaken(&index, || {
        index.reserve(&hashes(0, 9, 4000), &rows).unwrap();
        assert_eq!(index.stats().unwrap().depth, 10);
        index.reserve(&hashes(1, 6, 4000), &rows).unwrap();
    });
    assert_eq!(found, Some(Candidate { row: RowId(LAST), deleted: false }));
    assert!(met > LAST as u32 + 1, "the look-up restarted: {met} candidates");
}

#[test]
fn retired_segment_returns_to_its_place() {
    // The top entry refers to the same segment again: the reader can detect this only by the
    // generation.
    let (index, rows) = sample();
    (0..=LAST).for_each(|key| index.insert(HASH, RowId(key)).unwrap());
    (0..3000).for_each(|i| index.insert(HASH, RowId(1000 + i)).unwrap());
    let (found, met) = overtaken(&index, || {
        // The last key moves to the home line, after the reader has read that line.
        (0..LAST).for_each(|key| assert!(index.remove(HASH, RowId(key)).unwrap()));
        // A segment that consists mostly of removed slots is rewritten twice: into another segment,
        // and back into the first.
        for round in 0..2 {
            let others = |round: u64| (0..3000).map(move |i| RowId(1000 + 3000 * round + i));
            others(round).for_each(|row| assert!(index.remove(HASH, row).unwrap()));
            index.reserve(&hashes(0, 6, 1500), &rows).unwrap();
            assert_eq!(index.stats().unwrap().removed, 0);
            if round == 0 {
                others(1).for_each(|row| index.insert(HASH, row).unwrap());
            }
        }
        assert_eq!(index.stats().unwrap().free, 1);
    });
    assert_eq!(found, Some(Candidate { row: RowId(LAST), deleted: false }));
    assert!(met > 1, "the look-up restarted: {met} candidates");
}

#[test]
fn a_rebuild_under_a_reader() {
    let rows = Rows { same: (0..=LAST).map(|key| (key, HASH)).collect(), ..Rows::of(0..=LAST) };
    let storage = memory();
    let entries = |deleted| (0..=LAST).map(move |key| (HASH, Candidate { row: RowId(key), deleted }));
    let rebuild = |deleted| HashIndex::rebuild(&storage, DIR, IDENTITY, 0, &rows, entries(deleted)).unwrap();
    // The first look-up switches from the handle's first epoch to its second, the next one to a
    // third.
    let index = rebuild(true);
    for _ in 0..2 {
        let met = Cell::new(0);
        let found = index.find(HASH, |c| {
            met.set(met.get() + 1);
            if met.get() == 1 {
                drop(rebuild(false));
            }
            (c.row == RowId(LAST) && !c.deleted).then_some(c)
        });
        assert_eq!(found.unwrap(), Some(Candidate { row: RowId(LAST), deleted: false }));
        drop(rebuild(true));
    }
}
