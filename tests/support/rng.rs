//! Reproducible random numbers: splitmix64, with a seed that is printed.

/// A splitmix64 generator.
pub(crate) struct Rng(u64);

impl Rng {
    /// Creates a generator from the environment variable `PONGO_SEED`, or from the test's name, so
    /// that `cargo test` tries the same cases each time. Prints the seed, so that a failure can be
    /// reproduced. `just torture` and `just try` draw a random seed.
    pub(crate) fn seeded(test: &str) -> Self {
        let own = || test.bytes().fold(0, |seed, byte| mix(seed << 8 ^ u64::from(byte)) >> 32);
        let seed = std::env::var("PONGO_SEED")
            .map_or_else(|_| own(), |seed| seed.parse().expect("PONGO_SEED is a number"));
        println!("{test}: PONGO_SEED={seed}");
        Self(seed)
    }

    /// Creates a generator like [`seeded`](Self::seeded) for one of several processes that a test
    /// starts. Each process draws other numbers.
    #[allow(dead_code, reason = "not every test starts processes")]
    pub(crate) fn of_process(test: &str, number: u64) -> Self {
        let Self(seed) = Self::seeded(test);
        Self(seed ^ mix(number + 1))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Returns a number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Mixes the bits of a number into all 64 bits.
pub(crate) fn mix(number: u64) -> u64 {
    let a = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let b = (a ^ a >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    b ^ b >> 31
}
