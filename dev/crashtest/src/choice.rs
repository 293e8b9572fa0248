//! Sources of decisions for generated tests.

use pongo_sim::Random;

/// A source of decisions.
pub trait RandomSource {
    /// Returns a number below `end` (0 if `end` is 0).
    fn below(&mut self, end: u64) -> u64;

    /// Returns `true` with a probability of one in `n`.
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

impl RandomSource for Random {
    fn below(&mut self, end: u64) -> u64 {
        Random::below(self, end)
    }
}

/// Decisions read from bytes of a fuzzer: one byte each, or two if there are more than 256
/// possibilities. After the last byte, all decisions are 0.
#[derive(Clone, Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Bytes<'_> {
    /// Returns whether all bytes are used.
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

impl RandomSource for Bytes<'_> {
    fn below(&mut self, end: u64) -> u64 {
        let mut number = self.byte();
        if end > 256 {
            number = number << 8 | self.byte();
        }
        number % end.max(1)
    }
}
