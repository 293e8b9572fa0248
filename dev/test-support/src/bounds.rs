//! Bounds of all kinds.

use std::ops::Bound;

/// Returns one of the three kinds of bound, at this value.
#[must_use]
pub fn bound<T>(kind: u64, value: T) -> Bound<T> {
    match kind % 3 {
        0 => Bound::Included(value),
        1 => Bound::Excluded(value),
        _ => Bound::Unbounded,
    }
}
