//! Where decisions come from.

use pongo_sim::Random;

/// Decides among possibilities.
pub trait Choice {
    /// A number below `end` (0 if that is 0).
    fn below(&mut self, end: u64) -> u64;

    /// True once in `n`.
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

impl Choice for Random {
    fn below(&mut self, end: u64) -> u64 {
        Random::below(self, end)
    }
}

/// Decisions that are bytes, as a fuzzer makes them up: one byte each, two where there are more than 256 possibilities. All
/// zeros at the end.
#[derive(Clone, Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Bytes<'_> {
    /// Whether all decisions were made.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u64 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        u64::from(first)
    }
}

impl Choice for Bytes<'_> {
    fn below(&mut self, end: u64) -> u64 {
        let mut number = self.byte();
        if end > 256 {
            number = number << 8 | self.byte();
        }
        number % end.max(1)
    }
}
