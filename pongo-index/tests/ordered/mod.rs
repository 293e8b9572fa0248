//! Shared helpers for the tests of the ordered index: rows, and a model.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use pongo_core::ids::RowId;
use pongo_index::ordered::{
    Edge, IndexId, KeyExtractor, OrderedError, OrderedStore, Pairs, Rewrite, Run, Sorted, Watermark,
};
use pongo_test_support::Random;

/// The kind of keys that a test uses.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// Sixteen random bytes.
    Random16,
    /// Eight bytes, ascending with the row.
    Ascending8,
    /// A few values of two bytes, each with many rows.
    Few,
    /// 0 to 12 bytes with three possible values, one of them zero: prefixes of each other, trailing
    /// zeros.
    Zeros,
    /// Up to some hundreds of bytes with a long common prefix, occasionally 60 KiB.
    Long,
    /// Sixteen bytes from a small set of values: versions of the same record.
    Updates,
}

pub(crate) const SHAPES: [Shape; 6] =
    [Shape::Random16, Shape::Ascending8, Shape::Few, Shape::Zeros, Shape::Long, Shape::Updates];

impl Shape {
    pub(crate) fn key(self, random: &mut Random, row: u64) -> Vec<u8> {
        match self {
            Shape::Random16 => [random.next().to_be_bytes(), random.next().to_be_bytes()].concat(),
            Shape::Ascending8 => row.to_be_bytes().to_vec(),
            Shape::Few => (random.below(5) as u16 * 7000).to_be_bytes().to_vec(),
            Shape::Zeros => {
                let len = random.below(13);
                (0..len).map(|_| [0, 0, 1, 255][random.below(4) as usize]).collect()
            }
            Shape::Long => {
                let mut key = vec![b'x'; 50 + 30 * random.below(8) as usize];
                if random.below(200) == 0 {
                    key.resize(60_000 + random.below(3) as usize, b'y');
                }
                key.extend((random.below(300) as u16).to_be_bytes());
                key
            }
            Shape::Updates => {
                let mut of = Random(random.below(700));
                [of.next().to_be_bytes(), of.next().to_be_bytes()].concat()
            }
        }
    }
}

/// The keys of the rows.
#[derive(Default, Clone)]
pub(crate) struct Rows(pub(crate) BTreeMap<u64, Vec<u8>>);

impl KeyExtractor for Rows {
    fn key(&self, row: RowId, out: &mut Vec<u8>) -> Result<(), Box<dyn Error + Send + Sync>> {
        out.extend_from_slice(self.0.get(&row.0).ok_or("there is no such row")?);
        Ok(())
    }
}

pub(crate) type Model = BTreeSet<(Vec<u8>, u64)>;

/// Adds `count` new rows, and returns their pairs as a sorted run.
pub(crate) fn grow(random: &mut Random, shape: Shape, rows: &mut Rows, count: u64) -> Run {
    let first = rows.0.last_key_value().map_or(0, |(&row, _)| row + 1 + random.below(3));
    let mut pairs = Pairs::new();
    for row in first..first + count {
        let key = shape.key(random, row);
        pairs.push(&key, RowId(row)).unwrap();
        rows.0.insert(row, key);
    }
    pairs.sort()
}

pub(crate) fn model_of(run: &Run) -> Model {
    run.iter().map(|(key, row)| (key.to_vec(), row.0)).collect()
}

/// Merges a run, without removing pairs.
pub(crate) fn merge(
    store: &OrderedStore,
    id: u64,
    row: u64,
    run: &Run,
    rows: &Rows,
) -> Result<Arc<Sorted>, OrderedError> {
    let never = AtomicBool::new(false);
    let watermark = Watermark { row, ..Watermark::default() };
    store.merge(IndexId(id), watermark, run, rows, &|_| false, Rewrite::Touched, &never)
}

/// Returns all rows in order, read in steps of random size.
pub(crate) fn all(
    sorted: &Arc<Sorted>,
    rows: &Rows,
    forward: bool,
    random: &mut Random,
) -> Result<Vec<u64>, OrderedError> {
    let mut cursor =
        if forward { sorted.forward(Edge::Start, rows)? } else { sorted.backward(Edge::End, rows)? };
    let mut out = Vec::new();
    loop {
        let before = out.len();
        let max = 1 + random.below(3000) as usize;
        let more = cursor.fill(&mut out, max)?;
        assert!(out.len() - before <= max);
        assert_eq!(more, out.len() > before);
        if !more {
            return Ok(out.into_iter().map(|row| row.0).collect());
        }
    }
}

/// Compares a version with a model: all pairs in both directions, `seeks` random seeks, and the
/// counts.
pub(crate) fn check(sorted: &Arc<Sorted>, model: &Model, rows: &Rows, seeks: u64, random: &mut Random) {
    assert_eq!(sorted.len(), model.len() as u64);
    sorted.verify(rows, &mut |_| {}).unwrap();
    let expected: Vec<u64> = model.iter().map(|(_, row)| *row).collect();
    assert_eq!(all(sorted, rows, true, random).unwrap(), expected);
    let backward: Vec<u64> = expected.iter().rev().copied().collect();
    assert_eq!(all(sorted, rows, false, random).unwrap(), backward);
    let pairs: Vec<&(Vec<u8>, u64)> = model.iter().collect();
    for _ in 0..seeks {
        // An existing key, or one near an existing key.
        let mut key = match pairs.len() as u64 {
            0 => vec![3, 4],
            n => pairs[random.below(n) as usize].0.clone(),
        };
        match random.below(6) {
            0 => key.push(random.below(3) as u8),
            1 => drop(key.pop()),
            2 if !key.is_empty() => {
                let at = random.below(key.len() as u64) as usize;
                key[at] = key[at].wrapping_add(random.below(3) as u8).wrapping_sub(1);
            }
            _ => {}
        }
        let row = RowId(random.below(rows.0.len() as u64 + 5));
        let edge = match random.below(8) {
            0 => Edge::Start,
            1 => Edge::End,
            2 | 3 => Edge::Before(&key),
            4 | 5 => Edge::After(&key),
            6 => Edge::BeforePair(&key, row),
            _ => Edge::AfterPair(&key, row),
        };
        let rank = pairs.partition_point(|(key, row)| edge.is_behind(key, RowId(*row)));
        assert_eq!(sorted.rank(edge, rows).unwrap(), rank as u64, "{edge:?}");
        let (least, off) = sorted.rank_about(edge);
        assert!(least <= rank as u64 && rank as u64 <= least + off, "{edge:?}: {rank}, {least} {off}");
        let max = 1 + random.below(20) as usize;
        let mut out = Vec::new();
        sorted.forward(edge, rows).unwrap().fill(&mut out, max).unwrap();
        let behind: Vec<RowId> = expected[rank..].iter().take(max).map(|&row| RowId(row)).collect();
        assert_eq!(out, behind, "forward from {edge:?}");
        out.clear();
        sorted.backward(edge, rows).unwrap().fill(&mut out, max).unwrap();
        let before: Vec<RowId> = expected[..rank].iter().rev().take(max).map(|&row| RowId(row)).collect();
        assert_eq!(out, before, "backward from {edge:?}");
        // With a bound, a cursor still returns all pairs up to it.
        let other = match random.below(pairs.len() as u64 + 1) as usize {
            n if n < pairs.len() => Edge::AfterPair(&pairs[n].0, RowId(pairs[n].1)),
            _ => Edge::End,
        };
        let end = pairs.partition_point(|(key, row)| other.is_behind(key, RowId(*row)));
        out.clear();
        let mut cursor = sorted.forward(edge, rows).unwrap().until(other);
        while cursor.fill(&mut out, 500).unwrap() {}
        assert!(out.len() >= end.saturating_sub(rank), "up to {other:?}");
        assert!(out.iter().zip(&expected[rank..]).all(|(row, expected)| row.0 == *expected));
        out.clear();
        let mut cursor = sorted.backward(edge, rows).unwrap().until(other);
        while cursor.fill(&mut out, 500).unwrap() {}
        assert!(out.len() >= rank.saturating_sub(end), "back to {other:?}");
        assert!(out.iter().zip(expected[..rank].iter().rev()).all(|(row, expected)| row.0 == *expected));
    }
}
