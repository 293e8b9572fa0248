//! Reproducible random numbers: splitmix64, with a seed that is printed.

/// The splitmix64 generator, whose numbers are the same on every platform. The field is its state:
/// `Random(7)` is a generator with the seed 7.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// Creates a generator from the environment variable `PONGO_SEED`, or from the test's name, so
    /// that `cargo test` tries the same cases each time. Prints the seed, so that a failure can be
    /// reproduced. `just torture` and `just try` draw a random seed.
    ///
    /// # Panics
    ///
    /// Panics if `PONGO_SEED` is not a number.
    #[must_use]
    pub fn seeded(test: &str) -> Self {
        let own = || test.bytes().fold(0, |seed, byte| mix(seed << 8 ^ u64::from(byte)) >> 32);
        let seed = std::env::var("PONGO_SEED")
            .map_or_else(|_| own(), |seed| seed.parse().expect("PONGO_SEED is a number"));
        println!("{test}: PONGO_SEED={seed}");
        Self(seed)
    }

    /// Creates a generator like [`seeded`](Self::seeded) for one of several processes that a test
    /// starts. Each process draws other numbers.
    ///
    /// # Panics
    ///
    /// Panics if `PONGO_SEED` is not a number.
    #[must_use]
    pub fn of_process(test: &str, number: u64) -> Self {
        let Self(seed) = Self::seeded(test);
        Self(seed ^ mix(number + 1))
    }

    /// Returns the next 64 bits.
    #[allow(clippy::should_implement_trait, reason = "there is always a next one")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Returns a number below `end`, or 0 if `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// Returns `true` with a probability of one in `n`.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Mixes the bits of a number into all 64 bits. Different numbers have different results.
#[must_use]
pub fn mix(number: u64) -> u64 {
    let a = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let b = (a ^ a >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    b ^ b >> 31
}
