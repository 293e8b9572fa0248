//! Random numbers that can be had again: splitmix64, from a seed that is printed.

/// A splitmix64 generator.
pub(crate) struct Rng(u64);

impl Rng {
    /// From the variable `PONGO_SEED`, or from the clock. Says which seed it is, so that a failure can be had again.
    pub(crate) fn seeded(test: &str) -> Self {
        let seed = std::env::var("PONGO_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(7, |now| now.as_nanos() as u64)
        });
        println!("{test}: PONGO_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Scatters a number over all 64 bits.
pub(crate) fn mix(number: u64) -> u64 {
    let a = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let b = (a ^ a >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    b ^ b >> 31
}
