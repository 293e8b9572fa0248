//! [`Pairs`], collected in any order, and [`Run`], the same pairs sorted. Runs are merged into
//! indexes, and the rows after a watermark are looked up in them.

use pongo_core::ids::RowId;

use super::{MAX_KEY, OrderedError};

/// Pairs of key and row, in insertion order.
///
/// Each pair takes its key's length plus 8 bytes of memory, and 8 more if keys differ in length.
///
/// ```
/// use pongo_core::ids::RowId;
/// use pongo_index::ordered::Pairs;
///
/// let mut pairs = Pairs::new();
/// pairs.push(b"pear", RowId(0))?;
/// pairs.push(b"apple", RowId(1))?;
/// let run = pairs.sort();
/// assert_eq!(run.get(0), (&b"apple"[..], RowId(1)));
/// # Ok::<(), pongo_index::ordered::OrderedError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Pairs {
    keys: Vec<u8>,
    lengths: Lengths,
    rows: Vec<u64>,
}

/// Lengths or ends of the keys.
#[derive(Clone, Debug)]
enum Lengths {
    /// All keys have this length.
    One(usize),
    /// The end of each key.
    Many(Vec<u64>),
}

impl Default for Lengths {
    fn default() -> Lengths {
        Lengths::One(0)
    }
}

impl Pairs {
    /// Creates an empty collection.
    #[must_use]
    pub fn new() -> Pairs {
        Pairs::default()
    }

    /// Creates an empty collection with space for `pairs` pairs with keys of `key_len` bytes.
    #[must_use]
    pub fn with_capacity(pairs: usize, key_len: usize) -> Pairs {
        Pairs {
            keys: Vec::with_capacity(pairs.saturating_mul(key_len)),
            lengths: Lengths::One(key_len),
            rows: Vec::with_capacity(pairs),
        }
    }

    /// Adds a pair.
    ///
    /// # Errors
    /// Returns [`OrderedError::KeyTooLong`] if the key exceeds [`MAX_KEY`] bytes, and
    /// [`OrderedError::TooManyPairs`] beyond `u32::MAX` pairs.
    #[inline]
    pub fn push(&mut self, key: &[u8], row: RowId) -> Result<(), OrderedError> {
        if key.len() > MAX_KEY {
            return Err(OrderedError::KeyTooLong { len: key.len() });
        }
        if self.rows.len() >= u32::MAX as usize {
            return Err(OrderedError::TooManyPairs);
        }
        match &mut self.lengths {
            Lengths::One(len) if *len == key.len() => {}
            lengths => Self::push_length(lengths, self.rows.len(), key.len()),
        }
        self.keys.extend_from_slice(key);
        self.rows.push(row.0);
        Ok(())
    }

    #[cold]
    fn push_length(lengths: &mut Lengths, pairs: usize, len: usize) {
        match lengths {
            Lengths::One(one) if pairs == 0 => *one = len,
            Lengths::One(one) => {
                let one = *one as u64;
                let mut ends: Vec<u64> = (1..=pairs as u64).map(|n| n * one).collect();
                ends.push(pairs as u64 * one + len as u64);
                *lengths = Lengths::Many(ends);
            }
            Lengths::Many(ends) => ends.push(ends.last().copied().unwrap_or(0) + len as u64),
        }
    }

    /// Returns the number of pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns whether there are no pairs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the `i`th pair. Panics if it does not exist.
    #[inline]
    fn pair(&self, i: usize) -> (&[u8], u64) {
        (self.key(i), self.rows[i])
    }

    #[inline]
    fn key(&self, i: usize) -> &[u8] {
        match &self.lengths {
            Lengths::One(len) => &self.keys[i * len..(i + 1) * len],
            Lengths::Many(ends) => {
                let start = if i == 0 { 0 } else { ends[i - 1] };
                &self.keys[start as usize..ends[i] as usize]
            }
        }
    }

    /// Sorts the pairs by key, then by row. Costs about 0.1 µs per pair; pairs that are already
    /// sorted are only checked.
    #[must_use]
    pub fn sort(mut self) -> Run {
        let n = self.len();
        let mut shared = if n == 0 { 0 } else { self.pair(0).0.len() };
        let mut in_order = true;
        let mut rows_ascend = true;
        for i in 1..n {
            let (before, now) = (self.pair(i - 1), self.pair(i));
            in_order &= before < now;
            rows_ascend &= before.1 < now.1;
            let first = &self.pair(0).0[..shared];
            if !now.0.starts_with(first) {
                shared = first.iter().zip(now.0).take_while(|(a, b)| a == b).count();
            }
        }
        if in_order {
            return Run { pairs: self };
        }
        // Usually these are all rows of a range. Then their numbers are not kept in memory while
        // the order is.
        let first = self.rows.first().copied().unwrap_or(0);
        let last = self.rows.last().copied().unwrap_or(0);
        let range = (rows_ascend && last - first == n as u64 - 1).then_some(first);
        if range.is_some() {
            self.rows = Vec::new();
        }
        // The eight bytes after the common prefix of all keys nearly always decide.
        let mut order: Vec<u128> =
            (0..n).map(|i| u128::from(head(&self.key(i)[shared..])) << 32 | i as u128).collect();
        sort_numbers(&mut order);
        let decided = rows_ascend && matches!(self.lengths, Lengths::One(len) if len <= shared + 8);
        if !decided {
            let mut from = 0;
            while from < n {
                let same = order[from] >> 32;
                let to = from + order[from..].iter().take_while(|&&o| o >> 32 == same).count();
                if to - from > 1 {
                    order[from..to].sort_unstable_by(|&a, &b| {
                        let (a, b) = (a as u32 as usize, b as u32 as usize);
                        let by_row = || if rows_ascend { a.cmp(&b) } else { self.rows[a].cmp(&self.rows[b]) };
                        self.key(a).cmp(self.key(b)).then_with(by_row)
                    });
                }
                from = to;
            }
        }
        let order: Vec<u32> = order.into_iter().map(|o| o as u32).collect();
        Run { pairs: self.in_order(&order, range) }
    }

    /// Rearranges the pairs into this order, so that reading them in order is sequential in memory.
    /// `range`: the rows are all rows from this one on, and are not listed.
    fn in_order(self, order: &[u32], range: Option<u64>) -> Pairs {
        let mut keys = Vec::with_capacity(self.keys.len());
        for &i in order {
            keys.extend_from_slice(self.key(i as usize));
        }
        let Pairs { keys: before, lengths, rows } = self;
        drop(before);
        let lengths = match lengths {
            Lengths::One(len) => Lengths::One(len),
            Lengths::Many(ends) => {
                let mut end = 0;
                let len = |i: u32| match i {
                    0 => ends[0],
                    i => ends[i as usize] - ends[i as usize - 1],
                };
                let moved = order.iter().map(|&i| {
                    end += len(i);
                    end
                });
                Lengths::Many(moved.collect())
            }
        };
        let row = |&i: &u32| range.map_or_else(|| rows[i as usize], |first| first + u64::from(i));
        let rows = order.iter().map(row).collect();
        Pairs { keys, lengths, rows }
    }
}

/// Sorts in place, with several threads if the feature `rayon` is enabled and there are enough
/// numbers.
fn sort_numbers(numbers: &mut [u128]) {
    #[cfg(feature = "rayon")]
    if numbers.len() > 1 << 16
        // Uses a separate thread pool: the threads of the global pool do not exist in a child
        // created by `fork`, which would wait for them forever.
        && let Ok(pool) = rayon::ThreadPoolBuilder::new().build()
    {
        return pool.install(|| rayon::slice::ParallelSliceMut::par_sort_unstable(numbers));
    }
    numbers.sort_unstable();
}

/// Returns the first eight bytes, padded with zeros, as a number with the same order.
#[inline]
fn head(tail: &[u8]) -> u64 {
    match tail.first_chunk::<8>() {
        Some(eight) => u64::from_be_bytes(*eight),
        None => {
            let mut eight = [0; 8];
            eight[..tail.len()].copy_from_slice(tail);
            u64::from_be_bytes(eight)
        }
    }
}

/// Pairs sorted by key, then by row: see [`Pairs::sort`].
#[derive(Clone, Debug, Default)]
pub struct Run {
    pairs: Pairs,
}

impl Run {
    /// Returns the number of pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Returns whether there are no pairs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Joins several runs, keeping only the pairs of rows that are `kept`. Costs a comparison for
    /// each run and pair, and as much memory as all runs together.
    ///
    /// # Errors
    /// Returns [`OrderedError::TooManyPairs`] beyond `u32::MAX` pairs.
    pub fn join<'a>(
        runs: impl Iterator<Item = &'a Run> + Clone,
        kept: impl Fn(RowId) -> bool,
    ) -> Result<Run, OrderedError> {
        let mut pairs = Pairs {
            keys: Vec::with_capacity(runs.clone().map(|run| run.pairs.keys.len()).sum()),
            lengths: Lengths::default(),
            rows: Vec::with_capacity(runs.clone().map(Run::len).sum()),
        };
        let mut at: Vec<(&'a Run, usize)> = runs.filter(|run| !run.is_empty()).map(|run| (run, 0)).collect();
        let pair = |&(run, i): &(&'a Run, usize)| run.get(i);
        while let Some(first) = at.iter_mut().min_by_key(|of| pair(of)) {
            let (key, row) = first.0.get(first.1);
            first.1 += 1;
            let has_ended = first.1 == first.0.len();
            if kept(row) {
                pairs.push(key, row)?;
            }
            if has_ended {
                at.retain(|(run, i)| *i < run.len());
            }
        }
        pairs.keys.shrink_to_fit();
        pairs.rows.shrink_to_fit();
        Ok(Run { pairs })
    }

    /// Returns the bytes of memory that the pairs take.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let Pairs { keys, lengths, rows } = &self.pairs;
        let ends = match lengths {
            Lengths::One(_) => 0,
            Lengths::Many(ends) => ends.capacity(),
        };
        (keys.capacity() + 8 * (ends + rows.capacity())) as u64
    }

    /// Returns the `i`th pair in order.
    ///
    /// # Panics
    /// Panics if it does not exist.
    #[must_use]
    #[inline]
    pub fn get(&self, i: usize) -> (&[u8], RowId) {
        let (key, row) = self.pairs.pair(i);
        (key, RowId(row))
    }

    /// Returns an iterator over the pairs in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], RowId)> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// Returns the number of pairs before `edge`, by binary search.
    #[must_use]
    pub fn rank(&self, edge: super::Edge<'_>) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            let (key, row) = self.get(middle);
            if edge.is_behind(key, row) { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Returns the index of the first pair, from `from` on, that is not before (`key`, `row`).
    /// Searches in doubling steps, which suits a merge that reads both sides in order.
    pub(super) fn before(&self, from: usize, key: &[u8], row: u64) -> usize {
        let is_before = |i: usize| {
            let (k, r) = self.get(i);
            (k, r.0) < (key, row)
        };
        let mut step = 1;
        let mut low = from;
        while low + step <= self.len() && is_before(low + step - 1) {
            low += step;
            step *= 2;
        }
        let mut high = (low + step - 1).min(self.len());
        while low < high {
            let middle = low.midpoint(high);
            if is_before(middle) { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Returns an upper bound of the key lengths.
    pub(super) fn key_len_bound(&self) -> usize {
        match &self.pairs.lengths {
            Lengths::One(len) => *len,
            Lengths::Many(ends) => {
                let starts = std::iter::once(0).chain(ends.iter().copied());
                ends.iter().zip(starts).map(|(end, start)| (end - start) as usize).max().unwrap_or(0)
            }
        }
    }
}
